//! A reporting node that is in a primary state.

use crate::NodeState::*;
use crate::condition::{Count, GroupTest, NodeTest};
use crate::rule::{Rule, Section, Then, Who};

/// Rows 403 to 419 also send unhealthy secondaries to `catchingup`: in the same decision, so that
/// no node that may miss commits is a candidate when the primary stops waiting for it.
const ROW: Rule = Rule {
    pos: 0,
    section: Section::Primary,
    node: &[],
    primary: &[],
    group: &[],
    assign: &[],
    then: Then::Stop,
    event: "",
    summary: "",
    differs: "",
};

const DUE: (Who, crate::NodeState) = (Who::UnhealthySecondaries, Catchingup);
const STABLE: NodeTest = NodeTest::Converged(&[Primary, WaitPrimary, ApplySettings]);
const NONE_HEALTHY: &str =
    "Setting goal state of {node} to {goal} because none of the secondary nodes are healthy at the moment.";
const NO_QUORUM: &str = "Setting goal state of {node} to {goal} because none of the standby nodes in the quorum are \
    healthy at the moment.";
const APPLIED: &str = "Setting goal state of {node} to {goal} after it applied replication properties change.";

pub const RULES: &[Rule] = &[
    Rule {
        pos: 401,
        node: &[NodeTest::Converged(&[Single])],
        group: &[GroupTest::SomeoneWaits],
        assign: &[(Who::Node, WaitPrimary)],
        event: "Setting goal state of {node} to wait_primary after {waiting} joined.",
        summary: "a single node prepares for the first standby",
        ..ROW
    },
    Rule {
        pos: 403,
        node: &[STABLE],
        group: &[GroupTest::QuorumNodes(Count::Zero), GroupTest::Secondaries(Count::Zero)],
        assign: &[DUE, (Who::Node, WaitPrimary)],
        event: NONE_HEALTHY,
        summary: "all standbys asynchronous, none a secondary: wait_primary",
        ..ROW
    },
    Rule {
        pos: 405,
        node: &[STABLE],
        group: &[GroupTest::QuorumNodes(Count::Zero), GroupTest::Secondaries(Count::NotZero)],
        assign: &[DUE, (Who::Node, Primary)],
        event: NONE_HEALTHY,
        summary: "all standbys asynchronous, at least one a secondary: primary",
        ..ROW
    },
    Rule {
        pos: 407,
        node: &[NodeTest::Converged(&[Primary, ApplySettings])],
        group: &[
            GroupTest::QuorumSecondaries(Count::Zero),
            GroupTest::NumberSyncStandbys(Count::Zero),
            GroupTest::FailoverInProgress(false),
        ],
        assign: &[DUE, (Who::Node, WaitPrimary)],
        event: NO_QUORUM,
        summary: "no secondary left in the quorum and number_sync_standbys is 0: stop waiting for standbys",
        ..ROW
    },
    Rule {
        pos: 409,
        node: &[NodeTest::Converged(&[Primary, ApplySettings])],
        group: &[
            GroupTest::QuorumSecondaries(Count::Zero),
            GroupTest::NumberSyncStandbys(Count::NotZero),
            GroupTest::FailoverInProgress(false),
        ],
        assign: &[DUE, (Who::Node, Primary)],
        event: NO_QUORUM,
        summary: "no secondary left in the quorum and number_sync_standbys above 0: writes block, as asked for",
        ..ROW
    },
    Rule {
        pos: 411,
        node: &[NodeTest::Converged(&[WaitPrimary])],
        group: &[GroupTest::QuorumSecondaries(Count::NotZero)],
        assign: &[DUE, (Who::Node, Primary)],
        event: "Setting goal state of {node} to primary now that we have {quorum_secondaries} healthy  secondary \
            nodes in the quorum.",
        summary: "a secondary in the quorum: synchronous replication begins",
        ..ROW
    },
    Rule {
        pos: 413,
        node: &[NodeTest::Converged(&[ApplySettings])],
        group: &[GroupTest::NumberSyncStandbys(Count::Zero), GroupTest::QuorumSecondaries(Count::Zero)],
        assign: &[DUE, (Who::Node, WaitPrimary)],
        event: APPLIED,
        summary: "settings applied, nobody to wait for: wait_primary",
        ..ROW
    },
    Rule {
        pos: 415,
        node: &[NodeTest::Converged(&[ApplySettings])],
        group: &[GroupTest::NumberSyncStandbys(Count::NotZero)],
        assign: &[DUE, (Who::Node, Primary)],
        event: APPLIED,
        summary: "settings applied, number_sync_standbys above 0: primary",
        ..ROW
    },
    Rule {
        pos: 417,
        node: &[NodeTest::Converged(&[ApplySettings])],
        group: &[GroupTest::NumberSyncStandbys(Count::Zero), GroupTest::QuorumSecondaries(Count::NotZero)],
        assign: &[DUE, (Who::Node, Primary)],
        event: APPLIED,
        summary: "settings applied, a secondary in the quorum: primary",
        ..ROW
    },
    Rule {
        pos: 419,
        node: &[STABLE],
        assign: &[DUE],
        summary: "nothing changes for the primary; unhealthy secondaries catch up",
        ..ROW
    },
    Rule {
        pos: 421,
        node: &[NodeTest::Converged(&[JoinPrimary])],
        assign: &[(Who::Node, Primary)],
        event: "Setting goal state of {node} to primary",
        summary: "join_primary is of old releases: primary",
        ..ROW
    },
];
