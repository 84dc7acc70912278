//! Timelines of a group's nodes.

use std::collections::BTreeMap;

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
        let observations = snapshot.observations();
        let newest = snapshot.state.nodes.values().map(|node| node.timeline).max().unwrap_or(0);
        let mut rows = Vec::new();
        let mut list = Vec::new();
        // Nodes by the forks in their past: nearly always the same ones.
        let mut histories: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for node in snapshot.state.nodes.values() {
            let lsn = observations.of(node.id).lsn.unwrap_or(node.lsn);
            let forks = snapshot.state.timeline_history.iter().filter(|fork| fork.node == node.id);
            let forks: Vec<_> = forks.collect();
            rows.push(vec![
                node.name.clone(),
                node.id.to_string(),
                node.timeline.to_string(),
                lsn.to_string(),
                node.reported.to_string(),
                if node.timeline == newest { "newest" } else { "older" }.to_string(),
            ]);
            let path: Vec<String> = forks
                .iter()
                .map(|fork| format!("{} from {} at {}", fork.timeline, fork.parent, fork.switchpoint))
                .collect();
            histories.entry(path.join(", ")).or_default().push(node.name.as_str());
            list.push(json!({
                "nodename": node.name,
                "node_id": node.id,
                "timeline": node.timeline,
                "lsn": lsn.to_string(),
                "reported_state": node.reported.name(),
                "newest": node.timeline == newest,
                "history": forks.iter().map(|fork| json!({
                    "timeline": fork.timeline, "parent": fork.parent, "switchpoint": fork.switchpoint.to_string(),
                })).collect::<Vec<_>>(),
            }));
        }
        if args.json.json {
            return output::json(&Value::Array(list));
        }
        let columns = [
            Column::right("Name", 0),
            Column::right("Node", 5),
            Column::right("TLI", 3),
            Column::right("LSN", 9),
            Column::right("Reported State", 14),
            Column::right("Timeline", 8),
        ];
        output::line(&render(&columns, &rows))?;
        let mut lines = Vec::new();
        for (path, names) in &histories {
            let path = if path.is_empty() { "no fork" } else { path };
            wrap(&mut lines, "", &format!("Forks that {} went through: {path}.", names.join(", ")));
        }
        output::line(&lines.join("\n"))
    })
}
