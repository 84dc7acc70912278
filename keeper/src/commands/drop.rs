//! `drop node --pgdata`: takes this machine's node out of its group.

use std::fs;
use std::path::Path;
use std::time::Duration;

use failover::NodeState;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::service::{self, StopHow};
use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::files;
use crate::guardian::client::Guardian;
use crate::guardian::protocol::Request;
use crate::keeper::{Keeper, Until};
use crate::paths::Paths;
use crate::postgres::control::PidFile;
use crate::postgres::start;
use crate::signals::Signals;
use crate::source::{Operator, monitor_client};
use crate::state_file::KeeperState;

/// Removes the node from the monitors, stops PostgreSQL, and removes the keeper's files. With `destroy`
/// the data directory goes as well.
pub async fn drop_node(pgdata: &Path, destroy: bool, force: bool, wait: Duration) -> Result<()> {
    super::refuse_root()?;
    let paths = Paths::of(pgdata)?;
    let config = Config::load(&paths.config)?;
    let state = KeeperState::load(&paths.state)?
        .ok_or_else(|| KeeperError::state(format!("{} does not exist", paths.state.display())))?;
    let client = config.has_monitor().then(|| monitor_client(&config)).transpose()?;
    let known = match &client {
        Some(client) => client.remove_node(&config.formation, &config.name, force).await?,
        None => false,
    };
    if client.is_some() && !known {
        warn!("the monitors do not know node \"{}\" any more", config.name);
    }
    if let Some(client) = client.filter(|_| known && !force)
        && state.current != NodeState::Dropped
    {
        // The keeper stops PostgreSQL, tells the monitors, and ends; without one we are the keeper.
        if service::running(&paths).is_none() {
            let _lock = service::PidLock::take(&paths)?;
            let mut signals = Signals::install()?;
            match Keeper::open(paths.clone()).await?.run(Until::Stopped, &mut signals).await {
                Err(error) if error.exit == crate::error::Exit::Dropped => {}
                other => return other,
            }
        }
        let deadline = Instant::now() + wait;
        while client.get_nodes(&config.formation, None).await?.iter().any(|node| node.id == state.node_id) {
            if Instant::now() > deadline {
                return Err(KeeperError::monitor(format!(
                    "node {} is still registered after {} s",
                    state.node_id,
                    wait.as_secs()
                )));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    let deadline = Instant::now() + wait.max(Duration::from_secs(5));
    while service::running(&paths).is_some() {
        if known && !force && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        service::stop(pgdata, StopHow::Fast).await?;
    }
    if !config.has_monitor() {
        // Nobody else stops what ran on without a keeper.
        let (guardian, _events) = Guardian::new(&paths.data_home, &config.pgdata);
        start::stop(&config, &guardian).await?;
        let _ = guardian.ask(&Request::Quit).await;
        Operator::of(&paths).forget()?;
    }
    files::remove(&paths.init)?;
    if destroy {
        if PidFile::live(&config.pgdata)?.is_some() {
            return Err(KeeperError::postgres("PostgreSQL still runs: its data directory stays"));
        }
        fs::remove_dir_all(&config.pgdata)
            .map_err(|error| KeeperError::io(format!("cannot remove {}", config.pgdata.display()), &error))?;
        let _ = fs::remove_dir_all(&config.backup_directory);
        files::remove(&paths.state)?;
        files::remove(&paths.config)?;
        info!("removed {} and the keeper's files", config.pgdata.display());
    } else {
        let mut state = state;
        (state.current, state.assigned) = (NodeState::Dropped, NodeState::Dropped);
        state.save(&paths.state)?;
        info!("node {} is dropped; {} stays", state.node_id, config.pgdata.display());
    }
    Ok(())
}
