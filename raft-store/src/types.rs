//! What openraft is instantiated with. Nothing in here is persisted, sent or public.

use std::fmt;

use crate::internal::Internal;

/// What one log entry asks the state machine to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The application's bytes, opaque to us.
    Application(Vec<u8>),
    /// Our own bookkeeping.
    Internal(Internal),
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Application(b) => write!(f, "{} bytes", b.len()),
            Command::Internal(i) => write!(f, "{i:?}"),
        }
    }
}

/// Where a member is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    pub name: String,
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.name, self.host, self.port)
    }
}

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Command,
        R = Vec<u8>,
        NodeId = u64,
        Node = Node,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
pub type Membership = openraft::Membership<u64, Node>;
pub type StoredMembershipOf = openraft::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub type Metrics = openraft::RaftMetrics<TypeConfig>;
pub type Raft = openraft::Raft<TypeConfig, crate::state_store::StateStore>;
