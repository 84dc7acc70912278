//! What operators' calls assign; `calls/` checks what must hold before.

use crate::NodeState::{self, *};
use crate::condition::{Count, GroupTest, NodeTest};
use crate::rule::{Rule, Section, Then, Who};

const ROW: Rule = Rule {
    pos: 0,
    section: Section::RemoveNode,
    node: &[],
    primary: &[],
    group: &[],
    assign: &[],
    then: Then::Stop,
    event: "",
    summary: "",
    differs: "",
};

const TWO: GroupTest = GroupTest::Nodes(Count::Two);
const MORE: GroupTest = GroupTest::Nodes(Count::MoreThanTwo);
const STANDBY: NodeTest = NodeTest::Reported(&[Secondary, Catchingup]);
const DROPPED_EVENT: &str =
    "Setting goal state of {node} from formation \"{formation}\" and group {group} to \"dropped\" to implement node removal.";

pub const RULES: &[Rule] = &[
    Rule {
        pos: 101,
        node: &[NodeTest::Goal(NodeState::WRITABLE)],
        assign: &[(Who::Others, ReportLsn), (Who::Node, Dropped)],
        event: DROPPED_EVENT,
        summary: "the primary is removed: the others report how far they got",
        differs: "Nodes whose keeper cannot go to report_lsn keep their goal (wait_standby in every release, \
            candidates and joining standbys of 2.0). A forced removal of a primary does the same before it \
            deletes the row; upstream deletes it and leaves the others without a primary for ever.",
        ..ROW
    },
    Rule {
        pos: 103,
        assign: &[(Who::Node, Dropped)],
        event: DROPPED_EVENT,
        summary: "a standby is removed",
        ..ROW
    },
    Rule {
        pos: 105,
        section: Section::PerformFailover,
        node: &[NodeTest::Converged(&[Secondary])],
        primary: &[NodeTest::Converged(&[Primary])],
        group: &[TWO],
        assign: &[(Who::Primary, Draining), (Who::Node, PreparePromotion)],
        event: "Setting goal state of {primary} to draining and {node} to prepare_promotion after a user-initiated \
            failover.",
        summary: "switchover of two nodes",
        ..ROW
    },
    Rule {
        pos: 107,
        section: Section::PerformFailover,
        primary: &[NodeTest::InPrimaryState, NodeTest::KeeperCan(Draining)],
        group: &[MORE],
        assign: &[(Who::Primary, Draining)],
        event: "Setting goal state of {primary}at LSN {primary_lsn} to draining after a user-initiated failover.",
        summary: "switchover of more than two nodes: the primary drains, the election follows",
        ..ROW
    },
    Rule {
        pos: 109,
        section: Section::StartPrimaryMaintenance,
        primary: &[NodeTest::InPrimaryState],
        group: &[TWO],
        assign: &[(Who::Primary, PrepareMaintenance), (Who::Node, PreparePromotion)],
        event: "Setting goal state of {primary} to prepare_maintenance and {node} to prepare_promotion after a \
            user-initiated start_maintenance call.",
        summary: "maintenance of the primary of two nodes: the standby is promoted",
        ..ROW
    },
    Rule {
        pos: 111,
        section: Section::StartPrimaryMaintenance,
        primary: &[NodeTest::InPrimaryState],
        group: &[MORE],
        assign: &[(Who::Primary, PrepareMaintenance)],
        event: "Setting goal state of {primary} to prepare_maintenance after a user-initiated start_maintenance call.",
        summary: "maintenance of the primary of more than two nodes: the election follows",
        ..ROW
    },
    Rule {
        pos: 113,
        section: Section::StartMaintenance,
        node: &[STANDBY],
        primary: &[NodeTest::Converged(&[Primary])],
        group: &[GroupTest::LastSyncStandby],
        assign: &[(Who::Primary, WaitPrimary), (Who::Node, WaitMaintenance)],
        event: "Setting goal state of {primary} to wait_primary and {node} to wait_maintenance after a \
            user-initiated start_maintenance call.",
        summary: "maintenance of the last sync standby: the primary first stops waiting for it",
        ..ROW
    },
    Rule {
        pos: 115,
        section: Section::StartMaintenance,
        node: &[STANDBY],
        primary: &[NodeTest::Converged(&[Primary])],
        assign: &[(Who::Node, Maintenance)],
        event: "Setting goal state of {node} to maintenance after a user-initiated start_maintenance call.",
        summary: "maintenance of a standby",
        ..ROW
    },
    Rule {
        pos: 116,
        section: Section::StopMaintenance,
        group: &[GroupTest::Nodes(Count::One)],
        assign: &[(Who::Node, ReportLsn)],
        event: "Setting goal state of {node} to report_lsn  after a user-initiated stop_maintenance call.",
        summary: "back from maintenance, and alone: row 209 makes it single from report_lsn",
        differs: "Ours: upstream leaves a lone node frozen in maintenance.",
        ..ROW
    },
    Rule {
        pos: 117,
        section: Section::StopMaintenance,
        primary: &[NodeTest::Exists(false)],
        assign: &[(Who::Node, ReportLsn)],
        event: "Setting goal state of {node} to report_lsn  after a user-initiated stop_maintenance call.",
        summary: "back from maintenance, no primary: take part in the election",
        ..ROW
    },
    Rule {
        pos: 119,
        section: Section::StopMaintenance,
        primary: &[NodeTest::DemotedPrimary],
        assign: &[(Who::Node, ReportLsn)],
        event: "Setting goal state of {node} to report_lsn  after a user-initiated stop_maintenance call.",
        summary: "back from maintenance, the primary is demoted: take part in the election",
        ..ROW
    },
    Rule {
        pos: 121,
        section: Section::StopMaintenance,
        group: &[GroupTest::FailoverInProgress(true)],
        assign: &[(Who::Node, ReportLsn)],
        event: "Setting goal state of {node} to report_lsn  after a user-initiated stop_maintenance call.",
        summary: "back from maintenance during a failover: take part in the election",
        differs: "Upstream's text says catchingup here.",
        ..ROW
    },
    Rule {
        pos: 123,
        section: Section::StopMaintenance,
        assign: &[(Who::Node, Catchingup)],
        event: "Setting goal state of {node} to catchingup  after a user-initiated stop_maintenance call.",
        summary: "back from maintenance: catch up",
        ..ROW
    },
    Rule {
        pos: 125,
        section: Section::SetCandidatePriority,
        primary: &[NodeTest::NotConverged(&[ApplySettings]), NodeTest::KeeperCan(ApplySettings)],
        assign: &[(Who::Primary, ApplySettings)],
        event: "Setting goal state of {primary} to apply_settings after updating {node} candidate priority to \
            {priority}.",
        summary: "a changed priority: the primary applies it",
        differs: "Not assigned to a single node, nor to one that cannot get there: no keeper goes from single to \
            apply_settings.",
        ..ROW
    },
    Rule {
        pos: 127,
        section: Section::SetReplicationQuorum,
        primary: &[NodeTest::NotConverged(&[ApplySettings]), NodeTest::KeeperCan(ApplySettings)],
        assign: &[(Who::Primary, ApplySettings)],
        event: "Setting goal state of {primary} to apply_settings after updating {node} replication quorum to \
            {quorum}.",
        summary: "a changed quorum: the primary applies it",
        differs: "As row 125.",
        ..ROW
    },
    Rule {
        pos: 129,
        section: Section::SetNumberSyncStandbys,
        primary: &[NodeTest::Goal(&[Primary, WaitPrimary])],
        assign: &[(Who::Primary, ApplySettings)],
        event: "Setting goal state of {primary} to apply_settings after updating number_sync_standbys to {number} for \
            formation {formation}.",
        summary: "a changed number_sync_standbys: the primary applies it",
        ..ROW
    },
    Rule {
        pos: 130,
        primary: &[NodeTest::KeeperCan(ApplySettings), NodeTest::GoalNot(&[ApplySettings])],
        assign: &[(Who::Primary, ApplySettings)],
        event: "Setting goal state of {primary} to apply_settings after removing standby {node} from formation \
            {formation}.",
        summary: "a standby is removed and the primary's goal stays: it applies the changed settings",
        differs: "Upstream does the same without a row of its own, and to a single node too.",
        ..ROW
    },
];
