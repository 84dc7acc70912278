//! The rows that calls return, and the arguments of the large calls.

use std::time::Duration;

use failover::{Lsn, NodeState};
use tokio_postgres::SimpleQueryRow;

use crate::error::CallError;

/// A row as text.
pub struct Row(pub(crate) SimpleQueryRow);

impl Row {
    pub(crate) fn text(&self, at: usize) -> Result<Option<&str>, CallError> {
        self.0.try_get(at).map_err(|_| CallError::Answer(format!("a row has no column {}", at + 1)))
    }

    pub(crate) fn required(&self, at: usize) -> Result<&str, CallError> {
        self.text(at)?.ok_or_else(|| CallError::Answer(format!("column \"{}\" is NULL", self.name(at))))
    }

    pub(crate) fn string(&self, at: usize) -> Result<String, CallError> {
        self.required(at).map(str::to_string)
    }

    pub(crate) fn parse<T: std::str::FromStr>(&self, at: usize) -> Result<T, CallError> {
        let text = self.required(at)?;
        text.parse().map_err(|_| self.odd(at, text))
    }

    pub(crate) fn optional<T: std::str::FromStr>(&self, at: usize) -> Result<Option<T>, CallError> {
        self.text(at)?.map(|text| text.parse().map_err(|_| self.odd(at, text))).transpose()
    }

    pub(crate) fn boolean(&self, at: usize) -> Result<bool, CallError> {
        match self.required(at)? {
            "t" | "true" => Ok(true),
            "f" | "false" => Ok(false),
            text => Err(self.odd(at, text)),
        }
    }

    pub(crate) fn state(&self, at: usize) -> Result<NodeState, CallError> {
        let text = self.required(at)?;
        NodeState::from_name(text).ok_or_else(|| self.odd(at, text))
    }

    fn name(&self, at: usize) -> &str {
        self.0.columns().get(at).map_or("?", |column| column.name())
    }

    fn odd(&self, at: usize, text: &str) -> CallError {
        CallError::Answer(format!("column \"{}\" is \"{text}\"", self.name(at)))
    }
}

/// A node as `current_state` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRow {
    pub formation_kind: String,
    pub name: String,
    pub host: String,
    pub port: u16,
    pub group: i32,
    pub id: i64,
    pub reported: NodeState,
    pub goal: NodeState,
    pub candidate_priority: i32,
    pub replication_quorum: bool,
    pub timeline: i32,
    pub lsn: Lsn,
    /// -1 unknown, 0 bad, 1 good.
    pub health: i32,
    pub cluster: String,
    /// Seconds since the last health check and the last report.
    pub health_lag: Option<f64>,
    pub report_lag: Option<f64>,
}

/// A row of `last_events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    pub time: String,
    pub node: i64,
    pub group: i32,
    pub reported: String,
    pub goal: String,
    pub description: String,
}

/// A row of `pgautofailover.event`, with the rule that a stock 2.0 monitor does not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDetail {
    pub id: i64,
    pub time: String,
    /// The same moment in milliseconds since 1970.
    pub milliseconds: i64,
    pub formation: String,
    pub node: i64,
    pub group: i32,
    pub name: String,
    pub reported: String,
    pub goal: String,
    pub timeline: i32,
    pub lsn: String,
    pub priority: i32,
    pub quorum: bool,
    pub description: String,
    pub rule: Option<u16>,
}

impl EventDetail {
    /// The position as a number.
    pub fn position(&self) -> Lsn {
        self.lsn.parse().unwrap_or(Lsn::ZERO)
    }
}

/// A row of `formation_settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRow {
    pub context: String,
    pub group: Option<i32>,
    pub node: Option<i64>,
    pub name: String,
    pub setting: String,
    pub value: String,
}

/// A connection string for applications. A formation without nodes has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormationUri {
    pub kind: String,
    pub name: String,
    pub uri: Option<String>,
}

/// A node as `get_nodes` and its kin show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupNode {
    pub id: i64,
    pub name: String,
    pub host: String,
    pub port: u16,
    pub lsn: Lsn,
    pub is_primary: bool,
}

/// A monitor as `pgquorum.replica` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub replica_port: u16,
    pub role: String,
    pub term: Option<i64>,
    pub applied_index: Option<i64>,
    pub lag: Option<i64>,
    pub version: Option<String>,
}

/// One report of a keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeActiveReport {
    pub formation: String,
    pub id: i64,
    pub group: i32,
    pub state: NodeState,
    pub pg_is_running: bool,
    pub timeline: i32,
    pub lsn: Lsn,
    /// `pg_stat_replication.sync_state`; empty when there is none.
    pub sync_state: String,
}

/// What the monitor wants of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAssignment {
    pub id: i64,
    pub group: i32,
    pub state: NodeState,
    pub candidate_priority: i32,
    pub replication_quorum: bool,
}

/// One report of our own keeper: `pgquorum.node_active`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub report: NodeActiveReport,
    pub extended: failover::Extended,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub assignment: NodeAssignment,
    /// The group's epoch: persist it before acting, refuse goals of an older one.
    pub epoch: i64,
    /// The configuration that this node must have in effect as a primary; 0: none.
    pub sync_version: i64,
    pub synchronous_standby_names: String,
    /// Counted from the moment the report was sent, on CLOCK_BOOTTIME; 0: no lease was granted.
    pub lease_ms: u32,
    /// Whom to follow, clone and fetch from; `None`: nobody.
    pub primary: Option<Upstream>,
    /// A switchover is coming: checkpoint before the drain.
    pub checkpoint_now: bool,
    /// The next report should carry the history of the present timeline.
    pub want_history: bool,
}

/// A node that another one follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub id: i64,
    pub host: String,
    pub port: u16,
}

/// A row of `pgquorum.group_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    pub group: i32,
    /// `quorum` or `upstream`: how failovers of this group are decided.
    pub path: String,
    pub epoch: i64,
    pub sync_version: i64,
    /// The synchronous configurations that the primary may have in effect, the newest last.
    pub configurations: String,
}

/// Clients' open transactions on a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryTransactions {
    /// The primary's name.
    pub node: String,
    pub count: u32,
    /// How long the oldest one had been open when its keeper looked; zero without one.
    pub oldest: Duration,
    /// How long ago that was, at most, when the monitor answered.
    pub reported_ago: Duration,
}

/// What a formation was created with, or changed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormationRow {
    pub kind: String,
    pub dbname: String,
    /// Nodes may have standbys.
    pub secondary: bool,
    pub number_sync_standbys: i32,
}

/// Arguments of `register_node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationRequest {
    pub formation: String,
    pub host: String,
    pub port: u16,
    pub dbname: String,
    /// Empty: the monitor names it `node_<id>`.
    pub name: String,
    /// 0: not known yet.
    pub system_identifier: u64,
    /// `None`: any.
    pub desired_id: Option<i64>,
    pub desired_group: Option<i32>,
    pub initial_state: NodeState,
    pub kind: String,
    pub candidate_priority: i32,
    pub replication_quorum: bool,
    pub cluster: String,
    /// Where the node is; `None` leaves it to the monitor, which says "default".
    pub region: Option<String>,
}

/// The answer to a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    pub assignment: NodeAssignment,
    pub name: String,
    /// The group's epoch; 0 from a registration as a stock keeper.
    pub epoch: i64,
}

/// A registration that the monitor has not committed yet. Dropping it takes it back.
pub struct Registration {
    pub(crate) session: crate::session::Session,
    pub registered: Registered,
}
