//! The leader's observations: in memory, of one term, never replicated.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use failover::{NodeId, Now, Observation, Observations};

/// The observations of the term in which this replica leads.
#[derive(Default)]
pub struct Observed {
    inner: Mutex<Cell>,
}

#[derive(Default)]
struct Cell {
    term: u64,
    observations: Arc<Observations>,
    version: u64,
}

impl Observed {
    fn lock(&self) -> MutexGuard<'_, Cell> {
        // Every write below is complete in itself, so a poisoned lock holds a usable value.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts anew when `term` is not the term of what is here: whoever was elected decides nothing
    /// on what an earlier leader, even itself, had seen.
    pub fn enter_term(&self, term: u64, now: Now) {
        let mut cell = self.lock();
        if cell.term != term {
            cell.term = term;
            cell.observations = Arc::new(Observations::starting(now));
            cell.version += 1;
        }
    }

    /// What has been observed, its version, and the term that it belongs to.
    pub fn read(&self) -> (Arc<Observations>, u64, u64) {
        let cell = self.lock();
        (cell.observations.clone(), cell.version, cell.term)
    }

    /// Takes up what a decision made in `term` has observed.
    pub fn take_up(&self, term: u64, observed: Vec<(NodeId, Observation)>) {
        let mut cell = self.lock();
        if cell.term == term && !observed.is_empty() {
            Arc::make_mut(&mut cell.observations).nodes.extend(observed);
            cell.version += 1;
        }
    }

    /// Forgets nodes that are gone. Ids are never reused, so this only saves memory.
    pub fn retain(&self, mut exists: impl FnMut(NodeId) -> bool) {
        let mut cell = self.lock();
        if cell.observations.nodes.keys().any(|id| !exists(*id)) {
            Arc::make_mut(&mut cell.observations).nodes.retain(|id, _| exists(*id));
            cell.version += 1;
        }
    }
}
