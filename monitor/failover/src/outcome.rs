//! What a decision results in: the outcome that the log carries, the reply, what was observed.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::observation::Observation;
use crate::extended::ExtendedGoal;
use crate::state::{Formation, Group, Node, TimelineFork};
use crate::values::{GroupId, Health, Lsn, NodeId, SyncState, WallTime};
use crate::NodeState;

/// A part of the state that decisions are serialised on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Node ids and addresses: written by registration, removal and metadata changes.
    Registry,
    /// A formation's own row.
    Formation(String),
    /// The nodes of one group.
    Group(String, GroupId),
    /// The `pgautofailover.*` settings.
    Settings,
}

/// What the log carries. Empty outcomes are never proposed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The versions that the decision read. `apply` changes nothing unless all of them still hold.
    pub decided_on: Vec<(Scope, u64)>,
    pub changes: Vec<Change>,
    pub events: Vec<NewEvent>,
    /// The leader's wall clock at the decision.
    pub decided_at: WallTime,
}

impl Outcome {
    /// Nothing durable changed: nothing to replicate.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.events.is_empty()
    }
}

/// One durable change. Rows are replaced whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    PutFormation(Formation),
    DropFormation(String),
    PutNode(Node),
    DropNode(NodeId),
    /// Node ids below this one are spent.
    NextNodeId(NodeId),
    /// Marks the registry as written, so that a concurrent registration is decided anew.
    TouchRegistry,
    SetDatabaseSetting { name: String, value: Option<String> },
    SetSystemSetting { name: String, value: Option<String> },
    ResetSystemSettings,
    ReloadSettings,
    PutTimelineFork(TimelineFork),
    SetClusterVersion(u16),
    PutGroup { formation: String, group: GroupId, row: Group },
}

/// A row of `pgautofailover.event` without its id, which `apply` assigns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEvent {
    pub time: WallTime,
    pub formation: String,
    pub node: NodeId,
    pub group: GroupId,
    pub name: String,
    pub host: String,
    pub port: i32,
    pub reported: NodeState,
    pub goal: NodeState,
    pub sync_state: SyncState,
    pub timeline: i32,
    pub lsn: Lsn,
    pub candidate_priority: i32,
    pub replication_quorum: bool,
    /// Not a column: the `state` notification carries it.
    pub health: Health,
    pub description: String,
    /// The rule that fired, by its permanent number.
    pub rule_pos: Option<u16>,
    pub rule_section: Option<String>,
}

/// A row of `pgautofailover.event`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: i64,
    pub event: NewEvent,
}

/// The verdict of [`crate::decide`].
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub outcome: Outcome,
    pub reply: Reply,
    /// What the leader now knows of these nodes; taken up once the outcome is committed, or at
    /// once when it is empty.
    pub observed: Vec<(NodeId, Observation)>,
    /// Human messages that are no events: for the server log and the `log` channel.
    pub messages: Vec<String>,
    /// NOTICE and WARNING for the calling client.
    pub notices: Vec<Notice>,
}

/// A NOTICE or WARNING to the client; the call still succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// `NOTICE` or `WARNING`.
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// The answer to a command, typed as the SQL function's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Void,
    Bool(bool),
    NodeActive(AssignedGoal),
    Registered { goal: AssignedGoal, name: String },
    /// `pgquorum.node_active`
    Reported(ExtendedGoal),
    /// `pgquorum.register_node`
    RegisteredInEpoch { goal: AssignedGoal, name: String, epoch: i64 },
    Formation(Formation),
    /// `set_node_system_identifier`, `set_group_system_identifier`: the rows that changed.
    Nodes(Vec<NodeAddress>),
}

/// Columns of `node_active`'s result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedGoal {
    pub node: NodeId,
    pub group: GroupId,
    pub goal: NodeState,
    pub candidate_priority: i32,
    pub replication_quorum: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    pub id: NodeId,
    pub name: String,
    pub host: String,
    pub port: i32,
}

/// A refused command: nothing changed, nothing was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Five characters, upstream's where upstream has one.
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}
