//! One file per group of commands.

pub mod create;
pub mod declared;
pub mod demo;
pub mod drain;
pub mod drop;
pub mod drop_monitor;
pub mod enable;
pub mod explain;
pub mod facts;
pub mod help;
pub mod inspect;
pub mod later;
pub mod local;
pub mod monitor_config;
pub mod node;
pub mod node_config;
pub mod perform;
pub mod service;
pub mod settings;
pub mod setup;
pub mod show;
pub mod simulate;
pub mod version;
pub mod watch;

#[cfg(test)]
mod tests;

use std::future::Future;

use monitor_client::{MonitorClient, NodeRow};
use tracing::warn;

use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::program;

/// Runs a client command: one thread is plenty.
fn block_on<T>(future: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Repeats the monitor's notices to the one who called.
fn print_notices(client: &MonitorClient) {
    for notice in client.take_notices() {
        warn!("{}: {}", notice.severity, notice.message);
    }
}

/// An empty answer is an answer, as it is for pg_autoctl: exit code 0. Why it is empty is said beside it.
async fn say_why_empty(operator: &Operator, group: Option<i32>) {
    let formation = &operator.formation;
    match (operator.client.number_sync_standbys(formation).await, group) {
        (Ok(None), _) => warn!("there is no formation \"{formation}\": `{} show uri` lists them", program::name()),
        (Ok(Some(_)), Some(group)) => warn!("group {group} of formation \"{formation}\" has no nodes"),
        (Ok(Some(_)), None) => warn!("formation \"{formation}\" has no nodes"),
        // The answer was given; this was only about the comment.
        (Err(_), _) => {}
    }
}

fn no_formation(formation: &str) -> CliError {
    CliError::new(Status::Monitor, format!("there is no formation \"{formation}\""))
        .hint("`pgquorum show uri` lists the formations")
}

/// Finds a node by its name.
async fn find_node(client: &MonitorClient, formation: &str, name: &Option<String>) -> Result<NodeRow, CliError> {
    let nodes = client.current_state(formation, None).await?;
    let known = || match nodes.is_empty() {
        true => format!("formation \"{formation}\" has no nodes"),
        false => format!(
            "formation \"{formation}\" has {}",
            nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ")
        ),
    };
    let Some(name) = name else {
        return Err(CliError::new(Status::BadArguments, "no node is named")
            .hint(format!("give --name NODE or the node's --pgdata; {}", known())));
    };
    match nodes.iter().find(|node| node.name == *name) {
        Some(node) => Ok(node.clone()),
        None => Err(CliError::new(Status::Monitor, format!("there is no node \"{name}\"")).hint(known())),
    }
}
