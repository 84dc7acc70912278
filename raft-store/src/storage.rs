//! Opens or creates a replica's store: identity file, log, snapshots.
//!
//! ```text
//! <data_dir>/identity        whose store this is
//! <data_dir>/log/            sled
//! <data_dir>/log.mark        what has been acknowledged at least
//! <data_dir>/examined/       a copy of the log while a start looks at it
//! <data_dir>/snapshots/      the newest two
//! <data_dir>/store.damaged-N what a rejoin moved aside
//! ```

use std::num::NonZeroU64;
use std::path::Path;

use rustix::thread::{current_timer_slack, set_current_timer_slack};

use crate::config::{Config, Member};
use crate::error::StartError;
use crate::identity::Identity;
use crate::internal::random_id;
use crate::log_store::{LogStore, OpenError};
use crate::log_writer::sync_dir;
use crate::snapshot_file::SnapshotFile;

const IDENTITY: &str = "identity";
const LOG: &str = "log";
const MARK: &str = "log.mark";
const SNAPSHOTS: &str = "snapshots";

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> StartError + use<> {
    let path = path.to_path_buf();
    move |source| StartError::Io { path, source }
}

fn damaged(path: &Path, what: impl ToString) -> StartError {
    StartError::Store { path: path.to_path_buf(), what: what.to_string() }
}

impl From<OpenError> for StartError {
    fn from(e: OpenError) -> Self {
        // A second process on the same directory is no damage.
        if e.what.contains(crate::log_files::LOCKED) {
            return StartError::Config(format!("{}: another process is using this store", e.path.display()));
        }
        StartError::Store { path: e.path, what: e.what }
    }
}

/// Directory of the snapshots.
pub fn snapshot_dir(cfg: &Config) -> std::path::PathBuf {
    cfg.data_dir.join(SNAPSHOTS)
}

/// Path of the identity file.
pub fn identity_path(cfg: &Config) -> std::path::PathBuf {
    cfg.data_dir.join(IDENTITY)
}

/// Nanoseconds by which timers of the store's threads may be late: an hour.
const SLACK: Option<NonZeroU64> = NonZeroU64::new(3_600_000_000_000);

/// Starts threads that may sleep long. sled keeps seven that look for work once a second, for as long as the
/// process lives; they are woken for all work that there is. Threads inherit the slack of their timers from
/// the one that starts them, be it the log's writer. Where it cannot be set, they look once a second.
fn with_patient_threads<T>(start: impl FnOnce() -> T) -> T {
    let before = current_timer_slack().ok();
    let _ = set_current_timer_slack(SLACK);
    let started = start();
    // Zero, and what could not be read, stand for the thread's default.
    let _ = set_current_timer_slack(before.and_then(NonZeroU64::new));
    started
}

/// Opens the store, or creates it when there is nothing. Blocking.
pub fn prepare(cfg: &Config, me: &Member) -> Result<(Identity, LogStore), StartError> {
    with_patient_threads(|| open_or_create(cfg, me))
}

fn open_or_create(cfg: &Config, me: &Member) -> Result<(Identity, LogStore), StartError> {
    let dir = &cfg.data_dir;
    let existed = dir.is_dir();
    std::fs::create_dir_all(dir).map_err(io_error(dir))?;
    if !existed && let Some(parent) = dir.parent() {
        sync_dir(parent).map_err(io_error(parent))?;
    }
    let path = identity_path(cfg);
    let identity = Identity::load(&path);
    if cfg.rejoin && !matches!(&identity, Ok(Some(i)) if i.rejoining && i.id == cfg.id) {
        move_aside(dir)?;
        return create(cfg, me, true);
    }
    match identity {
        Err(what) => Err(damaged(&path, what)),
        Ok(None) => {
            let log = dir.join(LOG);
            if log.exists() {
                if snapshots_exist(cfg) || !LogStore::is_unused(&log)? {
                    return Err(damaged(&path, "the identity file is missing although the log has been used"));
                }
                // A crash between creating the log and writing the identity file.
                std::fs::remove_dir_all(&log).map_err(io_error(&log))?;
            } else if snapshots_exist(cfg) || dir.join(MARK).exists() {
                return Err(damaged(&path, "identity file and log are missing although parts of a store are there"));
            }
            create(cfg, me, false)
        }
        Ok(Some(identity)) => open(cfg, identity),
    }
}

fn open(cfg: &Config, mut identity: Identity) -> Result<(Identity, LogStore), StartError> {
    let path = identity_path(cfg);
    if identity.id != cfg.id {
        return Err(StartError::Config(format!(
            "{}: this is the store of replica {} ({}), but the configuration says replica {}; nothing was changed",
            path.display(),
            identity.id,
            identity.name,
            cfg.id
        )));
    }
    let name = cfg.members.iter().find(|m| m.id == cfg.id).map_or("", |m| m.name.as_str());
    if identity.name != name {
        return Err(StartError::Config(format!(
            "{}: this is the store of replica {:?}, but the configuration calls it {name:?}; nothing was changed",
            path.display(),
            identity.name
        )));
    }
    let log = LogStore::open(&cfg.data_dir.join(LOG), &identity.incarnation)?;
    let dir = snapshot_dir(cfg);
    let newest = SnapshotFile::newest(&dir).map_err(|(path, what)| damaged(&path, what))?;
    let covered = newest.and_then(|s| s.meta.last).map(|l| l.index);
    if let Some(purged) = log.purged_index().map_err(|e| damaged(&cfg.data_dir.join(LOG), e))?
        && covered.is_none_or(|c| c < purged)
    {
        return Err(damaged(&dir, format!("the log begins after entry {purged}, but no snapshot reaches it")));
    }
    if identity.rejoining && cfg.rejoin {
        tracing::info!("continuing the rejoin that was begun earlier");
    }
    identity.name = name.to_string();
    Ok((identity, log))
}

fn create(cfg: &Config, me: &Member, rejoining: bool) -> Result<(Identity, LogStore), StartError> {
    let urandom = Path::new("/dev/urandom");
    let incarnation = random_id().map_err(io_error(urandom))?;
    let identity = Identity { id: cfg.id, name: me.name.clone(), incarnation, cluster_id: None, rejoining };
    // The log first: an identity file without a log means that the log was lost.
    let log = LogStore::create(&cfg.data_dir.join(LOG), &incarnation)?;
    let path = identity_path(cfg);
    identity.save(&path).map_err(io_error(&path))?;
    Ok((identity, log))
}

fn snapshots_exist(cfg: &Config) -> bool {
    std::fs::read_dir(snapshot_dir(cfg)).is_ok_and(|mut d| d.next().is_some())
}

/// Renames everything of a store into `store.damaged-<n>`; nothing is deleted.
fn move_aside(dir: &Path) -> Result<(), StartError> {
    // The identity last: if this is interrupted, the next start sees a store that lacks its log and
    // refuses, or moves the rest aside.
    let parts: Vec<&str> = [LOG, MARK, SNAPSHOTS, IDENTITY].into_iter().filter(|p| dir.join(p).exists()).collect();
    if parts.is_empty() {
        return Ok(());
    }
    let mut n = 1;
    let target = loop {
        let t = dir.join(format!("store.damaged-{n}"));
        if !t.exists() {
            break t;
        }
        n += 1;
    };
    std::fs::create_dir(&target).map_err(io_error(&target))?;
    for part in parts {
        let from = dir.join(part);
        std::fs::rename(&from, target.join(part)).map_err(io_error(&from))?;
    }
    sync_dir(&target).map_err(io_error(&target))?;
    sync_dir(dir).map_err(io_error(dir))?;
    tracing::warn!("rejoin: the former store is now {}", target.display());
    Ok(())
}
