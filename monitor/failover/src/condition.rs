//! The words that a rule may test. They are data: executed by [`crate::explain`] and the rules'
//! interpreter, and rendered for people.

use alloc::string::String;
use core::fmt::Write;

use crate::NodeState;

/// A distance in WAL that rules compare with; both are settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// `pgautofailover.enable_sync_wal_log_threshold`
    EnableSync,
    /// `pgautofailover.promote_wal_log_threshold`
    Promote,
}

/// What a rule asks of one node. Only `Exists(false)` and `Unhealthy` hold for a missing node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeTest {
    Exists(bool),
    /// Reported state and goal are the same, one of these.
    Converged(&'static [NodeState]),
    NotConverged(&'static [NodeState]),
    Reported(&'static [NodeState]),
    ReportedNot(&'static [NodeState]),
    Goal(&'static [NodeState]),
    GoalNot(&'static [NodeState]),
    /// Accepts writes, or is about to and did (upstream's `IsInPrimaryState`).
    InPrimaryState,
    /// Being demoted, or demoted, and a primary until then.
    DemotedPrimary,
    InMaintenance(bool),
    Healthy,
    Unhealthy,
    /// No report for `node_considered_unhealthy_timeout`, and unhealthy.
    Silent,
    /// This leader has had a report of it.
    Heard,
    /// It has reported since its state or goal last changed: what is stored is what it is.
    Confirmed,
    /// Candidate priority above zero.
    Electable(bool),
    InQuorum(bool),
    /// Goal `demote_timeout` for longer than `primary_demote_timeout`.
    DrainTimeExpired,
    /// Its candidate may stream WAL to other standbys (upstream's `CandidateNodeIsReadyToStreamWAL`).
    ReadyToStream,
    /// Its timeline is neither the group's newest nor, with a LSN before the fork, an ancestor of it.
    OffLineage,
    /// Its keeper knows the transition, from the state reported as well as from the present goal.
    KeeperCan(NodeState),
    /// Its keeper knows no transition from the state reported to the goal that it has.
    Stuck,
    /// Its keeper has reported, since the present goal was given, that it takes no more WAL, or
    /// that PostgreSQL is cleanly stopped.
    Sealed(bool),
    /// No change of state or goal for longer than `pgquorum.missed_reports_timeout_ms`.
    WaitedMissedReports,
    /// No change of state or goal for longer than `primary_demote_timeout`.
    WaitedDemoteTimeout,
}

/// What a rule asks of the group as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupTest {
    /// The number of nodes that are not being dropped.
    Nodes(Count),
    CitusWorker,
    FailoverInProgress(bool),
    /// The reporting node and the primary report the same timeline.
    SameTimeline,
    /// The reporting node is at most that far behind the primary.
    Within(Threshold),
    /// The reporting node has waited for longer than `primary_demote_timeout` since its last change of state.
    WaitedDemoteTimeout,
    /// Another node has converged to `wait_standby`.
    SomeoneWaits,
    /// A healthy node converged to `secondary` with a candidate priority above zero.
    HealthyCandidate,
    /// Nodes other than the primary that are in the replication quorum.
    QuorumNodes(Count),
    /// Nodes converged to `secondary`, those about to be sent to `catchingup` not counted.
    Secondaries(Count),
    QuorumSecondaries(Count),
    NumberSyncStandbys(Count),
    /// The node is the only healthy standby of the quorum and number_sync_standbys is zero.
    LastSyncStandby,
    /// The other standbys to fetch WAL from exist and none of them is healthy.
    NoWalSource,
    GuardDataLoss(bool),
    /// Some node is being promoted.
    Promotion(bool),
    /// The election chose this node; it has all the WAL that was found / it lacks some.
    ElectedWithAllWal(bool),
    /// Enough standbys are healthy to seal n-k+1 of every configuration that the primary may have in
    /// effect, or its own keeper reports; or the operator gives up what is missing. One of them is
    /// electable.
    Replaceable,
    /// The reporting node has reached the position of the stopped primary, on its timeline.
    HasPrimarysWal,
    /// The old primary's read lease has ended everywhere, or the primary is known to have stopped.
    LeaseOver,
    /// `pgquorum.seals_end_demote_timeout` is on, and n-k+1 standbys of every configuration are cut off.
    SealsEndDemoteTimeout,
    /// Never true: the rule is listed and explained, and does not act.
    Never,
}

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Zero,
    NotZero,
    One,
    Two,
    MoreThanTwo,
}

impl Count {
    /// Whether `number` is that many.
    pub fn holds(self, number: usize) -> bool {
        match self {
            Count::Zero => number == 0,
            Count::NotZero => number > 0,
            Count::One => number == 1,
            Count::Two => number == 2,
            Count::MoreThanTwo => number > 2,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Count::Zero => "0",
            Count::NotZero => "at least 1",
            Count::One => "1",
            Count::Two => "2",
            Count::MoreThanTwo => "more than 2",
        }
    }
}

/// `single|primary|...`; the five writable states have a word of their own.
fn states(states: &[NodeState]) -> String {
    if states == NodeState::WRITABLE {
        return String::from("a writable state");
    }
    let mut text = String::new();
    for state in states {
        let _ = write!(text, "{}{}", if text.is_empty() { "" } else { "|" }, state.name());
    }
    text
}

impl NodeTest {
    /// Does it ask for a state, a membership or a setting, and not for something that happens?
    pub fn is_lasting(self) -> bool {
        use NodeTest::*;
        matches!(
            self,
            Converged(_) | NotConverged(_) | Reported(_) | ReportedNot(_) | Goal(_) | GoalNot(_) | KeeperCan(_)
                | Exists(_) | InPrimaryState | DemotedPrimary | InMaintenance(_) | Electable(_) | InQuorum(_)
        )
    }

    /// The test in words, to be put after the name of the node.
    pub fn words(self) -> String {
        use NodeTest::*;
        let fixed = match self {
            Converged(set) => return alloc::format!("converged to {}", states(set)),
            NotConverged(set) => return alloc::format!("not converged to {}", states(set)),
            Reported(set) => return alloc::format!("reports {}", states(set)),
            ReportedNot(set) => return alloc::format!("does not report {}", states(set)),
            Goal(set) => return alloc::format!("has goal {}", states(set)),
            GoalNot(set) => return alloc::format!("has a goal other than {}", states(set)),
            KeeperCan(goal) => return alloc::format!("has a keeper that can go to {}", goal.name()),
            Exists(true) => "exists",
            Exists(false) => "does not exist",
            InPrimaryState => "is in a primary state",
            DemotedPrimary => "is a demoted primary",
            InMaintenance(true) => "is in maintenance",
            InMaintenance(false) => "is not in maintenance",
            Healthy => "is healthy",
            Unhealthy => "is unhealthy",
            Silent => "is silent",
            Heard => "has reported to this leader",
            Confirmed => "has reported since its last change",
            Electable(true) => "has a candidate priority above 0",
            Electable(false) => "has candidate priority 0",
            InQuorum(true) => "is in the replication quorum",
            InQuorum(false) => "is not in the replication quorum",
            DrainTimeExpired => "has had its time to drain",
            ReadyToStream => "is ready to stream WAL",
            Sealed(true) => "is sealed",
            Sealed(false) => "is not sealed",
            WaitedMissedReports => "has not changed for missed_reports_timeout_ms",
            WaitedDemoteTimeout => "has not changed for primary_demote_timeout",
            Stuck => "has a goal that its keeper cannot reach",
            OffLineage => "is on a timeline that the group has left",
        };
        String::from(fixed)
    }
}

impl GroupTest {
    /// Does it ask for other nodes or other settings, and not for something that happens?
    pub fn is_lasting(self) -> bool {
        use GroupTest::*;
        matches!(
            self,
            Nodes(_) | QuorumNodes(_) | NumberSyncStandbys(_) | CitusWorker | GuardDataLoss(_)
                | SealsEndDemoteTimeout | Never
        )
    }

    /// The test in words.
    pub fn words(self) -> String {
        use GroupTest::*;
        let fixed = match self {
            Nodes(count) => return alloc::format!("nodes in the group: {}", count.words()),
            QuorumNodes(count) => return alloc::format!("standbys in the replication quorum: {}", count.words()),
            Secondaries(count) => return alloc::format!("secondaries: {}", count.words()),
            QuorumSecondaries(count) => return alloc::format!("secondaries in the quorum: {}", count.words()),
            NumberSyncStandbys(count) => return alloc::format!("number_sync_standbys: {}", count.words()),
            CitusWorker => "the group is a Citus worker",
            FailoverInProgress(true) => "a failover is in progress",
            FailoverInProgress(false) => "no failover is in progress",
            SameTimeline => "node and primary are on the same timeline",
            Within(Threshold::EnableSync) => "the node is within enable_sync_wal_log_threshold of the primary",
            Within(Threshold::Promote) => "the node is within promote_wal_log_threshold of the primary",
            WaitedDemoteTimeout => "the node has waited for primary_demote_timeout",
            SomeoneWaits => "another node converged to wait_standby",
            HealthyCandidate => "there is a healthy candidate",
            LastSyncStandby => "the node is the last healthy sync standby and number_sync_standbys is 0",
            NoWalSource => "no standby to fetch WAL from is healthy",
            GuardDataLoss(true) => "guard_data_loss is on",
            GuardDataLoss(false) => "guard_data_loss is off",
            ElectedWithAllWal(true) => "the election chose the node and it has all the WAL",
            ElectedWithAllWal(false) => "the election chose the node and it lacks WAL",
            Promotion(true) => "a node is being promoted",
            Promotion(false) => "no node is being promoted",
            Replaceable => "enough standbys are there to seal the primary off",
            HasPrimarysWal => "the node has reached the primary's last position",
            LeaseOver => "the old primary's read lease is over, or it has stopped",
            SealsEndDemoteTimeout => "seals_end_demote_timeout is on and enough standbys are cut off",
            Never => "never",
        };
        String::from(fixed)
    }
}
