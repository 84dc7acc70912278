//! One parameter of Bind, in text or binary format.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(monitor::fuzzing::bind_values(data), Ok(())));
