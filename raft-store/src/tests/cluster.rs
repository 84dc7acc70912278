//! Three replicas in one process. Every directed pair has its own relay, so a test can cut any link.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::*;

/// Remembers entries: the state is the list of (index, bytes).
#[derive(Default)]
pub struct Journal(pub Vec<(u64, Vec<u8>)>);

impl StateMachine for Journal {
    fn apply(&mut self, index: u64, entry: &[u8]) -> Vec<u8> {
        if entry == b"panic" {
            panic!("asked to");
        }
        self.0.push((index, entry.to_vec()));
        format!("{}:{}", self.0.len(), String::from_utf8_lossy(&entry[..entry.len().min(20)])).into_bytes()
    }
    fn snapshot(&self) -> Vec<u8> {
        codec::encode(&self.0.iter().map(|(i, b)| (*i, codec::Blob(b.clone()))).collect::<Vec<_>>()).unwrap()
    }
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        let rows: Vec<(u64, codec::Blob)> = codec::decode(snapshot).map_err(|e| e.to_string())?;
        self.0 = rows.into_iter().map(|(i, b)| (i, b.0)).collect();
        Ok(())
    }
}

/// Answers "id <- from: body".
pub struct Echo(pub u64);

impl CallHandler for Echo {
    fn handle(&self, from: u64, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        let id = self.0;
        async move {
            if body.starts_with(b"slow") {
                sleep(Duration::from_millis(300)).await;
            }
            [format!("{id}<-{from}:").as_bytes(), &body].concat()
        }
        .boxed()
    }
}

/// A link that can be cut: while cut, nothing passes and the ends are not told.
pub struct Relay {
    pub port: u16,
    open: watch::Sender<bool>,
    delay_ms: Arc<AtomicU64>,
}

impl Relay {
    pub async fn new(to: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, rx) = watch::channel(true);
        let delay_ms = Arc::new(AtomicU64::new(0));
        let delay = delay_ms.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (rx, delay) = (rx.clone(), delay.clone());
                tokio::spawn(async move {
                    let mut gate = rx.clone();
                    let _ = gate.wait_for(|o| *o).await;
                    let Ok(there) = TcpStream::connect(to).await else { return };
                    let _ = (tcp.set_nodelay(true), there.set_nodelay(true));
                    let (a, b) = tcp.into_split();
                    let (c, d) = there.into_split();
                    tokio::select! { _ = pump(a, d, rx.clone(), &delay) => {}, _ = pump(c, b, rx, &delay) => {} }
                });
            }
        });
        Relay { port, open, delay_ms }
    }
    /// Latency of each direction.
    pub fn delay(&self, ms: u64) {
        self.delay_ms.store(ms, Ordering::Relaxed);
    }
    pub fn set(&self, open: bool) {
        self.open.send_replace(open);
    }
}

async fn pump(from: tokio::net::tcp::OwnedReadHalf, to: tokio::net::tcp::OwnedWriteHalf, mut gate: watch::Receiver<bool>, delay: &AtomicU64) {
    use tokio::io::AsyncWriteExt;
    let mut to = to;
    let mut buf = vec![0u8; 64 << 10];
    loop {
        let n = {
            if from.readable().await.is_err() {
                return;
            }
            match from.try_read(&mut buf) {
                Ok(0) => return,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            }
        };
        let ms = delay.load(Ordering::Relaxed);
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        if gate.wait_for(|o| *o).await.is_err() || to.write_all(&buf[..n]).await.is_err() {
            return;
        }
    }
}

/// A port that was free a moment ago, from below the range that the kernel takes the ports of outgoing
/// connections from: one of those must not have it when a server comes back to it.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id().wrapping_mul(211).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + (n % 12_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub struct Running {
    pub replica: Replica,
    pub journal: Arc<RwLock<Journal>>,
}

pub struct Cluster {
    pub dir: tempfile::TempDir,
    pub ids: Vec<u64>,
    pub ports: BTreeMap<u64, u16>,
    pub relays: BTreeMap<(u64, u64), Relay>,
    pub running: BTreeMap<u64, Running>,
    pub tune: fn(&mut Config),
}

pub fn soon(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

impl Cluster {
    /// Links and directories for `n` replicas; none started.
    pub async fn prepare(n: u64, tune: fn(&mut Config)) -> Cluster {
        let ids: Vec<u64> = (1..=n).collect();
        let ports: BTreeMap<u64, u16> = ids.iter().map(|id| (*id, free_port())).collect();
        let mut relays = BTreeMap::new();
        for a in &ids {
            for b in ids.iter().filter(|b| *b != a) {
                relays.insert((*a, *b), Relay::new(([127, 0, 0, 1], ports[b]).into()).await);
            }
        }
        Cluster { dir: tempfile::tempdir().unwrap(), ids, ports, relays, running: BTreeMap::new(), tune }
    }

    /// All started, one leading.
    pub async fn start(n: u64, tune: fn(&mut Config)) -> Cluster {
        let mut c = Self::prepare(n, tune).await;
        for id in c.ids.clone() {
            c.run(id).await;
        }
        c.leader().await;
        c
    }

    pub fn dir_of(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("r{id}"))
    }

    pub fn config(&self, id: u64) -> Config {
        let members = self
            .ids
            .iter()
            .map(|m| Member {
                id: *m,
                name: format!("mon{m}"),
                host: "127.0.0.1".into(),
                port: self.relays.get(&(id, *m)).map_or(self.ports[m], |r| r.port),
            })
            .collect();
        let mut cfg = Config::new(id, members, self.dir_of(id), format!("127.0.0.1:{}", self.ports[&id]));
        cfg.software = "test 1".into();
        cfg.cluster_versions = (1, 3);
        (self.tune)(&mut cfg);
        cfg
    }

    pub async fn try_run(&mut self, id: u64, change: impl FnOnce(&mut Config)) -> Result<(), StartError> {
        let mut cfg = self.config(id);
        change(&mut cfg);
        let journal = Arc::new(RwLock::new(Journal::default()));
        let replica = Replica::start(cfg, journal.clone(), Arc::new(Echo(id))).await?;
        self.running.insert(id, Running { replica, journal });
        Ok(())
    }

    pub async fn run(&mut self, id: u64) {
        self.try_run(id, |_| {}).await.unwrap();
    }

    pub async fn stop(&mut self, id: u64) {
        if let Some(r) = self.running.remove(&id) {
            r.replica.shutdown().await;
        }
    }

    pub async fn stop_all(&mut self) {
        for id in self.ids.clone() {
            self.stop(id).await;
        }
    }

    /// Cuts or restores every link of one replica.
    pub fn isolate(&self, id: u64, cut: bool) {
        for ((a, b), relay) in &self.relays {
            if *a == id || *b == id {
                relay.set(!cut);
            }
        }
    }

    pub fn r(&self, id: u64) -> &Replica {
        &self.running[&id].replica
    }

    pub fn entries(&self, id: u64) -> Vec<Vec<u8>> {
        self.running[&id].journal.read().unwrap().0.iter().map(|(_, b)| b.clone()).collect()
    }

    /// The replica that passes a read barrier; waits for it.
    pub async fn leader(&self) -> u64 {
        self.leader_except(0).await
    }

    pub async fn leader_except(&self, not: u64) -> u64 {
        let limit = soon(60_000);
        while Instant::now() < limit {
            for (id, r) in &self.running {
                let s = r.replica.status();
                if *id != not && s.role == Role::Leader && r.replica.read_barrier(soon(700)).await.is_ok() {
                    return *id;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("no leader: {:#?}", self.running.values().map(|r| r.replica.status()).collect::<Vec<_>>());
    }

    /// Proposes at whoever leads until it is certainly applied (entries may repeat).
    pub async fn write(&self, entry: &str) -> u64 {
        let limit = soon(60_000);
        let mut last = String::new();
        while Instant::now() < limit {
            let leader = self.leader().await;
            match self.r(leader).propose(entry.as_bytes().to_vec(), soon(3_000)).await {
                Ok(a) => return a.index,
                Err(e) => last = e.to_string(),
            }
        }
        panic!("cannot write: {last}");
    }

    /// Waits for a condition.
    pub async fn until(&self, what: &str, f: impl Fn(&Cluster) -> bool) {
        let limit = soon(60_000);
        while !f(self) {
            if Instant::now() > limit {
                panic!("not within 60 s: {what}; {:#?}", self.running.values().map(|r| r.replica.status()).collect::<Vec<_>>());
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

