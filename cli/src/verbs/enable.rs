//! `pgquorum enable ...` and `pgquorum disable ...`

use failover::NodeState;
use monitor_client::NodeRow;
use tracing::info;

use crate::args::change::{Maintenance, SecondaryArgs, Toggle};
use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::output;
use crate::verbs::{block_on, find_node, local, print_notices};
use crate::wait::{Print, Waiter, Wanted, describe, outcome};

pub fn enable(verb: Toggle) -> Result<(), CliError> {
    match verb {
        Toggle::Maintenance(args) => maintenance(&args, true),
        Toggle::Secondary(args) => secondary(&args, true),
        Toggle::Ssl(args) => local::enable_ssl(&args),
        Toggle::Monitor(args) => local::enable_monitor(&args),
    }
}

pub fn disable(verb: Toggle) -> Result<(), CliError> {
    match verb {
        Toggle::Maintenance(args) => maintenance(&args, false),
        Toggle::Secondary(args) => secondary(&args, false),
        Toggle::Ssl(args) => local::disable_ssl(&args),
        Toggle::Monitor(args) => local::disable_monitor(&args),
    }
}

/// Where a node is once its maintenance is over.
const IN_SERVICE: &[NodeState] =
    &[NodeState::Secondary, NodeState::Primary, NodeState::Single, NodeState::WaitPrimary];

fn maintenance(args: &Maintenance, on: bool) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.node.monitor, &args.node.formation.formation)?;
        let (client, formation) = (&operator.client, &operator.formation);
        let node = find_node(client, formation, &operator.node_name(&args.node.name)).await?;
        if on && node.reported.belongs_to_primary() && !args.allow_failover {
            return Err(CliError::new(
                Status::BadArguments,
                format!("\"{}\" is the primary ({}): maintenance needs a failover first", node.name, node.reported),
            )
            .hint("add --allow-failover"));
        }
        let waiter = match args.wait.seconds() {
            Some(wait) => {
                let print = Print::result(args.json.json);
                Some(Waiter::listen(client, formation, Some(node.group), wait, print).await?)
            }
            None => None,
        };
        match on {
            true => client.start_maintenance(node.id).await?,
            false => client.stop_maintenance(node.id).await?,
        };
        print_notices(client);
        let goals = if on { &[NodeState::Maintenance] } else { IN_SERVICE };
        match waiter {
            Some(waiter) => waiter.until(|nodes| settled(nodes, &node, goals)).await,
            None if args.json.json => output::json(&outcome(formation, Some(node.group), false, &[])),
            None => Ok(()),
        }
    })
}

/// The node has reached one of these states.
fn settled(nodes: &[NodeRow], wanted: &NodeRow, goals: &[NodeState]) -> Wanted {
    match nodes.iter().find(|node| node.id == wanted.id) {
        Some(node) if node.reported == node.goal && goals.contains(&node.goal) => Wanted::Done,
        _ => {
            let goal = if goals.len() == 1 { goals[0].name() } else { "in service" };
            Wanted::Missing(format!("\"{}\" is not {goal} yet; {}", wanted.name, describe(nodes)))
        }
    }
}

fn secondary(args: &SecondaryArgs, enabled: bool) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.formation.formation)?;
        let (client, formation) = (&operator.client, &operator.formation);
        client.set_secondary(formation, enabled).await?;
        print_notices(client);
        info!("{} secondaries of formation \"{formation}\"", if enabled { "enabled" } else { "disabled" });
        Ok(())
    })
}
