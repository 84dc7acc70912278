//! Handshakes, requests and responses between replicas.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(raft_store::fuzzing::messages(data), Ok(())));
