//! The client against monitors that misbehave, one way each.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use monitor_client::{CallError, ConnectOptions, Endpoint, Failure, MonitorClient, Repeat, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Copy, PartialEq)]
enum Fake {
    /// Accepts and never says a word.
    BlackHole,
    /// FATAL at startup.
    Fatal(&'static str),
    /// Accepts the session, answers every query with one row.
    Good(&'static str),
    /// Accepts the session and closes it at the first query.
    Dropping,
    /// Accepts the session and never answers a query.
    Mute,
    /// Answers every query with an error.
    QueryError(&'static str),
}

struct Server {
    endpoint: Endpoint,
    connections: Arc<AtomicUsize>,
    queries: Arc<AtomicUsize>,
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn error_body(severity: &str, code: &str) -> Vec<u8> {
    format!("S{severity}\0V{severity}\0C{code}\0Mthe reason\0\0").into_bytes()
}

async fn serve(mut socket: TcpStream, fake: Fake, queries: Arc<AtomicUsize>) -> std::io::Result<()> {
    loop {
        let length = socket.read_u32().await? as usize;
        let mut startup = vec![0; length - 4];
        socket.read_exact(&mut startup).await?;
        // SSLRequest: TLS is not on offer.
        if startup != 80877103u32.to_be_bytes() {
            break;
        }
        if fake == Fake::BlackHole {
            return std::future::pending().await;
        }
        socket.write_all(b"N").await?;
    }
    match fake {
        Fake::BlackHole => return std::future::pending().await,
        Fake::Fatal(code) => return socket.write_all(&message(b'E', &error_body("FATAL", code))).await,
        _ => {}
    }
    socket.write_all(&message(b'R', &0u32.to_be_bytes())).await?;
    socket.write_all(&message(b'Z', b"I")).await?;
    loop {
        let tag = socket.read_u8().await?;
        let length = socket.read_u32().await? as usize;
        let mut body = vec![0; length - 4];
        socket.read_exact(&mut body).await?;
        if tag != b'Q' {
            return Ok(());
        }
        queries.fetch_add(1, Ordering::SeqCst);
        match fake {
            Fake::Dropping => return Ok(()),
            Fake::Mute => return std::future::pending().await,
            Fake::QueryError(code) => socket.write_all(&message(b'E', &error_body("ERROR", code))).await?,
            Fake::Good(value) => {
                let mut description = vec![0, 1];
                description.extend_from_slice(b"v\0");
                description.extend_from_slice(&[0; 6]);
                description.extend_from_slice(&25u32.to_be_bytes());
                description.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
                socket.write_all(&message(b'T', &description)).await?;
                let mut row = vec![0, 1];
                row.extend_from_slice(&(value.len() as u32).to_be_bytes());
                row.extend_from_slice(value.as_bytes());
                socket.write_all(&message(b'D', &row)).await?;
                socket.write_all(&message(b'C', b"SELECT 1\0")).await?;
            }
            Fake::BlackHole | Fake::Fatal(_) => unreachable!(),
        }
        socket.write_all(&message(b'Z', b"I")).await?;
    }
}

async fn start(fake: Fake) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let (connections, queries) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (accepted, counted) = (connections.clone(), queries.clone());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            accepted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(socket, fake, counted.clone()));
        }
    });
    Server { endpoint, connections, queries }
}

/// A port that was free a moment ago: connections are refused.
async fn refusing() -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Endpoint { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() }
}

/// Generous: how long things take on a busy machine is not what is tested here.
fn client(endpoints: Vec<Endpoint>, patience_ms: u64) -> MonitorClient {
    let options = ConnectOptions { attempt: Duration::from_millis(1000), ..ConnectOptions::default() };
    MonitorClient::new(Target::new(endpoints), options, Duration::from_millis(patience_ms))
}

async fn ask(client: &MonitorClient) -> Result<String, CallError> {
    client.synchronous_standby_names("default", 0).await
}

#[tokio::test]
async fn finds_the_good_one_behind_every_kind_of_bad_one() {
    let (hole, starting) = (start(Fake::BlackHole).await, start(Fake::Fatal("57P03")).await);
    let good = start(Fake::Good("yes")).await;
    let endpoints = vec![refusing().await, hole.endpoint, starting.endpoint, good.endpoint];
    let client = client(endpoints, 30_000);
    assert_eq!(ask(&client).await.unwrap(), "yes");
    let connections = || [&hole.connections, &starting.connections, &good.connections].map(|n| n.load(Ordering::SeqCst));
    let before = connections();
    assert!(before.iter().all(|n| *n > 0), "{before:?}");
    // The kept connection answers.
    assert_eq!(ask(&client).await.unwrap(), "yes");
    assert_eq!(connections(), before);
}

#[tokio::test]
async fn the_last_good_one_comes_first() {
    let (hole, good) = (start(Fake::BlackHole).await, start(Fake::Good("yes")).await);
    let client = client(vec![hole.endpoint, good.endpoint], 30_000);
    drop(client.session().await.unwrap());
    let into_the_hole = hole.connections.load(Ordering::SeqCst);
    drop(client.session().await.unwrap());
    assert_eq!(hole.connections.load(Ordering::SeqCst), into_the_hole);
}

#[tokio::test]
async fn says_what_every_monitor_said() {
    let (refused, hole) = (refusing().await, start(Fake::BlackHole).await.endpoint);
    let starting = start(Fake::Fatal("57P03")).await.endpoint;
    let error = ask(&client(vec![refused, hole, starting], 3500)).await.unwrap_err();
    let CallError::Connect(error) = &error else { panic!("{error}") };
    assert!(!error.permanent);
    assert_eq!(error.attempts[0].failure, Failure::Refused);
    assert!(matches!(error.attempts[1].failure, Failure::Silent(_)));
    assert!(matches!(&error.attempts[2].failure, Failure::Server(e) if e.code == "57P03"));
    assert_eq!(error.to_string().lines().count(), 4, "{error}");
}

#[tokio::test]
async fn a_refused_login_is_not_repeated() {
    let refusing = [start(Fake::Fatal("28P01")).await, start(Fake::Fatal("28000")).await];
    let error = ask(&client(refusing.iter().map(|server| server.endpoint.clone()).collect(), 30_000)).await.unwrap_err();
    assert_eq!(refusing.each_ref().map(|server| server.connections.load(Ordering::SeqCst)), [1, 1]);
    assert!(matches!(&error, CallError::Connect(e) if e.permanent), "{error}");
}

#[tokio::test]
async fn a_read_moves_on_when_the_monitor_drops_or_falls_silent() {
    for bad in [Fake::Dropping, Fake::Mute, Fake::QueryError("40001"), Fake::QueryError("57P01")] {
        let (bad, good) = (start(bad).await, start(Fake::Good("yes")).await);
        let client =
            client(vec![bad.endpoint, good.endpoint], 3000).with_answer_patience(Duration::from_millis(200));
        assert_eq!(ask(&client).await.unwrap(), "yes");
        assert_eq!(bad.queries.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_write_of_unknown_outcome_is_not_sent_twice() {
    for bad in [Fake::Dropping, Fake::Mute, Fake::QueryError("40001")] {
        let (bad, good) = (start(bad).await, start(Fake::Good("t")).await);
        let client = client(vec![bad.endpoint, good.endpoint], 800);
        let error = client.perform_failover("default", 0).await.unwrap_err();
        assert!(error.outcome_unknown(), "{error}");
        assert_eq!(good.queries.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_write_that_surely_did_nothing_is_sent_again() {
    let (bad, good) = (start(Fake::QueryError("57P03")).await, start(Fake::Good("t")).await);
    let client = client(vec![bad.endpoint, good.endpoint], 3000);
    client.perform_failover("default", 0).await.unwrap();
    assert_eq!(good.queries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_ordinary_error_ends_the_call_and_keeps_the_connection() {
    let server = start(Fake::QueryError("22023")).await;
    let client = client(vec![server.endpoint.clone()], 3000);
    assert_eq!(ask(&client).await.unwrap_err().code(), Some("22023"));
    assert_eq!(client.connected_to().await, Some(server.endpoint.to_string()));
    assert_eq!(server.queries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stream_comes_back_at_another_monitor() {
    let (dropping, good) = (start(Fake::Dropping).await, start(Fake::Good("x")).await);
    let client = client(vec![dropping.endpoint, good.endpoint], 30_000);
    // The first monitor drops the LISTEN itself; the second one takes it.
    let mut stream = client.listen().await.unwrap();
    stream.leave();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    assert_eq!(stream.next(deadline).await.unwrap(), Some(monitor_client::Heard::Reconnected));
}

#[tokio::test]
async fn tls_that_is_asked_for_is_not_silently_left_out() {
    let mut target = Target::new(vec![start(Fake::Good("yes")).await.endpoint]);
    target.sslmode = "require".into();
    let client = MonitorClient::new(target, ConnectOptions::default(), Duration::from_millis(300));
    let error = client.run("SELECT 1", Repeat::Harmless).await.err().unwrap().to_string();
    assert!(error.contains("TLS"), "{error}");
}
