//! `register_node`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Ground;
use crate::NodeState::{self, *};
use crate::command::RegisterNode;
use crate::facts::converged;
use crate::outcome::{AssignedGoal, Change, Decision, Rejection, Reply};
use crate::reject::{self, reject};
use crate::state::{Formation, Generation, Node};
use crate::PostgresEnd;
use crate::values::{GroupId, Health, Lsn, NodeId, SyncState};
use crate::view::{View, node_text};

/// PostgreSQL's longest name, in bytes; `dbname` is compared and stored that long.
const NAME_BYTES: usize = 63;

fn formation_kind(node_kind: &str) -> Result<&'static str, Rejection> {
    match node_kind {
        "standalone" => Ok("pgsql"),
        "coordinator" | "worker" => Ok("citus"),
        other => Err(reject::unknown_kind(other)),
    }
}

fn as_name(text: &str) -> &str {
    let mut end = text.len().min(NAME_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

/// The formation as the first node makes it: kind and database are adopted while it is empty.
fn adopt(ground: &Ground, call: &RegisterNode) -> Result<Formation, Rejection> {
    let Some(formation) = ground.state.formations.get(&call.formation) else {
        let text = alloc::format!("formation \"{}\" does not exist", call.formation);
        return Err(reject(reject::INVALID_OBJECT_DEFINITION, text)
            .hint("Use `pg_autoctl create formation` to create the target formation first"));
    };
    let mut formation = formation.clone();
    let kind = formation_kind(&call.kind)?;
    let empty = !ground.state.nodes.values().any(|node| node.formation == call.formation);
    let place = alloc::format!("node {}:{}", call.host, call.port);
    if formation.kind != kind {
        if !empty {
            let text = alloc::format!(
                "{place} of kind \"{}\" can not be registered in formation \"{}\" of kind \"{}\"",
                call.kind,
                formation.id,
                formation.kind
            );
            return Err(reject(reject::INTERNAL_ERROR, text));
        }
        formation.kind = String::from(kind);
    }
    let dbname = as_name(&call.dbname);
    if formation.dbname != dbname {
        if !empty {
            let text = alloc::format!(
                "{place} with dbname \"{}\" can not be registered in formation \"{}\" which expects dbname \"{}\"",
                call.dbname,
                formation.id,
                formation.dbname
            );
            return Err(reject(reject::INTERNAL_ERROR, text));
        }
        formation.dbname = String::from(dbname);
    }
    Ok(formation)
}

/// The group to join.
fn choose_group(ground: &Ground, call: &RegisterNode, formation: &Formation) -> Result<GroupId, Rejection> {
    if formation.kind == "pgsql" {
        if call.desired_group > 0 {
            let text = alloc::format!(
                "node {}:{} can not be registered in group {} in formation \"{}\" of type pgsql",
                call.host,
                call.port,
                call.desired_group,
                formation.id
            );
            return Err(reject(reject::INTERNAL_ERROR, text)
                .detail(String::from("in a pgsql formation, there can be only one group, with groupId 0")));
        }
        return Ok(0);
    }
    if call.desired_group >= 0 {
        return Ok(call.desired_group);
    }
    // Workers: the first group without a node, or with a primary and no standby.
    let members = |group| {
        ground
            .state
            .nodes
            .values()
            .filter(|node| node.formation == formation.id && node.group == group && node.goal != Dropped)
            .count()
    };
    let wanted = |count| count == 0 || (formation.opt_secondary && count == 1);
    let last = i32::try_from(ground.state.nodes.len()).unwrap_or(i32::MAX - 1).saturating_add(1);
    Ok((1..=last).find(|group| wanted(members(*group))).unwrap_or(last))
}

/// The goal that a new node starts with.
fn initial_goal(view: &View, call: &RegisterNode) -> Result<NodeState, Rejection> {
    if view.list().next().is_none() && call.candidate_priority > 0 {
        return Ok(Single);
    }
    if !view.formation.opt_secondary {
        let text = alloc::format!("Formation \"{}\" does not allow secondary nodes", view.formation.id);
        return Err(reject(reject::NOT_IN_PREREQUISITE_STATE, text).hint("use pg_autoctl enable secondary"));
    }
    if view.primary().is_some() || view.candidate().is_some() {
        return Ok(WaitStandby);
    }
    let upstream =
        view.list().any(|member| member.row.candidate_priority == 0 && converged(&member.row, ReportLsn));
    if upstream {
        return Ok(ReportLsn);
    }
    let text = alloc::format!(
        "JoinAutoFailoverFormation couldn't find the  primary node in formation \"{}\", group {}",
        view.formation.id,
        view.group
    );
    Err(reject(reject::OBJECT_IN_USE, text).hint("Retry registering in a moment"))
}

/// The name that the monitor gives: `node_3`, or in Citus `coord0a`, `worker2b`.
fn default_name(view: &View, call: &RegisterNode, id: NodeId) -> String {
    let prefix = match call.kind.as_str() {
        "coordinator" => "coord",
        "worker" => "worker",
        _ => return alloc::format!("node_{id}"),
    };
    let letter = u8::try_from(view.count_with_dropped()).ok().and_then(|count| b'a'.checked_add(count));
    alloc::format!("{prefix}{}{}", view.group, char::from(letter.unwrap_or(b'z')))
}

/// The COMMIT of a registration may be lost on its way: the same node asking again, before it has
/// ever reported more than its initial state, gets the same answer.
fn again(ground: &Ground, call: &RegisterNode) -> Option<Decision> {
    let node = ground.state.nodes.values().find(|node| node.host == call.host && node.port == call.port)?;
    let untouched = node.reported == call.initial_state && node.reported == Init && node.goal != Dropped;
    let same_name = call.name.is_empty() || call.name == node.name;
    let same_id = call.desired_node_id == -1 || call.desired_node_id == node.id;
    let same_group = call.desired_group == -1 || call.desired_group == node.group;
    let same = untouched
        && same_name
        && same_id
        && same_group
        && node.formation == call.formation
        && node.cluster == call.cluster
        && node.candidate_priority == call.candidate_priority
        && node.replication_quorum == call.replication_quorum;
    let epoch = ground.state.group(&node.formation, node.group).epoch;
    same.then(|| super::setting::answer(registered(node, epoch)))
}

fn registered(row: &Node, epoch: i64) -> Reply {
    let goal = AssignedGoal {
        node: row.id,
        group: row.group,
        goal: row.goal,
        candidate_priority: row.candidate_priority,
        replication_quorum: row.replication_quorum,
    };
    match row.generation {
        Generation::Pgquorum => Reply::RegisteredInEpoch { goal, name: row.name.clone(), epoch },
        Generation::Stock20 | Generation::Stock23 => Reply::Registered { goal, name: row.name.clone() },
    }
}

/// The id: the desired one, or the next; ids are never handed out twice.
fn choose_id(ground: &Ground, call: &RegisterNode) -> Result<NodeId, Rejection> {
    let desired = call.desired_node_id;
    if desired == -1 {
        return Ok(ground.state.next_node_id);
    }
    if desired < 1 {
        let text = alloc::format!("invalid value for node id: \"{desired}\"");
        return Err(reject(reject::INVALID_PARAMETER, text).detail(String::from("A positive integer is expected")));
    }
    if ground.by_id(desired).is_some() {
        return Err(reject::duplicate("node_pkey", "nodeid", &desired.to_string()));
    }
    Ok(desired)
}

/// Registers a node and runs the rules for it.
pub(crate) fn register(ground: &Ground, call: &RegisterNode) -> Result<Decision, Rejection> {
    if let Some(decision) = again(ground, call) {
        return Ok(decision);
    }
    let formation = adopt(ground, call)?;
    let group = choose_group(ground, call, &formation)?;
    let mut view = ground.view(&call.formation, group);
    view.formation = formation;
    view.reads_registry = true;
    let goal = initial_goal(&view, call)?;
    let id = choose_id(ground, call)?;
    if !(0..=crate::election::MAX_PRIORITY).contains(&call.candidate_priority) {
        let text = alloc::format!(
            "invalid value for candidate_priority \"{}\" expected an integer value between 0 and {}",
            call.candidate_priority,
            crate::election::MAX_PRIORITY
        );
        return Err(reject(reject::INVALID_PARAMETER, text));
    }
    let name = if call.name.is_empty() { default_name(&view, call, id) } else { call.name.clone() };
    let wall = ground.now.wall;
    let row = Node {
        formation: call.formation.clone(),
        id,
        group,
        name,
        host: call.host.clone(),
        port: call.port,
        system_identifier: (call.system_identifier != 0).then_some(call.system_identifier),
        goal,
        reported: call.initial_state,
        pg_is_running: true,
        sync_state: SyncState::Async,
        timeline: 1,
        lsn: Lsn::ZERO,
        health: Health::Unknown,
        candidate_priority: call.candidate_priority,
        replication_quorum: call.replication_quorum,
        cluster: call.cluster.clone(),
        region: call.region.clone(),
        generation: call.generation,
        report_time: wall,
        wal_report_time: wall,
        health_check_time: wall,
        state_change_time: wall,
        sync_sets: Vec::new(),
        epoch: 0,
        goal_epoch: view.group_row.epoch,
        sealed: false,
        sync_version: 0,
        postgres_end: PostgresEnd::None,
    };
    if call.initial_state != Init && call.initial_state != goal {
        let text = alloc::format!(
            "node {}:{} can not be registered in state {}, it should be in state {goal}",
            call.host,
            call.port,
            call.initial_state
        );
        return Err(reject(reject::INTERNAL_ERROR, text));
    }
    view.messages.push(alloc::format!(
        "Registering {} to formation \"{}\" with replication quorum {} and candidate priority {} [{group}]",
        node_text(&row),
        call.formation,
        call.replication_quorum,
        call.candidate_priority
    ));
    view.insert(row);
    super::node::check_unique(ground, &view, id)?;
    super::node::check_system_identifier(&view, id)?;
    view.extra.push(Change::NextNodeId(ground.state.next_node_id.max(id.saturating_add(1))));
    second_sync_standby(&mut view, goal);
    if goal == Single && call.initial_state == Init {
        let text = view
            .member(id)
            .map(|member| alloc::format!("Setting goal state of {} to single as there is no other node.", node_text(&member.row)));
        view.event(id, &text.unwrap_or_default(), crate::rules::by_pos(209));
    } else {
        view.proceed(id)?;
    }
    let reply = view.member(id).map_or(Reply::Void, |member| registered(&member.row, view.group_row.epoch));
    Ok(view.finish(reply))
}

/// With the second standby of the quorum, number_sync_standbys goes from 0 to 1 by itself.
fn second_sync_standby(view: &mut View, goal: NodeState) {
    if goal != WaitStandby || view.formation.number_sync_standbys != 0 {
        return;
    }
    let Some(primary) = view.primary().map(|member| member.row.id) else { return };
    let standbys = view.others(primary).count();
    let sync = view.others(primary).filter(|member| member.row.replication_quorum).count();
    if sync == 2 {
        view.formation.number_sync_standbys = 1;
        view.messages.push(alloc::format!(
            "Setting number_sync_standbys to 1 for formation {} now that we have {sync}/{standbys} standby nodes set \
             with replication-quorum.",
            view.formation.id
        ));
    }
}
