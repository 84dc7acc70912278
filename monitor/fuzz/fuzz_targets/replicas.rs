//! The list of replicas in the configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assert_eq!(monitor::fuzzing::replicas(data), Ok(())));
