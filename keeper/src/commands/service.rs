//! `run`, `stop`, `reload`, `status`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::files;
use crate::guardian::client::Guardian;
use crate::guardian::protocol::Request;
use crate::guardian::remains;
use crate::keeper::{Keeper, Until};
use crate::paths::Paths;
use crate::postgres::control::{Installation, PidFile};
use crate::postgres::facts::Facts;
use crate::postgres::sql::{LocalServer, Sql};
use crate::postgres::start;
use crate::signals::Signals;

/// The pid file of a running keeper. The lock on it is what says that the keeper lives: the kernel
/// releases it with the process.
pub struct PidLock {
    file: File,
}

impl PidLock {
    pub fn take(paths: &Paths) -> Result<PidLock> {
        let busy = |pid: Option<i32>| {
            KeeperError::internal(format!(
                "a keeper runs already on {}{}",
                paths.pgdata.display(),
                pid.map_or(String::new(), |pid| format!(" (process {pid})"))
            ))
        };
        if let Some(dir) = paths.pid.parent() {
            files::private_dir(dir)?;
        }
        let io = |error: std::io::Error| KeeperError::io(format!("cannot use {}", paths.pid.display()), &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&paths.pid)
            .map_err(io)?;
        // `status` and `stop` hold a shared lock for an instant.
        let patience = std::time::Instant::now() + Duration::from_millis(500);
        while file.try_lock().is_err() {
            if std::time::Instant::now() > patience {
                return Err(busy(running(paths)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        file.set_len(0).map_err(io)?;
        let text = format!(
            "{}\n{}\n{}\n2.0\n0\n{} node-active\n",
            std::process::id(),
            paths.pgdata.display(),
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        );
        file.write_all(text.as_bytes()).map_err(io)?;
        Ok(PidLock { file })
    }
}

impl Drop for PidLock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

/// The keeper that runs on these files.
pub fn running(paths: &Paths) -> Option<i32> {
    let file = File::open(&paths.pid).ok()?;
    if file.try_lock_shared().is_ok() {
        return None;
    }
    let text = files::read_text(&paths.pid).ok()??;
    text.lines().next()?.trim().parse().ok()
}

/// Options of `run` that change the node.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    pub name: Option<String>,
    pub hostname: Option<String>,
    pub pgport: Option<u16>,
}

pub async fn run(pgdata: &Path, options: RunOptions) -> Result<()> {
    super::refuse_root()?;
    let paths = Paths::of(pgdata)?;
    let mut signals = Signals::install()?;
    let config = Config::load(&paths.config)?;
    let _lock = PidLock::take(&paths)?;
    change(&paths, config, options).await?;
    Keeper::open(paths).await?.run(Until::Stopped, &mut signals).await
}

/// A new name, host or port: the monitors first, which may refuse it; then the node's own file. A
/// PostgreSQL that runs at the old port is stopped: the keeper starts it at the new one.
async fn change(paths: &Paths, old: Config, options: RunOptions) -> Result<()> {
    let mut config = old.clone();
    config.name = options.name.unwrap_or(config.name);
    config.hostname = options.hostname.unwrap_or(config.hostname);
    config.port = options.pgport.unwrap_or(config.port);
    if config == old {
        return Ok(());
    }
    let state = crate::state_file::KeeperState::load(&paths.state)?
        .ok_or_else(|| KeeperError::state(format!("{} does not exist", paths.state.display())))?;
    let source = crate::source::Source::of(&config, paths)?;
    source.rename(&config, state.node_id).await.map_err(|error| {
        KeeperError::monitor(format!("the monitors did not take the new name, host or port; nothing was changed: {error}"))
    })?;
    if config.port != old.port {
        let (guardian, _events) = Guardian::new(&paths.data_home, &old.pgdata);
        start::stop(&old, &guardian).await?;
        let major = Installation::of(&config.pg_ctl)?.major_version().await?;
        crate::postgres::conf::install(&config, major)?;
    }
    config.save(&paths.config)?;
    info!("this node is now \"{}\" at {}:{}", config.name, config.hostname, config.port);
    Ok(())
}

/// How `stop` is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopHow {
    Smart,
    Fast,
    Immediate,
    /// Leaves PostgreSQL to the guardian, for a keeper that is started at once: an upgrade.
    LeavePostgres,
}

fn need_running(paths: &Paths) -> Result<i32> {
    running(paths).ok_or_else(|| KeeperError::state(format!("no keeper runs on {}", paths.pgdata.display())))
}

pub async fn stop(pgdata: &Path, how: StopHow) -> Result<()> {
    let paths = Paths::of(pgdata)?;
    let pid = need_running(&paths)?;
    let signal = match how {
        StopHow::Smart => Signal::SIGTERM,
        StopHow::Fast => Signal::SIGINT,
        StopHow::Immediate => Signal::SIGQUIT,
        StopHow::LeavePostgres => Signal::SIGUSR2,
    };
    send(pid, signal)?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while running(&paths) == Some(pid) {
        if Instant::now() > deadline {
            return Err(KeeperError::state(format!("the keeper (process {pid}) still runs 60 s after {signal}")));
        }
        sleep(Duration::from_millis(20)).await;
    }
    info!("the keeper (process {pid}) has ended");
    Ok(())
}

pub fn reload(pgdata: &Path) -> Result<()> {
    let paths = Paths::of(pgdata)?;
    // What the keeper would refuse is refused here, where somebody reads it.
    Config::load(&paths.config)?;
    send(need_running(&paths)?, Signal::SIGHUP)
}

fn send(pid: i32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid), signal)
        .map_err(|error| KeeperError::state(format!("cannot send {signal} to process {pid}: {error}")))
}

/// PostgreSQL of a node, in the shape of upstream's JSON. What could not be found out is null.
///
/// # Errors
/// `postmaster.pid` cannot be read.
pub async fn postgres(config: &Config) -> Result<Value> {
    let postmaster = PidFile::live(&config.pgdata)?;
    let facts = match Sql::connect(&LocalServer::of(config), Duration::from_secs(2)).await {
        Ok(sql) if postmaster.is_some() => Facts::ask(&sql, Duration::from_secs(2)).await.ok(),
        _ => None,
    };
    let control = match Installation::of(&config.pg_ctl) {
        Ok(install) => install.control_data(&config.pgdata).await.ok(),
        Err(_) => None,
    };
    let mode = postmaster.as_ref().map(|f| f.status.clone());
    Ok(json!({
        "pgdata": config.pgdata.display().to_string(),
        "pg_ctl": config.pg_ctl.display().to_string(),
        "version": facts.as_ref().map(|f| format!("{}.{}", f.version / 10_000, f.version % 10_000)),
        "host": LocalServer::of(config).socket_dir,
        "port": config.port,
        "proxyport": 0,
        "pid": postmaster.map(|f| f.pid),
        "in_recovery": facts.as_ref().map(|f| f.in_recovery),
        "control": control.map(|c| json!({
            "version": c.version,
            "catalog_version": c.catalog_version,
            "system_identifier": c.system_identifier.to_string(),
            "state": c.state,
            "timeline_id": c.timeline,
            "checkpoint": c.checkpoint.to_string(),
        })),
        "mode": mode,
        "postmaster": { "status": mode.as_deref().unwrap_or("unknown") },
    }))
}

/// `status`: exit code 3 (bad state) when no keeper runs. The JSON has upstream's shape.
pub async fn status(pgdata: &Path) -> Result<Value> {
    let paths = Paths::of(pgdata)?;
    let config = Config::load(&paths.config)?;
    let keeper = running(&paths);
    let (guardian, _events) = Guardian::new(&paths.data_home, &config.pgdata);
    let guardian = guardian.ask_if_running(&Request::Status).await;
    let started = |pid: i32| remains::stat(pid).is_some();
    let value = json!({
        "postgres": postgres(&config).await?,
        "pg_autoctl": {
            "pid": keeper,
            "status": if keeper.is_some() { "running" } else { "not running" },
            "pgdata": config.pgdata.display().to_string(),
            "version": env!("CARGO_PKG_VERSION"),
            "pgautofailover": "2.0",
            "services": [
                { "name": "node-active", "pid": keeper, "status": if keeper.is_some_and(started) { "running" } else { "not running" },
                  "version": env!("CARGO_PKG_VERSION"), "pgautofailover": "2.0" },
                { "name": "guardian", "pid": guardian.as_ref().map(|s| s.pid),
                  "status": if guardian.is_some() { "running" } else { "not running" },
                  "version": env!("CARGO_PKG_VERSION"), "pgautofailover": "2.0" },
            ],
        },
    });
    Ok(value)
}

/// Did [`status`] find a keeper?
pub fn is_running(status: &Value) -> bool {
    status["pg_autoctl"]["pid"].is_number()
}
