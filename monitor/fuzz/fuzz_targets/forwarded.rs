//! Statements and replies that monitors forward.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(monitor::fuzzing::forwarded(data), Ok(())));
