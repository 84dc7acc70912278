//! The monitors themselves.

use monitor_client::{CallError, ConnectError, ReplicaRow};
use serde_json::{Value, json};

use crate::args::show::ShowMonitors;
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::table::{Column, render};
use crate::verbs::block_on;

pub fn show(args: &ShowMonitors) -> Result<(), CliError> {
    block_on(async {
        let located = locate::monitors(&args.monitor)?;
        let client = located.client();
        match client.replicas().await {
            Ok(Some(replicas)) if args.json.json => {
                output::json(&Value::Array(replicas.iter().map(replica_json).collect()))
            }
            Ok(Some(replicas)) => output::line(&replica_table(&replicas)),
            Ok(None) => Err(CliError::new(
                Status::Monitor,
                format!("{} is a stock pg_auto_failover monitor: it has no replicas", located.target.uri()),
            )),
            // Nobody serves: what each of them says is the best picture there is.
            Err(CallError::Connect(error)) => {
                if !args.json.json {
                    output::line(&unreachable_table(&error))?;
                }
                Err(CallError::Connect(error).into())
            }
            Err(error) => Err(error.into()),
        }
    })
}

const MONITOR_COLUMNS: [Column; 7] = [
    Column::right("Name", 0),
    Column::right("Host:Port", 0).expendable(3),
    Column::right("Role", 11),
    Column::right("Term", 0).expendable(2),
    Column::right("Applied", 0).expendable(4),
    Column::right("Lag", 0).expendable(1),
    Column::right("Version", 0).expendable(5),
];

fn replica_table(replicas: &[ReplicaRow]) -> String {
    let number = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
    let rows: Vec<Vec<String>> = replicas
        .iter()
        .map(|replica| {
            vec![
                replica.name.clone(),
                format!("{}:{}", replica.host, replica.port),
                replica.role.clone(),
                number(replica.term),
                number(replica.applied_index),
                number(replica.lag),
                replica.version.clone().unwrap_or_default(),
            ]
        })
        .collect();
    render(&MONITOR_COLUMNS, &rows)
}

pub fn replica_json(replica: &ReplicaRow) -> Value {
    json!({
        "name": replica.name,
        "host": replica.host,
        "port": replica.port,
        "replica_port": replica.replica_port,
        "role": replica.role,
        "term": replica.term,
        "applied_index": replica.applied_index,
        "lag": replica.lag,
        "version": replica.version,
    })
}

fn unreachable_table(error: &ConnectError) -> String {
    let columns = [Column::right("Host:Port", 0), Column::text("What it says", 30)];
    let rows: Vec<Vec<String>> = error
        .attempts
        .iter()
        .map(|attempt| vec![attempt.endpoint.to_string(), attempt.failure.to_string()])
        .collect();
    render(&columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::tests::{golden, replicas};

    #[test]
    fn the_replicas() {
        let mut replicas = replicas();
        golden("monitors.txt", &replica_table(&replicas));
        replicas[2].role = "unreachable".to_string();
        (replicas[2].applied_index, replicas[2].lag, replicas[2].version) = (None, None, None);
        golden("monitors_one_away.txt", &replica_table(&replicas));
        golden("monitors_one_away.json", &format!("{:#}", Value::Array(replicas.iter().map(replica_json).collect())));
    }
}
