//! What clients asked and were told, as one list of events on one monotonic clock.
//!
//! A client writes an `invoke` before it sends anything and one completion when it knows more:
//! `ok` (done), `fail` (proved not to be done, now or ever) or `info` (may have been done, or still
//! may be). On disk a history is JSON lines, in the order in which events were recorded.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Context, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    // The order matters: at one instant an operation begins before another one ends.
    Invoke,
    Ok,
    Fail,
    Info,
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since the beginning of the run, on the monotonic clock of the harness.
    pub time: u64,
    /// Who did it. A process does one thing at a time.
    pub process: u32,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The workload, which names the checker.
    pub workload: String,
    /// The operation within the workload: read, write, add...
    pub f: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// The server that was asked, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Why it is not `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a client knows about an operation that is over for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Ok(Value),
    Fail(String),
    Info(String),
}

/// An operation: its invocation and its completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    pub process: u32,
    pub f: String,
    /// What was asked for.
    pub input: Value,
    /// Nanoseconds; `end` is `u64::MAX` for what was never answered.
    pub start: u64,
    pub end: u64,
    pub outcome: Outcome,
    pub server: Option<String>,
}

impl Op {
    pub fn ok(&self) -> Option<&Value> {
        match &self.outcome {
            Outcome::Ok(value) => Some(value),
            _ => None,
        }
    }
}

/// Pairs the events of one workload, in the order of their invocations.
pub fn operations(events: &[Event], workload: &str) -> Vec<Op> {
    let mut open: HashMap<u32, usize> = HashMap::new();
    let mut ops: Vec<Op> = Vec::new();
    for event in events.iter().filter(|e| e.workload == workload) {
        if event.kind == Kind::Invoke {
            open.insert(event.process, ops.len());
            ops.push(Op {
                process: event.process,
                f: event.f.clone(),
                input: event.value.clone(),
                start: event.time,
                end: u64::MAX,
                outcome: Outcome::Info("never answered".to_owned()),
                server: event.server.clone(),
            });
            continue;
        }
        let Some(op) = open.remove(&event.process).and_then(|i| ops.get_mut(i)) else {
            continue;
        };
        op.end = event.time;
        op.server = event.server.clone().or(op.server.take());
        let error = || event.error.clone().unwrap_or_default();
        op.outcome = match event.kind {
            Kind::Fail => Outcome::Fail(error()),
            Kind::Info => Outcome::Info(error()),
            _ => Outcome::Ok(event.value.clone()),
        };
    }
    ops.sort_by_key(|op| op.start);
    ops
}

/// Reads a history from JSON lines.
pub fn load(path: &Path) -> Result<Vec<Event>> {
    let file = File::open(path).context(format!("open {}", path.display()))?;
    let mut events = Vec::new();
    for (i, line) in BufReader::new(file).lines().enumerate() {
        let what = || format!("{}, line {}", path.display(), i + 1);
        events.push(serde_json::from_str(&line.context(what())?).context(what())?);
    }
    Ok(events)
}

/// Records a history; clones share it.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    begun: Instant,
    processes: AtomicU32,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            processes: AtomicU32::new(0),
            events: Mutex::default(),
        }))
    }

    /// Time since the beginning of the run.
    pub fn now(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// The instant of `time` since the beginning.
    pub fn instant(&self, time: Duration) -> Instant {
        self.0.begun + time
    }

    /// A number for a process that has not been used yet.
    pub fn process(&self) -> u32 {
        self.0.processes.fetch_add(1, Ordering::Relaxed)
    }

    fn push(&self, mut event: Event) {
        let mut events = self.0.events.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken under the lock, so that the list is in the order of its times.
        event.time = u64::try_from(self.0.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        events.push(event);
    }

    /// Records an invocation. Call it before anything is sent.
    pub fn invoke(&self, workload: &str, process: u32, f: &str, value: Value, server: Option<&str>) {
        self.push(Event {
            time: 0,
            process,
            kind: Kind::Invoke,
            workload: workload.to_owned(),
            f: f.to_owned(),
            value,
            server: server.map(str::to_owned),
            error: None,
        });
    }

    /// Records how an operation ended. After `info` the process must not be used again: what it
    /// asked for may still happen.
    pub fn complete(&self, workload: &str, process: u32, f: &str, outcome: Outcome, server: Option<&str>) {
        let (kind, value, error) = match outcome {
            Outcome::Ok(value) => (Kind::Ok, value, None),
            Outcome::Fail(error) => (Kind::Fail, Value::Null, Some(error)),
            Outcome::Info(error) => (Kind::Info, Value::Null, Some(error)),
        };
        self.push(Event {
            time: 0,
            process,
            kind,
            workload: workload.to_owned(),
            f: f.to_owned(),
            value,
            server: server.map(str::to_owned),
            error,
        });
    }

    pub fn events(&self) -> Vec<Event> {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes the history as JSON lines.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut out = BufWriter::new(File::create(path).context(format!("create {}", path.display()))?);
        for event in self.events() {
            serde_json::to_writer(&mut out, &event)?;
            out.write_all(b"\n")?;
        }
        out.flush().context(format!("write {}", path.display()))
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_history_survives_the_disk_and_what_was_never_answered_is_unknown() {
        let recorder = Recorder::new();
        let (a, b) = (recorder.process(), recorder.process());
        recorder.invoke("set", a, "add", json!(1), None);
        recorder.invoke("set", b, "add", json!(2), Some("n1"));
        recorder.invoke("other", recorder.process(), "x", json!(0), None);
        recorder.complete("set", a, "add", Outcome::Ok(json!(1)), Some("n2"));
        let path = std::env::temp_dir().join(format!("history-{}.jsonl", std::process::id()));
        recorder.save(&path).unwrap();
        let events = load(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(events, recorder.events());
        let ops = operations(&events, "set");
        assert_eq!(ops.len(), 2);
        assert_eq!(ops[0].ok(), Some(&json!(1)));
        assert_eq!(ops[0].server.as_deref(), Some("n2"));
        assert!(matches!(ops[1].outcome, Outcome::Info(_)) && ops[1].end == u64::MAX);
    }
}
