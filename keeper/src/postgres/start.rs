//! Starting, stopping and promoting PostgreSQL through the guardian.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::control::{Installation, PidFile};
use super::facts::Facts;
use super::fork;
use super::sql::{LocalServer, Sql, SqlError};
use super::standby;
use crate::boottime::BootTime;
use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::guardian::client::Guardian;
use crate::guardian::protocol::{Request, StopMode};
use crate::guardian::remains;

/// One attempt to connect while PostgreSQL starts.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A start that neither ends nor shows any progress (processor time, I/O) for this long is hung. Crash
/// recovery may take hours and is left alone as long as it moves.
const NO_PROGRESS: Duration = Duration::from_secs(60);
/// How often a start that takes long is asked whether it waits for WAL that is gone.
const STARVED: Duration = Duration::from_secs(3);
/// What an upstream says of WAL that it has no more.
pub const REMOVED: &str = "has already been removed";
/// What PostgreSQL says, from release 14 on, while its files do not fit together yet (canAcceptConnections).
/// The control file alone does not tell: a rewind from the checkpoint of an earlier base backup counts as
/// complete where that backup ended, long before the WAL that belongs to the files.
const INCONSISTENT: &str = "not yet accepting connections";
/// What a standby says whose WAL goes beyond the fork of the newest timeline that it knows.
pub const LEFT_BEHIND: &str = "does not contain minimum recovery point";
/// An orderly stop; a walsender whose standby is behind a black hole would hold it up far longer
/// (measured: over 20 s), with every client gone already.
const FAST_STOP: Duration = Duration::from_secs(8);
/// From the fence to the last process' end.
const FENCE_STOP: Duration = Duration::from_secs(15);

/// How a start ended that did not bring PostgreSQL up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The postmaster ended; the text tells why as far as its log does.
    Died(String),
    /// It is still there and does nothing.
    Hung,
    /// A standby that may not let anybody in before it has replayed WAL that its upstream has no more.
    Starved(String),
    Other(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Died(text) => write!(f, "PostgreSQL did not start: {text}"),
            StartError::Hung => {
                write!(f, "PostgreSQL is starting but made no progress for {} s", NO_PROGRESS.as_secs())
            }
            StartError::Starved(text) => write!(f, "this standby needs WAL that is gone ({text})"),
            StartError::Other(text) => f.write_str(text),
        }
    }
}

impl From<StartError> for KeeperError {
    fn from(error: StartError) -> KeeperError {
        KeeperError::postgres(error.to_string())
    }
}

impl From<KeeperError> for StartError {
    fn from(error: KeeperError) -> StartError {
        StartError::Other(error.message)
    }
}

/// Is a postmaster of ours there? One that somebody else started is adopted.
pub async fn postmaster(config: &Config, guardian: &Guardian) -> Result<Option<i32>> {
    if let Some(pid) = guardian.status().await?.postmaster {
        return Ok(Some(pid));
    }
    let Some(file) = PidFile::live(&config.pgdata)? else { return Ok(None) };
    warn!("PostgreSQL (process {}) was not started by the guardian: adopting it", file.pid);
    match guardian.ask(&Request::Adopt { pid: file.pid }).await {
        Ok(_) => Ok(Some(file.pid)),
        // It went away in between.
        Err(error) if PidFile::live(&config.pgdata)?.is_some() => Err(error),
        Err(_) => Ok(None),
    }
}

/// What a standby says that has less than its primary of what [`limits`] is about.
const TOO_LOW: &str = "insufficient parameter settings";

/// Starts PostgreSQL unless it runs, and waits until it lets us in.
pub async fn ensure_running(config: &Config, guardian: &Guardian) -> std::result::Result<(), StartError> {
    match start(config, guardian, Vec::new()).await {
        Err(StartError::Died(text)) if text.contains(TOO_LOW) => {
            let install = Installation::of(&config.pg_ctl)?;
            start(config, guardian, limits(config, &install).await).await
        }
        other => other,
    }
}

async fn start(config: &Config, guardian: &Guardian, extra: Vec<String>) -> std::result::Result<(), StartError> {
    if postmaster(config, guardian).await?.is_none() {
        check_data_directory(&config.pgdata)?;
        if standby::is_standby(&config.pgdata) {
            fork::mend(&config.pgdata)?;
        }
        let install = Installation::of(&config.pg_ctl)?;
        let log = config.pgdata.join("startup.log");
        // Its beginning is what tells why a start failed.
        if let Err(error) = std::fs::write(&log, b"") {
            return Err(StartError::Died(format!("cannot write {}: {error}", log.display())));
        }
        let mut args = vec!["-D".to_string(), config.pgdata.display().to_string()];
        args.extend(["-p".to_string(), config.port.to_string()]);
        args.extend(["-h".to_string(), config.listen_addresses.clone()]);
        args.extend(extra);
        let program = install.bindir.join("postgres");
        guardian.ask(&Request::Start { program, args, log }).await?;
    }
    wait_ready(config, guardian).await
}

/// Conditions under which PostgreSQL cannot start, said more clearly than it would.
fn check_data_directory(pgdata: &Path) -> std::result::Result<(), StartError> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let died = |text: String| Err(StartError::Died(text));
    let meta = match std::fs::metadata(pgdata) {
        Ok(meta) => meta,
        Err(error) => return died(format!("the data directory {}: {error}", pgdata.display())),
    };
    if !pgdata.join("PG_VERSION").exists() {
        return died(format!("{} holds no PostgreSQL cluster (any more)", pgdata.display()));
    }
    let uid = nix::unistd::geteuid().as_raw();
    if meta.uid() != uid {
        return died(format!("{} belongs to user {}, the keeper runs as {uid}", pgdata.display(), meta.uid()));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o027 != 0 {
        return died(format!("{} has permissions {mode:o}; PostgreSQL wants 700 or 750", pgdata.display()));
    }
    Ok(())
}

/// A standby refuses to start with less of certain resources than its primary has. What the primary
/// has stands in the control file; a lower setting of ours is raised for this start only, on the
/// command line, and the user's files stay as they are.
async fn limits(config: &Config, install: &Installation) -> Vec<String> {
    if !standby::is_standby(&config.pgdata) {
        return Vec::new();
    }
    let Ok(control) = install.control_data(&config.pgdata).await else { return Vec::new() };
    let mut args = Vec::new();
    for (name, primary) in control.limits {
        let asked = install.program("postgres").args(["-C", name, "-D"]).arg(&config.pgdata).run(ATTEMPT * 5).await;
        let Some(own) = asked.ok().and_then(|said| said.stdout.trim().parse::<u32>().ok()) else { continue };
        if own < primary {
            warn!("{name} is {own} here and {primary} on the primary; a standby needs as much: starting with {primary}");
            args.extend(["-c".to_string(), format!("{name}={primary}")]);
        }
    }
    args
}

/// Waits until a connection succeeds. Crash recovery and a standby's way to consistency are waited for
/// as long as they make progress.
pub async fn wait_ready(config: &Config, guardian: &Guardian) -> std::result::Result<(), StartError> {
    let started = Instant::now();
    let mut moved = (Instant::now(), 0u64);
    let mut told = Instant::now();
    let mut checked = (Instant::now(), None);
    let mut pause = Duration::from_millis(10);
    loop {
        let error = match Sql::connect(&LocalServer::of(config), ATTEMPT).await {
            // Without its files it still lets people in, and can do nothing for them.
            Ok(sql) => match Facts::ask(&sql, ATTEMPT).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_starting() => error,
                Err(error) => return Err(StartError::Other(format!("PostgreSQL runs but does not work: {error}"))),
            },
            // It runs and answers; that it will not let us in is another matter.
            Err(SqlError::Server { code, message }) if !matches!(code.as_str(), "57P03" | "57P01") => {
                return match code.as_str() {
                    "53300" => Ok(()),
                    _ => Err(StartError::Other(format!("PostgreSQL runs but does not let the keeper in: {message}"))),
                };
            }
            Err(error) => error,
        };
        let Some(pid) = guardian.status().await?.postmaster else {
            return Err(StartError::Died(last_words(config)));
        };
        // Its attempts to get that WAL look like progress.
        if error.is_starting() && checked.0.elapsed() > STARVED {
            let segment = segment(&config.pgdata, pid);
            // While it replays what it has, older complaints in the log say nothing.
            let stands = segment.is_some() && segment == checked.1;
            checked = (Instant::now(), segment);
            let words = last_words(config);
            if words.contains(REMOVED) && (stands && is_inconsistent(config, &error) || lacks_wal(config).await) {
                return Err(StartError::Starved(words));
            }
        }
        let work = effort(&config.pgdata, pid);
        if work != moved.1 {
            moved = (Instant::now(), work);
        } else if moved.0.elapsed() > NO_PROGRESS {
            return Err(StartError::Hung);
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            info!("PostgreSQL has been starting for {} s and makes progress ({error})", started.elapsed().as_secs());
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(200));
    }
}

/// As after pg_rewind: nobody can use this cluster before it has replayed WAL that is not here.
async fn lacks_wal(config: &Config) -> bool {
    let Ok(install) = Installation::of(&config.pg_ctl) else { return false };
    standby::is_standby(&config.pgdata)
        && install.control_data(&config.pgdata).await.is_ok_and(|control| control.lacks_wal(&config.pgdata))
}

fn is_inconsistent(config: &Config, error: &SqlError) -> bool {
    let says = matches!(error, SqlError::Server { code, message } if code == "57P03" && message.contains(INCONSISTENT));
    says && standby::is_standby(&config.pgdata)
}

/// What the startup process says that it does.
fn startup_title(pid: i32) -> Option<String> {
    startup(&String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).ok()?))
}

/// `postgres: startup recovering FILE`, or `postgres: CLUSTER_NAME: startup ...`.
fn startup(title: &str) -> Option<String> {
    let title = title.trim_end_matches('\0').trim();
    let says = title.strip_prefix("postgres: ")?.rsplit(": ").next()?;
    says.starts_with("startup").then(|| says.to_string())
}

/// The WAL file that is replayed or waited for.
fn segment(pgdata: &Path, postmaster: i32) -> Option<String> {
    let pids = remains::processes_of(pgdata, Some(postmaster));
    let title = pids.into_iter().find_map(startup_title)?;
    title.split_whitespace().next_back().map(str::to_string)
}

/// Processor time and I/O of the startup process, which does the recovery. The others do not count: our
/// own attempts to connect make some.
fn effort(pgdata: &Path, postmaster: i32) -> u64 {
    let io = |pid: i32| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        text.lines().filter_map(|line| line.split_once(": ")?.1.parse::<u64>().ok()).sum()
    };
    let pids = remains::processes_of(pgdata, Some(postmaster));
    pids.iter().filter(|pid| startup_title(**pid).is_some()).map(|pid| io(*pid) + remains::stat(*pid).map_or(0, |s| s.cpu)).sum()
}

/// The end of what the postmaster wrote before it died: into startup.log, and once its logging
/// collector runs, into the newest file of its log directory.
pub fn last_words(config: &Config) -> String {
    let newest = || {
        let entries = std::fs::read_dir(config.pgdata.join("log")).ok()?;
        let by_age = |e: &std::fs::DirEntry| e.metadata().and_then(|m| m.modified()).ok();
        entries.flatten().filter(|e| by_age(e).is_some()).max_by_key(by_age).map(|e| e.path())
    };
    let mut lines: Vec<String> = Vec::new();
    for path in [Some(config.pgdata.join("startup.log")), newest()].into_iter().flatten() {
        let text = crate::files::read_text(&path).ok().flatten().unwrap_or_default();
        let telling = |line: &&str| {
            ["FATAL", "PANIC", "ERROR", "could not", TOO_LOW].iter().any(|word| line.contains(word))
                // What others were told while it started or stopped.
                && !line.contains("the database system is")
        };
        let found: Vec<&str> = text.lines().filter(telling).collect();
        lines.extend(found.iter().rev().take(5).rev().map(|line| line.to_string()));
    }
    match lines.is_empty() {
        true => format!("see {}/startup.log", config.pgdata.display()),
        false => lines.join(" | "),
    }
}

/// Stops PostgreSQL: in order when it can be, at once when that takes too long.
pub async fn stop(config: &Config, guardian: &Guardian) -> Result<()> {
    if postmaster(config, guardian).await?.is_none() {
        return Ok(());
    }
    guardian.ask(&Request::Stop { mode: StopMode::Fast }).await?;
    if timeout(FAST_STOP, wait_gone(guardian)).await.is_ok_and(|r| r.is_ok()) {
        return Ok(());
    }
    warn!("PostgreSQL did not stop in order within {} s: stopping it at once", FAST_STOP.as_secs());
    fence(config, guardian).await
}

/// Stops PostgreSQL at once. Returns when no process of it is left.
pub async fn fence(config: &Config, guardian: &Guardian) -> Result<()> {
    postmaster(config, guardian).await?;
    let began = BootTime::now();
    guardian.ask(&Request::Stop { mode: StopMode::Fence }).await?;
    match timeout(FENCE_STOP, wait_gone(guardian)).await {
        Ok(gone) => gone,
        Err(_) => Err(KeeperError::postgres(format!(
            "processes of {} are left {:.0} s after SIGKILL: they wait for a disk that does not answer",
            config.pgdata.display(),
            began.age(BootTime::now()).as_secs_f32()
        ))),
    }
}

async fn wait_gone(guardian: &Guardian) -> Result<()> {
    while guardian.status().await?.postmaster.is_some() {
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Reads the configuration files again.
pub async fn reload(config: &Config) -> Result<()> {
    let sql = Sql::connect(&LocalServer::of(config), ATTEMPT).await?;
    sql.query("select pg_reload_conf()", ATTEMPT).await?;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_startup_process_is_known_by_its_title() {
        for title in ["postgres: startup recovering 000000010000000000000003\0", "postgres: 15/main: startup recovering 000000010000000000000003"] {
            assert_eq!(startup(title).unwrap(), "startup recovering 000000010000000000000003");
        }
        for title in ["postgres: checkpointer", "postgres: app startup 127.0.0.1(50020) idle", "/usr/lib/postgresql/15/bin/postgres -D x"] {
            assert_eq!(startup(title), None, "{title}");
        }
    }
}
