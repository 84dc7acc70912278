//! SCRAM messages and stored verifiers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(monitor::fuzzing::scram(data), Ok(())));
