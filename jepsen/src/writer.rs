//! A client that inserts one row every ten milliseconds, and an honest record of what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::sql::{self, Session, SqlError};
use crate::wait::{wait_for, wait_until};
use crate::{Context, Failure, Result, ensure};

const PACE: Duration = Duration::from_millis(10);
const STATEMENT_DEADLINE: Duration = Duration::from_secs(1);
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// What the client knows about one insert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, without any notice: it must survive.
    Ok,
    /// Surely not done: it must not appear.
    Fail(String),
    /// May or may not have been done.
    Info(String),
}

#[derive(Clone, Debug)]
pub struct Op {
    pub id: i64,
    pub started: Instant,
    pub ended: Instant,
    pub port: u16,
    pub outcome: Outcome,
}

pub struct Writer {
    table: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// How the server that takes writes is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// One host after another, as libpq does.
    InOrder,
    AtOnce,
}

impl Search {
    async fn connect(self, uri: &str) -> Result<Session, SqlError> {
        match self {
            Search::InOrder => sql::connect(uri, CONNECT_DEADLINE).await,
            Search::AtOnce => sql::connect_at_once(uri, CONNECT_DEADLINE / 4).await,
        }
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    ops: Mutex<Vec<Op>>,
}

impl Writer {
    /// Makes a table and starts to insert into it. Returns after the first acknowledged row.
    pub fn start(uri: &str) -> Result<Self> {
        Self::start_with(uri, Search::InOrder)
    }

    /// The same for a client that asks all hosts at the same time who takes writes: what is measured
    /// with it is the servers' outage, not the time that a client spends on a silent host.
    pub fn start_at_once(uri: &str) -> Result<Self> {
        Self::start_with(uri, Search::AtOnce)
    }

    fn start_with(uri: &str, search: Search) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let table = format!("writer_{}_{number}", std::process::id());
        wait_for("a primary to make the writer's table on", Duration::from_secs(60), || {
            sql::query(uri, &format!("CREATE TABLE IF NOT EXISTS {table} (id bigint NOT NULL)")).map(Some)
        })?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let (uri, table, shared) = (uri.to_owned(), table.clone(), Arc::clone(&shared));
            move || sql::block_on(write(&uri, search, &table, &shared))?
        });
        let writer = Self { table, shared, thread: Some(thread) };
        writer.wait_acknowledged(1, Duration::from_secs(30))?;
        Ok(writer)
    }

    /// The table that is written to; its column `id` grows.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// What has been done so far.
    pub fn ops(&self) -> Vec<Op> {
        self.shared.ops.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rows acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.ops().iter().filter(|op| op.outcome == Outcome::Ok).count()
    }

    /// Waits for `more` acknowledged rows that were begun from now on.
    pub fn wait_acknowledged(&self, more: usize, deadline: Duration) -> Result<()> {
        let now = Instant::now();
        wait_until(&format!("{more} acknowledged rows"), deadline, || {
            let ops = self.ops();
            Ok((ops.iter().filter(|op| op.outcome == Outcome::Ok && op.started >= now).count() >= more)
                .then_some(()))
        })
        .map_err(|error| {
            let last = self.ops().into_iter().rev().find(|op| op.outcome != Outcome::Ok);
            Failure::new(format!("{error}; the writer's last trouble: {:?}", last.map(|op| op.outcome)))
        })
    }

    /// Waits for an acknowledged row on another server than `port`, begun from now on.
    pub fn wait_moved(&self, port: u16, deadline: Duration) -> Result<()> {
        let now = Instant::now();
        wait_until(&format!("rows acknowledged elsewhere than on {port}"), deadline, || {
            let ops = self.ops();
            let moved = ops.iter().filter(|o| o.outcome == Outcome::Ok && o.started >= now && o.port != port);
            Ok((moved.count() >= 20).then_some(()))
        })
    }

    /// Stops, reads the table through `uri` and compares.
    pub fn finish(mut self, uri: &str) -> Result<Report> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| Failure::new("the writer panicked"))?.context("the writer")?;
        }
        let rows = wait_for("the writer's rows", Duration::from_secs(60), || {
            sql::query(uri, &format!("SELECT id FROM {}", self.table)).map(Some)
        })?;
        let mut found: BTreeMap<i64, u32> = BTreeMap::new();
        for row in rows {
            *found.entry(row.first().cloned().flatten().context("a NULL id")?.parse()?).or_default() += 1;
        }
        Ok(Report::new(self.ops(), &found))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

async fn write(uri: &str, search: Search, table: &str, shared: &Shared) -> Result<()> {
    let mut session: Option<Session> = None;
    let mut id = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        id += 1;
        let started = Instant::now();
        let (outcome, port) = match session.take() {
            Some(open) => insert(open, table, id, &mut session).await,
            None => match search.connect(uri).await {
                Ok(open) => insert(open, table, id, &mut session).await,
                Err(error) => (Outcome::Fail(error.to_string()), 0),
            },
        };
        let op = Op { id, started, ended: Instant::now(), port, outcome };
        shared.ops.lock().unwrap_or_else(PoisonError::into_inner).push(op);
        sleep(PACE.saturating_sub(started.elapsed())).await;
    }
    Ok(())
}

/// One insert. The session is given back unless it is to be abandoned.
async fn insert(open: Session, table: &str, id: i64, keep: &mut Option<Session>) -> (Outcome, u16) {
    let port = open.port;
    let statement = format!("INSERT INTO {table} VALUES ({id})");
    let answer = timeout(STATEMENT_DEADLINE, sql::rows(&open.client, &statement)).await;
    let notices = open.heard.take_notices();
    let outcome = match answer {
        Err(_) => Outcome::Info("no answer within the deadline".to_owned()),
        Ok(Err(error)) => classify(&error),
        // "canceling wait for synchronous replication": committed here, perhaps nowhere else.
        Ok(Ok(_)) => match notices.into_iter().find(|n| n.contains("synchronous replication")) {
            Some(notice) => Outcome::Info(notice),
            None => {
                *keep = Some(open);
                Outcome::Ok
            }
        },
    };
    (outcome, port)
}

/// Only errors that prove a rollback count as failures.
fn classify(error: &SqlError) -> Outcome {
    match error.code() {
        Some(code) if ["25006", "40001", "40P01", "42P01", "53300"].contains(&code) => {
            Outcome::Fail(error.to_string())
        }
        _ => Outcome::Info(error.to_string()),
    }
}

/// What became of a writer's rows.
#[derive(Clone, Debug)]
pub struct Report {
    pub acknowledged: usize,
    pub failed: usize,
    pub unknown: usize,
    /// The longest time from the end of one acknowledged insert to the end of the next.
    pub outage: Duration,
    /// Acknowledged, and gone.
    pub lost: Vec<i64>,
    /// Refused, and there nevertheless.
    pub unwanted: Vec<i64>,
    /// There more than once.
    pub doubled: Vec<i64>,
    /// Servers that acknowledged, in order of their first acknowledgement.
    pub servers: Vec<u16>,
    /// Kinds of trouble met, with their number.
    pub troubles: BTreeMap<String, usize>,
}

impl Report {
    fn new(ops: Vec<Op>, found: &BTreeMap<i64, u32>) -> Self {
        let mut report = Self {
            acknowledged: 0,
            failed: 0,
            unknown: 0,
            outage: Duration::ZERO,
            lost: Vec::new(),
            unwanted: Vec::new(),
            doubled: found.iter().filter(|(_, n)| **n > 1).map(|(id, _)| *id).collect(),
            servers: Vec::new(),
            troubles: BTreeMap::new(),
        };
        let mut last: Option<Instant> = None;
        let mut seen = BTreeSet::new();
        for op in ops {
            match op.outcome {
                Outcome::Ok => {
                    report.acknowledged += 1;
                    if !found.contains_key(&op.id) {
                        report.lost.push(op.id);
                    }
                    if let Some(last) = last {
                        report.outage = report.outage.max(op.ended - last);
                    }
                    last = Some(op.ended);
                    if seen.insert(op.port) {
                        report.servers.push(op.port);
                    }
                }
                Outcome::Fail(trouble) => {
                    report.failed += 1;
                    if found.contains_key(&op.id) {
                        report.unwanted.push(op.id);
                    }
                    *report.troubles.entry(trouble).or_default() += 1;
                }
                Outcome::Info(trouble) => {
                    report.unknown += 1;
                    *report.troubles.entry(trouble).or_default() += 1;
                }
            }
        }
        report
    }

    /// Fails unless every acknowledged row is there once and no refused one is.
    pub fn check(&self) -> Result<()> {
        ensure!(self.acknowledged > 0, "nothing was acknowledged: {self}");
        ensure!(self.lost.is_empty(), "acknowledged rows are lost: {:?}; {self}", self.lost);
        ensure!(self.unwanted.is_empty(), "refused rows are there: {:?}; {self}", self.unwanted);
        ensure!(self.doubled.is_empty(), "rows are there twice: {:?}; {self}", self.doubled);
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acknowledged ({} lost), {} refused, {} unknown, longest outage {:.2} s, servers {:?}",
            self.acknowledged,
            self.lost.len(),
            self.failed,
            self.unknown,
            self.outage.as_secs_f64(),
            self.servers
        )
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn op(id: i64, at: Instant, outcome: Outcome) -> Op {
        Op { id, started: at, ended: at, port: 1, outcome }
    }

    #[test]
    fn a_lost_a_refused_and_a_doubled_row_are_found() {
        let t = Instant::now();
        let later = t + Duration::from_secs(3);
        let ops = vec![
            op(1, t, Outcome::Ok),
            op(2, t, Outcome::Fail("25006".into())),
            op(3, t, Outcome::Info("deadline".into())),
            op(4, later, Outcome::Ok),
        ];
        let report = Report::new(ops.clone(), &[(1, 1), (4, 1)].into());
        assert_eq!(report.outage, Duration::from_secs(3));
        report.check().unwrap();
        Report::new(ops.clone(), &[(1, 1), (3, 1), (4, 1)].into()).check().unwrap();
        assert_eq!(Report::new(ops.clone(), &[(1, 1)].into()).lost, [4]);
        assert_eq!(Report::new(ops.clone(), &[(1, 1), (2, 1), (4, 1)].into()).unwanted, [2]);
        assert_eq!(Report::new(ops, &[(1, 2), (4, 1)].into()).doubled, [1]);
    }

    #[test]
    fn only_a_proved_rollback_is_a_failure() {
        let server = |code: &str| SqlError::Server { code: code.into(), message: String::new() };
        assert!(matches!(classify(&server("25006")), Outcome::Fail(_)));
        for unsure in
            [server("57P01"), server("57P03"), SqlError::Deadline, SqlError::Connection("reset".into())]
        {
            assert!(matches!(classify(&unsure), Outcome::Info(_)));
        }
    }
}
