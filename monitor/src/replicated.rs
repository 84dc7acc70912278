//! Marries the failover state to raft-store: entries are outcomes, the state machine applies them.

use std::sync::{Arc, PoisonError, RwLock};

use failover::{Applied, Outcome, State, apply};
use tokio::sync::watch;
use tracing::error;

use crate::codec::{self, Kind};
use crate::notify::Hub;

/// The applied state, shared between the replica that writes it and everybody who reads it.
#[derive(Clone, Default)]
pub struct SharedState {
    inner: Arc<RwLock<Versioned>>,
    /// The version, for those who wait for the next one.
    changes: watch::Sender<u64>,
}

/// A state, and a number that changes whenever the state does.
#[derive(Clone, Default)]
pub struct Versioned {
    pub state: Arc<State>,
    /// Local to this process; grows with every applied entry and restored snapshot.
    pub version: u64,
}

impl SharedState {
    /// The present state. Cheap: readers that let go of it soon cost `apply` no copy.
    pub fn read(&self) -> Versioned {
        // A poisoned lock means that a reader panicked; the state itself is written in one step.
        self.inner.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wakes with every applied entry and restored snapshot.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn write(&self, change: impl FnOnce(&mut Versioned)) {
        let version = {
            let mut versioned = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            change(&mut versioned);
            versioned.version
        };
        self.changes.send_replace(version);
    }
}

/// The answer of the state machine to a proposed outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Written,
    /// The state had moved on since the decision: decide again.
    Conflict,
}

impl Verdict {
    /// Reads the state machine's response.
    pub fn from_response(bytes: &[u8]) -> Option<Verdict> {
        match bytes {
            [1] => Some(Verdict::Written),
            [0] => Some(Verdict::Conflict),
            _ => None,
        }
    }
}

/// Applies committed entries on this replica and notifies its listeners.
pub struct FailoverStateMachine {
    shared: SharedState,
    hub: Hub,
}

impl FailoverStateMachine {
    pub fn new(shared: SharedState, hub: Hub) -> FailoverStateMachine {
        FailoverStateMachine { shared, hub }
    }
}

impl raft_store::StateMachine for FailoverStateMachine {
    fn apply(&mut self, index: u64, entry: &[u8]) -> Vec<u8> {
        let outcome: Outcome = match codec::decode(Kind::Outcome, entry) {
            Ok(outcome) => outcome,
            // Skipping a committed entry would make this replica differ from the others.
            Err(why) => stop_here(&format!("log entry {index} cannot be applied: {why}")),
        };
        let mut verdict = vec![0];
        let mut written = Vec::new();
        self.shared.write(|versioned| {
            if let Applied::Written(events) = apply(Arc::make_mut(&mut versioned.state), &outcome) {
                verdict = vec![1];
                written = events;
            }
            versioned.version += 1;
        });
        for event in &written {
            self.hub.event(&event.event);
        }
        verdict
    }

    fn snapshot(&self) -> Vec<u8> {
        let state = self.shared.read().state;
        match codec::encode_as(state.cluster_version, Kind::State, &*state) {
            Ok(bytes) => bytes,
            Err(why) => stop_here(&format!("the state cannot be written to a snapshot: {why}")),
        }
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        let state: State = codec::decode(Kind::State, snapshot).map_err(|why| why.to_string())?;
        self.shared.write(|versioned| {
            versioned.state = Arc::new(state);
            versioned.version += 1;
        });
        Ok(())
    }
}

/// A replica that cannot go on without diverging from the others stops, loudly.
fn stop_here(why: &str) -> ! {
    error!("{why}. This monitor stops; the others carry on");
    std::process::abort()
}
