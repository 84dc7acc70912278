//! Clients that stay with one server, whatever its role: they see two primaries, if there are two,
//! and old data, if it is shown.

use serde_json::{Value, json};
use tokio::time::timeout;

use super::classify::{before_commit, commit};
use super::{Bench, CONNECT, Client, DEADLINE, pause};
use crate::history::Outcome;
use crate::sql::{self, Session};

pub const PINNED: &str = "pinned";

async fn seat(uri: &str, open: &mut Option<Session>) -> Result<Session, Outcome> {
    match open.take() {
        Some(session) if !session.client.is_closed() => Ok(session),
        _ => sql::connect(uri, CONNECT).await.map_err(|error| Outcome::Fail(error.to_string())),
    }
}

/// Writes increasing numbers; the answer is the timeline that they were written on.
pub async fn write(bench: Bench, server: String, uri: String, pace: u64) {
    let mut client = Client::new(&bench, PINNED);
    let mut open = None;
    while bench.running() {
        let number = bench.number();
        client.invoke("write", json!(number), Some(&server));
        let outcome = match seat(&uri, &mut open).await {
            Err(outcome) => outcome,
            Ok(session) => {
                let text = format!(
                    "INSERT INTO probe VALUES ({number}) RETURNING pg_walfile_name(pg_current_wal_insert_lsn())"
                );
                let answer = timeout(DEADLINE, sql::rows(&session.client, &text)).await;
                match commit(answer, &session.heard.take_notices(), bench.ignore_notices) {
                    Ok(rows) => {
                        open = Some(session);
                        Outcome::Ok(json!([timeline(&rows)]))
                    }
                    Err(Outcome::Fail(why)) => {
                        open = Some(session);
                        Outcome::Fail(why)
                    }
                    Err(outcome) => outcome,
                }
            }
        };
        client.complete("write", outcome, Some(&server));
        pause(&bench, pace).await;
    }
}

/// The first eight digits of a WAL file's name.
fn timeline(rows: &[sql::Row]) -> Option<i64> {
    let name = rows.first()?.first()?.as_ref()?;
    i64::from_str_radix(name.get(..8)?, 16).ok()
}

/// Reads the greatest number, and whether the server says that it is a standby.
pub async fn read(bench: Bench, server: String, uri: String, pace: u64) {
    let mut client = Client::new(&bench, PINNED);
    let mut open = None;
    while bench.running() {
        client.invoke("read", Value::Null, Some(&server));
        let outcome = match seat(&uri, &mut open).await {
            Err(outcome) => outcome,
            Ok(session) => {
                let text = "SELECT pg_is_in_recovery(), max(n) FROM probe";
                match before_commit(timeout(DEADLINE, sql::rows(&session.client, text)).await) {
                    Ok(rows) => {
                        open = Some(session);
                        let field = |i: usize| rows.first().and_then(|row| row.get(i)?.clone());
                        let seen = field(1).and_then(|n| n.parse::<i64>().ok());
                        Outcome::Ok(json!([field(0).as_deref() == Some("t"), seen]))
                    }
                    Err(outcome) => outcome,
                }
            }
        };
        client.complete("read", outcome, Some(&server));
        pause(&bench, pace).await;
    }
}
