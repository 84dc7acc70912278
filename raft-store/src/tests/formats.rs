//! Golden bytes of every stored format (version 1), and the envelope's refusals. A failing fixture
//! means that stores in the field would no longer open: never change it, add a version.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::codec::{self, Blob, CodecError, Kind};
use crate::identity::Identity;
use crate::internal::{Bookkeeping, Internal};
use crate::log_writer::Mark;
use crate::snapshot_file::SnapshotFile;
use crate::state_store::Content;
use crate::stored::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn membership() -> StoredMembership {
    let node = |n: u64| StoredNode { name: format!("m{n}"), host: "h".into(), port: 7000 + n as u16 };
    StoredMembership { voters: vec![vec![1, 2]], nodes: vec![(1, node(1)), (2, node(2))] }
}

fn entry(payload: StoredPayload) -> Vec<u8> {
    codec::encode_sealed(Kind::Entry, 1, &StoredEntry { term: 5, node: 2, index: 77, payload }).unwrap()
}

#[test]
fn golden_bytes() {
    let id = StoredLogId { term: 5, node: 2, index: 77 };
    let bookkeeping = Bookkeeping { cluster_id: Some([3; 16]), incarnations: BTreeMap::from([(1, [4; 16])]) };
    let content = Content { bookkeeping, application: Blob(b"app".to_vec()) };
    let meta = StoredSnapshotMeta { last: Some(id), membership_at: None, membership: membership() };
    let identity =
        Identity { id: 2, name: "mon2".into(), incarnation: [6; 16], cluster_id: None, rejoining: true };
    let internal = [
        Internal::SetClusterId([1; 16]),
        Internal::Record { id: 1, incarnation: [2; 16] },
        Internal::Replace { id: 1, incarnation: [2; 16] },
        Internal::Forget { id: 1 },
    ];
    let mut all: Vec<(String, Vec<u8>)> = vec![
        ("entry blank".into(), entry(StoredPayload::Blank)),
        ("entry application".into(), entry(StoredPayload::Application(Blob(b"hello".to_vec())))),
        ("entry internal".into(), entry(StoredPayload::Internal(Blob(internal[3].encode().unwrap())))),
        ("entry membership".into(), entry(StoredPayload::Membership(membership()))),
        ("vote".into(), encode_vote(&StoredVote { term: 9, node: 3, committed: true }.into()).unwrap()),
        ("log id".into(), encode_log_id(&id.into()).unwrap()),
        ("mark".into(), Mark { next_index: 78, term: 9 }.encode().unwrap()),
        ("identity".into(), identity.encode().unwrap()),
        ("content".into(), content.encode().unwrap()),
        ("snapshot".into(), SnapshotFile { meta, content: Blob(b"c".to_vec()) }.encode().unwrap()),
    ];
    all.extend(internal.iter().enumerate().map(|(i, c)| (format!("internal {i}"), c.encode().unwrap())));
    let found: String = all.iter().map(|(name, b)| format!("{name}: {}\n", hex(b))).collect();
    let golden = include_str!("formats.golden");
    if std::env::var_os("PRINT_GOLDEN").is_some() {
        println!("{found}");
    }
    assert_eq!(found, golden, "a stored format changed");
    // And they read back.
    for line in golden.lines() {
        let (name, bytes) = line.split_once(": ").unwrap();
        let bytes: Vec<u8> = (0..bytes.len()).step_by(2).map(|i| u8::from_str_radix(&bytes[i..i + 2], 16).unwrap()).collect();
        match name.split(' ').next().unwrap() {
            "entry" => drop(decode_entry(&bytes).unwrap()),
            "vote" => drop(decode_vote(&bytes).unwrap()),
            "log" => drop(decode_log_id(&bytes).unwrap()),
            "identity" => assert_eq!(Identity::decode(&bytes).unwrap(), identity),
            "content" => assert_eq!(Content::decode(&bytes).unwrap(), content),
            "snapshot" => drop(SnapshotFile::decode(&bytes).unwrap()),
            "internal" => drop(Internal::decode(&bytes).unwrap()),
            _ => {}
        }
    }
}

#[test]
fn refusals() {
    let good = codec::seal(Kind::Vote, 1, b"payload");
    assert_eq!(codec::open(Kind::Vote, 1, &good).unwrap(), (1, b"payload".as_slice()));
    assert!(matches!(codec::open(Kind::Entry, 1, &good), Err(CodecError::Kind { .. })));
    assert!(matches!(codec::open(Kind::Vote, 1, &good[..5]), Err(CodecError::Truncated { .. })));
    assert!(matches!(codec::open(Kind::Vote, 1, &good[..15]), Err(CodecError::Truncated { .. })));
    assert!(codec::open(Kind::Vote, 1, &[good.clone(), vec![0]].concat()).is_err());
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 1;
        assert!(codec::open(Kind::Vote, 1, &bad).is_err(), "flipped bit in byte {i} was accepted");
    }
    let newer = codec::seal(Kind::Vote, 2, b"payload");
    let e = codec::open(Kind::Vote, 1, &newer).unwrap_err();
    assert!(e.to_string().contains("newer release"), "{e}");
}

proptest! {
    #[test]
    fn entries_round_trip(term in any::<u64>(), node in any::<u64>(), index in any::<u64>(), bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let e = StoredEntry { term, node, index, payload: StoredPayload::Application(Blob(bytes)) };
        let entry = e.clone().into_entry().unwrap();
        let back = decode_entry(&encode_entry(&entry).unwrap()).unwrap();
        prop_assert_eq!(StoredEntry::from_entry(&back).unwrap(), e);
    }

    #[test]
    fn decoders_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_entry(&bytes);
        let _ = codec::decode::<StoredEntry>(&bytes);
        let _ = codec::decode::<StoredSnapshotMeta>(&bytes);
        let _ = codec::decode::<Content>(&bytes);
        let _ = codec::decode::<Internal>(&bytes);
        let _ = codec::decode::<Identity>(&bytes);
    }
}
