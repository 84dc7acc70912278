//! Making a former primary, or a standby that went another way, fit to follow the present primary.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use failover::Lsn;
use tracing::{info, warn};

use super::control::{ControlData, Installation};
use super::standby::{self, Upstream, conninfo};
use super::upstream;
use super::kept;
use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::files;
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

/// Works on a stopped cluster. An error means: copy the primary anew; but for `BadState` and `BadConfig`,
/// which mean: not now, or not by us.
pub async fn run(config: &Config, paths: &Paths, from: &Upstream, node_id: i64) -> Result<Outcome> {
    let install = Installation::of(&config.pg_ctl)?;
    let source = upstream::identify(config, from, node_id).await.map_err(later)?;
    let mut control = install.control_data(&config.pgdata).await?;
    if control.system_identifier != source.system_identifier {
        return Err(KeeperError::state(format!(
            "this data directory belongs to another cluster (system identifier {}, the group's is {})",
            control.system_identifier, source.system_identifier
        )));
    }
    let history = upstream::history(config, from, node_id, source.timeline).await.map_err(later)?;
    let fits = |control: &ControlData| {
        let timeline = control.timeline.max(control.minimum_recovery_timeline);
        // A stop of a primary leaves its shutdown checkpoint as the last record: when that begins at the
        // fork, or beyond, the node wrote past it.
        let end = control.minimum_recovery.max(Lsn(control.checkpoint.0 + 1));
        upstream::can_follow(timeline, end, &source, &history)
    };
    // A base backup, or what pg_rewind left, that has not been started since: nothing but its history
    // counts, and crash recovery would take it on a way of its own.
    let is_copy = config.pgdata.join("backup_label").exists();
    if (is_copy || standby::is_standby(&config.pgdata)) && fits(&control) {
        return Ok(Outcome::NotNeeded);
    }
    if is_copy {
        return Err(KeeperError::postgres("this is a base backup with a history that the primary does not have"));
    }
    let is_standby = standby::is_standby(&config.pgdata);
    if !control.is_clean() {
        // A failover changes the timeline. Somebody's copy that was started on its own did not.
        if control.timeline == source.timeline && !is_standby {
            return Err(KeeperError::postgres(format!(
                "this cluster took writes on the primary's timeline {}, which pg_rewind cannot take back",
                source.timeline
            )));
        }
        control = recover(config, &install, &control).await?;
    }
    let timeline = control.timeline.max(control.minimum_recovery_timeline);
    let ends_alike = match is_standby {
        true => Some(true),
        false => ends_alike(config, from, node_id, &control, source.timeline).await.map_err(later)?,
    };
    if fits(&control) && (ends_alike == Some(true) || ends_alike.is_none() && timeline != source.timeline) {
        info!("this node can follow node {} as it is (timeline {timeline}, {})", from.id, control.checkpoint);
        return Ok(Outcome::NotNeeded);
    }
    if timeline == source.timeline {
        return Err(KeeperError::postgres(format!(
            "this cluster's WAL is not that of the primary on timeline {timeline}, and pg_rewind compares only timelines"
        )));
    }
    if !control.can_rewind() {
        return Err(KeeperError::postgres("pg_rewind needs wal_log_hints or data checksums, and has neither"));
    }
    kept::save(config, paths)?;
    files::write_atomic(&mark(paths), b"", 0o600)?;
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
        .await
        .map_err(|error| if passes(&error.message) { later(error) } else { error })?;
    files::remove(&mark(paths))?;
    kept::restore(config, paths)?;
    Ok(Outcome::Rewound)
}

/// There from before pg_rewind writes until it has ended well.
fn mark(paths: &Paths) -> PathBuf {
    paths.data_home.join("rewinding")
}

/// What pg_rewind leaves when it is cut short is neither the old cluster nor the new one: it cannot be
/// rewound again, and must not be started. From here on it counts as no cluster at all, to be copied.
pub fn discard_unfinished(config: &Config, paths: &Paths) -> Result<()> {
    let mark = mark(paths);
    if !mark.exists() {
        return Ok(());
    }
    warn!("pg_rewind was cut short: {} is no cluster any more", config.pgdata.display());
    files::remove(&config.pgdata.join("PG_VERSION"))?;
    files::remove(&mark)
}

/// No reason to copy everything anew.
fn later(error: KeeperError) -> KeeperError {
    KeeperError::state(error.message)
}

/// Does the program's complaint tell of something that passes, or that a copy would meet as well?
fn passes(said: &str) -> bool {
    ["connection to server", "server closed the connection", "could not receive data", "No space left on device",
     "Read-only file system", "Input/output error", "terminating connection"].iter().any(|words| said.contains(words))
}

/// The head of a WAL record: its length, predecessor, kind and checksum tell it from any other.
const RECORD_HEAD: u64 = 24;

/// Does the upstream have this cluster's last checkpoint at the same place in its WAL? `None` when it
/// does not have that WAL any more. Timeline and position alone do not tell: a copy that was started on
/// its own, say to look at it, keeps both.
async fn ends_alike(
    config: &Config,
    from: &Upstream,
    node_id: i64,
    control: &ControlData,
    newest_timeline: u32,
) -> Result<Option<bool>> {
    let (at, size) = (control.checkpoint.0, control.wal_segment_size);
    let (offset, segment) = (at % size, at / size);
    let length = RECORD_HEAD.min(size - offset);
    let name = |timeline: u32| {
        let per_id = 0x1_0000_0000 / size;
        format!("{timeline:08X}{:08X}{:08X}", segment / per_id, segment % per_id)
    };
    let mut own = vec![0; length as usize];
    let path = config.pgdata.join("pg_wal").join(name(control.timeline));
    std::fs::File::open(&path)
        .and_then(|file| file.read_exact_at(&mut own, offset))
        .map_err(|error| KeeperError::io(format!("cannot read {}", path.display()), &error))?;
    let own: String = own.iter().map(|byte| format!("{byte:02x}")).collect();
    // A promotion copies the segment of the fork to the new timeline's name.
    for timeline in control.timeline..=newest_timeline {
        let theirs = upstream::read_wal(config, from, node_id, &name(timeline), offset, length).await?;
        if !theirs.is_empty() {
            return Ok(Some(theirs == own));
        }
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_cluster_half_rewound_counts_as_none_and_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::config::tests::sample(&dir.path().join("data"));
        let home = dir.path().join("home");
        let file = |name: &str| dir.path().join(name);
        let paths = Paths {
            pgdata: config.pgdata.clone(),
            config: file("cfg"),
            state: file("state"),
            init: file("init"),
            pid: file("pid"),
            data_home: home.clone(),
        };
        let version = config.pgdata.join("PG_VERSION");
        fs::create_dir_all(&home).unwrap();
        fs::create_dir_all(&config.pgdata).unwrap();
        fs::write(&version, "15\n").unwrap();
        discard_unfinished(&config, &paths).unwrap();
        assert!(version.exists());
        files::write_atomic(&mark(&paths), b"", 0o600).unwrap();
        // Twice: it may be cut short itself.
        discard_unfinished(&config, &paths).unwrap();
        discard_unfinished(&config, &paths).unwrap();
        assert!(!version.exists() && !mark(&paths).exists());
    }
}
