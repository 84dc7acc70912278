//! Prints what a three-replica cluster in one process does here: proposals and barriers per second,
//! time to replace a lost leader. Asserts nothing.
//!
//! `cargo run -p raft-store --example bench --release`

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use raft_store::{CallHandler, Config, Member, Replica, Role, StateMachine};
use tokio::time::{Instant, sleep};

struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, _: u64, _: &[u8]) -> Vec<u8> {
        self.0 += 1;
        self.0.to_le_bytes().to_vec()
    }
    fn snapshot(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }
    fn restore(&mut self, s: &[u8]) -> Result<(), String> {
        self.0 = u64::from_le_bytes(s.try_into().map_err(|_| "length")?);
        Ok(())
    }
}

struct NoCalls;

impl CallHandler for NoCalls {
    fn handle(&self, _: u64, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        async move { body }.boxed()
    }
}

type Cluster = BTreeMap<u64, Replica>;
type Failure = Box<dyn std::error::Error>;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

async fn start(dir: &std::path::Path, members: &[Member], id: u64) -> Result<Replica, Failure> {
    let listen = members.iter().find(|m| m.id == id).map(|m| format!("{}:{}", m.host, m.port)).ok_or("no member")?;
    let cfg = Config::new(id, members.to_vec(), dir.join(format!("r{id}")), listen);
    Ok(Replica::start(cfg, Arc::new(RwLock::new(Counter(0))), Arc::new(NoCalls)).await?)
}

async fn leader(cluster: &Cluster) -> u64 {
    loop {
        for (id, r) in cluster {
            if r.status().role == Role::Leader && r.read_barrier(Instant::now() + Duration::from_millis(300)).await.is_ok() {
                return *id;
            }
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// User and system time of this process in 1/100 s.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum()
}

fn percentile(sorted: &[Duration], p: usize) -> Duration {
    sorted.get((sorted.len() * p / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

async fn load(r: &Replica, what: &str, clients: usize, barrier: bool) {
    let span = Duration::from_secs(3);
    let started = Instant::now();
    let workers = (0..clients).map(|_| {
        let r = r.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            while started.elapsed() < span {
                let t = Instant::now();
                let ok = if barrier { r.read_barrier(soon()).await.is_ok() } else { r.propose(vec![7; 200], soon()).await.is_ok() };
                if ok {
                    times.push(t.elapsed());
                }
            }
            times
        })
    });
    let mut all: Vec<Duration> = futures::future::join_all(workers).await.into_iter().flatten().flatten().collect();
    let rate = all.len() as f64 / started.elapsed().as_secs_f64();
    all.sort();
    println!("{what:>9}, {clients:>4} clients: {rate:>8.0}/s  p50 {:>9.3?}  p99 {:>9.3?}", percentile(&all, 50), percentile(&all, 99));
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let dir = std::env::temp_dir().join(format!("raft-store-bench-{}", std::process::id()));
    let mut members = Vec::new();
    for id in 1..=3u64 {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        members.push(Member { id, name: format!("m{id}"), host: "127.0.0.1".into(), port });
    }
    let mut cluster = Cluster::new();
    let began = Instant::now();
    for id in 1..=3 {
        cluster.insert(id, start(&dir, &members, id).await?);
    }
    let mut first = leader(&cluster).await;
    println!("first start -> a leader passes a barrier: {:.3?}", began.elapsed());
    let (cpu, at) = (cpu_ticks(), Instant::now());
    sleep(Duration::from_secs(10)).await;
    // USER_HZ is 100 on every Linux that matters.
    let share = (cpu_ticks() - cpu) as f64 / at.elapsed().as_secs_f64();
    println!("at rest: {share:.2} % of a core for all three replicas");
    for clients in [1, 16, 64] {
        load(&cluster[&first], "proposals", clients, false).await;
    }
    for clients in [1, 64, 1000] {
        load(&cluster[&first], "barriers", clients, true).await;
    }
    let mut times = Vec::new();
    for _ in 0..9 {
        if let Some(lost) = cluster.remove(&first) {
            let t = Instant::now();
            // The others learn of it by silence alone: a broken connection starts no election.
            let stopping = tokio::spawn(lost.shutdown());
            let new = loop {
                let new = leader(&cluster).await;
                if cluster[&new].propose(b"x".to_vec(), soon()).await.is_ok() {
                    break new;
                }
            };
            times.push(t.elapsed());
            stopping.await?;
            cluster.insert(first, start(&dir, &members, first).await?);
            first = new;
            sleep(Duration::from_millis(800)).await;
        }
    }
    times.sort();
    println!("leader lost -> new leader applied a proposal: median {:.3?}, all {times:.3?}", percentile(&times, 50));
    for r in cluster.into_values() {
        r.shutdown().await;
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
