//! The first packet of a client's connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(monitor::fuzzing::first_packet(data), Ok(())));
