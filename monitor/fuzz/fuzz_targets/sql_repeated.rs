//! Long and deep query texts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(monitor::fuzzing::sql_repeated(data), Ok(())));
