//! Which silent standbys an election can do without.

use crate::values::NodeId;
use crate::view::View;

/// Whether every acknowledged write is on a sealed standby although `silent` ones are out of reach.
pub(crate) fn loss_free(_view: &View, _primary: Option<NodeId>, silent: &[NodeId]) -> bool {
    silent.is_empty()
}
