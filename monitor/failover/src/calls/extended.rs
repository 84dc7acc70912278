//! What our keepers' reports carry beyond upstream's, and the answer that they get.

use alloc::string::String;

use crate::NodeState::*;
use crate::command::NodeActive;
use crate::extended::{Extended, ExtendedGoal, Upstream};
use crate::facts;
use crate::observation::Stamp;
use crate::outcome::Change;
use crate::queries::standby_names;
use crate::quorum;
use crate::state::{Generation, Node, TimelineFork};
use crate::values::NodeId;
use crate::view::{Member, View};

/// Takes in the second half of a report. Called before the rules run.
pub(crate) fn take_in(view: &mut View, report: &NodeActive, extended: &Extended) {
    let stamp = Stamp::from(view.now);
    let Some(member) = view.change(report.id) else { return };
    member.seen.down = match report.pg_is_running {
        true => None,
        false => member.seen.down.or(Some(stamp)),
    };
    let row = &mut member.row;
    row.generation = Generation::Pgquorum;
    row.epoch = row.epoch.max(extended.epoch);
    row.sync_version = row.sync_version.max(extended.sync_version);
    row.postgres_end = extended.postgres_end;
    // A seal that was reported before the present goal was given may have been undone since.
    let promoting = |state| matches!(state, FastForward | PreparePromotion);
    let kept = row.sealed && promoting(report.state) && promoting(row.goal);
    row.sealed = kept || (extended.sealed && extended.epoch >= row.goal_epoch);
    member.seen.upstream = extended.upstream;
    member.seen.standbys_streaming = extended.standbys_streaming;
    member.seen.transactions = extended.transactions;
    for line in &extended.timeline_history {
        let fork = TimelineFork {
            node: report.id,
            timeline: line.timeline,
            parent: line.parent,
            switchpoint: line.switchpoint,
        };
        if view.state.timeline_history.binary_search(&fork).is_err() {
            view.extra.push(Change::PutTimelineFork(fork));
        }
    }
}

/// The answer to `pgquorum.node_active`.
pub(crate) fn answer(view: &View, report: &NodeActive) -> ExtendedGoal {
    let goal = super::report::assigned(view, report.id, report);
    let newest = view.member(report.id).and_then(|member| member.row.sync_sets.last());
    let upstream = view.list().find(|member| member.row.goal.is_writable() && member.row.id != report.id);
    let upstream = upstream.or_else(|| successor(view, report.id));
    let timeline = view.member(report.id).map_or(0, |member| member.row.timeline);
    ExtendedGoal {
        epoch: view.group_row.epoch,
        sync_version: newest.map_or(0, |set| set.version),
        synchronous_standby_names: newest.map_or_else(String::new, |set| standby_names(set.required, &set.standbys)),
        lease_ms: if grants_lease(view, report.id) { i32::try_from(view.settings.read_lease_ms).unwrap_or(0) } else { 0 },
        primary: upstream.map(|member| Upstream {
            id: member.row.id,
            host: member.row.host.clone(),
            port: member.row.port,
        }),
        checkpoint_now: view.on_quorum_path()
            && matches!(goal.goal, Draining | PrepareMaintenance)
            && report.pg_is_running
            && report.state.is_writable(),
        want_history: goal.goal != Dropped && timeline > 1 && !knows_history(view, report.id, timeline),
        goal,
    }
}

/// The node that a switchover promotes, for the standbys that are to follow it: they stream from it
/// before it takes writes, so that its first commit waits for nobody to connect. The old primary has
/// stopped with nothing that the candidate lacks, and acknowledges no more.
fn successor<'a, 'b>(view: &'b View<'a>, id: NodeId) -> Option<&'b Member<'a>> {
    let follows = view.member(id).is_some_and(|member| member.row.goal == Secondary);
    let stopped = quorum::writer(view).is_some_and(|old| quorum::is_stopped(&old.row));
    let mut candidates = view.others(id).filter(|member| member.row.goal == PreparePromotion);
    candidates.next().filter(|_| follows && stopped && view.on_quorum_path())
}

/// The lease of a primary of the newest epoch, in a group that fails over by quorum. The leader
/// remembers it for as long as it may be held. A primary that is to stop for a switchover keeps it until
/// it has: clients are served until then, and its stop is to be an orderly one.
pub(crate) fn grants_lease(view: &View, id: NodeId) -> bool {
    let electing = view.candidate().is_some_and(|member| member.row.id != id);
    let sealing = view.others(id).any(|member| facts::participating(&member.row));
    let serves = |row: &Node| {
        let leaving = matches!(row.goal, Draining | PrepareMaintenance) && !sealing;
        row.reported.is_writable() && (row.goal.is_writable() || leaving)
    };
    view.on_quorum_path() && !electing && view.member(id).is_some_and(|member| serves(&member.row))
}

/// Whether this node has told the history of its timeline.
fn knows_history(view: &View, id: NodeId, timeline: i32) -> bool {
    let told = |fork: &TimelineFork| fork.node == id && fork.timeline == timeline;
    let now = view.extra.iter().any(|change| matches!(change, Change::PutTimelineFork(fork) if told(fork)));
    now || view.state.timeline_history.iter().any(told)
}
