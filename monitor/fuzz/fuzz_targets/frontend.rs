//! The messages of a session, with statements and parameters.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(monitor::fuzzing::frontend(data), Ok(())));
