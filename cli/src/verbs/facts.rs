//! The facts of a group: what the rules look at, fetched from the monitors.

use failover::Snapshot;

use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::verbs::no_formation;

/// The facts about one group.
pub async fn fetch(operator: &Operator, group: i32) -> Result<Snapshot, CliError> {
    let formation = &operator.formation;
    let Some(json) = operator.client.group_facts(formation, group).await? else {
        return Err(CliError::new(Status::Monitor, "the monitor does not give the facts that its rules look at")
            .hint("this needs a monitor of pgquorum, of this release or a newer one"));
    };
    let snapshot: Snapshot = serde_json::from_str(&json).map_err(|error| {
        CliError::new(Status::Monitor, format!("the facts of the monitor are of another release: {error}"))
            .hint("run the pgquorum of the monitors' release: `pgquorum show monitors` tells which")
    })?;
    if !snapshot.state.formations.contains_key(formation) {
        return Err(no_formation(formation));
    }
    if snapshot.state.nodes.is_empty() {
        return Err(CliError::new(
            Status::BadState,
            format!("group {group} of formation \"{formation}\" has no nodes"),
        ));
    }
    Ok(snapshot)
}

/// What a failover that accepts losses may lose, as far as the monitors know: a statement per line.
pub fn what_may_be_lost(snapshot: &Snapshot) -> Vec<String> {
    let observations = snapshot.observations();
    let position = |node: &failover::Node| (node.timeline, observations.of(node.id).lsn.unwrap_or(node.lsn));
    let nodes: Vec<_> = snapshot.state.nodes.values().collect();
    let heard = |node: &failover::Node| {
        let report = observations.of(node.id).report;
        report.is_some_and(|report| snapshot.now.mono_us.saturating_sub(report.mono_us) < HEARD_LATELY_US)
    };
    let mut lines = Vec::new();
    let furthest = nodes.iter().max_by_key(|node| position(node));
    let reachable = nodes.iter().filter(|node| heard(node) && node.candidate_priority != 0);
    let best = reachable.max_by_key(|node| position(node));
    for node in &nodes {
        let (timeline, lsn) = position(node);
        let word = if heard(node) { "reports" } else { "is silent" };
        lines.push(format!("\"{}\" ({}) {word}; last known position: timeline {timeline}, {lsn}", node.name, node.reported));
    }
    match (furthest, best) {
        (Some(furthest), Some(best)) => {
            let (far, near) = (position(furthest), position(best));
            if far.0 != near.0 {
                lines.push(format!(
                    "the best that can be promoted is \"{}\", on timeline {}, and timeline {} of \"{}\" would be left",
                    best.name, near.0, far.0, furthest.name
                ));
            } else {
                lines.push(format!(
                    "the best that can be promoted is \"{}\": {} bytes of WAL behind what \"{}\" is known to have",
                    best.name,
                    far.1.0.saturating_sub(near.1.0),
                    furthest.name
                ));
            }
            let silent: Vec<&str> = nodes.iter().filter(|node| !heard(node)).map(|node| node.name.as_str()).collect();
            if !silent.is_empty() {
                lines.push(format!("what {} wrote since it was last heard of is not known", silent.join(" and ")));
            }
        }
        _ => lines.push("no node reports that could be promoted".to_string()),
    }
    lines
}

/// A report that is older than this says little about what a node has by now.
const HEARD_LATELY_US: i64 = 5_000_000;
