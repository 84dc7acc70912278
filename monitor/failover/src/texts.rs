//! The texts of events: stock pg_auto_failover's, where it has one.

use alloc::string::{String, ToString};

use crate::rules_engine::Scene;
use crate::view::{View, node_text};
use crate::NodeState;

/// Fills in a rule's text. `goal` is what is being assigned, to whomever the event is about.
pub(crate) fn fill(view: &View, scene: &Scene, template: &str, goal: NodeState) -> String {
    let mut text = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((word, tail)) = after.split_once('}') else {
            text.push('{');
            rest = after;
            break;
        };
        text.push_str(&word_of(view, scene, word, goal));
        rest = tail;
    }
    text.push_str(rest);
    text
}

fn word_of(view: &View, scene: &Scene, word: &str, goal: NodeState) -> String {
    let node = view.member(scene.node).map(|member| &member.row);
    let primary = scene.primary.and_then(|id| view.member(id)).map(|member| &member.row);
    let named = |row: Option<&crate::Node>| row.map_or_else(|| String::from("no node"), node_text);
    match word {
        "node" => named(node),
        "primary" => named(primary),
        "candidate" => named(view.candidate().map(|member| &member.row)),
        "waiting" => named(
            view.others(scene.node)
                .map(|member| &member.row)
                .find(|row| crate::facts::converged(row, NodeState::WaitStandby)),
        ),
        "goal" => goal.to_string(),
        "reported" => node.map_or_else(String::new, |row| row.reported.to_string()),
        "timeline" => node.map_or_else(String::new, |row| row.timeline.to_string()),
        "priority" => node.map_or_else(String::new, |row| row.candidate_priority.to_string()),
        "quorum" => node.map_or_else(String::new, |row| row.replication_quorum.to_string()),
        "primary_reported" => primary.map_or_else(String::new, |row| row.reported.to_string()),
        "primary_goal" => primary.map_or_else(String::new, |row| row.goal.to_string()),
        "primary_lsn" => primary.map_or_else(String::new, |row| row.lsn.to_string()),
        "formation" => view.formation.id.clone(),
        "group" => view.group.to_string(),
        "number" => view.formation.number_sync_standbys.to_string(),
        "quorum_secondaries" => view.quorum_secondaries(scene.node).to_string(),
        "reason" => scene.reason.clone(),
        "evidence" => evidence(view, scene.primary),
        "node_evidence" => evidence(view, Some(scene.node)),
        other => alloc::format!("{{{other}}}"),
    }
}

/// Why a node is taken for dead, or that it is not.
fn evidence(view: &View, id: Option<crate::NodeId>) -> String {
    let Some(member) = id.and_then(|id| view.member(id)) else { return String::from("there is no primary") };
    match view.evidence(member) {
        Some(evidence) => evidence,
        None => alloc::format!("{} has reported {}", node_text(&member.row), member.row.reported),
    }
}
