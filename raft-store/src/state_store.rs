//! The applied state: the application's state machine with raft-store's bookkeeping around it.
//!
//! Decision: the state lives in memory and is not persisted at each apply; snapshots are files, and
//! a start restores the newest snapshot and re-applies the log up to the persisted commit hint. That
//! keeps the apply path free of I/O, and the log is the only thing synced per decision.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::codec::{self, Blob, Kind};
use crate::internal::Bookkeeping;
use crate::snapshot_file::SnapshotFile;
use crate::state_machine::StateMachine;
use crate::stored::{StoredSnapshotMeta, VERSION};
use crate::types::{Command, LogId, SnapshotMeta, StoredMembershipOf, TypeConfig};

type AppSnapshot = openraft::alias::SnapshotOf<TypeConfig, Vec<u8>>;

/// What a snapshot holds (version 1, frozen).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// raft-store's own part.
    pub bookkeeping: Bookkeeping,
    /// The application's bytes.
    pub application: Blob,
}

impl Content {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, codec::CodecError> {
        codec::encode_sealed(Kind::Content, VERSION, self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, codec::CodecError> {
        let (_, payload) = codec::open(Kind::Content, VERSION, bytes)?;
        codec::decode(payload)
    }
}

/// What other parts of the crate may see of the applied state.
pub struct Applied {
    /// One past the last applied index; 0 before anything was applied.
    next: watch::Sender<u64>,
    /// Bookkeeping as of the last applied entry.
    pub bookkeeping: watch::Sender<Bookkeeping>,
    /// Bytes of the newest snapshot, and of the log when it was taken.
    pub snapshots_taken: std::sync::atomic::AtomicU64,
}

impl Applied {
    /// Last applied index, if any.
    pub fn index(&self) -> Option<u64> {
        self.next.borrow().checked_sub(1)
    }

    /// Returns once the index has been applied.
    pub async fn reached(&self, index: u64) {
        // An error would mean that the sender is gone, but `self` owns it.
        let _ = self.next.subscribe().wait_for(|next| *next > index).await;
    }
}

struct Inner {
    last: Option<LogId>,
    membership: StoredMembershipOf,
}

/// openraft's view of the applied state.
#[derive(Clone)]
pub struct StateStore {
    dir: PathBuf,
    machine: Arc<RwLock<dyn StateMachine>>,
    inner: Arc<Mutex<Inner>>,
    /// Shared with the rest of the crate.
    pub applied: Arc<Applied>,
    /// Serialises snapshot writing.
    writing: Arc<tokio::sync::Mutex<()>>,
}

fn other(e: impl std::fmt::Display) -> io::Error {
    io::Error::other(e.to_string())
}

impl StateStore {
    /// A store over the snapshots in `dir`. Nothing is read yet: openraft restores from
    /// `get_current_snapshot` when it starts.
    pub fn new(dir: &Path, machine: Arc<RwLock<dyn StateMachine>>) -> Self {
        StateStore {
            dir: dir.to_path_buf(),
            machine,
            inner: Arc::new(Mutex::new(Inner { last: None, membership: StoredMembershipOf::default() })),
            applied: Arc::new(Applied {
                next: watch::Sender::new(0),
                bookkeeping: watch::Sender::new(Bookkeeping::default()),
                snapshots_taken: Default::default(),
            }),
            writing: Arc::new(tokio::sync::Mutex::new(())),
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply_one(&self, entry: crate::types::Entry) -> io::Result<Vec<u8>> {
        let index = entry.log_id.index();
        let response = match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Normal(Command::Application(bytes)) => {
                let mut machine = self.machine.write().unwrap_or_else(PoisonError::into_inner);
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.apply(index, &bytes)))
                    .map_err(|_| other(format!("the state machine panicked while applying entry {index}")))?
            }
            EntryPayload::Normal(Command::Internal(command)) => {
                let voters: Vec<u64> = self.inner().membership.voter_ids().collect();
                self.applied.bookkeeping.send_if_modified(|b| {
                    let before = b.clone();
                    b.apply(&command, |id| voters.contains(&id));
                    *b != before
                });
                Vec::new()
            }
            EntryPayload::Membership(m) => {
                self.inner().membership = StoredMembershipOf::new(Some(entry.log_id), m);
                Vec::new()
            }
        };
        self.inner().last = Some(entry.log_id);
        self.applied.next.send_replace(index + 1);
        Ok(response)
    }

    /// Meta and content of the state as it is now.
    fn capture(&self) -> io::Result<(SnapshotMeta, Vec<u8>)> {
        let (meta, bookkeeping) = {
            let inner = self.inner();
            let meta = SnapshotMeta { last_log_id: inner.last, last_membership: inner.membership.clone() };
            (meta, self.applied.bookkeeping.borrow().clone())
        };
        let application = self.machine.read().unwrap_or_else(PoisonError::into_inner).snapshot();
        let content = Content { bookkeeping, application: Blob(application) };
        Ok((meta, content.encode().map_err(other)?))
    }

    async fn write(&self, meta: &SnapshotMeta, content: Vec<u8>) -> io::Result<Vec<u8>> {
        let _one_at_a_time = self.writing.lock().await;
        let file = SnapshotFile { meta: StoredSnapshotMeta::from(meta), content: Blob(content) };
        let dir = self.dir.clone();
        let file = tokio::task::spawn_blocking(move || file.save(&dir).map(|()| file)).await.map_err(other)??;
        self.applied.snapshots_taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(file.content.0)
    }
}

/// A captured state on its way to a file.
pub struct SnapshotBuilder {
    store: StateStore,
    captured: io::Result<(SnapshotMeta, Vec<u8>)>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> Result<AppSnapshot, io::Error> {
        let captured = std::mem::replace(&mut self.captured, Err(other("snapshot already built")));
        let (meta, content) = captured?;
        let snapshot = self.store.write(&meta, content).await?;
        Ok(Snapshot { meta, snapshot })
    }
}

impl RaftStateMachine<TypeConfig> for StateStore {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembershipOf), io::Error> {
        let inner = self.inner();
        Ok((inner.last, inner.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let response = self.apply_one(entry)?;
            if let Some(r) = responder {
                r.send(response);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        // openraft calls this between applies, so meta and content belong together.
        SnapshotBuilder { store: self.clone(), captured: self.capture() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Vec<u8>) -> Result<(), io::Error> {
        let content = Content::decode(&snapshot).map_err(other)?;
        // On disk first: the log before it will be purged.
        let saved = SnapshotFile::newest(&self.dir).ok().flatten().is_some_and(|s| s.meta == meta.into());
        if !saved {
            self.write(meta, snapshot).await?;
        }
        self.machine.write().unwrap_or_else(PoisonError::into_inner).restore(&content.application.0).map_err(other)?;
        {
            let mut inner = self.inner();
            inner.last = meta.last_log_id;
            inner.membership = meta.last_membership.clone();
        }
        self.applied.bookkeeping.send_replace(content.bookkeeping);
        self.applied.next.send_replace(meta.last_log_id.map_or(0, |l| l.index() + 1));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<AppSnapshot>, io::Error> {
        let dir = self.dir.clone();
        let newest = tokio::task::spawn_blocking(move || SnapshotFile::newest(&dir)).await.map_err(other)?;
        match newest.map_err(|(path, e)| other(format!("{}: {e}", path.display())))? {
            None => Ok(None),
            Some(file) => Ok(Some(Snapshot { meta: file.meta.restore().map_err(other)?, snapshot: file.content.0 })),
        }
    }
}
