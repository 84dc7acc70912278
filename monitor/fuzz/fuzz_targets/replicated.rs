//! Outcomes in the log, states in snapshots.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(monitor::fuzzing::replicated(data), Ok(())));
