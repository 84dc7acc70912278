//! `pgquorum drop ...`

use tracing::info;

use crate::args::change::{DropFormation, DropNode, DropVerb};
use crate::exit::{CliError, Status};
use crate::locate::{self, Operator};
use crate::output;
use crate::verbs::{block_on, drop_monitor, print_notices};
use crate::wait::{Print, Waiter, Wanted, describe, outcome};

pub fn run(verb: DropVerb) -> Result<(), CliError> {
    match verb {
        DropVerb::Monitor(args) => drop_monitor::run(&args),
        DropVerb::Node(args) if args.is_local() => crate::verbs::node::drop_local(&args),
        DropVerb::Node(args) if args.destroy => Err(CliError::new(
            Status::BadArguments,
            "--destroy removes a data directory of this machine: name it with --pgdata, and nothing else",
        )),
        DropVerb::Node(args) => node(&args),
        DropVerb::Formation(args) => formation(&args),
    }
}

fn node(args: &DropNode) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.formation.formation)?;
        let (client, formation) = (&operator.client, &operator.formation);
        let nodes = client.current_state(formation, None).await?;
        let found = nodes.iter().find(|node| match (&args.name, &args.hostname, args.pgport) {
            (Some(name), _, _) => node.name == *name,
            (None, Some(host), Some(port)) => node.host == *host && node.port == port,
            _ => false,
        });
        let Some(node) = found else {
            return Err(CliError::new(Status::Monitor, format!("formation \"{formation}\" has no such node"))
                .hint("`pgquorum show state` lists the nodes"));
        };
        // Without its keeper's word nothing can be waited for.
        let waiter = match args.wait.seconds().filter(|_| !args.force) {
            Some(wait) => {
                let print = Print::result(args.json.json);
                Some(Waiter::listen(client, formation, Some(node.group), wait, print).await?)
            }
            None => None,
        };
        client.remove_node(formation, &node.name, args.force).await?;
        print_notices(client);
        if waiter.is_none() && args.json.json {
            // Forgotten by force, it is gone already.
            output::json(&outcome(formation, Some(node.group), args.force, &[]))?;
        }
        if let Some(waiter) = waiter {
            let gone = |nodes: &[monitor_client::NodeRow]| match nodes.iter().any(|other| other.id == node.id) {
                false => Wanted::Done,
                true => Wanted::Missing(format!(
                    "\"{}\" has not confirmed that it stopped; {}",
                    node.name,
                    describe(nodes)
                )),
            };
            waiter.until(gone).await.map_err(|error| {
                error.hint("if its machine is gone for good, `pgquorum drop node --force` forgets it")
            })?;
        }
        info!("dropped node \"{}\" ({}:{}) of formation \"{formation}\"", node.name, node.host, node.port);
        Ok(())
    })
}

fn formation(args: &DropFormation) -> Result<(), CliError> {
    block_on(async {
        let client = locate::monitors(&args.monitor)?.client();
        client.drop_formation(&args.formation).await.map_err(|error| match error.code() {
            Some("23503") => CliError::from(error)
                .hint(format!("it has nodes: `pgquorum show state --formation {}`, `pgquorum drop node`", args.formation)),
            _ => error.into(),
        })?;
        print_notices(&client);
        info!("dropped formation \"{}\"", args.formation);
        Ok(())
    })
}
