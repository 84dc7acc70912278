//! `perform_failover` and `perform_promotion`.

use alloc::string::String;

use super::Ground;
use crate::NodeState::*;
use crate::election::{PRIORITY_INCREMENT, set_priority};
use crate::facts::{self, converged};
use crate::outcome::{Decision, Notice, Rejection, Reply};
use crate::reject::{self, reject};
use crate::rule::Section;
use crate::rules_engine::Scene;
use crate::values::{GroupId, NodeId};
use crate::view::{View, node_text};

/// `perform_failover`
pub(crate) fn failover(ground: &Ground, formation: &str, group: GroupId) -> Result<Decision, Rejection> {
    let mut view = ground.view(formation, group);
    start(&mut view)?;
    Ok(view.finish(Reply::Void))
}

fn start(view: &mut View) -> Result<(), Rejection> {
    let (formation, group) = (view.formation.id.clone(), view.group);
    let count = view.list().count();
    if count < 2 {
        let text = alloc::format!(
            "cannot fail over: group {group} in formation {formation} currently has {count} node registered"
        );
        return Err(reject(reject::INTERNAL_ERROR, text)
            .detail(String::from("At least 2 nodes are required to implement a failover")));
    }
    if view.on_quorum_path() {
        return on_quorum_path(view);
    }
    let stable = |state| move |row: &crate::Node| converged(row, state);
    let primary = view
        .list()
        .find(|member| [Single, Primary, JoinPrimary].into_iter().any(|state| stable(state)(&member.row)))
        .map(|member| member.row.id);
    let Some(primary) = primary else { return drive_on(view) };
    if count == 2 { two_nodes(view, primary) } else { more_nodes(view, primary) }
}

/// Groups of our keepers: the primary stops, then whoever has its last record is promoted. Without a
/// healthy primary, the election that is waiting goes on with this session's `guard_data_loss`.
fn on_quorum_path(view: &mut View) -> Result<(), Rejection> {
    let primary = view.primary().filter(|member| facts::in_primary_state(&member.row));
    let healthy = primary.filter(|member| !view.is_unhealthy(member)).map(|member| member.row.id);
    if let Some(primary) = healthy {
        let ready = view.others(primary).any(|member| {
            let row = &member.row;
            converged(row, Secondary) && row.candidate_priority > 0 && !view.is_unhealthy(member)
        });
        if !ready {
            return Err(no_candidate(view, primary));
        }
        let Some(rule) = view.first_match_of(&[532], &Scene::new(primary, Some(primary))) else {
            return Err(no_candidate(view, primary));
        };
        // Should it come to an election, the old primary loses it.
        let priority = view.member(primary).map_or(0, |member| member.row.candidate_priority);
        let lowered = priority.saturating_sub(PRIORITY_INCREMENT);
        set_priority(view, primary, lowered, "Updating candidate priority to", Some(rule));
        return Ok(());
    }
    let before = view.messages.len();
    if let Some(primary) = view.primary().map(|member| member.row.id) {
        view.first_match_of(&[536, 538], &Scene::new(primary, Some(primary)));
    }
    crate::quorum_path::run(view);
    tell(view, before);
    for line in crate::quorum::statement(view) {
        let severity = if view.settings.guard_data_loss { "NOTICE" } else { "WARNING" };
        notice(view, severity, line);
    }
    Ok(())
}

fn no_candidate(view: &View, primary: NodeId) -> Rejection {
    let name = view.member(primary).map_or_else(String::new, |member| node_text(&member.row));
    let text = alloc::format!(
        "cannot fail over: no failover candidate for primary {name} in formation {}, group {}",
        view.formation.id,
        view.group
    );
    reject(reject::INTERNAL_ERROR, text).detail(String::from(
        "At least one other node must be in state \"secondary\", healthy, with a candidate priority above 0",
    ))
}

fn notice(view: &mut View, severity: &str, message: String) {
    view.notices.push(Notice {
        severity: String::from(severity),
        sqlstate: String::from(reject::NOT_IN_PREREQUISITE_STATE),
        message,
        detail: None,
        hint: None,
    });
}

/// What the rules said since then is told to the operator too.
fn tell(view: &mut View, before: usize) {
    let severity = if view.settings.guard_data_loss { "NOTICE" } else { "WARNING" };
    for message in view.messages.split_off(before.min(view.messages.len())) {
        notice(view, severity, message.clone());
        view.messages.push(message);
    }
}

/// No primary to fail over from: drive the election that is going on, with this session's
/// `guard_data_loss`. What still stands in its way is told to the operator.
fn drive_on(view: &mut View) -> Result<(), Rejection> {
    let reporting = view.list().find(|member| converged(&member.row, ReportLsn)).map(|member| member.row.id);
    let Some(active) = reporting else { return Err(reject::no_primary(&view.formation.id, view.group)) };
    let before = view.messages.len();
    view.proceed(active)?;
    tell(view, before);
    Ok(())
}

fn two_nodes(view: &mut View, primary: NodeId) -> Result<(), Rejection> {
    let Some(primary_row) = view.member(primary).map(|member| member.row.clone()) else { return Ok(()) };
    let Some(standby) = view.others(primary).next().map(|member| member.row.clone()) else { return Ok(()) };
    if standby.goal != Secondary {
        let text = alloc::format!(
            "standby {} is in state \"{}\", which prevents the node for being a failover candidate",
            node_text(&standby),
            standby.goal
        );
        return Err(reject(reject::INTERNAL_ERROR, text));
    }
    if standby.candidate_priority == 0 {
        let text = alloc::format!(
            "standby {} has candidate priority 0, which prevents the node for being a failover candidate",
            node_text(&standby)
        );
        return Err(reject(reject::INTERNAL_ERROR, text));
    }
    if view.first_match(Section::PerformFailover, &Scene::new(standby.id, Some(primary))).is_none() {
        return Err(not_stable(&primary_row, &standby));
    }
    Ok(())
}

fn not_stable(primary: &crate::Node, standby: &crate::Node) -> Rejection {
    let state = |row: &crate::Node| {
        alloc::format!(
            "{} has reported state \"{}\" and is assigned state \"{}\"",
            node_text(row),
            row.reported,
            row.goal
        )
    };
    reject(reject::INTERNAL_ERROR, String::from("cannot fail over: primary node is not in a stable state"))
        .detail(alloc::format!("{}, and {}", state(primary), state(standby)))
        .hint("a stable state must be observed to perform a manual failover")
}

fn more_nodes(view: &mut View, primary: NodeId) -> Result<(), Rejection> {
    let candidate = view
        .others(primary)
        .find(|member| {
            let row = &member.row;
            converged(row, Secondary) && row.candidate_priority > 0 && !view.is_unhealthy(member)
        })
        .map(|member| member.row.id);
    let Some(primary_row) = view.member(primary).map(|member| member.row.clone()) else { return Ok(()) };
    if candidate.is_none() {
        return Err(no_candidate(view, primary));
    }
    let scene = Scene::new(candidate.unwrap_or_default(), Some(primary));
    let Some(rule) = view.first_match(Section::PerformFailover, &scene) else {
        let first = view.others(primary).next().map(|member| member.row.clone());
        return Err(not_stable(&primary_row, &first.unwrap_or_else(|| primary_row.clone())));
    };
    // Drained and healthy, the old primary would win the election: it gets a priority that loses.
    // Row 375 takes it back.
    let lowered = primary_row.candidate_priority.saturating_sub(PRIORITY_INCREMENT);
    set_priority(view, primary, lowered, "Updating candidate priority to", Some(rule));
    let first = view.others(primary).next().map(|member| member.row.id);
    first.map_or(Ok(()), |first| view.proceed(first))
}

/// `perform_promotion`
pub(crate) fn promotion(ground: &Ground, formation: &str, name: &str) -> Result<Decision, Rejection> {
    let node = ground.by_name(formation, name)?;
    let mut view = ground.view_of(node);
    if converged(node, Single) || converged(node, Primary) {
        let text =
            alloc::format!("cannot perform promotion: node {name} in formation {formation} is already a primary.");
        view.notices.push(Notice {
            severity: String::from("NOTICE"),
            sqlstate: String::from(reject::NOT_IN_PREREQUISITE_STATE),
            message: text,
            detail: None,
            hint: None,
        });
        return Ok(view.finish(Reply::Bool(false)));
    }
    if !converged(node, Secondary) && !converged(node, ReportLsn) {
        let text = alloc::format!(
            "cannot perform promotion: node {name} in formation {formation} has reported state \"{}\" and is assigned \
             state \"{}\", promotion can only be performed when in state \"secondary\".",
            node.reported,
            node.goal
        );
        return Err(reject(reject::NOT_IN_PREREQUISITE_STATE, text));
    }
    if view.list().count() > 2 || view.on_quorum_path() {
        // The highest priority wins the election; a target that is raised already stays as it is.
        if node.candidate_priority <= crate::election::MAX_PRIORITY {
            let raised = node.candidate_priority.max(0).saturating_add(PRIORITY_INCREMENT);
            set_priority(&mut view, node.id, raised, "Updating candidate priority to", None);
        }
    }
    start(&mut view)?;
    Ok(view.finish(Reply::Bool(true)))
}
