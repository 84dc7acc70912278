//! The rule table and the keepers' table as text and as rows.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::rule::Rule;
use crate::state::Generation;
use crate::{edges, rules};

/// A row of `pgautofailover.fsm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsmRow {
    pub pos: u16,
    pub section: &'static str,
    pub condition: String,
    pub assignments: String,
    pub summary: &'static str,
    /// Where and why the row differs from upstream's; empty when it does not.
    pub differs: &'static str,
}

impl From<&Rule> for FsmRow {
    fn from(rule: &Rule) -> FsmRow {
        FsmRow {
            pos: rule.pos,
            section: rule.section.name(),
            condition: rule.conditions().join("; "),
            assignments: rule.assignments(),
            summary: rule.summary,
            differs: rule.differs,
        }
    }
}

/// Every rule, by number.
pub fn fsm_rows() -> Vec<FsmRow> {
    let mut rows: Vec<FsmRow> = rules::all().map(FsmRow::from).collect();
    rows.sort_by_key(|row| row.pos);
    rows
}

/// The rules as text, one paragraph each.
pub fn rules_text() -> String {
    let mut text = String::new();
    for row in fsm_rows() {
        let _ = writeln!(text, "{} {}", row.pos, row.section);
        let _ = writeln!(text, "    {}", row.summary);
        let _ = writeln!(text, "    when: {}", if row.condition.is_empty() { "always" } else { &row.condition });
        if !row.assignments.is_empty() {
            let _ = writeln!(text, "    goals: {}", row.assignments);
        }
        if !row.differs.is_empty() {
            let _ = writeln!(text, "    differs: {}", row.differs);
        }
    }
    text
}

/// The keepers' transitions as text: from, to, and since which release.
pub fn edges_text() -> String {
    let mut text = String::new();
    for (from, to) in edges::edges_of(Generation::Pgquorum) {
        let since = if edges::has_edge(Generation::Stock20, from, to) { "2.0" } else { "2.3" };
        let _ = writeln!(text, "{from} -> {to} ({since})");
    }
    text
}

/// The rules as the reference page `docs/reference/rules.md`.
pub fn rules_markdown() -> String {
    let mut text = String::from(
        "# Failover rules\n\n\
         Generated from the rule table in `monitor/failover`; do not edit.\n\n\
         The first rule of a section that matches wins. Numbers are those of pg_auto_failover 2.3; even numbers \
         between its odd ones are additions. `SELECT * FROM pgautofailover.fsm` lists the same rows, and every \
         event carries the number of the rule that caused it.\n",
    );
    let mut section = "";
    for rule in rules::all() {
        if rule.section.name() != section {
            section = rule.section.name();
            let _ = write!(text, "\n## {section}\n");
        }
        let row = FsmRow::from(rule);
        let _ = write!(text, "\n### {}: {}\n\n", row.pos, row.summary);
        for condition in rule.conditions() {
            let _ = writeln!(text, "- {condition}");
        }
        if !row.assignments.is_empty() {
            let _ = write!(text, "\nGoals: {}\n", row.assignments);
        }
        if !row.differs.is_empty() {
            let _ = write!(text, "\nDiffers from upstream: {}\n", row.differs);
        }
    }
    text
}
