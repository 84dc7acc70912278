//! `pgquorum perform ...`

use tracing::{info, warn};

use crate::args::{Failover, Perform, Promotion};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::verbs::{block_on, find_node, print_notices};
use crate::wait::{Waiter, primary_settled};

pub fn run(verb: Perform) -> Result<(), CliError> {
    match verb {
        Perform::Failover(args) => failover(&args, "failover"),
        Perform::Switchover(args) => failover(&args, "switchover"),
        Perform::Promotion(args) => promotion(&args),
    }
}

fn failover(args: &Failover, what: &str) -> Result<(), CliError> {
    let located = locate::monitors(&args.monitor)?;
    let formation = located.formation(&args.group.formation.formation);
    let client = located.client();
    block_on(async {
        let group = match args.group.group.or(located.group) {
            Some(group) => group,
            None => match client.count_groups(&formation).await? {
                0 => {
                    return Err(CliError::new(
                        Status::BadState,
                        format!("the monitor has no nodes in formation \"{formation}\""),
                    ));
                }
                1 => only_group(&client, &formation).await?,
                groups => {
                    return Err(CliError::new(
                        Status::BadArguments,
                        format!("formation \"{formation}\" has {groups} groups"),
                    )
                    .hint("say which one: --group N"));
                }
            },
        };
        let waiter = announce(&client, &formation, group, args.wait.wait).await?;
        if args.allow_data_loss {
            warn!("data loss is allowed for this {what}: writes that clients were told are safe may be gone");
            for notice in client.perform_failover_allowing_data_loss(&formation, group).await? {
                warn!("{}: {}", notice.severity, notice.message);
            }
        } else {
            client.perform_failover(&formation, group).await?;
            print_notices(&client);
        }
        match waiter {
            Some(waiter) => waiter.until(|nodes| primary_settled(nodes, None)).await,
            None => Ok(()),
        }
    })
}

fn promotion(args: &Promotion) -> Result<(), CliError> {
    let located = locate::monitors(&args.node.monitor)?;
    let formation = located.formation(&args.node.formation.formation);
    let name = args.node.name.clone().or_else(|| located.node.clone());
    let client = located.client();
    block_on(async {
        let node = find_node(&client, &formation, &name).await?;
        let waiter = announce(&client, &formation, node.group, args.wait.wait).await?;
        let started = client.perform_promotion(&formation, &node.name).await?;
        print_notices(&client);
        match waiter {
            Some(waiter) if started => waiter.until(|nodes| primary_settled(nodes, Some(&node.name))).await,
            _ => Ok(()),
        }
    })
}

async fn only_group(client: &monitor_client::MonitorClient, formation: &str) -> Result<i32, CliError> {
    Ok(client.current_state(formation, None).await?.first().map_or(0, |node| node.group))
}

/// Listens before the call is made, so that no change is missed.
async fn announce<'a>(
    client: &'a monitor_client::MonitorClient,
    formation: &str,
    group: i32,
    wait: u64,
) -> Result<Option<Waiter<'a>>, CliError> {
    if wait == 0 {
        return Ok(None);
    }
    let waiter = Waiter::listen(client, formation, Some(group), wait, true).await?;
    info!("waiting up to {wait} s for a primary in formation \"{formation}\", group {group}");
    Ok(Some(waiter))
}
