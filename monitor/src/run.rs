//! Starts a monitor and runs it until it is told to stop.

use std::fmt;
use std::fs::{self, File};
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;

use raft_store::Replica;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::client_tls::ClientAcceptor;
use crate::config::{Auth, Config, ConfigError};
use crate::health;
use crate::members::Members;
use crate::monitor::{Monitor, PeerRequests};
use crate::notify::Hub;
use crate::replicated::{FailoverStateMachine, SharedState};
use crate::sql::{Authentication, Facade, FacadeConfig, Verifiers};

/// Where the process id is written, inside the data directory.
pub const PID_FILE: &str = "pgquorum.pid";

/// How long open sessions are waited for at the end.
const SESSIONS_DEADLINE: Duration = Duration::from_secs(3);

/// How this one start differs from others.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Move the store aside and come back as a new, empty member.
    pub rejoin: bool,
}

/// Why a monitor could not start or stopped by itself. The text says what to do.
#[derive(Debug)]
pub enum RunError {
    Config(ConfigError),
    /// Another process runs on this data directory, or an address is taken.
    Busy(String),
    /// The store cannot be used as it is.
    Store(String),
    /// Consensus has ended here, most often because its log could not be written. What others are sure of
    /// is not touched; a new process takes up what is on disk.
    Consensus(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Config(error) => error.fmt(f),
            RunError::Busy(text) | RunError::Store(text) | RunError::Consensus(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs a monitor until `stop` completes.
///
/// # Errors
/// The configuration, an address or the store cannot be used; nothing was changed then. Or consensus has
/// ended by itself: start a new process.
pub async fn run(config: Config, options: RunOptions, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    config.check().map_err(RunError::Config)?;
    let _pid_file = PidFile::take(&config)?;
    if config.test_mode {
        warn!("TEST MODE: anyone who connects may rewrite the replicated state by SQL. Never use this in production");
    }
    if config.replicas.len() == 1 {
        info!("this monitor is the only replica: nothing fails over while it is down");
    }
    let tls = match &config.client_tls {
        None => None,
        Some(tls) => Some(Arc::new(ClientAcceptor::new(tls).map_err(RunError::Config)?)),
    };
    let members = Members::new(&config).map_err(RunError::Config)?;
    let mut listeners = Vec::new();
    for (host, port) in config.listen_on() {
        let listener = TcpListener::bind((host.as_str(), port)).await.map_err(|error| {
            RunError::Busy(format!("cannot listen for SQL on {host}:{port}: {error}"))
        })?;
        listeners.push(listener);
    }

    let shared = SharedState::default();
    let hub = Hub::default();
    let facade_slot = Arc::new(OnceLock::new());
    let state_machine = Arc::new(RwLock::new(FailoverStateMachine::new(shared.clone(), hub.clone())));
    let monitor_slot = Arc::new(OnceLock::new());
    let requests = PeerRequests { hub: hub.clone(), facade: facade_slot.clone(), monitor: monitor_slot.clone() };
    let replica = Replica::start(members.store_config(&config, options.rejoin), state_machine, Arc::new(requests))
        .await
        .map_err(|error| RunError::Store(error.to_string()))?;
    let (monitor, losses) = Monitor::new(replica.clone(), members, shared, hub);
    let monitor = Arc::new(monitor);
    let facade = Arc::new(Facade::new(monitor.clone(), facade_config(&config, tls.clone())));
    // The slots were made a few lines above and nobody else fills them.
    let _ = facade_slot.set(facade.clone());
    let _ = monitor_slot.set(monitor.clone());

    let mut background = vec![
        tokio::spawn(monitor.clone().follow_role()),
        tokio::spawn(monitor.clone().pass_on_losses(losses)),
        tokio::spawn(health::supervise(monitor.clone())),
        tokio::spawn(crate::watch::supervise(monitor.clone())),
    ];
    if let Some(tls) = tls {
        background.push(tokio::spawn(renew_certificates(tls)));
    }
    let mut servers = Vec::new();
    for listener in listeners {
        info!("listening for SQL on {}", listener.local_addr().map(|a| a.to_string()).unwrap_or_default());
        servers.push(crate::sql::serve(listener, facade.clone()));
    }
    info!(
        "monitor \"{}\" of {} is running: SQL on port {}, replicas' channel on port {}",
        config.name,
        Config::format_replicas(&config.replicas),
        config.port,
        config.own_replica().map_err(RunError::Config)?.replica_port
    );
    let ended = tokio::select! {
        () = stop => None,
        why = consensus_ended(&replica) => Some(why),
    };
    info!("stopping");
    for server in servers {
        server.shutdown(SESSIONS_DEADLINE).await;
    }
    for task in background {
        task.abort();
    }
    replica.shutdown().await;
    match ended {
        None => Ok(()),
        Some(why) => Err(RunError::Consensus(format!("consensus has ended here: {why}. Start the monitor again when its disk can be written"))),
    }
}

/// openraft stops for good when it cannot write; a monitor without it only looks as if it ran.
async fn consensus_ended(replica: &Replica) -> String {
    let mut status = replica.watch_status();
    loop {
        if let Some(why) = status.borrow_and_update().stopped.clone() {
            return why;
        }
        if status.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// SIGHUP: certificates are renewed without a restart.
async fn renew_certificates(tls: Arc<ClientAcceptor>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        match tls.reload() {
            Ok(()) => info!("SIGHUP: the certificate files are read again"),
            Err(error) => warn!("SIGHUP: the present certificate stays in use: {error}"),
        }
    }
}

fn facade_config(config: &Config, tls: Option<Arc<ClientAcceptor>>) -> FacadeConfig {
    let auth = match (config.auth, &config.password) {
        (Auth::ScramSha256, password) => {
            let mut verifiers = Verifiers::new();
            // Checked with the configuration: there is one.
            verifiers.add_password("autoctl_node", password.as_deref().unwrap_or_default());
            Authentication::Scram(Arc::new(verifiers))
        }
        (Auth::Trust, _) => Authentication::Trust,
    };
    FacadeConfig {
        auth,
        tls,
        extension_version: config.extension_version.clone(),
        test_mode: config.test_mode,
        max_connections: u32::try_from(config.max_connections).unwrap_or(u32::MAX),
        ..FacadeConfig::default()
    }
}

/// The locked file that says which process runs on a data directory.
struct PidFile {
    path: PathBuf,
    _lock: File,
}

impl PidFile {
    fn take(config: &Config) -> Result<PidFile, RunError> {
        let path = config.pgdata.join(PID_FILE);
        let failed = |what: &str, error: &dyn fmt::Display| RunError::Busy(format!("{what} {}: {error}", path.display()));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| failed("cannot write", &e))?;
        if file.try_lock().is_err() {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            let pid = pid.lines().next().unwrap_or("?").to_string();
            return Err(RunError::Busy(format!(
                "process {pid} already runs the monitor in {}: `pgquorum stop --pgdata {}` stops it",
                config.pgdata.display(),
                config.pgdata.display()
            )));
        }
        file.set_len(0).map_err(|e| failed("cannot write", &e))?;
        let text = format!("{}\n{}\n{}\n", std::process::id(), config.pgdata.display(), config.port);
        file.write_all(text.as_bytes()).map_err(|e| failed("cannot write", &e))?;
        Ok(PidFile { path, _lock: file })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
