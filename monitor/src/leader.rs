//! What only the leader does: prove that it leads, decide, replicate the outcome, answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use failover::{Call, Command, Decision, GroupId, Observations, Outcome, Reply, Scope, State, apply, decide};
use raft_store::{NotLeader, ProposeError, Replica};
use tokio::time::Instant;
use tracing::info;

use crate::clock;
use crate::codec::{self, Kind};
use crate::observed::Observed;
use crate::replicated::{SharedState, Verdict, Versioned};
use crate::reservation::Reservations;
use crate::sql::backend::{CallDone, CallError, TransactionId};

/// How long one call may wait for a round to the majority or for its entry to be replicated. Two
/// elections fit in; clients such as stock keepers come back by themselves.
pub const REPLICATION_DEADLINE: Duration = Duration::from_secs(3);

/// How long a call of our keepers waits for the replicas to announce the formats that they know.
const FORMAT_DEADLINE: Duration = Duration::from_secs(2);

/// How often a decision is made anew because the state had moved on under it. Each try means that
/// somebody else's decision went through.
const TRIES: usize = 50;

/// The deciding half of a monitor. It exists on every replica and works on the leading one.
pub struct Leader {
    replica: Replica,
    shared: SharedState,
    pub(crate) observed: Observed,
    groups: GroupLocks,
    pub(crate) reservations: Reservations,
}

/// A decided and finished call, with the messages that are still to be told.
pub struct Done {
    pub call: CallDone,
    /// For the `log` channel and the server log; no events.
    pub messages: Vec<String>,
}

impl Leader {
    pub fn new(replica: Replica, shared: SharedState) -> Leader {
        Leader {
            replica,
            shared,
            observed: Observed::default(),
            groups: GroupLocks::default(),
            reservations: Reservations::default(),
        }
    }

    /// Proves, after the request arrived, that this replica leads, and that everything that was
    /// committed before is applied here.
    pub async fn prove(&self) -> Result<(), CallError> {
        match self.replica.read_barrier(Instant::now() + REPLICATION_DEADLINE).await {
            Ok(_) => {
                self.observed.enter_term(self.replica.leadership().term, clock::now());
                Ok(())
            }
            Err(NotLeader { leader: Some(_) }) => Err(CallError::NotLeader),
            Err(NotLeader { leader: None }) => Err(CallError::NoLeader),
        }
    }

    /// Decides and replicates one call.
    pub async fn call(&self, call: &Call) -> Result<Done, CallError> {
        if let Command::RegisterNode(register) = &call.command {
            let free = self.reservations.acquire(&register.formation, None).await;
            free.map_err(|()| CallError::Busy(register.formation.clone()))?;
        }
        self.formats_allow(&call.command).await?;
        let _turn = self.groups.lock(lock_key(&self.shared.read().state, &call.command)).await;
        for _ in 0..TRIES {
            // What answers nobody needs no proof; its outcome still does.
            if !answers_nobody(&call.command) {
                self.prove().await?;
            }
            let base = self.shared.read();
            let (observations, _, term) = self.observed.read();
            let decision = decide(&base.state, &observations, call, clock::now()).map_err(CallError::Rejected)?;
            // Held on to, they would cost `apply` a copy.
            drop((base, observations));
            let quiet = answers_nobody(&call.command) && decision.outcome.is_empty();
            if let Some(mut decision) = self.replicate(decision, term).await? {
                if quiet {
                    // Nothing has changed since these were last said.
                    decision.messages.clear();
                }
                let done = CallDone { reply: decision.reply, notices: decision.notices };
                return Ok(Done { call: done, messages: decision.messages });
            }
        }
        Err(CallError::Internal("the state kept changing under this call: try again".to_string()))
    }

    /// What our keepers say needs format 2, which is written once every replica has announced it.
    async fn formats_allow(&self, command: &Command) -> Result<(), CallError> {
        let extended = match command {
            Command::NodeActive(report) => report.extended.is_some(),
            Command::RegisterNode(call) => call.generation == failover::Generation::Pgquorum,
            _ => false,
        };
        let deadline = Instant::now() + FORMAT_DEADLINE;
        while extended && self.shared.read().state.cluster_version < codec::VERSION {
            let announced = |peer: &raft_store::PeerStatus| peer.cluster_versions.is_some_and(|(_, newest)| newest >= codec::VERSION);
            if self.replica.status().peers.iter().all(announced) {
                self.prove().await?;
                let base = self.shared.read();
                let raise = Command::SetClusterVersion { version: codec::VERSION }.into();
                let decision = decide(&base.state, &Observations::default(), &raise, clock::now()).map_err(CallError::Rejected)?;
                drop(base);
                self.propose(&decision.outcome).await?;
            } else if Instant::now() >= deadline {
                return Err(CallError::Rejected(failover::Rejection {
                    sqlstate: "55000".to_string(),
                    message: "not every monitor has said yet that it understands nodes of pgquorum's own keeper".to_string(),
                    detail: None,
                    hint: Some("Every monitor must have been reachable once since it was created or upgraded.".to_string()),
                }));
            } else {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Replicates the outcome of a decision; `None` when the state had moved on.
    async fn replicate(&self, mut decision: Decision, term: u64) -> Result<Option<Decision>, CallError> {
        if !decision.outcome.is_empty() {
            let outcome = std::mem::take(&mut decision.outcome);
            if self.propose(&outcome).await? == Verdict::Conflict {
                return Ok(None);
            }
            log_outcome(&outcome);
            if outcome.changes.iter().any(|change| matches!(change, failover::Change::DropNode(_))) {
                let state = self.shared.read().state;
                self.observed.retain(|id| state.nodes.contains_key(&id));
            }
        }
        self.observed.take_up(term, std::mem::take(&mut decision.observed));
        Ok(Some(decision))
    }

    async fn propose(&self, outcome: &Outcome) -> Result<Verdict, CallError> {
        let format = self.shared.read().state.cluster_version;
        let entry = codec::encode_as(format, Kind::Outcome, outcome).map_err(|e| CallError::Internal(e.to_string()))?;
        match self.replica.propose(entry, Instant::now() + REPLICATION_DEADLINE).await {
            Ok(applied) => Verdict::from_response(&applied.response)
                .ok_or_else(|| CallError::Internal("the state machine gave no verdict".to_string())),
            Err(ProposeError::NotLeader { leader: Some(_) }) => Err(CallError::NotLeader),
            Err(ProposeError::NotLeader { leader: None }) => Err(CallError::NoLeader),
            Err(ProposeError::Unknown(_)) => Err(CallError::Unknown),
            Err(error) => Err(CallError::Internal(error.to_string())),
        }
    }

    /// Decides `call` after `pending`, replicating nothing.
    pub async fn tentative(
        &self,
        transaction: TransactionId,
        pending: &[Call],
        call: Call,
    ) -> Result<CallDone, CallError> {
        self.prove().await?;
        self.formats_allow(&call.command).await?;
        if let Command::RegisterNode(register) = &call.command {
            let free = self.reservations.acquire(&register.formation, Some(transaction)).await;
            free.map_err(|()| CallError::Busy(register.formation.clone()))?;
            self.prove().await?;
        }
        let mut calls = pending.to_vec();
        calls.push(call);
        let trial = self.try_out(&calls)?;
        match (trial.replies.last(), trial.last_notices) {
            (Some(reply), notices) => Ok(CallDone { reply: reply.clone(), notices }),
            (None, _) => Err(CallError::Internal("a transaction without a call".to_string())),
        }
    }

    /// Replicates the calls of a transaction as one entry, if they are still answered as before.
    pub async fn commit(
        &self,
        transaction: TransactionId,
        calls: &[Call],
        expected: &[Reply],
    ) -> Result<Vec<String>, CallError> {
        let result = self.try_commit(calls, expected).await;
        self.reservations.release(transaction);
        result
    }

    async fn try_commit(&self, calls: &[Call], expected: &[Reply]) -> Result<Vec<String>, CallError> {
        for _ in 0..TRIES {
            self.prove().await?;
            // A rejection now, or another answer than the client was given, means that the state
            // has changed under the transaction.
            let trial = match self.try_out(calls) {
                Ok(trial) if trial.replies == expected => trial,
                Ok(_) | Err(CallError::Rejected(_)) => return Err(CallError::Unknown),
                Err(error) => return Err(error),
            };
            if trial.outcome.is_empty() {
                self.observed.take_up(trial.term, trial.observed);
                return Ok(trial.messages);
            }
            if self.propose(&trial.outcome).await? == Verdict::Written {
                log_outcome(&trial.outcome);
                self.observed.take_up(trial.term, trial.observed);
                return Ok(trial.messages);
            }
        }
        Err(CallError::Unknown)
    }

    /// Decides calls one after the other on a copy.
    pub fn try_out(&self, calls: &[Call]) -> Result<Trial, CallError> {
        let Versioned { state, .. } = self.shared.read();
        let (observations, _, term) = self.observed.read();
        let mut trial = Trial {
            base_versions: state.versions.clone(),
            state,
            observations,
            term,
            outcome: Outcome::default(),
            replies: Vec::new(),
            last_notices: Vec::new(),
            messages: Vec::new(),
            observed: Vec::new(),
        };
        for call in calls {
            trial.step(call)?;
        }
        Ok(trial)
    }
}

/// Calls decided on a copy of the state, and the one outcome that they add up to.
pub struct Trial {
    base_versions: BTreeMap<Scope, u64>,
    pub state: Arc<State>,
    pub observations: Arc<Observations>,
    term: u64,
    outcome: Outcome,
    replies: Vec<Reply>,
    last_notices: Vec<failover::Notice>,
    messages: Vec<String>,
    observed: Vec<(failover::NodeId, failover::Observation)>,
}

impl Trial {
    fn step(&mut self, call: &Call) -> Result<(), CallError> {
        let decision =
            decide(&self.state, &self.observations, call, clock::now()).map_err(CallError::Rejected)?;
        if !decision.outcome.is_empty() {
            apply(Arc::make_mut(&mut self.state), &decision.outcome);
        }
        // What the decision read counts at the version that it has outside of this transaction.
        for (scope, _) in &decision.outcome.decided_on {
            if !self.outcome.decided_on.iter().any(|(known, _)| known == scope) {
                let version = self.base_versions.get(scope).copied().unwrap_or(0);
                self.outcome.decided_on.push((scope.clone(), version));
            }
        }
        self.outcome.changes.extend(decision.outcome.changes);
        self.outcome.events.extend(decision.outcome.events);
        self.outcome.decided_at = decision.outcome.decided_at;
        Arc::make_mut(&mut self.observations).nodes.extend(decision.observed.iter().copied());
        self.observed.extend(decision.observed);
        self.replies.push(decision.reply);
        self.last_notices = decision.notices;
        self.messages.extend(decision.messages);
        Ok(())
    }
}

/// What the leader sees itself: no client waits for the answer.
fn answers_nobody(command: &Command) -> bool {
    matches!(command, Command::HealthChecked { .. } | Command::Witness { .. } | Command::Review { .. })
}

/// One line per decision: the rule, the facts that it rested on, the node, what was decided.
fn log_outcome(outcome: &Outcome) {
    for event in &outcome.events {
        let rule = event.rule_pos.map(|pos| format!("rule {pos}: ")).unwrap_or_default();
        info!(
            "{rule}{} [{}/{} reported {}, goal {}, timeline {}, LSN {}, health {}]",
            event.description,
            event.formation,
            event.group,
            event.reported,
            event.goal,
            event.timeline,
            event.lsn,
            event.health.word()
        );
    }
}

/// What calls are serialised on. Different keys run in parallel; should two of them touch the same
/// rows all the same, the versions in the outcome find out and the later one is decided anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LockKey {
    Group(String, GroupId),
    Rest,
}

fn lock_key(state: &State, command: &Command) -> LockKey {
    let of_node = |id: &i64| state.nodes.get(id).map(|node| LockKey::Group(node.formation.clone(), node.group));
    match command {
        Command::NodeActive(report) => of_node(&report.id),
        Command::StartMaintenance { id } | Command::StopMaintenance { id } | Command::HealthChecked { id, .. } => {
            of_node(id)
        }
        Command::Witness { id, .. } => of_node(id),
        Command::Review { formation, group } => Some(LockKey::Group(formation.clone(), *group)),
        Command::RemoveNode { id, .. } => of_node(id),
        Command::PerformFailover { formation, group } => Some(LockKey::Group(formation.clone(), *group)),
        _ => None,
    }
    .unwrap_or(LockKey::Rest)
}

/// One asynchronous lock per group that was ever called for.
#[derive(Default)]
struct GroupLocks {
    locks: Mutex<BTreeMap<LockKey, Arc<tokio::sync::Mutex<()>>>>,
}

impl GroupLocks {
    async fn lock(&self, key: LockKey) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Groups come and go; locks that nobody holds are forgotten now and then.
            if locks.len() > 10_000 {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            locks.entry(key).or_default().clone()
        };
        lock.lock_owned().await
    }
}
