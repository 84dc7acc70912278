//! What the facade needs of the monitor behind it.

use std::sync::Arc;

use async_trait::async_trait;
use failover::{Call, Notice, Now, Observations, Rejection, Reply, State};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

/// One consistent view to read from.
#[derive(Clone)]
pub struct ReadView {
    pub state: Arc<State>,
    /// Empty on a follower that reads locally.
    pub observations: Arc<Observations>,
    /// The log index that `state` is at. With `observations_version` it identifies the view: equal
    /// numbers, equal content.
    pub applied_index: u64,
    pub observations_version: u64,
    /// When the view was taken.
    pub now: Now,
    /// Rows of `pgquorum.replica`.
    pub replicas: Arc<Vec<ReplicaRow>>,
}

/// One monitor, as `pgquorum show monitors` lists it (`pgquorum.replica`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRow {
    pub id: i64,
    pub name: String,
    pub host: String,
    pub port: i32,
    /// The port of the replicas' own channel.
    pub replica_port: i32,
    /// `leader`, `follower`, `learner`, `candidate`, `unreachable`.
    pub role: String,
    pub term: i64,
    pub applied_index: i64,
    /// Log entries behind the leader; `None` when not known here.
    pub lag: Option<i64>,
    /// Release of the binary; `None` when not known here.
    pub version: Option<String>,
}

/// What this monitor is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads (unproved: every answer proves it anew).
    Leader,
    /// Another replica leads and was heard of within an election timeout.
    Follower { leader: u64 },
    /// No leader is known: sessions are refused with 57P03, calls wait briefly, then fail.
    NoLeader,
}

/// A message on a LISTEN channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// `state` or `log`.
    pub channel: String,
    pub payload: String,
}

/// A finished call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallDone {
    pub reply: Reply,
    pub notices: Vec<Notice>,
}

/// A call that gave no reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallError {
    /// The rules refused it: nothing changed.
    Rejected(Rejection),
    /// This replica does not lead; surely nothing was done here. Forward it.
    NotLeader,
    /// No leader could be reached in time; surely nothing was done.
    NoLeader,
    /// Leadership was lost under way: it may or may not have been done (40001 for the client).
    Unknown,
    /// A second registration is under way in the same formation (55006).
    Busy(String),
    /// Anything else, for an XX000.
    Internal(String),
}

/// Identifies an explicit transaction that has written something: (replica id, session number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TransactionId {
    pub replica: u64,
    pub session: u64,
}

/// Which view a read needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Proved: leadership was confirmed after the request arrived.
    Linearizable,
    /// Whatever this replica has applied (`SET pgquorum.read_consistency = 'local'`).
    Local,
}

/// The monitor behind the facade. Methods that need the leader answer `NotLeader` elsewhere; the
/// executor then ships the whole statement with its session context through `forward`.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Decides and replicates one call.
    async fn call(&self, call: Call) -> Result<CallDone, CallError>;

    /// Decides `call` after `pending` on a tentative copy, replicating nothing. A registration
    /// reserves its formation for `transaction` until `commit`, `rollback` or a lease runs out;
    /// another one waits for it, then gets `Busy`.
    async fn tentative(
        &self,
        transaction: TransactionId,
        pending: &[Call],
        call: Call,
    ) -> Result<CallDone, CallError>;

    /// Decides all calls anew, in order, and replicates them as one entry, provided that every
    /// reply equals the one that the client was given; `Unknown` (40001) otherwise.
    async fn commit(&self, transaction: TransactionId, calls: Vec<Call>, expected: Vec<Reply>) -> Result<(), CallError>;

    /// Gives up the reservations of a transaction.
    async fn rollback(&self, transaction: TransactionId);

    /// A view to read from. With `pending` calls, the view is of the tentative state after them.
    async fn view(&self, consistency: Consistency, pending: &[Call]) -> Result<ReadView, CallError>;

    /// Sends an encoded statement to the leader's executor and returns its encoded answer.
    async fn forward(&self, request: Vec<u8>) -> Result<Vec<u8>, CallError>;

    fn role(&self) -> Role;

    /// Changes of the role: sessions of a monitor that became leader or follower are told by
    /// ParameterStatus.
    fn watch_role(&self) -> watch::Receiver<Role>;

    /// Everything that is notified on this monitor from now on.
    fn subscribe(&self) -> broadcast::Receiver<Arc<Notification>>;

    /// The session of a keeper that reported for this node has ended.
    fn session_lost(&self, _node: failover::NodeId) {}

    /// This replica's id.
    fn replica_id(&self) -> u64;
}
