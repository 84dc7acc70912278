//! Whom a primary may be waiting for, and which silent standbys an election can do without.
//!
//! A primary's row lists every synchronous configuration that it may have in effect: a changed one
//! is added when it is decided, and the old ones go when the primary has confirmed that it applied a
//! newer one (it fetches `synchronous_standby_names` on its way to `primary`).
//!
//! **Pigeonhole.** Let S be the standbys of a configuration, n of them, k of which acknowledge each
//! commit. Let m of S not be sealed. A commit that was acknowledged is on some k of S. The sealed
//! ones are n - m. If m <= k - 1 then k + (n - m) > n, so at least one sealed standby has the commit;
//! it flushed it before it was sealed, and the election takes the furthest of the sealed. After the
//! seal the m others cannot acknowledge anything by themselves, as m < k: the old primary commits
//! nothing more. With several configurations possible, it must hold for each of them. With k = 1
//! (number_sync_standbys 0 or 1) no standby may be silent. An asynchronous configuration (k = 0)
//! allows no silent standby either, as nothing bounds what is missing.
//! The old primary itself has every commit: when it is stopped and sealed, nobody else is needed.

use alloc::vec::Vec;

use crate::NodeState::*;
use crate::facts::converged;
use crate::queries::sync_standbys;
use crate::state::{Generation, Node, SyncSet};
use crate::values::{Lsn, NodeId};
use crate::view::View;

/// Whether every acknowledged write is on a sealed node although `silent` ones are out of reach.
pub(crate) fn loss_free(view: &View, silent: &[NodeId]) -> bool {
    if silent.is_empty() {
        return true;
    }
    let mut primaries = view.list().filter(|member| !member.row.sync_sets.is_empty());
    let (Some(last), None) = (primaries.next(), primaries.next()) else { return false };
    let position = |row: &Node| (row.timeline, row.lsn);
    if converged(&last.row, ReportLsn) {
        return view.list().all(|member| position(&member.row) <= position(&last.row));
    }
    last.row.sync_sets.iter().all(|set| {
        let unsealed = set
            .standbys
            .iter()
            .filter(|id| !view.member(**id).is_some_and(|member| converged(&member.row, ReportLsn)))
            .count();
        !set.standbys.is_empty() && unsealed < usize::try_from(set.required).unwrap_or(0)
    })
}

/// Keeps the list of a group's primary up to date; called when a decision is closed.
pub(crate) fn record(view: &mut View) {
    let Some(primary) = view.primary() else { return forget_followers(view, None) };
    let (id, now) = (primary.row.id, primary.row.clone());
    let ours = now.generation == Generation::Pgquorum;
    let (was_goal, was_reported) = primary.stored_states();
    let current = configuration(view, &now);
    let mut sets: Vec<SyncSet> = now.sync_sets.clone();
    if !was_goal.is_some_and(|goal| goal.is_writable()) {
        sets.clear();
    }
    let under_way = now.goal == Primary && now.reported != Primary;
    if under_way && was_goal != Some(Primary) {
        sets.iter_mut().for_each(|set| set.offered = false);
    }
    match sets.last_mut() {
        Some(last) if (&last.standbys, last.required) == (&current.standbys, current.required) => {
            last.offered |= under_way;
        }
        _ => {
            let version = if ours { view.group_row.sync_version.saturating_add(1) } else { 0 };
            view.group_row.sync_version = view.group_row.sync_version.max(version);
            sets.push(SyncSet { offered: under_way, version, ..current });
        }
    }
    let reached = |state| now.reported == state && was_reported != Some(state) && was_goal == Some(state);
    if ours {
        // It says itself what it has applied, and that nobody waits under an older one any more.
        if let Some(confirmed) = sets.iter().rposition(|set| set.version <= now.sync_version && set.version > 0) {
            sets.drain(..confirmed);
        }
    } else if reached(Primary) {
        sets.retain(|set| set.offered);
    } else if reached(WaitPrimary) || reached(Single) {
        sets.retain(|set| set.standbys.is_empty());
    }
    if sets != now.sync_sets
        && let Some(member) = view.change(id)
    {
        member.row.sync_sets = sets;
    }
    forget_followers(view, Some(id));
}

/// What the primary waits for once it has reached its goal.
fn configuration(view: &View, primary: &Node) -> SyncSet {
    if matches!(primary.goal, Single | WaitPrimary) {
        return SyncSet { standbys: Vec::new(), required: 0, offered: false, version: 0, confirmed: Lsn::ZERO };
    }
    let (required, mut standbys) = sync_standbys(view);
    standbys.sort_unstable();
    let required = u32::try_from(required).unwrap_or(u32::MAX);
    SyncSet { standbys, required, offered: false, version: 0, confirmed: Lsn::ZERO }
}

/// A node that follows a primary, or whose successor takes writes, waits for nobody.
fn forget_followers(view: &mut View, primary: Option<NodeId>) {
    for id in view.ids() {
        let Some(member) = view.member(id) else { continue };
        let follows = matches!(member.row.goal, Catchingup | Secondary | JoinSecondary | WaitStandby);
        let superseded = primary.is_some_and(|primary| primary != id);
        if !member.row.sync_sets.is_empty()
            && (follows || superseded)
            && let Some(member) = view.change(id)
        {
            member.row.sync_sets.clear();
        }
    }
}
