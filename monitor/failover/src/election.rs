//! The election of a failover candidate in a group of more than two nodes.
//!
//! Every standby is sealed first (`report_lsn`: its keeper cuts it off from the primary before it
//! reads the position), then the candidate is chosen by priority, and gets what it lacks from a
//! standby that has it. Where acknowledged writes may be out of reach, nothing is chosen.

use alloc::string::String;
use alloc::vec::Vec;

use crate::NodeState::*;
use crate::facts::{self, converged};
use crate::quorum;
use crate::rule::Section;
use crate::rules;
use crate::rules_engine::Scene;
use crate::values::{Lsn, NodeId};
use crate::view::{Member, View, node_text};

/// What `perform_promotion` adds to the target's candidate priority and `perform_failover` takes
/// from the old primary's, until the election is over (upstream's CANDIDATE_PRIORITY_INCREMENT).
pub(crate) const PRIORITY_INCREMENT: i32 = 101;
/// The highest candidate priority that an operator may set.
pub(crate) const MAX_PRIORITY: i32 = 100;

/// How far a node got: the timeline counts first.
fn position(member: &Member) -> (i32, Lsn) {
    (member.row.timeline, member.row.lsn)
}

/// Who stands for election, and who is being waited for.
#[derive(Default)]
struct Ballot {
    candidates: Vec<NodeId>,
    /// Candidates that count towards number_sync_standbys.
    quorum_candidates: usize,
    /// Nodes that report, and have not reported their LSN yet.
    waiting: usize,
    /// Quorum standbys that are gone and were not sealed.
    silent: Vec<NodeId>,
}

/// One step of the election. True when it decided something; false when it declines, and the rows
/// after 305 are tried.
pub(crate) fn run(view: &mut View, active: NodeId, primary: Option<NodeId>) -> bool {
    if let Some(candidate) = view.candidate().map(|member| member.row.id) {
        match follow_candidate(view, active, candidate) {
            Some(decided) => return decided,
            None => log(view, active, "found the failover candidate gone; electing again"),
        }
    }
    // A new primary that has not been found healthy yet is none to be replaced.
    let primary_lives =
        view.primary().is_some_and(|member| !view.is_unhealthy(member) && facts::in_primary_state(&member.row));
    if primary_lives {
        return false;
    }
    let ballot = call(view);
    if !complete(view, active, &ballot) {
        return false;
    }
    elect(view, active, primary, &ballot)
}

/// A candidate is chosen already: help it, or take it back. `None`: it was taken back.
fn follow_candidate(view: &mut View, active: NodeId, candidate: NodeId) -> Option<bool> {
    if candidate != active {
        for pos in [362, 364] {
            let Some(rule) = rules::by_pos(pos) else { continue };
            let scene = Scene::new(candidate, None);
            if view.holds(&scene, rule) && view.fire(&scene, rule) {
                return None;
            }
        }
    } else if let Some(rule) = rules::by_pos(363) {
        let scene = Scene::new(active, None);
        if view.holds(&scene, rule) && view.fire(&scene, rule) {
            return Some(true);
        }
    }
    let reported = view.member(active).is_some_and(|member| converged(&member.row, ReportLsn));
    let streams = view.member(candidate).is_some_and(|member| facts::ready_to_stream(&member.row));
    if let (true, true, Some(rule)) = (reported, streams, rules::by_pos(365)) {
        return Some(view.fire(&Scene::new(active, None), rule));
    }
    Some(false)
}

/// Asks every standby for its position, and counts the answers that are there.
fn call(view: &mut View) -> Ballot {
    let mut ballot = Ballot::default();
    for id in view.ids() {
        let Some(member) = view.member(id) else { continue };
        let row = &member.row;
        let primary = facts::in_primary_state(row) || facts::being_demoted(row) || facts::demoted_primary(row);
        let stopped = [Draining, DemoteTimeout, Demoted].into_iter().any(|state| converged(row, state));
        if primary && !stopped {
            continue;
        }
        if view.off_lineage(id) {
            let text = alloc::format!("Skipping candidate {}, whose timeline the group has left", node_text(row));
            view.messages.push(text);
            continue;
        }
        if view.is_silent(member) {
            // The former primary is not among those that its own commits waited for.
            let former = facts::former_primary(row) || row.reported.is_writable();
            if row.replication_quorum && row.reported != ReportLsn && !former {
                ballot.silent.push(id);
            }
            continue;
        }
        if converged(row, ReportLsn) {
            if row.replication_quorum || view.formation.number_sync_standbys == 0 {
                ballot.quorum_candidates += 1;
            }
            ballot.candidates.push(id);
            continue;
        }
        // One on its way to maintenance streams until it has said that it stopped.
        let streams = matches!(row.reported, Secondary | Catchingup);
        if row.goal == ReportLsn || (row.replication_quorum && streams && facts::in_maintenance(row)) {
            ballot.waiting += 1;
            continue;
        }
        let scene = Scene::new(id, None);
        let rows = rules::of(Section::Election).filter(|rule| (367..=374).contains(&rule.pos));
        for rule in rows {
            if view.holds(&scene, rule) && view.fire(&scene, rule) {
                ballot.waiting += 1;
                break;
            }
        }
    }
    ballot
}

/// Whether enough nodes have reported to choose one without losing an acknowledged write.
fn complete(view: &mut View, active: NodeId, ballot: &Ballot) -> bool {
    let missing = ballot.waiting + ballot.silent.len();
    let loss_free = ballot.waiting == 0 && quorum::loss_free(view, &ballot.silent);
    if !loss_free {
        let text = alloc::format!(
            "Failover still in progress after {} nodes reported their LSN and we are waiting for {} nodes to report",
            ballot.candidates.len(),
            missing
        );
        log(view, active, &text);
        if view.settings.guard_data_loss {
            return false;
        }
        warn(view, "guard_data_loss is off: going on without them, acknowledged writes may be lost");
    }
    if ballot.candidates.is_empty() {
        return false;
    }
    let required = usize::try_from(view.formation.number_sync_standbys).unwrap_or(0).saturating_add(1);
    if ballot.quorum_candidates < required {
        let text = alloc::format!(
            "Failover still in progress with {} candidates that participate in the quorum having reported their LSN: \
             {required} nodes are required in the quorum to satisfy number_sync_standbys={} in formation \"{}\"",
            ballot.quorum_candidates,
            view.formation.number_sync_standbys,
            view.formation.id
        );
        log(view, active, &text);
        if view.settings.guard_data_loss {
            return false;
        }
    }
    true
}

/// Chooses the candidate and gives it its goal.
fn elect(view: &mut View, active: NodeId, primary: Option<NodeId>, ballot: &Ballot) -> bool {
    // A former primary that does not stand for election need not be reached: what it has beyond its
    // sealed standbys was never acknowledged synchronously. Nor need a candidate that was demoted
    // before it took writes.
    let former = |row: &crate::Node| {
        row.reported.belongs_to_primary()
            || row.reported == Demoted
            || row.goal == Demoted
            || (!row.sync_sets.is_empty() && facts::in_maintenance(row))
    };
    let best = view
        .list()
        .filter(|member| !former(&member.row))
        .max_by_key(|member| position(member))
        .map(|member| (position(member), member.row.id));
    let Some((best, best_id)) = best else { return false };
    if !close_enough(view, primary, best_id) {
        return false;
    }
    let Some(selected) = select(view, &ballot.candidates, best) else {
        let text = alloc::format!(
            "Failover still in progress after all {} candidate nodes reported their LSN and we failed to select one of \
             them",
            ballot.candidates.len()
        );
        log(view, active, &text);
        return false;
    };
    let mut all_wal = view.member(selected).is_some_and(|member| position(member) == best);
    let source = view.others(selected).any(|member| {
        converged(&member.row, ReportLsn) && position(member) == best && view.is_healthy(member)
    });
    if !all_wal && !source {
        let name = view.member(selected).map_or_else(String::new, |member| node_text(&member.row));
        let text = alloc::format!(
            "The selected candidate {name} needs to fetch missing WAL to reach LSN {} and none of the most advanced \
             standby nodes are healthy at the moment.",
            best.1
        );
        warn(view, &text);
        if view.settings.guard_data_loss {
            return false;
        }
        warn(view, "guard_data_loss is off: promoting it without that WAL, acknowledged writes may be lost");
        all_wal = true;
    }
    reset_priorities(view);
    let mut scene = Scene::new(selected, primary);
    scene.elected_with_all_wal = Some(all_wal);
    let reported = ballot.candidates.len();
    let unhealthy = primary.and_then(|id| view.member(id)).map(|member| node_text(&member.row));
    scene.reason = match unhealthy {
        Some(name) => {
            alloc::format!("after {name} became unhealthy and {reported} nodes reported their LSN position.")
        }
        None if all_wal => alloc::format!("and {reported} nodes reported their LSN position."),
        None => alloc::format!("after {reported} nodes reported their LSN position."),
    };
    let mut first = |numbers: [u16; 2]| {
        let mut rows = numbers.into_iter().filter_map(rules::by_pos);
        rows.find(|rule| view.holds(&scene, rule)).is_some_and(|rule| view.fire(&scene, rule))
    };
    let elected = first([375, 377]);
    if elected && primary != Some(selected) {
        first([376, 378]);
    }
    elected
}

/// Refuses when even the best standby is too far behind the old primary.
fn close_enough(view: &mut View, primary: Option<NodeId>, best: NodeId) -> bool {
    let Some(old) = primary.and_then(|id| view.member(id)) else { return true };
    let Some(member) = view.member(best) else { return true };
    let threshold = view.settings.promote_wal_log_threshold;
    if view.within(Some(member), Some(old), threshold) {
        return true;
    }
    let text = alloc::format!(
        "One of the most advanced standby nodes in the group is {} with reported LSN {}, which is more than \
         pgautofailover.promote_wal_log_threshold ({threshold}) behind the primary {}, which has reported {}",
        node_text(&member.row),
        member.row.lsn,
        node_text(&old.row),
        old.row.lsn
    );
    warn(view, &text);
    !view.settings.guard_data_loss
}

/// The candidate with the highest priority and, among those, the furthest; then the lowest id.
pub(crate) fn select(view: &mut View, candidates: &[NodeId], best: (i32, Lsn)) -> Option<NodeId> {
    let history_known = view.history_known(best.0);
    let mut fit = Vec::new();
    for id in candidates {
        let Some(member) = view.member(*id) else { continue };
        if member.row.candidate_priority <= 0 {
            continue;
        }
        if view.is_unhealthy(member) {
            let text =
                alloc::format!("Not selecting failover candidate {} because it is unhealthy", node_text(&member.row));
            view.messages.push(text);
            continue;
        }
        fit.push((*id, member.row.candidate_priority, position(member)));
    }
    let pick = |allowed: &dyn Fn((i32, Lsn)) -> bool| {
        let mut chosen: Option<(NodeId, i32, (i32, Lsn))> = None;
        for entry in fit.iter().filter(|entry| allowed(entry.2)) {
            if chosen.is_none_or(|kept| (entry.1, entry.2) > (kept.1, kept.2)) {
                chosen = Some(*entry);
            }
        }
        chosen.map(|entry| entry.0)
    };
    // A node on an older timeline may have diverged from the newest one. With the history known,
    // the ones that have are off the ballot. Without it, a node on the newest timeline is preferred,
    // and one that is further than the newest timeline got is never chosen.
    pick(&|at| at.0 == best.0 || history_known).or_else(|| pick(&|at| at.0 < best.0 && at.1 <= best.1))
}

/// Takes back what `perform_failover` and `perform_promotion` did to candidate priorities. All nodes
/// of the group: upstream forgets those that were not candidates in the end.
pub(crate) fn reset_priorities(view: &mut View) {
    let rule = rules::by_pos(375);
    for id in view.ids() {
        let Some(member) = view.member(id) else { continue };
        let priority = match member.row.candidate_priority {
            raised if raised > MAX_PRIORITY => raised.saturating_sub(PRIORITY_INCREMENT),
            lowered if lowered < 0 => lowered.saturating_add(PRIORITY_INCREMENT),
            _ => continue,
        };
        set_priority(view, id, priority.clamp(0, MAX_PRIORITY), "Updating candidate priority back to", rule);
    }
}

/// Changes a candidate priority and writes the event about it.
pub(crate) fn set_priority(
    view: &mut View,
    id: NodeId,
    priority: i32,
    words: &str,
    rule: Option<&'static crate::rule::Rule>,
) {
    let Some(member) = view.change(id) else { return };
    member.row.candidate_priority = priority;
    let text = alloc::format!("{words} {priority} for {}", node_text(&member.row));
    view.event(id, &text, rule);
}

fn log(view: &mut View, active: NodeId, text: &str) {
    let Some(row) = view.member(active).map(|member| &member.row) else { return };
    let line =
        alloc::format!("{text}, activeNode is {} and reported state \"{}\"", node_text(row), row.reported);
    warn(view, &line);
}

/// Rows 305 and 313 may both get here in one call: what is said already is not repeated.
fn warn(view: &mut View, text: &str) {
    if !view.messages.iter().any(|message| message == text) {
        view.messages.push(String::from(text));
    }
}
