//! Bootstrap, restarts, snapshots, membership, calls, rest.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::cluster::*;
use crate::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarting_all_forgets_nothing() {
    let mut c = Cluster::start(3, |_| {}).await;
    for i in 0..20 {
        c.write(&format!("e{i}")).await;
    }
    c.until("named", |c| c.ids.iter().all(|i| c.r(*i).status().cluster_id.is_some())).await;
    let cluster_id = c.r(1).status().cluster_id;
    let leader = c.leader().await;
    let before = c.entries(leader);
    let term = c.r(leader).status().term;
    c.stop_all().await;
    for id in c.ids.clone() {
        c.run(id).await;
    }
    c.write("after").await;
    let leader = c.leader().await;
    assert!(c.r(leader).status().term > term);
    for id in c.ids.clone() {
        c.until("everything is back", |c| c.entries(id).len() > before.len()).await;
        assert_eq!(c.entries(id)[..before.len()], before);
        c.until("recovered", |c| c.r(id).status().recovered).await;
        assert_eq!(c.r(id).status().cluster_id, cluster_id);
    }
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_majority_founds_the_cluster_and_the_third_joins() {
    let mut c = Cluster::prepare(3, |_| {}).await;
    c.run(2).await;
    sleep(Duration::from_millis(700)).await;
    assert_eq!(c.r(2).status().role, Role::Uninitialised, "one of three founded a cluster");
    assert_eq!(c.r(2).read_barrier(soon(500)).await, Err(NotLeader { leader: None }));
    c.run(3).await;
    c.write("two of three").await;
    c.run(1).await;
    c.until("the third has the entry", |c| c.entries(1) == [b"two of three".to_vec()]).await;
    c.until("one cluster", |c| {
        let id = c.r(2).status().cluster_id;
        id.is_some() && c.r(1).status().cluster_id == id && c.r(3).status().cluster_id == id
    })
    .await;
    assert_eq!(c.r(1).status().refused, None);
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lagging_follower_catches_up_by_snapshot() {
    let small = |cfg: &mut Config| {
        cfg.snapshot_entries = 50;
        cfg.keep_entries = 5;
    };
    let mut c = Cluster::start(3, small).await;
    c.write("first").await;
    let leader = c.leader().await;
    let behind = c.ids.iter().copied().find(|id| *id != leader).unwrap();
    c.until("first applied", |c| c.entries(behind).len() == 1).await;
    c.stop(behind).await;
    let big = "x".repeat(20_000);
    for i in 0..200 {
        c.write(&format!("{i} {big}")).await;
    }
    let snapshots = c.dir_of(leader).join("snapshots");
    c.until("snapshots were taken, two are kept", |_| std::fs::read_dir(&snapshots).is_ok_and(|d| d.count() == 2)).await;
    c.run(behind).await;
    c.until("caught up", |c| c.entries(behind).len() >= 201).await;
    let all = c.entries(c.leader().await);
    c.until("the same state", |c| c.entries(behind) == all).await;
    assert!(std::fs::read_dir(c.dir_of(behind).join("snapshots")).unwrap().count() >= 1, "it came by log");
    // A restart from snapshot and shortened log.
    c.stop_all().await;
    for id in c.ids.clone() {
        c.run(id).await;
    }
    c.write("end").await;
    for id in c.ids.clone() {
        c.until("restored", |c| c.entries(id).len() > all.len()).await;
        assert_eq!(c.entries(id)[..all.len()], all);
    }
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_and_leadership_moves() {
    let mut c = Cluster::prepare(4, |_| {}).await;
    let three: fn(&mut Config) = |cfg| cfg.members.retain(|m| m.id != 4);
    for id in 1..=3 {
        c.try_run(id, three).await.unwrap();
    }
    c.write("a").await;
    // The fourth knows all; it must not found anything, the others have a past.
    c.run(4).await;
    let port = c.ports[&4];
    let member = Member { id: 4, name: "mon4".into(), host: "127.0.0.1".into(), port };
    let leader = c.leader().await;
    c.r(leader).add_learner(member, soon(30_000)).await.unwrap();
    c.until("the learner follows", |c| c.entries(4) == [b"a".to_vec()]).await;
    assert_eq!(c.r(4).status().role, Role::Learner);
    let leader = c.leader().await;
    c.r(leader).promote(4, soon(30_000)).await.unwrap();
    c.until("it votes", |c| c.r(4).status().voters == [1, 2, 3, 4]).await;
    let leader = c.leader().await;
    let to = if leader == 4 { 1 } else { 4 };
    let started = Instant::now();
    c.r(leader).transfer_leader(to, soon(30_000)).await.unwrap();
    c.r(to).read_barrier(soon(30_000)).await.unwrap();
    println!("transfer_leader -> new leader passes a barrier: {:?}", started.elapsed());
    let leader = c.leader().await;
    let gone = if leader == 1 { 2 } else { 1 };
    c.r(leader).remove(gone, soon(30_000)).await.unwrap();
    c.until("removed", |c| !c.r(leader).status().voters.contains(&gone)).await;
    c.stop(gone).await;
    c.write("b").await;
    let e = c.r(leader).transfer_leader(99, soon(1_000)).await;
    assert!(e.is_err());
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_concurrent_and_bounded() {
    let mut c = Cluster::start(2, |_| {}).await;
    // Each takes 300 ms: one after the other they would not end in time.
    let calls = (0..50).map(|_| c.r(1).call(2, b"slow".to_vec(), soon(5_000)));
    for r in futures::future::join_all(calls).await {
        assert_eq!(r.unwrap(), b"2<-1:slow");
    }
    let big = vec![7u8; 15 << 20];
    assert_eq!(c.r(1).call(2, big.clone(), soon(15_000)).await.unwrap().len(), big.len() + 5);
    let e = c.r(1).call(2, vec![0; (16 << 20) + 1], soon(1_000)).await;
    assert!(matches!(e, Err(CallError::TooLarge { .. })));
    assert!(matches!(c.r(1).call(9, vec![], soon(1_000)).await, Err(CallError::UnknownPeer(9))));
    assert_eq!(c.r(1).call(1, b"me".to_vec(), soon(10_000)).await.unwrap(), b"1<-1:me");
    let e = c.r(1).call(2, b"slow".to_vec(), soon(50)).await;
    assert!(matches!(e, Err(CallError::Lost(_))), "{e:?}");
    c.stop(2).await;
    let e = c.r(1).call(2, b"x".to_vec(), soon(500)).await;
    assert!(e.is_err());
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_synced_at_rest() {
    // An election is synced, and none must happen while the machine is busy.
    let mut c = Cluster::start(3, |cfg| {
        cfg.election_timeout_min_ms = 1_500;
        cfg.election_timeout_max_ms = 2_000;
    })
    .await;
    c.write("x").await;
    c.until("bookkeeping done", |c| c.ids.iter().all(|i| c.r(*i).known_members() == 3)).await;
    let syncs = |c: &Cluster| c.ids.iter().map(|i| c.r(*i).log_syncs()).collect::<Vec<_>>();
    sleep(Duration::from_millis(500)).await;
    let before = syncs(&c);
    for _ in 0..20 {
        let leader = c.leader().await;
        c.r(leader).read_barrier(soon(10_000)).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(syncs(&c), before, "heartbeats or barriers wrote to disk");
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_entries_are_refused() {
    let mut c = Cluster::start(1, |_| {}).await;
    let e = c.r(1).propose(vec![0; MAX_ENTRY_BYTES + 1], soon(1_000)).await;
    assert!(matches!(e, Err(ProposeError::TooLarge { .. })));
    c.r(1).propose(vec![1; MAX_ENTRY_BYTES], soon(10_000)).await.unwrap();
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_state_machine_stops_the_replica_and_says_so() {
    let mut c = Cluster::start(1, |_| {}).await;
    c.write("x").await;
    let e = c.r(1).propose(b"panic".to_vec(), soon(5_000)).await;
    assert!(matches!(e, Err(ProposeError::Fatal(_) | ProposeError::Unknown(_))), "{e:?}");
    c.until("it says so", |c| c.r(1).status().stopped.is_some_and(|t| t.contains("panicked"))).await;
    assert!(c.r(1).read_barrier(soon(1_000)).await.is_err());
    let e = c.r(1).propose(b"y".to_vec(), soon(1_000)).await;
    assert!(matches!(e, Err(ProposeError::Fatal(_))), "{e:?}");
    c.stop_all().await;
}

/// Leaves of the log grow and split, snapshots and purges follow each other: the files stay small.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_stays_small() {
    let small = |cfg: &mut Config| {
        cfg.snapshot_entries = 200;
        cfg.keep_entries = 20;
        cfg.snapshot_bytes = 1 << 30;
    };
    let mut c = Cluster::prepare(1, small).await;
    c.run(1).await;
    c.leader().await;
    for _ in 0..40 {
        let batch = (0..100).map(|_| c.r(1).propose(vec![b'z'; 600], soon(60_000)));
        for r in futures::future::join_all(batch).await {
            r.unwrap();
        }
    }
    let size = std::fs::metadata(c.dir_of(1).join("log/db")).unwrap().len();
    println!("log file after 4,000 entries of 600 bytes with purging: {} KiB", size >> 10);
    assert!(size < 24 << 20, "{size}");
    let at = c.r(1).status().applied_index;
    c.stop(1).await;
    c.run(1).await;
    c.leader().await;
    c.until("restored", |c| c.entries(1).len() == 4_000 && c.r(1).status().applied_index > at).await;
    c.stop_all().await;
}
