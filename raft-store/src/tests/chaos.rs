//! Clients write while replicas are cut off and restarted. Afterwards: every acknowledged entry is
//! there at its index on every replica, no refused one is anywhere, all replicas are equal.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;

use super::cluster::*;
use crate::*;

#[derive(Default)]
struct History {
    acknowledged: Vec<(u64, Vec<u8>)>,
    refused: Vec<Vec<u8>>,
    unknown: usize,
}

type Handles = Arc<Mutex<BTreeMap<u64, Replica>>>;

async fn client(n: u64, handles: Handles, stop: Arc<AtomicBool>, history: Arc<Mutex<History>>) {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        // Whoever is there is asked, leader or not: refusals are part of what is tested.
        let all: Vec<Replica> = handles.lock().unwrap().values().cloned().collect();
        let Some(r) = all.get(count % all.len().max(1)) else { continue };
        let entry = format!("{n}-{count}").into_bytes();
        count += 1;
        let result = r.propose(entry.clone(), soon(400)).await;
        {
            let mut h = history.lock().unwrap();
            match result {
                Ok(a) => h.acknowledged.push((a.index, entry)),
                Err(ProposeError::NotLeader { .. }) => h.refused.push(entry),
                Err(_) => h.unknown += 1,
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_means_kept_and_refused_means_never() {
    let small = |cfg: &mut Config| {
        cfg.snapshot_entries = 300;
        cfg.keep_entries = 30;
    };
    let mut c = Cluster::start(3, small).await;
    let handles: Handles = Arc::default();
    let share = |c: &Cluster, handles: &Handles| {
        *handles.lock().unwrap() = c.running.iter().map(|(id, r)| (*id, r.replica.clone())).collect();
    };
    share(&c, &handles);
    let stop = Arc::new(AtomicBool::new(false));
    let history = Arc::new(Mutex::new(History::default()));
    let clients: Vec<_> =
        (0..4).map(|n| tokio::spawn(client(n, handles.clone(), stop.clone(), history.clone()))).collect();
    let enough = || history.lock().unwrap().acknowledged.len() > 100;
    // More than four on a machine that is too busy to acknowledge enough in their time.
    for round in (0..20u64).take_while(|round| *round < 4 || !enough()) {
        let leader = c.leader().await;
        // The leader is cut off with proposals under way, then healed.
        c.isolate(leader, true);
        sleep(Duration::from_millis(1_300)).await;
        c.isolate(leader, false);
        sleep(Duration::from_millis(300)).await;
        // Somebody is restarted.
        let victim = if round % 2 == 0 { c.leader().await } else { round % 3 + 1 };
        handles.lock().unwrap().remove(&victim);
        c.stop(victim).await;
        sleep(Duration::from_millis(100)).await;
        c.run(victim).await;
        share(&c, &handles);
    }
    stop.store(true, Ordering::Relaxed);
    for t in clients {
        t.await.unwrap();
    }
    let end = c.write("end").await;
    for id in c.ids.clone() {
        c.until("all applied", |c| c.r(id).status().applied_index >= Some(end)).await;
    }
    let history = std::mem::take(&mut *history.lock().unwrap());
    println!(
        "{} acknowledged, {} refused, {} unknown",
        history.acknowledged.len(),
        history.refused.len(),
        history.unknown
    );
    assert!(history.acknowledged.len() > 100);
    let first: BTreeMap<u64, Vec<u8>> = c.running[&1].journal.read().unwrap().0.iter().cloned().collect();
    for id in &c.ids {
        let journal: BTreeMap<u64, Vec<u8>> = c.running[id].journal.read().unwrap().0.iter().cloned().collect();
        for (index, entry) in &history.acknowledged {
            assert_eq!(journal.get(index), Some(entry), "replica {id} lost an acknowledged entry at {index}");
        }
        let all: std::collections::BTreeSet<&Vec<u8>> = journal.values().collect();
        for entry in &history.refused {
            assert!(!all.contains(entry), "replica {id} applied a refused entry");
        }
        let upto = |j: &BTreeMap<u64, Vec<u8>>| j.range(..=end).map(|(i, e)| (*i, e.clone())).collect::<Vec<_>>();
        assert_eq!(upto(&journal), upto(&first), "replicas 1 and {id} differ");
    }
    handles.lock().unwrap().clear();
    c.stop_all().await;
}
