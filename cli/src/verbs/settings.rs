//! `pgquorum get ...` and `pgquorum set ...`

use failover::NodeState;
use monitor_client::NodeRow;
use serde_json::{Value, json};

use crate::args::{Get, GetFormation, GetNode, GetNodeArgs, NodeArgs, Set, SetFormation, SetNode, ShowFormation};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::verbs::{block_on, find_node, print_notices, show};
use crate::wait::{Waiter, Wanted, describe};

/// As long as pg_autoctl waits for the primary to apply a setting.
const APPLY_WAIT_SECONDS: u64 = 60;

pub fn get(verb: Get) -> Result<(), CliError> {
    match verb {
        Get::Node(GetNode::CandidatePriority(args)) => {
            get_node(&args, "candidate-priority", |node| json!(node.candidate_priority))
        }
        Get::Node(GetNode::ReplicationQuorum(args)) => {
            get_node(&args, "replication-quorum", |node| json!(node.replication_quorum))
        }
        Get::Formation(GetFormation::Settings(args)) => show::formation_settings(&args),
        Get::Formation(GetFormation::NumberSyncStandbys(args)) => get_number(&args),
    }
}

pub fn set(verb: Set) -> Result<(), CliError> {
    match verb {
        Set::Node(SetNode::CandidatePriority(args)) => {
            let change = Change::Priority(args.value);
            set_node(&args.node, args.json.json, change)
        }
        Set::Node(SetNode::ReplicationQuorum(args)) => {
            let change = Change::Quorum(args.value);
            set_node(&args.node, args.json.json, change)
        }
        Set::Formation(SetFormation::NumberSyncStandbys(args)) => set_number(&args.show, args.value),
    }
}

fn get_node(args: &GetNodeArgs, key: &str, value: impl Fn(&NodeRow) -> Value) -> Result<(), CliError> {
    let located = locate::monitors(&args.node.monitor)?;
    let formation = located.formation(&args.node.formation.formation);
    let name = args.node.name.clone().or_else(|| located.node.clone());
    let client = located.client();
    block_on(async {
        let node = find_node(&client, &formation, &name).await?;
        match args.json.json {
            true => output::json(&json!({"name": node.name, key: value(&node)})),
            false => output::line(&value(&node).to_string()),
        }
    })
}

fn get_number(args: &ShowFormation) -> Result<(), CliError> {
    let located = locate::monitors(&args.monitor)?;
    let formation = located.formation(&args.formation.formation);
    let client = located.client();
    block_on(async {
        let number = client.number_sync_standbys(&formation).await?.ok_or_else(|| {
            CliError::new(Status::Monitor, format!("there is no formation \"{formation}\""))
        })?;
        print_value(args.json.json, "number-sync-standbys", json!(number))
    })
}

#[derive(Clone, Copy)]
enum Change {
    Priority(i32),
    Quorum(bool),
}

fn set_node(args: &NodeArgs, as_json: bool, change: Change) -> Result<(), CliError> {
    let located = locate::monitors(&args.monitor)?;
    let formation = located.formation(&args.formation.formation);
    let name = args.name.clone().or_else(|| located.node.clone());
    let client = located.client();
    block_on(async {
        let node = find_node(&client, &formation, &name).await?;
        let waiter = Waiter::listen(&client, &formation, Some(node.group), APPLY_WAIT_SECONDS, false).await?;
        let (key, value) = match change {
            Change::Priority(value) => {
                client.set_candidate_priority(&formation, &node.name, value).await?;
                ("candidate-priority", json!(value))
            }
            Change::Quorum(value) => {
                client.set_replication_quorum(&formation, &node.name, value).await?;
                ("replication-quorum", json!(value))
            }
        };
        print_notices(&client);
        waiter.until(applied).await?;
        print_value(as_json, key, value)
    })
}

fn set_number(args: &ShowFormation, number: i32) -> Result<(), CliError> {
    let located = locate::monitors(&args.monitor)?;
    let formation = located.formation(&args.formation.formation);
    let client = located.client();
    block_on(async {
        let waiter = Waiter::listen(&client, &formation, None, APPLY_WAIT_SECONDS, false).await?;
        client.set_number_sync_standbys(&formation, number).await?;
        print_notices(&client);
        waiter.until(applied).await?;
        print_value(args.json.json, "number-sync-standbys", json!(number))
    })
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

fn print_value(as_json: bool, key: &str, value: Value) -> Result<(), CliError> {
    match as_json {
        true => output::json(&json!({key: value})),
        false => output::line(&value.to_string()),
    }
}
