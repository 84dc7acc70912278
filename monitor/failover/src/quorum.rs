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
//!
//! **A new primary.** Its configurations speak of what it acknowledges itself. What others acknowledged
//! before is on it, as it was elected for that, and on nobody else for sure: those who follow it now may
//! have been cut off for long. So its list begins with an entry of its own, the node alone and where its
//! WAL ended when it was told to take writes. That one asks for a sealed node which has got as far, until
//! the primary confirms a configuration: this means that as many standbys as a commit waits for have all
//! that was written before.
//!
//! The old primary itself has every commit: when it is stopped and sealed, nobody else is needed.

use alloc::string::String;
use alloc::vec::Vec;

use crate::NodeState::*;
use crate::facts::{converged, in_maintenance};
use crate::queries::sync_standbys;
use crate::state::{Generation, Node, SyncSet};
use crate::values::{Lsn, NodeId};
use crate::view::{Member, View, node_text};

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

/// What the seals of a group of our keepers add up to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count {
    /// n-k+1 standbys of every configuration are sealed.
    pub standbys: bool,
    /// The old primary is stopped and sealed: it has every write that it acknowledged.
    pub old_primary: bool,
    /// Standbys of the configurations that are not sealed.
    pub missing: Vec<NodeId>,
    /// Every configuration could be sealed off, were all its standbys there.
    pub possible: bool,
    /// No node's configurations are known: the old primary was removed.
    pub nothing_known: bool,
}

/// A standby that acknowledges nothing to the old primary any more, and whose position is final.
pub(crate) fn is_sealed(row: &Node) -> bool {
    let electing = |state| matches!(state, ReportLsn | FastForward | PreparePromotion);
    row.sealed && electing(row.reported) && electing(row.goal)
}

/// A former primary that has stopped, by its keeper's word since it was told to.
pub(crate) fn is_stopped(row: &Node) -> bool {
    let stopping = |state| matches!(state, Draining | DemoteTimeout | Demoted | PrepareMaintenance);
    row.sealed && stopping(row.reported) && stopping(row.goal)
}

/// Whether `sealed` standbys of a configuration meet every set that may have acknowledged a commit:
/// n-k+1 of them. None do where commits wait for nobody, and none are needed where no commit can be
/// acknowledged.
pub(crate) fn suffices(set: &SyncSet, sealed: usize) -> bool {
    if is_closed(set) {
        return true;
    }
    let required = usize::try_from(set.required).unwrap_or(usize::MAX);
    let sealed = sealed + usize::from(mistake!(CountsNMinusK));
    required > 0 && !set.standbys.is_empty() && sealed.saturating_add(required) > set.standbys.len()
}

/// Stands in a configuration that waits for standbys and may name none of them. No node has this id.
pub(crate) const NOBODY: NodeId = 0;

/// Commits wait for more standbys than are named: none is acknowledged under it.
fn is_closed(set: &SyncSet) -> bool {
    set.standbys == [NOBODY] || (!set.standbys.is_empty() && usize::try_from(set.required).unwrap_or(usize::MAX) > set.standbys.len())
}

/// The entry of a new primary's list that stands for all that was acknowledged before its time.
pub(crate) fn is_beginning(set: &SyncSet, writer: NodeId) -> bool {
    set.standbys == [writer]
}

/// How many seals of a configuration there are, or would be if every member that `is_there` were sealed.
pub(crate) fn votes(view: &View, writer: NodeId, set: &SyncSet, is_there: impl Fn(&Member) -> bool) -> usize {
    if !is_beginning(set, writer) {
        return set.standbys.iter().filter(|id| view.member(**id).is_some_and(&is_there)).count();
    }
    let has_it = |member: &Member| {
        let row = &member.row;
        row.id == writer || set.confirmed != Lsn::ZERO && row.lsn >= set.confirmed && !view.off_lineage(row.id)
    };
    usize::from(view.list().any(|member| has_it(member) && is_there(member)))
}

/// The node whose configurations count: the last one that was allowed to take writes.
pub(crate) fn writer<'a, 'b>(view: &'b View<'a>) -> Option<&'b crate::view::Member<'a>> {
    let candidate = view.candidate().filter(|member| !member.row.goal.is_writable()).map(|member| member.row.id);
    let mut with_sets = view.list().filter(|member| !member.row.sync_sets.is_empty());
    let first = with_sets.next()?;
    match with_sets.next() {
        None => Some(first),
        Some(second) => Some(if Some(first.row.id) == candidate { second } else { first }),
    }
}

/// Counts the seals against every configuration that is open.
pub(crate) fn count(view: &View) -> Count {
    let Some(writer) = writer(view) else {
        // Whoever may have acknowledged for a primary that is gone must be there.
        let mut voters = view.list().filter(|member| member.row.replication_quorum && !in_maintenance(&member.row));
        let missing: Vec<NodeId> =
            voters.by_ref().filter(|member| !is_sealed(&member.row)).map(|member| member.row.id).collect();
        let standbys = missing.is_empty() && view.list().any(|member| is_sealed(&member.row));
        return Count { standbys, missing, possible: true, nothing_known: true, old_primary: false };
    };
    let (id, sets) = (writer.row.id, &writer.row.sync_sets);
    let sealed = |id: &&NodeId| view.member(**id).is_some_and(|member| is_sealed(&member.row));
    let mut missing: Vec<NodeId> = Vec::new();
    for set in sets.iter().filter(|set| !is_beginning(set, id) && !is_closed(set)) {
        missing.extend(set.standbys.iter().filter(|id| !sealed(id)));
    }
    missing.sort_unstable();
    missing.dedup();
    let enough = |set: &SyncSet| {
        suffices(set, votes(view, id, set, |member| is_sealed(&member.row)))
            // The mistake of the time before there was such an entry.
            || mistake!(ForgetsTheBeginning) && is_beginning(set, id)
    };
    let able = |set: &SyncSet| match is_beginning(set, id) {
        true => votes(view, id, set, |member| member.row.id != id) > 0,
        false => suffices(set, set.standbys.len()),
    };
    Count {
        standbys: sets.iter().all(enough),
        old_primary: is_stopped(&writer.row) || is_sealed(&writer.row),
        missing,
        possible: sets.iter().all(able),
        nothing_known: false,
    }
}

/// Stock keepers: whether n-k+1 standbys of every configuration have left the old primary. They
/// have cut their connection in `report_lsn`, `join_secondary` and `stop_replication`.
pub(crate) fn cut_off(view: &View) -> bool {
    let left = |id: &&NodeId| {
        view.member(**id).is_some_and(|member| {
            [ReportLsn, JoinSecondary, StopReplication].into_iter().any(|state| converged(&member.row, state))
        })
    };
    let Some(writer) = writer(view) else { return false };
    writer.row.sync_sets.iter().all(|set| suffices(set, set.standbys.iter().filter(left).count()))
}

/// What is missing for a failover that surely loses nothing, and what an override would risk: one
/// sentence each. Empty when nothing is missing.
pub(crate) fn statement(view: &View) -> Vec<String> {
    let mut lines = Vec::new();
    let count = count(view);
    if count.standbys || count.old_primary {
        return lines;
    }
    let place = |row: &Node| alloc::format!("{} on timeline {}", row.lsn, row.timeline);
    if let Some(writer) = writer(view) {
        for set in &writer.row.sync_sets {
            let names = crate::queries::standby_names(set.required, &set.standbys);
            let sealed = votes(view, writer.row.id, set, |member| is_sealed(&member.row));
            let required = usize::try_from(set.required).unwrap_or(usize::MAX);
            if is_beginning(set, writer.row.id) {
                if sealed == 0 {
                    lines.push(alloc::format!(
                        "no sealed node has the WAL up to {} with which {} was promoted",
                        set.confirmed,
                        node_text(&writer.row)
                    ));
                }
            } else if required == 0 || set.standbys.is_empty() {
                lines.push(alloc::format!(
                    "configuration {} waits for no standby: only {} itself has all its writes",
                    set.version,
                    node_text(&writer.row)
                ));
            } else if !suffices(set, sealed) {
                let needed = set.standbys.len().saturating_add(1).saturating_sub(required);
                lines.push(alloc::format!(
                    "configuration {} ({names}) needs {needed} sealed standbys and has {sealed}",
                    set.version
                ));
            }
        }
        lines.push(alloc::format!(
            "old primary {}: last known at {}, {}",
            node_text(&writer.row),
            place(&writer.row),
            condition(view, writer)
        ));
    }
    for id in &count.missing {
        if let Some(member) = view.member(*id) {
            lines.push(alloc::format!(
                "missing {}: last known at {}, {}",
                node_text(&member.row),
                place(&member.row),
                condition(view, member)
            ));
        }
    }
    let there = view.list().filter(|member| {
        !count.missing.contains(&member.row.id) || (!view.is_unhealthy(member) && member.row.reported == Secondary)
    });
    let writer_id = writer(view).map(|member| member.row.id);
    let best = there
        .filter(|member| Some(member.row.id) != writer_id && !in_maintenance(&member.row))
        .max_by_key(|member| (member.row.timeline, member.row.lsn));
    match best {
        Some(best) => lines.push(alloc::format!(
            "with --allow-data-loss {} would be promoted at {}: every acknowledged write after that which only missing \
             nodes have would be lost",
            node_text(&best.row),
            place(&best.row)
        )),
        None => lines.push(String::from("no other node is there to be promoted")),
    }
    lines
}

fn condition(view: &View, member: &crate::view::Member) -> String {
    match view.evidence(member) {
        Some(evidence) => evidence,
        None => alloc::format!("it reports {}", member.row.reported),
    }
}

/// Keeps the list of a group's primary up to date; called when a decision is closed.
pub(crate) fn record(view: &mut View) {
    if view.on_quorum_path() {
        return record_joint(view);
    }
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

/// Groups of our keepers: what a primary waits for depends on its standbys alone, and every change of
/// it is joined to the configurations before until the primary has confirmed it.
fn record_joint(view: &mut View) {
    let candidate = view.candidate().filter(|member| !member.row.goal.is_writable()).map(|member| member.row.id);
    for id in view.ids() {
        let Some(member) = view.member(id) else { continue };
        let (was_goal, _) = member.stored_states();
        let was_candidate = was_goal.is_some_and(|goal| matches!(goal, FastForward | PreparePromotion));
        let others_have = view.others(id).any(|other| !other.row.sync_sets.is_empty());
        if candidate == Some(id) {
            // It has not written yet: nobody has acknowledged anything under what it was told before.
            join(view, id, others_have);
        } else if was_candidate && others_have && !member.row.goal.is_writable() {
            clear(view, id);
        }
    }
    let primary = view.primary().map(|member| (member.row.id, member.stored_states().0));
    if let Some((id, was_goal)) = primary {
        if was_goal.is_some_and(|goal| matches!(goal, FastForward | PreparePromotion)) {
            begin(view, id);
        }
        join(view, id, false);
        confirm(view, id);
    }
    forget_followers(view, primary.map(|(id, _)| id));
}

/// A candidate is told to take writes: everything that was acknowledged is on it, up to where it is.
fn begin(view: &mut View, id: NodeId) {
    let Some(member) = view.change(id) else { return };
    let (standbys, confirmed) = (alloc::vec![id], member.row.lsn);
    // No keeper is told of it, so that none confirms it.
    member.row.sync_sets.insert(0, SyncSet { standbys, required: 1, offered: false, version: 0, confirmed });
}

fn clear(view: &mut View, id: NodeId) {
    if let Some(member) = view.change(id) {
        member.row.sync_sets.clear();
    }
}

/// Adds the present configuration to a node's list, or replaces the list by it.
fn join(view: &mut View, id: NodeId, replace: bool) {
    let current = joint_configuration(view, id);
    let Some(member) = view.member(id) else { return };
    let same = |set: &SyncSet| (&set.standbys, set.required) == (&current.standbys, current.required);
    if member.row.sync_sets.last().is_some_and(|last| same(last) && last.version > 0) {
        return;
    }
    view.group_row.sync_version = view.group_row.sync_version.saturating_add(1);
    let version = view.group_row.sync_version;
    if let Some(member) = view.change(id) {
        if replace {
            member.row.sync_sets.clear();
        }
        member.row.sync_sets.push(SyncSet { version, ..current });
    }
}

/// Forgets what came before the newest configuration that the primary has confirmed. What was
/// committed while nobody was waited for must have reached as many standbys first.
fn confirm(view: &mut View, id: NodeId) {
    let Some(member) = view.member(id) else { return };
    let (confirmed, end) = (member.row.sync_version, member.row.lsn);
    let mut sets = member.row.sync_sets.clone();
    let Some(newest) = sets.iter().rposition(|set| set.version > 0 && set.version <= confirmed) else { return };
    if let Some(set) = sets.get_mut(newest)
        && set.confirmed == Lsn::ZERO
    {
        set.confirmed = end;
    }
    let waited_for_nobody = sets.iter().take(newest).any(|set| set.required == 0 || set.standbys.is_empty());
    let caught_up = sets.get(newest).is_some_and(|set| {
        let there = |id: &&NodeId| view.member(**id).is_some_and(|member| member.row.lsn >= set.confirmed);
        let required = usize::try_from(set.required).unwrap_or(usize::MAX);
        required == 0 || set.standbys.iter().filter(there).count() >= required
    });
    if !waited_for_nobody || caught_up {
        sets.drain(..newest);
    }
    if let Some(member) = view.change(id)
        && member.row.sync_sets != sets
    {
        member.row.sync_sets = sets;
    }
}

/// Whom the primary waits for: its secondaries in the quorum, and the sealed standbys that are about
/// to follow it. When number_sync_standbys asks for more than there are, those that are away are
/// waited for as well: writes block until they come, as was asked for.
///
/// Only those are named that have the group's WAL and no other, although others may be waited for. A standby
/// that is to be sealed and is not yet may reconnect by itself to an upstream of old, with WAL that the group
/// has left: it asks for the file that its position is in from that file's beginning, which the two may share,
/// and confirms its own position at once. A former primary is named when it has been rewound.
fn joint_configuration(view: &View, primary: NodeId) -> SyncSet {
    let mut set = SyncSet { standbys: Vec::new(), required: 0, offered: false, version: 0, confirmed: Lsn::ZERO };
    if view.member(primary).is_none_or(|member| member.row.goal == Single) {
        return set;
    }
    let voters = || {
        view.others(primary).filter(|member| member.row.replication_quorum && !in_maintenance(&member.row))
    };
    let follows = |member: &&Member| match member.row.goal {
        Secondary => true,
        ReportLsn => is_sealed(&member.row) && !view.is_unhealthy(member),
        JoinSecondary => !view.is_unhealthy(member),
        _ => false,
    };
    set.standbys = voters().filter(follows).map(|member| member.row.id).collect();
    let asked = usize::try_from(view.formation.number_sync_standbys).unwrap_or(0);
    if set.standbys.is_empty() && asked == 0 {
        return set;
    }
    let mut required = asked.max(1);
    if set.standbys.len() < required {
        let joining = |member: &&Member| !matches!(member.row.goal, WaitStandby | Dropped);
        let safe = |member: &&Member| match member.row.goal {
            Secondary | Catchingup | JoinSecondary => true,
            ReportLsn => is_sealed(&member.row),
            _ => false,
        };
        required = required.min(voters().filter(joining).count());
        set.standbys = voters().filter(joining).filter(safe).map(|member| member.row.id).collect();
        if set.standbys.is_empty() && required > 0 {
            set.standbys.push(NOBODY);
        }
    }
    set.required = u32::try_from(required).unwrap_or(u32::MAX);
    set
}
