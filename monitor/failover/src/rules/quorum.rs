//! Groups of our keepers: failover by quorum intersection. `quorum_path.rs` runs these rows before
//! the sections of a reporting node, whoever reports; the rows listed in [`UPSTREAM_ONLY`] are left
//! out on this path.

use crate::NodeState::*;
use crate::condition::{GroupTest, NodeTest};
use crate::rule::{Rule, Section, Then, Who};

const ROW: Rule = Rule {
    pos: 0,
    section: Section::Quorum,
    node: &[],
    primary: &[],
    group: &[],
    assign: &[],
    then: Then::Stop,
    event: "",
    summary: "",
    differs: "Ours, for groups of our keepers.",
};

/// Rows of a reporting standby that wait for the old primary, or promote without seals.
pub const UPSTREAM_ONLY: &[u16] = &[
    305, 306, 311, 313, 323, 324, 325, 331, 332, 333, 335, 337, 338, 339, 340, 341, 343, 344, 345, 346, 347, 348, 349, 351,
    353, 354,
];

const WRITABLE: NodeTest = NodeTest::Goal(crate::NodeState::WRITABLE);
const STEPPING_DOWN: NodeTest = NodeTest::Goal(&[Draining, PrepareMaintenance]);

pub const RULES: &[Rule] = &[
    Rule {
        pos: 502,
        primary: &[WRITABLE, NodeTest::Unhealthy, NodeTest::KeeperCan(Draining)],
        group: &[GroupTest::Replaceable],
        assign: &[(Who::Primary, Draining), (Who::Standbys, ReportLsn)],
        event: "Setting goal state of {primary} to draining and of its standbys to report_lsn: {evidence}",
        summary: "the primary is taken for dead and enough standbys are there: seal them",
        ..ROW
    },
    Rule {
        pos: 504,
        primary: &[WRITABLE, NodeTest::Unhealthy, NodeTest::KeeperCan(Demoted)],
        group: &[GroupTest::Replaceable],
        assign: &[(Who::Primary, Demoted), (Who::Standbys, ReportLsn)],
        event: "Setting goal state of {primary} to demoted and of its standbys to report_lsn: {evidence}",
        summary: "as row 502, for a primary that cannot drain",
        ..ROW
    },
    Rule {
        pos: 506,
        node: &[NodeTest::Converged(&[Secondary]), NodeTest::Healthy, NodeTest::Electable(true)],
        primary: &[STEPPING_DOWN, NodeTest::Sealed(true)],
        group: &[GroupTest::HasPrimarysWal],
        assign: &[(Who::Node, PreparePromotion)],
        event: "Setting goal state of {node} to prepare_promotion: {primary} has stopped at LSN {primary_lsn}, which \
            {node} has reached",
        summary: "switchover: the primary has stopped and the candidate has its last record",
        differs: "Ours: no other standby need be sealed, as the stopped primary acknowledges nothing more, and the \
            candidate has all that it ever acknowledged.",
        ..ROW
    },
    Rule {
        pos: 508,
        primary: &[STEPPING_DOWN, NodeTest::Sealed(false), NodeTest::Unhealthy],
        assign: &[(Who::Standbys, ReportLsn)],
        summary: "the primary dies while it drains: seal the standbys",
        ..ROW
    },
    Rule {
        pos: 510,
        primary: &[STEPPING_DOWN, NodeTest::Sealed(true), NodeTest::WaitedMissedReports],
        assign: &[(Who::Standbys, ReportLsn)],
        summary: "the primary has stopped and no candidate came to its last record in time: elect",
        ..ROW
    },
    Rule {
        pos: 512,
        primary: &[STEPPING_DOWN, NodeTest::Sealed(false), NodeTest::WaitedDemoteTimeout],
        assign: &[(Who::Standbys, ReportLsn)],
        summary: "the primary does not stop within primary_demote_timeout: seal the standbys",
        ..ROW
    },
    Rule {
        pos: 514,
        node: &[NodeTest::Converged(&[FastForward])],
        assign: &[(Who::Node, PreparePromotion)],
        event: "Setting goal state of {node} to prepare_promotion",
        summary: "the candidate has fetched the WAL that it lacked",
        ..ROW
    },
    Rule {
        pos: 516,
        node: &[
            NodeTest::Goal(&[FastForward, PreparePromotion]),
            NodeTest::Unhealthy,
            NodeTest::KeeperCan(ReportLsn),
        ],
        assign: &[(Who::Node, ReportLsn)],
        event: "Setting goal state of {node} to report_lsn before it took writes: {node_evidence}",
        summary: "a candidate that dies before it takes writes is taken back",
        differs: "Ours, as row 362. It has not been told to take writes, and is told so only on a later report.",
        ..ROW
    },
    Rule {
        pos: 518,
        node: &[
            NodeTest::Goal(&[FastForward]),
            NodeTest::Reported(&[ReportLsn, FastForward]),
            NodeTest::KeeperCan(ReportLsn),
        ],
        group: &[GroupTest::NoWalSource, GroupTest::GuardDataLoss(true)],
        assign: &[(Who::Node, ReportLsn)],
        event: "Setting goal state of {node} to report_lsn because none of the standby nodes to fetch missing WAL \
            from are healthy at the moment.",
        summary: "a candidate whose sources of WAL are all gone reports again",
        ..ROW
    },
    Rule {
        pos: 520,
        group: &[GroupTest::ElectedWithAllWal(true)],
        assign: &[(Who::Node, PreparePromotion)],
        event: "Setting goal state of {node} to prepare_promotion {reason}",
        summary: "enough standbys are sealed and the chosen one has all their WAL",
        ..ROW
    },
    Rule {
        pos: 522,
        group: &[GroupTest::ElectedWithAllWal(false)],
        assign: &[(Who::Node, FastForward)],
        event: "Setting goal state of {node} to fast_forward {reason}",
        summary: "enough standbys are sealed and the chosen one fetches what it lacks from another",
        ..ROW
    },
    Rule {
        pos: 524,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Goal(&[PrepareMaintenance])],
        group: &[GroupTest::LeaseOver],
        assign: &[(Who::Node, WaitPrimary), (Who::Primary, Maintenance), (Who::Sealed, Secondary)],
        event: "Setting goal state of {node} to wait_primary and {primary} to maintenance",
        summary: "the candidate takes writes, the old primary goes to maintenance",
        ..ROW
    },
    Rule {
        pos: 526,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Goal(&[Draining, DemoteTimeout, ReportLsn])],
        group: &[GroupTest::LeaseOver],
        assign: &[(Who::Node, WaitPrimary), (Who::Primary, Demoted), (Who::Sealed, Secondary)],
        event: "Setting goal state of {node} to wait_primary and {primary} to demoted",
        summary: "the candidate takes writes; the seals have cut the old primary off already",
        differs: "Ours: upstream waits for the old primary, or for primary_demote_timeout. One that was sealed for \
            the election is demoted as well: it may have WAL that the candidate lacks, on a timeline of the same \
            number.",
        ..ROW
    },
    Rule {
        pos: 528,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::GoalNot(&[Draining, DemoteTimeout, ReportLsn, PrepareMaintenance])],
        group: &[GroupTest::LeaseOver],
        assign: &[(Who::Node, WaitPrimary), (Who::Sealed, Secondary)],
        event: "Setting goal state of {node} to wait_primary",
        summary: "the candidate takes writes; the old primary has its goal already",
        ..ROW
    },
    Rule {
        pos: 530,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Exists(false)],
        assign: &[(Who::Node, WaitPrimary), (Who::Sealed, Secondary)],
        event: "Setting goal state of {node} to wait_primary",
        summary: "the candidate takes writes; the old primary has been removed",
        ..ROW
    },
    Rule {
        pos: 532,
        primary: &[NodeTest::InPrimaryState, NodeTest::KeeperCan(Draining)],
        assign: &[(Who::Primary, Draining)],
        event: "Setting goal state of {primary} to draining after a user-initiated failover.",
        summary: "switchover: the primary stops, its standbys go on streaming until it has",
        ..ROW
    },
    Rule {
        pos: 534,
        primary: &[NodeTest::InPrimaryState, NodeTest::KeeperCan(PrepareMaintenance)],
        assign: &[(Who::Primary, PrepareMaintenance)],
        event: "Setting goal state of {primary} to prepare_maintenance after a user-initiated start_maintenance call.",
        summary: "maintenance of the primary: as row 532",
        ..ROW
    },
    Rule {
        pos: 536,
        primary: &[WRITABLE, NodeTest::KeeperCan(Draining)],
        group: &[GroupTest::GuardDataLoss(false)],
        assign: &[(Who::Primary, Draining), (Who::Standbys, ReportLsn)],
        event: "Setting goal state of {primary} to draining and of its standbys to report_lsn: the operator accepts \
            the loss of acknowledged writes",
        summary: "the operator gives up what only missing nodes have",
        ..ROW
    },
    Rule {
        pos: 538,
        primary: &[WRITABLE, NodeTest::KeeperCan(Demoted)],
        group: &[GroupTest::GuardDataLoss(false)],
        assign: &[(Who::Primary, Demoted), (Who::Standbys, ReportLsn)],
        event: "Setting goal state of {primary} to demoted and of its standbys to report_lsn: the operator accepts \
            the loss of acknowledged writes",
        summary: "as row 536, for a primary that cannot drain",
        ..ROW
    },
];
