//! One monitor: the replica, what it leads with, and the facade's view of both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use failover::{Call, Observations, Reply, State};
use futures::future::BoxFuture;
use raft_store::{CallError as PeerError, CallHandler, Replica};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::clock;
use crate::codec::{self, Kind, Text};
use crate::leader::{Done, Leader};
use crate::members::Members;
use crate::notify::Hub;
use crate::replicated::SharedState;
use crate::sql::Facade;
use crate::sql::backend::{
    Backend, CallDone, CallError, Consistency, Notification, ReadView, Role, TransactionId,
};

/// How long a follower waits for the leader's executor. Longer than the leader's own deadlines, so
/// that its error arrives rather than ours.
const FORWARD_DEADLINE: Duration = Duration::from_secs(15);

/// How often the role is looked at besides its changes, should one have been missed.
const ROLE_PERIOD: Duration = Duration::from_secs(10);

/// Views of a transaction's tentative state get numbers of their own, above all real ones.
const TENTATIVE: u64 = 1 << 63;

/// A running monitor.
pub struct Monitor {
    replica: Replica,
    members: Members,
    shared: SharedState,
    hub: Hub,
    leader: Leader,
    role: watch::Sender<Role>,
    /// Nodes whose keepers' connections ended here, on their way to the leader.
    lost: tokio::sync::mpsc::UnboundedSender<failover::NodeId>,
    /// This replica has seen something of a node itself: `watch` looks at what follows.
    pub(crate) witnessed: Notify,
    tentative_views: AtomicU64,
}

impl Monitor {
    pub fn new(
        replica: Replica,
        members: Members,
        shared: SharedState,
        hub: Hub,
    ) -> (Monitor, UnboundedReceiver<failover::NodeId>) {
        let (lost, losses) = tokio::sync::mpsc::unbounded_channel();
        let monitor = Monitor {
            leader: Leader::new(replica.clone(), shared.clone()),
            replica,
            members,
            shared,
            hub,
            role: watch::channel(Role::NoLeader).0,
            lost,
            witnessed: Notify::new(),
            tentative_views: AtomicU64::new(TENTATIVE),
        };
        (monitor, losses)
    }

    /// Passes on to the leader, which may be this replica, whose keepers' connections end here.
    pub async fn pass_on_losses(self: Arc<Self>, mut losses: UnboundedReceiver<failover::NodeId>) {
        while let Some(node) = losses.recv().await {
            let monitor = self.clone();
            tokio::spawn(async move { monitor.pass_on(node).await });
        }
    }

    async fn pass_on(self: Arc<Self>, node: failover::NodeId) {
        match self.members.role(self.replica.leadership()) {
            Role::Leader => crate::watch::session_lost(self.clone(), node).await,
            Role::Follower { leader } => {
                let body = [&[Kind::SessionLost as u8][..], &node.to_be_bytes()].concat();
                // Best effort: without it, silence tells.
                let _ = self.replica.call(leader, body, Instant::now() + Duration::from_secs(1)).await;
            }
            Role::NoLeader => {}
        }
    }

    /// The applied state of this replica.
    pub fn state(&self) -> Arc<State> {
        self.shared.read().state
    }

    /// Wakes whenever an entry is applied here or a snapshot restored.
    pub fn watch_state(&self) -> watch::Receiver<u64> {
        self.shared.watch()
    }

    /// What this replica has observed in the term in which it leads.
    pub fn observations(&self) -> Arc<Observations> {
        self.leader.observed.read().0
    }

    /// Whether this replica took itself for the leader a moment ago. For background work only:
    /// every answer is proved.
    pub fn leads(&self) -> bool {
        *self.role.borrow() == Role::Leader
    }

    /// Decides a call on this replica, which must lead, and tells what there is to tell.
    pub async fn decide_here(&self, call: Call) -> Result<CallDone, CallError> {
        let Done { call, messages } = self.leader.call(&call).await?;
        self.tell(messages);
        Ok(call)
    }

    /// Messages that are no events: into the server log and to the `log` listeners of all monitors.
    fn tell(&self, messages: Vec<String>) {
        for message in messages {
            info!("{message}");
            self.hub.log(&message);
            let Ok(body) = codec::encode_as(1, Kind::LogMessage, &Text(message)) else { continue };
            for peer in self.members.peers() {
                let (replica, body) = (self.replica.clone(), body.clone());
                // Best effort: such messages are for people who watch.
                tokio::spawn(async move { replica.call(peer, body, Instant::now() + Duration::from_secs(1)).await });
            }
        }
    }

    /// Follows the replica's role, for the facade and for the log.
    pub async fn follow_role(self: Arc<Self>) {
        let mut changes = self.replica.watch_status();
        loop {
            let known = self.replica.leadership();
            let role = self.members.role(known);
            if role == Role::Leader {
                self.leader.observed.enter_term(known.term, clock::now());
            }
            let changed = self.role.send_if_modified(|present| {
                let changed = *present != role;
                *present = role.clone();
                changed
            });
            if changed {
                match role {
                    Role::Leader => info!(
                        "this monitor leads now (term {}): a grace period begins, and nothing is decided on a \
                         silence that it has not witnessed itself",
                        known.term
                    ),
                    Role::Follower { leader } => {
                        info!("monitor \"{}\" leads (term {})", self.members.name(leader), known.term)
                    }
                    Role::NoLeader => warn!(
                        "no leader: a majority of the monitors cannot be reached. Nothing is decided until it can; \
                         PostgreSQL goes on as it is"
                    ),
                }
            }
            let _ = tokio::time::timeout(ROLE_PERIOD, changes.changed()).await;
        }
    }
}

#[async_trait]
impl Backend for Monitor {
    async fn call(&self, call: Call) -> Result<CallDone, CallError> {
        self.decide_here(call).await
    }

    async fn tentative(
        &self,
        transaction: TransactionId,
        pending: &[Call],
        call: Call,
    ) -> Result<CallDone, CallError> {
        self.leader.tentative(transaction, pending, call).await
    }

    async fn commit(&self, transaction: TransactionId, calls: Vec<Call>, expected: Vec<Reply>) -> Result<(), CallError> {
        let messages = self.leader.commit(transaction, &calls, &expected).await?;
        self.tell(messages);
        Ok(())
    }

    async fn rollback(&self, transaction: TransactionId) {
        self.leader.reservations.release(transaction);
    }

    async fn view(&self, consistency: Consistency, pending: &[Call]) -> Result<ReadView, CallError> {
        #[cfg(feature = "mutants")]
        let consistency = match failover::mutant::is(failover::mutant::Mutant::LocalReads) {
            true => Consistency::Local,
            false => consistency,
        };
        if consistency == Consistency::Linearizable {
            self.leader.prove().await?;
        }
        let replicas = Arc::new(self.members.rows(&self.replica.status()));
        let now = clock::now();
        if !pending.is_empty() {
            let trial = self.leader.try_out(pending)?;
            return Ok(ReadView {
                state: trial.state,
                observations: trial.observations,
                applied_index: self.tentative_views.fetch_add(1, Ordering::Relaxed),
                observations_version: 0,
                now,
                replicas,
            });
        }
        let versioned = self.shared.read();
        let (observations, observations_version) = match self.leads() {
            true => {
                let (observations, version, _) = self.leader.observed.read();
                (observations, version)
            }
            // What was observed in an earlier term is nobody's truth any more.
            false => (Arc::new(Observations::default()), u64::MAX),
        };
        Ok(ReadView {
            state: versioned.state,
            observations,
            applied_index: versioned.version,
            observations_version,
            now,
            replicas,
        })
    }

    async fn forward(&self, request: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let leader = match self.members.role(self.replica.leadership()) {
            Role::Follower { leader } => leader,
            Role::Leader | Role::NoLeader => return Err(CallError::NoLeader),
        };
        let mut body = vec![Kind::Statement as u8];
        body.extend_from_slice(&request);
        let mut role = self.role.subscribe();
        let answer = tokio::select! {
            answer = self.replica.call(leader, body, Instant::now() + FORWARD_DEADLINE) => answer,
            // A leader that hangs keeps its connections: its successor is the sign to stop waiting.
            _ = role.wait_for(|role| *role != Role::Follower { leader }) => return Err(CallError::Unknown),
        };
        match answer {
            Ok(reply) => Ok(reply),
            Err(PeerError::Unreachable(why)) => {
                debug!("a statement could not be sent to monitor \"{}\": {why}", self.members.name(leader));
                Err(CallError::NoLeader)
            }
            Err(why) => {
                debug!("no answer from monitor \"{}\": {why}", self.members.name(leader));
                Err(CallError::Unknown)
            }
        }
    }

    fn role(&self) -> Role {
        self.members.role(self.replica.leadership())
    }

    fn watch_role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Notification>> {
        self.hub.subscribe()
    }

    fn session_lost(&self, node: failover::NodeId) {
        // The receiver lives as long as the monitor runs.
        let _ = self.lost.send(node);
    }

    fn replica_id(&self) -> u64 {
        self.replica.leadership().id
    }
}

/// What peers ask of this monitor on the replicas' own channel.
pub struct PeerRequests {
    pub hub: Hub,
    pub facade: Arc<OnceLock<Arc<Facade>>>,
    pub monitor: Arc<OnceLock<Arc<Monitor>>>,
}

impl CallHandler for PeerRequests {
    fn handle(&self, from: u64, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        let (hub, facade) = (self.hub.clone(), self.facade.get().cloned());
        let monitor = self.monitor.get().cloned();
        Box::pin(async move {
            match (body.split_first(), facade) {
                (Some((kind, statement)), Some(facade)) if *kind == Kind::Statement as u8 => {
                    facade.execute_forwarded(statement.to_vec()).await
                }
                (Some((kind, _)), _) if *kind == Kind::LogMessage as u8 => {
                    if let Ok(message) = codec::decode::<Text>(Kind::LogMessage, &body) {
                        hub.log(&message.0);
                    }
                    Vec::new()
                }
                (Some((kind, node)), _) if *kind == Kind::SessionLost as u8 => {
                    if let (Ok(node), Some(monitor)) = (<[u8; 8]>::try_from(node), monitor) {
                        tokio::spawn(crate::watch::session_lost(monitor, i64::from_be_bytes(node)));
                    }
                    Vec::new()
                }
                // Still starting: an empty answer is undecodable, and the sender tries again.
                (_, None) => Vec::new(),
                _ => {
                    warn!("monitor {from} sent a request that this release does not know");
                    Vec::new()
                }
            }
        })
    }
}
