//! A client that writes all the time, over the group's URI, and remembers what was acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::NoTls;
use tokio_postgres::config::TargetSessionAttrs;

use super::World;

#[derive(Default)]
struct Record {
    /// Values, and when they were acknowledged.
    acked: Vec<(i64, Instant)>,
}

pub struct Writer {
    stop: Arc<AtomicBool>,
    record: Arc<Mutex<Record>>,
    task: JoinHandle<()>,
}

/// One statement, and one connection.
const STATEMENT: Duration = Duration::from_secs(1);

impl Writer {
    /// Starts to write into a table of its own, to whichever node takes writes.
    pub fn start(world: &World) -> Writer {
        let mut config = tokio_postgres::Config::new();
        for node in &world.nodes {
            config.host_path("/var/run/postgresql").port(node.port);
        }
        config.user("postgres").dbname("postgres").target_session_attrs(TargetSessionAttrs::ReadWrite);
        let stop = Arc::new(AtomicBool::new(false));
        let record = Arc::new(Mutex::new(Record::default()));
        let (stopped, recorded) = (stop.clone(), record.clone());
        let task = world.handle().spawn(async move {
            let mut next = 1i64;
            while !stopped.load(Ordering::Relaxed) {
                let connected = timeout(STATEMENT, config.connect(NoTls)).await;
                let Ok(Ok((client, connection))) = connected else {
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let driver = tokio::spawn(async move {
                    let _ = connection.await;
                });
                let _ = timeout(STATEMENT, client.simple_query("create table if not exists acks(v bigint)")).await;
                while !stopped.load(Ordering::Relaxed) {
                    let insert = format!("insert into acks values ({next})");
                    // A value is used once: whether a failed insert took effect is not known.
                    next += 1;
                    match timeout(STATEMENT, client.simple_query(&insert)).await {
                        Ok(Ok(_)) => recorded.lock().unwrap().acked.push((next - 1, Instant::now())),
                        _ => break,
                    }
                    sleep(Duration::from_millis(5)).await;
                }
                driver.abort();
            }
        });
        let writer = Writer { stop, record, task };
        writer.expect_more(world, 5);
        writer
    }

    pub fn count(&self) -> usize {
        self.record.lock().unwrap().acked.len()
    }

    /// Waits for `more` acknowledgements from now on.
    pub fn expect_more(&self, world: &World, more: usize) {
        let now = self.count();
        world.eventually("writes are acknowledged", || (self.count() >= now + more).then_some(()));
    }

    /// The longest time without an acknowledgement since `from`.
    pub fn outage_since(&self, from: Instant) -> Duration {
        let record = self.record.lock().unwrap();
        let mut times: Vec<Instant> = record.acked.iter().map(|(_, at)| *at).filter(|at| *at >= from).collect();
        times.insert(0, from);
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Ends the writing and returns how many acknowledged values node `at` lacks.
    pub fn lost(self, world: &World, at: usize) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        world.block_on(async { timeout(Duration::from_secs(60), self.task).await }).unwrap().unwrap();
        let there: std::collections::HashSet<i64> =
            world.sql(at, "select v from acks").lines().filter_map(|line| line.parse().ok()).collect();
        let record = self.record.lock().unwrap();
        assert!(!record.acked.is_empty());
        record.acked.iter().filter(|(value, _)| !there.contains(value)).count()
    }
}
