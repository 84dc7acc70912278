//! The table itself: golden copies, the generated page, and the keepers' edges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use failover::condition::NodeTest;
use failover::edges::has_edge;
use failover::rule::{Rule, Who};
use failover::state::Generation;
use failover::{NodeState, render, rules};

const GENERATIONS: [Generation; 3] = [Generation::Stock20, Generation::Stock23, Generation::Pgquorum];

fn golden(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "{} is stale; UPDATE_GOLDEN=1 rewrites it", path.display());
}

#[test]
fn rules_are_as_reviewed() {
    golden("tests/rules.golden", &render::rules_text());
}

#[test]
fn edges_are_as_reviewed() {
    golden("tests/edges.golden", &render::edges_text());
}

#[test]
fn the_reference_page_is_fresh() {
    golden("../../docs/reference/rules.md", &render::rules_markdown());
}

#[test]
fn numbers_are_unique_and_every_row_says_what_it_does() {
    let mut seen = BTreeSet::new();
    for rule in rules::all() {
        assert!(seen.insert(rule.pos), "{} twice", rule.pos);
        assert!(!rule.summary.is_empty(), "{} has no summary", rule.pos);
        let gives_goals = rule.assign.iter().any(|(who, _)| matches!(who, Who::Node | Who::Primary));
        let never = rule.group.contains(&failover::condition::GroupTest::Never);
        assert!(rule.event.is_empty() != gives_goals || never, "{}: event text and goals", rule.pos);
        let upstream_even = [208, 210].contains(&rule.pos);
        let ours = rule.pos % 2 == 0 && !upstream_even;
        assert!(!ours || !rule.differs.is_empty() || rule.pos == 130, "{} is ours: say why", rule.pos);
    }
}

/// The states that the tests allow a node to report, when they say so.
fn reported(tests: &[NodeTest]) -> Option<&'static [NodeState]> {
    tests.iter().find_map(|test| match test {
        NodeTest::Converged(set) | NodeTest::Reported(set) => Some(*set),
        _ => None,
    })
}

/// The goals that the tests allow a node to have before, when they say so.
fn goals(tests: &[NodeTest]) -> Option<&'static [NodeState]> {
    tests.iter().find_map(|test| match test {
        NodeTest::Converged(set) | NodeTest::Goal(set) => Some(*set),
        _ => None,
    })
}

/// Rows whose conditions leave the reported state open: the interpreter checks the edge when they
/// fire, and the properties in `laws.rs` see to it.
const CHECKED_AT_RUN_TIME: &[(u16, Who)] = &[
    // A primary in one of several primary states; `single` cannot drain and is left alone.
    (109, Who::Primary),
    (109, Who::Node),
    (111, Who::Primary),
    (325, Who::Primary),
    (391, Who::Primary),
    (129, Who::Primary),
    // Whatever the primary reports, from primary to demote_timeout.
    (333, Who::Primary),
    (351, Who::Primary),
    (346, Who::Primary),
    (347, Who::Primary),
    (344, Who::Primary),
    // KeeperCan stands in the row; one of the two is possible from every writable state but single.
    // Back from maintenance: the call has checked the state.
    (116, Who::Node),
    (117, Who::Node),
    (119, Who::Node),
    (121, Who::Node),
    (123, Who::Node),
    // The election has checked that the node converged to report_lsn.
    (375, Who::Node),
    (377, Who::Node),
    (303, Who::Primary),
    // The same on the quorum path; the old primary may be anything that a primary can be on its way down.
    (520, Who::Node),
    (522, Who::Node),
    (524, Who::Primary),
    (526, Who::Primary),
];

fn tests_of(rule: &Rule, who: Who) -> &'static [NodeTest] {
    if who == Who::Primary { rule.primary } else { rule.node }
}

#[test]
fn every_goal_of_the_table_has_an_edge() {
    for rule in rules::all() {
        for (who, goal) in rule.assign.iter().filter(|(who, _)| matches!(who, Who::Node | Who::Primary)) {
            let tests = tests_of(rule, *who);
            if *goal == NodeState::Dropped || tests.contains(&NodeTest::KeeperCan(*goal)) {
                continue;
            }
            let Some(states) = reported(tests) else {
                assert!(CHECKED_AT_RUN_TIME.contains(&(rule.pos, *who)), "{}: {who:?} -> {goal}", rule.pos);
                continue;
            };
            for generation in GENERATIONS {
                // The reporting node is where it says it is. Another one may have reached its goal
                // without having reported it.
                let elsewhere = *who == Who::Primary || (362..=374).contains(&rule.pos) && rule.pos != 363;
                let reached = if elsewhere { goals(tests).unwrap_or_default() } else { &[] };
                for from in states.iter().chain(reached) {
                    assert!(has_edge(generation, *from, *goal), "{}: {generation:?} {from} -> {goal}", rule.pos);
                }
            }
        }
    }
}

#[test]
fn newer_keepers_know_every_older_transition() {
    for (from, to) in failover::edges::edges_of(Generation::Stock20) {
        assert!(has_edge(Generation::Pgquorum, from, to), "{from} -> {to}");
    }
    let count = |generation| failover::edges::edges_of(generation).count();
    // The additions of 2.3: 2 to single, 6 to report_lsn, 12 to demote_timeout, 11 to demoted.
    assert_eq!(count(Generation::Pgquorum) - count(Generation::Stock20), 31);
}
