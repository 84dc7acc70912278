//! Format 1, as it was before epochs: what it lacks has one value only, that of a group of stock keepers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use failover::outcome::{Change, Event, NewEvent, Scope};
use failover::state::{Formation, SyncSet, TimelineFork};
use failover::{
    Generation, GroupId, Health, Lsn, Node, NodeId, NodeState, Outcome, PostgresEnd, State, SyncState, WallTime,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Node1 {
    formation: String,
    id: NodeId,
    group: GroupId,
    name: String,
    host: String,
    port: i32,
    system_identifier: Option<i64>,
    goal: NodeState,
    reported: NodeState,
    pg_is_running: bool,
    sync_state: SyncState,
    timeline: i32,
    lsn: Lsn,
    health: Health,
    candidate_priority: i32,
    replication_quorum: bool,
    cluster: String,
    region: String,
    generation: Generation,
    report_time: WallTime,
    wal_report_time: WallTime,
    health_check_time: WallTime,
    state_change_time: WallTime,
    sync_sets: Vec<SyncSet1>,
}

#[derive(Serialize, Deserialize)]
pub struct SyncSet1 {
    standbys: Vec<NodeId>,
    required: u32,
    offered: bool,
}

#[derive(Serialize, Deserialize)]
pub enum Change1 {
    PutFormation(Formation),
    DropFormation(String),
    PutNode(Node1),
    DropNode(NodeId),
    NextNodeId(NodeId),
    TouchRegistry,
    SetDatabaseSetting { name: String, value: Option<String> },
    SetSystemSetting { name: String, value: Option<String> },
    ResetSystemSettings,
    ReloadSettings,
    PutTimelineFork(TimelineFork),
    SetClusterVersion(u16),
}

#[derive(Serialize, Deserialize)]
pub struct Outcome1 {
    decided_on: Vec<(Scope, u64)>,
    changes: Vec<Change1>,
    events: Vec<NewEvent>,
    decided_at: WallTime,
}

#[derive(Serialize, Deserialize)]
pub struct State1 {
    formations: BTreeMap<String, Formation>,
    nodes: BTreeMap<NodeId, Node1>,
    events: VecDeque<Arc<Event>>,
    next_node_id: NodeId,
    next_event_id: i64,
    database_settings: BTreeMap<String, String>,
    system_settings_pending: BTreeMap<String, String>,
    system_settings: BTreeMap<String, String>,
    versions: BTreeMap<Scope, u64>,
    timeline_history: Vec<TimelineFork>,
    cluster_version: u16,
}

impl From<&Node> for Node1 {
    fn from(node: &Node) -> Node1 {
        let node = node.clone();
        let set = |set: SyncSet| SyncSet1 { standbys: set.standbys, required: set.required, offered: set.offered };
        Node1 {
            formation: node.formation,
            id: node.id,
            group: node.group,
            name: node.name,
            host: node.host,
            port: node.port,
            system_identifier: node.system_identifier,
            goal: node.goal,
            reported: node.reported,
            pg_is_running: node.pg_is_running,
            sync_state: node.sync_state,
            timeline: node.timeline,
            lsn: node.lsn,
            health: node.health,
            candidate_priority: node.candidate_priority,
            replication_quorum: node.replication_quorum,
            cluster: node.cluster,
            region: node.region,
            generation: node.generation,
            report_time: node.report_time,
            wal_report_time: node.wal_report_time,
            health_check_time: node.health_check_time,
            state_change_time: node.state_change_time,
            sync_sets: node.sync_sets.into_iter().map(set).collect(),
        }
    }
}

impl From<Node1> for Node {
    fn from(node: Node1) -> Node {
        let set = |set: SyncSet1| SyncSet {
            standbys: set.standbys,
            required: set.required,
            offered: set.offered,
            version: 0,
            confirmed: Lsn::ZERO,
        };
        Node {
            formation: node.formation,
            id: node.id,
            group: node.group,
            name: node.name,
            host: node.host,
            port: node.port,
            system_identifier: node.system_identifier,
            goal: node.goal,
            reported: node.reported,
            pg_is_running: node.pg_is_running,
            sync_state: node.sync_state,
            timeline: node.timeline,
            lsn: node.lsn,
            health: node.health,
            candidate_priority: node.candidate_priority,
            replication_quorum: node.replication_quorum,
            cluster: node.cluster,
            region: node.region,
            generation: node.generation,
            report_time: node.report_time,
            wal_report_time: node.wal_report_time,
            health_check_time: node.health_check_time,
            state_change_time: node.state_change_time,
            sync_sets: node.sync_sets.into_iter().map(set).collect(),
            epoch: 0,
            goal_epoch: 0,
            sealed: false,
            sync_version: 0,
            postgres_end: PostgresEnd::None,
        }
    }
}

/// What format 1 has no word for is left out: an epoch never comes to be while it is written.
fn change1(change: &Change) -> Option<Change1> {
    Some(match change.clone() {
        Change::PutFormation(formation) => Change1::PutFormation(formation),
        Change::DropFormation(id) => Change1::DropFormation(id),
        Change::PutNode(node) => Change1::PutNode(Node1::from(&node)),
        Change::DropNode(id) => Change1::DropNode(id),
        Change::NextNodeId(id) => Change1::NextNodeId(id),
        Change::TouchRegistry => Change1::TouchRegistry,
        Change::SetDatabaseSetting { name, value } => Change1::SetDatabaseSetting { name, value },
        Change::SetSystemSetting { name, value } => Change1::SetSystemSetting { name, value },
        Change::ResetSystemSettings => Change1::ResetSystemSettings,
        Change::ReloadSettings => Change1::ReloadSettings,
        Change::PutTimelineFork(fork) => Change1::PutTimelineFork(fork),
        Change::SetClusterVersion(version) => Change1::SetClusterVersion(version),
        Change::PutGroup { .. } => return None,
    })
}

impl From<Change1> for Change {
    fn from(change: Change1) -> Change {
        match change {
            Change1::PutFormation(formation) => Change::PutFormation(formation),
            Change1::DropFormation(id) => Change::DropFormation(id),
            Change1::PutNode(node) => Change::PutNode(node.into()),
            Change1::DropNode(id) => Change::DropNode(id),
            Change1::NextNodeId(id) => Change::NextNodeId(id),
            Change1::TouchRegistry => Change::TouchRegistry,
            Change1::SetDatabaseSetting { name, value } => Change::SetDatabaseSetting { name, value },
            Change1::SetSystemSetting { name, value } => Change::SetSystemSetting { name, value },
            Change1::ResetSystemSettings => Change::ResetSystemSettings,
            Change1::ReloadSettings => Change::ReloadSettings,
            Change1::PutTimelineFork(fork) => Change::PutTimelineFork(fork),
            Change1::SetClusterVersion(version) => Change::SetClusterVersion(version),
        }
    }
}

impl From<&Outcome> for Outcome1 {
    fn from(outcome: &Outcome) -> Outcome1 {
        Outcome1 {
            decided_on: outcome.decided_on.clone(),
            changes: outcome.changes.iter().filter_map(change1).collect(),
            events: outcome.events.clone(),
            decided_at: outcome.decided_at,
        }
    }
}

impl From<Outcome1> for Outcome {
    fn from(outcome: Outcome1) -> Outcome {
        Outcome {
            decided_on: outcome.decided_on,
            changes: outcome.changes.into_iter().map(Change::from).collect(),
            events: outcome.events,
            decided_at: outcome.decided_at,
        }
    }
}

impl From<&State> for State1 {
    fn from(state: &State) -> State1 {
        State1 {
            formations: state.formations.clone(),
            nodes: state.nodes.iter().map(|(id, node)| (*id, Node1::from(&**node))).collect(),
            events: state.events.clone(),
            next_node_id: state.next_node_id,
            next_event_id: state.next_event_id,
            database_settings: state.database_settings.clone(),
            system_settings_pending: state.system_settings_pending.clone(),
            system_settings: state.system_settings.clone(),
            versions: state.versions.clone(),
            timeline_history: state.timeline_history.clone(),
            cluster_version: state.cluster_version,
        }
    }
}

impl From<State1> for State {
    fn from(state: State1) -> State {
        State {
            formations: state.formations,
            nodes: state.nodes.into_iter().map(|(id, node)| (id, Arc::new(node.into()))).collect(),
            events: state.events,
            next_node_id: state.next_node_id,
            next_event_id: state.next_event_id,
            database_settings: state.database_settings,
            system_settings_pending: state.system_settings_pending,
            system_settings: state.system_settings,
            versions: state.versions,
            timeline_history: state.timeline_history,
            cluster_version: state.cluster_version,
            groups: BTreeMap::new(),
        }
    }
}
