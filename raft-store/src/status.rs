//! What a replica knows about itself and the cluster, for people and for the layer above.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::Instant as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::alarm::Alarm;
use crate::core::Core;
use crate::heartbeat;
use crate::types::Metrics;

/// Part in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Believes to lead. No proof: an isolated leader believes it, too (see `leader_seen`).
    Leader,
    /// Votes and follows.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Not part of a cluster yet.
    Uninitialised,
}

/// One other member, as seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Last log index known to be stored there; only on the leader.
    pub matched_index: Option<u64>,
    /// Is a connection to it open?
    pub connected: bool,
    /// Its release, from its last handshake.
    pub software: Option<String>,
    /// Oldest and newest cluster version that it understands, from its last handshake.
    pub cluster_versions: Option<(u16, u16)>,
}

/// A snapshot of one replica's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Own id.
    pub id: u64,
    /// Own name.
    pub name: String,
    /// Part in the cluster.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// Who leads, as far as is known; may be stale when `leader_seen` is false.
    pub leader: Option<u64>,
    /// A follower heard from the leader, a leader from a majority, within an election timeout.
    pub leader_seen: bool,
    /// Last index in the own log.
    pub last_log_index: Option<u64>,
    /// Last index applied to the state machine.
    pub applied_index: Option<u64>,
    /// Last index known to be committed.
    pub committed: Option<u64>,
    /// The state machine is at least as new as before the last restart. Until then local reads may
    /// show an older state than this replica once had.
    pub recovered: bool,
    /// The cluster's id, once known.
    pub cluster_id: Option<[u8; 16]>,
    /// The other members.
    pub peers: Vec<PeerStatus>,
    /// Voting members.
    pub voters: Vec<u64>,
    /// Members without a vote.
    pub learners: Vec<u64>,
    /// A peer refuses this replica for a reason that only an operator can cure (emptied store,
    /// another cluster).
    pub refused: Option<String>,
    /// Consensus has stopped for good; the text says why. Restart the process.
    pub stopped: Option<String>,
}

/// Who leads, as one replica knows at this moment: the part of [`Status`] that each request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// Own id.
    pub id: u64,
    /// Part in the cluster.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// Who leads, as far as is known; may be stale when `leader_seen` is false.
    pub leader: Option<u64>,
    /// As in [`Status`].
    pub leader_seen: bool,
    /// Consensus has stopped for good.
    pub stopped: bool,
}

impl Status {
    /// The part that says who leads.
    pub fn leadership(&self) -> Leadership {
        Leadership {
            id: self.id,
            role: self.role,
            term: self.term,
            leader: self.leader,
            leader_seen: self.leader_seen,
            stopped: self.stopped.is_some(),
        }
    }

    /// The part whose change wakes watchers: everything but indexes.
    fn without_indexes(&self) -> Status {
        let mut s = self.clone();
        s.last_log_index = None;
        s.applied_index = None;
        s.committed = None;
        for p in &mut s.peers {
            p.matched_index = None;
        }
        s
    }
}

/// Computes who leads now. Called for every request: copies nothing.
pub fn leadership(core: &Core) -> Leadership {
    leads(core, &core.raft.metrics().borrow_watched())
}

fn leads(core: &Core, m: &Metrics) -> Leadership {
    let lease = Duration::from_millis(core.cfg.election_timeout_max_ms);
    let initialised = m.last_log_index.is_some() || m.current_term > 0;
    let role = match m.state {
        _ if !initialised => Role::Uninitialised,
        ServerState::Leader => Role::Leader,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner | ServerState::Shutdown => Role::Learner,
    };
    let leader_seen = match role {
        Role::Leader => {
            m.membership_config.voter_ids().eq([core.cfg.id]) || m.last_quorum_acked.is_some_and(|t| t.into_inner().elapsed() < lease)
        }
        _ => m.current_leader.is_some() && core.leader_silence().is_some_and(|s| s < lease),
    };
    Leadership {
        id: core.cfg.id,
        role,
        term: m.current_term,
        leader: m.current_leader,
        leader_seen,
        stopped: m.running_state.is_err(),
    }
}

/// Computes the status now.
pub fn current(core: &Core, recovered: bool) -> Status {
    let m = core.metrics();
    let Leadership { role, term, leader, leader_seen, .. } = leads(core, &m);
    let introduction = core.identities.introduction();
    let voters: Vec<u64> = m.membership_config.voter_ids().collect();
    let names = |id: u64| {
        let configured = core.cfg.members.iter().find(|c| c.id == id).map(|c| c.name.clone());
        configured.or(m.membership_config.get_node(&id).map(|n| n.name.clone())).unwrap_or_default()
    };
    let peers = m
        .membership_config
        .nodes()
        .filter(|(id, _)| **id != core.cfg.id)
        .map(|(id, _)| {
            let facts = core.identities.peer(*id);
            let matched = m.replication.as_ref().and_then(|r| r.get(id).copied().flatten());
            PeerStatus {
                id: *id,
                name: names(*id),
                matched_index: matched.map(|l| l.index()),
                connected: core.peers.is_connected(*id),
                software: facts.as_ref().map(|f| f.software.clone()),
                cluster_versions: facts.map(|f| f.cluster_versions),
            }
        })
        .collect();
    Status {
        id: core.cfg.id,
        name: introduction.name,
        role,
        term,
        leader,
        leader_seen,
        last_log_index: m.last_log_index,
        applied_index: core.applied.index(),
        committed: m.cluster_committed.map(|l| l.index()),
        recovered,
        cluster_id: introduction.cluster_id,
        peers,
        learners: m.membership_config.nodes().map(|(id, _)| *id).filter(|id| !voters.contains(id)).collect(),
        voters,
        refused: core.identities.refused.borrow().as_ref().map(|(_, text)| text.clone()),
        stopped: m.running_state.err().map(|e| e.to_string()),
    }
}

/// Between two looks while no leader is seen.
const UNSEEN_LOOK: Duration = Duration::from_millis(100);
/// Between two looks of a leader with a majority, should it not be told that its lease has run out.
const LEADER_LOOK: Duration = Duration::from_secs(5);

/// How long the leader, or this leader's majority, counts as seen if nothing more is heard.
pub fn lease_left(core: &Core, role: Role) -> Duration {
    let silence = match role {
        Role::Leader => core.raft.metrics().borrow_watched().last_quorum_acked.map(|t| t.into_inner().elapsed()),
        _ => core.leader_silence(),
    };
    Duration::from_millis(core.cfg.election_timeout_max_ms).saturating_sub(silence.unwrap_or_default())
}

/// Keeps the watch channel current. Wakes for changes of role, term, leader and membership (openraft's
/// full metrics change with every heartbeat and entry), and when time alone may have changed
/// `leader_seen`: at the end of the leader's lease as known now, ten times a second without a leader. A leader
/// sends heartbeats all the time, and who sends them says when its lease has run out.
pub async fn keep(
    core: Arc<Core>,
    recovered: watch::Receiver<bool>,
    status: watch::Sender<Status>,
    mut stop: watch::Receiver<bool>,
) {
    let mut metrics = core.raft.server_metrics();
    let mut facts = core.identities.changed.subscribe();
    let mut alarm = Alarm::new();
    loop {
        let now = current(&core, *recovered.borrow());
        let next_look = match now.role {
            _ if !now.leader_seen => UNSEEN_LOOK,
            Role::Leader => LEADER_LOOK,
            _ => lease_left(&core, now.role).max(UNSEEN_LOOK),
        };
        let initialised = now.role != Role::Uninitialised;
        core.identities.initialised.store(initialised, std::sync::atomic::Ordering::Relaxed);
        core.identities.term.store(now.term, std::sync::atomic::Ordering::Relaxed);
        heartbeat::tick(&core, &now);
        status.send_if_modified(|old| {
            let changed = old.without_indexes() != now.without_indexes();
            *old = now;
            changed
        });
        tokio::select! {
            changed = metrics.changed() => {
                // An error: consensus has stopped and will report nothing more.
                sleep(Duration::from_millis(if changed.is_ok() { 1 } else { 100 })).await;
            }
            _ = facts.changed() => {}
            () = core.unheard.notified() => {}
            () = alarm.until(Instant::now() + next_look) => {}
            _ = async { stop.wait_for(|s| *s).await.map(drop) } => return,
        }
    }
}
