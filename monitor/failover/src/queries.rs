//! The reading functions of the API, over the state with the leader's observations on top.

use alloc::string::String;
use alloc::vec::Vec;

use crate::state::{Node, State};
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
pub fn nodes(_state: &State, _observations: &Observations) -> Vec<Node> {
    todo!()
}

/// `get_nodes(formation, group)`: nodes being dropped included, by node id.
pub fn get_nodes(_state: &State, _obs: &Observations, _formation: &str, _group: Option<GroupId>) -> Vec<NodeRow> {
    todo!()
}

/// `get_other_nodes(id[, state])`: the filter is on the goal state; 42704 for an unknown id.
pub fn get_other_nodes(
    _state: &State,
    _obs: &Observations,
    _id: NodeId,
    _goal: Option<crate::NodeState>,
) -> Result<Vec<NodeRow>, Rejection> {
    todo!()
}

/// `get_primary(formation, group)`.
pub fn get_primary(_state: &State, _obs: &Observations, _formation: &str, _group: GroupId) -> Result<NodeRow, Rejection> {
    todo!()
}

/// `get_coordinator(formation)`: host and port.
pub fn get_coordinator(_state: &State, _formation: &str) -> Vec<(String, i32)> {
    todo!()
}

/// `get_most_advanced_standby(formation, group[, caller])`.
pub fn get_most_advanced_standby(
    _state: &State,
    _obs: &Observations,
    _formation: &str,
    _group: GroupId,
    _caller: Option<NodeId>,
) -> Option<NodeRow> {
    todo!()
}

/// `synchronous_standby_names(formation, group)`; 42P17 when there are no nodes.
pub fn synchronous_standby_names(_state: &State, _formation: &str, _group: GroupId) -> Result<String, Rejection> {
    todo!()
}

/// `formation_uri(...)`; `None` is SQL NULL: no nodes. The primary comes first.
pub fn formation_uri(
    _state: &State,
    _formation: &str,
    _cluster: &str,
    _sslmode: &str,
    _sslrootcert: &str,
    _sslcrl: &str,
) -> Option<String> {
    todo!()
}

/// `formation_settings(formation)`.
pub fn formation_settings(_state: &State, _obs: &Observations, _formation: &str) -> Vec<SettingRow> {
    todo!()
}
