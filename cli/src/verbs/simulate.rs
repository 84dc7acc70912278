//! `pgquorum simulate`: the rules play on from the live state, with the dead that were asked for. The
//! monitors are only read.

use std::collections::BTreeSet;

use failover::explain;
use failover::Event;
use failover::simulation::Cluster;
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
        let mut cluster = Cluster::of(&snapshot);
        let mut dead_monitors = Vec::new();
        let mut leader_dies = false;
        for name in &args.kill {
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
                (None, None) => return Err(unknown(name, &snapshot, &replicas)),
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
        let story = Story { formation: &operator.formation, group, left, of: replicas.len(), majority, leader_dies };
        match args.json.json {
            true => output::json(&story.json(args, &rows, &cluster, refused.as_ref())),
            false => story.tell(args, &rows, &cluster, refused.as_ref()),
        }
    })
}

fn unknown(name: &str, snapshot: &failover::Snapshot, replicas: &[monitor_client::ReplicaRow]) -> CliError {
    let mut names: Vec<&str> = snapshot.state.nodes.values().map(|node| node.name.as_str()).collect();
    names.extend(replicas.iter().map(|replica| replica.name.as_str()));
    CliError::new(Status::BadArguments, format!("\"{name}\" is neither a node of the group nor a monitor"))
        .hint(format!("--kill takes {}", names.join(", ")))
}

struct Story<'a> {
    formation: &'a str,
    group: i32,
    left: usize,
    of: usize,
    majority: bool,
    leader_dies: bool,
}

impl Story<'_> {
    fn tell(
        &self,
        args: &Simulate,
        rows: &[(f64, Event)],
        cluster: &Cluster,
        refused: Option<&failover::Rejection>,
    ) -> Result<(), CliError> {
        let who = args.kill.join(" and ");
        output::line(&format!(
            "If {who} died now, as by kill -9 (nothing is touched):\n"
        ))?;
        if !self.majority {
            return output::line(&format!(
                "Nothing: {} of {} monitors are no majority, so that nobody decides. A primary\n\
                 that is alive goes on, and so do its writes. Nothing fails over until {} monitors\n\
                 run.",
                self.left,
                self.of,
                self.of / 2 + 1
            ));
        }
        if self.leader_dies {
            output::line(&format!("Another monitor leads after about {ELECTION_SECONDS} s.\n"))?;
        }
        // Decisions; not that a node has done what it was told.
        let decisions: Vec<Vec<String>> = rows.iter().filter(|(_, event)| event.event.rule_pos.is_some()).map(row).collect();
        match decisions.is_empty() {
            true => output::line("The monitors would decide nothing.\n")?,
            false => {
                let columns = [
                    Column::right("Time", 7),
                    Column::right("Rule", 4),
                    Column::right("Name", 0),
                    Column::right("Current State", 0),
                    Column::right("Assigned State", 0),
                ];
                output::line(&render(&columns, &decisions))?;
            }
        }
        if let Some(refused) = refused {
            output::line(&format!("The play ends there: {}", refused.message))?;
        }
        let mut ends: Vec<String> = cluster.state.nodes.values().map(|node| {
            let dead = cluster.keepers.get(&node.id).is_some_and(|keeper| !keeper.up);
            format!("\"{}\" is {}{}", node.name, if dead { "dead, assigned " } else { "" }, node.goal)
        }).collect();
        ends.sort();
        let mut lines = Vec::new();
        wrap(&mut lines, "", &format!("In the end: {}.", ends.join(", ")));
        output::line(&lines.join("\n"))?;
        match (self.writes_resume(rows), self.writable(cluster)) {
            (Some(seconds), _) => output::line(&format!("Writes would resume after about {seconds:.0} s.")),
            (None, true) => output::line("Writes would go on."),
            (None, false) => {
                let mut lines = vec!["Writes would not resume by themselves.".to_string()];
                for message in missing(cluster) {
                    wrap(&mut lines, "  ", &message);
                }
                output::line(&lines.join("\n"))
            }
        }
    }

    /// When a node first was told to take writes, in this play.
    fn writes_resume(&self, rows: &[(f64, Event)]) -> Option<f64> {
        rows.iter().find(|(_, event)| event.event.reported.is_writable() && !was_writable(rows, event)).map(|(at, _)| *at)
    }

    fn writable(&self, cluster: &Cluster) -> bool {
        cluster.keepers.values().any(|keeper| keeper.up && keeper.running && keeper.state.is_writable())
    }

    fn json(
        &self,
        args: &Simulate,
        rows: &[(f64, Event)],
        cluster: &Cluster,
        refused: Option<&failover::Rejection>,
    ) -> Value {
        json!({
            "formation": self.formation,
            "group": self.group,
            "kill": args.kill,
            "majority": self.majority,
            "events": rows.iter().map(|(at, event)| json!({
                "seconds": (at * 10.0).round() / 10.0,
                "rule": event.event.rule_pos,
                "nodename": event.event.name,
                "reported_state": event.event.reported.name(),
                "assigned_state": event.event.goal.name(),
                "description": event.event.description,
            })).collect::<Vec<_>>(),
            "refused": refused.map(|refused| refused.message.clone()),
            "end": cluster.state.nodes.values().map(|node| json!({
                "nodename": node.name,
                "alive": cluster.keepers.get(&node.id).is_some_and(|keeper| keeper.up),
                "reported_state": node.reported.name(),
                "assigned_state": node.goal.name(),
            })).collect::<Vec<_>>(),
            "writable": self.majority && self.writable(cluster),
            "writes_resume_seconds": self.writes_resume(rows),
        })
    }
}

/// What the rules would say to the next reports of those who are left: whom they wait for, and why.
fn missing(cluster: &Cluster) -> BTreeSet<String> {
    let alive = cluster.keepers.iter().filter(|(_, keeper)| keeper.up).map(|(id, _)| *id);
    alive.flat_map(|id| explain::next(&cluster.state, &cluster.observations, id, cluster.now).messages).collect()
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
