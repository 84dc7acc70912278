//! Addresses and notifications from nowhere: `monitor/fuzz` searches the same in depth.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use monitor_client::{StateNotification, Target};
use proptest::prelude::*;

/// What was read is written as a URI that reads the same, without what a URI must not show.
fn holds(text: &str) {
    let Ok(mut target) = Target::parse(text) else { return };
    target.password = None;
    target.application_name = None;
    target.connect_timeout = None;
    target.others.retain(|key, _| !key.contains("password"));
    let uri = target.uri();
    assert_eq!(Target::parse(&uri).as_ref(), Ok(&target), "{text:?} is written as {uri:?}");
}

fn seeds(name: &str) -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

#[test]
fn seeds_hold() {
    seeds("target").iter().for_each(|text| holds(text));
    assert!(seeds("notification").iter().any(|text| StateNotification::parse(text).is_some()));
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in "(postgres://|host=)?[a-z@:/,%=&?' \\\\\\[\\]0-9\\PC]{0,60}") {
        holds(&text);
        let _ = StateNotification::parse(&text);
    }

    #[test]
    fn no_changed_seed_breaks_the_reader(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        by in "[a-z@:/,%=&?' \\\\\\[\\]0-9\\PC]{0,3}",
    ) {
        for name in ["target", "notification"] {
            let seeds = seeds(name);
            let mut text: Vec<char> = which.get(&seeds).chars().collect();
            let at = at.index(text.len());
            text.splice(at..=at, by.chars());
            let text: String = text.into_iter().collect();
            holds(&text);
            let _ = StateNotification::parse(&text);
        }
    }
}
