//! The one thread that makes the log durable, and the high-water mark beside it.
//!
//! sled's `flush` ends in `sync_file_range`: it survives `kill -9` but not a power cut (measured:
//! acknowledged entries lost, databases that no longer open). So after each flush the thread syncs
//! sled's data file through its own descriptor, and only then acknowledges everything in the batch.
//! A failed flush or sync aborts the process: after it the kernel may have dropped the dirty pages,
//! and a retry would report success for data that is gone.
//!
//! The mark is a small file saying how far the log and the term had been acknowledged. It is written
//! (not synced) after each batch and checked at the next start: a database that lost its tail opens
//! without complaint otherwise. It is never ahead of what is durable.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use openraft::storage::IOFlushed;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::codec::{self, Kind};
use crate::types::TypeConfig;

/// Trusts sled's flush alone.
#[cfg(feature = "mutants")]
pub static SKIP_SYNC: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

const MARK_VERSION: u16 = 1;
const MARK_FILE: &str = "mark";

/// What has been acknowledged at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// One past the last acknowledged entry.
    pub next_index: u64,
    /// Highest term voted in.
    pub term: u64,
}

impl Mark {
    /// Reads the mark; a missing one (older store, never acknowledged anything) is the zero mark.
    /// A damaged one is ignored with a warning: the log has its own checks.
    pub fn load(dir: &Path) -> Result<Mark, String> {
        let path = mark_path(dir);
        match std::fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Mark::default()),
            Err(e) => Err(format!("{}: {e}", path.display())),
            // Created, nothing acknowledged since.
            Ok(bytes) if bytes.is_empty() => Ok(Mark::default()),
            Ok(bytes) => match Self::decode(&bytes) {
                Ok(m) => Ok(m),
                Err(codec::CodecError::Newer { kind, found, newest }) => {
                    Err(codec::CodecError::Newer { kind, found, newest }.to_string())
                }
                Err(e) => {
                    tracing::warn!("{}: {e}; checking the log without it", path.display());
                    Ok(Mark::default())
                }
            },
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Mark, codec::CodecError> {
        let (_, payload) = codec::open(Kind::Mark, MARK_VERSION, bytes)?;
        codec::decode(payload)
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, codec::CodecError> {
        codec::encode_sealed(Kind::Mark, MARK_VERSION, self)
    }
}

fn mark_path(dir: &Path) -> PathBuf {
    dir.with_extension(MARK_FILE)
}

/// Makes names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Syncs every file below a directory, and the directories.
pub fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { sync_tree(&path)? } else { File::open(&path)?.sync_all()? }
    }
    sync_dir(dir)
}

enum Op {
    Append { next: Option<u64>, done: IOFlushed<TypeConfig> },
    Vote { term: u64, done: oneshot::Sender<()> },
    LowerMark { next: u64, done: oneshot::Sender<()> },
    Sync { done: oneshot::Sender<()> },
    Stop,
}

/// Handle to the writer thread.
pub struct Writer {
    ops: Sender<Op>,
    thread: Option<JoinHandle<()>>,
    #[cfg_attr(not(test), allow(dead_code))]
    syncs: Arc<AtomicU64>,
}

fn gone() -> io::Error {
    io::Error::other("the log writer has stopped")
}

impl Writer {
    /// Starts the thread for the database in `dir`.
    pub fn start(dir: &Path, db: sled::Db, mark: Mark) -> io::Result<Writer> {
        let data = OpenOptions::new().read(true).write(true).open(dir.join("db"))?;
        let mark_file = OpenOptions::new().create(true).truncate(false).write(true).open(mark_path(dir))?;
        let syncs = Arc::new(AtomicU64::new(0));
        let (ops, rx) = channel();
        let mut worker = Worker { db, data, mark_file, mark, written: mark, syncs: syncs.clone() };
        let thread = std::thread::Builder::new().name("raft-log".into()).spawn(move || worker.run(&rx))?;
        Ok(Writer { ops, thread: Some(thread), syncs })
    }

    /// fdatasyncs so far (for tests: a replica at rest syncs nothing).
    #[cfg(test)]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Acknowledges once everything written before is durable.
    pub fn append(&self, next: Option<u64>, done: IOFlushed<TypeConfig>) -> io::Result<()> {
        self.ops.send(Op::Append { next, done }).map_err(|_| gone())
    }

    /// Returns once the vote (and everything written before) is durable.
    pub async fn vote(&self, term: u64) -> io::Result<()> {
        self.wait(|done| Op::Vote { term, done }).await
    }

    /// Returns once everything written before is durable.
    pub async fn sync(&self) -> io::Result<()> {
        self.wait(|done| Op::Sync { done }).await
    }

    /// Takes back the promise about entries from `next` on, durably.
    pub async fn lower_mark(&self, next: u64) -> io::Result<()> {
        self.wait(|done| Op::LowerMark { next, done }).await
    }

    async fn wait(&self, op: impl FnOnce(oneshot::Sender<()>) -> Op) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        self.ops.send(op(tx)).map_err(|_| gone())?;
        rx.await.map_err(|_| gone())
    }

    /// Stops and joins the thread.
    pub fn stop(&mut self) {
        let _ = self.ops.send(Op::Stop);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

struct Worker {
    db: sled::Db,
    data: File,
    mark_file: File,
    mark: Mark,
    written: Mark,
    syncs: Arc<AtomicU64>,
}

impl Worker {
    fn run(&mut self, ops: &Receiver<Op>) {
        let mut batch = Vec::new();
        while let Ok(first) = ops.recv() {
            batch.push(first);
            batch.extend(ops.try_iter());
            let mut stop = false;
            let mut dirty = false;
            for op in &batch {
                match op {
                    Op::Append { next, .. } => {
                        self.mark.next_index = self.mark.next_index.max(next.unwrap_or(0));
                        dirty = true;
                    }
                    Op::Vote { term, .. } => {
                        self.mark.term = self.mark.term.max(*term);
                        dirty = true;
                    }
                    Op::LowerMark { next, .. } => self.lower(*next),
                    Op::Sync { .. } => dirty = true,
                    Op::Stop => stop = true,
                }
            }
            if dirty {
                self.make_durable();
            }
            for op in batch.drain(..) {
                match op {
                    Op::Append { done, .. } => done.io_completed(Ok(())),
                    Op::Vote { done, .. } | Op::LowerMark { done, .. } | Op::Sync { done } => {
                        let _ = done.send(());
                    }
                    Op::Stop => {}
                }
            }
            if stop {
                return;
            }
        }
    }

    fn make_durable(&mut self) {
        if let Err(e) = self.db.flush() {
            die("flushing the log database", &e);
        }
        #[cfg(feature = "mutants")]
        if SKIP_SYNC.load(Ordering::Relaxed) {
            return self.write_mark();
        }
        if let Err(e) = self.data.sync_data() {
            die("syncing the log database", &e);
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.write_mark();
    }

    fn lower(&mut self, next: u64) {
        if self.mark.next_index <= next {
            return;
        }
        self.mark.next_index = next;
        self.write_mark();
        if let Err(e) = self.mark_file.sync_data() {
            die("syncing the log's mark", &e);
        }
    }

    fn write_mark(&mut self) {
        if self.mark == self.written {
            return;
        }
        let done = self.mark.encode().map_err(io::Error::other).and_then(|b| self.mark_file.write_all_at(&b, 0));
        match done {
            Ok(()) => self.written = self.mark,
            Err(e) => die("writing the log's mark", &e),
        }
    }
}

/// Ends the process: what was promised cannot be kept, and going on would lie about it.
fn die(what: &str, e: &dyn std::fmt::Display) -> ! {
    tracing::error!("{what} failed: {e}; stopping at once, because data may be lost if this process goes on");
    eprintln!("pgquorum: {what} failed: {e}; stopping at once");
    std::process::abort()
}
