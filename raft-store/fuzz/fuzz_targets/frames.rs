//! A stream of frames on a connection between replicas.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(raft_store::fuzzing::frames(data), Ok(())));
