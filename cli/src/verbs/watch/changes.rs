//! `watch --json`: one line of JSON for each change, for programs. First everything as it is.

use std::collections::BTreeMap;

use jiff::Zoned;
use monitor_client::NodeRow;
use serde_json::{Value, json};

use super::picture::{LOOK_EVERY, Picture, look};
use crate::args::show::Watch;
use crate::exit::CliError;
use crate::locate::Operator;
use crate::output;
use crate::verbs::block_on;
use crate::verbs::explain::event::event_json;
use crate::verbs::show::monitors::replica_json;

/// Until a signal or a reader that goes away ends it.
pub fn print(args: &Watch) -> Result<(), CliError> {
    let operator = Operator::new(&args.monitor, &args.group.formation.formation)?;
    let group = operator.group(args.group.group);
    block_on(async {
        let client = operator.located.lasting_client();
        let mut told = Told::default();
        loop {
            let lines = match look(&client, &operator.formation, group).await {
                Ok(picture) => told.changes(&picture),
                Err(error) => told.problem(Some(error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))),
            };
            for mut line in lines {
                line["time"] = Value::from(Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string());
                output::line(&line.to_string())?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
}

/// What was printed last.
#[derive(Default)]
struct Told {
    nodes: BTreeMap<i64, Value>,
    monitors: BTreeMap<String, Value>,
    /// The newest event; `None`: nothing was seen yet, and what is past is no change.
    event: Option<i64>,
    problem: Option<String>,
}

/// What is news of a node: positions and times go on all the time.
fn node_json(node: &NodeRow) -> Value {
    json!({
        "nodename": node.name,
        "nodehost": node.host,
        "nodeport": node.port,
        "group_id": node.group,
        "node_id": node.id,
        "current_group_state": node.reported.name(),
        "assigned_group_state": node.goal.name(),
        "candidate_priority": node.candidate_priority,
        "replication_quorum": node.replication_quorum,
        "reported_tli": node.timeline,
        "health": node.health,
    })
}

impl Told {
    fn changes(&mut self, picture: &Picture) -> Vec<Value> {
        let mut lines = self.problem(None);
        let mut nodes: BTreeMap<i64, Value> = BTreeMap::new();
        for node in &picture.nodes {
            let now = node_json(node);
            if self.nodes.remove(&node.id).as_ref() != Some(&now) {
                lines.push(json!({"change": "node", "node": now}));
            }
            nodes.insert(node.id, now);
        }
        let gone = std::mem::replace(&mut self.nodes, nodes);
        lines.extend(gone.into_values().map(|node| json!({"change": "node_gone", "node": node})));
        for replica in picture.monitors.iter().flatten() {
            let mut now = replica_json(replica);
            for moving in ["applied_index", "lag"] {
                now.as_object_mut().and_then(|object| object.remove(moving));
            }
            let before = self.monitors.insert(replica.name.clone(), now.clone());
            if before.as_ref() != Some(&now) {
                lines.push(json!({"change": "monitor", "monitor": now}));
            }
        }
        let newest = picture.events.last().map_or(0, |event| event.id);
        let last = *self.event.get_or_insert(newest);
        lines.extend(
            picture.events.iter().filter(|event| event.id > last).map(|event| json!({"change": "event", "event": event_json(event)})),
        );
        self.event = Some(last.max(newest));
        lines
    }

    /// The monitors cannot be asked, or can again.
    fn problem(&mut self, problem: Option<String>) -> Vec<Value> {
        // Who was tried last differs from time to time; that nobody answers is one piece of news.
        let news = self.problem.is_some() != problem.is_some();
        let line = json!({"change": "problem", "problem": problem});
        self.problem = problem;
        if news { vec![line] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::tests::replicas;
    use crate::verbs::watch::screen::tests::{event, failing, quiet};

    #[test]
    fn changes_and_nothing_else() {
        let mut told = Told::default();
        let kinds = |lines: Vec<Value>| -> Vec<String> {
            lines.iter().map(|line| line["change"].as_str().unwrap_or_default().to_string()).collect()
        };
        let mut picture = quiet();
        assert_eq!(kinds(told.changes(&picture)), ["node", "node", "node", "monitor", "monitor", "monitor"]);
        picture.nodes[0].lsn.0 += 4096;
        picture.nodes[0].report_lag = Some(3.0);
        assert!(told.changes(&picture).is_empty());
        let number = picture.events.last().map_or(0, |event| event.id);
        picture.events.push(event(number + 1, 2, "secondary", "prepare_promotion", Some(5), "text"));
        picture.nodes.remove(2);
        let lines = told.changes(&picture);
        assert_eq!(lines[1]["event"]["eventid"], number + 1);
        assert_eq!(kinds(lines), ["node_gone", "event"]);
        assert_eq!(kinds(told.problem(Some("nobody answers".into()))), ["problem"]);
        assert!(told.problem(Some("nobody answers, still".into())).is_empty());
        picture.monitors = Some(replicas());
        let lines = told.changes(&picture);
        assert_eq!(lines[0]["problem"], Value::Null);
        assert!(kinds(told.changes(&failing())).contains(&"node".to_string()));
    }
}
