//! Emptied replicas: refused, and taken back by a rejoin.

use std::time::Duration;

use tokio::time::sleep;

use super::cluster::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_replica_is_refused_until_it_rejoins() {
    let mut c = Cluster::start(3, |_| {}).await;
    c.write("precious").await;
    c.until("all recorded everywhere", |c| c.ids.iter().all(|i| c.r(*i).known_members() == 3)).await;
    let leader = c.leader().await;
    let wiped = c.ids.iter().copied().find(|id| *id != leader).unwrap();
    c.stop(wiped).await;
    std::fs::remove_dir_all(c.dir_of(wiped)).unwrap();
    c.run(wiped).await;
    c.until("it is told", |c| c.r(wiped).status().refused.is_some()).await;
    let text = c.r(wiped).status().refused.unwrap();
    assert!(text.contains("--rejoin"), "{text}");
    sleep(Duration::from_millis(800)).await;
    assert_eq!(c.entries(wiped).len(), 0, "entries were sent to an emptied replica");
    // Its vote must not count: with the leader gone, the other one alone is no majority.
    let other = c.ids.iter().copied().find(|id| *id != leader && *id != wiped).unwrap();
    c.stop(leader).await;
    sleep(Duration::from_millis(2_500)).await;
    assert!(c.r(other).read_barrier(soon(600)).await.is_err(), "an emptied replica helped to elect a leader");
    c.run(leader).await;
    c.write("still precious").await;

    c.stop(wiped).await;
    c.try_run(wiped, |cfg| cfg.rejoin = true).await.unwrap();
    c.until("it has everything", |c| c.entries(wiped).len() >= 2).await;
    c.until("it votes again", |c| c.r(wiped).status().voters == [1, 2, 3] && c.r(wiped).status().leader_seen).await;
    // It counts again: a majority with it alone beside one other.
    c.until("rejoin is finished", |c| !c.r(wiped).is_rejoining()).await;
    let leader = c.leader().await;
    let gone = c.ids.iter().copied().find(|id| *id != leader && *id != wiped).unwrap();
    c.stop(gone).await;
    c.write("with the returned one").await;
    c.run(gone).await;
    // A plain restart afterwards is an ordinary start.
    c.stop(wiped).await;
    c.run(wiped).await;
    c.until("restarted", |c| c.entries(wiped).len() >= 3 && c.r(wiped).status().leader_seen).await;
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_moved_aside_by_a_rejoin() {
    let mut c = Cluster::start(3, |_| {}).await;
    c.write("a").await;
    c.until("all recorded", |c| c.ids.iter().all(|i| c.r(*i).known_members() == 3)).await;
    let leader = c.leader().await;
    let broken = c.ids.iter().copied().find(|id| *id != leader).unwrap();
    c.until("applied", |c| !c.entries(broken).is_empty()).await;
    c.stop(broken).await;
    let db = c.dir_of(broken).join("log/db");
    let len = std::fs::metadata(&db).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&db).unwrap().set_len(len / 1000).unwrap();
    let e = c.try_run(broken, |_| {}).await.expect_err("a truncated store was opened");
    assert!(e.to_string().contains("--rejoin"), "{e}");
    c.try_run(broken, |cfg| cfg.rejoin = true).await.unwrap();
    c.until("back", |c| c.entries(broken) == [b"a".to_vec()] && c.r(broken).status().voters == [1, 2, 3]).await;
    assert!(c.dir_of(broken).join("store.damaged-1/log/db").is_file());
    c.until("finished", |c| !c.r(broken).is_rejoining()).await;
    c.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_do_not_mix() {
    let mut a = Cluster::start(1, |_| {}).await;
    a.write("a").await;
    a.until("named", |c| c.r(1).status().cluster_id.is_some()).await;
    // A second cluster whose replica 2 dials replica 1 of the first.
    let mut b = Cluster::prepare(2, |_| {}).await;
    let port = a.ports[&1];
    b.try_run(2, |cfg| cfg.members.retain(|m| m.id == 2)).await.unwrap();
    b.write("b").await;
    b.until("named", |c| c.r(2).status().cluster_id.is_some()).await;
    let e = b
        .r(2)
        .add_learner(crate::Member { id: 1, name: "mon1".into(), host: "127.0.0.1".into(), port }, soon(2_000))
        .await;
    assert!(e.is_ok(), "{e:?}");
    b.until("refused", |c| c.r(2).status().refused.is_some_and(|t| t.contains("belongs to cluster"))).await;
    assert_eq!(a.entries(1), [b"a".to_vec()]);
    a.stop_all().await;
    b.stop_all().await;
}

/// Whoever rejoins replays records from before the leader itself rejoined, and must not refuse the
/// leader on their strength.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_after_the_other_rejoins_under_a_leader_that_rejoined() {
    let mut c = Cluster::start(3, |_| {}).await;
    c.write("a").await;
    c.until("all recorded", |c| c.ids.iter().all(|i| c.r(*i).known_members() == 3)).await;
    let first = c.leader().await;
    for (turn, id) in [first].into_iter().chain(c.ids.clone().into_iter().filter(|id| *id != first)).enumerate() {
        c.stop(id).await;
        c.try_run(id, |cfg| cfg.rejoin = true).await.unwrap();
        c.until("it is back", |c| !c.r(id).is_rejoining() && c.r(id).status().voters == [1, 2, 3]).await;
        c.write("more").await;
        c.until("it has everything", |c| c.entries(id).len() == turn + 2).await;
        // The next one has to catch up from a leader with a new store.
        if c.leader().await != id {
            let leader = c.leader().await;
            c.r(leader).transfer_leader(id, soon(30_000)).await.unwrap();
            c.until("it leads", |c| c.r(id).status().leader == Some(id)).await;
        }
    }
    c.stop_all().await;
}
