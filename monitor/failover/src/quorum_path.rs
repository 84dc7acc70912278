//! Failover of a group of our keepers: by quorum intersection, at once.
//!
//! The primary is taken for dead on evidence (`suspicion.rs`). Its standbys are sealed, and as soon
//! as n-k+1 of every configuration that it may have in effect are, the best of them is promoted:
//! nobody waits for the old primary. `quorum.rs` has the argument. A switchover needs fewer seals:
//! the primary stops first, and whoever has its last record has everything.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::NodeState::*;
use crate::election;
use crate::facts::{self, converged, in_maintenance};
use crate::quorum::{self, Count};
use crate::rule::Section;
use crate::rules;
use crate::rules_engine::Scene;
use crate::state::Node;
use crate::values::{Lsn, NodeId};
use crate::view::{Member, View, node_text};

/// One step for the whole group. True when a failover is under way: nothing else is decided then.
pub(crate) fn run(view: &mut View) -> bool {
    if let Some(candidate) = view.candidate().filter(|member| !member.row.goal.is_writable()) {
        let id = candidate.row.id;
        if promote(view, id) {
            return true;
        }
    }
    if let Some(primary) = view.primary().map(|member| member.row.id) {
        if !view.member(primary).is_some_and(|member| view.is_unhealthy(member)) {
            return false;
        }
        if view.first_match_of(&[502, 504], &Scene::new(0, Some(primary))).is_none() {
            explain_why_not(view, primary);
            return false;
        }
    }
    let old = old_primary(view);
    if old.is_none() && !view.failover_in_progress() {
        return false;
    }
    if stepping_down(view, old) {
        return true;
    }
    elect(view, old);
    true
}

/// Helps the candidate on, or takes it back. False: it was taken back.
fn promote(view: &mut View, candidate: NodeId) -> bool {
    let old = old_primary(view).filter(|id| *id != candidate);
    let scene = Scene::new(candidate, old);
    if view.first_match_of(&[516, 518], &scene).is_some() {
        return false;
    }
    view.first_match_of(&[514, 524, 526, 528, 530], &scene);
    true
}

/// The node whose configurations count: the last one that may have taken writes.
fn old_primary(view: &View) -> Option<NodeId> {
    quorum::writer(view).or_else(|| view.primary_or_demoted()).map(|member| member.row.id)
}

/// A switchover: the primary stops while its standbys stream. True while it is under way.
fn stepping_down(view: &mut View, old: Option<NodeId>) -> bool {
    let Some(old) = old else { return false };
    let sealing = view.others(old).any(|member| facts::participating(&member.row));
    let leaving = view.member(old).is_some_and(|member| matches!(member.row.goal, Draining | PrepareMaintenance));
    if sealing || !leaving {
        return false;
    }
    if let Some(best) = switchover_target(view, old) {
        let scene = Scene::new(best, Some(old));
        if view.first_match_of(&[506], &scene).is_some() {
            election::reset_priorities(view);
            return true;
        }
    }
    view.first_match_of(&[508, 510, 512], &Scene::new(old, Some(old))).is_none()
}

/// Whom a switchover promotes: the highest priority, then who has the stopped primary's last record.
fn switchover_target(view: &View, old: NodeId) -> Option<NodeId> {
    let stopped = view.member(old).map(|member| position(member))?;
    view.others(old)
        .filter(|member| converged(&member.row, Secondary) && member.row.candidate_priority > 0)
        .filter(|member| view.is_healthy(member) && !view.is_unhealthy(member))
        .max_by_key(|member| {
            let there = position(member) >= stopped;
            (member.row.candidate_priority, there, position(member), Reverse(member.row.id))
        })
        .map(|member| member.row.id)
}

/// Gives every standby that can be sealed the goal to be (rows 367 to 374), the old primary excepted.
///
/// A primary that was replaced before is none of them until it follows: all that it acknowledged is on
/// others, and its timeline may have the number of a later one. A node picks the next number that it
/// knows to be free, so that two which were promoted one after the other, without having heard of each
/// other, pick the same; their positions cannot be compared.
pub(crate) fn ask_to_seal(view: &mut View, old: Option<NodeId>) {
    let replaced = |row: &Node| old.is_some() && matches!(row.reported, Draining | DemoteTimeout | Demoted);
    for id in view.ids() {
        let left_out = |member: &Member| in_maintenance(&member.row) || replaced(&member.row);
        if Some(id) == old || view.member(id).is_some_and(left_out) {
            continue;
        }
        seal(view, id);
    }
}

/// The old primary, once it has stopped, is started as a sealed standby.
fn seal_old(view: &mut View, old: Option<NodeId>) -> bool {
    old.is_some_and(|old| seal(view, old))
}

fn seal(view: &mut View, id: NodeId) -> bool {
    let scene = Scene::new(id, None);
    let mut rows = rules::of(Section::Election).filter(|rule| (367..=374).contains(&rule.pos));
    rows.any(|rule| view.holds(&scene, rule) && view.fire(&scene, rule))
}

/// How far a node got: the timeline counts first.
fn position(member: &Member) -> (i32, Lsn) {
    (if mistake!(ComparesRawLsn) { 1 } else { member.row.timeline }, member.row.lsn)
}

/// Seals who is not sealed yet, counts, and chooses.
fn elect(view: &mut View, old: Option<NodeId>) {
    ask_to_seal(view, old);
    let count = quorum::count(view);
    let enough = count.standbys || count.old_primary;
    if !enough {
        // The old primary itself has everything, once it is stopped and sealed.
        seal_old(view, old);
        tell_what_is_missing(view, old, &count);
        if view.settings.guard_data_loss {
            return;
        }
    }
    let Some((best, sealed)) = best_of(view, old, &count) else {
        seal_old(view, old);
        return;
    };
    let mut selected = election::select(view, &sealed, best);
    if selected.is_none() {
        // The old primary may be the only one that is fit.
        if seal_old(view, old) {
            return;
        }
        if old.is_some_and(|old| sealed.contains(&old) && nobody_else_comes(view, old)) {
            // A switchover lowered its priority so that another one would win.
            election::reset_priorities(view);
            selected = election::select(view, &sealed, best);
        }
    }
    let Some(selected) = selected else {
        say(view, old, "No sealed node can be promoted: see their health, candidate priorities and timelines");
        return;
    };
    let mut all_wal = view.member(selected).is_some_and(|member| position(member) == best);
    let has_it = |view: &View, member: &Member| {
        converged(&member.row, ReportLsn) && position(member) == best && view.is_healthy(member)
    };
    if !all_wal && !view.others(selected).any(|member| has_it(view, member)) {
        // The furthest may be the old primary, stopped: it is started as a sealed standby.
        let started = seal_old(view, old);
        if !started {
            let text = alloc::format!("No healthy node to fetch WAL up to {} on timeline {} from", best.1, best.0);
            say(view, old, &text);
        }
        if view.settings.guard_data_loss {
            return;
        }
        all_wal = true;
    }
    election::reset_priorities(view);
    let mut scene = Scene::new(selected, old);
    scene.elected_with_all_wal = Some(all_wal);
    scene.reason = alloc::format!("{}: {}", why_enough(view, &count), why_this_one(view, selected));
    view.first_match_of(&[520, 522], &scene);
}

/// Whether a switchover is without a candidate: none that may be promoted reports any more.
fn nobody_else_comes(view: &View, old: NodeId) -> bool {
    let patience_us = view.settings.missed_reports_timeout_ms.saturating_mul(1000);
    !view.others(old).any(|member| {
        member.row.candidate_priority > 0
            && !in_maintenance(&member.row)
            && !view.is_unhealthy(member)
            && view.since_us(member.seen.report) <= patience_us
    })
}

/// The furthest position of those that are sealed, and who may stand for election.
fn best_of(view: &mut View, old: Option<NodeId>, count: &Count) -> Option<((i32, Lsn), Vec<NodeId>)> {
    let mut best: Option<(i32, Lsn)> = None;
    let mut sealed = Vec::new();
    for id in view.ids() {
        let Some(member) = view.member(id) else { continue };
        let counts = quorum::is_sealed(&member.row)
            // A stopped primary that is not needed may be ahead by what nobody acknowledged.
            || (Some(id) == old && !count.standbys && quorum::is_stopped(&member.row));
        if !counts {
            continue;
        }
        if !mistake!(ComparesRawLsn) && view.off_lineage(id) {
            let text = alloc::format!("{} is on a timeline that the group has left", node_text(&member.row));
            view.messages.push(text);
            continue;
        }
        best = best.max(Some(position(member)));
        if converged(&member.row, ReportLsn) && facts::has_heard_goal(&member.row) {
            sealed.push(id);
        }
    }
    best.map(|best| (best, sealed))
}

fn why_enough(view: &View, count: &Count) -> String {
    match (count.standbys, count.old_primary, view.settings.guard_data_loss) {
        (true, ..) => String::from("now that enough standbys are sealed"),
        (_, true, _) => String::from("now that the old primary has stopped and is sealed"),
        (_, _, false) => String::from("although acknowledged writes may be lost, as the operator accepts"),
        _ => String::from("now"),
    }
}

fn why_this_one(view: &View, id: NodeId) -> String {
    view.member(id).map_or_else(String::new, |member| {
        alloc::format!(
            "candidate priority {}, timeline {}, LSN {}",
            member.row.candidate_priority,
            member.row.timeline,
            member.row.lsn
        )
    })
}

/// Whether the primary could be replaced if it were sealed off now; see [`crate::condition::GroupTest`].
pub(crate) fn replaceable(view: &View, primary: Option<NodeId>) -> bool {
    let Some(primary) = primary.and_then(|id| view.member(id)) else { return false };
    let usable = |member: &Member| !view.is_unhealthy(member) && !in_maintenance(&member.row);
    let successor = view.others(primary.row.id).any(|member| {
        usable(member)
            && member.row.candidate_priority > 0
            && matches!(member.row.reported, Secondary | Catchingup | ReportLsn | JoinSecondary)
    });
    if !successor {
        return false;
    }
    let reports = primary.seen.report.is_some()
        && view.since_us(primary.seen.report) <= view.settings.suspicion_timeout_ms.saturating_mul(1000);
    let sealable = |set: &crate::state::SyncSet| {
        let able = |member: &Member| usable(member) && member.row.id != primary.row.id;
        quorum::suffices(set, quorum::votes(view, primary.row.id, set, able))
    };
    reports || (!primary.row.sync_sets.is_empty() && primary.row.sync_sets.iter().all(sealable))
}

/// The primary is taken for dead, and nobody could replace it without a risk.
fn explain_why_not(view: &mut View, primary: NodeId) {
    let Some(member) = view.member(primary) else { return };
    let Some(evidence) = view.evidence(member) else { return };
    let risk = quorum::statement(view).join("; ");
    let text = alloc::format!("Not replacing {}, although {evidence}: {risk}", node_text(&member.row));
    view.event_once(primary, &text);
}

fn tell_what_is_missing(view: &mut View, old: Option<NodeId>, count: &Count) {
    if count.nothing_known {
        say(view, old, "Failover still in progress: waiting for every standby of the quorum to be sealed");
        return;
    }
    // While seals are still coming in, there is nothing to complain about.
    let coming = |id: &NodeId| {
        view.member(*id).is_some_and(|member| member.row.goal == ReportLsn && !view.is_unhealthy(member))
    };
    if count.missing.iter().all(coming) && count.possible {
        return;
    }
    let text = alloc::format!("Failover still in progress: {}", quorum::statement(view).join("; "));
    say(view, old, &text);
}

/// A message that is an event too, written once.
fn say(view: &mut View, about: Option<NodeId>, text: &str) {
    let about = about.or_else(|| view.ids().first().copied());
    if let Some(id) = about {
        view.event_once(id, text);
    }
}
