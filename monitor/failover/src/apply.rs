//! Writes an outcome into the state. Runs no rule; the same on every replica and release.

use alloc::vec::Vec;

use crate::{Event, Outcome, State};

/// What became of an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Written; the events with the ids that they got.
    Written(Vec<Event>),
    /// Something that the decision had read has changed since: nothing was written.
    Conflict,
}

/// Applies `outcome` if every version that it was decided on still holds.
pub fn apply(_state: &mut State, _outcome: &Outcome) -> Applied {
    todo!()
}
