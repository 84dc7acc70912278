//! Entries, votes, identities, marks and snapshots on disk.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(raft_store::fuzzing::stored(data), Ok(())));
