//! Clients that stay with one server, whatever becomes of it: what do they still read and write there?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::sql::{self, Session};
use crate::writer::{Op, Outcome};
use crate::{Failure, Result};

const PACE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);

/// A read that was answered: the newest id that it showed.
#[derive(Clone, Copy, Debug)]
struct Read {
    started: Instant,
    ended: Instant,
    newest: i64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    reads: Mutex<Vec<Read>>,
    /// Negative ids that were acknowledged, and when they were sent.
    writes: Mutex<Vec<(i64, Instant)>>,
}

/// A reader and a writer of one server.
pub struct Straggler {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// What the old primary still said after the new one had acknowledged its first row.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The end of the last answer that lacked a row acknowledged elsewhere before the question.
    pub stale_until: Option<Duration>,
    pub stale_reads: usize,
    /// Rows that were sent to the old primary then, and acknowledged. One that was on its way before, and on
    /// its standby before that one was sealed, may be acknowledged when the old primary is resumed: it is
    /// not lost.
    pub acknowledged_late: usize,
    /// Of all rows that it ever acknowledged, those that are gone.
    pub lost: usize,
}

impl Straggler {
    /// `uri` names one server, `table` is the writer's.
    pub fn start(uri: &str, table: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let spawn = |work: fn(String, String, Arc<Shared>) -> Result<()>| {
            let (uri, table, shared) = (uri.to_owned(), table.to_owned(), Arc::clone(&shared));
            std::thread::spawn(move || work(uri, table, shared))
        };
        let threads = vec![
            spawn(|uri, table, shared| sql::block_on(read(&uri, &table, &shared))?),
            spawn(|uri, table, shared| sql::block_on(write(&uri, &table, &shared))?),
        ];
        Self { shared, threads }
    }

    /// Ends both.
    pub fn stop(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| Failure::new("a straggler panicked"))??;
        }
        Ok(())
    }

    /// Compares with what the `writer` was told, which writes to wherever the primary is, and with the
    /// rows that are there in the end. To be asked when both have ended.
    pub fn verdict(&self, port: u16, writer: &[Op], present: &dyn Fn(i64) -> bool) -> Result<Verdict> {
        let elsewhere: Vec<(i64, Instant)> = writer
            .iter()
            .filter(|op| op.outcome == Outcome::Ok && op.port != port)
            .map(|op| (op.id, op.ended))
            .collect();
        let mut verdict = Verdict::default();
        let writes = self.shared.writes.lock().unwrap_or_else(PoisonError::into_inner);
        verdict.lost = writes.iter().filter(|(id, _)| !present(*id)).count();
        let Some(&(_, moved)) = elsewhere.first() else {
            return Ok(verdict);
        };
        verdict.acknowledged_late = writes.iter().filter(|(_, started)| *started > moved).count();
        for read in self.shared.reads.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let before = elsewhere.iter().rev().find(|(_, acknowledged)| *acknowledged < read.started);
            if before.is_some_and(|(id, _)| *id > read.newest) {
                verdict.stale_reads += 1;
                verdict.stale_until = Some(read.ended.saturating_duration_since(moved));
            }
        }
        Ok(verdict)
    }
}

async fn connected(uri: &str, session: &mut Option<Session>) -> bool {
    if session.is_none() {
        *session = sql::connect(uri, Duration::from_secs(1)).await.ok();
    }
    session.is_some()
}

async fn read(uri: &str, table: &str, shared: &Shared) -> Result<()> {
    let mut session = None;
    // A standby may lag behind, and says what it is.
    let question = format!("SELECT coalesce(max(id), 0), pg_is_in_recovery() FROM {table}");
    while !shared.stop.load(Ordering::Relaxed) {
        sleep(PACE).await;
        if !connected(uri, &mut session).await {
            continue;
        }
        let Some(open) = session.take() else { continue };
        let started = Instant::now();
        if let Ok(Ok(rows)) = timeout(PATIENCE, sql::rows(&open.client, &question)).await {
            let field = |i: usize| rows.first().and_then(|row| row.get(i).cloned().flatten());
            if field(1).as_deref() == Some("f") {
                let newest = field(0).unwrap_or_default().parse()?;
                let read = Read { started, ended: Instant::now(), newest };
                shared.reads.lock().unwrap_or_else(PoisonError::into_inner).push(read);
            }
            session = Some(open);
        }
    }
    Ok(())
}

async fn write(uri: &str, table: &str, shared: &Shared) -> Result<()> {
    let mut session = None;
    let mut id = 0i64;
    while !shared.stop.load(Ordering::Relaxed) {
        sleep(PACE).await;
        if !connected(uri, &mut session).await {
            continue;
        }
        let Some(open) = session.take() else { continue };
        id -= 1;
        let statement = format!("INSERT INTO {table} VALUES ({id})");
        let started = Instant::now();
        let answer = timeout(PATIENCE, sql::rows(&open.client, &statement)).await;
        let cancelled = open.heard.take_notices().iter().any(|n| n.contains("synchronous replication"));
        if matches!(answer, Ok(Ok(_))) && !cancelled {
            shared.writes.lock().unwrap_or_else(PoisonError::into_inner).push((id, started));
            session = Some(open);
        }
    }
    Ok(())
}
