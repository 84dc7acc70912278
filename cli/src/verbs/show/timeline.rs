//! Timelines of a group's nodes.

use std::collections::BTreeMap;

use failover::state::TimelineFork;
use failover::{Node, NodeId, Snapshot};
use serde_json::{Value, json};

use crate::args::show::ShowGroup;
use crate::exit::CliError;
use crate::locate::Operator;
use crate::output;
use crate::table::{Column, render};
use crate::verbs::explain::wrap;
use crate::verbs::{block_on, facts, perform};

pub fn show(args: &ShowGroup) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.group.formation.formation)?;
        let asked = operator.group(args.group.group);
        let group = perform::one_group(&operator.client, &operator.formation, asked).await?;
        let snapshot = facts::fetch(&operator, group).await?;
        match args.json.json {
            true => output::json(&as_json(&snapshot)),
            false => output::line(&as_text(&snapshot)),
        }
    })
}

fn forks_of(snapshot: &Snapshot, node: NodeId) -> Vec<&TimelineFork> {
    snapshot.state.timeline_history.iter().filter(|fork| fork.node == node).collect()
}

fn newest(snapshot: &Snapshot) -> i32 {
    snapshot.state.nodes.values().map(|node| node.timeline).max().unwrap_or(0)
}

fn position(snapshot: &Snapshot, node: &Node) -> String {
    snapshot.observations().of(node.id).lsn.unwrap_or(node.lsn).to_string()
}

fn as_json(snapshot: &Snapshot) -> Value {
    let newest = newest(snapshot);
    let one = |node: &Node| {
        json!({
            "nodename": node.name,
            "node_id": node.id,
            "timeline": node.timeline,
            "lsn": position(snapshot, node),
            "reported_state": node.reported.name(),
            "newest": node.timeline == newest,
            "history": forks_of(snapshot, node.id).iter().map(|fork| json!({
                "timeline": fork.timeline, "parent": fork.parent, "switchpoint": fork.switchpoint.to_string(),
            })).collect::<Vec<_>>(),
        })
    };
    Value::Array(snapshot.state.nodes.values().map(|node| one(node)).collect())
}

fn as_text(snapshot: &Snapshot) -> String {
    let newest = newest(snapshot);
    let mut rows = Vec::new();
    // Nodes by the forks in their past: nearly always the same ones.
    let mut histories: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for node in snapshot.state.nodes.values() {
        rows.push(vec![
            node.name.clone(),
            node.id.to_string(),
            node.timeline.to_string(),
            position(snapshot, node),
            node.reported.to_string(),
            if node.timeline == newest { "newest" } else { "older" }.to_string(),
        ]);
        let path: Vec<String> = forks_of(snapshot, node.id)
            .iter()
            .map(|fork| format!("{} from {} at {}", fork.timeline, fork.parent, fork.switchpoint))
            .collect();
        histories.entry(path.join(", ")).or_default().push(node.name.as_str());
    }
    let columns = [
        Column::right("Name", 0),
        Column::right("Node", 5),
        Column::right("TLI", 3),
        Column::right("LSN", 9).expendable(2),
        Column::right("Reported State", 14).expendable(1),
        Column::right("Timeline", 8),
    ];
    let mut lines = vec![render(&columns, &rows)];
    for (path, names) in &histories {
        let path = if path.is_empty() { "none known" } else { path };
        wrap(&mut lines, "", &format!("Forks that {} went through: {path}.", names.join(", ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::tests::{golden, settled};

    #[test]
    fn timelines_of_nodes_with_different_pasts() {
        let mut snapshot = settled();
        let fork = |node| TimelineFork { node, timeline: 2, parent: 1, switchpoint: failover::Lsn(0x3000060) };
        snapshot.state.timeline_history.extend([fork(1), fork(2)]);
        golden("timeline.txt", &as_text(&snapshot));
        golden("timeline.json", &format!("{:#}", as_json(&snapshot)));
    }
}
