//! The steps of an election in a group of more than two nodes; `election.rs` runs them.

use crate::NodeState::*;
use crate::condition::{GroupTest, NodeTest};
use crate::rule::{Rule, Section, Then, Who};

const ROW: Rule = Rule {
    pos: 0,
    section: Section::Election,
    node: &[],
    primary: &[],
    group: &[],
    assign: &[],
    then: Then::Stop,
    event: "",
    summary: "",
    differs: "",
};

const REPORT: &str = "Setting goal state of {node} to report_lsn to find the failover candidate";
const ELECTED: &str = "Setting goal state of {node} to {goal} {reason}";

/// In rows 362 to 374 "node" is the node looked at, not the reporting one.
pub const RULES: &[Rule] = &[
    Rule {
        pos: 362,
        node: &[
            NodeTest::Silent,
            NodeTest::Reported(&[Secondary, Catchingup, ReportLsn, PreparePromotion, FastForward]),
            NodeTest::Goal(&[FastForward, PreparePromotion]),
            NodeTest::KeeperCan(ReportLsn),
        ],
        assign: &[(Who::Node, ReportLsn)],
        event: "Setting goal state of {node} to report_lsn after it fell silent before it was promoted.",
        summary: "a candidate that dies before its promotion is taken back, and the election goes on",
        differs: "Ours. Upstream waits for ever for a candidate that dies after report_lsn or \
            prepare_promotion, and elects a second one beside a candidate that dies in fast_forward. Taking \
            it back is safe: it is sealed, and a node is promoted only by a goal that it is given on a later \
            report. 2.0 keepers have no way back from fast_forward or prepare_promotion, which they may have \
            reached unheard: the election waits for such a node, or for its removal.",
        ..ROW
    },
    Rule {
        pos: 363,
        node: &[NodeTest::Reported(&[ReportLsn]), NodeTest::Goal(&[FastForward])],
        group: &[GroupTest::NoWalSource, GroupTest::GuardDataLoss(true)],
        assign: &[(Who::Node, ReportLsn)],
        event: "Setting goal state of {node} to report_lsn because none of the standby nodes to fetch missing WAL \
            from are healthy at the moment.",
        summary: "a candidate whose sources of WAL are all gone reports again",
        ..ROW
    },
    Rule {
        pos: 364,
        node: &[NodeTest::Silent, NodeTest::Converged(&[StopReplication]), NodeTest::KeeperCan(Demoted)],
        assign: &[(Who::Node, Demoted)],
        event: "Setting goal state of {node} to demoted after it fell silent before it took writes.",
        summary: "a candidate that dies in stop_replication is demoted, and the election goes on",
        differs: "Upstream elects a second candidate and leaves the first one its goal. A node whose goal is \
            already wait_primary may be taking writes: it is never replaced without the operator. 2.0 \
            keepers cannot leave stop_replication: the election waits.",
        ..ROW
    },
    Rule {
        pos: 365,
        node: &[NodeTest::Converged(&[ReportLsn])],
        assign: &[(Who::Node, JoinSecondary)],
        event: "Setting goal state of {node} to join_secondary after {candidate} got selected as the failover \
            candidate.",
        summary: "the candidate is ready to stream WAL: the other standbys get ready to follow it",
        ..ROW
    },
    Rule {
        pos: 367,
        node: &[NodeTest::Reported(&[Secondary, Catchingup]), NodeTest::Goal(&[Secondary, Catchingup])],
        assign: &[(Who::Node, ReportLsn)],
        event: REPORT,
        summary: "standbys are sealed and report how far they got",
        ..ROW
    },
    Rule {
        pos: 368,
        node: &[NodeTest::Reported(&[ReportLsn]), NodeTest::Goal(&[Secondary])],
        assign: &[(Who::Node, ReportLsn)],
        event: REPORT,
        summary: "a sealed standby whose new primary dies before it follows takes part in the next election",
        differs: "Ours: upstream leaves it where it is, and every later election waits for it.",
        ..ROW
    },
    Rule {
        pos: 369,
        node: &[NodeTest::Reported(&[Maintenance]), NodeTest::Goal(&[Catchingup])],
        assign: &[(Who::Node, ReportLsn)],
        event: REPORT,
        summary: "a node back from maintenance takes part in the election",
        ..ROW
    },
    Rule {
        pos: 371,
        node: &[NodeTest::Converged(&[Draining, Demoted])],
        assign: &[(Who::Node, ReportLsn)],
        event: REPORT,
        summary: "the old primary, drained or demoted, takes part in the election",
        ..ROW
    },
    Rule {
        pos: 372,
        node: &[NodeTest::Converged(&[DemoteTimeout]), NodeTest::Confirmed, NodeTest::KeeperCan(ReportLsn)],
        assign: &[(Who::Node, ReportLsn)],
        event: REPORT,
        summary: "the old primary has stopped and its candidate was taken back: it takes part in the election",
        differs: "Ours: it has every acknowledged write, and upstream leaves it out.",
        ..ROW
    },
    Rule {
        pos: 373,
        node: &[NodeTest::Reported(&[Demoted]), NodeTest::Goal(&[Catchingup])],
        assign: &[(Who::Node, ReportLsn)],
        event: REPORT,
        summary: "an old primary that was to follow one that is gone takes part in the election",
        ..ROW
    },
    Rule {
        pos: 374,
        node: &[NodeTest::Reported(&[JoinSecondary]), NodeTest::KeeperCan(ReportLsn)],
        assign: &[(Who::Node, ReportLsn)],
        event: REPORT,
        summary: "a standby that waits for a candidate that is gone takes part in the next election",
        differs: "Ours: upstream leaves it in join_secondary, out of every later election. 2.0 keepers have no \
            way back and stay.",
        ..ROW
    },
    Rule {
        pos: 375,
        group: &[GroupTest::ElectedWithAllWal(true)],
        assign: &[(Who::Node, PreparePromotion)],
        event: ELECTED,
        summary: "the chosen node has all the WAL: it is promoted",
        differs: "\"All the WAL\" compares (timeline, LSN); upstream compares the LSN alone, and can pick a node \
            on an older timeline with a higher LSN.",
        ..ROW
    },
    Rule {
        pos: 376,
        primary: &[NodeTest::Goal(crate::NodeState::WRITABLE), NodeTest::KeeperCan(Draining)],
        assign: &[(Who::Primary, Draining)],
        event: "Setting goal state of {primary} to draining after {node} got selected as the failover candidate.",
        summary: "a primary that was not drained before the election is drained with its outcome",
        differs: "Ours: upstream leaves it its goal, and it goes on as a primary when it comes back.",
        ..ROW
    },
    Rule {
        pos: 377,
        group: &[GroupTest::ElectedWithAllWal(false)],
        assign: &[(Who::Node, FastForward)],
        event: ELECTED,
        summary: "the chosen node first fetches the WAL that it lacks from a standby that has it",
        differs: "Never from itself, and only when a healthy standby in report_lsn has the WAL.",
        ..ROW
    },
    Rule {
        pos: 378,
        primary: &[NodeTest::Goal(crate::NodeState::WRITABLE), NodeTest::KeeperCan(Demoted)],
        assign: &[(Who::Primary, Demoted)],
        event: "Setting goal state of {primary} to demoted after {node} got selected as the failover candidate.",
        summary: "a primary that cannot drain is demoted with the outcome of the election",
        differs: "Ours, see row 376: from wait_primary there is no transition to draining.",
        ..ROW
    },
];

/// What becomes of an unhealthy primary, before the election (row 305).
pub const LOST_PRIMARY: &[Rule] = &[
    Rule {
        pos: 391,
        section: Section::LostPrimary,
        primary: &[NodeTest::InPrimaryState, NodeTest::NotConverged(&[WaitPrimary])],
        group: &[GroupTest::HealthyCandidate],
        assign: &[(Who::Primary, Draining)],
        event: "Setting goal state of {primary} to draining after it became unhealthy.",
        summary: "an unhealthy primary with a healthy candidate is drained",
        ..ROW
    },
    Rule {
        pos: 393,
        section: Section::LostPrimary,
        primary: &[NodeTest::Converged(&[PrepareMaintenance])],
        assign: &[(Who::Primary, Maintenance)],
        event: "Setting goal state of {primary} to maintenance after it converged to prepare_maintenance.",
        summary: "a primary that stopped for maintenance enters it",
        ..ROW
    },
];
