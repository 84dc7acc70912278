//! A reporting node that is not in a primary state.

use crate::NodeState::*;
use crate::condition::{Count, GroupTest, NodeTest, Threshold};
use crate::rule::{Rule, Section, Then, Who};

const ROW: Rule = Rule {
    pos: 0,
    section: Section::Standby,
    node: &[],
    primary: &[],
    group: &[],
    assign: &[],
    then: Then::Stop,
    event: "",
    summary: "",
    differs: "",
};

const TO_CATCHINGUP_AND_PRIMARY: &str =
    "Setting goal state of {node} to catchingup and {primary} to apply_settings to edit synchronous_standby_names.";
const DEMOTE_EXPIRED: &str =
    "Setting goal state of {node} to wait_primary and {primary} to demoted after the demote timeout expired.";
const COORDINATOR: &str =
    "Setting goal state of {node} to wait_primary and {primary} to demoted after the coordinator metadata was updated.";
const COORDINATOR_ALONE: &str =
    "Setting goal state of {node} to wait_primary after the coordinator metadata was updated.";
const TO_WAIT_PRIMARY: &str = "Setting goal state of {node} to wait_primary after {node} converged to {reported}.";

pub const RULES: &[Rule] = &[
    Rule {
        pos: 301,
        node: &[NodeTest::Converged(&[Secondary]), NodeTest::OffLineage],
        assign: &[(Who::Node, Catchingup)],
        event: "Setting goal state of {node} to catchingup because its timeline {timeline} is not in the history of \
            the group.",
        summary: "a secondary on a timeline that the group has left is rewound",
        differs: "Only when the history of the group's newest timeline is known: 2.0 keepers report none, and \
            upstream's filter then drops every node that is one timeline behind.",
        ..ROW
    },
    Rule {
        pos: 303,
        primary: &[NodeTest::InPrimaryState, NodeTest::Healthy],
        group: &[GroupTest::Never],
        assign: &[(Who::Primary, WaitPrimary)],
        summary: "no standby has streamed for replication_stall_timeout: leave synchronous replication",
        differs: "Does not act. Upstream's own condition is never true (it compares the stored sync state with an \
            empty string that is stored as \"unknown\"), so no release has ever done this. Were it to act, \
            standbys that are still in the quorum would have to leave it in the same decision, and 2.0 \
            keepers would take them back at once, because they do not check their connection before \
            they report secondary. Until the primary itself can prove that a standby streams, writes that \
            wait are the safe answer; the operator can put the standby to maintenance.",
        ..ROW
    },
    Rule {
        pos: 305,
        primary: &[NodeTest::Unhealthy],
        group: &[GroupTest::Nodes(Count::MoreThanTwo)],
        then: Then::ReplacePrimary,
        summary: "more than two nodes and no healthy primary: rows 391 and 393, then the election",
        ..ROW
    },
    Rule {
        pos: 306,
        node: &[
            NodeTest::Reported(&[Secondary, Catchingup, JoinSecondary, Draining, DemoteTimeout, Demoted]),
            NodeTest::Goal(&[Secondary, Catchingup, JoinSecondary, Draining, DemoteTimeout, Demoted]),
        ],
        primary: &[NodeTest::Goal(&[Draining, DemoteTimeout, Demoted]), NodeTest::Unhealthy],
        group: &[GroupTest::Nodes(Count::Two)],
        then: Then::Elect,
        summary: "two nodes, the primary is stopped, and no candidate or one that fell silent: elect among them",
        differs: "Ours: upstream elects only among more than two nodes. When the candidate is removed, or dies \
            before it takes writes, it leaves the others without a primary; the old one has every write.",
        ..ROW
    },
    Rule {
        pos: 307,
        node: &[NodeTest::Converged(&[ReportLsn])],
        primary: &[NodeTest::Converged(&[WaitPrimary, JoinPrimary]), NodeTest::Healthy],
        group: &[GroupTest::Promotion(false)],
        assign: &[(Who::Node, Secondary)],
        event: "Setting goal state of {node} to secondary after {primary} converged to {primary_reported} and has \
            been marked healthy.",
        summary: "the new primary is there: follow it",
        differs: "Upstream lets a sealed standby follow an old primary that comes back while another node is being \
            promoted: it acknowledges writes that the new primary does not have.",
        ..ROW
    },
    Rule {
        pos: 309,
        node: &[NodeTest::Converged(&[ReportLsn])],
        primary: &[NodeTest::Converged(&[Primary]), NodeTest::Healthy],
        group: &[GroupTest::Promotion(false)],
        assign: &[(Who::Node, Secondary)],
        event: "Setting goal state of {node} to secondary after {primary} got selected as the failover candidate.",
        summary: "the primary is there: follow it",
        differs: "Upstream lets a sealed standby follow an old primary that comes back while another node is being \
            promoted: it acknowledges writes that the new primary does not have.",
        ..ROW
    },
    Rule {
        pos: 310,
        node: &[NodeTest::Converged(&[ReportLsn])],
        primary: &[
            NodeTest::Reported(&[WaitPrimary, JoinPrimary, Primary, ApplySettings]),
            NodeTest::Goal(&[WaitPrimary, JoinPrimary, Primary, ApplySettings]),
            NodeTest::Healthy,
        ],
        group: &[GroupTest::Promotion(false)],
        assign: &[(Who::Node, Secondary)],
        event: "Setting goal state of {node} to secondary after {primary} got selected as the failover candidate.",
        summary: "the primary is there and on its way from one of its states to another: follow it",
        differs: "Ours: upstream holds an election then and takes a healthy primary away, for instance when a node \
            returns from maintenance while the new primary goes from wait_primary to primary.",
        ..ROW
    },
    Rule {
        pos: 311,
        node: &[NodeTest::Converged(&[FastForward])],
        assign: &[(Who::Node, PreparePromotion)],
        event: "Setting goal state of {node} to prepare_promotion",
        summary: "the candidate has fetched the WAL that it lacked: it is promoted",
        ..ROW
    },
    Rule {
        pos: 313,
        node: &[NodeTest::Converged(&[ReportLsn])],
        then: Then::Elect,
        summary: "a sealed standby: go on with the election",
        ..ROW
    },
    Rule {
        pos: 315,
        node: &[NodeTest::Converged(&[WaitStandby])],
        primary: &[NodeTest::Converged(&[WaitPrimary, JoinPrimary])],
        group: &[GroupTest::Promotion(false)],
        assign: &[(Who::Node, Catchingup)],
        event: "Setting goal state of {node} to catchingup after {primary} converged to {primary_reported}.",
        summary: "the primary is ready for a new standby",
        ..ROW
    },
    Rule {
        pos: 317,
        node: &[NodeTest::Converged(&[WaitStandby]), NodeTest::InQuorum(true)],
        primary: &[NodeTest::Converged(&[Primary])],
        group: &[GroupTest::Promotion(false)],
        assign: &[(Who::Node, Catchingup), (Who::Primary, ApplySettings)],
        event: TO_CATCHINGUP_AND_PRIMARY,
        summary: "a new standby of the quorum: the primary adds it to synchronous_standby_names",
        differs: "Upstream's text names the primary's present state instead of apply_settings.",
        ..ROW
    },
    Rule {
        pos: 319,
        node: &[NodeTest::Converged(&[WaitStandby]), NodeTest::InQuorum(false)],
        primary: &[NodeTest::Converged(&[Primary])],
        group: &[GroupTest::Promotion(false)],
        assign: &[(Who::Node, Catchingup)],
        event: "Setting goal state of {node} to catchingup.",
        summary: "a new asynchronous standby",
        ..ROW
    },
    Rule {
        pos: 321,
        node: &[NodeTest::Converged(&[Catchingup]), NodeTest::Healthy],
        primary: &[NodeTest::Converged(&[WaitPrimary, JoinPrimary, Primary]), NodeTest::Heard],
        group: &[GroupTest::SameTimeline, GroupTest::Within(Threshold::EnableSync)],
        assign: &[(Who::Node, Secondary)],
        event: "Setting goal state of {node} to secondary after it caught up.",
        summary: "a standby close enough to the primary becomes a secondary",
        differs: "A standby ahead of the primary's last report counts as caught up; upstream takes the distance \
            both ways. The leader must have heard from the primary itself: a stored LSN may be old.",
        ..ROW
    },
    Rule {
        pos: 323,
        node: &[NodeTest::Converged(&[Secondary]), NodeTest::Healthy, NodeTest::Electable(true)],
        primary: &[
            NodeTest::Reported(&[WaitPrimary]),
            NodeTest::Goal(&[WaitPrimary, Primary, ApplySettings]),
            NodeTest::Unhealthy,
        ],
        group: &[GroupTest::Nodes(Count::Two), GroupTest::Within(Threshold::Promote)],
        assign: &[(Who::Node, PreparePromotion), (Who::Primary, Demoted)],
        event: "Setting goal state of {primary} to demoted and {node} to prepare_promotion after {primary} became \
            unhealthy.",
        summary: "the primary of two nodes fails before it became synchronous again: promote the secondary",
        differs: "Also for a primary that was on its way from wait_primary to primary or apply_settings: upstream             has no row for it, and waits for ever. The primary is told to stop at once. Two nodes only: with more, the election decides. Distance as             in row 325.",
        ..ROW
    },
    Rule {
        pos: 324,
        node: &[NodeTest::Converged(&[Secondary]), NodeTest::Healthy, NodeTest::Electable(true)],
        primary: &[NodeTest::Reported(&[DemoteTimeout]), NodeTest::Goal(&[Primary]), NodeTest::Silent],
        group: &[GroupTest::Nodes(Count::Two), GroupTest::Within(Threshold::Promote)],
        assign: &[(Who::Node, PreparePromotion), (Who::Primary, DemoteTimeout)],
        event: "Setting goal state of {primary} to demote_timeout and {node} to prepare_promotion after {primary}             became unhealthy.",
        summary: "a primary that had fenced itself dies on its way back: promote the secondary",
        differs: "Ours: upstream waits for ever.",
        ..ROW
    },
    Rule {
        pos: 325,
        node: &[NodeTest::Converged(&[Secondary]), NodeTest::Healthy, NodeTest::Electable(true)],
        primary: &[NodeTest::InPrimaryState, NodeTest::NotConverged(&[WaitPrimary]), NodeTest::Unhealthy],
        group: &[GroupTest::Within(Threshold::Promote)],
        assign: &[(Who::Node, PreparePromotion), (Who::Primary, Draining)],
        event: "Setting goal state of {primary} to draining and {node} to prepare_promotion after {primary} became \
            unhealthy.",
        summary: "the primary fails: promote the secondary",
        differs: "The distance counts only when the standby is behind. When the leader has not heard from the \
            primary itself (both were lost together), a standby of the quorum needs no distance: it was \
            synchronous; an asynchronous one is not promoted, as its loss has no known bound.",
        ..ROW
    },
    Rule {
        pos: 327,
        node: &[NodeTest::Converged(&[WaitMaintenance])],
        primary: &[NodeTest::Converged(&[WaitPrimary])],
        assign: &[(Who::Node, Maintenance)],
        event: "Setting goal state of {node} to maintenance after {primary} converged to wait_primary.",
        summary: "the primary no longer waits for the standby: enter maintenance",
        ..ROW
    },
    Rule {
        pos: 329,
        node: &[NodeTest::Converged(&[WaitMaintenance])],
        primary: &[NodeTest::Exists(true), NodeTest::GoalNot(&[WaitPrimary])],
        assign: &[(Who::Node, Maintenance)],
        event: "Setting goal state of {node} to maintenance after {primary} got assigned {primary_goal} as goal state.",
        summary: "the primary has moved on: no reason to wait with maintenance",
        ..ROW
    },
    Rule {
        pos: 331,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Converged(&[PrepareMaintenance])],
        assign: &[(Who::Node, StopReplication)],
        event: "Setting goal state of {node} to stop_replication after {primary} converged to prepare_maintenance.",
        summary: "the primary has stopped for maintenance: promote",
        ..ROW
    },
    Rule {
        pos: 332,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Goal(&[PrepareMaintenance]), NodeTest::Silent],
        assign: &[(Who::Node, StopReplication)],
        event: "Setting goal state of {node} to stop_replication after {primary} fell silent on its way to maintenance.",
        summary: "the primary dies on its way to maintenance: promote; row 344 waits for the demote timeout",
        differs: "Ours: upstream waits for the dead primary for ever.",
        ..ROW
    },
    Rule {
        pos: 333,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Exists(true)],
        group: &[GroupTest::CitusWorker],
        assign: &[(Who::Node, WaitPrimary), (Who::Primary, Demoted)],
        event: COORDINATOR,
        summary: "a Citus worker: the coordinator has blocked writes already",
        ..ROW
    },
    Rule {
        pos: 335,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Exists(false)],
        group: &[GroupTest::CitusWorker],
        assign: &[(Who::Node, WaitPrimary)],
        event: COORDINATOR_ALONE,
        summary: "a Citus worker whose primary is gone",
        ..ROW
    },
    Rule {
        pos: 337,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Reported(&[WaitPrimary]), NodeTest::Goal(&[WaitPrimary, Primary, ApplySettings])],
        assign: &[(Who::Node, StopReplication), (Who::Primary, Demoted)],
        event: "Setting goal state of {primary} to demoted and {node} to stop_replication after {node} converged to \
            prepare_promotion.",
        summary: "the primary was not synchronous: demote it (it cannot drain) and promote",
        differs: "Upstream leaves such a primary its goal until row 349, and a primary on its way from wait_primary \
            to primary gets demote_timeout, which no keeper can reach from there. The transition to demoted \
            exists, so a primary that is alive stops at once.",
        ..ROW
    },
    Rule {
        pos: 338,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Reported(&[Demoted, Draining, DemoteTimeout]), NodeTest::Goal(&[ReportLsn, Demoted])],
        assign: &[(Who::Node, StopReplication)],
        event: "Setting goal state of {node} to stop_replication after {node} converged to prepare_promotion and \
            {primary} had stopped.",
        summary: "the old primary has stopped already: promote",
        differs: "Ours: upstream assigns demote_timeout to it, which a 2.0 keeper cannot reach from demoted, and \
            which takes a node out of the election that it is about to join.",
        ..ROW
    },
    Rule {
        pos: 339,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Exists(true), NodeTest::InMaintenance(false), NodeTest::KeeperCan(DemoteTimeout)],
        assign: &[(Who::Node, StopReplication), (Who::Primary, DemoteTimeout)],
        event: "Setting goal state of {primary} to demote_timeout and {node} to stop_replication after {node} \
            converged to prepare_promotion.",
        summary: "the candidate is ready: the old primary gets its time to stop",
        ..ROW
    },
    Rule {
        pos: 340,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Reported(&[Primary, WaitPrimary, JoinPrimary, ApplySettings]), NodeTest::Goal(&[Demoted])],
        assign: &[(Who::Node, StopReplication)],
        event: "Setting goal state of {node} to stop_replication after {node} converged to prepare_promotion.",
        summary: "the old primary has been told to stop: promote; row 349 waits for it",
        differs: "Ours, see row 376.",
        ..ROW
    },
    Rule {
        pos: 341,
        node: &[NodeTest::Converged(&[PreparePromotion])],
        primary: &[NodeTest::Exists(false)],
        assign: &[(Who::Node, WaitPrimary)],
        event: TO_WAIT_PRIMARY,
        summary: "no old primary left to wait for",
        ..ROW
    },
    Rule {
        pos: 343,
        node: &[NodeTest::Converged(&[StopReplication])],
        primary: &[NodeTest::Converged(&[PrepareMaintenance])],
        assign: &[(Who::Node, WaitPrimary), (Who::Primary, Maintenance)],
        event: "Setting goal state of {node} to wait_primary and {primary} to maintenance.",
        summary: "the old primary has stopped for maintenance: take writes",
        ..ROW
    },
    Rule {
        pos: 344,
        node: &[NodeTest::Converged(&[StopReplication])],
        primary: &[NodeTest::Goal(&[PrepareMaintenance]), NodeTest::Silent],
        group: &[GroupTest::WaitedDemoteTimeout],
        assign: &[(Who::Node, WaitPrimary), (Who::Primary, Maintenance)],
        event: "Setting goal state of {node} to wait_primary and {primary} to maintenance after the demote timeout \
            expired.",
        summary: "the old primary died on its way to maintenance and has had its time: take writes",
        differs: "Ours, see row 332.",
        ..ROW
    },
    Rule {
        pos: 345,
        node: &[NodeTest::Converged(&[StopReplication])],
        primary: &[NodeTest::Converged(&[DemoteTimeout]), NodeTest::Confirmed],
        assign: &[(Who::Node, WaitPrimary), (Who::Primary, Demoted)],
        event: DEMOTE_EXPIRED,
        summary: "the old primary has stopped: take writes",
        differs: "It must have said so after it was told to stop: a primary that had fenced itself, was told to             go on and fell silent is stored as demote_timeout too.",
        ..ROW
    },
    Rule {
        pos: 346,
        node: &[NodeTest::Converged(&[StopReplication])],
        primary: &[NodeTest::Goal(&[DemoteTimeout])],
        group: &[GroupTest::SealsEndDemoteTimeout],
        assign: &[(Who::Node, WaitPrimary), (Who::Primary, Demoted)],
        event: "Setting goal state of {node} to wait_primary and {primary} to demoted: enough standbys are cut off from \
            {primary}.",
        summary: "enough standbys are cut off from the old primary: take writes",
        differs: "Ours, and off by default (pgquorum.seals_end_demote_timeout): the old primary can get no synchronous \
            commit acknowledged any more, but may serve stale reads and accept local commits until it stops.",
        ..ROW
    },
    Rule {
        pos: 347,
        node: &[NodeTest::Converged(&[StopReplication])],
        primary: &[NodeTest::DrainTimeExpired],
        assign: &[(Who::Node, WaitPrimary), (Who::Primary, Demoted)],
        event: DEMOTE_EXPIRED,
        summary: "the old primary has had its time to stop: take writes",
        ..ROW
    },
    Rule {
        pos: 348,
        node: &[NodeTest::Converged(&[StopReplication])],
        primary: &[NodeTest::Reported(&[Demoted, Draining, DemoteTimeout]), NodeTest::Goal(&[ReportLsn, Demoted])],
        assign: &[(Who::Node, WaitPrimary)],
        event: TO_WAIT_PRIMARY,
        summary: "the old primary has stopped already: take writes",
        differs: "Ours, see rows 337 and 338.",
        ..ROW
    },
    Rule {
        pos: 349,
        node: &[NodeTest::Converged(&[StopReplication])],
        primary: &[NodeTest::Reported(&[Primary, WaitPrimary, JoinPrimary, ApplySettings]), NodeTest::Goal(&[WaitPrimary, Demoted])],
        group: &[GroupTest::WaitedDemoteTimeout],
        assign: &[(Who::Node, WaitPrimary), (Who::Primary, Demoted)],
        event: DEMOTE_EXPIRED,
        summary: "a primary that could not drain is presumed dead: take writes",
        differs: "The primary is told to stop earlier, see row 337; one that does stop ends the wait by row 348.",
        ..ROW
    },
    Rule {
        pos: 351,
        node: &[NodeTest::Converged(&[StopReplication])],
        primary: &[NodeTest::Exists(true)],
        group: &[GroupTest::CitusWorker],
        assign: &[(Who::Node, WaitPrimary), (Who::Primary, Demoted)],
        event: COORDINATOR,
        summary: "a Citus worker: the coordinator has blocked writes already",
        ..ROW
    },
    Rule {
        pos: 353,
        node: &[NodeTest::Converged(&[StopReplication])],
        primary: &[NodeTest::Exists(false)],
        group: &[GroupTest::CitusWorker],
        assign: &[(Who::Node, WaitPrimary)],
        event: COORDINATOR_ALONE,
        summary: "a Citus worker whose primary is gone",
        ..ROW
    },
    Rule {
        pos: 354,
        node: &[NodeTest::Converged(&[StopReplication])],
        primary: &[NodeTest::Exists(false)],
        assign: &[(Who::Node, WaitPrimary)],
        event: TO_WAIT_PRIMARY,
        summary: "the old primary is gone: take writes",
        differs: "Ours: upstream has no row for a primary that is removed, or joins the election, while the \
            candidate is in stop_replication, and the candidate stays read-only for ever.",
        ..ROW
    },
    Rule {
        pos: 355,
        node: &[NodeTest::Converged(&[Demoted])],
        primary: &[NodeTest::Reported(&[WaitPrimary, JoinPrimary]), NodeTest::Goal(&[Primary]), NodeTest::Healthy],
        group: &[GroupTest::Promotion(false)],
        assign: &[(Who::Node, Catchingup)],
        event: "Setting goal state of {node} to catchingup after it converged to demotion and {primary} converged to \
            primary.",
        summary: "the old primary follows the new one, which is becoming synchronous",
        ..ROW
    },
    Rule {
        pos: 357,
        node: &[NodeTest::Converged(&[Demoted])],
        primary: &[NodeTest::Converged(&[WaitPrimary, JoinPrimary, Primary]), NodeTest::Healthy],
        group: &[GroupTest::Promotion(false)],
        assign: &[(Who::Node, Catchingup)],
        event: "Setting goal state of {node} to catchingup after it converged to demotion and {primary} converged to \
            {primary_reported}.",
        summary: "the old primary follows the new one",
        ..ROW
    },
    Rule {
        pos: 359,
        node: &[NodeTest::Converged(&[JoinSecondary])],
        primary: &[NodeTest::Reported(&[WaitPrimary]), NodeTest::Goal(&[WaitPrimary, Primary])],
        group: &[GroupTest::Promotion(false)],
        assign: &[(Who::Node, Secondary)],
        then: Then::ReviewPrimary,
        event: "Setting goal state of {node} to secondary after {primary} converged to wait_primary.",
        summary: "the new primary takes writes: follow it, and see whether it can be synchronous",
        differs: "Upstream lets a sealed standby follow an old primary that comes back while another node is being \
            promoted: it acknowledges writes that the new primary does not have.",
        ..ROW
    },
    Rule {
        pos: 361,
        node: &[NodeTest::Converged(&[JoinSecondary])],
        primary: &[NodeTest::Converged(&[Primary])],
        group: &[GroupTest::Promotion(false)],
        assign: &[(Who::Node, Secondary)],
        event: "Setting goal state of {node} to secondary after {primary} converged to primary.",
        summary: "the new primary is there: follow it",
        differs: "Upstream lets a sealed standby follow an old primary that comes back while another node is being \
            promoted: it acknowledges writes that the new primary does not have.",
        ..ROW
    },
];
