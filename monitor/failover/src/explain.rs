//! Why a node has the goal that it has: every rule that its next report would be tried against, and
//! what would come of that report.

use alloc::string::String;
use alloc::vec::Vec;

use crate::calls::Ground;
use crate::command::NodeActive;
use crate::condition::GroupTest;
use crate::facts;
use crate::outcome::NewEvent;
use crate::rule::{Rule, Section};
use crate::rules;
use crate::rules_engine::Scene;
use crate::settings::Settings;
use crate::state::{Generation, State};
use crate::values::{NodeId, Now};
use crate::view::View;
use crate::{Command, Extended, Observations, decide};

/// One rule, looked at for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    pub pos: u16,
    pub section: &'static str,
    pub summary: &'static str,
    /// The goals that the rule assigns, in words.
    pub assignments: String,
    /// The conditions that do not hold. Empty: the rule matches.
    pub failed: Vec<Failed>,
    /// The rule is listed only: it never fires.
    pub never: bool,
}

impl Considered {
    /// Is a single condition missing, and one that may come true while the node stays as it is?
    pub fn is_near(&self) -> bool {
        matches!(self.failed.as_slice(), [one] if !one.lasting) && !self.never
    }
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The condition, in words.
    pub condition: String,
    /// What was found instead.
    pub fact: String,
    /// It asks for another state of the node, other nodes or other settings: it will not come true
    /// by a change of health, of positions, or by time.
    pub lasting: bool,
}

/// What the node's next report would bring, if it reported what is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Next {
    /// The events that would be written: who gets which goal, by which rule.
    pub events: Vec<NewEvent>,
    /// What the rules would say about it: whom an election waits for, why nobody is chosen.
    pub messages: Vec<String>,
    /// The report would be refused, with these words.
    pub refused: Option<String>,
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
                assignments: rule.assignments(),
                failed: failed(&view, scene, rule),
                never: rule.group.contains(&GroupTest::Never),
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

/// The conditions of a row that do not hold, with the facts; empty when it would fire.
fn failed(view: &View, scene: &Scene, rule: &Rule) -> Vec<Failed> {
    let node = view.member(scene.node);
    let primary = scene.primary.and_then(|id| view.member(id));
    let of = |member, who: &str, tests: &[crate::condition::NodeTest]| -> Vec<Failed> {
        let wrong = tests.iter().filter(|test| !view.node_test(member, **test));
        wrong
            .map(|test| Failed {
                condition: alloc::format!("{who} {}", test.words()),
                fact: view.node_fact(member, *test),
                lasting: test.is_lasting(),
            })
            .collect()
    };
    let mut all = of(node, "node", rule.node);
    all.extend(of(primary, "primary", rule.primary));
    let wrong = rule.group.iter().filter(|test| !view.group_test(scene, **test));
    all.extend(wrong.map(|test| Failed {
        condition: test.words(),
        fact: view.group_fact(scene, *test),
        lasting: test.is_lasting(),
    }));
    all
}

/// Health of every node of the group of `id`, in words: `(name, words)`.
pub fn health(state: &State, observations: &Observations, id: NodeId, now: Now) -> Option<String> {
    let settings = Settings::effective(state, &alloc::collections::BTreeMap::new());
    let ground = Ground { state, observations, settings, now };
    let view = ground.view_of(ground.by_id(id)?);
    view.member(id).map(|member| view.health_fact(member))
}

/// What the next report of a node would bring. Nothing is changed.
pub fn next(state: &State, observations: &Observations, id: NodeId, now: Now) -> Next {
    let Some(node) = state.nodes.get(&id) else { return Next::default() };
    let report = NodeActive {
        formation: node.formation.clone(),
        id,
        group: node.group,
        state: node.reported,
        pg_is_running: node.pg_is_running,
        timeline: node.timeline,
        lsn: observations.of(id).lsn.unwrap_or(node.lsn),
        sync_state: node.sync_state,
        extended: (node.generation == Generation::Pgquorum).then(|| Extended {
            epoch: node.epoch,
            sync_version: node.sync_version,
            sealed: node.sealed,
            upstream: observations.of(id).upstream,
            postgres_end: node.postgres_end,
            timeline_history: Vec::new(),
            standbys_streaming: observations.of(id).standbys_streaming,
            transactions: observations.of(id).transactions,
        }),
    };
    match decide(state, observations, &Command::NodeActive(report).into(), now) {
        Ok(decision) => {
            Next { events: decision.outcome.events, messages: decision.messages, refused: None }
        }
        Err(rejection) => Next { refused: Some(rejection.message), ..Next::default() },
    }
}
