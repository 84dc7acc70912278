//! Shared read-index rounds.
//!
//! A round proves that this replica leads: a majority acknowledges a heartbeat sent after the round
//! began. Everybody who was waiting when it began is served by it; whoever comes later waits for the
//! next one, so each caller's proof is younger than its call. One round serves thousands.

use std::sync::Arc;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::state_store::Applied;
use crate::types::Raft;

/// This replica could not prove that it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this replica is not the leader (leader: {leader:?})")]
pub struct NotLeader {
    /// Who leads as far as is known; may be stale.
    pub leader: Option<u64>,
}

/// Callers waiting in one round; a round beyond this many is split.
const WAITING: usize = 65_536;

type Answer = Result<u64, NotLeader>;

/// Asks for rounds.
#[derive(Clone)]
pub struct Barrier {
    waiting: mpsc::Sender<oneshot::Sender<Answer>>,
    applied: Arc<Applied>,
    last_round: watch::Receiver<Option<Instant>>,
}

impl Barrier {
    /// Starts the task that runs rounds.
    pub fn start(raft: Raft, applied: Arc<Applied>, mut stop: watch::Receiver<bool>) -> Barrier {
        let (waiting, mut queue) = mpsc::channel::<oneshot::Sender<Answer>>(WAITING);
        let (proved, last_round) = watch::channel(None);
        tokio::spawn(async move {
            let mut round = Vec::new();
            loop {
                tokio::select! {
                    n = queue.recv_many(&mut round, WAITING) => if n == 0 { return },
                    _ = stop.wait_for(|s| *s) => return,
                }
                // A caller that gave up needs no proof.
                round.retain(|w| !w.is_closed());
                if round.is_empty() {
                    continue;
                }
                let began = Instant::now();
                let answer = prove(&raft).await;
                if answer.is_ok() {
                    proved.send_replace(Some(began));
                }
                for w in round.drain(..) {
                    let _ = w.send(answer);
                }
            }
        });
        Barrier { waiting, applied, last_round }
    }

    /// When the last round began that a majority answered. Its messages were heartbeats, to all members.
    pub fn last_round(&self) -> watch::Receiver<Option<Instant>> {
        self.last_round.clone()
    }

    /// One call: joins the next round, then waits until the read index is applied.
    pub async fn pass(&self) -> Answer {
        let (tx, rx) = oneshot::channel();
        self.waiting.send(tx).await.map_err(|_| NotLeader { leader: None })?;
        let index = rx.await.map_err(|_| NotLeader { leader: None })??;
        self.applied.reached(index).await;
        Ok(self.applied.index().unwrap_or(index))
    }
}

async fn prove(raft: &Raft) -> Answer {
    match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((read, _)) => Ok(read.index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(f))) => {
            let me = *raft.node_id();
            Err(NotLeader { leader: f.leader_id.filter(|l| *l != me) })
        }
        Err(_) => Err(NotLeader { leader: None }),
    }
}
