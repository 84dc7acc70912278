//! `start_maintenance` and `stop_maintenance`.

use alloc::string::String;

use super::Ground;
use crate::NodeState::*;
use crate::facts::converged;
use crate::outcome::{Decision, Notice, Rejection, Reply};
use crate::reject::{self, reject};
use crate::rule::Section;
use crate::rules_engine::Scene;
use crate::values::NodeId;
use crate::view::{View, node_text};

/// `start_maintenance`; false for an unknown node.
pub(crate) fn start(ground: &Ground, id: NodeId) -> Result<Decision, Rejection> {
    let Some(node) = ground.by_id(id) else { return Ok(super::setting::answer(Reply::Bool(false))) };
    let mut view = ground.view_of(node);
    if node.reported == Maintenance || node.goal == Maintenance {
        return Ok(view.finish(Reply::Bool(true)));
    }
    let is_primary = converged(node, Primary);
    if !is_primary && !matches!(node.reported, Secondary | Catchingup) {
        let text = alloc::format!(
            "cannot start maintenance: node {}:{} has reported state \"{}\" and is assigned state \"{}\", expected \
             either \"primary\", \"secondary\" or \"catchingup\"",
            node.host,
            node.port,
            node.reported,
            node.goal
        );
        return Err(reject(reject::NOT_IN_PREREQUISITE_STATE, text));
    }
    let primary = if is_primary { Some(id) } else { view.primary().map(|member| member.row.id) };
    let primary = primary.ok_or_else(|| reject::no_primary(&node.formation, node.group))?;
    warn_of_blocked_writes(&mut view, id, primary);
    if is_primary {
        primary_steps_down(&mut view, id)?;
    } else if view.first_match(Section::StartMaintenance, &Scene::new(id, Some(primary))).is_none() {
        return Err(not_possible(&view, id, primary));
    }
    Ok(view.finish(Reply::Bool(true)))
}

fn warn_of_blocked_writes(view: &mut View, id: NodeId, primary: NodeId) {
    let healthy = view.healthy_sync_standbys(primary);
    let number = view.formation.number_sync_standbys;
    let needed = usize::try_from(number).unwrap_or(0);
    let counts = view.member(id).is_some_and(|member| id != primary && view.is_healthy_sync_standby(member));
    if number <= 0 || healthy > needed || !counts {
        return;
    }
    let name = |id| view.member(id).map_or_else(String::new, |member| node_text(&member.row));
    let notice = Notice {
        severity: String::from("WARNING"),
        sqlstate: String::from(reject::NOT_IN_PREREQUISITE_STATE),
        message: alloc::format!(
            "Starting maintenance on {} will block writes on the primary {}",
            name(id),
            name(primary)
        ),
        detail: Some(alloc::format!(
            "we now have {} healthy node(s) left in the \"secondary\" state and formation \"{}\" number-sync-standbys \
             requires {number} sync standbys",
            healthy.saturating_sub(1),
            view.formation.id
        )),
        hint: None,
    };
    view.notices.push(notice);
}

fn primary_steps_down(view: &mut View, id: NodeId) -> Result<(), Rejection> {
    let candidates = view
        .others(id)
        .filter(|member| {
            converged(&member.row, Secondary) && member.row.candidate_priority > 0 && view.is_healthy(member)
        })
        .count();
    let first = view.others(id).next().map(|member| member.row.id);
    let Some(first) = first.filter(|_| candidates > 0) else {
        let name = view.member(id).map_or_else(String::new, |member| node_text(&member.row));
        let text = alloc::format!("Starting maintenance on {name} in state \"primary\" is not currently possible");
        return Err(reject(reject::NOT_IN_PREREQUISITE_STATE, text)
            .detail(alloc::format!("there is currently {candidates} candidate nodes available")));
    };
    if view.on_quorum_path() {
        let found = view.first_match_of(&[534], &Scene::new(first, Some(id))).is_some();
        return if found { Ok(()) } else { Err(not_possible(view, first, id)) };
    }
    let more_than_two = view.list().count() > 2;
    if view.first_match(Section::StartPrimaryMaintenance, &Scene::new(first, Some(id))).is_none() {
        return Err(not_possible(view, first, id));
    }
    if more_than_two {
        view.proceed(first)?;
    }
    Ok(())
}

fn not_possible(view: &View, id: NodeId, primary: NodeId) -> Rejection {
    let (Some(node), Some(primary)) = (view.member(id), view.member(primary)) else {
        return reject::unknown_node(id);
    };
    let text = alloc::format!(
        "cannot start maintenance: current state for {} is \"{}\", expected \"secondary\" or \"catchingup\", and \
         current state for primary {} is \"{}\" \u{279c} \"{}\" ",
        node_text(&node.row),
        node.row.reported,
        node_text(&primary.row),
        primary.row.reported,
        primary.row.goal
    );
    reject(reject::NOT_IN_PREREQUISITE_STATE, text)
}

/// `stop_maintenance`; false for an unknown node.
pub(crate) fn stop(ground: &Ground, id: NodeId) -> Result<Decision, Rejection> {
    let Some(node) = ground.by_id(id) else { return Ok(super::setting::answer(Reply::Bool(false))) };
    let mut view = ground.view_of(node);
    let count = view.list().count();
    let preparing = count > 2 && converged(node, PrepareMaintenance);
    if !converged(node, Maintenance) && !preparing {
        let text =
            alloc::format!("cannot stop maintenance when current state for {} is not \"maintenance\"", node_text(node));
        return Err(reject(reject::NOT_IN_PREREQUISITE_STATE, text).detail(alloc::format!(
            "Current reported state is \"{}\" and assigned state is \"{}\"",
            node.reported,
            node.goal
        )));
    }
    let primary = view.primary_or_demoted().map(|member| member.row.id).filter(|primary| *primary != id);
    if primary.is_none() && count == 2 {
        return Err(reject::no_primary(&node.formation, node.group));
    }
    view.first_match(Section::StopMaintenance, &Scene::new(id, primary));
    Ok(view.finish(Reply::Bool(true)))
}
