//! openraft's network traits over [`Peer`].

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, alias};
use tokio::time::Instant;

use crate::codec::Blob;
use crate::config::Member;
use crate::identities::Identities;
use crate::peer::{Lane, Peer, RequestError};
use crate::stored::StoredEntry;
use crate::types::{Node, TypeConfig, Vote};
use crate::wire::{Append, Appended, Ballot, Handover, Purpose, Request, Response, SnapshotPiece};

/// Entries sent in one request stay below this (the rest follows in the next one).
const APPEND_BYTES: usize = 4 << 20;
/// Time for an append that carries entries...
const APPEND_TTL: Duration = Duration::from_millis(500);
/// ...plus a millisecond for this many bytes.
const SLOW_LINK: u64 = 2048;
/// Snapshot bytes per request.
const PIECE: usize = 512 << 10;
/// One piece must be through in this time; the last one is answered after installation.
const PIECE_TIMEOUT: Duration = Duration::from_secs(20);

/// All peers. The configured address of a member wins over the replicated one, so that replicas
/// behind different networks may reach each other under different names.
pub struct Peers {
    identities: Arc<Identities>,
    configured: BTreeMap<u64, Member>,
    map: Mutex<BTreeMap<u64, Arc<Peer>>>,
}

impl Peers {
    pub fn new(identities: Arc<Identities>, members: &[Member]) -> Arc<Self> {
        let configured = members.iter().map(|m| (m.id, m.clone())).collect();
        Arc::new(Peers { identities, configured, map: Mutex::default() })
    }

    /// The peer with this id, if its address is known from the configuration or given.
    pub fn get(&self, id: u64, replicated: Option<&Node>) -> Option<Arc<Peer>> {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let address = self
            .configured
            .get(&id)
            .map(|m| (m.host.as_str(), m.port))
            .or(replicated.map(|n| (n.host.as_str(), n.port)));
        let Some((host, port)) = address else { return map.get(&id).cloned() };
        if let Some(p) = map.get(&id) {
            if p.is_at(host, port) {
                return Some(p.clone());
            }
            p.stop();
        }
        let peer = Peer::new(id, host, port, Purpose::Member, self.identities.clone());
        map.insert(id, peer.clone());
        Some(peer)
    }

    /// Is there a live connection to it?
    pub fn is_connected(&self, id: u64) -> bool {
        self.map.lock().unwrap_or_else(PoisonError::into_inner).get(&id).is_some_and(|p| p.is_connected())
    }

    /// Closes everything.
    pub fn stop(&self) {
        for p in self.map.lock().unwrap_or_else(PoisonError::into_inner).values() {
            p.stop();
        }
    }
}

/// Makes clients for openraft.
pub struct Factory(pub Arc<Peers>);

/// One client; its lane decides which connection carries appends.
pub struct Network {
    peer: Option<Arc<Peer>>,
    target: u64,
    lane: Lane,
}

impl Factory {
    fn client(&self, target: u64, node: &Node, lane: Lane) -> Network {
        Network { peer: self.0.get(target, Some(node)), target, lane }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Node) -> Network {
        self.client(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Network {
        self.client(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Node) -> Network {
        self.client(target, node, Lane::Bulk)
    }
}

type Error = RPCError<TypeConfig>;

fn unreachable(text: impl ToString) -> Error {
    Error::Unreachable(Unreachable::from_string(text))
}

/// A follower that reports failure did not carry the request out; back off like from a dead one.
fn unexpected(r: Response) -> Error {
    match r {
        Response::Failed(text) => unreachable(text),
        _ => unreachable("the peer answered another question"),
    }
}

impl Network {
    async fn ask(&self, lane: Lane, request: &Request, ttl: Duration) -> Result<Response, Error> {
        let Some(peer) = &self.peer else {
            return Err(unreachable(format!("the address of replica {} is unknown", self.target)));
        };
        match peer.request(lane, request, Instant::now() + ttl).await {
            Ok(r) => Ok(r),
            Err(RequestError::Unreachable(t)) => Err(unreachable(t)),
            Err(RequestError::Lost(t)) => Err(Error::Network(openraft::errors::NetworkError::from_string(t))),
        }
    }

    async fn ballot(&self, rpc: VoteRequest<TypeConfig>, pre: bool, o: &RPCOption) -> Result<VoteResponse<TypeConfig>, Error> {
        let ballot = Ballot {
            vote: (&rpc.vote).into(),
            last: rpc.last_log_id.as_ref().map(Into::into),
            transfer: rpc.leadership_transfer,
        };
        let request = if pre { Request::PreVote(ballot) } else { Request::Vote(ballot) };
        match self.ask(Lane::Control, &request, o.soft_ttl()).await? {
            Response::Vote { vote, last, granted } => {
                Ok(VoteResponse::new(Vote::from(vote), last.map(Into::into), granted))
            }
            r => Err(unexpected(r)),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Error> {
        let all = rpc.entries.len();
        let mut entries = Vec::with_capacity(all);
        let mut bytes = 0;
        for e in &rpc.entries {
            let e = StoredEntry::from_entry(e).map_err(unreachable)?;
            bytes += e.weight();
            if bytes > APPEND_BYTES && !entries.is_empty() {
                break;
            }
            entries.push(e);
        }
        let sent = entries.len();
        let request = Request::Append(Append {
            vote: (&rpc.vote).into(),
            prev: rpc.prev_log_id.as_ref().map(Into::into),
            commit: rpc.leader_commit.as_ref().map(Into::into),
            entries,
        });
        // openraft allows three quarters of a heartbeat for any append. A heartbeat should not take
        // longer; entries may, or a large batch on a slow link would be sent again for ever.
        let ttl = match sent {
            0 => option.soft_ttl(),
            _ => option.soft_ttl().max(APPEND_TTL) + Duration::from_millis(bytes as u64 / SLOW_LINK),
        };
        match self.ask(self.lane, &request, ttl).await? {
            Response::Append(Appended::Success) if sent < all => {
                // `sent` is at least one here.
                let last = rpc.entries.get(sent.saturating_sub(1)).map(|e| e.log_id);
                Ok(AppendEntriesResponse::PartialSuccess(last))
            }
            Response::Append(Appended::Success) => Ok(AppendEntriesResponse::Success),
            Response::Append(Appended::PartialSuccess(id)) => {
                Ok(AppendEntriesResponse::PartialSuccess(id.map(Into::into)))
            }
            // openraft takes a conflict only where there was something to conflict with.
            Response::Append(Appended::Conflict) if rpc.prev_log_id.is_some() => Ok(AppendEntriesResponse::Conflict),
            Response::Append(Appended::HigherVote(v)) => Ok(AppendEntriesResponse::HigherVote(v.into())),
            r => Err(unexpected(r)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        self.ballot(rpc, false, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        self.ballot(rpc, true, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: alias::SnapshotOf<TypeConfig, Vec<u8>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let total = snapshot.snapshot.len() as u64;
        let meta = crate::stored::StoredSnapshotMeta::from(&snapshot.meta);
        let send = async {
            let mut offset = 0usize;
            loop {
                let end = (offset + PIECE).min(snapshot.snapshot.len());
                let piece = SnapshotPiece {
                    vote: (&vote).into(),
                    meta: meta.clone(),
                    offset: offset as u64,
                    total,
                    data: Blob(snapshot.snapshot[offset..end].to_vec()),
                };
                match self.ask(Lane::Bulk, &Request::Snapshot(piece), PIECE_TIMEOUT).await? {
                    Response::Snapshot { vote: Some(v) } => return Ok(SnapshotResponse::new(v.into())),
                    Response::Snapshot { vote: None } if (end as u64) < total => offset = end,
                    r => return Err(unexpected(r)),
                }
            }
        };
        tokio::select! {
            r = send => r.map_err(|e: Error| e.into()),
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Error> {
        let request = Request::Handover(Handover {
            from: req.from_leader().into(),
            to: *req.to_node_id(),
            last: req.last_log_id().map(Into::into),
        });
        match self.ask(Lane::Control, &request, option.soft_ttl()).await? {
            Response::Handover { accepted: true, .. } => Ok(Ok(())),
            Response::Handover { accepted: false, text } => {
                tracing::info!("replica {} did not take over: {text}", self.target);
                Ok(Err(TransferLeaderError::LogNotFlushed { expected: req.last_log_id().cloned(), actual: None }))
            }
            r => Err(unexpected(r)),
        }
    }
}
