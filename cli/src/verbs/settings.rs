//! `pgquorum get ...` and `pgquorum set ...`

use failover::NodeState;
use monitor_client::NodeRow;
use serde_json::{Value, json};

use crate::args::change::{Get, GetFormation, GetNode, GetNodeArgs, Set, SetFormation, SetNode, SetNumber};
use crate::args::show::ShowFormation;
use crate::args::{NodeArgs, WaitArgs};
use crate::exit::CliError;
use crate::locate::Operator;
use crate::output;
use crate::verbs::{block_on, find_node, local, no_formation, print_notices, show};
use crate::wait::{Print, Waiter, Wanted, describe};

pub fn get(verb: Get) -> Result<(), CliError> {
    match verb {
        Get::Node(GetNode::CandidatePriority(args)) => {
            get_node(&args, "candidate-priority", |node| json!(node.candidate_priority))
        }
        Get::Node(GetNode::ReplicationQuorum(args)) => {
            get_node(&args, "replication-quorum", |node| json!(node.replication_quorum))
        }
        Get::Formation(GetFormation::Settings(args)) => show::settings(&args),
        Get::Formation(GetFormation::NumberSyncStandbys(args)) => get_number(&args),
    }
}

pub fn set(verb: Set) -> Result<(), CliError> {
    match verb {
        Set::Node(SetNode::CandidatePriority(args)) => {
            set_node(&args.node, args.json.json, &args.wait, Change::Priority(args.value))
        }
        Set::Node(SetNode::ReplicationQuorum(args)) => {
            set_node(&args.node, args.json.json, &args.wait, Change::Quorum(args.value))
        }
        Set::Node(SetNode::Metadata(args)) => local::set_metadata(&args),
        Set::Formation(SetFormation::NumberSyncStandbys(args)) => set_number(&args),
    }
}

fn get_node(args: &GetNodeArgs, key: &str, value: impl Fn(&NodeRow) -> Value) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.node.monitor, &args.node.formation.formation)?;
        let name = operator.node_name(&args.node.name);
        let node = find_node(&operator.client, &operator.formation, &name).await?;
        match args.json.json {
            true => output::json(&json!({"name": node.name, key: value(&node)})),
            false => output::line(&value(&node).to_string()),
        }
    })
}

fn get_number(args: &ShowFormation) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.formation.formation)?;
        let formation = &operator.formation;
        let number = operator.client.number_sync_standbys(formation).await?.ok_or_else(|| no_formation(formation))?;
        print_value(args.json.json, json!({"number-sync-standbys": number}), json!(number))
    })
}

#[derive(Clone, Copy)]
enum Change {
    Priority(i32),
    Quorum(bool),
}

fn set_node(args: &NodeArgs, as_json: bool, wait: &WaitArgs, change: Change) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.formation.formation)?;
        let (client, formation) = (&operator.client, &operator.formation);
        let node = find_node(client, formation, &operator.node_name(&args.name)).await?;
        let waiter = listen(&operator, Some(node.group), wait).await?;
        let (key, value) = match change {
            Change::Priority(value) => {
                client.set_candidate_priority(formation, &node.name, value).await?;
                ("candidate-priority", json!(value))
            }
            Change::Quorum(value) => {
                client.set_replication_quorum(formation, &node.name, value).await?;
                ("replication-quorum", json!(value))
            }
        };
        print_notices(client);
        if let Some(waiter) = waiter {
            waiter.until(applied).await?;
        }
        print_value(as_json, json!({key: value}), value)
    })
}

fn set_number(args: &SetNumber) -> Result<(), CliError> {
    block_on(async {
        let show = &args.show;
        let operator = Operator::new(&show.monitor, &show.formation.formation)?;
        let waiter = listen(&operator, None, &args.wait).await?;
        operator.client.set_number_sync_standbys(&operator.formation, args.value).await?;
        print_notices(&operator.client);
        if let Some(waiter) = waiter {
            waiter.until(applied).await?;
        }
        let mut object = json!({"number-sync-standbys": args.value});
        // As pg_autoctl: what the first group's primary makes of it.
        if show.json.json
            && let Ok(names) = operator.client.synchronous_standby_names(&operator.formation, 0).await
        {
            object["synchronous_standby_names"] = json!(names);
        }
        print_value(show.json.json, object, json!(args.value))
    })
}

async fn listen<'a>(
    operator: &'a Operator,
    group: Option<i32>,
    wait: &WaitArgs,
) -> Result<Option<Waiter<'a>>, CliError> {
    let Some(wait) = wait.seconds() else { return Ok(None) };
    Waiter::listen(&operator.client, &operator.formation, group, wait, Print::Log).await.map(Some)
}

/// No primary is still busy with the new setting.
fn applied(nodes: &[NodeRow]) -> Wanted {
    let busy = |node: &&NodeRow| {
        node.reported == NodeState::ApplySettings || node.goal == NodeState::ApplySettings
    };
    match nodes.iter().find(busy) {
        None => Wanted::Done,
        Some(node) => Wanted::Missing(format!(
            "the setting is stored, but \"{}\" has not applied it; {}",
            node.name,
            describe(nodes)
        )),
    }
}

fn print_value(as_json: bool, object: Value, value: Value) -> Result<(), CliError> {
    match as_json {
        true => output::json(&object),
        false => output::line(&value.to_string()),
    }
}
