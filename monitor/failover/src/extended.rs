//! What our keepers say beyond upstream's report, and what they are told beyond its answer.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::outcome::AssignedGoal;
use crate::values::{Lsn, NodeId};

/// The second half of `pgquorum.node_active`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extended {
    /// The newest epoch that the keeper has persisted; 0: none.
    pub epoch: i64,
    /// The newest synchronous configuration that the primary has applied and confirmed; 0: none.
    pub sync_version: i64,
    /// The node takes WAL from nobody, durably, and its position was read after that; or its
    /// PostgreSQL is cleanly stopped.
    pub sealed: bool,
    pub upstream: UpstreamView,
    pub postgres_end: PostgresEnd,
    /// The history of the present timeline; empty: not told this time.
    pub timeline_history: Vec<HistoryLine>,
    /// Synchronous standbys of this primary with fresh replies; -1: unknown, or no primary.
    pub standbys_streaming: i32,
    /// Clients' open transactions on this primary; `None`: unknown, or no primary.
    pub transactions: Option<OpenTransactions>,
}

/// Transactions that clients have open on a primary. No rule looks at them: they are for whoever wants
/// to begin a switchover when they have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransactions {
    pub count: i32,
    /// How long ago the oldest one began, in milliseconds before the report; 0 without one.
    pub oldest_ms: i64,
}

/// One line of a timeline history file: where `timeline` left `parent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    pub timeline: i32,
    pub parent: i32,
    pub switchpoint: Lsn,
}

/// How a standby sees the node that it streams from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamView {
    /// Not told: no standby, or not known.
    #[default]
    Unknown,
    Streaming,
    /// The connection was closed or refused.
    Gone,
    /// The connection stands and nothing comes.
    Silent,
}

impl UpstreamView {
    /// From the word of the protocol.
    pub fn from_word(word: &str) -> Option<UpstreamView> {
        Some(match word {
            "" => UpstreamView::Unknown,
            "streaming" => UpstreamView::Streaming,
            "gone" => UpstreamView::Gone,
            "silent" => UpstreamView::Silent,
            _ => return None,
        })
    }

    /// The word of the protocol.
    pub fn word(self) -> &'static str {
        match self {
            UpstreamView::Unknown => "",
            UpstreamView::Streaming => "streaming",
            UpstreamView::Gone => "gone",
            UpstreamView::Silent => "silent",
        }
    }
}

/// The keeper's own word that PostgreSQL is down and will not come back by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PostgresEnd {
    /// It runs, or the keeper is about to start it, or nothing is known.
    #[default]
    None,
    /// Shut down with a checkpoint.
    Clean,
    Crashed,
}

impl PostgresEnd {
    /// From the word of the protocol.
    pub fn from_word(word: &str) -> Option<PostgresEnd> {
        Some(match word {
            "" => PostgresEnd::None,
            "clean" => PostgresEnd::Clean,
            "crashed" => PostgresEnd::Crashed,
            _ => return None,
        })
    }

    /// The word of the protocol.
    pub fn word(self) -> &'static str {
        match self {
            PostgresEnd::None => "",
            PostgresEnd::Clean => "clean",
            PostgresEnd::Crashed => "crashed",
        }
    }
}

/// Reads `timeline:parent:lsn,...`; `None` for anything else.
pub fn parse_history(text: &str) -> Option<Vec<HistoryLine>> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let timeline = fields.next()?.trim().parse().ok()?;
        let parent = fields.next()?.trim().parse().ok()?;
        let switchpoint = fields.next()?.trim().parse().ok()?;
        (timeline > parent && parent > 0).then_some(HistoryLine { timeline, parent, switchpoint })
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(line).collect()
}

/// The answer to `pgquorum.node_active`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedGoal {
    pub goal: AssignedGoal,
    /// The group's epoch: persisted before the goal is acted upon; goals of an older one are refused.
    pub epoch: i64,
    /// The configuration that the node must have in effect as a primary; 0: none.
    pub sync_version: i64,
    pub synchronous_standby_names: String,
    /// Read lease, counted from the moment the report was sent; 0: none granted.
    pub lease_ms: i32,
    /// Whom to follow, clone and fetch from.
    pub primary: Option<Upstream>,
    /// A switchover is coming: the checkpoint may be taken before the drain.
    pub checkpoint_now: bool,
    /// The history of the node's timeline is not known here.
    pub want_history: bool,
}

/// A node that another one follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    pub id: NodeId,
    pub host: String,
    pub port: i32,
}
