//! What the keeper does beside reporting: at most one thing at a time.

use std::fmt;
use std::time::Duration;

use failover::NodeState;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::{KeeperError, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Transition(NodeState, NodeState),
    Upkeep(&'static str),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Transition(from, to) => write!(f, "{from} -> {to}"),
            Kind::Upkeep(what) => f.write_str(what),
        }
    }
}

/// A task that ends when it is dropped, and with it the programs that it runs.
pub struct Job {
    pub kind: Kind,
    task: JoinHandle<Result<()>>,
}

impl Job {
    pub fn start(kind: Kind, work: impl Future<Output = Result<()>> + Send + 'static) -> Job {
        Job { kind, task: tokio::spawn(work) }
    }

    /// Waits for the end of the job in `slot` and empties the slot. Must not be called on an empty one;
    /// it would wait for ever.
    pub async fn finished(slot: &mut Option<Job>) -> (Kind, Result<()>) {
        let Some(job) = slot.as_mut() else { return std::future::pending().await };
        let kind = job.kind;
        let result = match (&mut job.task).await {
            Ok(result) => result,
            Err(error) => Err(KeeperError::internal(format!("{kind} ended abnormally: {error}"))),
        };
        *slot = None;
        (kind, result)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Growing pauses between failing attempts, and fewer words about them.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    until: Instant,
    told: Option<Instant>,
}

/// The first pause and the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { failures: 0, until: Instant::now(), told: None }
    }
}

impl Backoff {
    pub fn failed(&mut self) {
        let pause = (FIRST * 2u32.saturating_pow(self.failures.min(10))).min(LONGEST);
        self.failures += 1;
        self.until = Instant::now() + pause;
    }

    pub fn reset(&mut self) {
        *self = Backoff::default();
    }

    pub fn until(&self) -> Instant {
        self.until
    }

    /// Every failure at first, then at most one in ten seconds.
    pub fn worth_telling(&mut self) -> bool {
        if self.failures > 3 && self.told.is_some_and(|at| at.elapsed() < Duration::from_secs(10)) {
            return false;
        }
        self.told = Some(Instant::now());
        true
    }
}

/// The same words at most once in ten seconds.
#[derive(Debug, Default)]
pub struct Told {
    last: Option<(Instant, String)>,
}

impl Told {
    pub fn is_news(&mut self, words: &str) -> bool {
        if self.last.as_ref().is_some_and(|(at, last)| last == words && at.elapsed() < LONGEST) {
            return false;
        }
        self.last = Some((Instant::now(), words.to_string()));
        true
    }
}
