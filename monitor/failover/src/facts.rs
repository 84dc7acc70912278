//! What the rules take as given about a node or a group: upstream's predicates.

use crate::NodeState::{self, *};
use crate::PostgresEnd;
use crate::observation::Stamp;
use crate::state::{Generation, Node};
use crate::values::{Health, Lsn, NodeId};
use crate::view::{Member, View};

/// A verdict of the probe is overruled by a report that is newer than it and this young
/// (upstream's constant, microseconds).
const FRESH_REPORT_US: i64 = 1_000_000;

/// The worst time from the end of a lease until no session returns a result any more (measured: 7 to
/// 24 ms for a shutdown by the guardian).
const FENCING_MS: i64 = 100;
/// Clocks run apart by at most this many per cent.
const CLOCK_ERROR: i64 = 1;

/// How long a lease must be assumed to be held, from its grant on: `(T_k + F)(1 + r)/(1 - r)`, rounded
/// up to 50 ms. 1150 ms for a lease of a second; 0 without leases.
pub fn held_lease_ms(lease_ms: i64) -> i64 {
    if lease_ms <= 0 {
        return 0;
    }
    let scaled = lease_ms.saturating_add(FENCING_MS).saturating_mul(100 + CLOCK_ERROR);
    let exact = scaled.saturating_add(99 - CLOCK_ERROR) / (100 - CLOCK_ERROR);
    exact.saturating_add(49) / 50 * 50
}

/// Reported and assigned state are both `state`.
pub(crate) fn converged(row: &Node, state: NodeState) -> bool {
    row.goal == state && row.reported == state
}

/// Takes writes, or did and will after a change of settings.
pub(crate) fn in_primary_state(row: &Node) -> bool {
    (row.reported == row.goal && row.goal.is_writable())
        || (matches!(row.goal, ApplySettings | Primary) && matches!(row.reported, ApplySettings | Primary))
}

/// Our keepers: it has reported since it heard of its goal. Until then it may still be where an
/// earlier goal has led it, and some ways begin elsewhere.
pub(crate) fn has_heard_goal(row: &Node) -> bool {
    row.epoch >= row.goal_epoch
}

/// A primary on its way out.
pub(crate) fn being_demoted(row: &Node) -> bool {
    row.reported.belongs_to_primary() && matches!(row.goal, Draining | DemoteTimeout | PrepareMaintenance)
}

/// A primary that is, or is about to be, demoted.
pub(crate) fn demoted_primary(row: &Node) -> bool {
    row.goal == Demoted && (row.reported.belongs_to_primary() || row.reported == Demoted)
}

/// The failover candidate, between its election and its first write. (Upstream does not count the
/// candidate of two nodes before it has reported `prepare_promotion`.)
pub(crate) fn being_promoted(row: &Node) -> bool {
    // A report that was overtaken must not make a second candidate of another node: for keepers of ours
    // the goal alone tells.
    let told = row.generation == Generation::Pgquorum && matches!(row.goal, FastForward | PreparePromotion);
    told || matches!(
        (row.reported, row.goal),
        (ReportLsn | FastForward, FastForward | PreparePromotion)
            | (Secondary | Catchingup, PreparePromotion)
            | (PreparePromotion, PreparePromotion | StopReplication | WaitPrimary)
            | (StopReplication, StopReplication | WaitPrimary)
    )
}

/// The candidate has got so far that standbys may stream from it soon.
pub(crate) fn ready_to_stream(row: &Node) -> bool {
    matches!(
        (row.reported, row.goal),
        (PreparePromotion | StopReplication, StopReplication | WaitPrimary)
            | (WaitPrimary, WaitPrimary | Primary)
            | (Primary, Primary)
    )
}

/// Takes part in a failover.
pub(crate) fn participating(row: &Node) -> bool {
    let electing = |state| matches!(state, ReportLsn | JoinSecondary);
    being_promoted(row) || electing(row.reported) || electing(row.goal)
}

/// Whether a seal outlasts this change of goal: the node takes WAL from no primary all the while.
pub(crate) fn keeps_seal(before: NodeState, goal: NodeState) -> bool {
    let electing = |state| matches!(state, ReportLsn | FastForward | PreparePromotion);
    let stopping = |state| matches!(state, Draining | DemoteTimeout | Demoted | PrepareMaintenance);
    (electing(before) && electing(goal)) || (stopping(before) && stopping(goal))
}

/// Whether a goal is about who may write: it is given in an epoch of its own, so that no report from
/// before it can be taken for an answer to it.
pub(crate) fn asks_for_epoch(before: NodeState, goal: NodeState) -> bool {
    matches!(goal, ReportLsn | FastForward | Draining | DemoteTimeout | Demoted | PrepareMaintenance)
        || (goal == PreparePromotion && before != FastForward)
}

/// In maintenance or on the way to it.
pub(crate) fn in_maintenance(row: &Node) -> bool {
    matches!(row.goal, PrepareMaintenance | WaitMaintenance | Maintenance)
}

/// A former primary that has stopped, or stops: its own WAL beyond its standbys' was never
/// acknowledged synchronously.
pub(crate) fn former_primary(row: &Node) -> bool {
    matches!(row.reported, Draining | DemoteTimeout | Demoted)
}

impl View<'_> {
    /// Microseconds since a stamp; silence that this leader has not witnessed counts from its election.
    pub fn since_us(&self, stamp: Option<Stamp>) -> i64 {
        self.now.mono_us.saturating_sub(stamp.map_or(self.leader_since_us, |stamp| stamp.mono_us))
    }

    fn longer_than(&self, stamp: Option<Stamp>, milliseconds: i64) -> bool {
        self.since_us(stamp) > milliseconds.saturating_mul(1000)
    }

    /// Has reported within `node_considered_unhealthy_timeout`.
    pub fn is_reporting(&self, member: &Member) -> bool {
        !self.longer_than(member.seen.report, self.settings.node_considered_unhealthy_timeout_ms)
    }

    /// Fit to act. A bad verdict is overruled by a report that is newer; without any verdict the
    /// keeper's word counts. (2.0 has the freshness test inverted and calls an unprobed node unfit.)
    pub fn is_healthy(&self, member: &Member) -> bool {
        match member.row.health {
            Health::Unknown => member.row.pg_is_running,
            Health::Good => member.row.pg_is_running,
            Health::Bad => {
                let checked = member.seen.health_check.map_or(self.leader_since_us, |stamp| stamp.mono_us);
                let overruled = member.seen.report.is_some_and(|report| report.mono_us > checked)
                    && self.since_us(member.seen.report) < FRESH_REPORT_US;
                overruled && member.row.pg_is_running
            }
        }
    }

    /// Bad enough to act upon: its keeper says that PostgreSQL is down, or neither keeper nor
    /// PostgreSQL has answered for long enough. Not the opposite of [`View::is_healthy`].
    pub fn is_unhealthy(&self, member: &Member) -> bool {
        if self.on_quorum_path() {
            return self.evidence(member).is_some();
        }
        if !member.row.pg_is_running {
            return true;
        }
        let checked_by_us = member.seen.health_check.is_some_and(|stamp| stamp.mono_us >= self.leader_since_us);
        member.row.health == Health::Bad
            && checked_by_us
            && !self.is_reporting(member)
            && self.longer_than(None, self.settings.startup_grace_period_ms)
    }

    /// Unhealthy, and its keeper does not report either.
    pub fn is_silent(&self, member: &Member) -> bool {
        self.is_unhealthy(member) && !self.is_reporting(member)
    }

    /// Has reported since its state or goal last changed. After a change of leader, any report counts.
    pub fn is_confirmed(&self, member: &Member) -> bool {
        let changed = member.seen.state_change.map(|stamp| stamp.mono_us);
        member.seen.report.is_some_and(|report| changed.is_none_or(|changed| report.mono_us >= changed))
    }

    /// Goal `demote_timeout` for longer than `primary_demote_timeout`.
    pub fn drain_time_expired(&self, member: &Member) -> bool {
        member.row.goal == DemoteTimeout && self.waited_demote_timeout(member)
    }

    /// No change of state for longer than `primary_demote_timeout`.
    pub fn waited_demote_timeout(&self, member: &Member) -> bool {
        self.longer_than(member.seen.state_change, self.settings.primary_demote_timeout_ms)
    }

    /// Whether an old primary's read lease has ended: it has stopped, by its keeper's word or its seal, or
    /// the longest lease that it can hold is over. Leases of earlier leaders are not known: they count
    /// from this leader's election.
    pub fn lease_over(&self, old: &Member) -> bool {
        let stopped = old.row.sealed || (!old.row.pg_is_running && old.row.postgres_end != PostgresEnd::None);
        let held_ms = held_lease_ms(self.settings.read_lease_ms);
        let granted = old.seen.lease.map_or(self.leader_since_us, |stamp| stamp.mono_us.max(self.leader_since_us));
        stopped || held_ms == 0 || self.now.mono_us.saturating_sub(granted) >= held_ms.saturating_mul(1000)
    }

    /// The first node whose goal is a writable state, whatever it reports.
    pub fn primary(&self) -> Option<&Member<'_>> {
        self.list().find(|member| member.row.goal.is_writable())
    }

    /// The primary or, without one, the node that was the primary last: one that is being demoted
    /// rather than one that has been.
    pub fn primary_or_demoted(&self) -> Option<&Member<'_>> {
        if let Some(primary) = self.primary() {
            return Some(primary);
        }
        let (mut found, mut on_its_way) = (None, false);
        for member in self.list() {
            let row = &member.row;
            if !row.reported.belongs_to_primary() && row.reported != Demoted {
                continue;
            }
            if being_demoted(row) {
                on_its_way = true;
            } else if on_its_way && (demoted_primary(row) || row.reported == Demoted) {
                continue;
            }
            found = Some(member);
        }
        found
    }

    /// The node being promoted.
    pub fn candidate(&self) -> Option<&Member<'_>> {
        self.list().find(|member| being_promoted(&member.row))
    }

    /// Whether some node takes part in a failover; nodes in maintenance do not count.
    pub fn failover_in_progress(&self) -> bool {
        self.list().any(|member| !in_maintenance(&member.row) && participating(&member.row))
    }

    /// Whether `node` is at most `bytes` behind `primary`. A node that is missing is no obstacle, a
    /// position that is not known is. A primary that this leader has not heard from may be far ahead
    /// of what is stored: then only a standby that it waited for is close enough.
    pub fn within(&self, node: Option<&Member>, primary: Option<&Member>, bytes: u64) -> bool {
        let (Some(node), Some(primary)) = (node, primary) else { return true };
        if node.row.lsn == Lsn::ZERO || primary.row.lsn == Lsn::ZERO {
            return false;
        }
        let close = primary.row.lsn.0.saturating_sub(node.row.lsn.0) <= bytes;
        close && (primary.seen.report.is_some() || node.row.replication_quorum)
    }

    /// Whether a node of the group has reported where this timeline forked off.
    pub fn history_known(&self, timeline: i32) -> bool {
        let forks = &self.state.timeline_history;
        forks.iter().any(|fork| fork.timeline == timeline && self.member(fork.node).is_some())
    }

    /// Whether the node's timeline is one that the group has left. Only decided when the history of
    /// the group's newest timeline has been reported.
    pub fn off_lineage(&self, id: NodeId) -> bool {
        let Some(member) = self.member(id) else { return false };
        let reference = self.list().map(|member| member.row.timeline).max().unwrap_or(0);
        let fork_of = |timeline| {
            self.state
                .timeline_history
                .iter()
                .find(|fork| fork.timeline == timeline && self.member(fork.node).is_some())
        };
        if member.row.timeline <= 0 || member.row.timeline == reference || fork_of(reference).is_none() {
            return false;
        }
        let mut timeline = reference;
        // Parents are older than their children: the walk ends.
        while let Some(fork) = fork_of(timeline).filter(|fork| fork.parent < timeline) {
            if fork.parent == member.row.timeline {
                return member.row.lsn > fork.switchpoint;
            }
            timeline = fork.parent;
        }
        true
    }
}
