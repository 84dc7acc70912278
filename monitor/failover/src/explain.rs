//! Why a node has the goal that it has: every rule that its next report would be tried against.

use alloc::string::String;
use alloc::vec::Vec;

use crate::calls::Ground;
use crate::facts;
use crate::rule::Section;
use crate::rules;
use crate::rules_engine::Scene;
use crate::settings::Settings;
use crate::state::State;
use crate::values::{NodeId, Now};
use crate::Observations;

/// One rule, looked at for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    pub pos: u16,
    pub section: &'static str,
    pub summary: &'static str,
    /// The conditions that do not hold, in words. Empty: the rule matches.
    pub failed: Vec<String>,
}

/// The rules in the order in which the node's next report would try them, if it reported what is
/// stored. Empty for an unknown node.
pub fn explain(state: &State, observations: &Observations, id: NodeId, now: Now) -> Vec<Considered> {
    let settings = Settings::effective(state, &alloc::collections::BTreeMap::new());
    let ground = Ground { state, observations, settings, now };
    let Some(node) = ground.by_id(id) else { return Vec::new() };
    let view = ground.view_of(node);
    let mut considered = Vec::new();
    let mut look = |section, scene: &Scene| {
        for rule in rules::of(section) {
            considered.push(Considered {
                pos: rule.pos,
                section: rule.section.name(),
                summary: rule.summary,
                failed: view.failures(scene, rule),
            });
        }
    };
    look(Section::Early, &Scene::new(id, None));
    if facts::in_primary_state(node) {
        look(Section::Primary, &Scene::new(id, None));
    } else {
        let primary = view.primary_or_demoted().map(|member| member.row.id);
        look(Section::Standby, &Scene::new(id, primary));
    }
    considered
}
