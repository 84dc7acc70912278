//! Frames and messages against arbitrary bytes, and garbage on a live port.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cluster::*;
use crate::codec::{Blob, Kind};
use crate::frame::{self, MAX_HELLO};
use crate::stored::*;
use crate::wire::*;

fn run<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(f)
}

fn log_id() -> impl Strategy<Value = Option<StoredLogId>> {
    proptest::option::of((any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(term, node, index)| StoredLogId { term, node, index }))
}

fn vote() -> impl Strategy<Value = StoredVote> {
    (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(term, node, committed)| StoredVote { term, node, committed })
}

fn request() -> impl Strategy<Value = Request> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300).prop_map(Blob);
    let entry = (any::<u64>(), any::<u64>(), any::<u64>(), bytes())
        .prop_map(|(term, node, index, b)| StoredEntry { term, node, index, payload: StoredPayload::Application(b) });
    prop_oneof![
        (vote(), log_id(), log_id(), proptest::collection::vec(entry, 0..5))
            .prop_map(|(vote, prev, commit, entries)| Request::Append(Append { vote, prev, commit, entries })),
        (vote(), log_id(), any::<bool>()).prop_map(|(vote, last, transfer)| Request::Vote(Ballot { vote, last, transfer })),
        bytes().prop_map(Request::Call),
        Just(Request::Probe),
    ]
}

proptest! {
    #[test]
    fn requests_round_trip(r in request(), id in any::<u64>()) {
        let body = encode(&r).unwrap();
        let bytes = frame::encode(Kind::Request, id, &body);
        let f = run(frame::read(&mut bytes.as_slice(), frame::MAX_FRAME)).unwrap();
        prop_assert_eq!((f.kind, f.id), (Kind::Request, id));
        prop_assert_eq!(decode::<Request>(&f.body).unwrap(), r);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(run(frame::read(&mut bytes.as_slice(), MAX_HELLO)).is_err());
        let _ = decode::<Request>(&bytes);
        let _ = decode::<Response>(&bytes);
        let _ = decode::<Hello>(&bytes);
        let _ = decode::<Welcome>(&bytes);
    }

    #[test]
    fn damaged_frames_are_refused(r in request(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = frame::encode(Kind::Request, 1, &encode(&r).unwrap());
        let i = at.index(bytes.len());
        bytes[i] ^= flip;
        prop_assert!(run(frame::read(&mut bytes.as_slice(), frame::MAX_FRAME)).is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_port_hurts_nothing() {
    let mut c = Cluster::start(1, |_| {}).await;
    let port = c.ports[&1];
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
        // A correct header that promises more than a stranger may send.
        crate::codec::seal(Kind::Hello, 1, &vec![1; 8192]),
        // A correct frame that is no handshake.
        frame::encode(Kind::Request, 1, b"x"),
        frame::encode(Kind::Hello, 1, b"not a hello"),
    ] {
        let mut tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ = tcp.write_all(&garbage).await;
        let mut rest = Vec::new();
        // The connection is closed (an error is a reset, which is closed as well).
        let ended = tokio::time::timeout(std::time::Duration::from_secs(30), tcp.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection stayed open after garbage");
    }
    // Many silent connections at once do not stop the replica either.
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    c.write("still here").await;
    drop(idle);
    c.stop_all().await;
}
