//! Clients that work all the while, and write down honestly what they were told.

pub mod classify;
pub mod monitors;
pub mod pinned;
pub mod postgres;

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::check::replicas::Sample;
use crate::history::{Outcome, Recorder};
use crate::sql::{self, Session};
use crate::system::System;
use crate::{Context, Result};

/// A statement or transaction that takes longer is given up; what it did is unknown then.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// Connecting, authenticating and being told whether the server takes writes.
const CONNECT: Duration = Duration::from_secs(1);

/// What every client knows.
#[derive(Clone)]
pub struct Bench {
    pub recorder: Recorder,
    pub servers: Arc<Vec<(String, String)>>,
    pub monitors: Arc<Vec<(String, String)>>,
    pub samples: Arc<Mutex<Vec<Sample>>>,
    /// How often each monitor was started, for the samples.
    pub incarnations: Arc<Mutex<std::collections::BTreeMap<String, u32>>>,
    stop: Arc<AtomicBool>,
    numbers: Arc<AtomicI64>,
    /// A client with this mistake takes a cancelled wait for an acknowledgement; the checkers must
    /// find it out.
    pub ignore_notices: bool,
}

impl Bench {
    pub fn new(system: &dyn System, recorder: Recorder) -> Result<Self> {
        let mut servers = Vec::new();
        for server in system.servers() {
            servers.push((server.to_owned(), system.app_uri(server)?));
        }
        let monitors =
            system.monitors().into_iter().filter_map(|m| Some((m.to_owned(), system.monitor_uri(m)?)));
        Ok(Self {
            recorder,
            servers: Arc::new(servers),
            monitors: Arc::new(monitors.collect()),
            samples: Arc::default(),
            incarnations: Arc::default(),
            stop: Arc::default(),
            numbers: Arc::new(AtomicI64::new(1)),
            ignore_notices: false,
        })
    }

    fn running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// A number that no other operation of this run has.
    fn number(&self) -> i64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A session on whichever server takes writes; all are asked at once, as good drivers do.
    async fn connect_writable(&self) -> Result<(String, Session), String> {
        let mut asked = JoinSet::new();
        for (name, uri) in self.servers.iter().cloned() {
            asked.spawn(async move {
                let uri = format!("{uri}?target_session_attrs=read-write");
                sql::connect(&uri, CONNECT).await.map(|session| (name, session)).map_err(|e| e.to_string())
            });
        }
        let mut last = "no server".to_owned();
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => last = error,
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }
}

/// The clients of a run.
pub struct Load {
    pub bench: Bench,
    runtime: Runtime,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(bench: Bench) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("start a runtime for the clients")?;
        Ok(Self { bench, runtime, tasks: Vec::new() })
    }

    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&mut self, client: impl FnOnce(Bench) -> F) {
        let task = client(self.bench.clone());
        self.tasks.push(self.runtime.spawn(task));
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Asks all clients to stop and waits for them.
    pub fn stop(&mut self) {
        self.bench.stop.store(true, Ordering::Relaxed);
        let tasks = std::mem::take(&mut self.tasks);
        self.runtime.block_on(async {
            for mut task in tasks {
                if timeout(Duration::from_secs(10), &mut task).await.is_err() {
                    task.abort();
                }
            }
        });
    }
}

/// A client's place in the history: does one thing at a time, and takes a new number after an
/// operation whose outcome is unknown.
struct Client {
    bench: Bench,
    workload: &'static str,
    process: u32,
}

impl Client {
    fn new(bench: &Bench, workload: &'static str) -> Self {
        Self { bench: bench.clone(), workload, process: bench.recorder.process() }
    }

    fn invoke(&self, f: &str, input: Value, server: Option<&str>) {
        self.bench.recorder.invoke(self.workload, self.process, f, input, server);
    }

    /// Writes down how it ended; true if the session is still good for the next operation.
    fn complete(&mut self, f: &str, outcome: Outcome, server: Option<&str>) -> bool {
        let unsure = matches!(outcome, Outcome::Info(_));
        self.bench.recorder.complete(self.workload, self.process, f, outcome, server);
        if unsure {
            self.process = self.bench.recorder.process();
        }
        !unsure
    }
}

/// Waits, but not beyond the end of the run.
async fn pause(bench: &Bench, milliseconds: u64) {
    if bench.running() {
        sleep(Duration::from_millis(milliseconds)).await;
    }
}

fn push<T>(list: &Mutex<Vec<T>>, item: T) {
    list.lock().unwrap_or_else(PoisonError::into_inner).push(item);
}
