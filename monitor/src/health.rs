//! Health probes: the leader logs in to every PostgreSQL now and then, as the stock monitor does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use failover::{Call, Command, Health, NodeId, Settings};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, info};

use crate::monitor::Monitor;
use crate::sql::backend::Backend;

/// The list of nodes is compared with the probes under way after changes, and not more often than this.
const SUPERVISION_PERIOD: Duration = Duration::from_millis(500);

/// The largest answer that a probe reads: an ErrorResponse or the start-up messages.
const ANSWER_LIMIT: u32 = 64 * 1024;

/// Runs the probes while this replica leads, one task for each node.
pub async fn supervise(monitor: Arc<Monitor>) {
    let mut probes: BTreeMap<NodeId, JoinHandle<()>> = BTreeMap::new();
    let (mut role, mut changes) = (monitor.watch_role(), monitor.watch_state());
    loop {
        role.mark_unchanged();
        changes.mark_unchanged();
        let wanted: Vec<NodeId> = if monitor.leads() && settings(&monitor).enable_health_checks {
            monitor.state().nodes.keys().copied().collect()
        } else {
            Vec::new()
        };
        probes.retain(|id, probe| {
            let keep = wanted.binary_search(id).is_ok() && !probe.is_finished();
            if !keep {
                probe.abort();
            }
            keep
        });
        for id in wanted {
            probes.entry(id).or_insert_with(|| tokio::spawn(probe_forever(monitor.clone(), id)));
        }
        tokio::time::sleep(SUPERVISION_PERIOD).await;
        tokio::select! {
            _ = changes.changed() => {}
            _ = role.changed() => {}
        }
    }
}

fn settings(monitor: &Monitor) -> Settings {
    Settings::effective(&monitor.state(), &BTreeMap::new())
}

async fn probe_forever(monitor: Arc<Monitor>, id: NodeId) {
    // Spread over the period, so that many nodes are not probed at the same moment.
    let phase = settings(&monitor).health_check_period_ms.min(1_000) * (id % 16) / 16;
    tokio::time::sleep(Duration::from_millis(phase.unsigned_abs())).await;
    loop {
        let settings = settings(&monitor);
        let Some(node) = monitor.state().nodes.get(&id).cloned() else { return };
        let Ok(port) = u16::try_from(node.port) else { return };
        let mut verdict = Health::Bad;
        for attempt in 0..=settings.health_check_max_retries {
            if attempt > 0 {
                tokio::time::sleep(millis(settings.health_check_retry_delay_ms)).await;
            }
            match probe(&node.host, port, millis(settings.health_check_timeout_ms)).await {
                Ok(()) => {
                    verdict = Health::Good;
                    break;
                }
                Err(why) if node.health == Health::Good => {
                    info!("node {id} \"{}\" ({}:{port}) did not answer a health check: {why}", node.name, node.host)
                }
                Err(why) => debug!("node {id} \"{}\" ({}:{port}): {why}", node.name, node.host),
            }
        }
        if let Err(error) = monitor.decide_here(Call::from(Command::HealthChecked { id, health: verdict })).await {
            debug!("the health of node {id} could not be recorded: {error:?}");
        }
        tokio::time::sleep(millis(settings.health_check_period_ms)).await;
    }
}

fn millis(value: i64) -> Duration {
    Duration::from_millis(value.unsigned_abs())
}

/// One probe: connect, log in, leave. Any answer of a PostgreSQL that is up counts as alive: a
/// completed login, a demand for a password, and every error but 57P03 (starting up or shutting
/// down). Class 28 and 53300 come from replicas that `pg_hba.conf` does not know, or from the
/// connection limit of 1 on the role; the stock monitor counts them the same.
///
/// # Errors
/// What the server did instead, for the log.
pub async fn probe(host: &str, port: u16, patience: Duration) -> Result<(), String> {
    match timeout(patience, try_probe(host, port)).await {
        Ok(verdict) => verdict,
        Err(_) => Err(format!("no answer within {} ms", patience.as_millis())),
    }
}

/// What a probe found, where it matters whether anybody listens at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Answered,
    /// The host says that nobody listens on the port.
    Refused,
    NoAnswer,
}

/// As [`probe`], for a node that is suspected.
pub async fn look(host: &str, port: u16, patience: Duration) -> Verdict {
    let refused = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::ConnectionRefused => Verdict::Refused,
        _ => Verdict::NoAnswer,
    };
    let found = timeout(patience, async {
        let mut stream = TcpStream::connect((host, port)).await.map_err(refused)?;
        converse(&mut stream).await.map_err(|_| Verdict::NoAnswer)
    });
    match found.await {
        Ok(Ok(())) => Verdict::Answered,
        Ok(Err(verdict)) => verdict,
        Err(_) => Verdict::NoAnswer,
    }
}

async fn try_probe(host: &str, port: u16) -> Result<(), String> {
    let mut stream = TcpStream::connect((host, port)).await.map_err(|e| format!("cannot connect: {e}"))?;
    converse(&mut stream).await
}

/// Logs in and judges the answer.
pub(crate) async fn converse(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), String> {
    const PARAMETERS: &[u8] = b"user\0pgautofailover_monitor\0database\0postgres\0\0";
    // Length and protocol version, 3.0.
    let startup = [&(PARAMETERS.len() as u32 + 8).to_be_bytes(), &[0, 3, 0, 0], PARAMETERS].concat();
    let broken = |e: std::io::Error| format!("connection broken: {e}");
    // The answer is some fifteen messages in one segment.
    let mut stream = BufReader::new(stream);
    stream.write_all(&startup).await.map_err(broken)?;
    loop {
        let kind = stream.read_u8().await.map_err(broken)?;
        let length = stream.read_u32().await.map_err(broken)?;
        if !(4..=ANSWER_LIMIT).contains(&length) {
            return Err("the answer is not PostgreSQL's".to_string());
        }
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).await.map_err(broken)?;
        match kind {
            b'Z' => {
                // Leave politely: the server would log a connection reset otherwise.
                let _ = stream.write_all(&[b'X', 0, 0, 0, 4]).await;
                return Ok(());
            }
            b'R' if body.first_chunk::<4>() != Some(&[0, 0, 0, 0]) => return Ok(()),
            b'R' | b'S' | b'K' | b'N' | b'v' => {}
            b'E' => {
                return match sqlstate(&body) {
                    Some("57P03") => Err("it is starting up or shutting down (57P03)".to_string()),
                    Some(_) => Ok(()),
                    None => Err("an error without SQLSTATE".to_string()),
                };
            }
            _ => return Err("the answer is not PostgreSQL's".to_string()),
        }
    }
}

/// The SQLSTATE field of an ErrorResponse.
fn sqlstate(body: &[u8]) -> Option<&str> {
    body.split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(b"C"))
        .and_then(|code| std::str::from_utf8(code).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::TcpListener;

    /// A server that reads the start-up packet, answers with `answer` and hangs up when asked to.
    async fn server(answer: &'static [u8], then_close: bool) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u32().await.unwrap();
            let mut packet = vec![0; length as usize - 4];
            stream.read_exact(&mut packet).await.unwrap();
            stream.write_all(answer).await.unwrap();
            if !then_close {
                let _ = stream.read_u8().await;
                std::future::pending::<()>().await;
            }
        });
        port
    }

    async fn verdict(answer: &'static [u8], then_close: bool) -> Result<(), String> {
        probe("127.0.0.1", server(answer, then_close).await, Duration::from_millis(300)).await
    }

    #[tokio::test]
    async fn a_server_that_answers_is_alive() {
        assert_eq!(verdict(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", false).await, Ok(()));
        assert_eq!(verdict(b"R\0\0\0\x08\0\0\0\x03", false).await, Ok(()));
        assert_eq!(verdict(b"E\0\0\0\x12SFATAL\0C28000\0\0", true).await, Ok(()), "no entry in pg_hba.conf");
        assert_eq!(verdict(b"E\0\0\0\x12SFATAL\0C53300\0\0", true).await, Ok(()), "too many connections");
    }

    #[tokio::test]
    async fn a_server_that_does_not_serve_is_not() {
        assert!(verdict(b"E\0\0\0\x12SFATAL\0C57P03\0\0", true).await.unwrap_err().contains("57P03"));
        assert!(verdict(b"", true).await.is_err(), "accepted, then closed");
        assert!(verdict(b"", false).await.unwrap_err().contains("no answer"), "accepted, then silent");
        assert!(verdict(b"HTTP/1.1 400 Bad Request\r\n\r\n", true).await.is_err());
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert!(probe("127.0.0.1", port, Duration::from_millis(300)).await.unwrap_err().contains("connect"));
    }
}
