//! The addresses of monitors: URIs, key/value strings, lists. What was read is written as a URI that
//! reads the same, without what a URI must not show.
#![no_main]

use monitor_client::Target;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(target) = Target::parse(text) else { return };
    let shown = Target { password: None, application_name: None, connect_timeout: None, ..target };
    let shown = Target { others: shown.others.into_iter().filter(|(key, _)| !key.contains("password")).collect(), ..shown };
    let uri = shown.uri();
    assert_eq!(Target::parse(&uri).as_ref(), Ok(&shown), "{uri}");
});
