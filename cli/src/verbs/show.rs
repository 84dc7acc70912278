//! `pgquorum show ...`

use failover::NodeState;
use monitor_client::{CallError, ConnectError, NodeRow, ReplicaRow};
use serde_json::{Value, json};

use crate::args::{Show, ShowEvents, ShowFormation, ShowGroup, ShowMonitors, ShowUri};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::table::{Column, render};
use crate::verbs::block_on;

pub fn run(verb: Show) -> Result<(), CliError> {
    match verb {
        Show::State(args) if args.local => crate::verbs::node::show_local(&args.show),
        Show::State(args) => state(&args.show),
        Show::File(args) => crate::verbs::node::show_file(&args),
        Show::Events(args) => events(&args),
        Show::Uri(args) => uri(&args),
        Show::Monitors(args) => monitors(&args),
        Show::Settings(args) => settings(&args),
        Show::StandbyNames(args) => standby_names(&args),
    }
}

fn state(args: &ShowGroup) -> Result<(), CliError> {
    let located = locate::monitors(&args.monitor)?;
    let formation = located.formation(&args.group.formation.formation);
    let group = args.group.group.or(located.group);
    let client = located.client();
    block_on(async {
        if args.json.json {
            return output::line(&client.current_state_json(&formation, group).await?);
        }
        let nodes = client.current_state(&formation, group).await?;
        output::line(&state_table(&nodes))
    })
}

fn state_table(nodes: &[NodeRow]) -> String {
    let columns = [
        Column::right("Name", 0),
        Column::right("Node", 5),
        Column::right("Host:Port", 10),
        Column::right("TLI: LSN", 9),
        Column::right("Connection", 12),
        Column::right("Reported State", 19),
        Column::right("Assigned State", 19),
    ];
    let groups = nodes.iter().any(|node| node.group != nodes[0].group);
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            vec![
                node.name.clone(),
                if groups { format!("{}/{}", node.group, node.id) } else { node.id.to_string() },
                format!("{}:{}", node.host, node.port),
                format!("{:3}: {}", node.timeline, node.lsn),
                connection(node),
                node.reported.to_string(),
                node.goal.to_string(),
            ]
        })
        .collect();
    render(&columns, &rows)
}

/// What an application may do there, and ` !` (unreachable) or ` ?` (not probed yet) for the monitor's view.
fn connection(node: &NodeRow) -> String {
    use NodeState::*;
    let kind = match node.reported {
        Single | Primary | WaitPrimary | JoinPrimary | PrepareMaintenance | ApplySettings => "read-write",
        Init | Dropped | WaitStandby | Demoted | DemoteTimeout | Draining | Maintenance => "none",
        _ => "read-only",
    };
    match node.health {
        1 => kind.to_string(),
        0 => format!("{kind} !"),
        _ => format!("{kind} ?"),
    }
}

fn events(args: &ShowEvents) -> Result<(), CliError> {
    let show = &args.show;
    let located = locate::monitors(&show.monitor)?;
    let formation = located.formation(&show.group.formation.formation);
    let group = show.group.group;
    let client = located.client();
    block_on(async {
        if show.json.json {
            return output::line(&client.last_events_json(&formation, group, args.count).await?);
        }
        let columns = [
            Column::right("Event Time", 30),
            Column::right("Node", 6),
            Column::right("Current State", 19),
            Column::right("Assigned State", 19),
            Column::text("Comment", 10),
        ];
        let events = client.last_events(&formation, group, args.count).await?;
        let rows: Vec<Vec<String>> = events
            .into_iter()
            .map(|event| {
                vec![
                    event.time,
                    format!("{}/{}", event.group, event.node),
                    event.reported,
                    event.goal,
                    event.description,
                ]
            })
            .collect();
        output::line(&render(&columns, &rows))
    })
}

fn uri(args: &ShowUri) -> Result<(), CliError> {
    let located = locate::monitors(&args.monitor)?;
    let monitor_uri = located.target.uri();
    let client = located.client();
    block_on(async {
        match args.formation.as_deref() {
            Some("monitor") => return output::line(&monitor_uri),
            Some(formation) => {
                let uri = client.formation_uri(formation, &located.sslmode).await?;
                return match (uri, args.json.json) {
                    (Some(uri), false) => output::line(&uri),
                    (uri, true) => output::json(&json!({"formation": formation, "uri": uri})),
                    (None, false) => Err(CliError::new(
                        Status::BadState,
                        format!("formation \"{formation}\" has no node, so that there is nothing to connect to"),
                    )),
                };
            }
            None => {}
        }
        if args.json.json {
            return output::line(&client.all_uris_json(&monitor_uri, &located.sslmode).await?);
        }
        let columns = [Column::right("Type", 12), Column::right("Name", 7), Column::text("Connection String", 30)];
        let uris = client.all_uris(&monitor_uri, &located.sslmode).await?;
        let rows: Vec<Vec<String>> =
            uris.into_iter().map(|row| vec![row.kind, row.name, row.uri.unwrap_or_default()]).collect();
        output::line(&render(&columns, &rows))
    })
}

fn settings(args: &ShowFormation) -> Result<(), CliError> {
    let located = locate::monitors(&args.monitor)?;
    let formation = located.formation(&args.formation.formation);
    let client = located.client();
    block_on(async {
        if args.json.json {
            return output::line(&client.formation_settings_json(&formation).await?);
        }
        let columns = [
            Column::right("Context", 9),
            Column::right("Name", 7),
            Column::right("Setting", 25),
            Column::left("Value"),
        ];
        let settings = client.formation_settings(&formation).await?;
        let rows: Vec<Vec<String>> =
            settings.into_iter().map(|row| vec![row.context, row.name, row.setting, row.value]).collect();
        output::line(&render(&columns, &rows))
    })
}

/// Also `get formation settings`.
pub fn formation_settings(args: &ShowFormation) -> Result<(), CliError> {
    settings(args)
}

fn standby_names(args: &ShowGroup) -> Result<(), CliError> {
    let located = locate::monitors(&args.monitor)?;
    let formation = located.formation(&args.group.formation.formation);
    let group = args.group.group.or(located.group).unwrap_or(0);
    let client = located.client();
    block_on(async {
        let names = client.synchronous_standby_names(&formation, group).await?;
        if args.json.json {
            return output::json(
                &json!({"formation": formation, "group": group, "synchronous_standby_names": names}),
            );
        }
        output::line(&format!("'{names}'"))
    })
}

fn monitors(args: &ShowMonitors) -> Result<(), CliError> {
    let located = locate::monitors(&args.monitor)?;
    let client = located.client();
    block_on(async {
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
    Column::right("Host:Port", 0),
    Column::right("Role", 11),
    Column::right("Term", 0),
    Column::right("Applied", 0),
    Column::right("Lag", 0),
    Column::right("Version", 0),
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

fn replica_json(replica: &ReplicaRow) -> Value {
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
    use failover::Lsn;

    fn node(id: i64, group: i32, reported: NodeState, health: i32) -> NodeRow {
        NodeRow {
            formation_kind: "pgsql".into(),
            name: format!("node{id}"),
            host: "127.0.0.1".into(),
            port: 15010,
            group,
            id,
            reported,
            goal: reported,
            candidate_priority: 50,
            replication_quorum: true,
            timeline: 1,
            lsn: Lsn(0x5000060),
            health,
            cluster: "default".into(),
            health_lag: None,
            report_lag: None,
        }
    }

    #[test]
    fn state_of_one_group() {
        let nodes = [node(1, 0, NodeState::Primary, 1), node(2, 0, NodeState::Secondary, 0)];
        assert_eq!(
            state_table(&nodes),
            " Name |  Node |       Host:Port |       TLI: LSN |   Connection |      Reported State |      Assigned State\n\
             ------+-------+-----------------+----------------+--------------+---------------------+--------------------\n\
             node1 |     1 | 127.0.0.1:15010 |   1: 0/5000060 |   read-write |             primary |             primary\n\
             node2 |     2 | 127.0.0.1:15010 |   1: 0/5000060 |  read-only ! |           secondary |           secondary\n"
        );
    }

    #[test]
    fn several_groups_show_theirs() {
        let nodes = [node(1, 0, NodeState::Single, -1), node(2, 1, NodeState::Draining, 1)];
        let table = state_table(&nodes);
        assert!(table.contains("   0/1 |") && table.contains("   1/2 |"), "{table}");
        assert!(table.contains(" read-write ? |") && table.contains("         none |"), "{table}");
        assert!(state_table(&[]).contains("Reported State"));
    }
}
