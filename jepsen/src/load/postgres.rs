//! Clients of the application: a set of rows, lists to append to, a bank.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::classify::{before_commit, commit};
use super::{Bench, Client, DEADLINE, pause};
use crate::history::Outcome;
use crate::net::random::Random;
use crate::sql::{self, Row, Session, SqlError};
use crate::{Context, Result};

pub const SET: &str = "set";
pub const APPEND: &str = "append";
pub const BANK: &str = "bank";
pub const ACCOUNTS: usize = 5;
pub const BALANCE: i64 = 1000;

/// The tables of all clients; `uri` is the primary's, as the application.
pub fn make_tables(uri: &str) -> Result<()> {
    sql::query(
        uri,
        &format!(
            "CREATE TABLE elements (id bigint NOT NULL);
             CREATE TABLE lists (k bigint PRIMARY KEY, v text NOT NULL);
             CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
             CREATE TABLE probe (n bigint NOT NULL);
             CREATE INDEX ON probe (n);
             INSERT INTO accounts SELECT i, {BALANCE} FROM generate_series(1, {ACCOUNTS}) i"
        ),
    )
    .map(drop)
    .context("make the clients' tables")
}

/// A session kept from one operation to the next.
struct Seat {
    open: Option<(String, Session)>,
}

impl Seat {
    /// The session, opened where needed. Nothing was sent if there is none: that is a failure.
    async fn take(&mut self, bench: &Bench) -> Result<(String, Session), Outcome> {
        match self.open.take() {
            Some(open) if !open.1.client.is_closed() => Ok(open),
            _ => bench.connect_writable().await.map_err(Outcome::Fail),
        }
    }

    /// One transaction, and the server that it was sent to. The session is kept when it is as clean as
    /// before, on a server that takes writes.
    async fn transact(
        &mut self,
        bench: &Bench,
        statements: &[String],
    ) -> (Result<Vec<Vec<Row>>, Outcome>, Option<String>) {
        let (server, session) = match self.take(bench).await {
            Ok(taken) => taken,
            Err(outcome) => return (Err(outcome), None),
        };
        let answers = transaction(&session, statements, bench.ignore_notices).await;
        let clean = match &answers {
            Ok(_) => true,
            Err(Outcome::Fail(why)) => roll_back(&session).await.is_ok() && !why.starts_with("25006"),
            Err(_) => false,
        };
        if clean {
            self.open = Some((server.clone(), session));
        }
        (answers, Some(server))
    }
}

async fn ask(session: &Session, text: &str) -> super::classify::Answer {
    timeout(DEADLINE, sql::rows(&session.client, text)).await
}

/// Adds elements to the set, one statement each.
pub async fn add_to_set(bench: Bench, pace: u64) {
    let mut client = Client::new(&bench, SET);
    let mut seat = Seat { open: None };
    while bench.running() {
        let element = bench.number();
        client.invoke("add", json!(element), None);
        let (outcome, server) = match seat.take(&bench).await {
            Err(outcome) => (outcome, None),
            Ok((server, session)) => {
                let answer = ask(&session, &format!("INSERT INTO elements VALUES ({element})")).await;
                let done = commit(answer, &session.heard.take_notices(), bench.ignore_notices);
                let outcome = done.map_or_else(|outcome| outcome, |_| Outcome::Ok(Value::Null));
                if !matches!(outcome, Outcome::Info(_)) {
                    seat.open = Some((server.clone(), session));
                }
                (outcome, Some(server))
            }
        };
        // A server that refuses may have become a standby: look for the primary anew.
        if matches!(outcome, Outcome::Fail(_)) {
            seat.open = None;
        }
        client.complete("add", outcome, server.as_deref());
        pause(&bench, pace).await;
    }
}

/// Reads the whole set from a session and writes that down.
pub async fn read_set(bench: &Bench) -> Result<(), String> {
    let mut client = Client::new(bench, SET);
    client.invoke("read", Value::Null, None);
    let read = async {
        let (server, session) = bench.connect_writable().await?;
        let rows = sql::rows(&session.client, "SELECT id FROM elements").await.map_err(|e| e.to_string())?;
        Ok::<_, String>((server, numbers(&rows, 0)))
    };
    let read = timeout(DEADLINE * 10, read).await.unwrap_or_else(|_| Err("no answer".to_owned()));
    match read {
        Ok((server, found)) => {
            client.complete("read", Outcome::Ok(json!(found)), Some(&server));
            Ok(())
        }
        Err(error) => {
            client.complete("read", Outcome::Fail(error.clone()), None);
            Err(error)
        }
    }
}

fn numbers(rows: &[Row], column: usize) -> Vec<i64> {
    rows.iter().filter_map(|row| row.get(column)?.as_ref()?.parse().ok()).collect()
}

/// Runs statements in one serializable transaction.
async fn transaction(
    session: &Session,
    statements: &[String],
    ignore_notices: bool,
) -> Result<Vec<Vec<Row>>, Outcome> {
    before_commit(ask(session, "BEGIN ISOLATION LEVEL SERIALIZABLE").await)?;
    let mut answers = Vec::new();
    for text in statements {
        answers.push(before_commit(ask(session, text).await)?);
    }
    let answer = ask(session, "COMMIT").await;
    commit(answer, &session.heard.take_notices(), ignore_notices)?;
    Ok(answers)
}

/// Transactions of one to four reads and appends. Each has an append: what a deposed primary reads it
/// cannot commit then, and reads alone are the business of the pinned clients.
pub async fn append_to_lists(bench: Bench, pace: u64, seed: u64) {
    const LISTS: u64 = 4;
    const LENGTH: u64 = 32;
    let mut random = Random::new(seed);
    let mut client = Client::new(&bench, APPEND);
    let mut seat = Seat { open: None };
    let mut appended: BTreeMap<u64, u64> = BTreeMap::new();
    while bench.running() {
        let mut asked = Vec::new();
        let mut statements = Vec::new();
        let count = random.between(1, 4);
        for i in 0..count {
            // Lists are given up after some appends, or reading them would take all the time.
            let slot = random.below(LISTS);
            let round = appended.get(&slot).copied().unwrap_or(0) / LENGTH;
            let key = slot + LISTS * round;
            if i + 1 < count && random.chance(0.5) {
                asked.push(json!(["r", key, null]));
                statements.push(format!("SELECT v FROM lists WHERE k = {key}"));
            } else {
                *appended.entry(slot).or_default() += 1;
                let element = bench.number();
                asked.push(json!(["append", key, element]));
                statements.push(format!(
                    "INSERT INTO lists VALUES ({key}, '{element}') \
                     ON CONFLICT (k) DO UPDATE SET v = lists.v || ' {element}'"
                ));
            }
        }
        client.invoke("txn", Value::Array(asked.clone()), None);
        let (answers, server) = seat.transact(&bench, &statements).await;
        let outcome = answers.map_or_else(|outcome| outcome, |answers| Outcome::Ok(filled(asked, &answers)));
        client.complete("txn", outcome, server.as_deref());
        pause(&bench, pace).await;
    }
}

async fn roll_back(session: &Session) -> Result<(), SqlError> {
    match ask(session, "ROLLBACK").await {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(SqlError::Deadline),
    }
}

/// The transaction with what its reads were told.
fn filled(asked: Vec<Value>, answers: &[Vec<Row>]) -> Value {
    let told = asked.into_iter().zip(answers).map(|(operation, rows)| {
        if operation.get(0) != Some(&json!("r")) {
            return operation;
        }
        let text = rows.first().and_then(|row| row.first()?.clone()).unwrap_or_default();
        let list: Vec<i64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        json!(["r", operation.get(1), list])
    });
    Value::Array(told.collect())
}

/// Moves money, and looks at all accounts now and then.
pub async fn bank(bench: Bench, pace: u64, seed: u64) {
    let mut random = Random::new(seed);
    let mut client = Client::new(&bench, BANK);
    let mut seat = Seat { open: None };
    while bench.running() {
        let read = random.chance(0.3);
        let (from, to) = (random.between(1, ACCOUNTS as u64), random.between(1, ACCOUNTS as u64));
        let amount = random.between(1, 50);
        let (f, input, statements) = if read {
            ("read", Value::Null, vec!["SELECT balance FROM accounts ORDER BY id".to_owned()])
        } else {
            let take = format!("UPDATE accounts SET balance = balance - {amount} WHERE id = {from}");
            let give = format!("UPDATE accounts SET balance = balance + {amount} WHERE id = {to}");
            ("transfer", json!([from, to, amount]), vec![take, give])
        };
        client.invoke(f, input, None);
        let (answers, server) = seat.transact(&bench, &statements).await;
        let outcome = match answers {
            Ok(answers) if read => {
                Outcome::Ok(json!(answers.first().map(|rows| numbers(rows, 0)).unwrap_or_default()))
            }
            Ok(_) => Outcome::Ok(Value::Null),
            Err(outcome) => outcome,
        };
        client.complete(f, outcome, server.as_deref());
        pause(&bench, pace).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_filled_in_and_appends_stay() {
        let asked = vec![json!(["r", 1, null]), json!(["append", 1, 9]), json!(["r", 2, null])];
        let answers = vec![vec![vec![Some("3 4".to_owned())]], vec![], vec![]];
        assert_eq!(filled(asked, &answers), json!([["r", 1, [3, 4]], ["append", 1, 9], ["r", 2, []]]));
    }
}
