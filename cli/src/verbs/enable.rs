//! `pgquorum enable ...` and `pgquorum disable ...`

use failover::NodeState;
use monitor_client::NodeRow;
use tracing::info;

use crate::args::{Maintenance, SecondaryArgs, Toggle};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::verbs::{block_on, find_node, print_notices};
use crate::wait::{Waiter, Wanted, describe};

pub fn enable(verb: Toggle) -> Result<(), CliError> {
    match verb {
        Toggle::Maintenance(args) => start_maintenance(&args),
        Toggle::Secondary(args) => secondary(&args, true),
    }
}

pub fn disable(verb: Toggle) -> Result<(), CliError> {
    match verb {
        Toggle::Maintenance(args) => stop_maintenance(&args),
        Toggle::Secondary(args) => secondary(&args, false),
    }
}

fn start_maintenance(args: &Maintenance) -> Result<(), CliError> {
    let located = locate::monitors(&args.node.monitor)?;
    let formation = located.formation(&args.node.formation.formation);
    let name = args.node.name.clone().or_else(|| located.node.clone());
    let client = located.client();
    block_on(async {
        let node = find_node(&client, &formation, &name).await?;
        if node.reported.belongs_to_primary() && !args.allow_failover {
            return Err(CliError::new(
                Status::BadArguments,
                format!("\"{}\" is the primary ({}): maintenance needs a failover first", node.name, node.reported),
            )
            .hint("add --allow-failover"));
        }
        let waiter = match args.wait.wait {
            0 => None,
            wait => Some(Waiter::listen(&client, &formation, Some(node.group), wait, true).await?),
        };
        client.start_maintenance(node.id).await?;
        print_notices(&client);
        match waiter {
            Some(waiter) => waiter.until(|nodes| settled(nodes, node.id, &[NodeState::Maintenance])).await,
            None => Ok(()),
        }
    })
}

fn stop_maintenance(args: &Maintenance) -> Result<(), CliError> {
    let located = locate::monitors(&args.node.monitor)?;
    let formation = located.formation(&args.node.formation.formation);
    let name = args.node.name.clone().or_else(|| located.node.clone());
    let client = located.client();
    block_on(async {
        let node = find_node(&client, &formation, &name).await?;
        let waiter = match args.wait.wait {
            0 => None,
            wait => Some(Waiter::listen(&client, &formation, Some(node.group), wait, true).await?),
        };
        client.stop_maintenance(node.id).await?;
        print_notices(&client);
        let goals = [NodeState::Secondary, NodeState::Primary, NodeState::Single, NodeState::WaitPrimary];
        match waiter {
            Some(waiter) => waiter.until(|nodes| settled(nodes, node.id, &goals)).await,
            None => Ok(()),
        }
    })
}

/// The node has reached one of these states.
fn settled(nodes: &[NodeRow], id: i64, goals: &[NodeState]) -> Wanted {
    match nodes.iter().find(|node| node.id == id) {
        Some(node) if node.reported == node.goal && goals.contains(&node.goal) => Wanted::Done,
        _ => Wanted::Missing(describe(nodes)),
    }
}

fn secondary(args: &SecondaryArgs, enabled: bool) -> Result<(), CliError> {
    let located = locate::monitors(&args.monitor)?;
    let formation = located.formation(&args.formation.formation);
    let client = located.client();
    block_on(async {
        client.set_secondary(&formation, enabled).await?;
        print_notices(&client);
        info!("{} secondaries of formation \"{formation}\"", if enabled { "enabled" } else { "disabled" });
        Ok(())
    })
}
