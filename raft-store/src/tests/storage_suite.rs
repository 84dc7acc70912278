//! openraft's own storage suite over our log and state stores, and what it does not cover.

use std::sync::{Arc, RwLock};

use openraft::alias::LeaderIdOf;
use openraft::async_runtime::Oneshot;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, StorageError};

use super::cluster::Journal;
use crate::log_store::LogStore;
use crate::state_store::StateStore;
use crate::types::{Command, Entry, LogId, TypeConfig, Vote};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateStore, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateStore), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::create(&dir.path().join("log"), &[7; 16]).unwrap();
        let machine = Arc::new(RwLock::new(Journal::default()));
        let state = StateStore::new(&dir.path().join("snapshots"), machine);
        Ok((dir, log, state))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openraft_suite() {
    Suite::<TypeConfig, LogStore, StateStore, Builder, _>::test_all(Builder).await.unwrap();
}

pub fn entry(term: u64, index: u64, bytes: &[u8]) -> Entry {
    let leader = LeaderIdOf::<TypeConfig>::new(term, 1);
    Entry::new(LogId::new(leader, index), EntryPayload::Normal(Command::Application(bytes.to_vec())))
}

/// Appends and waits until the entries are acknowledged as durable.
pub async fn append(log: &mut LogStore, entries: Vec<Entry>) {
    let (tx, rx) = openraft_rt_tokio::TokioOneshot::channel();
    log.append(entries, IOFlushed::signal(tx)).await.unwrap();
    rx.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_entries_are_chunked_and_leave_no_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogStore::create(&path, &[7; 16]).unwrap();
    let sizes = [0usize, 1, 3_900, 3_999, 4_000, 4_001, 64_000, 300_000, 4 << 20];
    for (i, size) in sizes.iter().enumerate() {
        let bytes: Vec<u8> = (0..*size).map(|n| (n * 7 + i) as u8).collect();
        append(&mut log, vec![entry(1, i as u64, &bytes)]).await;
    }
    drop(log);
    let mut log = LogStore::open(&path, &[7; 16]).unwrap();
    let all = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(all.len(), sizes.len());
    for (i, (e, size)) in all.iter().zip(sizes).enumerate() {
        let EntryPayload::Normal(Command::Application(b)) = &e.payload else { panic!("{e:?}") };
        assert_eq!(b.len(), size);
        assert!(b.iter().enumerate().all(|(n, x)| *x == (n * 7 + i) as u8));
    }
    let limited = log.limited_get_log_entries(0, 9).await.unwrap();
    assert!(!limited.is_empty());
    // sled never syncs its blob files: there must be none.
    let blobs = std::fs::read_dir(path.join("blobs")).map(|d| d.count()).unwrap_or(0);
    assert_eq!(blobs, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purge_and_truncate_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = LogStore::create(&path, &[7; 16]).unwrap();
    append(&mut log, (0..2_000).map(|i| entry(1, i, b"abc")).collect()).await;
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    log.purge(entry(1, 999, b"").log_id).await.unwrap();
    log.truncate_after(Some(entry(1, 1_499, b"").log_id)).await.unwrap();
    append(&mut log, vec![entry(2, 1_500, b"new")]).await;
    log.save_committed(Some(entry(1, 1_400, b"").log_id)).await.unwrap();
    drop(log);
    let mut log = LogStore::open(&path, &[7; 16]).unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id.unwrap().index(), 999);
    assert_eq!(state.last_log_id, Some(entry(2, 1_500, b"").log_id));
    assert_eq!(log.try_get_log_entries(..).await.unwrap().len(), 501);
    assert_eq!(log.read_committed().await.unwrap().map(|l| l.index()), Some(1_400));
    // A hint about an entry that is not there is not believed.
    log.save_committed(Some(entry(3, 1_500, b"").log_id)).await.unwrap();
    assert_eq!(log.read_committed().await.unwrap(), None);
    // Everything purged, as after installing a snapshot.
    log.purge(entry(2, 5_000, b"").log_id).await.unwrap();
    drop(log);
    let mut log = LogStore::open(&path, &[7; 16]).unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(entry(2, 5_000, b"").log_id));
}
