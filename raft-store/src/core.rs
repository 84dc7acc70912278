//! What the tasks of one replica share, and how requests of peers are carried out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::barrier::Barrier;
use crate::codec::Blob;
use crate::config::Config;
use crate::identities::Identities;
use crate::log_store::LogStore;
use crate::network::Peers;
use crate::replica::{CallHandler, MAX_CALL_BYTES};
use crate::server::Dispatch;
use crate::state_store::Applied;
use crate::types::{Raft, Vote};
use crate::wire::{Append, Appended, Ballot, Handover, Request, Response, SnapshotPiece};

/// Largest snapshot that is accepted from a leader.
const MAX_SNAPSHOT: u64 = crate::codec::MAX_PAYLOAD as u64;

/// A snapshot that is arriving.
struct Partial {
    vote: crate::stored::StoredVote,
    meta: crate::stored::StoredSnapshotMeta,
    total: u64,
    data: Vec<u8>,
}

/// Shared by all tasks of a replica.
pub struct Core {
    pub cfg: Config,
    pub raft: Raft,
    pub identities: Arc<Identities>,
    pub peers: Arc<Peers>,
    pub applied: Arc<Applied>,
    pub barrier: Barrier,
    pub handler: Arc<dyn CallHandler>,
    /// Weak: the log must close when the raft core ends.
    pub log_bytes: Box<dyn Fn() -> u64 + Send + Sync>,
    #[cfg(test)]
    pub log_syncs: Box<dyn Fn() -> u64 + Send + Sync>,
    /// A leader's majority has not been heard for a lease: time for a look at the status.
    pub unheard: Notify,
    pub started: Instant,
    /// Milliseconds after `started` (plus one) at which a leader was last heard; 0 is never.
    leader_heard: AtomicU64,
    partial: Mutex<HashMap<u64, Partial>>,
}

impl Core {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        cfg: Config,
        raft: Raft,
        identities: Arc<Identities>,
        peers: Arc<Peers>,
        applied: Arc<Applied>,
        barrier: Barrier,
        handler: Arc<dyn CallHandler>,
        log: &LogStore,
    ) -> Arc<Core> {
        Arc::new(Core {
            cfg,
            raft,
            identities,
            peers,
            applied,
            barrier,
            handler,
            log_bytes: Box::new(log.byte_counter()),
            #[cfg(test)]
            log_syncs: Box::new(log.sync_counter()),
            unheard: Notify::new(),
            started: Instant::now(),
            leader_heard: AtomicU64::new(0),
            partial: Mutex::default(),
        })
    }

    /// openraft's view of itself, as of its last report.
    pub fn metrics(&self) -> crate::types::Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// How long ago a leader was heard.
    pub fn leader_silence(&self) -> Option<Duration> {
        let at = self.leader_heard.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.started.elapsed().saturating_sub(Duration::from_millis(at)))
    }

    fn note_leader(&self) {
        self.leader_heard.store(self.started.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    async fn append(&self, from: u64, a: Append) -> Response {
        if a.vote.node != from {
            return Response::Failed(format!("replica {from} speaks for replica {}", a.vote.node));
        }
        let entries: Result<Vec<_>, _> = a.entries.into_iter().map(|e| e.into_entry()).collect();
        let entries = match entries {
            Ok(e) => e,
            Err(e) => return Response::Failed(e.to_string()),
        };
        let rpc = AppendEntriesRequest {
            vote: a.vote.into(),
            prev_log_id: a.prev.map(Into::into),
            leader_commit: a.commit.map(Into::into),
            entries,
        };
        // Noted on arrival as well: storing a large batch takes time, and the leader is there.
        match self.raft.append_entries(rpc).await {
            Ok(r) => {
                let r = match r {
                    AppendEntriesResponse::Success => Appended::Success,
                    AppendEntriesResponse::PartialSuccess(id) => Appended::PartialSuccess(id.as_ref().map(Into::into)),
                    AppendEntriesResponse::Conflict => Appended::Conflict,
                    AppendEntriesResponse::HigherVote(v) => Appended::HigherVote((&v).into()),
                };
                if !matches!(r, Appended::HigherVote(_)) {
                    self.note_leader();
                }
                Response::Append(r)
            }
            Err(e) => Response::Failed(e.to_string()),
        }
    }

    async fn ballot(&self, from: u64, b: Ballot, pre: bool) -> Response {
        if b.vote.node != from {
            return Response::Failed(format!("replica {from} asks for votes for replica {}", b.vote.node));
        }
        let mut rpc = VoteRequest::new(b.vote.into(), b.last.map(Into::into));
        rpc.leadership_transfer = b.transfer;
        let r = if pre { self.raft.pre_vote(rpc).await } else { self.raft.vote(rpc).await };
        match r {
            Ok(r) => Response::Vote {
                vote: (&r.vote).into(),
                last: r.last_log_id.as_ref().map(Into::into),
                granted: r.vote_granted,
            },
            Err(e) => Response::Failed(e.to_string()),
        }
    }

    async fn snapshot(&self, from: u64, p: SnapshotPiece) -> Response {
        if p.vote.node != from || p.total > MAX_SNAPSHOT {
            return Response::Failed("this snapshot is not acceptable".into());
        }
        let complete = {
            let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
            if p.offset == 0 {
                let fresh = Partial { vote: p.vote, meta: p.meta.clone(), total: p.total, data: Vec::new() };
                partial.insert(from, fresh);
            }
            let Some(t) = partial.get_mut(&from) else {
                return Response::Failed("the beginning of this snapshot is missing".into());
            };
            let fits = t.vote == p.vote && t.meta == p.meta && t.total == p.total && t.data.len() as u64 == p.offset;
            if !fits || p.offset + p.data.0.len() as u64 > t.total {
                partial.remove(&from);
                return Response::Failed("this piece does not continue the snapshot".into());
            }
            t.data.extend_from_slice(&p.data.0);
            if (t.data.len() as u64) < t.total { None } else { partial.remove(&from) }
        };
        self.note_leader();
        let Some(whole) = complete else { return Response::Snapshot { vote: None } };
        let meta = match whole.meta.restore() {
            Ok(m) => m,
            Err(e) => return Response::Failed(e.to_string()),
        };
        // Refuse bytes that we cannot read before they reach the state machine.
        if let Err(e) = crate::state_store::Content::decode(&whole.data) {
            return Response::Failed(format!("snapshot: {e}"));
        }
        let snapshot = openraft::Snapshot { meta, snapshot: whole.data };
        match self.raft.install_full_snapshot(Vote::from(whole.vote), snapshot).await {
            Ok(r) => Response::Snapshot { vote: Some((&r.vote).into()) },
            Err(e) => Response::Failed(e.to_string()),
        }
    }

    async fn handover(&self, h: Handover) -> Response {
        let req = TransferLeaderRequest::new(h.from.into(), h.to, h.last.map(Into::into));
        match self.raft.handle_transfer_leader(req).await {
            Ok(Ok(())) => Response::Handover { accepted: true, text: String::new() },
            Ok(Err(e)) => Response::Handover { accepted: false, text: e.to_string() },
            Err(e) => Response::Failed(e.to_string()),
        }
    }
}

impl Dispatch for Core {
    fn dispatch(self: Arc<Self>, from: u64, request: Request) -> BoxFuture<'static, Response> {
        async move {
            match request {
                Request::Append(a) => self.append(from, a).await,
                Request::Vote(b) => self.ballot(from, b, false).await,
                Request::PreVote(b) => self.ballot(from, b, true).await,
                Request::Snapshot(p) => self.snapshot(from, p).await,
                Request::Handover(h) => self.handover(h).await,
                Request::Call(Blob(body)) => match self.handler.handle(from, body).await {
                    a if a.len() > MAX_CALL_BYTES => Response::Failed(format!("answer of {} bytes", a.len())),
                    a => Response::Call(Blob(a)),
                },
                Request::Probe => Response::Probe(self.identities.introduction()),
                Request::Rejoin(r) => Response::Rejoin(crate::membership::rejoin_step(&self, from, r).await),
            }
        }
        .boxed()
    }
}
