//! The payload of a notification about a state.
#![no_main]

use monitor_client::StateNotification;

libfuzzer_sys::fuzz_target!(|text: &str| drop(StateNotification::parse(text)));
