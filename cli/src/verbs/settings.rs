//! `pgquorum get ...` and `pgquorum set ...`

use failover::NodeState;
use monitor_client::{CallError, NodeRow};
use serde_json::{Value, json};

use crate::args::change::{Get, GetFormation, GetNode, GetNodeArgs, Set, SetFormation, SetNode, SetNumber, SetRegion};
use crate::args::show::ShowFormation;
use crate::args::{NodeArgs, WaitArgs};
use crate::exit::{CliError, Status};
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
        Get::Node(GetNode::Region(args)) => get_region(&args),
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
        Set::Node(SetNode::Region(args)) => set_region(&args),
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

/// A monitor before release 2.3 has no word for it.
pub fn regions_unknown(error: CallError) -> CliError {
    let unknown = matches!(error.code(), Some("42883" | "42703"));
    let error = CliError::from(error);
    if unknown { error.hint("monitors of this release know no regions") } else { error }
}

fn get_region(args: &GetNodeArgs) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.node.monitor, &args.node.formation.formation)?;
        let name = operator.node_name(&args.node.name);
        let node = find_node(&operator.client, &operator.formation, &name).await?;
        let region = operator.client.region(&operator.formation, &node.name).await.map_err(regions_unknown)?;
        let region = region.ok_or_else(|| CliError::new(Status::Monitor, format!("node \"{}\" is gone", node.name)))?;
        match args.json.json {
            true => output::json(&json!({"name": node.name, "region": region})),
            false => output::line(&region),
        }
    })
}

/// Nothing is waited for: no keeper has to do anything.
fn set_region(args: &SetRegion) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.node.monitor, &args.node.formation.formation)?;
        let (client, formation) = (&operator.client, &operator.formation);
        let node = find_node(client, formation, &operator.node_name(&args.node.name)).await?;
        client.set_region(formation, &node.name, &args.value).await.map_err(regions_unknown)?;
        print_notices(client);
        match args.json.json {
            true => output::json(&json!({"region": args.value})),
            false => output::line(&args.value),
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

/// A setting that the primary has to apply.
#[derive(Clone, Copy)]
pub enum Change {
    Priority(i32),
    Quorum(bool),
}

impl Change {
    pub fn name(self) -> &'static str {
        match self {
            Change::Priority(_) => "candidate-priority",
            Change::Quorum(_) => "replication-quorum",
        }
    }

    pub fn value(self) -> Value {
        match self {
            Change::Priority(value) => json!(value),
            Change::Quorum(value) => json!(value),
        }
    }

    /// Has it stored, and waits for the primary unless no seconds are given.
    pub async fn make(self, operator: &Operator, node: &NodeRow, wait: Option<u64>) -> Result<(), CliError> {
        let (client, formation) = (&operator.client, &operator.formation);
        let waiter = listen(operator, Some(node.group), wait).await?;
        match self {
            Change::Priority(value) => client.set_candidate_priority(formation, &node.name, value).await?,
            Change::Quorum(value) => client.set_replication_quorum(formation, &node.name, value).await?,
        };
        print_notices(client);
        match waiter {
            Some(waiter) => waiter.until(applied).await,
            None => Ok(()),
        }
    }
}

fn set_node(args: &NodeArgs, as_json: bool, wait: &WaitArgs, change: Change) -> Result<(), CliError> {
    block_on(async {
        let operator = Operator::new(&args.monitor, &args.formation.formation)?;
        let node = find_node(&operator.client, &operator.formation, &operator.node_name(&args.name)).await?;
        change.make(&operator, &node, wait.seconds()).await?;
        print_value(as_json, json!({change.name(): change.value()}), change.value())
    })
}

fn set_number(args: &SetNumber) -> Result<(), CliError> {
    block_on(async {
        let show = &args.show;
        let operator = Operator::new(&show.monitor, &show.formation.formation)?;
        let waiter = listen(&operator, None, args.wait.seconds()).await?;
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
    wait: Option<u64>,
) -> Result<Option<Waiter<'a>>, CliError> {
    let Some(wait) = wait else { return Ok(None) };
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
