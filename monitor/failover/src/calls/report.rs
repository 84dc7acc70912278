//! `node_active`, the probe's verdict, and test mode's direct writes.

use super::Ground;
use crate::command::{ForceNode, NodeActive, Witness};
use crate::observation::Stamp;
use crate::outcome::{AssignedGoal, Change, Decision, Rejection, Reply};
use crate::reject;
use crate::state::{Generation, Node};
use crate::values::{GroupId, Health, Lsn, NodeId};
use crate::view::{View, node_text};
use crate::{ExtendedGoal, NodeState, PostgresEnd};

/// The five columns that a keeper gets back.
pub(crate) fn assigned(view: &View, id: NodeId, report: &NodeActive) -> AssignedGoal {
    match view.member(id) {
        Some(member) => AssignedGoal {
            node: id,
            group: member.row.group,
            goal: member.row.goal,
            candidate_priority: member.row.candidate_priority,
            replication_quorum: member.row.replication_quorum,
        },
        None => AssignedGoal {
            node: id,
            group: report.group,
            goal: NodeState::Dropped,
            candidate_priority: 0,
            replication_quorum: false,
        },
    }
}

/// Takes in a keeper's report, runs the rules, and answers with the node's goal.
pub(crate) fn node_active(ground: &Ground, report: &NodeActive) -> Result<Decision, Rejection> {
    let id = report.id;
    let node = ground.by_id(id).ok_or_else(|| reject::unknown_node(id))?;
    if node.formation != report.formation {
        let text = alloc::format!("node {id} does not belong to formation {}", report.formation);
        return Err(reject::reject(reject::INVALID_OBJECT_DEFINITION, text));
    }
    let mut view = ground.view_of(node);
    // One that was overtaken on its way, by a report from after a later goal: what it says is no more.
    if let Some(extended) = report.extended.as_ref().filter(|extended| extended.epoch < node.epoch) {
        let text = alloc::format!(
            "A report of {} comes late: it is of epoch {}, and {} was reported already",
            node_text(node),
            extended.epoch,
            node.epoch
        );
        view.messages.push(text);
        // Nothing that it shows is fresh enough for a lease.
        return Ok(view.finish_with(|view| {
            Reply::Reported(ExtendedGoal { lease_ms: 0, ..super::extended::answer(view, report) })
        }));
    }
    let stamp = Stamp::from(ground.now);
    let changed = view.member(id).is_some_and(|member| member.row.reported != report.state);
    let misjudged = view.member(id).and_then(|member| view.note_misjudgement(member, stamp));
    if let Some(member) = view.change(id) {
        member.seen.misjudged = misjudged;
    }
    if let Some(member) = view.change(id) {
        member.row.reported = report.state;
        member.row.pg_is_running = report.pg_is_running;
        member.row.sync_state = report.sync_state;
        member.row.report_time = stamp.wall;
        member.seen.report_before = member.seen.report.replace(stamp);
        if report.timeline > 0 {
            member.row.timeline = report.timeline;
        }
        if report.lsn != Lsn::ZERO {
            member.row.lsn = report.lsn;
            member.row.wal_report_time = stamp.wall;
            member.seen.lsn = Some(report.lsn);
            member.seen.wal_report = Some(stamp);
        }
        if changed {
            member.row.state_change_time = stamp.wall;
            member.seen.state_change = Some(stamp);
        }
    }
    match &report.extended {
        Some(extended) => super::extended::take_in(&mut view, report, extended),
        None => stock_report(&mut view, id),
    }
    if changed {
        let text = match view.member(id).map(|member| &member.row) {
            Some(row) if row.goal == NodeState::ReportLsn => alloc::format!(
                "New state is reported by {} with LSN {}: {}",
                node_text(row),
                row.lsn,
                report.state
            ),
            Some(row) => alloc::format!("New state is reported by {}: \"{}\"", node_text(row), report.state),
            None => return Err(reject::unknown_node(id)),
        };
        view.event(id, &text, None);
    }
    view.proceed(id)?;
    if report.extended.is_some()
        && super::extended::grants_lease(&view, id)
        && let Some(member) = view.change(id)
    {
        member.seen.lease = Some(stamp);
    }
    let stock = report.extended.is_none().then(|| assigned(&view, id, report));
    let decision = view.finish_with(|view| match stock {
        Some(goal) => Reply::NodeActive(goal),
        None => Reply::Reported(super::extended::answer(view, report)),
    });
    Ok(decision)
}

/// A stock report knows nothing of seals. A node of ours that reports so has been given a stock
/// keeper: the group is back on upstream's path.
fn stock_report(view: &mut View, id: NodeId) {
    let Some(member) = view.member(id) else { return };
    if member.row.generation != Generation::Pgquorum {
        return;
    }
    if let Some(member) = view.change(id) {
        member.row.generation = Generation::Stock20;
        member.row.sealed = false;
        member.row.postgres_end = PostgresEnd::None;
    }
}

/// The probe's verdict. Only a changed one is an event; no rule runs, the next report sees it.
pub(crate) fn health_checked(ground: &Ground, id: NodeId, health: Health) -> Decision {
    let Some(node) = ground.by_id(id) else { return super::setting::nothing() };
    let mut view = ground.view_of(node);
    let stamp = Stamp::from(ground.now);
    let health = judged(node, health);
    let mut changed = false;
    if let Some(member) = view.change(id) {
        changed = member.row.health != health;
        member.row.health = health;
        member.row.health_check_time = stamp.wall;
        member.seen.health_check = Some(stamp);
    }
    if changed {
        let text = alloc::format!("Node {} is marked as {} by the monitor", node_text(node), health_word(health));
        view.event(id, &text, None);
    }
    view.finish(Reply::Void)
}

/// While our keeper makes the cluster, nobody can answer a probe: that is no news of the node's health.
fn judged(node: &Node, health: Health) -> Health {
    let made = matches!(node.reported, NodeState::Init | NodeState::WaitStandby)
        && !node.pg_is_running
        && node.generation == Generation::Pgquorum;
    match (node.health, health) {
        (Health::Unknown, Health::Bad) if made => Health::Unknown,
        _ => health,
    }
}

/// Something that the leader saw of a node itself. In a group of our keepers the rules run at once.
pub(crate) fn witness(ground: &Ground, id: NodeId, what: Witness) -> Result<Decision, Rejection> {
    let Some(node) = ground.by_id(id) else { return Ok(super::setting::nothing()) };
    let mut view = ground.view_of(node);
    let stamp = Stamp::from(ground.now);
    let ours = view.on_quorum_path();
    let mut verdict = None;
    if let Some(member) = view.change(id) {
        match what {
            Witness::SessionLost => member.seen.session_lost = Some(stamp),
            Witness::Refused => {
                member.seen.refused = Some(stamp);
                verdict = Some(Health::Bad);
            }
            Witness::NoAnswer => verdict = Some(Health::Bad),
            Witness::Answered => {
                member.seen.refused = None;
                verdict = Some(Health::Good);
            }
        }
        verdict = verdict.map(|health| judged(node, health));
        if let Some(health) = verdict {
            member.row.health = health;
            member.row.health_check_time = stamp.wall;
            member.seen.health_check = Some(stamp);
        }
    }
    if let Some(health) = verdict.filter(|health| *health != node.health) {
        let text = alloc::format!("Node {} is marked as {} by the monitor", node_text(node), health_word(health));
        view.event(id, &text, None);
    }
    if ours {
        review(&mut view)?;
    }
    Ok(view.finish(Reply::Void))
}

/// Runs the rules of a group of our keepers, for whatever time alone has changed.
pub(crate) fn review_group(ground: &Ground, formation: &str, group: GroupId) -> Result<Decision, Rejection> {
    let mut view = ground.view(formation, group);
    if view.on_quorum_path() {
        review(&mut view)?;
    }
    Ok(view.finish(Reply::Void))
}

fn review(view: &mut View) -> Result<(), Rejection> {
    if crate::quorum_path::run(view) {
        return Ok(());
    }
    // Unhealthy standbys leave the primary's configuration.
    let primary = view.primary().map(|member| member.row.id);
    primary.map_or(Ok(()), |primary| view.proceed(primary))
}

fn health_word(health: Health) -> &'static str {
    match health {
        Health::Good => "healthy",
        Health::Bad => "unhealthy",
        Health::Unknown => "unknown",
    }
}

/// Test mode: overwrites columns of one node's row, observations included.
pub(crate) fn force(ground: &Ground, id: NodeId, set: &ForceNode) -> Result<Decision, Rejection> {
    let node = ground.by_id(id).ok_or_else(|| reject::unknown_node(id))?;
    let mut view = ground.view_of(node);
    view.reads_registry = true;
    if let Some(member) = view.change(id) {
        let row = &mut member.row;
        fn put<T: Clone>(column: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                column.clone_from(value);
            }
        }
        put(&mut row.goal, &set.goal);
        put(&mut row.reported, &set.reported);
        put(&mut row.pg_is_running, &set.pg_is_running);
        put(&mut row.sync_state, &set.sync_state);
        put(&mut row.timeline, &set.timeline);
        put(&mut row.lsn, &set.lsn);
        put(&mut row.health, &set.health);
        put(&mut row.candidate_priority, &set.candidate_priority);
        put(&mut row.replication_quorum, &set.replication_quorum);
        put(&mut row.name, &set.name);
        put(&mut row.host, &set.host);
        put(&mut row.port, &set.port);
        put(&mut row.report_time, &set.report_time);
        put(&mut row.wal_report_time, &set.wal_report_time);
        put(&mut row.health_check_time, &set.health_check_time);
        put(&mut row.state_change_time, &set.state_change_time);
        if set.system_identifier.is_some() {
            row.system_identifier = set.system_identifier;
        }
        let stamp = |time: Option<_>, kept| time.map_or(kept, |wall| Some(Stamp::from_wall(wall, ground.now)));
        member.seen.report = stamp(set.report_time, member.seen.report);
        member.seen.wal_report = stamp(set.wal_report_time, member.seen.wal_report);
        member.seen.health_check = stamp(set.health_check_time, member.seen.health_check);
        member.seen.state_change = stamp(set.state_change_time, member.seen.state_change);
        if set.lsn.is_some() {
            member.seen.lsn = set.lsn;
        }
    }
    if set.name.is_some() || set.host.is_some() || set.port.is_some() {
        view.extra.push(Change::TouchRegistry);
    }
    super::node::check_unique(ground, &view, id)?;
    super::node::check_system_identifier(&view, id)?;
    Ok(view.finish(Reply::Void))
}
