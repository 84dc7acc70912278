//! `remove_node`.

use super::Ground;
use crate::NodeState::*;
use crate::election;
use crate::facts::converged;
use crate::outcome::{Change, Decision, Rejection, Reply};
use crate::reject;
use crate::rule::Section;
use crate::rules;
use crate::rules_engine::Scene;
use crate::state::Node;
use crate::values::NodeId;
use crate::view::View;

/// By id; 42704 for an unknown one.
pub(crate) fn by_id(ground: &Ground, id: NodeId, force: bool) -> Result<Decision, Rejection> {
    let node = ground.by_id(id).ok_or_else(|| reject::unknown_node(id))?;
    remove(ground, node, force)
}

/// By address; 42704 for an unknown one.
pub(crate) fn by_address(ground: &Ground, host: &str, port: i32, force: bool) -> Result<Decision, Rejection> {
    let node = ground.state.nodes.values().find(|node| node.host == host && node.port == port);
    let node = node.ok_or_else(|| {
        let text = alloc::format!("couldn't find node with hostname \"{host}\" and port {port}");
        reject::reject(reject::UNDEFINED_OBJECT, text)
    })?;
    remove(ground, node, force)
}

fn remove(ground: &Ground, node: &Node, force: bool) -> Result<Decision, Rejection> {
    let mut view = ground.view_of(node);
    view.reads_registry = true;
    let id = node.id;
    if node.goal != Dropped {
        step_out(&mut view, node)?;
    }
    if force || converged(node, Dropped) {
        view.delete(id);
        view.extra.push(Change::TouchRegistry);
    }
    Ok(view.finish(Reply::Bool(true)))
}

/// Takes the node out of the group: goals, number_sync_standbys, and what follows for the others.
fn step_out(view: &mut View, node: &Node) -> Result<(), Rejection> {
    let id = node.id;
    let was_primary = node.goal.is_writable();
    let primary = view.primary().map(|member| member.row.id).filter(|primary| *primary != id);
    view.first_match(Section::RemoveNode, &Scene::new(id, primary));
    adjust_number_sync_standbys(view);
    if !view.failover_in_progress() {
        election::reset_priorities(view);
    }
    if was_primary {
        if let Some(first) = view.ids().first().copied() {
            proceed_if_possible(view, first)?;
        }
    } else if let Some(primary) = primary {
        let goal = view.member(primary).map(|member| member.row.goal);
        proceed_if_possible(view, primary)?;
        let unchanged = view.member(primary).map(|member| member.row.goal) == goal;
        let scene = Scene::new(id, Some(primary));
        if let Some(rule) = rules::by_pos(130).filter(|rule| unchanged && view.holds(&scene, rule)) {
            view.fire(&scene, rule);
        }
    }
    Ok(())
}

/// Runs the rules for a node. That the group has no primary is no reason to refuse the removal.
fn proceed_if_possible(view: &mut View, id: NodeId) -> Result<(), Rejection> {
    let mut attempt = view.clone();
    if attempt.proceed(id).is_ok() {
        *view = attempt;
    }
    Ok(())
}

/// With fewer standbys in the quorum than number_sync_standbys + 1, the number goes down by itself.
fn adjust_number_sync_standbys(view: &mut View) {
    let quorum = view.list().filter(|member| member.row.replication_quorum).count();
    let quorum = i32::try_from(quorum).unwrap_or(i32::MAX);
    // One of them is, or will be, the primary. (Upstream takes one off even when the primary is
    // not in the quorum.)
    let primary_counts = view.primary().is_none_or(|member| member.row.replication_quorum);
    let standbys = quorum.saturating_sub(i32::from(primary_counts));
    if standbys < view.formation.number_sync_standbys.saturating_add(1) {
        let number = standbys.saturating_sub(1).max(0);
        if number == view.formation.number_sync_standbys {
            return;
        }
        view.formation.number_sync_standbys = number;
        view.messages.push(alloc::format!(
            "Setting number_sync_standbys to {number} for formation \"{}\" now that we have {standbys} standby nodes \
             set with replication-quorum.",
            view.formation.id
        ));
    }
}
