//! Timelines of a group's nodes.

use serde_json::{Value, json};

use crate::args::show::ShowGroup;
use crate::exit::CliError;
use crate::locate::Operator;
use crate::output;
use crate::table::{Column, render};
use crate::verbs::{block_on, facts};

pub fn show(args: &ShowGroup) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.group.formation.formation)?;
        let group = operator.group(args.group.group).unwrap_or(0);
        let snapshot = facts::fetch(&operator, group).await?;
        let observations = snapshot.observations();
        let newest = snapshot.state.nodes.values().map(|node| node.timeline).max().unwrap_or(0);
        let mut rows = Vec::new();
        let mut list = Vec::new();
        for node in snapshot.state.nodes.values() {
            let lsn = observations.of(node.id).lsn.unwrap_or(node.lsn);
            let forks = snapshot.state.timeline_history.iter().filter(|fork| fork.node == node.id);
            let forks: Vec<_> = forks.collect();
            let history = match forks.is_empty() {
                true => "not reported".to_string(),
                false => {
                    let one = |fork: &&failover::state::TimelineFork| {
                        format!("{} from {} at {}", fork.timeline, fork.parent, fork.switchpoint)
                    };
                    forks.iter().map(one).collect::<Vec<_>>().join(", ")
                }
            };
            rows.push(vec![
                node.name.clone(),
                node.id.to_string(),
                node.timeline.to_string(),
                lsn.to_string(),
                node.reported.to_string(),
                if node.timeline == newest { "newest" } else { "older" }.to_string(),
                history,
            ]);
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
            Column::text("Forks", 8),
        ];
        output::line(&render(&columns, &rows))
    })
}
