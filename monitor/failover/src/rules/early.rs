//! Checks that come first, whatever the reporting node is.

use crate::NodeState::*;
use crate::condition::{Count, GroupTest, NodeTest};
use crate::rule::{Rule, Section, Then, Who};

const ROW: Rule = Rule {
    pos: 0,
    section: Section::Early,
    node: &[],
    primary: &[],
    group: &[],
    assign: &[],
    then: Then::Stop,
    event: "",
    summary: "",
    differs: "",
};

const ALONE: GroupTest = GroupTest::Nodes(Count::One);
const SINGLE_EVENT: &str = "Setting goal state of {node} to single as there is no other node.";
const REPORT_EVENT: &str =
    "Setting goal state of {node} to report_lsn as there is no other node and candidate priority is {priority}.";

pub const RULES: &[Rule] = &[
    Rule {
        pos: 201,
        node: &[NodeTest::Converged(&[Dropped])],
        then: Then::DeleteNode,
        summary: "a node that reached dropped is deleted",
        ..ROW
    },
    Rule {
        pos: 203,
        node: &[NodeTest::Goal(&[Dropped])],
        summary: "a node being dropped has nothing else to do",
        ..ROW
    },
    Rule {
        pos: 205,
        node: &[NodeTest::Converged(&[Maintenance])],
        summary: "maintenance lasts until stop_maintenance",
        ..ROW
    },
    Rule {
        pos: 207,
        node: &[NodeTest::Reported(&[DemoteTimeout]), NodeTest::Stuck],
        assign: &[(Who::Node, Demoted)],
        event: "Setting goal state of {node} to demoted after it demoted itself on losing contact.",
        summary: "a primary that fenced itself, and whose goal it cannot reach from there, is demoted",
        differs: "Asks the keeper's table instead of naming goals: newer keepers can go to report_lsn.",
        ..ROW
    },
    Rule {
        pos: 208,
        node: &[NodeTest::Converged(&[PrepareMaintenance])],
        group: &[ALONE],
        summary: "alone on the way to maintenance: nothing to do",
        ..ROW
    },
    Rule {
        pos: 209,
        node: &[
            NodeTest::NotConverged(&[Single]),
            NodeTest::Electable(true),
            NodeTest::ReportedNot(&[WaitStandby, JoinSecondary, PrepareMaintenance]),
            NodeTest::KeeperCan(Single),
        ],
        group: &[ALONE],
        assign: &[(Who::Node, Single)],
        event: SINGLE_EVENT,
        summary: "the last node of a group becomes single",
        differs: "Upstream does not ask whether the keeper has the transition: a lone node leaving \
            maintenance, or a 2.0 node in wait_maintenance, is stuck there for ever. Rows 212 to 214 \
            lead those nodes out.",
        ..ROW
    },
    Rule {
        pos: 210,
        node: &[
            NodeTest::NotConverged(&[Single]),
            NodeTest::Electable(false),
            NodeTest::Reported(&[Primary, WaitPrimary, JoinPrimary, ApplySettings]),
            NodeTest::KeeperCan(Single),
        ],
        group: &[ALONE],
        assign: &[(Who::Node, Single)],
        event: SINGLE_EVENT,
        summary: "a primary with candidate priority 0 left alone goes on as single",
        ..ROW
    },
    Rule {
        pos: 211,
        node: &[
            NodeTest::NotConverged(&[Single]),
            NodeTest::Electable(false),
            NodeTest::ReportedNot(&[Single, Primary, WaitPrimary, JoinPrimary, ApplySettings, WaitStandby]),
            NodeTest::KeeperCan(ReportLsn),
        ],
        group: &[ALONE],
        assign: &[(Who::Node, ReportLsn)],
        event: REPORT_EVENT,
        summary: "a standby with candidate priority 0 left alone stops and waits for the operator",
        differs: "Asks the keeper's table, as row 209 does.",
        ..ROW
    },
    Rule {
        pos: 212,
        node: &[NodeTest::Reported(&[Maintenance]), NodeTest::GoalNot(&[Maintenance, ReportLsn])],
        group: &[ALONE],
        assign: &[(Who::Node, ReportLsn)],
        event: "Setting goal state of {node} to report_lsn as there is no other node to catch up from.",
        summary: "alone and leaving maintenance: by way of report_lsn",
        differs: "Ours. No keeper can go from maintenance to single; from report_lsn every one can.",
        ..ROW
    },
    Rule {
        pos: 213,
        node: &[
            NodeTest::Reported(&[WaitMaintenance]),
            NodeTest::GoalNot(&[Single, Maintenance, ReportLsn]),
            NodeTest::KeeperCan(Maintenance),
        ],
        group: &[ALONE],
        assign: &[(Who::Node, Maintenance)],
        event: "Setting goal state of {node} to maintenance as there is no other node to wait for.",
        summary: "alone and waiting for maintenance, with a 2.0 keeper: enter it",
        differs: "Ours, for 2.0 keepers, which know no other way out of wait_maintenance.",
        ..ROW
    },
    Rule {
        pos: 214,
        node: &[NodeTest::Converged(&[JoinSecondary]), NodeTest::KeeperCan(ReportLsn)],
        group: &[ALONE],
        assign: &[(Who::Node, ReportLsn)],
        event: "Setting goal state of {node} to report_lsn as there is no other node to join.",
        summary: "alone and waiting for a new primary that is gone: by way of report_lsn",
        differs: "Ours: upstream leaves the node in join_secondary, with PostgreSQL stopped. 2.0 keepers \
            know no way out and stay.",
        ..ROW
    },
];
