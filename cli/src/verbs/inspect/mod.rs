//! `pgquorum inspect ...`: what pg_autoctl calls `do`.

mod fsm;
mod net;
mod pg;

use keeper::commands::service;
use monitor_client::{GroupNode, StateNotification};
use serde_json::{Value, json};

use crate::args::inspect::{AskMonitor, Inspect, InspectDemo, InspectMonitor, MonitorGet, Service, ServiceName};
use crate::exit::{CliError, Status};
use crate::locate::{self, Operator};
use crate::output;
use crate::table::{Column, render};
use crate::verbs::{block_on, find_node, later};

pub fn run(verb: Inspect) -> Result<(), CliError> {
    match verb {
        Inspect::Monitor(InspectMonitor::Get(what)) => get(what),
        Inspect::Monitor(InspectMonitor::Version(args)) => version(&args),
        Inspect::Monitor(InspectMonitor::Register(_) | InspectMonitor::Active(_)) => later::keeper_does(
            "monitor register and monitor active",
            "a report beside the running keeper's would contradict it: pgquorum create postgres, pgquorum run",
        ),
        Inspect::Monitor(InspectMonitor::ParseNotification { payload, .. }) => parse_notification(&payload),
        Inspect::Fsm(verb) => fsm::run(verb),
        Inspect::Show(verb) => net::run(verb),
        Inspect::Pgsetup(verb) => pg::setup(verb),
        Inspect::Primary(verb) => pg::primary(verb),
        Inspect::Service(Service::Getpid { name, data, .. }) => getpid(name, &data),
        Inspect::Service(Service::Restart(_)) => {
            later::keeper_does("service restart", "pgquorum stop --leave-postgres && pgquorum run restarts the keeper alone")
        }
        Inspect::Service(Service::Pgcontroller(_) | Service::Postgres(_) | Service::Listener(_) | Service::NodeActive(_)) => {
            later::not_provided("a service by itself", "pgquorum run: one process is the keeper, and a guardian owns PostgreSQL")
        }
        Inspect::Demo(InspectDemo::Run(_) | InspectDemo::Summary(_)) => {
            later::not_provided("demo run", "`pgquorum demo` brings up a cluster, writes, and kills its primary")
        }
        Inspect::Demo(InspectDemo::Uri(args)) => application_uri(&args),
        Inspect::Demo(InspectDemo::Ping(args)) => ping(&args),
        Inspect::Standby(_) => later::keeper_does("standby", "`pgquorum run` makes and rewinds standbys"),
        Inspect::Pgctl(_) => later::keeper_does("pgctl", "pgquorum stop, pgquorum run"),
        Inspect::Coordinator(_) => later::citus("coordinator"),
        Inspect::Tmux(_) | Inspect::Azure(_) => {
            later::not_provided("tmux and azure", "`pgquorum demo` brings up a whole cluster on this machine")
        }
    }
}

impl AskMonitor {
    fn operator(&self) -> Result<Operator, CliError> {
        Operator::new(&self.monitor, &self.formation)
    }
}

fn node_json(formation: &str, group: i32, node: &GroupNode) -> Value {
    json!({
        "formation": formation, "groupId": group, "nodeId": node.id, "name": node.name, "host": node.host,
        "port": node.port,
    })
}

fn get(what: MonitorGet) -> Result<(), CliError> {
    block_on(async {
        match what {
            MonitorGet::Primary(args) => {
                let operator = args.operator()?;
                let group = operator.group(args.group).unwrap_or(0);
                let node = operator.client.get_primary(&operator.formation, group).await?;
                match args.json.json {
                    true => output::json(&node_json(&operator.formation, group, &node)),
                    false => output::line(&format!("{}/{group} {}:{}", operator.formation, node.host, node.port)),
                }
            }
            MonitorGet::Others(args) => {
                let operator = args.operator()?;
                let own = find_node(&operator.client, &operator.formation, &operator.node_name(&None)).await?;
                let others = operator.client.get_other_nodes(own.id).await?;
                if args.json.json {
                    let one = |node: &GroupNode| {
                        json!({
                            "node_id": node.id, "node_name": node.name, "node_host": node.host, "node_port": node.port,
                            "node_lsn": node.lsn.to_string(), "node_is_primary": node.is_primary,
                        })
                    };
                    return output::json(&Value::Array(others.iter().map(one).collect()));
                }
                let columns = [
                    Column::right("Name", 0),
                    Column::right("Node", 5),
                    Column::right("Host:Port", 10).expendable(2),
                    Column::right("LSN", 9).expendable(1),
                    Column::right("Primary?", 8),
                ];
                let row = |node: &GroupNode| {
                    let primary = if node.is_primary { "yes" } else { "no" };
                    let address = format!("{}:{}", node.host, node.port);
                    vec![node.name.clone(), node.id.to_string(), address, node.lsn.to_string(), primary.to_string()]
                };
                output::line(&render(&columns, &others.iter().map(row).collect::<Vec<_>>()))
            }
            MonitorGet::CandidateCount(args) => {
                let operator = args.operator()?;
                let group = operator.group(args.group).unwrap_or(0);
                let nodes = operator.client.current_state(&operator.formation, Some(group)).await?;
                let candidate =
                    |node: &&monitor_client::NodeRow| node.candidate_priority > 0 && !node.reported.is_writable();
                let count = nodes.iter().filter(candidate).count();
                match args.json.json {
                    true => output::json(&json!({
                        "formation": operator.formation, "groupId": group, "failoverCandidateCount": count,
                    })),
                    false => output::line(&count.to_string()),
                }
            }
            MonitorGet::Coordinator(_) => later::citus("monitor get coordinator"),
        }
    })
}

fn version(args: &AskMonitor) -> Result<(), CliError> {
    block_on(async {
        let operator = args.operator()?;
        let version = operator.client.extension_version().await?.unwrap_or_default();
        match args.json.json {
            true => output::json(&json!({"pgautofailover": version})),
            false => output::line(&version),
        }
    })
}

fn parse_notification(payload: &str) -> Result<(), CliError> {
    let Some(state) = StateNotification::parse(payload) else {
        return Err(CliError::new(Status::BadArguments, "this is no notification of the channel \"state\""));
    };
    output::json(&json!({
        "name": state.name,
        "hostname": state.host,
        "port": state.port,
        "formationid": state.formation,
        "reportedState": state.reported.name(),
        "goalState": state.goal.name(),
    }))
}

fn getpid(name: ServiceName, data: &crate::args::DataDir) -> Result<(), CliError> {
    let pgdata = locate::node_dir(data)?;
    let status = keeper::commands::block_on(service::status(&pgdata))?;
    let named = |wanted: &str| {
        let services = status["pg_autoctl"]["services"].as_array().cloned().unwrap_or_default();
        services.iter().find(|service| service["name"] == wanted).map(|service| service["pid"].clone())
    };
    let pid = match name {
        ServiceName::Postgres => Some(status["postgres"]["pid"].clone()),
        ServiceName::Listener | ServiceName::NodeActive => named("node-active"),
        ServiceName::Guardian => named("guardian"),
    };
    match pid.and_then(|pid| pid.as_i64()) {
        Some(pid) => output::line(&pid.to_string()),
        None => Err(CliError::new(Status::Internal, format!("it does not run on {}", pgdata.display()))),
    }
}

async fn uri_of(args: &AskMonitor) -> Result<String, CliError> {
    let operator = args.operator()?;
    let uri = operator.client.formation_uri(&operator.formation, &operator.located.sslmode).await?;
    uri.ok_or_else(|| {
        CliError::new(Status::BadState, format!("formation \"{}\" has no nodes", operator.formation))
    })
}

fn application_uri(args: &AskMonitor) -> Result<(), CliError> {
    block_on(async {
        let uri = uri_of(args).await?;
        match args.json.json {
            true => output::json(&json!({"uri": uri})),
            false => output::line(&uri),
        }
    })
}

/// Is there a primary that takes writes, where an application would look?
fn ping(args: &AskMonitor) -> Result<(), CliError> {
    block_on(async {
        let uri = uri_of(args).await?;
        let began = std::time::Instant::now();
        let answer = tokio::process::Command::new("psql")
            .args(["-X", "-A", "-t", "-c", "select inet_server_port()", &uri])
            .env("PGCONNECT_TIMEOUT", "3")
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .map_err(|error| CliError::new(Status::Postgres, format!("psql cannot be run: {error}")))?;
        if !answer.status.success() {
            let said = String::from_utf8_lossy(&answer.stderr).trim().to_string();
            return Err(CliError::new(Status::Postgres, said).while_doing("the application cannot connect"));
        }
        let port = String::from_utf8_lossy(&answer.stdout).trim().to_string();
        let took = began.elapsed().as_millis();
        match args.json.json {
            true => output::json(&json!({"port": port.parse::<u16>().ok(), "milliseconds": took as u64})),
            false => output::line(&format!("a primary answers at port {port}, in {took} ms")),
        }
    })
}
