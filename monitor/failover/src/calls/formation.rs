//! Calls about formations.

use alloc::collections::BTreeSet;
use alloc::string::String;

use super::Ground;
use super::node::too_few_sync_standbys;
use super::setting::answer;
use crate::NodeState::*;
use crate::facts::converged;
use crate::outcome::{Change, Decision, Outcome, Rejection, Reply, Scope};
use crate::reject::{self, reject};
use crate::rule::Section;
use crate::rules_engine::Scene;
use crate::state::Formation;
use crate::view::node_text;

fn with_change(ground: &Ground, scopes: impl IntoIterator<Item = Scope>, change: Change, reply: Reply) -> Decision {
    let mut decision = answer(reply);
    decision.outcome = Outcome {
        decided_on: scopes.into_iter().map(|scope| ground.state.version_of(scope)).collect(),
        changes: alloc::vec![change],
        events: alloc::vec::Vec::new(),
        decided_at: ground.now.wall,
    };
    decision
}

/// `create_formation`
pub(crate) fn create(ground: &Ground, formation: &Formation) -> Result<Decision, Rejection> {
    if !matches!(formation.kind.as_str(), "pgsql" | "citus") {
        return Err(reject::unknown_kind(&formation.kind));
    }
    if formation.number_sync_standbys < 0 {
        return Err(negative_number(formation.number_sync_standbys));
    }
    if ground.state.formations.contains_key(&formation.id) {
        return Err(reject::duplicate("formation_pkey", "formationid", &formation.id));
    }
    let scope = Scope::Formation(formation.id.clone());
    Ok(with_change(ground, [scope], Change::PutFormation(formation.clone()), Reply::Formation(formation.clone())))
}

/// `drop_formation`; refused while it has nodes. Registrations are watched through the registry.
pub(crate) fn drop(ground: &Ground, id: &str) -> Result<Decision, Rejection> {
    if !ground.state.formations.contains_key(id) {
        return Err(reject::unknown_formation(id));
    }
    if ground.state.nodes.values().any(|node| node.formation == id) {
        let text = "update or delete on table \"formation\" violates foreign key constraint \
                    \"node_formationid_fkey\" on table \"node\"";
        return Err(reject(reject::FOREIGN_KEY_VIOLATION, String::from(text))
            .detail(alloc::format!("Key (formationid)=({id}) is still referenced from table \"node\".")));
    }
    let scopes = [Scope::Registry, Scope::Formation(String::from(id))];
    Ok(with_change(ground, scopes, Change::DropFormation(String::from(id)), Reply::Void))
}

/// `enable_secondary`, `disable_secondary`
pub(crate) fn set_secondary(ground: &Ground, id: &str, enabled: bool) -> Result<Decision, Rejection> {
    let formation = ground.state.formations.get(id).ok_or_else(|| reject::unknown_formation(id))?;
    if formation.opt_secondary == enabled {
        return Ok(answer(Reply::Bool(true)));
    }
    let standby = ground
        .state
        .nodes
        .values()
        .find(|node| !enabled && node.formation == id && node.reported != Single && node.goal != Dropped);
    if let Some(node) = standby {
        let text = "formation has nodes that are not in SINGLE state";
        return Err(reject(reject::NOT_IN_PREREQUISITE_STATE, String::from(text))
            .detail(alloc::format!("nodeid {} is in state {}", node.id, node.reported))
            .hint("drop secondary nodes before disabling secondaries on formation"));
    }
    let formation = Formation { opt_secondary: enabled, ..formation.clone() };
    let groups: BTreeSet<i32> =
        ground.state.nodes.values().filter(|node| node.formation == id).map(|node| node.group).collect();
    let groups = groups.into_iter().map(|group| Scope::Group(String::from(id), group));
    let scopes = [Scope::Registry, Scope::Formation(String::from(id))].into_iter().chain(groups);
    Ok(with_change(ground, scopes, Change::PutFormation(formation), Reply::Bool(true)))
}

fn negative_number(number: i32) -> Rejection {
    reject(reject::INVALID_PARAMETER, alloc::format!("invalid value for number_sync_standbys: \"{number}\""))
        .detail(String::from("A non-negative integer is expected"))
}

/// `set_formation_number_sync_standbys`; group 0 is the one that is asked.
pub(crate) fn set_number_sync_standbys(ground: &Ground, id: &str, number: i32) -> Result<Decision, Rejection> {
    if !ground.state.formations.contains_key(id) {
        return Err(reject(reject::INVALID_PARAMETER, alloc::format!("unknown formation \"{id}\"")));
    }
    if number < 0 {
        return Err(negative_number(number));
    }
    let mut view = ground.view(id, 0);
    let primary = view.primary().map(|member| member.row.clone());
    let primary = primary.ok_or_else(|| reject::no_primary_for_settings(id, 0))?;
    if !converged(&primary, Primary) && !converged(&primary, WaitPrimary) {
        let text = alloc::format!(
            "cannot set number_sync_standbys when current goal state for primary {} is \"{}\", and current reported \
             state is \"{}\"",
            node_text(&primary),
            primary.goal,
            primary.reported
        );
        let detail = "The primary node so must be in state \"primary\" or \"wait_primary\" to be able to apply \
                      configuration changes to its synchronous_standby_names setting";
        return Err(reject(reject::NOT_IN_PREREQUISITE_STATE, text).detail(String::from(detail)));
    }
    if let Some(standbys) = too_few_sync_standbys(&view, primary.id, number) {
        let text = alloc::format!("invalid value for number_sync_standbys: \"{number}\"");
        return Err(reject(reject::INVALID_PARAMETER, text).detail(alloc::format!(
            "At least {} standby nodes are required, and only {standbys} are currently participating in the \
             replication quorum",
            number.saturating_add(1)
        )));
    }
    view.formation.number_sync_standbys = number;
    view.first_match(Section::SetNumberSyncStandbys, &Scene::new(primary.id, Some(primary.id)));
    Ok(view.finish(Reply::Bool(true)))
}
