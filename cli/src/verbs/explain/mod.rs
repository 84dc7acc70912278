//! `pgquorum explain`: why the monitors did, or did not, what they did. The rules are run here, over the
//! facts of the leading monitor; nothing is changed.

pub mod event;
mod outlook;

use failover::explain::{Considered, Next, explain, health, next};
use failover::{Health, Node, Snapshot, queries};
use serde_json::{Value, json};

use crate::args::play::{Explain, WhichEvent};
use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::output;
use crate::verbs::{block_on, facts, perform};
use outlook::{Outlook, awaited};

pub fn run(args: &Explain) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.group.formation.formation)?;
        let asked = operator.group(args.group.group);
        if let Some(which) = args.event {
            let number = match which {
                WhichEvent::Number(number) => number,
                WhichEvent::LastChoice => event::last_choice(&operator, asked).await?,
            };
            return event::explain(&operator, number, args.json.json).await;
        }
        let group = perform::one_group(&operator.client, &operator.formation, asked).await?;
        let snapshot = facts::fetch(&operator, group).await?;
        let nodes: Vec<&Node> = snapshot
            .state
            .nodes
            .values()
            .map(|node| &**node)
            .filter(|node| args.node.as_ref().is_none_or(|name| *name == node.name))
            .collect();
        if nodes.is_empty() {
            let name = args.node.clone().unwrap_or_default();
            return Err(CliError::new(Status::Monitor, format!("there is no node \"{name}\" in group {group}")));
        }
        if args.json.json {
            return output::json(&as_json(&snapshot, &operator.formation, group, &nodes));
        }
        output::line(&as_text(&snapshot, &operator.formation, group, &nodes, args.all))
    })
}

/// One node with what the rules make of it.
struct Explained {
    health: String,
    considered: Vec<Considered>,
    next: Next,
}

fn explained(snapshot: &Snapshot, node: &Node) -> Explained {
    let observations = snapshot.observations();
    Explained {
        health: health(&snapshot.state, &observations, node.id, snapshot.now).unwrap_or_default(),
        considered: explain(&snapshot.state, &observations, node.id, snapshot.now),
        next: next(&snapshot.state, &observations, node.id, snapshot.now),
    }
}

fn as_json(snapshot: &Snapshot, formation: &str, group: i32, nodes: &[&Node]) -> Value {
    let one = |node: &&Node| {
        let about = explained(snapshot, node);
        json!({
            "node_id": node.id,
            "nodename": node.name,
            "reported_state": node.reported.name(),
            "assigned_state": node.goal.name(),
            "health": about.health,
            "rules": about.considered.iter().map(|rule| json!({
                "rule": rule.pos,
                "section": rule.section,
                "summary": rule.summary,
                "assigns": rule.assignments,
                "matches": rule.failed.is_empty(),
                "near": rule.is_near(),
                "never": rule.never,
                "failed": rule.failed.iter().map(|failed| json!({
                    "condition": failed.condition, "fact": failed.fact,
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "next": {
                "events": about.next.events.iter().map(|event| json!({
                    "nodename": event.name,
                    "assigned_state": event.goal.name(),
                    "rule": event.rule_pos,
                    "description": event.description,
                })).collect::<Vec<_>>(),
                "messages": about.next.messages,
                "refused": about.next.refused,
            },
        })
    };
    json!({
        "formation": formation,
        "group": group,
        "stands_in_the_way": stands_in_the_way(snapshot, formation, group),
        "awaited": awaited(snapshot),
        "if_the_primary_died": Outlook::of(snapshot, formation, group).map(|outlook| outlook.json()),
        "nodes": nodes.iter().map(one).collect::<Vec<_>>(),
    })
}

fn as_text(snapshot: &Snapshot, formation: &str, group: i32, nodes: &[&Node], all: bool) -> String {
    let mut lines = vec![format!("Formation \"{formation}\", group {group}")];
    wrap(&mut lines, "", &format!("{}.", verdict(snapshot)));
    for text in Outlook::of(snapshot, formation, group).iter().flat_map(Outlook::lines) {
        wrap(&mut lines, if text.starts_with('-') { "  " } else { "" }, &text);
    }
    for text in awaited(snapshot) {
        wrap(&mut lines, "  ", &format!("- {text}"));
    }
    let missing = stands_in_the_way(snapshot, formation, group);
    if !missing.is_empty() {
        lines.extend([String::new(), "In the way of a failover that surely loses nothing:".to_string()]);
    }
    for text in &missing {
        wrap(&mut lines, "  ", &format!("- {text}"));
    }
    for node in nodes {
        let about = explained(snapshot, node);
        lines.push(String::new());
        let state = match node.reported == node.goal {
            true => node.reported.to_string(),
            false => format!("{}, to become {}", node.reported, node.goal),
        };
        lines.push(format!("Node {} \"{}\" is {state}", node.id, node.name));
        wrap(&mut lines, "  ", &format!("{}.", about.health));
        tell_next(&mut lines, &about);
        tell_rules(&mut lines, &about, all);
    }
    lines.join("\n")
}

/// Why a primary that does not answer is not replaced; nothing while there is one that does.
fn stands_in_the_way(snapshot: &Snapshot, formation: &str, group: i32) -> Vec<String> {
    let answers = |node: &Node| node.reported.is_writable() && node.goal.is_writable() && node.health != Health::Bad;
    if snapshot.state.nodes.values().any(|node| answers(node)) {
        return Vec::new();
    }
    queries::data_loss_statement(&snapshot.state, &snapshot.observations(), snapshot.now, formation, group)
}

/// In one line: is anything going on?
fn verdict(snapshot: &Snapshot) -> String {
    let nodes: Vec<&Node> = snapshot.state.nodes.values().map(|node| &**node).collect();
    let names = |chosen: &dyn Fn(&Node) -> bool| -> Vec<&str> {
        nodes.iter().filter(|node| chosen(node)).map(|node| node.name.as_str()).collect()
    };
    let moving = names(&|node| node.reported != node.goal && node.health != Health::Bad);
    let silent = names(&|node| node.reported != node.goal && node.health == Health::Bad);
    let primary = nodes.iter().find(|node| node.reported.is_writable() && node.goal.is_writable());
    let told = match (primary, moving.as_slice()) {
        (Some(primary), []) if primary.health == Health::Bad => {
            format!("The primary \"{}\" does not answer, and no node is on the move", primary.name)
        }
        (Some(primary), []) if !silent.is_empty() => format!("\"{}\" takes the writes", primary.name),
        (Some(primary), []) => format!("\"{}\" takes the writes, every node is where it is meant to be", primary.name),
        (Some(primary), moving) => format!("\"{}\" takes the writes; on the move: {}", primary.name, moving.join(", ")),
        (None, []) => "Nobody takes writes, and no node is on the move".to_string(),
        (None, moving) => format!("Nobody takes writes; on the move: {}", moving.join(", ")),
    };
    match silent.is_empty() {
        true => told,
        false => format!("{told}; without an answer: {}", silent.join(", ")),
    }
}

fn tell_next(lines: &mut Vec<String>, about: &Explained) {
    if let Some(refused) = &about.next.refused {
        wrap(lines, "  ", &format!("Its next report would be refused: {refused}"));
    }
    match about.next.events.is_empty() {
        true => lines.push("  Its next report would change nothing.".to_string()),
        false => {
            lines.push("  Its next report would bring:".to_string());
            for event in &about.next.events {
                let rule = event.rule_pos.map(|pos| format!(" (rule {pos})")).unwrap_or_default();
                wrap(lines, "    ", &format!("\"{}\" -> {}{rule}: {}", event.name, event.goal, event.description));
            }
        }
    }
    for message in &about.next.messages {
        wrap(lines, "    ", &format!("waits: {message}"));
    }
}

fn tell_rules(lines: &mut Vec<String>, about: &Explained, all: bool) {
    if let Some(rule) = about.considered.iter().find(|rule| rule.failed.is_empty()) {
        wrap(lines, "  ", &format!("Rule {} holds: {}", rule.pos, rule.summary));
        if !rule.assignments.is_empty() {
            wrap(lines, "    ", &format!("it assigns {}", rule.assignments));
        }
    }
    let failing: Vec<&Considered> = about.considered.iter().filter(|rule| !rule.failed.is_empty()).collect();
    // What one event keeps from happening is what people ask about.
    let told: Vec<&Considered> = failing.iter().copied().filter(|rule| all || rule.is_near()).collect();
    let rest = failing.len() - told.len();
    match (told.is_empty(), all) {
        (true, _) => wrap(lines, "  ", &format!("No other rule is close: {rest} do not fit (--all shows them).")),
        (false, true) => lines.push("  Rules that do not hold:".to_string()),
        (false, false) => wrap(lines, "  ", &format!("Close, but one thing is missing ({rest} others do not fit; --all shows them):")),
    }
    for rule in told {
        wrap(lines, "    ", &format!("{} {}", rule.pos, rule.summary));
        for failed in &rule.failed {
            let text = match rule.never && failed.condition == "never" {
                true => "listed only: this rule never acts".to_string(),
                false => format!("needs: {}; but {}", failed.condition, failed.fact),
            };
            wrap(lines, "        ", &text);
        }
    }
}

/// Adds a text as lines of 80 columns, those after the first indented by two more.
pub fn wrap(lines: &mut Vec<String>, indent: &str, text: &str) {
    const WIDTH: usize = 80;
    let mut line = String::from(indent);
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, format!("{indent}  ")));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::tests::{golden, settled};

    #[test]
    fn a_settled_group_and_one_that_is_stuck() {
        let mut snapshot = settled();
        let tell = |snapshot: &Snapshot| {
            let nodes: Vec<&Node> = snapshot.state.nodes.values().map(|node| &**node).collect();
            (as_text(snapshot, "default", 0, &nodes, false), as_json(snapshot, "default", 0, &nodes))
        };
        let (text, json) = tell(&snapshot);
        golden("explain_settled.txt", &text);
        golden("explain_settled.json", &format!("{json:#}"));
        // The primary is gone, and with it a standby that a quorum needs.
        for id in [1, 2] {
            if let Some(node) = snapshot.state.nodes.get_mut(&id) {
                std::sync::Arc::make_mut(node).health = Health::Bad;
            }
            snapshot.observations.retain(|(seen, _)| *seen != id);
        }
        golden("explain_stuck.txt", &tell(&snapshot).0);
    }

    #[test]
    fn lines_end_before_the_edge() {
        let mut lines = Vec::new();
        wrap(&mut lines, "  ", &"word ".repeat(40));
        assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
        assert!(lines[0].starts_with("  word") && lines[1].starts_with("    word"));
    }
}
