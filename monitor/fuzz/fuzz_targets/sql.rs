//! The text of a query.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(monitor::fuzzing::sql(data), Ok(())));
