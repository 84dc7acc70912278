//! Seeds, changed seeds, arbitrary bytes and lying lengths through the entry points.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use proptest::prelude::*;

use super::allocations::largest_in;
use super::*;

type Target = fn(&[u8]) -> Result<(), String>;

const TARGETS: [(&str, Target); 10] = [
    ("bind_values", bind_values),
    ("first_packet", first_packet),
    ("forwarded", forwarded),
    ("frontend", frontend),
    ("health_answer", health_answer),
    ("replicas", replicas),
    ("replicated", replicated),
    ("scram", scram),
    ("sql", sql),
    ("sql_repeated", sql_repeated),
];

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{name} has no seeds");
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// serde takes a promised length at its word up to one megabyte.
const MOST: usize = 2 << 20;

#[test]
fn seeds_hold_and_no_length_in_them_is_believed() {
    for (name, target) in TARGETS {
        for seed in seeds(name) {
            assert_eq!(target(&seed), Ok(()), "{name}: {seed:?}");
            // The first byte of these says how often the text is repeated.
            if name == "sql_repeated" {
                continue;
            }
            for at in 0..seed.len() {
                for huge in [&[0xff; 8][..], &[0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0x3f, 0, 0, 0, 0], &[0x7f, 0xff]] {
                    let mut bytes = seed.clone();
                    let end = bytes.len().min(at + huge.len());
                    bytes[at..end].copy_from_slice(&huge[..end - at]);
                    let (held, largest) = largest_in(|| target(&bytes));
                    assert_eq!(held, Ok(()), "{name}: {bytes:?}");
                    assert!(largest < MOST, "{name}: {largest} bytes allocated for {bytes:?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_break_a_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (name, target) in TARGETS {
            prop_assert_eq!(target(&bytes), Ok(()), "{}", name);
        }
    }

    #[test]
    fn no_changed_seed_breaks_a_decoder(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for (name, target) in TARGETS {
            let seeds = seeds(name);
            let mut bytes = which.get(&seeds).clone();
            for (at, byte) in &changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            prop_assert_eq!(target(&bytes), Ok(()), "{}", name);
            bytes.truncate(cut.index(bytes.len() + 1));
            prop_assert_eq!(target(&bytes), Ok(()), "{}", name);
        }
    }
}
