//! The public face: one replica of the replicated state machine.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use openraft::SnapshotPolicy;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::metrics::WaitError;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::barrier::{Barrier, NotLeader};
use crate::codec::Blob;
use crate::config::{Config, Member};
use crate::core::Core;
use crate::error::{CallError, MembershipError, ProposeError, StartError};
use crate::identities::Identities;
use crate::log_store::WeakLogStore;
use crate::network::{Factory, Peers};
use crate::peer::{Lane, RequestError};
use crate::state_machine::StateMachine;
use crate::state_store::StateStore;
use crate::status::{self, Leadership, Status};
use crate::types::{Command, Raft};
use crate::wire::{Request, Response};
use crate::{bootstrap, heartbeat, membership, server, storage, tls};

/// Largest entry that [`Replica::propose`] accepts, in bytes.
pub const MAX_ENTRY_BYTES: usize = 4 << 20;
/// Largest body and answer of [`Replica::call`], in bytes.
pub const MAX_CALL_BYTES: usize = 16 << 20;

/// Answers application calls of other replicas ([`Replica::call`]).
pub trait CallHandler: Send + Sync + 'static {
    /// Called concurrently. `from` is the calling replica's id, as its handshake proved. Runs to its
    /// end even when the caller has given up. An answer above [`MAX_CALL_BYTES`] is not delivered.
    fn handle(&self, from: u64, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>>;
}

/// A proposal that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its log index.
    pub index: u64,
    /// What the state machine answered on this replica.
    pub response: Vec<u8>,
}

struct Shared {
    core: Arc<Core>,
    status: watch::Receiver<Status>,
    recovered: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    log: WeakLogStore,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.core.peers.stop();
    }
}

/// One replica. Cheap to clone; all clones are the same replica.
#[derive(Clone)]
pub struct Replica(Arc<Shared>);

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replica({})", self.0.core.cfg.id)
    }
}

impl Replica {
    /// Opens or creates the store, joins or founds the cluster in the background, and returns as
    /// soon as requests are served; [`Replica::status`] tells when there is a leader.
    ///
    /// `machine` is read by the caller through its own clone of the lock. It must be in its initial
    /// (empty) state: the stored state is restored into it before this returns.
    pub async fn start<S: StateMachine>(
        cfg: Config,
        machine: Arc<RwLock<S>>,
        handler: Arc<dyn CallHandler>,
    ) -> Result<Replica, StartError> {
        let me = cfg.check().map_err(StartError::Config)?.clone();
        let tls = cfg.tls.as_ref().map(tls::Tls::load).transpose().map_err(StartError::Tls)?;
        let raft_config = Arc::new(raft_config(&cfg).validate().map_err(|e| StartError::Config(e.to_string()))?);
        let listener = TcpListener::bind(&cfg.listen).await.map_err(|e| StartError::Listen(cfg.listen.clone(), e))?;
        let opened = {
            let (cfg, me) = (cfg.clone(), me);
            tokio::task::spawn_blocking(move || storage::prepare(&cfg, &me)).await
        };
        let (identity, log) = opened.map_err(|e| StartError::Raft(e.to_string()))??;
        let rejoining = identity.rejoining;
        let weak_log = log.downgrade();
        let byte_counter_of = log.clone();
        let store = StateStore::new(&storage::snapshot_dir(&cfg), machine);
        let applied = store.applied.clone();
        let identities = Identities::new(
            identity,
            cfg.software.clone(),
            cfg.cluster_versions,
            cfg.fingerprint(),
            applied.clone(),
            tls,
        );
        let peers = Peers::new(identities.clone(), &cfg.members);
        let raft = Raft::new(cfg.id, raft_config, Factory(peers.clone()), log, store)
            .await
            .map_err(|e| StartError::Store { path: cfg.data_dir.clone(), what: e.to_string() })?;
        let had_log = raft.is_initialized().await.map_err(|e| StartError::Raft(e.to_string()))?;

        let (stop, stopped) = watch::channel(false);
        let barrier = Barrier::start(raft.clone(), applied.clone(), stopped.clone());
        let core = Core::new(cfg, raft, identities, peers, applied, barrier, handler, &byte_counter_of);
        drop(byte_counter_of);
        core.identities.initialised.store(had_log, std::sync::atomic::Ordering::Relaxed);

        let (recovered_tx, recovered) = watch::channel(!had_log);
        let (status_tx, status) = watch::channel(status::current(&core, !had_log));
        tokio::spawn(server::serve(listener, core.identities.clone(), core.clone(), stopped.clone()));
        tokio::spawn(status::keep(core.clone(), recovered.clone(), status_tx, stopped.clone()));
        tokio::spawn(bootstrap::housekeeping(core.clone(), stopped.clone()));
        tokio::spawn(heartbeat::send(core.clone(), status.clone(), stopped.clone()));
        if had_log {
            tokio::spawn(watch_recovery(core.clone(), recovered_tx, stopped.clone()));
        }
        if rejoining {
            tokio::spawn(bootstrap::rejoin(core.clone(), stopped));
        } else if !had_log {
            tokio::spawn(bootstrap::found_or_wait(core.clone(), stopped));
        }
        Ok(Replica(Arc::new(Shared { core, status, recovered, stop, log: weak_log })))
    }

    /// Replicates an entry and returns what applying it answered here. Durable on a majority and
    /// applied on this replica when it returns `Ok`. At most [`MAX_ENTRY_BYTES`].
    pub async fn propose(&self, entry: Vec<u8>, deadline: Instant) -> Result<Applied, ProposeError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(ProposeError::TooLarge { size: entry.len(), limit: MAX_ENTRY_BYTES });
        }
        let me = self.0.core.cfg.id;
        // Never name ourselves as the one to ask instead.
        let other = |leader: Option<u64>| ProposeError::NotLeader { leader: leader.filter(|l| *l != me) };
        match timeout_at(deadline, self.0.core.raft.client_write(Command::Application(entry))).await {
            Err(_) => Err(ProposeError::Unknown("no result before the deadline".into())),
            Ok(Ok(r)) => Ok(Applied { index: r.log_id.index(), response: r.data }),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(f)))) => Err(other(f.leader_id)),
            Ok(Err(RaftError::APIError(e))) => Err(ProposeError::Unknown(e.to_string())),
            // The entry may have been written before the replica stopped.
            Ok(Err(RaftError::Fatal(e))) => Err(ProposeError::Fatal(e.to_string())),
        }
    }

    /// Proves that this replica leads, by a majority round that began after this call, and waits
    /// until everything committed before is applied here. Returns the applied index. A state read
    /// afterwards is linearizable.
    pub async fn read_barrier(&self, deadline: Instant) -> Result<u64, NotLeader> {
        match timeout_at(deadline, self.0.core.barrier.pass()).await {
            Ok(r) => r,
            Err(_) => Err(NotLeader { leader: None }),
        }
    }

    /// Sends an application message to a peer and returns its answer. Many may be under way at once.
    pub async fn call(&self, peer: u64, body: Vec<u8>, deadline: Instant) -> Result<Vec<u8>, CallError> {
        if body.len() > MAX_CALL_BYTES {
            return Err(CallError::TooLarge { size: body.len(), limit: MAX_CALL_BYTES });
        }
        let core = &self.0.core;
        if peer == core.cfg.id {
            return Ok(core.handler.handle(peer, body).await);
        }
        let node = core.metrics().membership_config.get_node(&peer).cloned();
        let Some(p) = core.peers.get(peer, node.as_ref()) else { return Err(CallError::UnknownPeer(peer)) };
        match p.request(Lane::Bulk, &Request::Call(Blob(body)), deadline).await {
            Ok(Response::Call(Blob(answer))) => Ok(answer),
            Ok(Response::Failed(t)) => Err(CallError::Lost(t)),
            Ok(_) => Err(CallError::Lost("the peer answered another question".into())),
            Err(RequestError::Unreachable(t)) => Err(CallError::Unreachable(t)),
            Err(RequestError::Lost(t)) => Err(CallError::Lost(t)),
        }
    }

    /// The view of this moment.
    pub fn status(&self) -> Status {
        status::current(&self.0.core, *self.0.recovered.borrow())
    }

    /// Who leads, as this replica knows at this moment.
    pub fn leadership(&self) -> Leadership {
        status::leadership(&self.0.core)
    }

    /// Wakes when anything but an index changes: role, term, leader, `leader_seen`, members, peers'
    /// versions. Indexes in it are as of the last look; use [`Replica::status`] for current ones.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.0.status.clone()
    }

    /// Adds a member that follows without a vote. Leader only. The new replica must have been
    /// started with itself in its member list; it waits to be contacted.
    pub async fn add_learner(&self, member: Member, deadline: Instant) -> Result<(), MembershipError> {
        self.change(deadline, membership::add_learner(&self.0.core, &member)).await
    }

    /// Gives a learner its vote. Leader only.
    pub async fn promote(&self, id: u64, deadline: Instant) -> Result<(), MembershipError> {
        self.change(deadline, membership::promote(&self.0.core, id)).await
    }

    /// Removes a member, voter or learner. Leader only; a leader that removes itself hands over.
    pub async fn remove(&self, id: u64, deadline: Instant) -> Result<(), MembershipError> {
        self.change(deadline, membership::remove(&self.0.core, id)).await
    }

    async fn change<F>(&self, deadline: Instant, f: F) -> Result<(), MembershipError>
    where
        F: Future<Output = Result<(), MembershipError>>,
    {
        timeout_at(deadline, f).await.unwrap_or(Err(MembershipError::Deadline))
    }

    /// Hands leadership to a voter and returns once this replica knows the new leader. Proposals
    /// during the handover are refused with `NotLeader`.
    pub async fn transfer_leader(&self, to: u64, deadline: Instant) -> Result<(), MembershipError> {
        let core = &self.0.core;
        core.barrier.pass().await.map_err(|e| MembershipError::NotLeader { leader: e.leader })?;
        if !core.metrics().membership_config.voter_ids().any(|v| v == to) {
            return Err(MembershipError::Refused(format!("replica {to} is no voter")));
        }
        core.raft.trigger().transfer_leader(to).await.map_err(|e| MembershipError::Refused(e.to_string()))?;
        let patience = deadline.saturating_duration_since(Instant::now());
        match core.raft.wait(Some(patience)).current_leader(to, "transfer of leadership").await {
            Ok(_) => Ok(()),
            Err(WaitError::Timeout(..)) => Err(MembershipError::Deadline),
            Err(WaitError::ShuttingDown) => Err(MembershipError::Refused("this replica has stopped".into())),
        }
    }

    /// Takes a snapshot soon, whatever the thresholds say (before an upgrade, in tests).
    pub async fn take_snapshot(&self) {
        let _ = self.0.core.raft.trigger().snapshot().await;
    }

    /// Stops serving and closes the store; afterwards it may be opened again. Other clones of this
    /// replica answer errors from then on.
    pub async fn shutdown(self) {
        self.0.stop.send_replace(true);
        self.0.core.peers.stop();
        let _ = self.0.core.raft.shutdown().await;
        let limit = Instant::now() + Duration::from_secs(10);
        // Our own tasks: one of them may be writing the identity file.
        let _ = timeout_at(limit, self.0.stop.closed()).await;
        // openraft's tasks let go of the log one by one.
        while !self.0.log.is_closed() && Instant::now() < limit {
            sleep(Duration::from_millis(5)).await;
        }
        if !self.0.log.is_closed() {
            tracing::warn!("the log is still in use after 10 s");
        }
    }
}

#[cfg(test)]
impl Replica {
    /// Members whose incarnation is recorded here.
    pub(crate) fn known_members(&self) -> usize {
        self.0.core.applied.bookkeeping.borrow().incarnations.len()
    }

    pub(crate) fn is_rejoining(&self) -> bool {
        self.0.core.identities.identity.lock().unwrap_or_else(std::sync::PoisonError::into_inner).rejoining
    }

    pub(crate) fn log_syncs(&self) -> u64 {
        (self.0.core.log_syncs)()
    }
}

async fn watch_recovery(core: Arc<Core>, recovered: watch::Sender<bool>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        r = core.raft.wait_for_recovery(None) => if r.is_ok() { recovered.send_replace(true); },
        _ = stop.wait_for(|s| *s) => {}
    }
}

fn raft_config(cfg: &Config) -> openraft::Config {
    openraft::Config {
        cluster_name: "pgquorum".into(),
        heartbeat_interval: heartbeat::openraft_interval_ms(cfg),
        enable_heartbeat: false,
        election_timeout_min: cfg.election_timeout_min_ms,
        election_timeout_max: cfg.election_timeout_max_ms,
        // Only a limit for openraft's own patience; pieces have their own deadline.
        install_snapshot_timeout: 60_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(cfg.snapshot_entries.max(1)),
        max_in_snapshot_log_to_keep: cfg.keep_entries,
        purge_batch_size: 1,
        // A follower this far behind gets a snapshot when the log no longer reaches back.
        replication_lag_threshold: cfg.snapshot_entries.max(cfg.keep_entries).max(1),
        max_payload_entries: 300,
        // A flapping follower must not depose a healthy leader.
        enable_pre_vote: Some(true),
        // A restarted leader is a follower first: its state may not be restored to the end.
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        backoff: "200ms".into(),
        ..openraft::Config::default()
    }
}
