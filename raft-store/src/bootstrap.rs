//! How a blank replica finds its place: found a cluster, wait to be contacted, or rejoin.
//!
//! "The first majority that meets bootstraps itself": every replica is started with the same member
//! list. A blank one asks all members; it founds the cluster only when a majority of them (itself
//! included) is there and all who are there are blank. Two may do so at once: the same member set
//! makes it the same cluster, and an ordinary election decides. If anybody has a past, it waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::core::Core;
use crate::internal::{Internal, random_id};
use crate::membership;
use crate::peer::{Lane, Peer, jittered};
use crate::wire::{Introduction, Purpose, Rejoin, RejoinProgress, Request, Response};

const PROBE_TIMEOUT: Duration = Duration::from_millis(800);
const PAUSE: Duration = Duration::from_millis(200);
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// While the log does not grow and everything is recorded.
const HOUSEKEEPING_AT_REST: Duration = Duration::from_secs(2);

/// Connections that may ask but not take part.
struct Visitors(Vec<Arc<Peer>>, Vec<u64>);

impl Visitors {
    fn new(core: &Core) -> Self {
        let others: Vec<_> = core.cfg.members.iter().filter(|m| m.id != core.cfg.id).collect();
        let peers = others
            .iter()
            .map(|m| Peer::new(m.id, &m.host, m.port, Purpose::Visitor, core.identities.clone()))
            .collect();
        Visitors(peers, others.iter().map(|m| m.id).collect())
    }

    async fn probe(&self) -> Vec<Introduction> {
        let deadline = Instant::now() + PROBE_TIMEOUT;
        let answers = self.0.iter().map(|p| p.request(Lane::Control, &Request::Probe, deadline));
        let answers = futures::future::join_all(answers).await;
        answers
            .into_iter()
            .filter_map(|a| match a {
                Ok(Response::Probe(i)) => Some(i),
                _ => None,
            })
            .collect()
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        for p in &self.0 {
            p.stop();
        }
    }
}

fn has_past(core: &Core) -> bool {
    let m = core.metrics();
    m.last_log_index.is_some() || m.current_term > 0
}

/// Runs until this replica is part of a cluster.
pub async fn found_or_wait(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = bootstrap(&core) => {}
        _ = stop.wait_for(|s| *s) => {}
    }
}

async fn bootstrap(core: &Core) {
    let visitors = Visitors::new(core);
    let majority = core.cfg.members.len() / 2 + 1;
    let mut said = String::new();
    let mut say = |text: String| {
        if text != said {
            tracing::info!("{text}");
            said = text;
        }
    };
    while !has_past(core) {
        let there = visitors.probe().await;
        if let Some(i) = there.iter().find(|i| i.members != core.identities.members && !i.initialised) {
            say(format!("replica {} ({}) is configured with another member list; not founding a cluster", i.id, i.name));
        } else if let Some(i) = there.iter().find(|i| i.initialised) {
            say(format!("replica {} ({}) already belongs to a cluster; waiting for its leader", i.id, i.name));
            // Introduce ourselves as a member: an emptied store learns here that it is refused.
            if let Some(peer) = core.peers.get(i.id, None) {
                let _ = peer.request(Lane::Control, &Request::Probe, Instant::now() + PROBE_TIMEOUT).await;
            }
        } else if there.len() + 1 < majority {
            say(format!("{} of {majority} replicas needed to found a cluster are here", there.len() + 1));
        } else {
            // The lowest id goes first; the others only if it does not get anywhere.
            let rank = there.iter().filter(|i| i.id < core.cfg.id).count() as u32;
            sleep(Duration::from_millis(400) * rank).await;
            if has_past(core) || (rank > 0 && visitors.probe().await.iter().any(|i| i.initialised)) {
                continue;
            }
            match core.raft.initialize(membership::initial_members(&core.cfg.members)).await {
                Ok(()) => tracing::info!("founded a cluster of {} replicas", core.cfg.members.len()),
                Err(e) => tracing::info!("not founding a cluster: {e}"),
            }
        }
        sleep(jittered(PAUSE)).await;
    }
}

/// Asks the leader to take this emptied store back, until it is a voter again.
pub async fn rejoin(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        () = ask_back(&core) => {}
        _ = stop.wait_for(|s| *s) => return,
    }
    let path = crate::storage::identity_path(&core.cfg);
    let identity = {
        let mut me = core.identities.identity.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        me.rejoining = false;
        me.clone()
    };
    save_identity(identity, path).await;
    tracing::info!("rejoin complete: this replica votes again");
}

async fn ask_back(core: &Core) {
    let visitors = Visitors::new(core);
    let Some(me) = core.cfg.members.iter().find(|m| m.id == core.cfg.id) else { return };
    let request = Request::Rejoin(Rejoin {
        id: me.id,
        name: me.name.clone(),
        host: me.host.clone(),
        port: me.port,
        incarnation: core.identities.incarnation(),
    });
    let mut at = 0usize;
    let mut said = String::new();
    loop {
        if visitors.0.is_empty() {
            tracing::error!("rejoin: this is the only configured replica; there is nobody to fetch the state from");
            return;
        }
        at %= visitors.0.len();
        let deadline = Instant::now() + Duration::from_secs(7);
        let text = match visitors.0[at].request(Lane::Control, &request, deadline).await {
            Ok(Response::Rejoin(RejoinProgress::Done)) => return,
            Ok(Response::Rejoin(RejoinProgress::Working(t))) => t,
            Ok(Response::Rejoin(RejoinProgress::NotLeader(leader))) => {
                let known = leader.and_then(|l| visitors.1.iter().position(|id| *id == l));
                at = known.filter(|k| *k != at).unwrap_or(at + 1);
                "looking for the leader".to_string()
            }
            Ok(Response::Rejoin(RejoinProgress::Refused(t))) => {
                at += 1;
                format!("refused: {t}")
            }
            Ok(_) => {
                at += 1;
                "unexpected answer".to_string()
            }
            Err(e) => {
                at += 1;
                e.to_string()
            }
        };
        if text != said {
            tracing::info!("rejoin: {text}");
            said = text;
        }
        sleep(jittered(PAUSE)).await;
    }
}

async fn save_identity(identity: crate::identity::Identity, path: std::path::PathBuf) {
    let saved = tokio::task::spawn_blocking(move || identity.save(&path)).await;
    if let Ok(Err(e)) = saved {
        tracing::error!("cannot write the identity file: {e}");
    }
}

/// Small duties: record cluster id and incarnations (leader), adopt the cluster id, snapshots by size.
pub async fn housekeeping(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut bytes_at_snapshot = 0;
    let mut snapshots = 0;
    let mut bytes_before = None;
    let mut pause = HOUSEKEEPING;
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            _ = stop.wait_for(|s| *s) => return,
        }
        adopt_cluster_id(&core).await;
        let recorded = !leads(&core) || record(&core).await;
        let bytes = (core.log_bytes)();
        let at_rest = recorded && bytes_before == Some(bytes);
        pause = if at_rest { HOUSEKEEPING_AT_REST } else { HOUSEKEEPING };
        bytes_before = Some(bytes);
        let taken = core.applied.snapshots_taken.load(Ordering::Relaxed);
        if taken != snapshots {
            snapshots = taken;
            bytes_at_snapshot = bytes;
        } else if bytes.saturating_sub(bytes_at_snapshot) > core.cfg.snapshot_bytes {
            bytes_at_snapshot = bytes;
            let _ = core.raft.trigger().snapshot().await;
        }
    }
}

fn leads(core: &Core) -> bool {
    let m = core.metrics();
    // No proof is needed: what follows goes through the log.
    m.state == openraft::ServerState::Leader
}

/// True when there is nothing left to record.
async fn record(core: &Core) -> bool {
    let known = core.applied.bookkeeping.borrow().clone();
    let mut wanted = Vec::new();
    if known.cluster_id.is_none()
        && let Ok(id) = random_id()
    {
        wanted.push(Internal::SetClusterId(id));
    }
    let members: BTreeMap<u64, ()> =
        core.metrics().membership_config.nodes().map(|(id, _)| (*id, ())).collect();
    let unrecorded: Vec<u64> = members.into_keys().filter(|id| !known.incarnations.contains_key(id)).collect();
    let complete = unrecorded.is_empty() && wanted.is_empty();
    for id in unrecorded {
        let incarnation = if id == core.cfg.id {
            Some(core.identities.incarnation())
        } else {
            core.identities.peer(id).map(|p| p.incarnation)
        };
        wanted.extend(incarnation.map(|incarnation| Internal::Record { id, incarnation }));
    }
    for command in wanted {
        if let Err(e) = membership::propose(core, command).await {
            tracing::debug!("bookkeeping: {e}");
            return false;
        }
    }
    complete
}

async fn adopt_cluster_id(core: &Core) {
    let Some(id) = core.applied.bookkeeping.borrow().cluster_id else { return };
    let identity = {
        let mut me = core.identities.identity.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if me.cluster_id == Some(id) {
            return;
        }
        me.cluster_id = Some(id);
        me.clone()
    };
    save_identity(identity, crate::storage::identity_path(&core.cfg)).await;
}
