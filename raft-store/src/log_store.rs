//! The Raft log and vote in one sled database.
//!
//! Trees: `log` (index u64 BE + chunk u16 BE -> bytes of the enveloped entry) and `meta` (vote,
//! purged, committed, marker). A sled leaf holds up to 16 values and is rewritten as a whole; a page
//! above a quarter of a segment becomes a "blob" file that sled never syncs. Hence chunks of 4000
//! bytes: even a leaf full of chunks stays inline.
//!
//! `append` makes entries readable at once and leaves durability to the one writer thread
//! ([`crate::log_writer`]), which acknowledges only after flush + fdatasync.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::OptionalSend;
use sled::{Batch, Db, Tree};

use crate::log_files::{Copy, catch, open_db};
use crate::log_scan::{key, scan, split_key};
use crate::log_writer::{self, Mark, Writer};
use crate::stored;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Bytes of an entry kept under one sled key; see the module's text.
const CHUNK: usize = 4000;
/// Longest encoded entry: 65,535 chunks would be 262 MB; far below, so that a batch stays sendable.
pub const MAX_ENTRY: usize = 8 << 20;
/// Stop reading a batch for replication after this many bytes (at least one entry is returned).
const READ_LIMIT: usize = 4 << 20;

const VOTE: &[u8] = b"vote";
const PURGED: &[u8] = b"purged";
const COMMITTED: &[u8] = b"committed";
const INCARNATION: &[u8] = b"incarnation";

/// Why the log could not be opened; the text names the place and the damage.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct OpenError {
    /// What was being opened.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

struct Shared {
    db: Db,
    log: Tree,
    meta: Tree,
    writer: Writer,
    /// Encoded bytes appended since the process started; drives purging by size.
    appended_bytes: AtomicU64,
    /// The last field, hence dropped when the database and its threads are gone.
    open: Arc<()>,
}

/// Handle to the log; clones share the database.
#[derive(Clone)]
pub struct LogStore(Arc<Shared>);

/// A handle that does not keep the database open.
#[derive(Clone)]
pub struct WeakLogStore(std::sync::Weak<()>);

impl WeakLogStore {
    /// True once the last handle is gone and the files are closed.
    pub fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

fn other(e: impl std::fmt::Display) -> io::Error {
    io::Error::other(e.to_string())
}

impl LogStore {
    /// Creates an empty log for a store with this incarnation. The directory and its parent are
    /// synced: without that a power cut can take the whole database away (measured).
    pub fn create(dir: &Path, incarnation: &[u8; 16]) -> Result<Self, OpenError> {
        let err = |what: String| OpenError { path: dir.to_path_buf(), what };
        catch(|| {
            std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
            let db = open_db(dir)?;
            let meta = db.open_tree("meta").map_err(|e| e.to_string())?;
            db.open_tree("log").map_err(|e| e.to_string())?;
            meta.insert(INCARNATION, incarnation.as_slice()).map_err(|e| e.to_string())?;
            db.flush().map_err(|e| e.to_string())?;
            log_writer::sync_tree(dir).map_err(|e| e.to_string())?;
            if let Some(parent) = dir.parent() {
                log_writer::sync_dir(parent).map_err(|e| e.to_string())?;
            }
            Self::assemble(dir, db, Mark::default())
        })
        .map_err(err)
    }

    /// Opens an existing log and checks all of it: marker, vote, every entry's checksum, no hole,
    /// and nothing missing that was acknowledged (the mark).
    ///
    /// sled repairs while opening: from the first damaged byte on it throws the rest away (measured:
    /// one flipped bit took all later entries). So a copy is examined first, and a store that is
    /// refused stays byte for byte what it was.
    pub fn open(dir: &Path, incarnation: &[u8; 16]) -> Result<Self, OpenError> {
        let err = |what: String| OpenError { path: dir.to_path_buf(), what };
        if !dir.join("db").is_file() {
            return Err(err("the log database is missing although this store once took part in a cluster".into()));
        }
        catch(|| {
            let mark = Mark::load(dir)?;
            let copy = Copy::of(dir)?;
            drop(Self::open_checked(&copy.log, incarnation, mark)?);
            drop(copy);
            Self::open_checked(dir, incarnation, mark)
        })
        .map_err(err)
    }

    fn open_checked(dir: &Path, incarnation: &[u8; 16], mark: Mark) -> Result<Self, String> {
        let db = open_db(dir)?;
        let meta = db.open_tree("meta").map_err(|e| e.to_string())?;
        match meta.get(INCARNATION).map_err(|e| e.to_string())? {
            Some(found) if found.as_ref() == incarnation => {}
            Some(_) => return Err("the log belongs to another store than the identity file".into()),
            None => return Err("the log database is empty although this store once took part in a cluster".into()),
        }
        let store = Self::assemble(dir, db, mark)?;
        store.check(mark)?;
        Ok(store)
    }

    /// True when a database was created but never took part in anything (a crash during creation).
    pub fn is_unused(dir: &Path) -> Result<bool, OpenError> {
        let err = |what: String| OpenError { path: dir.to_path_buf(), what };
        catch(|| {
            let copy = Copy::of(dir)?;
            let db = open_db(&copy.log)?;
            let meta = db.open_tree("meta").map_err(|e| e.to_string())?;
            let log = db.open_tree("log").map_err(|e| e.to_string())?;
            let used = meta.contains_key(VOTE).map_err(|e| e.to_string())?
                || meta.contains_key(PURGED).map_err(|e| e.to_string())?
                || !log.is_empty();
            Ok(!used)
        })
        .map_err(err)
    }

    fn assemble(dir: &Path, db: Db, mark: Mark) -> Result<Self, String> {
        let log = db.open_tree("log").map_err(|e| e.to_string())?;
        let meta = db.open_tree("meta").map_err(|e| e.to_string())?;
        let writer = Writer::start(dir, db.clone(), mark).map_err(|e| e.to_string())?;
        Ok(LogStore(Arc::new(Shared { db, log, meta, writer, appended_bytes: AtomicU64::new(0), open: Arc::default() })))
    }

    fn check(&self, mark: Mark) -> Result<(), String> {
        let vote = self.vote().map_err(|e| format!("vote: {e}"))?;
        let purged = self.log_id(PURGED).map_err(|e| format!("purged log id: {e}"))?;
        // A purge records how far it went first and removes entries second.
        if let Some(p) = &purged {
            self.remove_up_to(p.index()).map_err(|e| e.to_string())?;
        }
        let mut next = purged.as_ref().map(|p| p.index() + 1);
        let mut last_term = purged.as_ref().map_or(0, |p| p.committed_leader_id().term);
        for entry in scan(&self.0.log, Bound::Unbounded, Bound::Unbounded) {
            let entry = entry.map_err(|e| e.to_string())?;
            let index = entry.log_id.index();
            let expected = *next.get_or_insert(0);
            if index != expected {
                return Err(format!("log entries {expected} to {} are missing", index.wrapping_sub(1)));
            }
            let term = entry.log_id.committed_leader_id().term;
            if term < last_term {
                return Err(format!("log entry {index} has term {term} after term {last_term}"));
            }
            last_term = term;
            next = Some(index + 1);
        }
        let have = next.unwrap_or(0);
        if have < mark.next_index {
            return Err(format!(
                "log entries {have} to {} were acknowledged but are no longer there",
                mark.next_index - 1
            ));
        }
        let term = vote.map_or(0, |v| v.leader_id.term);
        if term < mark.term {
            return Err(format!("a vote in term {} was acknowledged but only term {term} is there", mark.term));
        }
        Ok(())
    }

    /// For waiting until all handles are gone.
    pub fn downgrade(&self) -> WeakLogStore {
        WeakLogStore(Arc::downgrade(&self.0.open))
    }

    /// Reads the encoded bytes appended by this process so far; does not keep the log open.
    pub fn byte_counter(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map_or(0, |s| s.appended_bytes.load(Ordering::Relaxed))
    }

    /// Reads the number of fdatasyncs so far; does not keep the log open.
    #[cfg(test)]
    pub fn sync_counter(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map_or(0, |s| s.writer.syncs())
    }

    /// Index up to which entries were purged.
    pub fn purged_index(&self) -> io::Result<Option<u64>> {
        Ok(self.log_id(PURGED)?.map(|id| id.index()))
    }

    fn vote(&self) -> io::Result<Option<Vote>> {
        let raw = self.0.meta.get(VOTE).map_err(other)?;
        raw.map(|b| stored::decode_vote(&b)).transpose().map_err(other)
    }

    fn log_id(&self, key: &[u8]) -> io::Result<Option<LogId>> {
        let raw = self.0.meta.get(key).map_err(other)?;
        raw.map(|b| stored::decode_log_id(&b)).transpose().map_err(other)
    }

    fn last(&self) -> io::Result<Option<LogId>> {
        match self.0.log.last().map_err(other)? {
            None => self.log_id(PURGED),
            Some((k, _)) => {
                let (index, _) = split_key(&k).map_err(other)?;
                let mut entries = scan(&self.0.log, Bound::Included(index), Bound::Unbounded);
                Ok(entries.next().transpose()?.map(|e| e.log_id))
            }
        }
    }

    /// Removes whole entries up to `last`, in bounded batches, from the front.
    fn remove_up_to(&self, last: u64) -> io::Result<()> {
        let mut batch = Batch::default();
        let mut count = 0;
        for row in self.0.log.range(..=key(last, u16::MAX)).keys() {
            batch.remove(row.map_err(other)?);
            count += 1;
            if count == 512 {
                self.0.log.apply_batch(std::mem::take(&mut batch)).map_err(other)?;
                count = 0;
            }
        }
        self.0.log.apply_batch(batch).map_err(other)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let mut out: Vec<Entry> = Vec::new();
        for entry in scan(&self.0.log, range.start_bound().cloned(), range.end_bound().cloned()) {
            let entry = entry?;
            if let Some(before) = out.last()
                && before.log_id.index() + 1 != entry.log_id.index()
            {
                return Err(other(format!("log entries after {} are missing", before.log_id.index())));
            }
            out.push(entry);
        }
        Ok(out)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.vote()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let mut out = Vec::new();
        let mut bytes = 0;
        for entry in scan(&self.0.log, Bound::Included(start), Bound::Excluded(end)) {
            let entry = entry?;
            if let openraft::EntryPayload::Normal(crate::types::Command::Application(b)) = &entry.payload {
                bytes += b.len();
            }
            out.push(entry);
            if bytes > READ_LIMIT {
                break;
            }
        }
        Ok(out)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        Ok(LogState { last_purged_log_id: self.log_id(PURGED)?, last_log_id: self.last()? })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.0.meta.insert(VOTE, stored::encode_vote(vote).map_err(other)?).map_err(other)?;
        self.0.writer.vote(vote.leader_id.term).await
    }

    /// A hint, never synced by itself: it only spares a restarted replica the wait for a leader
    /// before its state is as new as it was. Losing it is harmless.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(id) = committed {
            self.0.meta.insert(COMMITTED, stored::encode_log_id(&id).map_err(other)?).map_err(other)?;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let Some(hint) = self.log_id(COMMITTED)? else { return Ok(None) };
        // Believed only where the log holds that very entry: the hint is not synced with it.
        if self.log_id(PURGED)?.is_some_and(|p| p.index() >= hint.index()) {
            return Ok(Some(hint));
        }
        let held = self.try_get_log_entries(hint.index()..=hint.index()).await?;
        Ok(held.first().filter(|e| e.log_id == hint).map(|_| hint))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = Batch::default();
        let mut next = None;
        let mut bytes = 0;
        for entry in entries {
            let index = entry.log_id.index();
            let encoded = stored::encode_entry(&entry).map_err(other)?;
            if encoded.len() > MAX_ENTRY + CHUNK {
                return Err(other(format!("log entry {index} has {} bytes, the limit is {MAX_ENTRY}", encoded.len())));
            }
            for (chunk, part) in encoded.chunks(CHUNK).enumerate() {
                batch.insert(&key(index, chunk as u16), part);
            }
            bytes += encoded.len() as u64;
            next = Some(index + 1);
        }
        self.0.log.apply_batch(batch).map_err(other)?;
        self.0.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.0.writer.append(next, callback)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let keep = last.map_or(0, |id| id.index() + 1);
        // The mark must not promise what is about to go.
        self.0.writer.lower_mark(keep).await?;
        // From the end backwards, whole entries at a time: a crash in between leaves neither a hole
        // nor half an entry (a batch is atomic).
        let mut batch = Batch::default();
        let mut count = 0;
        for row in self.0.log.range(key(keep, 0)..).keys().rev() {
            let k = row.map_err(other)?;
            let (_, chunk) = split_key(&k).map_err(other)?;
            batch.remove(k);
            count += 1;
            if chunk == 0 && count >= 512 {
                self.0.log.apply_batch(std::mem::take(&mut batch)).map_err(other)?;
                count = 0;
            }
        }
        self.0.log.apply_batch(batch).map_err(other)?;
        self.0.writer.sync().await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.0.meta.insert(PURGED, stored::encode_log_id(&upto).map_err(other)?).map_err(other)?;
        let store = self.clone();
        let index = upto.index();
        // Not synced: after a crash the entries may be back, which is harmless.
        tokio::task::spawn_blocking(move || store.remove_up_to(index)).await.map_err(other)?
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.writer.stop();
        // Whatever is unsynced was not acknowledged; flushing is courtesy.
        if let Err(e) = self.db.flush() {
            tracing::warn!("closing the log: {e}");
        }
    }
}
