//! Decides a call on the leader.

use crate::{Call, Decision, Now, Observations, Rejection, State};

/// Decides one call. Pure: the same arguments give the same decision.
///
/// # Errors
/// A [`Rejection`] when the call is refused; nothing has changed then, not even an observation.
pub fn decide(_state: &State, _observations: &Observations, _call: &Call, _now: Now) -> Result<Decision, Rejection> {
    todo!()
}
