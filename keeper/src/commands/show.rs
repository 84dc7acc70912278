//! `show file` and `show state --local`. Both only read.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::files;
use crate::paths::Paths;
use crate::postgres::control::{Installation, PidFile};
use crate::postgres::facts::Facts;
use crate::postgres::sql::{LocalServer, Sql};
use crate::state_file::KeeperState;

/// The four files, with upstream's labels.
pub fn files_of(pgdata: &Path) -> Result<[(&'static str, String); 4]> {
    let paths = Paths::of(pgdata)?;
    let shown = |path: &Path| path.display().to_string();
    Ok([
        ("Config", shown(&paths.config)),
        ("State", shown(&paths.state)),
        ("Init", shown(&paths.init)),
        ("Pid", shown(&paths.pid)),
    ])
}

/// The content of a text file of the node.
pub fn contents(path: &str) -> Result<String> {
    files::read_text(Path::new(path))?.ok_or_else(|| KeeperError::state(format!("{path} does not exist")))
}

/// The state file in words.
pub fn state(pgdata: &Path) -> Result<KeeperState> {
    let paths = Paths::of(pgdata)?;
    KeeperState::load(&paths.state)?
        .ok_or_else(|| KeeperError::state(format!("{} does not exist", paths.state.display())))
}

/// `show file --state --contents --json`.
pub fn state_json(state: &KeeperState) -> Value {
    json!({
        "current_role": state.current.name(),
        "assigned_role": state.assigned.name(),
        "version": 1,
        "groupId": state.group,
        "nodeId": state.node_id,
        "last_monitor_contact": state.last_monitor_contact,
        "last_secondary_contact": state.last_secondary_contact,
        "pgversion": state.pg_version,
        "epoch": state.epoch,
    })
}

/// `show state --local --json`: this node as it sees itself.
pub async fn local_state(pgdata: &Path) -> Result<Value> {
    let paths = Paths::of(pgdata)?;
    let config = Config::load(&paths.config)?;
    let state = state(pgdata)?;
    let control = Installation::of(&config.pg_ctl)?.control_data(&config.pgdata).await.ok();
    let running = PidFile::live(&config.pgdata)?.is_some();
    let facts = match Sql::connect(&LocalServer::of(&config), Duration::from_secs(2)).await {
        Ok(sql) if running => Facts::ask(&sql, Duration::from_secs(2)).await.ok(),
        _ => None,
    };
    Ok(json!({
        "node_id": state.node_id,
        "group_id": state.group,
        "nodename": config.name,
        "nodehost": config.hostname,
        "nodeport": config.port,
        "current_group_state": state.current.name(),
        "assigned_group_state": state.assigned.name(),
        "timeline": facts.as_ref().map(|f| f.timeline).or(control.as_ref().map(|c| c.timeline)).unwrap_or(0),
        // Where PostgreSQL runs, upstream has its present position under this name.
        "Minimum Recovery Ending LSN": facts.as_ref().map(|f| f.lsn.to_string())
            .or(control.map(|c| c.minimum_recovery.max(c.checkpoint).to_string())).unwrap_or_default(),
        "reachable": if facts.is_some() { "yes" } else { "no" },
        "conntype": match &facts {
            Some(f) if f.in_recovery => "read-only",
            Some(_) => "read-write",
            None => "none",
        },
    }))
}
