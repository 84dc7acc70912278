//! Damaged stores are refused and left alone; acknowledged entries survive.

use std::path::{Path, PathBuf};

use openraft::storage::{RaftLogReader, RaftLogStorage};

use super::cluster::*;
use super::storage_suite::{append, entry};
use crate::log_store::LogStore;
use crate::types::Vote;
use crate::*;

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for e in std::fs::read_dir(from).unwrap() {
        let e = e.unwrap();
        let target = to.join(e.file_name());
        if e.path().is_dir() {
            copy_tree(&e.path(), &target);
        } else {
            std::fs::copy(e.path(), target).unwrap();
        }
    }
}

/// A process that dies at any moment after an acknowledgement: a copy of the files taken right then
/// holds everything acknowledged (what reached the files, not what a cache still holds).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_after_each_acknowledgement_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/log");
    let mut log = LogStore::create(&path, &[7; 16]).unwrap();
    let mut next = 0u64;
    for round in 0..40u64 {
        let term = 1 + round / 5;
        log.save_vote(&Vote::new(term, 1)).await.unwrap();
        let batch = (0..1 + round % 7).map(|i| entry(term, next + i, &vec![round as u8; 50 * round as usize])).collect::<Vec<_>>();
        next += batch.len() as u64;
        append(&mut log, batch).await;
        if round == 20 {
            log.purge(entry(3, next / 2, b"").log_id).await.unwrap();
        }
        let copy = dir.path().join(format!("copy{round}"));
        copy_tree(&dir.path().join("a"), &copy);
        let mut reopened = LogStore::open(&copy.join("log"), &[7; 16]).unwrap();
        let state = reopened.get_log_state().await.unwrap();
        assert_eq!(state.last_log_id.map(|l| l.index() + 1), Some(next), "round {round}");
        assert_eq!(reopened.read_vote().await.unwrap(), Some(Vote::new(term, 1)));
        drop(reopened);
        std::fs::remove_dir_all(copy).unwrap();
    }
}

async fn used_store(dir: &Path) -> PathBuf {
    let path = dir.join("log");
    let mut log = LogStore::create(&path, &[7; 16]).unwrap();
    log.save_vote(&Vote::new(3, 1)).await.unwrap();
    for i in 0..200 {
        append(&mut log, vec![entry(3, i, &[i as u8; 400])]).await;
    }
    path
}

/// Every flipped bit in the used part of the data file is either harmless (dead space: everything
/// acknowledged is still there) or refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_are_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let path = used_store(&dir.path().join("a")).await;
    let good = std::fs::read(path.join("db")).unwrap();
    let used = good.iter().rposition(|b| *b != 0).unwrap();
    let mut refused = 0;
    let steps = 60;
    for step in 0..steps {
        let copy = dir.path().join(format!("c{step}"));
        copy_tree(&dir.path().join("a"), &copy);
        let mut bytes = good.clone();
        bytes[used * step / steps] ^= 0x10;
        std::fs::write(copy.join("log/db"), &bytes).unwrap();
        match LogStore::open(&copy.join("log"), &[7; 16]) {
            Err(e) => {
                assert!(!e.what.contains(crate::log_files::LOCKED), "{e}");
                if step % 10 == 0 {
                    println!("flipped bit: {}", e.what);
                }
                refused += 1;
                let after = std::fs::read(copy.join("log/db")).unwrap();
                assert!(after == bytes, "a refused store was changed");
            }
            Ok(mut log) => {
                let all = log.try_get_log_entries(..).await;
                let whole = all.is_ok_and(|a| a.len() == 200) && log.read_vote().await.unwrap() == Some(Vote::new(3, 1));
                assert!(whole, "damage at {} went unnoticed", used * step / steps);
            }
        }
        std::fs::remove_dir_all(copy).unwrap();
    }
    println!("{refused} of {steps} flipped bits refused, the others were in dead space");
    assert!(refused > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_stores_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = used_store(&dir.path().join("a")).await;
    let good = std::fs::read(path.join("db")).unwrap();
    let used = good.iter().rposition(|b| *b != 0).unwrap();
    for part in 0..8 {
        let copy = dir.path().join(format!("c{part}"));
        copy_tree(&dir.path().join("a"), &copy);
        std::fs::write(copy.join("log/db"), &good[..used * part / 8]).unwrap();
        let opened = LogStore::open(&copy.join("log"), &[7; 16]);
        assert!(opened.is_err(), "a store cut to {part}/8 was opened");
        println!("cut to {part}/8: {}", opened.err().unwrap());
    }
}

/// Start of a replica over a damaged directory: refused with instructions, nothing changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_refuse_damaged_directories() {
    let mut c = Cluster::start(1, |_| {}).await;
    c.write("x").await;
    c.until("id adopted", |c| c.r(1).status().cluster_id.is_some()).await;
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    c.stop(1).await;
    let dir = c.dir_of(1);
    let aside = c.dir.path().join("aside");
    copy_tree(&dir, &aside);
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &str); 5] = [
        ("log missing", |d| std::fs::remove_dir_all(d.join("log")).unwrap(), "missing"),
        (
            "log emptied",
            |d| {
                std::fs::remove_dir_all(d.join("log")).unwrap();
                drop(LogStore::create(&d.join("log"), &[9; 16]).unwrap());
            },
            "another store",
        ),
        ("identity missing", |d| std::fs::remove_file(d.join("identity")).unwrap(), "identity file is missing"),
        (
            "identity damaged",
            |d| {
                let mut b = std::fs::read(d.join("identity")).unwrap();
                b[20] ^= 1;
                std::fs::write(d.join("identity"), b).unwrap();
            },
            "checksum",
        ),
        (
            "identity of a newer release",
            |d| {
                let b = std::fs::read(d.join("identity")).unwrap();
                let newer = codec::seal(codec::Kind::Identity, 2, &b[codec::HEADER..]);
                std::fs::write(d.join("identity"), newer).unwrap();
            },
            "newer release",
        ),
    ];
    for (name, damage, text) in cases {
        let _ = std::fs::remove_dir_all(&dir);
        copy_tree(&aside, &dir);
        damage(&dir);
        let e = c.try_run(1, |_| {}).await.expect_err(name);
        let shown = e.to_string();
        assert!(shown.contains(text) && shown.contains("--rejoin"), "{name}: {shown}");
        assert!(shown.contains("Nothing was changed"), "{shown}");
    }
    let _ = std::fs::remove_dir_all(&dir);
    copy_tree(&aside, &dir);
    let e = c.try_run(1, |cfg| cfg.members[0].name = "other".into()).await.expect_err("name");
    assert!(e.to_string().contains("mon1"), "{e}");
    let e = c
        .try_run(1, |cfg| {
            cfg.members[0].id = 9;
            cfg.id = 9;
        })
        .await
        .expect_err("id");
    assert!(e.to_string().contains("store of replica 1"), "{e}");
    // And the untouched copy still works.
    c.run(1).await;
    c.leader().await;
    assert_eq!(c.entries(1), [b"x".to_vec()]);
    c.stop_all().await;
}
