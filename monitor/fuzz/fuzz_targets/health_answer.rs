//! What a probed server answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(monitor::fuzzing::health_answer(data), Ok(())));
