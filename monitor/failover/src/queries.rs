//! The reading functions of the API, over the state with the leader's observations on top.

use alloc::string::String;
use alloc::vec::Vec;

use crate::NodeState;
use crate::extended::OpenTransactions;
use crate::facts::converged;
use crate::reject::{self, reject};
use crate::settings::Settings;
use crate::state::{Node, State};
use crate::values::{Health, Now};
use crate::view::{View, overlay};
use crate::{GroupId, Lsn, NodeId, Observations, Rejection};

/// A row of `get_nodes`, `get_other_nodes`, `get_most_advanced_standby`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    pub id: NodeId,
    pub name: String,
    pub host: String,
    pub port: i32,
    pub lsn: Lsn,
    pub is_primary: bool,
}

/// A row of `formation_settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRow {
    pub context: &'static str,
    pub group: Option<GroupId>,
    pub node: Option<NodeId>,
    pub nodename: String,
    pub setting: &'static str,
    pub value: String,
}

/// The node rows as SQL shows them: durable row with the leader's LSN and times on top, by id.
pub fn nodes(state: &State, observations: &Observations) -> Vec<Node> {
    state.nodes.values().map(|node| overlay(node, &observations.of(node.id))).collect()
}

fn row(node: &Node) -> NodeRow {
    NodeRow {
        id: node.id,
        name: node.name.clone(),
        host: node.host.clone(),
        port: node.port,
        lsn: node.lsn,
        is_primary: node.reported.is_writable(),
    }
}

/// A view for reading: no time passes in it, and no rule runs.
fn view<'a>(state: &'a State, observations: &Observations, formation: &str, group: GroupId) -> View<'a> {
    let settings = Settings::effective(state, &alloc::collections::BTreeMap::new());
    View::open(state, observations, settings, Now::default(), formation, group)
}

/// `get_nodes(formation, group)`: nodes being dropped included, by node id.
pub fn get_nodes(
    state: &State,
    observations: &Observations,
    formation: &str,
    group: Option<GroupId>,
) -> Vec<NodeRow> {
    nodes(state, observations)
        .iter()
        .filter(|node| node.formation == formation && group.is_none_or(|group| node.group == group))
        .map(row)
        .collect()
}

/// `get_other_nodes(id[, state])`: the filter is on the goal state; 42704 for an unknown id.
pub fn get_other_nodes(
    state: &State,
    observations: &Observations,
    id: NodeId,
    goal: Option<NodeState>,
) -> Result<Vec<NodeRow>, Rejection> {
    let node = state.nodes.get(&id).ok_or_else(|| reject::not_registered(id))?;
    let view = view(state, observations, &node.formation, node.group);
    let others = view.others(id).filter(|member| goal.is_none_or(|goal| member.row.goal == goal));
    Ok(others.map(|member| row(&member.row)).collect())
}

/// `get_primary(formation, group)`: the primary, or the node that was the primary last; XX000
/// without either.
pub fn get_primary(
    state: &State,
    observations: &Observations,
    formation: &str,
    group: GroupId,
) -> Result<NodeRow, Rejection> {
    let view = view(state, observations, formation, group);
    view.primary_or_demoted()
        .map(|member| row(&member.row))
        .ok_or_else(|| reject(reject::INTERNAL_ERROR, String::from("group has no writable node right now")))
}

/// `get_coordinator(formation)`: host and port.
pub fn get_coordinator(state: &State, formation: &str) -> Vec<(String, i32)> {
    let coordinates =
        |state| matches!(state, NodeState::Single | NodeState::WaitPrimary | NodeState::Primary);
    state
        .nodes
        .values()
        .filter(|node| node.formation == formation && node.group == 0)
        .filter(|node| coordinates(node.goal) && coordinates(node.reported))
        .map(|node| (node.host.clone(), node.port))
        .collect()
}

/// `get_most_advanced_standby(formation, group[, caller])`: who reported `report_lsn` and is
/// furthest, the newest timeline first. Never the caller, and never the node that is to fetch WAL:
/// 2.0 keepers do not say who is asking. With `guard_data_loss` off, only a healthy one.
pub fn get_most_advanced_standby(
    state: &State,
    observations: &Observations,
    formation: &str,
    group: GroupId,
    caller: Option<NodeId>,
) -> Option<NodeRow> {
    let view = view(state, observations, formation, group);
    let guarded = view.settings.guard_data_loss;
    view.list()
        .map(|member| &member.row)
        .filter(|node| node.reported == NodeState::ReportLsn && node.goal != NodeState::FastForward)
        .filter(|node| caller != Some(node.id))
        .filter(|node| guarded || node.health == Health::Good)
        .max_by_key(|node| (node.timeline, node.lsn, node.health, core::cmp::Reverse(node.id)))
        .map(row)
}

/// The standbys that a primary of this group waits for, and for how many of them; none: it does
/// not wait. What `synchronous_standby_names` says.
pub(crate) fn sync_standbys(view: &View) -> (usize, Vec<NodeId>) {
    let nodes = view.list().count();
    let primary = view.primary();
    if nodes < 2 {
        return (0, Vec::new());
    }
    let primary_id = primary.map(|member| member.row.id);
    if nodes == 2 {
        let standby = view.list().find(|member| Some(member.row.id) != primary_id).map(|member| &member.row);
        let standby = standby.filter(|row| row.replication_quorum && row.goal == NodeState::Secondary);
        return standby.filter(|_| primary_id.is_some()).map_or((0, Vec::new()), |row| (1, alloc::vec![row.id]));
    }
    if primary.is_some_and(|member| converged(&member.row, NodeState::WaitPrimary)) {
        return (0, Vec::new());
    }
    let mut standbys: Vec<(i32, NodeId)> = view
        .list()
        .filter(|member| Some(member.row.id) != primary_id && member.row.replication_quorum)
        .map(|member| (member.row.candidate_priority.saturating_neg(), member.row.id))
        .collect();
    standbys.sort_unstable();
    let required = usize::try_from(view.formation.number_sync_standbys).unwrap_or(0).max(1);
    if standbys.is_empty() {
        return (0, Vec::new());
    }
    (required, standbys.into_iter().map(|(_, id)| id).collect())
}

/// `synchronous_standby_names(formation, group)`; 42P17 when there are no nodes.
pub fn synchronous_standby_names(state: &State, formation: &str, group: GroupId) -> Result<String, Rejection> {
    let view = view(state, &Observations::default(), formation, group);
    if view.list().next().is_none() {
        let text = alloc::format!("no nodes found in group {group} of formation \"{formation}\"");
        return Err(reject(reject::INVALID_OBJECT_DEFINITION, text));
    }
    let (required, standbys) = sync_standbys(&view);
    if standbys.is_empty() {
        return Ok(String::new());
    }
    Ok(standby_names(u32::try_from(required).unwrap_or(u32::MAX), &standbys))
}

/// The text of `synchronous_standby_names`; empty when nobody is waited for. Names that do not suffice
/// keep PostgreSQL waiting, and a list without a name is none to it.
pub(crate) fn standby_names(required: u32, standbys: &[NodeId]) -> String {
    if standbys.is_empty() {
        return String::new();
    }
    let name = |id: &NodeId| match *id {
        crate::quorum::NOBODY => String::from("pgquorum_no_sealed_standby"),
        id => alloc::format!("pgautofailover_standby_{id}"),
    };
    let names: Vec<String> = standbys.iter().map(name).collect();
    alloc::format!("ANY {required} ({})", names.join(", "))
}

/// A row of `pgquorum.group_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    pub formation: String,
    pub group: GroupId,
    /// `quorum` or `upstream`.
    pub path: &'static str,
    pub epoch: i64,
    /// The newest version of a synchronous configuration.
    pub sync_version: i64,
    /// The configurations that the primary may have in effect, the newest last: `3: 'ANY 1 (...)'`;
    /// before them `WAL up to ...`, while nobody but a new primary has that for sure.
    pub configurations: String,
}

/// The groups of a formation and the path that their failovers take.
pub fn group_state(state: &State, observations: &Observations, formation: &str) -> Vec<GroupRow> {
    let groups: alloc::collections::BTreeSet<GroupId> =
        state.nodes.values().filter(|node| node.formation == formation).map(|node| node.group).collect();
    let row = |group| {
        let view = view(state, observations, formation, group);
        let sets = view.list().flat_map(|member| member.row.sync_sets.iter().map(|set| (member.row.id, set)));
        let sets: Vec<String> = sets
            .map(|(id, set)| match crate::quorum::is_beginning(set, id) {
                true => alloc::format!("WAL up to {}", set.confirmed),
                false => alloc::format!("{}: '{}'", set.version, standby_names(set.required, &set.standbys)),
            })
            .collect();
        GroupRow {
            formation: String::from(formation),
            group,
            path: if view.on_quorum_path() { "quorum" } else { "upstream" },
            epoch: view.group_row.epoch,
            sync_version: view.group_row.sync_version,
            configurations: sets.join("; "),
        }
    };
    groups.into_iter().map(row).collect()
}

/// `formation_uri(...)`; `None` is SQL NULL: no nodes. The primary comes first.
pub fn formation_uri(
    state: &State,
    formation: &str,
    cluster: &str,
    sslmode: &str,
    sslrootcert: &str,
    sslcrl: &str,
) -> Option<String> {
    let dbname = &state.formations.get(formation)?.dbname;
    let mut nodes: Vec<&Node> = state
        .nodes
        .values()
        .map(|node| &**node)
        .filter(|node| node.formation == formation && node.group == 0 && node.cluster == cluster)
        .collect();
    if nodes.is_empty() {
        return None;
    }
    nodes.sort_by_key(|node| !(node.goal.is_writable() && node.reported.is_writable()));
    let hosts: Vec<String> = nodes.iter().map(|node| alloc::format!("{}:{}", node.host, node.port)).collect();
    let attributes = if cluster == "default" { "target_session_attrs=read-write&" } else { "" };
    let option = |name: &str, value: &str| {
        if value.is_empty() { String::new() } else { alloc::format!("&{name}={value}") }
    };
    Some(alloc::format!(
        "postgres://{}/{dbname}?{attributes}sslmode={sslmode}{}{}",
        hosts.join(","),
        option("sslrootcert", sslrootcert),
        option("sslcrl", sslcrl)
    ))
}

/// `formation_settings(formation)`.
pub fn formation_settings(state: &State, observations: &Observations, formation: &str) -> Vec<SettingRow> {
    let Some(row) = state.formations.get(formation) else { return Vec::new() };
    let mut rows = alloc::vec![SettingRow {
        context: "formation",
        group: None,
        node: None,
        nodename: row.id.clone(),
        setting: "number_sync_standbys",
        value: alloc::format!("{}", row.number_sync_standbys),
    }];
    let nodes: Vec<Node> =
        nodes(state, observations).into_iter().filter(|node| node.formation == formation).collect();
    let setting = |node: &Node, context, setting, value| SettingRow {
        context,
        group: Some(node.group),
        node: Some(node.id),
        nodename: node.name.clone(),
        setting,
        value,
    };
    for node in nodes.iter().filter(|node| node.reported.is_writable()) {
        let names = synchronous_standby_names(state, formation, node.group).unwrap_or_default();
        rows.push(setting(node, "primary", "synchronous_standby_names", alloc::format!("'{names}'")));
    }
    for node in &nodes {
        rows.push(setting(node, "node", "replication quorum", alloc::format!("{}", node.replication_quorum)));
    }
    for node in &nodes {
        rows.push(setting(node, "node", "candidate priority", alloc::format!("{}", node.candidate_priority)));
    }
    rows
}

/// What the leader should look after now, in groups of our keepers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attention {
    /// Groups whose rules wait for time to pass.
    pub review: Vec<(String, GroupId)>,
    /// Nodes that have been silent for long enough to be probed, and were not probed since.
    pub probe: Vec<NodeId>,
    /// For so long (microseconds) time alone will not bring anything up: 0, look again as soon as you
    /// may; none, not before something else happens. A report only moves it further away.
    pub calm_us: Option<i64>,
}

impl Attention {
    fn again_in(&mut self, us: i64) {
        let us = us.max(0);
        self.calm_us = Some(self.calm_us.map_or(us, |known| known.min(us)));
    }
}

/// A verdict of the probe is asked for again after this time (microseconds).
const PROBE_AGAIN_US: i64 = 400_000;

/// Looks for deadlines that have passed. Costs no disk and no message.
pub fn attention(state: &State, observations: &Observations, now: Now) -> Attention {
    let mut attention = Attention::default();
    let settings = Settings::effective(state, &alloc::collections::BTreeMap::new());
    let groups: alloc::collections::BTreeSet<(&str, GroupId)> = state
        .nodes
        .values()
        .filter(|node| node.generation == crate::Generation::Pgquorum)
        .map(|node| (node.formation.as_str(), node.group))
        .collect();
    for (formation, group) in groups {
        let view = View::open(state, observations, settings.clone(), now, formation, group);
        if !view.on_quorum_path() {
            continue;
        }
        let suspicious_us = settings.suspicion_timeout_ms.saturating_mul(1000);
        let mut restless = view.failover_in_progress();
        for member in view.list() {
            let acts = member.row.goal.is_writable() || member.row.goal == NodeState::Secondary;
            let leaving = matches!(member.row.goal, NodeState::Draining | NodeState::PrepareMaintenance);
            restless |= leaving || (acts && view.is_unhealthy(member));
            let silent = view.since_us(member.seen.report) > suspicious_us;
            let lost = member.seen.session_lost.is_some_and(|lost| {
                member.seen.report.is_none_or(|report| report.mono_us < lost.mono_us)
            });
            let probed = member.seen.health_check.filter(|check| {
                member.seen.report.is_none_or(|report| check.mono_us > report.mono_us)
            });
            let stale = probed.is_none_or(|_| view.since_us(probed) > PROBE_AGAIN_US);
            if (silent || lost) && stale {
                attention.probe.push(member.row.id);
            }
            let uneasy = silent || lost || !member.row.pg_is_running || member.row.health == Health::Bad;
            attention.again_in(match uneasy {
                // How the evidence against it grows is for `evidence` to know.
                true if acts => 0,
                true => PROBE_AGAIN_US.saturating_sub(view.since_us(probed)),
                false => suspicious_us.saturating_sub(view.since_us(member.seen.report)),
            });
        }
        if restless {
            attention.again_in(0);
            attention.review.push((String::from(formation), group));
        }
    }
    attention
}

/// What stands in the way of a failover that surely loses nothing, and what an override would risk;
/// one sentence a line. Empty: nothing does.
pub fn data_loss_statement(
    state: &State,
    observations: &Observations,
    now: Now,
    formation: &str,
    group: GroupId,
) -> Vec<String> {
    let settings = Settings::effective(state, &alloc::collections::BTreeMap::new());
    let view = View::open(state, observations, settings, now, formation, group);
    match view.on_quorum_path() {
        true => crate::quorum::statement(&view),
        false => Vec::new(),
    }
}

/// A row of `pgquorum.open_transactions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionsRow {
    pub id: NodeId,
    pub name: String,
    pub open: OpenTransactions,
    /// Milliseconds since a moment at which, or after which, the keeper looked: its report may have been long on
    /// its way.
    pub reported_ms_ago: i64,
}

/// Clients' open transactions on the primary of a group, by its last report; no row when nobody has told.
pub fn open_transactions(
    state: &State,
    observations: &Observations,
    now: Now,
    formation: &str,
    group: GroupId,
) -> Vec<TransactionsRow> {
    let in_group = |node: &&Node| node.formation == formation && node.group == group && node.reported.is_writable();
    let row = |node: &Node| {
        let seen = observations.of(node.id);
        Some(TransactionsRow {
            id: node.id,
            name: node.name.clone(),
            open: seen.transactions?,
            reported_ms_ago: now.mono_us.saturating_sub(seen.report_before?.mono_us) / 1000,
        })
    };
    state.nodes.values().map(|node| &**node).filter(in_group).filter_map(row).collect()
}
