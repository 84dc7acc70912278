//! What the monitors replicate: formations, nodes, events, settings.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::outcome::{Event, Scope};
use crate::values::{GroupId, Health, Lsn, NodeId, SyncState, WallTime};
use crate::{NodeState, PostgresEnd};

/// The events that a monitor keeps; older ones are forgotten, oldest first.
pub const EVENTS_KEPT: usize = 10_000;

/// The whole replicated state. Everything in it is written by [`crate::apply`] alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub formations: BTreeMap<String, Formation>,
    /// Rows are shared between copies of the state: a copy for a reader costs no row.
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Oldest first; bounded by [`EVENTS_KEPT`].
    pub events: VecDeque<Arc<Event>>,
    /// The next node id to hand out. Only ever grows.
    pub next_node_id: NodeId,
    /// The next event id. Only ever grows.
    pub next_event_id: i64,
    /// `ALTER DATABASE ... SET`: effective at once, wins over the system settings.
    pub database_settings: BTreeMap<String, String>,
    /// `ALTER SYSTEM SET`: effective after `pg_reload_conf()`.
    pub system_settings_pending: BTreeMap<String, String>,
    /// The system settings that the last `pg_reload_conf()` took up.
    pub system_settings: BTreeMap<String, String>,
    /// How often each scope was written. An outcome names the versions that it was decided on.
    pub versions: BTreeMap<Scope, u64>,
    /// Timeline histories that nodes have reported (none from stock 2.0 keepers).
    pub timeline_history: Vec<TimelineFork>,
    /// The newest format of outcomes that every replica has announced to understand.
    pub cluster_version: u16,
    /// By formation: groups that have an epoch. Others have epoch 0.
    pub groups: BTreeMap<String, BTreeMap<GroupId, Group>>,
}

/// What a group has beside its nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Raised with every decision about who may write; never reused. Keepers obey only the newest.
    pub epoch: i64,
    /// The newest version that a synchronous configuration of the group was given; only ever grows.
    pub sync_version: i64,
}

impl Default for State {
    /// A new cluster: the formation `default`, as the stock extension creates it.
    fn default() -> State {
        let default = Formation::new("default");
        State {
            formations: BTreeMap::from([(default.id.clone(), default)]),
            nodes: BTreeMap::new(),
            events: VecDeque::new(),
            next_node_id: 1,
            next_event_id: 1,
            database_settings: BTreeMap::new(),
            system_settings_pending: BTreeMap::new(),
            system_settings: BTreeMap::new(),
            versions: BTreeMap::new(),
            timeline_history: Vec::new(),
            cluster_version: 1,
            groups: BTreeMap::new(),
        }
    }
}

impl State {
    /// What a group has beside its nodes.
    pub fn group(&self, formation: &str, group: GroupId) -> Group {
        self.groups.get(formation).and_then(|groups| groups.get(&group)).copied().unwrap_or_default()
    }

    /// A scope with its version: what an outcome is decided on.
    pub fn version_of(&self, scope: Scope) -> (Scope, u64) {
        let version = self.versions.get(&scope).copied().unwrap_or(0);
        (scope, version)
    }
}

/// A row of `pgautofailover.formation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formation {
    pub id: String,
    /// `pgsql` or `citus`.
    pub kind: String,
    pub dbname: String,
    pub opt_secondary: bool,
    pub number_sync_standbys: i32,
}

impl Formation {
    /// The defaults of the table's columns.
    pub fn new(id: &str) -> Formation {
        Formation {
            id: String::from(id),
            kind: String::from("pgsql"),
            dbname: String::from("postgres"),
            opt_secondary: true,
            number_sync_standbys: 0,
        }
    }
}

/// Which keeper a node runs: it decides which transitions may be assigned to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Generation {
    /// Stock `pg_autoctl` 2.0 to 2.2: `register_node` with 13 arguments.
    Stock20,
    /// Stock `pg_autoctl` 2.3: `register_node` with 14 arguments.
    Stock23,
    /// Our own keeper.
    Pgquorum,
}

/// A row of `pgautofailover.node`: the durable facts.
///
/// `lsn` and the four times are as of the last entry that wrote the row; the leader's
/// [`crate::Observations`] hold fresher ones and win where both exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub formation: String,
    pub id: NodeId,
    pub group: GroupId,
    pub name: String,
    pub host: String,
    pub port: i32,
    /// `None` is SQL NULL; 0 is "not known yet".
    pub system_identifier: Option<i64>,
    pub goal: NodeState,
    pub reported: NodeState,
    pub pg_is_running: bool,
    pub sync_state: SyncState,
    pub timeline: i32,
    pub lsn: Lsn,
    pub health: Health,
    pub candidate_priority: i32,
    pub replication_quorum: bool,
    /// `nodecluster`: a name other than `default` makes the node a read replica.
    pub cluster: String,
    pub region: String,
    pub generation: Generation,
    pub report_time: WallTime,
    pub wal_report_time: WallTime,
    pub health_check_time: WallTime,
    pub state_change_time: WallTime,
    /// Every synchronous configuration that this node may have in effect as a primary, the newest
    /// last. Empty for a node that is none, and was none since it last followed another.
    pub sync_sets: Vec<SyncSet>,
    /// The newest epoch that its keeper has persisted; 0 for stock keepers.
    pub epoch: i64,
    /// The group's epoch when the present goal was given. A seal counts only when it was reported
    /// with this epoch or a later one: an older report may have come late.
    pub goal_epoch: i64,
    /// Its keeper's word that the node takes no more WAL, and that its position is final.
    pub sealed: bool,
    /// The newest synchronous configuration that it has confirmed as a primary.
    pub sync_version: i64,
    pub postgres_end: PostgresEnd,
}

/// A synchronous configuration: what `synchronous_standby_names` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncSet {
    /// By id. Empty: commits wait for nobody.
    pub standbys: Vec<NodeId>,
    /// How many of them a commit waits for.
    pub required: u32,
    /// The keeper may have fetched it since it was last sent to `primary`.
    pub offered: bool,
    /// As our keepers confirm it; 0 for a primary of a stock keeper.
    pub version: i64,
    /// Where the primary's WAL ended when it confirmed this configuration; 0/0: not yet.
    pub confirmed: Lsn,
}

/// One line of a PostgreSQL timeline history file, as a keeper reported it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimelineFork {
    pub node: NodeId,
    pub timeline: i32,
    pub parent: i32,
    pub switchpoint: Lsn,
}
