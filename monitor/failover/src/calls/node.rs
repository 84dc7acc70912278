//! Calls that change facts of a node: priority, quorum, address, system identifier.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Ground;
use crate::election::{MAX_PRIORITY, set_priority};
use crate::facts::converged;
use crate::outcome::{Change, Decision, NodeAddress, Notice, Rejection, Reply};
use crate::reject::{self, reject};
use crate::rule::Section;
use crate::rules_engine::Scene;
use crate::state::Node;
use crate::values::NodeId;
use crate::view::{View, node_text};
use crate::NodeState;

/// Has the primary apply changed settings. Without a primary, or while it cannot get there, the
/// change stands and is applied when a primary next goes to `primary`.
fn apply_settings(view: &mut View, id: NodeId, section: Section, what: &str) -> Result<(), Rejection> {
    let Some(primary) = view.primary().map(|member| member.row.clone()) else { return Ok(()) };
    if converged(&primary, NodeState::ApplySettings) {
        let text = alloc::format!(
            "cannot set {what} when current state for primary {} is \"{}\"",
            node_text(&primary),
            primary.reported
        );
        return Err(reject(reject::NOT_IN_PREREQUISITE_STATE, text));
    }
    view.first_match(section, &Scene::new(id, Some(primary.id)));
    Ok(())
}

/// `set_node_candidate_priority`
pub(crate) fn candidate_priority(
    ground: &Ground,
    formation: &str,
    name: &str,
    priority: i32,
) -> Result<Decision, Rejection> {
    let node = ground.by_name(formation, name)?;
    let id = node.id;
    if !(0..=MAX_PRIORITY).contains(&priority) {
        let text = alloc::format!(
            "invalid value for candidate_priority \"{priority}\" expected an integer value between 0 and {MAX_PRIORITY}"
        );
        return Err(reject(reject::INVALID_PARAMETER, text));
    }
    if node.cluster != "default" && priority != 0 {
        let text = "invalid value for candidate_priority: read-replica nodes in a citus cluster must always have \
                    candidate priority set to zero";
        return Err(reject(reject::INVALID_PARAMETER, String::from(text)));
    }
    let mut view = ground.view_of(node);
    if priority == 0 && node.candidate_priority != 0 {
        let left = view.others(id).filter(|member| member.row.candidate_priority > 0).count();
        if left < 2 {
            view.notices.push(Notice {
                severity: String::from("NOTICE"),
                sqlstate: String::from(reject::NOT_IN_PREREQUISITE_STATE),
                message: String::from("setting candidate priority to zero, preventing automated failover"),
                detail: Some(alloc::format!(
                    "Group {} in formation \"{formation}\" have no failover candidate.",
                    node.group
                )),
                hint: None,
            });
        }
    }
    if view.list().count() <= 1 {
        set_priority(&mut view, id, priority, "Updating candidate priority to", None);
    } else {
        if let Some(member) = view.change(id) {
            member.row.candidate_priority = priority;
        }
        apply_settings(&mut view, id, Section::SetCandidatePriority, "candidate priority")?;
    }
    Ok(view.finish(Reply::Bool(true)))
}

/// The number of quorum standbys, when `number_sync_standbys` is not satisfied by them.
pub(crate) fn too_few_sync_standbys(view: &View, primary: NodeId, number: i32) -> Option<usize> {
    let standbys = view.others(primary).filter(|member| member.row.replication_quorum).count();
    let enough = number == 0 || usize::try_from(number).is_ok_and(|number| number < standbys);
    (!enough).then_some(standbys)
}

/// `set_node_replication_quorum`
pub(crate) fn replication_quorum(
    ground: &Ground,
    formation: &str,
    name: &str,
    quorum: bool,
) -> Result<Decision, Rejection> {
    let node = ground.by_name(formation, name)?;
    let id = node.id;
    let mut view = ground.view_of(node);
    if let Some(member) = view.change(id) {
        member.row.replication_quorum = quorum;
    }
    if !quorum {
        let primary = view
            .primary()
            .map(|member| member.row.id)
            .ok_or_else(|| reject::no_primary_for_settings(formation, node.group))?;
        let number = view.formation.number_sync_standbys;
        if let Some(standbys) = too_few_sync_standbys(&view, primary, number) {
            return Err(reject(reject::INVALID_PARAMETER, String::from("can't set replication quorum to false"))
                .detail(alloc::format!(
                    "At least {} standby nodes are required in formation {formation} with number_sync_standbys = \
                     {number}, and only {standbys} would be participating in the replication quorum",
                    number.saturating_add(1)
                )));
        }
    }
    if view.list().count() <= 1 {
        let text = alloc::format!("Updating replicationQuorum to {quorum} for {}", node_text(node));
        view.event(id, &text, None);
    } else {
        apply_settings(&mut view, id, Section::SetReplicationQuorum, "replication quorum")?;
    }
    Ok(view.finish(Reply::Bool(true)))
}

/// `set_node_region`: a label that no rule looks at.
pub(crate) fn region(ground: &Ground, formation: &str, name: &str, region: &str) -> Result<Decision, Rejection> {
    let node = ground.by_name(formation, name)?;
    if region.trim().is_empty() {
        return Err(reject(reject::INVALID_PARAMETER, String::from("a region needs a name"))
            .hint("The region of a node that nobody gave one is \"default\"."));
    }
    let mut view = ground.view_of(node);
    if node.region != region {
        if let Some(member) = view.change(node.id) {
            member.row.region = String::from(region);
        }
        view.event(node.id, &alloc::format!("Updating region to \"{region}\" for {}", node_text(node)), None);
    }
    Ok(view.finish(Reply::Bool(true)))
}

/// Names are unique per formation, addresses in the whole registry.
pub(crate) fn check_unique(ground: &Ground, view: &View, id: NodeId) -> Result<(), Rejection> {
    let Some(row) = view.member(id).map(|member| &member.row) else { return Ok(()) };
    let others = || ground.state.nodes.values().filter(|node| node.id != id);
    if others().any(|node| node.formation == row.formation && node.name == row.name) {
        let values = alloc::format!("{}, {}", row.formation, row.name);
        return Err(reject::duplicate("node_formationid_nodename_key", "formationid, nodename", &values));
    }
    if others().any(|node| node.host == row.host && node.port == row.port) {
        let values = alloc::format!("{}, {}", row.host, row.port);
        return Err(reject::duplicate("node_nodehost_nodeport_key", "nodehost, nodeport", &values));
    }
    Ok(())
}

/// The nodes of a group share one system identifier; those without one are left out.
pub(crate) fn check_system_identifier(view: &View, id: NodeId) -> Result<(), Rejection> {
    let Some(row) = view.member(id).map(|member| &member.row) else { return Ok(()) };
    let Some(own) = row.system_identifier else { return Ok(()) };
    let other = view.list().filter(|member| member.row.id != id).filter_map(|member| member.row.system_identifier);
    let Some(other) = other.into_iter().find(|other| *other != own) else { return Ok(()) };
    let key = |identifier: i64| alloc::format!("({}, {}, {identifier})", row.formation, row.group);
    let text = "conflicting key value violates exclusion constraint \"same_system_identifier_within_group\"";
    Err(reject(reject::EXCLUSION_VIOLATION, String::from(text)).detail(alloc::format!(
        "Key (formationid, groupid, sysidentifier)={} conflicts with existing key (formationid, groupid, \
         sysidentifier)={}.",
        key(own),
        key(other)
    )))
}

/// `update_node_metadata`
pub(crate) fn metadata(
    ground: &Ground,
    id: Option<NodeId>,
    name: Option<&str>,
    host: Option<&str>,
    port: Option<i32>,
) -> Result<Decision, Rejection> {
    let id = id.ok_or_else(|| {
        reject(reject::INTERNAL_ERROR, String::from("udpate_node_metadata requires a non-null nodeid"))
    })?;
    let node = ground
        .by_id(id)
        .ok_or_else(|| reject(reject::UNDEFINED_OBJECT, alloc::format!("node {id} is not registered")))?;
    let mut view = ground.view_of(node);
    view.reads_registry = true;
    if let Some(member) = view.change(id) {
        let row = &mut member.row;
        row.name = name.map_or_else(|| row.name.clone(), ToString::to_string);
        row.host = host.map_or_else(|| row.host.clone(), ToString::to_string);
        row.port = port.unwrap_or(row.port);
    }
    check_unique(ground, &view, id)?;
    if view.member(id).is_some_and(|member| {
        (&member.row.name, &member.row.host, member.row.port) != (&node.name, &node.host, node.port)
    }) {
        view.extra.push(Change::TouchRegistry);
    }
    Ok(view.finish(Reply::Bool(true)))
}

fn address(node: &Node) -> NodeAddress {
    NodeAddress { id: node.id, name: node.name.clone(), host: node.host.clone(), port: node.port }
}

/// `set_node_system_identifier`; no row for an unknown id.
pub(crate) fn system_identifier(ground: &Ground, id: NodeId, identifier: i64) -> Result<Decision, Rejection> {
    let Some(node) = ground.by_id(id) else { return Ok(super::setting::answer(Reply::Nodes(Vec::new()))) };
    let mut view = ground.view_of(node);
    if let Some(member) = view.change(id) {
        member.row.system_identifier = Some(identifier);
    }
    check_system_identifier(&view, id)?;
    Ok(view.finish(Reply::Nodes(alloc::vec![address(node)])))
}

/// `set_group_system_identifier`: every node of that group number whose identifier is 0, in every
/// formation, as the function has no formation argument.
pub(crate) fn group_system_identifier(ground: &Ground, group: i64, identifier: i64) -> Result<Decision, Rejection> {
    let mut decision = super::setting::answer(Reply::Void);
    let mut changed = Vec::new();
    for formation in ground.state.formations.keys() {
        let Ok(group) = i32::try_from(group) else { break };
        let mut view = ground.view(formation, group);
        let unset: Vec<NodeId> =
            view.list().filter(|m| m.row.system_identifier == Some(0)).map(|m| m.row.id).collect();
        for id in &unset {
            if let Some(member) = view.change(*id) {
                member.row.system_identifier = Some(identifier);
                changed.push(address(&member.row));
            }
        }
        if let Some(id) = unset.first() {
            check_system_identifier(&view, *id)?;
        }
        let part = view.finish(Reply::Void);
        decision.outcome.changes.extend(part.outcome.changes);
        for scope in part.outcome.decided_on {
            if !decision.outcome.decided_on.contains(&scope) {
                decision.outcome.decided_on.push(scope);
            }
        }
    }
    decision.outcome.decided_at = ground.now.wall;
    decision.reply = Reply::Nodes(changed);
    Ok(decision)
}
