//! Who we are, who the others said they are, and who is admitted. Shared by both ends of the
//! transport.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::identity::Identity;
use crate::internal::{Id16, short};
use crate::state_store::Applied;
use crate::tls::Tls;
use crate::wire::{Introduction, Purpose, Refusal};

/// What a peer said in its last handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFacts {
    pub incarnation: Id16,
    pub software: String,
    pub cluster_versions: (u16, u16),
}

/// The store behind a connection, as its handshake named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    pub incarnation: Id16,
    /// See [`Introduction::confirmed_at`].
    pub confirmed_at: Option<u64>,
}

impl Store {
    pub fn of(them: &Introduction) -> Store {
        Store { incarnation: them.incarnation, confirmed_at: them.confirmed_at }
    }
}

/// See the module's text.
pub struct Identities {
    pub identity: Mutex<Identity>,
    pub software: String,
    pub cluster_versions: (u16, u16),
    /// Fingerprint of the configured member list.
    pub members: u32,
    pub applied: Arc<Applied>,
    pub tls: Option<Tls>,
    pub initialised: AtomicBool,
    pub term: AtomicU64,
    peers: Mutex<BTreeMap<u64, PeerFacts>>,
    /// The last refusal by a peer that only an operator can cure.
    pub refused: watch::Sender<Option<(u64, String)>>,
    /// Bumped when a peer's facts change.
    pub changed: watch::Sender<u64>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Identities {
    pub fn new(
        identity: Identity,
        software: String,
        cluster_versions: (u16, u16),
        members: u32,
        applied: Arc<Applied>,
        tls: Option<Tls>,
    ) -> Arc<Self> {
        Arc::new(Identities {
            identity: Mutex::new(identity),
            software,
            cluster_versions,
            members,
            applied,
            tls,
            initialised: AtomicBool::new(false),
            term: AtomicU64::new(0),
            peers: Mutex::default(),
            refused: watch::Sender::new(None),
            changed: watch::Sender::new(0),
        })
    }

    /// Our own id.
    pub fn id(&self) -> u64 {
        lock(&self.identity).id
    }

    /// Our own incarnation.
    pub fn incarnation(&self) -> Id16 {
        lock(&self.identity).incarnation
    }

    /// The cluster's id: replicated, or remembered from an earlier run.
    pub fn cluster_id(&self) -> Option<Id16> {
        self.applied.bookkeeping.borrow().cluster_id.or(lock(&self.identity).cluster_id)
    }

    /// What we say in a handshake.
    pub fn introduction(&self) -> Introduction {
        let (id, name, incarnation) = {
            let me = lock(&self.identity);
            (me.id, me.name.clone(), me.incarnation)
        };
        let confirmed = self.applied.bookkeeping.borrow().incarnations.get(&id) == Some(&incarnation);
        Introduction {
            id,
            name,
            incarnation,
            confirmed_at: self.applied.index().filter(|_| confirmed),
            cluster_id: self.cluster_id(),
            software: self.software.clone(),
            cluster_versions: self.cluster_versions,
            initialised: self.initialised.load(Ordering::Relaxed),
            members: self.members,
            term: self.term.load(Ordering::Relaxed),
        }
    }

    /// May this store take part under this id, as far as we have applied? A replica that is still
    /// catching up knows old records, and must not refuse the very leader that it catches up from
    /// because that one has rejoined since: a store that the records confirm at a later index than we
    /// have applied is let in. An emptied store is confirmed nowhere.
    pub fn admit(&self, id: u64, store: &Store) -> Result<(), String> {
        match self.applied.bookkeeping.borrow().admit(id, &store.incarnation) {
            Err(_) if store.confirmed_at > self.applied.index() => Ok(()),
            verdict => verdict,
        }
    }

    /// Checks what the other side of a handshake says. `expected` is the replica that should be there.
    pub fn check(&self, expected: u64, them: &Introduction, purpose: Purpose) -> Result<(), Refusal> {
        if them.id != expected {
            return Err(Refusal::WrongReplica(format!("replica {} answers where replica {expected} should be", them.id)));
        }
        if them.id == self.id() {
            return Err(Refusal::WrongReplica(format!("two replicas are configured with id {}", them.id)));
        }
        if purpose == Purpose::Visitor {
            return Ok(());
        }
        if let (Some(ours), Some(theirs)) = (self.cluster_id(), them.cluster_id)
            && ours != theirs
        {
            return Err(Refusal::WrongCluster(format!(
                "replica {} ({}) belongs to cluster {}, replica {} to cluster {}",
                them.id,
                them.name,
                short(&theirs),
                self.id(),
                short(&ours)
            )));
        }
        self.admit(them.id, &Store::of(them)).map_err(Refusal::WrongIncarnation)
    }

    /// Remembers what a peer said.
    pub fn note_peer(&self, them: &Introduction) {
        let facts = PeerFacts {
            incarnation: them.incarnation,
            software: them.software.clone(),
            cluster_versions: them.cluster_versions,
        };
        // Who accepts us now has no objection left.
        self.refused.send_if_modified(|r| r.take_if(|(by, _)| *by == them.id).is_some());
        if lock(&self.peers).insert(them.id, facts.clone()) != Some(facts) {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Remembers a refusal that waiting will not cure.
    pub fn note_refusal(&self, by: u64, r: &Refusal) {
        if matches!(r, Refusal::WrongCluster(_) | Refusal::WrongIncarnation(_)) {
            let text = format!("refused by replica {by}: {}", r.text());
            self.refused.send_if_modified(|old| {
                if old.as_ref().is_some_and(|(_, t)| *t == text) {
                    return false;
                }
                tracing::error!("{text}");
                *old = Some((by, text));
                true
            });
        }
    }

    /// What a peer last said, if it ever did.
    pub fn peer(&self, id: u64) -> Option<PeerFacts> {
        lock(&self.peers).get(&id).cloned()
    }
}
