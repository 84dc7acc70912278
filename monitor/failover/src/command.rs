//! The commands of the API: what a client, the health probe or an administrator asks for.

use alloc::collections::BTreeMap;
use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::extended::Extended;
use crate::state::Generation;
use crate::values::{GroupId, Health, Lsn, NodeId, SyncState, WallTime};
use crate::NodeState;

/// A command with the settings of the session that sent it (`SET pgautofailover...`, validated
/// before): they win over the replicated ones, for this call only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub command: Command,
    pub session_settings: BTreeMap<String, String>,
}

impl From<Command> for Call {
    fn from(command: Command) -> Call {
        Call { command, session_settings: BTreeMap::new() }
    }
}

/// One writing call. Semantics, errors and SQLSTATEs are upstream's; see `docs/reference/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    RegisterNode(RegisterNode),
    NodeActive(NodeActive),
    RemoveNode { id: NodeId, force: bool },
    RemoveNodeByAddress { host: String, port: i32, force: bool },
    PerformFailover { formation: String, group: GroupId },
    PerformPromotion { formation: String, name: String },
    StartMaintenance { id: NodeId },
    StopMaintenance { id: NodeId },
    SetNodeCandidatePriority { formation: String, name: String, priority: i32 },
    SetNodeReplicationQuorum { formation: String, name: String, quorum: bool },
    /// `None` keeps what is there.
    UpdateNodeMetadata { id: Option<NodeId>, name: Option<String>, host: Option<String>, port: Option<i32> },
    SetNodeSystemIdentifier { id: NodeId, system_identifier: i64 },
    SetGroupSystemIdentifier { group: i64, system_identifier: i64 },
    CreateFormation { id: String, kind: String, dbname: String, opt_secondary: bool, number_sync_standbys: i32 },
    DropFormation { id: String },
    SetSecondary { formation: String, enabled: bool },
    SetNumberSyncStandbys { formation: String, number: i32 },
    /// The leader's probe came to a verdict.
    HealthChecked { id: NodeId, health: Health },
    /// `ALTER DATABASE ... SET` (`None`: `RESET`).
    SetDatabaseSetting { name: String, value: Option<String> },
    /// `ALTER SYSTEM SET` (`None`: `RESET`); in force after [`Command::ReloadSettings`].
    SetSystemSetting { name: String, value: Option<String> },
    /// `ALTER SYSTEM RESET ALL`.
    ResetSystemSettings,
    /// `pg_reload_conf()`.
    ReloadSettings,
    /// Test mode only: `UPDATE pgautofailover.node SET ...` for one node.
    ForceNode { id: NodeId, set: ForceNode },
    /// Something that the leader saw of a node itself. The group's rules run at once.
    Witness { id: NodeId, what: Witness },
    /// Runs the rules of a group of our keepers now: a deadline has passed.
    Review { formation: String, group: GroupId },
    /// Raises the version of the replicated formats once every replica understands it.
    SetClusterVersion { version: u16 },
    SetNodeRegion { formation: String, name: String, region: String },
}

/// What the leader saw of a node beside its reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Witness {
    /// The connection of its keeper ended.
    SessionLost,
    /// Nobody listens on its PostgreSQL's port.
    Refused,
    /// Its PostgreSQL did not answer a probe in time, or did not answer as a PostgreSQL that is up.
    NoAnswer,
    /// Its PostgreSQL answered.
    Answered,
}

/// Arguments of `register_node`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegisterNode {
    pub formation: String,
    pub host: String,
    pub port: i32,
    pub dbname: String,
    /// Empty: the monitor picks `node_<id>`.
    pub name: String,
    pub system_identifier: i64,
    /// -1: any.
    pub desired_node_id: NodeId,
    /// -1: any.
    pub desired_group: GroupId,
    pub initial_state: NodeState,
    /// `standalone`, `coordinator` or `worker`.
    pub kind: String,
    pub candidate_priority: i32,
    pub replication_quorum: bool,
    pub cluster: String,
    pub region: String,
    pub generation: Generation,
}

/// Arguments of `node_active`: one report of a keeper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeActive {
    pub formation: String,
    pub id: NodeId,
    pub group: GroupId,
    pub state: NodeState,
    pub pg_is_running: bool,
    /// 0 or less: not known, keeps what is stored.
    pub timeline: i32,
    /// `0/0`: not known, keeps what is stored.
    pub lsn: Lsn,
    pub sync_state: SyncState,
    /// From our keepers (`pgquorum.node_active`); `None` from stock ones.
    pub extended: Option<Extended>,
}

/// The columns of `pgautofailover.node` that test mode may overwrite; `None` leaves one alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForceNode {
    pub goal: Option<NodeState>,
    pub reported: Option<NodeState>,
    pub pg_is_running: Option<bool>,
    pub sync_state: Option<SyncState>,
    pub timeline: Option<i32>,
    pub lsn: Option<Lsn>,
    pub health: Option<Health>,
    pub candidate_priority: Option<i32>,
    pub replication_quorum: Option<bool>,
    pub system_identifier: Option<i64>,
    pub name: Option<String>,
    pub host: Option<String>,
    pub port: Option<i32>,
    pub report_time: Option<WallTime>,
    pub wal_report_time: Option<WallTime>,
    pub health_check_time: Option<WallTime>,
    pub state_change_time: Option<WallTime>,
}
