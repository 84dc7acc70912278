//! `pgquorum perform ...`

use monitor_client::MonitorClient;
use tracing::{info, warn};

use crate::args::change::{Failover, Perform, Promotion};
use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::output;
use crate::verbs::drain::drain;
use crate::verbs::{block_on, facts, find_node, print_notices};
use crate::wait::{Print, Waiter, outcome, primary_settled};

pub fn run(verb: Perform) -> Result<(), CliError> {
    match verb {
        Perform::Failover(args) => failover(&args, "failover"),
        Perform::Switchover(args) => failover(&args, "switchover"),
        Perform::Promotion(args) => promotion(&args),
    }
}

fn failover(args: &Failover, what: &str) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.group.formation.formation)?;
        let (client, formation) = (&operator.client, &operator.formation);
        let group = one_group(client, formation, operator.group(args.group.group)).await?;
        if args.allow_data_loss {
            say_what_may_be_lost(&operator, group, what).await?;
        }
        drain(&operator, group, &args.sessions, what).await?;
        let print = Print::result(args.json.json);
        let waiter = announce(client, formation, group, args.wait.seconds(), print).await?;
        if args.allow_data_loss {
            for notice in client.perform_failover_allowing_data_loss(formation, group).await? {
                warn!("{}: {}", notice.severity, notice.message);
            }
        } else {
            client.perform_failover(formation, group).await?;
            print_notices(client);
        }
        match waiter {
            Some(waiter) => waiter.until(|nodes| primary_settled(nodes, None)).await,
            None => not_waited_for(formation, group, print),
        }
    })
}

/// The group that is meant, when only one can be.
pub async fn one_group(client: &MonitorClient, formation: &str, asked: Option<i32>) -> Result<i32, CliError> {
    if let Some(group) = asked {
        return Ok(group);
    }
    let mut groups: Vec<i32> = client.current_state(formation, None).await?.iter().map(|node| node.group).collect();
    groups.dedup();
    match groups.as_slice() {
        [] => Err(CliError::new(Status::BadState, format!("the monitors have no nodes in formation \"{formation}\""))
            .hint("`pgquorum show uri` lists the formations")),
        [one] => Ok(*one),
        many => Err(CliError::new(
            Status::BadArguments,
            format!("formation \"{formation}\" has {} groups", many.len()),
        )
        .hint("say which one: --group N")),
    }
}

/// Before anything is done: which positions were acknowledged, which can be reached, and the difference.
async fn say_what_may_be_lost(operator: &Operator, group: i32, what: &str) -> Result<(), CliError> {
    warn!("data loss is allowed for this {what}: writes that clients were told are safe may be gone");
    let nodes = operator.client.current_state(&operator.formation, Some(group)).await?;
    let in_order = |node: &&monitor_client::NodeRow| node.reported.is_writable() && node.goal == node.reported && node.health == 1;
    if let Some(primary) = nodes.iter().find(in_order) {
        warn!("\"{}\" is {} and answers: without --allow-data-loss this would lose nothing", primary.name, primary.reported);
    }
    if let Some(lines) = operator.client.data_loss_statement(&operator.formation, group).await? {
        if lines.is_empty() {
            info!("nothing stands in the way: nothing has to be lost");
        }
        for line in lines {
            warn!("{line}");
        }
        return Ok(());
    }
    match facts::fetch(operator, group).await {
        Ok(snapshot) => {
            for line in facts::what_may_be_lost(&snapshot) {
                warn!("{line}");
            }
        }
        Err(error) => warn!("what may be gone cannot be told: {}", error.text()),
    }
    Ok(())
}

fn promotion(args: &Promotion) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.node.monitor, &args.node.formation.formation)?;
        let (client, formation) = (&operator.client, &operator.formation);
        let node = find_node(client, formation, &operator.node_name(&args.node.name)).await?;
        drain(&operator, node.group, &args.sessions, "promotion").await?;
        let print = Print::result(args.json.json);
        let waiter = announce(client, formation, node.group, args.wait.seconds(), print).await?;
        let started = client.perform_promotion(formation, &node.name).await?;
        print_notices(client);
        match waiter {
            Some(waiter) if started => waiter.until(|nodes| primary_settled(nodes, Some(&node.name))).await,
            // It is the primary already.
            Some(_) if args.json.json => output::json(&outcome(formation, Some(node.group), true, &[])),
            Some(_) => Ok(()),
            None => not_waited_for(formation, node.group, print),
        }
    })
}

fn not_waited_for(formation: &str, group: i32, print: Print) -> Result<(), CliError> {
    match print {
        Print::Json => output::json(&outcome(formation, Some(group), false, &[])),
        Print::Table | Print::Log => Ok(()),
    }
}

/// Listens before the call is made, so that no change is missed.
async fn announce<'a>(
    client: &'a MonitorClient,
    formation: &str,
    group: i32,
    wait: Option<u64>,
    print: Print,
) -> Result<Option<Waiter<'a>>, CliError> {
    let Some(wait) = wait else { return Ok(None) };
    let waiter = Waiter::listen(client, formation, Some(group), wait, print).await?;
    info!("waiting up to {wait} s for a primary of {formation}/{group}");
    Ok(Some(waiter))
}
