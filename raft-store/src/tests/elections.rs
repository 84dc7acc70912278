//! Electing, replicating, proving leadership, losing the leader.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::cluster::*;
use crate::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elects_replicates_and_proves() {
    let mut c = Cluster::start(3, |_| {}).await;
    let leader = c.leader().await;
    let a = c.r(leader).propose(b"one".to_vec(), soon(30_000)).await.unwrap();
    assert_eq!(a.response, b"1:one");
    let barrier = c.r(leader).read_barrier(soon(30_000)).await.unwrap();
    assert!(barrier >= a.index);
    for id in c.ids.clone() {
        c.until("entry applied", |c| c.entries(id) == [b"one".to_vec()]).await;
    }
    let follower = c.ids.iter().copied().find(|id| *id != leader).unwrap();
    let refused = c.r(follower).propose(b"two".to_vec(), soon(30_000)).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(leader) }));
    assert_eq!(c.r(follower).read_barrier(soon(30_000)).await, Err(NotLeader { leader: Some(leader) }));
    let s = c.r(leader).status();
    assert_eq!((s.role, s.voters.clone(), s.leader_seen), (Role::Leader, vec![1, 2, 3], true));
    c.until("versions known", |c| {
        c.r(leader).status().peers.iter().all(|p| p.cluster_versions == Some((1, 3)) && p.connected)
    })
    .await;
    c.until("same cluster id", |c| {
        let id = c.r(leader).status().cluster_id;
        id.is_some() && c.ids.iter().all(|i| c.r(*i).status().cluster_id == id)
    })
    .await;
    let answer = c.r(follower).call(leader, b"hello".to_vec(), soon(30_000)).await.unwrap();
    assert_eq!(answer, format!("{leader}<-{follower}:hello").into_bytes());
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_leader_proves_and_applies_nothing() {
    let mut c = Cluster::start(3, |_| {}).await;
    let old = c.leader().await;
    c.write("before").await;
    c.isolate(old, true);
    let started = Instant::now();
    assert!(c.r(old).read_barrier(soon(3_000)).await.is_err(), "a cut-off leader passed a barrier");
    let lost = c.r(old).propose(b"lost".to_vec(), soon(300)).await;
    assert!(lost.is_err(), "{lost:?}");
    let new = c.leader_except(old).await;
    let after = c.r(new).propose(b"after".to_vec(), soon(30_000)).await;
    println!("leader isolated -> new leader accepted a proposal: {:?} ({after:?})", started.elapsed());
    c.until("old leader sees nobody", |c| !c.r(old).status().leader_seen).await;
    c.isolate(old, false);
    c.write("healed").await;
    for id in c.ids.clone() {
        c.until("all the same", |c| {
            let e = c.entries(id);
            e.contains(&b"after".to_vec()) && e.contains(&b"healed".to_vec())
        })
        .await;
    }
    c.stop_all().await;
}

/// Whoever sends heartbeats says when nobody has answered them for a lease; a look every five seconds is
/// only there should that fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_its_majority_knows_it_soon() {
    let mut c = Cluster::start(3, |_| {}).await;
    for _ in 0..3 {
        let leader = c.leader().await;
        c.r(leader).read_barrier(soon(30_000)).await.unwrap();
        c.isolate(leader, true);
        let started = Instant::now();
        c.until("it sees nobody", |c| !c.r(leader).status().leader_seen).await;
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        c.isolate(leader, false);
        c.write("healed").await;
    }
    c.stop_all().await;
}

/// A barrier is a real round trip that begins after the call: with slow links none is faster than
/// one, whatever rounds are under way when it is called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn barriers_take_a_round_trip() {
    let mut c = Cluster::start(3, |cfg| {
        cfg.election_timeout_min_ms = 1_500;
        cfg.election_timeout_max_ms = 2_000;
    })
    .await;
    c.write("x").await;
    let leader = c.leader().await;
    for relay in c.relays.values() {
        relay.delay(15);
    }
    sleep(Duration::from_millis(200)).await;
    let calls = (0..60).map(|i| {
        let r = c.r(leader).clone();
        async move {
            sleep(Duration::from_millis(7 * i)).await;
            let started = Instant::now();
            let passed = r.read_barrier(soon(30_000)).await;
            passed.map(|_| started.elapsed())
        }
    });
    for _ in 0..10 {
        let started = Instant::now();
        c.r(leader).read_barrier(soon(30_000)).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(30), "{:?}", started.elapsed());
    }
    let mut times: Vec<Duration> = futures::future::join_all(calls).await.into_iter().map(|t| t.unwrap()).collect();
    times.sort();
    println!("barriers over links of 2 x 15 ms: fastest {:?}, slowest {:?}", times[0], times[times.len() - 1]);
    assert!(times[0] >= Duration::from_millis(30), "a barrier was faster than a round trip: {:?}", times[0]);
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_link_deposes_nobody() {
    let mut c = Cluster::start(3, |_| {}).await;
    c.write("x").await;
    let leader = c.leader().await;
    let term = c.r(leader).status().term;
    let flapping = c.ids.iter().copied().find(|id| *id != leader).unwrap();
    // Down for longer than an election timeout, up for shorter, several times.
    for _ in 0..4 {
        for link in [(leader, flapping), (flapping, leader)] {
            c.relays[&link].set(false);
        }
        sleep(Duration::from_millis(1_100)).await;
        for link in [(leader, flapping), (flapping, leader)] {
            c.relays[&link].set(true);
        }
        sleep(Duration::from_millis(150)).await;
        c.r(leader).read_barrier(soon(2_000)).await.unwrap();
    }
    let s = c.r(leader).status();
    assert_eq!((s.role, s.term), (Role::Leader, term), "the leader was deposed");
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returning_follower_deposes_nobody() {
    let mut c = Cluster::start(3, |_| {}).await;
    c.write("x").await;
    let leader = c.leader().await;
    let term = c.r(leader).status().term;
    let cut = c.ids.iter().copied().find(|id| *id != leader).unwrap();
    c.isolate(cut, true);
    sleep(Duration::from_millis(3_000)).await;
    assert_eq!(c.r(cut).status().term, term, "the cut-off follower raised its term");
    c.isolate(cut, false);
    c.until("follower is back", |c| c.r(cut).status().leader_seen).await;
    sleep(Duration::from_millis(500)).await;
    let s = c.r(leader).status();
    assert_eq!((s.role, s.term), (Role::Leader, term), "the leader was deposed");
    c.stop_all().await;
}
