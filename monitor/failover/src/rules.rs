//! THE TABLE: every decision about a goal is a row here.
//!
//! `pos` is upstream's permanent number (pg_auto_failover 2.3); the rows that are ours have even
//! numbers between upstream's odd ones (207, 208, 209, 210 and 211 are all upstream's). Inside a
//! section the first row that matches wins. `differs` says where we part from upstream and why.

use crate::rule::{Rule, Section};

mod api;
mod early;
mod election;
mod primary;
pub mod quorum;
mod standby;

/// The sections in the order of their numbers.
pub const SECTIONS: &[&[Rule]] =
    &[api::RULES, early::RULES, standby::RULES, election::RULES, election::LOST_PRIMARY, primary::RULES, quorum::RULES];

/// Every row, by number inside its section.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    SECTIONS.iter().flat_map(|section| section.iter())
}

/// The rows of one section, in the order in which they are tried.
pub fn of(section: Section) -> impl Iterator<Item = &'static Rule> {
    all().filter(move |rule| rule.section == section)
}

/// Finds a row by its number.
pub fn by_pos(pos: u16) -> Option<&'static Rule> {
    all().find(|rule| rule.pos == pos)
}
