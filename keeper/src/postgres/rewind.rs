//! Making a former primary, or a standby that went another way, fit to follow the present primary.

use std::time::Duration;

use tracing::{info, warn};

use super::control::{ControlData, Installation};
use super::standby::{self, Upstream, conninfo};
use super::upstream;
use super::kept;
use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::paths::Paths;

/// Crash recovery in single-user mode, and pg_rewind itself, copy and replay gigabytes.
const LONG: Duration = Duration::from_secs(6 * 3600);

/// What was found, and done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It can follow as it is.
    NotNeeded,
    Rewound,
}

/// Works on a stopped cluster. An error means: copy the primary anew.
pub async fn run(config: &Config, paths: &Paths, from: &Upstream, node_id: i64) -> Result<Outcome> {
    let install = Installation::of(&config.pg_ctl)?;
    let source = upstream::identify(config, from, node_id).await?;
    let mut control = install.control_data(&config.pgdata).await?;
    if control.system_identifier != source.system_identifier {
        return Err(KeeperError::state(format!(
            "this data directory belongs to another cluster (system identifier {}, the group's is {})",
            control.system_identifier, source.system_identifier
        )));
    }
    let history = upstream::history(config, from, node_id, source.timeline).await?;
    let fits = |control: &ControlData| {
        let timeline = control.timeline.max(control.minimum_recovery_timeline);
        // A stop of a primary leaves its shutdown checkpoint as the last record: when that lies
        // beyond the fork, the node wrote past it.
        upstream::can_follow(timeline, control.minimum_recovery.max(control.checkpoint), &source, &history)
    };
    if standby::is_standby(&config.pgdata) && fits(&control) {
        return Ok(Outcome::NotNeeded);
    }
    if !control.is_clean() {
        control = recover(config, &install, &control).await?;
    }
    let timeline = control.timeline.max(control.minimum_recovery_timeline);
    if fits(&control) {
        info!("this node can follow node {} as it is (timeline {timeline}, {})", from.id, control.checkpoint);
        return Ok(Outcome::NotNeeded);
    }
    if !control.can_rewind() {
        return Err(KeeperError::postgres("pg_rewind needs wal_log_hints or data checksums, and has neither"));
    }
    kept::save(config, paths)?;
    info!(
        "this node wrote WAL on timeline {timeline} that node {} (timeline {}) does not have: running pg_rewind",
        from.id, source.timeline
    );
    install
        .program("pg_rewind")
        .arg("--target-pgdata")
        .arg(&config.pgdata)
        .args(["--no-ensure-shutdown", "--progress", "--source-server"])
        .arg(conninfo(config, from, node_id, Some(&config.dbname)))
        .password(config.replication_password.as_deref())
        .logged()
        .tied()
        .run(LONG)
        .await?;
    kept::restore(config, paths)?;
    Ok(Outcome::Rewound)
}

/// Brings a cluster that crashed to a clean stop. A former primary recovers in single-user mode, where
/// nobody can connect. So does a standby that is about to be rewound: it leaves recovery thereby, which
/// is of no consequence, as everything from the fork on is replaced. Its signal file comes back before
/// the next start.
async fn recover(config: &Config, install: &Installation, control: &ControlData) -> Result<ControlData> {
    if standby::is_standby(&config.pgdata) {
        // What it has replayed is known well enough for the comparison with the history: rewinding
        // needs a clean stop though, and takes the signal away for that moment.
        warn!("this standby did not stop cleanly ({}): recovering it first", control.state);
        crate::files::remove(&config.pgdata.join("standby.signal"))?;
    } else {
        info!("PostgreSQL did not stop cleanly ({}): crash recovery first, without clients", control.state);
    }
    install
        .program("postgres")
        .args(["--single", "-F", "-c", "restore_command=", "-c", "archive_mode=off", "-D"])
        .arg(&config.pgdata)
        .arg("template1")
        .tied()
        .run(LONG)
        .await
        .map_err(|error| match error.message.contains("configuration file") {
            // Somebody's mistake in a file is no reason to copy everything anew.
            true => KeeperError::config(error.message),
            false => error,
        })
        .map_err(|error| error.while_doing("crash recovery"))?;
    install.control_data(&config.pgdata).await
}
