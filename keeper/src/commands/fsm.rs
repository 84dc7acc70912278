//! `inspect fsm` (`do fsm` in pg_autoctl) on a node without monitors: an operator gives the goals and names
//! the peers.

use std::path::Path;
use std::time::Duration;

use failover::NodeState;
use monitor_client::GroupNode;
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use super::service;
use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::keeper::{Keeper, Until};
use crate::paths::Paths;
use crate::signals::Signals;
use crate::source::{self, Operator};
use crate::state_file::KeeperState;
use crate::transitions;

/// The operator's files of a node without monitors.
fn operator(paths: &Paths) -> Result<Operator> {
    match Config::load(&paths.config)?.has_monitor() {
        false => Ok(Operator::of(paths)),
        true => Err(KeeperError::state(
            "this node has monitors, which give the goals: `pgquorum perform`, `pgquorum enable maintenance` and \
             `pgquorum set` ask them. `pgquorum disable monitor` takes them from the node",
        )),
    }
}

fn state(paths: &Paths) -> Result<KeeperState> {
    KeeperState::load(&paths.state)?.ok_or_else(|| {
        KeeperError::state(format!(
            "{} does not exist: `pgquorum inspect fsm init --node-id N` makes it",
            paths.state.display()
        ))
    })
}

/// A node that has just been made, or whose state file is gone, has the state `init`.
pub fn init(pgdata: &Path, node_id: Option<i64>) -> Result<()> {
    let paths = Paths::of(pgdata)?;
    let operator = operator(&paths)?;
    let _lock = service::PidLock::take(&paths)?;
    let before = KeeperState::load(&paths.state)?;
    if let Some(before) = before.as_ref().filter(|state| state.current != NodeState::Init) {
        return Err(KeeperError::state(format!(
            "the node is {}, not init: `pgquorum inspect fsm assign` leads on from there. To begin anew, move {} away first",
            before.current,
            paths.state.display()
        )));
    }
    let id = before.as_ref().map(|state| state.node_id).or(node_id).ok_or_else(|| {
        KeeperError::arguments("which node is it? --node-id N names the number that its peers have for it")
    })?;
    operator.forget()?;
    KeeperState::new(id, 0, NodeState::Init).save(&paths.state)
}

/// Gives the goal and waits until it is reached: by the keeper that runs, or by this process.
pub async fn assign(pgdata: &Path, goal: NodeState, patience: Duration) -> Result<()> {
    super::refuse_root()?;
    let paths = Paths::of(pgdata)?;
    let operator = operator(&paths)?;
    let now = state(&paths)?;
    if goal == NodeState::Dropped {
        return Err(KeeperError::arguments("`pgquorum drop node` drops a node"));
    }
    if transitions::steps(now.current, goal).is_none() {
        let reachable: Vec<&str> = NodeState::ALL
            .iter()
            .filter(|to| **to != now.current && **to != NodeState::Dropped)
            .filter(|to| transitions::steps(now.current, **to).is_some())
            .map(|to| to.name())
            .collect();
        return Err(KeeperError::state(format!(
            "no way leads from {} to {goal}; from there a node goes to {}",
            now.current,
            reachable.join(", ")
        )));
    }
    operator.set_goal(goal)?;
    match service::running(&paths) {
        Some(_) => reached(&paths, goal, patience).await,
        None => take_steps(paths, patience).await,
    }
}

/// Reaches the goal that was given, without a keeper that stays. PostgreSQL runs on under the guardian.
pub async fn step(pgdata: &Path, patience: Duration) -> Result<()> {
    super::refuse_root()?;
    let paths = Paths::of(pgdata)?;
    operator(&paths)?;
    state(&paths)?;
    take_steps(paths, patience).await
}

async fn take_steps(paths: Paths, patience: Duration) -> Result<()> {
    let mut signals = Signals::install()?;
    let _lock = service::PidLock::take(&paths)?;
    match timeout(patience, Keeper::open(paths).await?.run(Until::Reached, &mut signals)).await {
        Ok(ended) => ended,
        Err(_) => Err(not_reached(patience)),
    }
}

fn not_reached(patience: Duration) -> KeeperError {
    KeeperError::keeper(format!(
        "the goal was not reached within {} s; the keeper's log tells why, and a keeper that runs goes on trying",
        patience.as_secs()
    ))
}

async fn reached(paths: &Paths, goal: NodeState, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let now = state(paths)?;
        if now.current == goal && now.assigned == goal {
            info!("the node is {goal}");
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(not_reached(patience));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The nodes that the operator named.
pub fn nodes(pgdata: &Path) -> Result<Vec<GroupNode>> {
    operator(&Paths::of(pgdata)?)?.nodes()
}

/// Takes the group's nodes, this one included or not, from a file.
pub fn set_nodes(pgdata: &Path, file: &Path) -> Result<Vec<GroupNode>> {
    let operator = operator(&Paths::of(pgdata)?)?;
    let nodes = source::read_nodes(file)?;
    operator.set_nodes(&nodes)?;
    Ok(nodes)
}
