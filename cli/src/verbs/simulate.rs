//! `pgquorum simulate`: the rules play on from the live state, with the dead that were asked for. The
//! monitors are only read.

use failover::simulation::Cluster;
use failover::{Event, Rejection, Snapshot, queries};
use monitor_client::ReplicaRow;
use serde_json::{Value, json};

use crate::args::play::Simulate;
use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::output;
use crate::table::{Column, render};
use crate::verbs::explain::wrap;
use crate::verbs::{block_on, facts, perform};

/// From the death of a leader until another one decides, as measured; see docs/decisions/0004.
const ELECTION_SECONDS: f64 = 1.1;

pub fn run(args: &Simulate) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.group.formation.formation)?;
        let group = perform::one_group(&operator.client, &operator.formation, operator.group(args.group.group)).await?;
        let snapshot = facts::fetch(&operator, group).await?;
        let replicas = operator.client.replicas().await?.unwrap_or_default();
        let story = Story::of(&args.kill, &snapshot, &replicas)?;
        match args.json.json {
            true => output::json(&story.json(&operator.formation, group)),
            false => output::line(&story.text()),
        }
    })
}

fn unknown(name: &str, snapshot: &Snapshot, replicas: &[ReplicaRow]) -> CliError {
    let mut names: Vec<&str> = snapshot.state.nodes.values().map(|node| node.name.as_str()).collect();
    names.extend(replicas.iter().map(|replica| replica.name.as_str()));
    CliError::new(Status::BadArguments, format!("\"{name}\" is neither a node of the group nor a monitor"))
        .hint(format!("--kill takes {}", names.join(", ")))
}

/// What would follow.
struct Story<'a> {
    kill: &'a [String],
    /// Monitors that would be left, of how many.
    left: usize,
    of: usize,
    majority: bool,
    leader_dies: bool,
    /// Everything that would happen, with the seconds since the deaths.
    rows: Vec<(f64, Event)>,
    cluster: Cluster,
    refused: Option<Rejection>,
}

impl<'a> Story<'a> {
    fn of(kill: &'a [String], snapshot: &Snapshot, replicas: &[ReplicaRow]) -> Result<Story<'a>, CliError> {
        let mut cluster = Cluster::of(snapshot);
        let mut dead_monitors = Vec::new();
        let mut leader_dies = false;
        for name in kill {
            let node = snapshot.state.nodes.values().find(|node| node.name == *name);
            let replica = replicas.iter().find(|replica| replica.name == *name);
            match (node, replica) {
                (Some(node), None) => cluster.kill(node.id),
                (None, Some(replica)) => {
                    leader_dies |= replica.role == "leader";
                    dead_monitors.push(name.clone());
                }
                (Some(_), Some(_)) => {
                    return Err(CliError::new(
                        Status::BadArguments,
                        format!("\"{name}\" is the name of a node and of a monitor"),
                    ));
                }
                (None, None) => return Err(unknown(name, snapshot, replicas)),
            }
        }
        let down = replicas.iter().filter(|r| r.role == "unreachable" && !dead_monitors.contains(&r.name)).count();
        let left = replicas.len().saturating_sub(dead_monitors.len() + down);
        let majority = replicas.is_empty() || left > replicas.len() / 2;
        let mut rows: Vec<(f64, Event)> = Vec::new();
        let mut begun = 0.0;
        let mut refused = None;
        if majority {
            if leader_dies {
                begun = ELECTION_SECONDS;
                cluster.tick(begun);
                cluster.new_leader();
            }
            refused = cluster.play(|seconds, event| rows.push((begun + seconds, event.clone()))).err();
        }
        Ok(Story { kill, left, of: replicas.len(), majority, leader_dies, rows, cluster, refused })
    }

    fn text(&self) -> String {
        let mut lines =
            vec![format!("If {} died now, as by kill -9 (nothing is touched):", self.kill.join(" and ")), String::new()];
        if !self.majority {
            wrap(&mut lines, "", &format!(
                "Nothing: {} of {} monitors are no majority, so that nobody decides. A primary that is alive goes on, \
                 and so do its writes. Nothing fails over until {} monitors run.",
                self.left,
                self.of,
                self.of / 2 + 1
            ));
            return lines.join("\n");
        }
        if self.leader_dies {
            lines.extend([format!("Another monitor leads after about {ELECTION_SECONDS} s."), String::new()]);
        }
        // Decisions; not that a node has done what it was told.
        let decisions: Vec<Vec<String>> =
            self.rows.iter().filter(|(_, event)| event.event.rule_pos.is_some()).map(row).collect();
        match decisions.is_empty() {
            true => lines.extend(["The monitors would decide nothing.".to_string(), String::new()]),
            false => {
                let columns = [
                    Column::right("Time", 7),
                    Column::right("Rule", 4),
                    Column::right("Name", 0),
                    Column::right("Current State", 0),
                    Column::right("Assigned State", 0),
                ];
                lines.push(render(&columns, &decisions));
            }
        }
        if let Some(refused) = &self.refused {
            wrap(&mut lines, "", &format!("The play ends there: {}", refused.message));
        }
        let ends = self.cluster.state.nodes.values().map(|node| {
            let dead = self.cluster.keepers.get(&node.id).is_some_and(|keeper| !keeper.up);
            format!("\"{}\" is {}{}", node.name, if dead { "dead, assigned " } else { "" }, node.goal)
        });
        let mut ends: Vec<String> = ends.collect();
        ends.sort();
        wrap(&mut lines, "", &format!("In the end: {}.", ends.join(", ")));
        match (self.writes_resume(), self.writable()) {
            (Some(seconds), _) => lines.push(format!("Writes would resume after about {seconds:.0} s.")),
            (None, true) => lines.push("Writes would go on.".to_string()),
            (None, false) => {
                lines.push("Writes would not resume by themselves.".to_string());
                for message in self.missing() {
                    wrap(&mut lines, "  ", &message);
                }
            }
        }
        lines.join("\n")
    }

    /// What stands in the way, in the words of the rules.
    fn missing(&self) -> Vec<String> {
        let Some(node) = self.cluster.state.nodes.values().next() else { return Vec::new() };
        let cluster = &self.cluster;
        queries::data_loss_statement(&cluster.state, &cluster.observations, cluster.now, &node.formation, node.group)
    }

    /// When a node first was told to take writes, in this play.
    fn writes_resume(&self) -> Option<f64> {
        let rows = &self.rows;
        rows.iter().find(|(_, event)| event.event.reported.is_writable() && !was_writable(rows, event)).map(|(at, _)| *at)
    }

    fn writable(&self) -> bool {
        self.cluster.keepers.values().any(|keeper| keeper.up && keeper.running && keeper.state.is_writable())
    }

    fn json(&self, formation: &str, group: i32) -> Value {
        json!({
            "formation": formation,
            "group": group,
            "kill": self.kill,
            "majority": self.majority,
            "events": self.rows.iter().map(|(at, event)| json!({
                "seconds": (at * 10.0).round() / 10.0,
                "rule": event.event.rule_pos,
                "nodename": event.event.name,
                "reported_state": event.event.reported.name(),
                "assigned_state": event.event.goal.name(),
                "description": event.event.description,
            })).collect::<Vec<_>>(),
            "refused": self.refused.as_ref().map(|refused| refused.message.clone()),
            "end": self.cluster.state.nodes.values().map(|node| json!({
                "nodename": node.name,
                "alive": self.cluster.keepers.get(&node.id).is_some_and(|keeper| keeper.up),
                "reported_state": node.reported.name(),
                "assigned_state": node.goal.name(),
            })).collect::<Vec<_>>(),
            "stands_in_the_way": if self.majority && !self.writable() { self.missing() } else { Vec::new() },
            "writable": self.majority && self.writable(),
            "writes_resume_seconds": self.writes_resume(),
        })
    }
}

/// Was this node writable when the play began? Then its first event as such is no resumption.
fn was_writable(rows: &[(f64, Event)], event: &Event) -> bool {
    let first = rows.iter().find(|(_, other)| other.event.node == event.event.node);
    first.is_some_and(|(_, first)| first.event.reported.belongs_to_primary())
}

fn row((seconds, event): &(f64, Event)) -> Vec<String> {
    let event = &event.event;
    vec![
        format!("{seconds:.1} s"),
        event.rule_pos.map(|pos| pos.to_string()).unwrap_or_default(),
        event.name.clone(),
        event.reported.to_string(),
        event.goal.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::tests::{golden, replicas, settled};

    fn killed(names: &[&str]) -> String {
        let kill: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let snapshot = settled();
        Story::of(&kill, &snapshot, &replicas()).map_or_else(|error| error.text().to_string(), |story| story.text())
    }

    #[test]
    fn stories_of_deaths() {
        golden("simulate_primary.txt", &killed(&["node1"]));
        golden("simulate_standby.txt", &killed(&["node3"]));
        golden("simulate_primary_and_leader.txt", &killed(&["node1", "m1"]));
        golden("simulate_too_many_nodes.txt", &killed(&["node1", "node2"]));
        golden("simulate_too_many_monitors.txt", &killed(&["m1", "m2", "node1"]));
        golden("simulate_unknown.txt", &killed(&["node9"]));
    }

    #[test]
    fn a_story_as_json() {
        let (kill, snapshot) = (["node1".to_string()], settled());
        let story = Story::of(&kill, &snapshot, &replicas()).map(|story| story.json("default", 0));
        golden("simulate_primary.json", &format!("{:#}", story.unwrap_or_default()));
    }
}
