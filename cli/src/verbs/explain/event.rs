//! An event of the past: the rule behind it, and what was known when it fired.

use failover::rules;
use monitor_client::EventDetail;
use serde_json::{Value, json};

use super::wrap;
use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::output;

/// As many events before the one that is asked about are looked at.
const BEFORE: i64 = 200;

pub async fn explain(operator: &Operator, number: i64, as_json: bool) -> Result<(), CliError> {
    let events = operator.client.events_around(number, BEFORE).await?;
    let Some(event) = events.iter().find(|event| event.id == number) else {
        return Err(CliError::new(Status::Monitor, format!("there is no event {number}"))
            .hint("`pgquorum show events --json` has the numbers; the monitors keep the newest 10000"));
    };
    let same_group = |other: &&EventDetail| other.formation == event.formation && other.group == event.group;
    let before: Vec<&EventDetail> = events.iter().filter(same_group).filter(|other| other.id <= number).collect();
    let evidence = last_of_each_node(&before);
    let rule = event.rule.and_then(rules::by_pos);
    if as_json {
        return output::json(&json!({
            "event": event_json(event),
            "rule": rule.map(|rule| json!({
                "rule": rule.pos,
                "section": rule.section.name(),
                "summary": rule.summary,
                "conditions": rule.conditions(),
                "assigns": rule.assignments(),
            })),
            "evidence": evidence.iter().map(|event| event_json(event)).collect::<Vec<_>>(),
            "sealed": sealed(&evidence).iter().map(|event| event.name.clone()).collect::<Vec<_>>(),
        }));
    }
    let mut lines = vec![format!(
        "Event {number}, {}, formation \"{}\", group {}",
        event.time, event.formation, event.group
    )];
    wrap(&mut lines, "  ", &event.description);
    lines.push(format!(
        "  Node {} \"{}\" was {} and was told to become {}.",
        event.node, event.name, event.reported, event.goal
    ));
    lines.push(String::new());
    match rule {
        Some(rule) => {
            wrap(&mut lines, "", &format!("Rule {} ({}): {}", rule.pos, rule.section.name(), rule.summary));
            lines.push("  It held because all of this held:".to_string());
            for condition in rule.conditions() {
                wrap(&mut lines, "    - ", &condition);
            }
            if !rule.assignments().is_empty() {
                wrap(&mut lines, "  ", &format!("It assigns {}.", rule.assignments()));
            }
        }
        None => lines.push("No rule: a report, a health check or an operator's call.".to_string()),
    }
    lines.push(String::new());
    lines.push("What was known of each node, from the newest event about it until then:".to_string());
    for event in &evidence {
        wrap(
            &mut lines,
            "    ",
            &format!(
                "\"{}\": {} -> {}, timeline {}, {}, priority {}, quorum {}",
                event.name, event.reported, event.goal, event.timeline, event.lsn, event.priority, event.quorum
            ),
        );
    }
    choice(&mut lines, event, &evidence);
    output::line(&lines.join("\n"))
}

/// The election as it stood: who was sealed, and why the one was chosen.
fn choice(lines: &mut Vec<String>, event: &EventDetail, evidence: &[&EventDetail]) {
    let sealed = sealed(evidence);
    if sealed.is_empty() {
        return;
    }
    let names: Vec<String> =
        sealed.iter().map(|event| format!("\"{}\" at {}:{}", event.name, event.timeline, event.lsn)).collect();
    lines.push(String::new());
    wrap(lines, "", &format!("Sealed (cut off from the primary, or stopped: the position is final): {}.", names.join(", ")));
    if !matches!(event.goal.as_str(), "prepare_promotion" | "fast_forward") {
        return;
    }
    // A stopped primary is no candidate.
    let sealed: Vec<&EventDetail> = sealed.into_iter().filter(|event| event.reported == "report_lsn").collect();
    let furthest = sealed.iter().max_by_key(|event| (event.timeline, event.position()));
    let highest = sealed.iter().map(|event| event.priority).max();
    let chosen = sealed.iter().find(|other| other.node == event.node).unwrap_or(&event);
    let why = match (highest == Some(chosen.priority), furthest) {
        (true, Some(furthest)) if furthest.node == chosen.node => {
            "it has the highest candidate priority of the sealed nodes, and nobody has more WAL".to_string()
        }
        (true, Some(furthest)) => format!(
            "it has the highest candidate priority of the sealed nodes; it fetches what it lacks from \"{}\"",
            furthest.name
        ),
        _ => "those with a higher candidate priority were not fit (unhealthy, or on a timeline left behind)".to_string(),
    };
    wrap(lines, "", &format!("The choice: \"{}\", because {why}.", chosen.name));
}

/// States of a node that takes no more WAL from the old primary, be it a standby or that primary itself.
const SEALED: [&str; 5] = ["report_lsn", "draining", "demote_timeout", "demoted", "prepare_maintenance"];

fn sealed<'a>(evidence: &[&'a EventDetail]) -> Vec<&'a EventDetail> {
    evidence.iter().copied().filter(|event| SEALED.contains(&event.reported.as_str())).collect()
}

fn last_of_each_node<'a>(before: &[&'a EventDetail]) -> Vec<&'a EventDetail> {
    let mut last: Vec<&EventDetail> = Vec::new();
    for event in before.iter().rev() {
        if !last.iter().any(|known| known.node == event.node) {
            last.push(event);
        }
    }
    last.sort_by_key(|event| event.node);
    last
}

fn event_json(event: &EventDetail) -> Value {
    json!({
        "eventid": event.id,
        "eventtime": event.time,
        "nodeid": event.node,
        "nodename": event.name,
        "reportedstate": event.reported,
        "goalstate": event.goal,
        "reportedtli": event.timeline,
        "reportedlsn": event.lsn,
        "candidatepriority": event.priority,
        "replicationquorum": event.quorum,
        "description": event.description,
        "rule_pos": event.rule,
    })
}
