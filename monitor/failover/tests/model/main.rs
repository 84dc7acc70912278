//! A model of failover by quorum: the real rules with abstract nodes, and everything that may happen to
//! them tried in every order.
//!
//! What is looked for: an acknowledged write that a new primary lacks, two primaries that acknowledge,
//! two that are meant to take writes, and states from which the group does not become whole again
//! when all its nodes are back. `cargo test -p failover --test model -- --nocapture` prints how many states
//! were seen; `-- --ignored` looks further. `MODEL="nodes=3 number_sync=1 crashes=2 total=2 writes=1"` with
//! the test `as_told` looks where one likes. Decision 0006 says what the model leaves out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod actions;
mod explore;
mod keepers;
mod monitors;
mod recovery;
mod starts;
mod world;

use explore::{Found, Search, explore};
use starts::{after_a_failover, amid_a_promotion, after_two_failovers, amid_a_return, group};
use world::*;

/// All of these kinds at once, `total` of them on one path, and one write.
fn up_to(total: u8, kinds: &[fn(&mut Faults) -> &mut u8]) -> Faults {
    let mut faults = Faults { total, writes: 1, ..Faults::default() };
    kinds.iter().for_each(|kind| *kind(&mut faults) = total);
    faults
}

const CRASHES: fn(&mut Faults) -> &mut u8 = |faults| &mut faults.crashes;
const KEEPERS: fn(&mut Faults) -> &mut u8 = |faults| &mut faults.keepers;
const POSTMASTERS: fn(&mut Faults) -> &mut u8 = |faults| &mut faults.postmasters;
const LOSSES: fn(&mut Faults) -> &mut u8 = |faults| &mut faults.losses;
const DELAYS: fn(&mut Faults) -> &mut u8 = |faults| &mut faults.delays;
const SUSPICIONS: fn(&mut Faults) -> &mut u8 = |faults| &mut faults.suspicions;
const LEADERS: fn(&mut Faults) -> &mut u8 = |faults| &mut faults.leaders;
const FENCES: fn(&mut Faults) -> &mut u8 = |faults| &mut faults.fences;
const SWITCHOVERS: fn(&mut Faults) -> &mut u8 = |faults| &mut faults.switchovers;
const ALL: &[fn(&mut Faults) -> &mut u8] =
    &[CRASHES, KEEPERS, POSTMASTERS, LOSSES, DELAYS, SUSPICIONS, LEADERS, FENCES, SWITCHOVERS];

/// A mistake of the rules is one of the whole process: with such mistakes, one test at a time.
struct Turn {
    #[cfg(feature = "mutants")]
    _only: std::sync::MutexGuard<'static, ()>,
}

fn turn() -> Turn {
    #[cfg(feature = "mutants")]
    static TURNS: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let turn = Turn {
        #[cfg(feature = "mutants")]
        _only: TURNS.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
    };
    rules_make(Mutant::None);
    turn
}

/// From now on the rules make this mistake, if it is one of theirs.
#[cfg(feature = "mutants")]
fn rules_make(mutant: Mutant) {
    failover::mutant::choose(mutant.of_the_rules());
}

#[cfg(not(feature = "mutants"))]
fn rules_make(mutant: Mutant) {
    assert!(!matches!(mutant, Mutant::CountsOneLess | Mutant::RawLsn | Mutant::ForgetsBeginning), "needs --features mutants");
}

/// Nothing bad can be found.
fn holds(what: &str, first: &World, search: Search) -> Found {
    let found = explore(first, search);
    println!(
        "{what}: {} states, {} steps between them, {} recoveries, depth {}{}",
        found.states,
        found.steps,
        found.recovered,
        found.depth,
        if found.complete { ", all there are" } else { "" }
    );
    if let Some(story) = &found.story {
        panic!("{what}: {} in {} steps\n{}", story.broken, story.length, story.text);
    }
    found
}

/// A mistake is found.
fn breaks(what: &str, first: &World, mutant: Mutant, expected: &str) {
    let search = Search { mutant, depth: 40, recover: 0, states: 3_000_000 };
    rules_make(mutant);
    let found = explore(first, search);
    rules_make(Mutant::None);
    let story = found.story.unwrap_or_else(|| panic!("{what}: not found in {} states", found.states));
    println!("{what}: found in {} states, {} steps: {}", found.states, story.length, story.broken);
    assert!(story.broken.contains(expected), "{}\n{}", story.broken, story.text);
}

const REAL: Search = Search { mutant: Mutant::None, depth: 100, recover: 1, states: 20_000_000 };

#[test]
fn two_nodes_and_one_fault() {
    let _turn = turn();
    let found = holds("two nodes, one fault of any kind", &group(2, 0, up_to(1, ALL)), REAL);
    assert!(found.complete);
}

#[test]
fn two_nodes_and_two_faults() {
    let _turn = turn();
    holds("two nodes, two faults", &group(2, 0, up_to(2, ALL)), Search { depth: 9, ..REAL });
}

#[test]
fn three_nodes_and_a_crash() {
    let _turn = turn();
    holds("three nodes, a crash", &group(3, 1, up_to(1, &[CRASHES])), Search { depth: 17, recover: 2, ..REAL });
}

#[test]
fn three_nodes_and_one_fault() {
    let _turn = turn();
    holds("three nodes, one fault", &group(3, 1, up_to(1, ALL)), Search { depth: 11, recover: 4, ..REAL });
}

/// The operator has set number_sync_standbys to 0 although there are two standbys.
#[test]
fn three_nodes_that_may_go_on_alone() {
    let _turn = turn();
    let faults = up_to(1, &[CRASHES, SUSPICIONS]);
    holds("three nodes, number_sync_standbys 0, one fault", &group(3, 0, faults), Search { depth: 12, recover: 4, ..REAL });
}

/// Found by this model: positions on two timelines that have the same number are not to be compared.
#[test]
fn two_timelines_of_the_same_number() {
    let _turn = turn();
    let first = after_two_failovers(up_to(1, &[SUSPICIONS]));
    holds("after two failovers", &first, Search { depth: 16, recover: 8, ..REAL });
}

#[test]
fn a_standby_that_sat_out_a_failover() {
    let _turn = turn();
    let first = after_a_failover(up_to(0, &[]));
    holds("after a failover", &first, Search { depth: 11, recover: 8, ..REAL });
}

/// Found by a random run of real processes, which lost what a third node had missed.
#[test]
fn a_new_primary_that_dies_before_anybody_has_caught_up() {
    let _turn = turn();
    let first = amid_a_promotion(up_to(1, &[CRASHES, POSTMASTERS]));
    holds("amid a promotion", &first, Search { depth: 9, recover: 8, ..REAL });
}

#[test]
#[cfg(feature = "mutants")]
fn monitors_that_forget_what_was_before_a_promotion() {
    let _turn = turn();
    let first = amid_a_promotion(up_to(1, &[POSTMASTERS]));
    breaks("the beginning forgotten", &first, Mutant::ForgetsBeginning, "acknowledge");
}

#[test]
fn a_keeper_that_skips_the_seal() {
    let _turn = turn();
    let first = group(3, 1, up_to(1, &[SUSPICIONS]));
    breaks("the seal skipped", &first, Mutant::SealSkipped, "acknowledge");
}

#[test]
fn a_primary_that_stops_waiting_by_itself() {
    let _turn = turn();
    let first = group(2, 0, up_to(1, &[SUSPICIONS]));
    breaks("sync dropped locally", &first, Mutant::DropsSync, "acknowledge");
}

#[test]
#[cfg(feature = "mutants")]
fn monitors_that_count_one_seal_less() {
    let _turn = turn();
    let first = group(3, 1, up_to(1, &[SUSPICIONS]));
    breaks("n-k seals", &first, Mutant::CountsOneLess, "acknowledge");
}

#[test]
#[cfg(feature = "mutants")]
fn monitors_that_compare_raw_positions() {
    let _turn = turn();
    let first = after_a_failover(up_to(0, &[]));
    breaks("raw LSN", &first, Mutant::RawLsn, "acknowledge");
}

/// What the keeper did before this model: rightly told, and deaf to the half of it.
#[test]
fn a_primary_that_waits_for_nobody_in_wait_primary() {
    let _turn = turn();
    let first = amid_a_return(up_to(1, &[SUSPICIONS]));
    breaks("names cleared by the goal alone", &first, Mutant::ClearsNames, "acknowledge");
}

/// To the end, where there is one in reach.
#[test]
#[ignore = "minutes"]
fn deeper() {
    let _turn = turn();
    holds("three nodes, a crash", &group(3, 1, up_to(1, &[CRASHES])), REAL);
    holds("two nodes, a crash and a late message", &group(2, 0, Faults { delays: 1, crashes: 1, ..up_to(2, &[]) }), REAL);
    holds("after two failovers", &after_two_failovers(up_to(1, &[SUSPICIONS])), REAL);
}

/// Looks where the environment says.
#[test]
#[ignore = "a tool"]
fn as_told() {
    let _turn = turn();
    let text = std::env::var("MODEL").unwrap_or_default();
    let get = |name: &str, default: usize| {
        let words = text.split_whitespace().filter_map(|word| word.split_once('='));
        words.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(default)
    };
    let number = |name: &str| get(name, 0) as u8;
    let faults = Faults {
        total: number("total"),
        crashes: number("crashes"),
        keepers: number("keepers"),
        postmasters: number("postmasters"),
        losses: number("losses"),
        delays: number("delays"),
        suspicions: number("suspicions"),
        leaders: number("leaders"),
        fences: number("fences"),
        switchovers: number("switchovers"),
        writes: number("writes"),
    };
    let mutant = *[
        Mutant::None,
        Mutant::SealSkipped,
        Mutant::DropsSync,
        Mutant::CountsOneLess,
        Mutant::RawLsn,
        Mutant::ForgetsEpochs,
        Mutant::NamesAfterPromotion,
        Mutant::ConfirmsAtOnce,
        Mutant::ClearsNames,
        Mutant::ForgetsBeginning,
    ]
    .get(get("mutant", 0))
    .expect("a mutant");
    let first = match get("start", 0) {
        1 => after_a_failover(faults),
        2 => after_two_failovers(faults),
        3 => amid_a_return(faults),
        4 => amid_a_promotion(faults),
        _ => group(get("nodes", 3), get("number_sync", 1) as i32, faults),
    };
    rules_make(mutant);
    let search = Search { mutant, depth: get("depth", 100), recover: get("recover", 1), states: get("states", 20_000_000) };
    holds(&text, &first, search);
}
