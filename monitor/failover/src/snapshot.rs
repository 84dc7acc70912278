//! Everything that the rules look at, as one value that can be sent: what `pgquorum explain` and
//! `pgquorum simulate` run the rules over.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::observation::{Observation, Observations};
use crate::state::State;
use crate::values::{GroupId, NodeId, Now};

/// One group with all that decides about it, at one moment of one leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Formations, settings, and the nodes of the group. No events, no versions.
    pub state: State,
    pub leader_since_mono_us: i64,
    pub observations: Vec<(NodeId, Observation)>,
    pub now: Now,
}

impl Snapshot {
    /// The facts about one group.
    pub fn of(state: &State, observations: &Observations, now: Now, formation: &str, group: GroupId) -> Snapshot {
        let mut state = state.clone();
        state.events = VecDeque::new();
        state.versions = BTreeMap::new();
        state.nodes.retain(|_, node| node.formation == formation && node.group == group);
        state.timeline_history.retain(|fork| state.nodes.contains_key(&fork.node));
        state.groups.retain(|name, _| name == formation);
        let seen = observations.nodes.iter().filter(|(id, _)| state.nodes.contains_key(id));
        Snapshot {
            leader_since_mono_us: observations.leader_since_mono_us,
            observations: seen.map(|(id, seen)| (*id, *seen)).collect(),
            now,
            state,
        }
    }

    /// What the leader had witnessed.
    pub fn observations(&self) -> Observations {
        Observations {
            leader_since_mono_us: self.leader_since_mono_us,
            nodes: self.observations.iter().copied().collect(),
        }
    }
}
