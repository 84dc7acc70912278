//! One module per family of calls: what must hold before, and what is done beside the rules.

pub(crate) mod extended;
pub(crate) mod failover;
pub(crate) mod formation;
pub(crate) mod maintenance;
pub(crate) mod node;
pub(crate) mod register;
pub(crate) mod remove;
pub(crate) mod report;
pub(crate) mod setting;

use crate::observation::Observations;
use crate::outcome::Rejection;
use crate::reject;
use crate::settings::Settings;
use crate::state::{Node, State};
use crate::values::{GroupId, NodeId, Now};
use crate::view::View;

/// What every call is decided on.
#[derive(Clone)]
pub(crate) struct Ground<'a> {
    pub state: &'a State,
    pub observations: &'a Observations,
    pub settings: Settings,
    pub now: Now,
}

impl<'a> Ground<'a> {
    pub fn view(&self, formation: &str, group: GroupId) -> View<'a> {
        View::open(self.state, self.observations, self.settings.clone(), self.now, formation, group)
    }

    pub fn view_of(&self, node: &Node) -> View<'a> {
        self.view(&node.formation, node.group)
    }

    pub fn by_id(&self, id: NodeId) -> Option<&'a Node> {
        self.state.nodes.get(&id).map(|node| &**node)
    }

    pub fn by_name(&self, formation: &str, name: &str) -> Result<&'a Node, Rejection> {
        self.state
            .nodes
            .values()
            .map(|node| &**node)
            .find(|node| node.formation == formation && node.name == name)
            .ok_or_else(|| reject::unknown_name(name, formation))
    }
}
