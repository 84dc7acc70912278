//! Bytes that no honest client sends.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use monitor::sql::wire::frontend;
use monitor::sql::{Authentication, FacadeConfig, Verifiers};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mock::{Cluster, Server};
use crate::raw::*;
use monitor::sql::backend::Role;

async fn raw(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("must be closed");
    answer
}

#[tokio::test]
async fn garbage_at_startup_is_closed() {
    let server = Server::leader().await;
    let cases: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0, 0, 0, 0, 0, 0, 0, 0],
        &[255; 64],
        &[0, 0, 0, 9, 0, 3, 0, 0, 65],
        // Twice SSLRequest.
        &[0, 0, 0, 8, 4, 210, 22, 47, 0, 0, 0, 8, 4, 210, 22, 47],
        // Protocol 2.
        &[0, 0, 0, 8, 0, 2, 0, 0],
        // A cancel request for nobody.
        &[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 0],
    ];
    for case in cases {
        let _ = raw(&server, case).await;
    }
    assert_eq!(raw(&server, &startup(&[])).await[0], b'E');
    Client::connect(server.address).await;
}

#[tokio::test]
async fn newer_protocols_are_negotiated() {
    let server = Server::leader().await;
    let mut packet = startup(&[("user", "u"), ("_pq_.fancy", "1")]);
    packet[7] = 2;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&packet).await.unwrap();
    let mut c = Client { stream, greeting: Answer::default() };
    let first = c.message().await.unwrap();
    assert_eq!(first.kind, b'v');
    assert_eq!(first.body, [&[0, 3, 0, 0, 0, 0, 0, 1][..], b"_pq_.fancy\0"].concat());
    assert_eq!(c.answer().await.status, b'I');
    assert_eq!(c.simple("SHOW server_encoding").await.row(), ["UTF8"]);
}

#[tokio::test]
async fn broken_frames() {
    let server = Server::leader().await;
    // Lost framing: FATAL and closed.
    for bytes in [vec![b'Q', 0, 0, 0, 3], vec![b'?', 0, 0, 0, 4], vec![b'Q', 255, 255, 255, 255], vec![b'Q', 0, 32, 0, 0, 1]] {
        let mut c = Client::connect(server.address).await;
        c.send(&bytes).await;
        let answer = c.answer().await;
        assert_eq!((answer.sqlstate(), answer.field(b'S')), ("08P01", "FATAL"), "{bytes:?}");
        assert_eq!(c.message().await, None);
    }
    // A whole frame with a broken body: the session goes on.
    let mut c = Client::connect(server.address).await;
    for body in [frame(b'B', &[]), frame(b'P', b"x"), frame(b'D', b"Zx\0"), frame(b'E', b"\0"), frame(b'B', &[0, 0, 255, 255])] {
        c.send(&body).await;
        c.send(&sync_message()).await;
        let answer = c.answer().await;
        assert_eq!((answer.sqlstate(), answer.status), ("08P01", b'I'), "{body:?}");
    }
    assert_eq!(c.simple("SHOW server_encoding").await.row(), ["UTF8"]);
    c.send(&frame(b'Q', b"SELECT '\xff'\0")).await;
    assert_eq!(c.answer().await.sqlstate(), "22021");
    let answer = c.params("SHOW server_encoding", &[25], &[]).await;
    assert_eq!(answer.sqlstate(), "08P01");
    let answer = c.params("SELECT pgautofailover.get_primary($1)", &[600], &["x"]).await;
    assert_eq!(answer.sqlstate(), "0A000");
}

#[tokio::test]
async fn too_many_clients() {
    let config = FacadeConfig { max_connections: 2, ..FacadeConfig::default() };
    let server = Server::with(Cluster::new(), Role::Leader, 1, config).await;
    let one = Client::connect(server.address).await;
    let _two = Client::connect(server.address).await;
    let refused = Client::connect_as(server.address, &[("user", "u")]).await.err().unwrap();
    assert_eq!((refused.sqlstate(), refused.field(b'M')), ("53300", "sorry, too many clients already"));
    drop(one);
    tokio::time::sleep(Duration::from_millis(50)).await;
    Client::connect(server.address).await;
}

#[tokio::test]
async fn slow_starters_are_closed() {
    let config = FacadeConfig { startup_deadline: Duration::from_millis(200), ..FacadeConfig::default() };
    let server = Server::with(Cluster::new(), Role::Leader, 1, config).await;
    assert_eq!(raw(&server, &[0, 0]).await, b"");
}

#[tokio::test]
async fn shutdown_tells_everybody() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let handle = server.handle;
    let (answer, ()) = tokio::join!(c.answer(), handle.shutdown(Duration::from_secs(30)));
    assert_eq!((answer.sqlstate(), answer.field(b'S')), ("57P01", "FATAL"));
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_dropped_handle_stops_nothing() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    drop(server.handle);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(c.simple("SHOW server_encoding").await.row(), ["UTF8"]);
    Client::connect(server.address).await;
}

#[tokio::test]
async fn scram() {
    let mut verifiers = Verifiers::new();
    verifiers.add_password("autoctl_node", "s3cret");
    // Made by PostgreSQL 15 for the password "other".
    assert!(!verifiers.add("x", "md5abc"));
    let config = FacadeConfig { auth: Authentication::Scram(verifiers.into()), ..FacadeConfig::default() };
    let server = Server::with(Cluster::new(), Role::Leader, 1, config).await;
    let connect = |user: &str, password: &str| {
        let config = format!("host=127.0.0.1 port={} user={user} password={password} dbname=x", server.address.port());
        async move { tokio_postgres::connect(&config, tokio_postgres::NoTls).await }
    };
    let (client, connection) = connect("autoctl_node", "s3cret").await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("SHOW server_version").await.unwrap();
    for (user, password) in [("autoctl_node", "wrong"), ("nobody", "s3cret")] {
        let error = connect(user, password).await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), "28P01", "{error:?}");
    }
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), limit in 0_usize..1000) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = frontend::decode(&mut buffer, limit) {}
        let _ = frontend::first_packet(Bytes::from(bytes));
    }

    #[test]
    fn bodies_never_panic(kind in proptest::sample::select(b"QPBDCEHSXpdcfF".to_vec()), body in proptest::collection::vec(prop_oneof![Just(0_u8), Just(255), any::<u8>()], 0..60)) {
        let mut buffer = BytesMut::from(&frame(kind, &body)[..]);
        let _ = frontend::decode(&mut buffer, 1000);
        prop_assert!(buffer.is_empty());
    }
}
