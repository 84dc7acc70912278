//! The monitor as a service: `run`, `stop`, `reload`, `status`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use keeper::guardian::remains::has_ended;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::args::DataDir;
use crate::args::service::{RunArgs, StatusArgs, StopArgs};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::server::{self, Config, PID_FILE, RunError, RunOptions};
use crate::verbs::version::{API_VERSION, RELEASE};

/// As long as `stop` waits for the process to go.
const STOP_WAIT: Duration = Duration::from_secs(60);

pub fn load(pgdata: &Path) -> Result<Config, CliError> {
    Config::load(pgdata).map_err(|error| CliError::new(Status::BadConfiguration, error.to_string()))
}

pub fn run(args: &RunArgs) -> Result<(), CliError> {
    let pgdata = locate::created(&args.data)?.0;
    let config = load(&pgdata)?;
    if let Some(pid) = running_pid(&pgdata) {
        // pg_autoctl's exit code for it.
        return Err(CliError::new(Status::Internal, format!("a monitor runs already on {} (process {pid})", pgdata.display()))
            .hint(format!("pgquorum stop --pgdata {}", pgdata.display())));
    }
    serve(config, RunOptions { rejoin: args.rejoin })
}

/// tokio's own variable, for a monitor of more groups than one core can serve.
const WORKERS: &str = "TOKIO_WORKER_THREADS";

/// Calls are served by one thread. At rest, most of what a second one does is to be woken by the first and
/// to find nothing; under load, one serves some 40,000 calls a second. Queries of the read tier and long
/// statements are worked on elsewhere.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os(WORKERS).is_none() {
        builder.worker_threads(1);
    }
    builder.enable_all().build()
}

/// Runs the monitor until SIGTERM, SIGINT or SIGQUIT.
pub fn serve(config: Config, options: RunOptions) -> Result<(), CliError> {
    runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let pgdata = config.pgdata.clone();
        let running = config.clone();
        let stop = async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break info!("SIGTERM: stopping"),
                    _ = interrupt.recv() => break info!("SIGINT: stopping"),
                    _ = quit.recv() => {
                        warn!("SIGQUIT: stopping without cleaning up");
                        std::process::exit(Status::Ok as i32);
                    }
                    _ = hangup.recv() => reread(&pgdata, &running),
                }
            }
        };
        server::run(config, options, stop).await.map_err(|error| {
            let status = match &error {
                RunError::Config(_) => Status::BadConfiguration,
                RunError::Busy(_) | RunError::Store(_) => Status::BadState,
                RunError::Consensus(_) => Status::Internal,
            };
            CliError::new(status, error.to_string())
        })
    })
}

/// SIGHUP. Nothing in the file can be changed under a running monitor yet, and that is said.
fn reread(pgdata: &Path, running: &Config) {
    match Config::load(pgdata) {
        Err(error) => warn!("SIGHUP: the configuration is kept as it was: {error}"),
        Ok(config) if config == *running => info!("SIGHUP: the configuration has not changed"),
        Ok(_) => warn!("SIGHUP: the configuration has changed; it takes effect when the monitor is started again"),
    }
}

/// The process that runs on a data directory.
pub fn running_pid(pgdata: &Path) -> Option<Pid> {
    let text = fs::read_to_string(pgdata.join(PID_FILE)).ok()?;
    let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok().filter(|pid| *pid > 0)?);
    is_ours(pid, &pgdata.join(PID_FILE)).then_some(pid)
}

/// A pid file may outlive its process by a power cut, and its number may belong to another one now:
/// a monitor keeps its pid file open as long as it runs.
fn is_ours(pid: Pid, pid_file: &Path) -> bool {
    let Ok(pid_file) = pid_file.canonicalize() else { return false };
    // A zombie's files cannot be looked at.
    if has_ended(pid.as_raw()) {
        return false;
    }
    match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(open) => open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|file| file == pid_file)),
        // Another user's process: its name has to do.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("pgquorum"))
        }
        Err(_) => false,
    }
}

fn not_running(pgdata: &Path, status: Status) -> CliError {
    CliError::new(status, format!("no monitor runs on {}", pgdata.display()))
        .hint(format!("pgquorum run --pgdata {}", pgdata.display()))
}

pub fn stop(args: &StopArgs) -> Result<(), CliError> {
    let pgdata = locate::created(&args.data)?.0;
    load(&pgdata)?;
    // pg_autoctl's exit code for it.
    let pid = running_pid(&pgdata).ok_or_else(|| not_running(&pgdata, Status::Internal))?;
    let sent = match (args.fast, args.immediate) {
        (_, true) => Signal::SIGQUIT,
        (true, false) => Signal::SIGINT,
        (false, false) => Signal::SIGTERM,
    };
    stop_process(&pgdata, pid, sent)
}

pub fn stop_process(pgdata: &Path, pid: Pid, sent: Signal) -> Result<(), CliError> {
    send(pid, sent)?;
    let deadline = Instant::now() + STOP_WAIT;
    while running_pid(pgdata) == Some(pid) {
        if Instant::now() > deadline {
            return Err(CliError::new(
                Status::BadState,
                format!("process {pid} still runs {} s after {sent}", STOP_WAIT.as_secs()),
            )
            .hint(format!("pgquorum stop --immediate --pgdata {}", pgdata.display())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    info!("stopped the monitor on {} (process {pid})", pgdata.display());
    Ok(())
}

pub fn reload(args: &DataDir) -> Result<(), CliError> {
    let pgdata = locate::created(args)?.0;
    let pid = running_pid(&pgdata).ok_or_else(|| not_running(&pgdata, Status::BadState))?;
    send(pid, Signal::SIGHUP)?;
    info!("sent SIGHUP to process {pid}: its log tells what it could change");
    Ok(())
}

fn send(pid: Pid, signal: Signal) -> Result<(), CliError> {
    kill(pid, signal).map_err(|error| {
        CliError::new(Status::BadState, format!("cannot send {signal} to process {pid}: {error}"))
    })
}

pub fn status(args: &StatusArgs) -> Result<(), CliError> {
    let pgdata = locate::created(&args.data)?.0;
    let config = load(&pgdata)?;
    let pid = running_pid(&pgdata);
    if args.json.json {
        let state = if pid.is_some() { "running" } else { "not running" };
        let number = pid.map(Pid::as_raw);
        output::json(&json!({
            "pg_autoctl": {
                "pid": number,
                "status": state,
                "pgdata": pgdata.to_string_lossy(),
                "version": RELEASE,
                "pgautofailover": config.extension_version,
                "services": [{
                    "name": "monitor",
                    "pid": number,
                    "status": state,
                    "version": RELEASE,
                    "pgautofailover": API_VERSION,
                }],
            },
            "monitor": {
                "name": config.name,
                "hostname": config.hostname,
                "port": config.port,
                "replicas": Config::format_replicas(&config.replicas),
            },
        }))?;
    }
    match pid {
        Some(pid) => {
            info!("the monitor \"{}\" runs with pid {pid}", config.name);
            info!("it serves SQL on port {} of {}", config.port, config.hostname);
            Ok(())
        }
        None => Err(not_running(&pgdata, Status::BadState)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A container's first process often collects nobody: `run` must not take the dead monitor for a live one.
    #[test]
    fn a_zombie_is_not_running() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !has_ended(pid) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(has_ended(pid) && Path::new(&format!("/proc/{pid}")).exists());
        assert!(!has_ended(Pid::this().as_raw()));
        child.wait().unwrap();
        assert!(has_ended(pid));
    }
}
