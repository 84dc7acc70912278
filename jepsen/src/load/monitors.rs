//! Clients of the monitors: registers, a set that becomes the event log, and a look at each replica.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::classify::{before_commit, call};
use super::{Bench, CONNECT, Client, DEADLINE, pause, push};
use crate::check::replicas::{Goal, Sample};
use crate::history::Outcome;
use crate::net::random::Random;
use crate::sql::{self, Session, SqlError};
use crate::{Context, Result};

pub const REGISTERS: &str = "registers";
pub const EVENTS: &str = "events";
/// Formations with one node each that nobody runs: the node's port is a register, its candidate
/// priority a source of events.
pub const KEYS: u16 = 16;
/// Ports from here on are the values of registers.
const FIRST: i64 = 1;

fn key(i: u16) -> String {
    format!("r{i}")
}

/// Registers the nodes; returns what each register holds.
pub fn make_registers(uri: &str) -> Result<BTreeMap<String, i64>> {
    for i in 0..KEYS {
        let key = key(i);
        let node = format!("'{key}', '10.255.0.{i}', {FIRST}, 'postgres', '{key}'");
        for text in [
            format!("SELECT pgautofailover.create_formation('{key}', 'pgsql', 'postgres', true, 0)"),
            format!("SELECT pgautofailover.register_node({node})"),
        ] {
            made(uri, &text).context("make the registers")?;
        }
    }
    Ok((0..KEYS).map(|i| (key(i), FIRST)).collect())
}

/// Done once, however often it must be asked for: on a busy machine the monitors may change their leader.
fn made(uri: &str, text: &str) -> Result<()> {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        match sql::try_query(uri, text, Duration::from_secs(5))? {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some("23505") || error.to_string().contains("exists") => return Ok(()),
            Err(error) if std::time::Instant::now() > until => return Err(error).context(text.to_owned()),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

async fn seat(uri: &str, open: &mut Option<Session>) -> Result<Session, Outcome> {
    match open.take() {
        Some(session) if !session.client.is_closed() => Ok(session),
        _ => sql::connect(uri, CONNECT).await.map_err(|error| Outcome::Fail(error.to_string())),
    }
}

/// Reads and writes registers through one monitor, leader or not.
pub async fn registers(bench: Bench, monitor: String, uri: String, pace: u64, seed: u64, values: Values) {
    let mut random = Random::new(seed);
    let mut client = Client::new(&bench, REGISTERS);
    let mut open = None;
    while bench.running() {
        let i = random.below(u64::from(KEYS)) as u16;
        let key = key(i);
        let value = if random.chance(0.5) { values.next(i) } else { None };
        let (f, input, text) = match value {
            Some(value) => (
                "write",
                json!([key, value]),
                format!(
                    "SELECT pgautofailover.update_node_metadata(nodeid, NULL, NULL, {value}) \
                     FROM pgautofailover.node WHERE formationid = '{key}'"
                ),
            ),
            None => (
                "read",
                json!([key]),
                format!("SELECT nodeport FROM pgautofailover.node WHERE formationid = '{key}'"),
            ),
        };
        client.invoke(f, input, Some(&monitor));
        let outcome = match seat(&uri, &mut open).await {
            Err(outcome) => outcome,
            Ok(session) => match call(timeout(DEADLINE, sql::rows(&session.client, &text)).await) {
                Ok(rows) => {
                    let cell = rows.first().and_then(|row| row.first()?.clone()).unwrap_or_default();
                    open = Some(session);
                    match (f, cell.parse::<i64>()) {
                        ("read", Ok(seen)) => Outcome::Ok(json!(seen)),
                        ("write", _) if cell == "t" => Outcome::Ok(Value::Null),
                        _ => Outcome::Info(format!("it answered {cell:?}")),
                    }
                }
                Err(outcome) => outcome,
            },
        };
        client.complete(f, outcome, Some(&monitor));
        pause(&bench, pace).await;
    }
}

/// Values for each register, each used once.
#[derive(Clone)]
pub struct Values(std::sync::Arc<Vec<std::sync::atomic::AtomicI64>>);

impl Values {
    pub fn new() -> Self {
        Self(std::sync::Arc::new((0..KEYS).map(|_| std::sync::atomic::AtomicI64::new(FIRST + 1)).collect()))
    }

    /// `None` when all ports are used up.
    fn next(&self, key: u16) -> Option<i64> {
        let value = self.0.get(usize::from(key))?.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (value <= 65_535).then_some(value)
    }
}

impl Default for Values {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds events through one monitor: each is a change of a candidate priority, told by node and
/// priority, and never repeated. Monitors take turns: `of` says how many there are, `turn` which.
pub async fn events(bench: Bench, monitor: String, uri: String, pace: u64, turn: i64, of: i64) {
    let mut client = Client::new(&bench, EVENTS);
    let mut open = None;
    let mut element = turn;
    while bench.running() && element < i64::from(KEYS) * 100 {
        let (key, priority) = (key((element / 100) as u16), element % 100);
        client.invoke("add", json!(element), Some(&monitor));
        let outcome = match seat(&uri, &mut open).await {
            Err(outcome) => outcome,
            Ok(session) => {
                let text = format!(
                    "SELECT pgautofailover.set_node_candidate_priority('{key}', '{key}', {priority})"
                );
                match call(timeout(DEADLINE, sql::rows(&session.client, &text)).await) {
                    Ok(_) => {
                        open = Some(session);
                        Outcome::Ok(Value::Null)
                    }
                    Err(outcome) => outcome,
                }
            }
        };
        client.complete("add", outcome, Some(&monitor));
        element += of;
        pause(&bench, pace).await;
    }
}

/// The elements in a list of events.
pub fn elements(log: &[(i64, String)]) -> Vec<i64> {
    log.iter()
        .filter_map(|(_, text)| {
            let (priority, node) =
                text.strip_prefix("Updating candidate priority to ")?.split_once(" for node ")?;
            let key: i64 = node.split('"').nth(1)?.strip_prefix('r')?.parse().ok()?;
            Some(key * 100 + priority.parse::<i64>().ok()?)
        })
        .collect()
}

/// The event log of one monitor, as it has applied it itself.
pub async fn read_log(uri: &str) -> Result<Vec<(i64, String)>, SqlError> {
    let read = async {
        let session = sql::connect(uri, CONNECT).await?;
        sql::rows(&session.client, "SET pgquorum.read_consistency = 'local'").await?;
        sql::rows(&session.client, "SELECT eventid, description FROM pgautofailover.event ORDER BY eventid")
            .await
    };
    let rows = timeout(DEADLINE * 5, read).await.unwrap_or(Err(SqlError::Deadline))?;
    let parse = |row: sql::Row| {
        let mut fields = row.into_iter();
        Some((fields.next()??.parse().ok()?, fields.next()??))
    };
    Ok(rows.into_iter().filter_map(parse).collect())
}

/// Looks at what a monitor has applied, every `pace` milliseconds.
pub async fn sample(bench: Bench, monitor: String, uri: String, pace: u64) {
    let mut open = None;
    while bench.running() {
        let incarnation = || {
            let all = bench.incarnations.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(&monitor).copied().unwrap_or(0)
        };
        let before = incarnation();
        if let Ok(session) = local_seat(&uri, &mut open).await
            && let Ok(mut sample) = look(&session, &monitor).await
        {
            sample.time = u64::try_from(bench.recorder.now().as_nanos()).unwrap_or(u64::MAX);
            sample.incarnation = before;
            // A sample during a restart belongs to nobody.
            if before == incarnation() {
                push(&bench.samples, sample);
            }
            open = Some(session);
        }
        pause(&bench, pace).await;
    }
}

async fn local_seat(uri: &str, open: &mut Option<Session>) -> Result<Session, Outcome> {
    let fresh = open.is_none();
    let session = seat(uri, open).await?;
    if fresh {
        before_commit(
            timeout(DEADLINE, sql::rows(&session.client, "SET pgquorum.read_consistency = 'local'")).await,
        )?;
    }
    Ok(session)
}

/// One look at one replica, through a session that reads locally.
pub async fn look(session: &Session, monitor: &str) -> Result<Sample, SqlError> {
    let text = format!(
        "SELECT r.role, r.term, r.applied_index, n.nodeid, n.nodename, n.reportedstate, n.goalstate \
         FROM pgquorum.replica r LEFT JOIN pgautofailover.node n ON n.formationid = 'default' \
         WHERE r.name = '{monitor}' ORDER BY n.nodeid"
    );
    let rows = match timeout(Duration::from_secs(1), sql::rows(&session.client, &text)).await {
        Ok(rows) => rows?,
        Err(_) => return Err(SqlError::Deadline),
    };
    let cell = |row: &sql::Row, i: usize| row.get(i).cloned().flatten().unwrap_or_default();
    let number = |row: &sql::Row, i: usize| cell(row, i).parse::<i64>();
    let first = rows.first().cloned().unwrap_or_default();
    let bad = |_| SqlError::Connection(format!("not a replica: {first:?}"));
    let goals = rows.iter().filter_map(|row| {
        Some(Goal {
            formation: "default".to_owned(),
            group: 0,
            node: number(row, 3).ok()?,
            name: cell(row, 4),
            reported: cell(row, 5),
            goal: cell(row, 6),
            epoch: None,
        })
    });
    Ok(Sample {
        time: 0,
        replica: monitor.to_owned(),
        incarnation: 0,
        role: cell(&first, 0),
        term: number(&first, 1).map_err(bad)?,
        applied: number(&first, 2).map_err(bad)?,
        goals: goals.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_from_events() {
        let log = [
            (1, "Setting goal state of node 1".to_owned()),
            (2, "Updating candidate priority to 7 for node 3 \"r2\" (10.255.0.2:77)".to_owned()),
        ];
        assert_eq!(elements(&log), [207]);
    }
}
