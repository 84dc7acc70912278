//! Who gives a node its goal and tells it of its peers: the monitors or, on a node without any, an
//! operator by way of two files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use failover::{Lsn, NodeState};
use monitor_client::{CallError, ConnectOptions, GroupNode, MonitorClient, StateNotification};
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::files;
use crate::paths::Paths;
use crate::postgres::slots;

/// One monitor's time to answer a report, and all of them together.
pub(crate) const ANSWER: Duration = Duration::from_millis(800);
const REPORT: Duration = Duration::from_millis(2500);

/// The first words of the file with an operator's goal; the goal follows.
const GOAL: &str = "pgquorum goal 1 ";

/// Where goals come from.
pub enum Source {
    Monitors(Arc<MonitorClient>),
    Operator(Operator),
}

/// The client that all calls of a keeper go through.
pub fn monitor_client(config: &Config) -> Result<MonitorClient> {
    let target = config.target()?.ok_or_else(|| {
        KeeperError::config(
            "this node has no monitor: `pgquorum enable monitor URI` gives it one, `pgquorum inspect fsm assign` a goal",
        )
    })?;
    let options = ConnectOptions { attempt: ANSWER, ..ConnectOptions::default() };
    Ok(MonitorClient::new(target, options, REPORT).with_answer_patience(ANSWER).listening())
}

impl Source {
    pub fn of(config: &Config, paths: &Paths) -> Result<Source> {
        Ok(match config.has_monitor() {
            true => Source::Monitors(Arc::new(monitor_client(config)?)),
            false => Source::Operator(Operator::of(paths)),
        })
    }

    pub(crate) fn monitors(&self) -> Option<&Arc<MonitorClient>> {
        match self {
            Source::Monitors(client) => Some(client),
            Source::Operator(_) => None,
        }
    }

    pub(crate) fn operator(&self) -> Option<&Operator> {
        match self {
            Source::Monitors(_) => None,
            Source::Operator(operator) => Some(operator),
        }
    }

    /// A change of state that was announced within `patience`. Operators announce nothing.
    pub(crate) async fn heard(&self, patience: Duration) -> Option<StateNotification> {
        match self {
            Source::Monitors(client) => client.heard(patience).await,
            Source::Operator(_) => {
                tokio::time::sleep(patience).await;
                None
            }
        }
    }

    /// Hosts of the monitors, which look at PostgreSQL's health from there.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let endpoints = self.monitors().map(|client| client.target().endpoints.clone()).unwrap_or_default();
        endpoints.into_iter().map(|endpoint| endpoint.host).filter(|host| !host.starts_with('/')).collect()
    }

    pub(crate) async fn primary(&self, config: &Config, group: i32) -> Result<GroupNode> {
        match self {
            Source::Monitors(client) => Ok(client.get_primary(&config.formation, group).await?),
            Source::Operator(operator) => operator.primary()?.ok_or_else(|| {
                KeeperError::config(format!(
                    "{} names no primary to follow: `pgquorum inspect fsm nodes set FILE` does",
                    operator.nodes.display()
                ))
            }),
        }
    }

    /// The group's nodes except this one.
    pub(crate) async fn other_nodes(&self, node_id: i64) -> Result<Vec<GroupNode>> {
        match self {
            Source::Monitors(client) => Ok(client.get_other_nodes(node_id).await?),
            Source::Operator(operator) => {
                Ok(operator.nodes()?.into_iter().filter(|node| node.id != node_id).collect())
            }
        }
    }

    pub(crate) async fn most_advanced_standby(&self, config: &Config, group: i32) -> Result<Option<GroupNode>> {
        match self {
            Source::Monitors(client) => Ok(client.get_most_advanced_standby(&config.formation, group).await?),
            Source::Operator(operator) => {
                Ok(operator.nodes()?.into_iter().filter(|node| !node.is_primary).max_by_key(|node| node.lsn))
            }
        }
    }

    /// Whom commits of this node wait for. An operator's primary waits for any one of the other nodes, and
    /// for nobody in the states whose name says so.
    ///
    /// A stock 2.0 monitor crashes (SIGSEGV, all its connections lost) on this call while no node is meant to
    /// take writes, so that it is asked only when there is one.
    pub(crate) async fn sync_names(&self, config: &Config, group: i32, node_id: i64) -> Result<String> {
        let client = match self {
            Source::Monitors(client) => client,
            Source::Operator(operator) => {
                let waits = matches!(
                    operator.goal()?,
                    Some(NodeState::Primary | NodeState::JoinPrimary | NodeState::ApplySettings)
                );
                let others = if waits { self.other_nodes(node_id).await? } else { Vec::new() };
                return Ok(any_of(&others));
            }
        };
        let rows = client.current_state(&config.formation, Some(group)).await?;
        if !rows.iter().any(|row| row.goal.is_writable()) {
            return Err(KeeperError::monitor("no node of the group is meant to take writes"));
        }
        Ok(client.synchronous_standby_names(&config.formation, group).await?)
    }

    pub(crate) async fn set_system_identifier(&self, node_id: i64, identifier: u64) -> Result<()> {
        match self {
            Source::Monitors(client) => Ok(client.set_node_system_identifier(node_id, identifier).await?),
            Source::Operator(_) => Ok(()),
        }
    }

    /// Tells the monitors a new name, host or port.
    pub(crate) async fn rename(&self, config: &Config, node_id: i64) -> std::result::Result<(), CallError> {
        let Some(client) = self.monitors() else { return Ok(()) };
        let (name, host) = (Some(config.name.as_str()), Some(config.hostname.as_str()));
        client.update_node_metadata(node_id, name, host, Some(config.port)).await.map(drop)
    }
}

/// `ANY 1 (...)` of these nodes; empty without any.
pub(crate) fn any_of(nodes: &[GroupNode]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| slots::name_of(node.id)).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!("ANY 1 ({})", names.join(", ")),
    }
}

/// What an operator says to a node without monitors.
#[derive(Clone, Debug)]
pub struct Operator {
    goal: PathBuf,
    nodes: PathBuf,
}

impl Operator {
    pub fn of(paths: &Paths) -> Operator {
        Operator { goal: paths.data_home.join("pg_autoctl.goal"), nodes: paths.data_home.join("nodes.json") }
    }

    /// The state to reach; `None`: none was given, and the node stays as it is.
    pub fn goal(&self) -> Result<Option<NodeState>> {
        let Some(text) = files::read_text(&self.goal)? else { return Ok(None) };
        text.trim().strip_prefix(GOAL.trim_end()).and_then(|name| NodeState::from_name(name.trim())).map(Some).ok_or_else(
            || {
                KeeperError::config(format!(
                    "{} is damaged: `pgquorum inspect fsm assign STATE` writes it anew",
                    self.goal.display()
                ))
            },
        )
    }

    pub fn set_goal(&self, goal: NodeState) -> Result<()> {
        files::write_atomic(&self.goal, format!("{GOAL}{goal}\n").as_bytes(), 0o600)
    }

    /// Monitors give the goals from now on.
    pub fn forget(&self) -> Result<()> {
        files::remove(&self.goal)
    }

    /// The nodes of the group, as the operator told them; none when nothing was told.
    pub fn nodes(&self) -> Result<Vec<GroupNode>> {
        match files::read_text(&self.nodes)? {
            Some(text) => parse_nodes(&text).map_err(|error| error.while_doing(self.nodes.display())),
            None => Ok(Vec::new()),
        }
    }

    fn primary(&self) -> Result<Option<GroupNode>> {
        Ok(self.nodes()?.into_iter().find(|node| node.is_primary))
    }

    /// The primary that the operator names, when it is another node.
    pub(crate) fn other_primary(&self, node_id: i64) -> Result<Option<GroupNode>> {
        Ok(self.primary()?.filter(|node| node.id != node_id))
    }

    pub fn set_nodes(&self, nodes: &[GroupNode]) -> Result<()> {
        files::write_atomic(&self.nodes, format!("{:#}\n", nodes_json(nodes)).as_bytes(), 0o600)
    }
}

/// Reads a file of nodes: an array of objects with upstream's keys.
pub fn read_nodes(path: &Path) -> Result<Vec<GroupNode>> {
    let text = files::read_text(path)?
        .ok_or_else(|| KeeperError::arguments(format!("{} does not exist", path.display())))?;
    parse_nodes(&text).map_err(|error| KeeperError::arguments(format!("{}: {}", path.display(), error.message)))
}

fn parse_nodes(text: &str) -> Result<Vec<GroupNode>> {
    let wrong = |what: String| KeeperError::config(format!("no list of nodes: {what}"));
    let rows: Vec<Value> = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let mut nodes: Vec<GroupNode> = Vec::new();
    for row in &rows {
        let missing = |key: &str| wrong(format!("{row} has no {key}"));
        let number = |key: &str| row[key].as_i64().ok_or_else(|| missing(key));
        let host = row["node_host"].as_str().filter(|host| !host.is_empty()).ok_or_else(|| missing("node_host"))?;
        let id = number("node_id")?;
        let port = number("node_port")?;
        let lsn = row["node_lsn"].as_str().unwrap_or("0/0");
        nodes.push(GroupNode {
            id,
            name: row["node_name"].as_str().map_or_else(|| format!("node_{id}"), str::to_string),
            host: host.to_string(),
            port: u16::try_from(port).map_err(|_| wrong(format!("{port} is no port")))?,
            lsn: lsn.parse::<Lsn>().map_err(|()| wrong(format!("{lsn} is no position in the WAL")))?,
            is_primary: row["node_is_primary"].as_bool().unwrap_or(false),
        });
    }
    let mut ids: Vec<i64> = nodes.iter().map(|node| node.id).collect();
    ids.sort_unstable();
    if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(wrong(format!("node_id {} is there twice", twice[0])));
    }
    if nodes.iter().filter(|node| node.is_primary).count() > 1 {
        return Err(wrong("more than one node is the primary".to_string()));
    }
    Ok(nodes)
}

/// The same as JSON.
pub fn nodes_json(nodes: &[GroupNode]) -> Value {
    let row = |node: &GroupNode| {
        json!({
            "node_id": node.id,
            "node_name": node.name,
            "node_host": node.host,
            "node_port": node.port,
            "node_lsn": node.lsn.to_string(),
            "node_is_primary": node.is_primary,
        })
    };
    Value::Array(nodes.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(dir: &Path) -> Operator {
        Operator { goal: dir.join("goal"), nodes: dir.join("nodes.json") }
    }

    #[test]
    fn a_goal_is_kept_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let operator = operator(dir.path());
        assert_eq!(operator.goal().unwrap(), None);
        operator.set_goal(NodeState::WaitPrimary).unwrap();
        assert_eq!(operator.goal().unwrap(), Some(NodeState::WaitPrimary));
        std::fs::write(dir.path().join("goal"), "single").unwrap();
        assert!(operator.goal().unwrap_err().to_string().contains("inspect fsm assign"));
        operator.forget().unwrap();
        assert_eq!(operator.goal().unwrap(), None);
    }

    #[test]
    fn a_list_of_nodes() {
        let text = r#"[{"node_id": 1, "node_name": "a", "node_host": "h1", "node_port": 5501, "node_lsn": "0/3000060",
                        "node_is_primary": true},
                       {"node_id": 2, "node_host": "h2", "node_port": 5502}]"#;
        let nodes = parse_nodes(text).unwrap();
        assert_eq!((nodes[0].lsn, nodes[1].name.as_str(), nodes[1].is_primary), (Lsn(0x300_0060), "node_2", false));
        assert_eq!(any_of(&nodes), "ANY 1 (pgautofailover_standby_1, pgautofailover_standby_2)");
        let dir = tempfile::tempdir().unwrap();
        let operator = operator(dir.path());
        operator.set_nodes(&nodes).unwrap();
        assert_eq!(operator.nodes().unwrap(), nodes);
        assert_eq!(operator.other_primary(2).unwrap().map(|node| node.id), Some(1));
        assert_eq!(operator.other_primary(1).unwrap(), None);
    }

    #[test]
    fn what_is_no_list_of_nodes_is_refused_with_the_reason() {
        let one = r#"{"node_id": 1, "node_host": "h", "node_port": 1, "node_is_primary": true}"#;
        for (text, reason) in [
            ("{}", "no list of nodes"),
            (r#"[{"node_id": 1, "node_port": 5432}]"#, "node_host"),
            (r#"[{"node_id": 1, "node_host": "h", "node_port": 99999}]"#, "99999"),
            (&format!("[{one}, {one}]"), "twice"),
            (&format!("[{one}, {}]", one.replace("\"node_id\": 1", "\"node_id\": 2")), "more than one"),
        ] {
            let error = parse_nodes(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
