//! `pgquorum node ...`: a node or a monitor as a file describes it. The file stands for a `create`, a `run`
//! and a few `set`; nothing else is behind it.

mod apply;
mod file;
mod follow;
mod show;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use keeper::commands;
use keeper::config::MONITOR_DISABLED;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::args::declared::NodeVerb;
use crate::args::service::RunArgs;
use crate::args::{Cli, DataDir, Verb};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::verbs::{block_on, create, node, service};
use file::{Kind, LAUNCH, NodeFile};

/// While `run` waits for `start`.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// As long as `post-init` waits for the monitors.
const MONITORS_WAIT: Duration = Duration::from_secs(60);

pub fn run(verb: NodeVerb) -> Result<(), CliError> {
    match verb {
        NodeVerb::Run(args) => run_file(&args.file),
        NodeVerb::Init(args) => init(&args.file),
        NodeVerb::Start(args) => start(&args.file),
        NodeVerb::Show(args) => show::show(&args),
        NodeVerb::Check(args) => show::check(&args.file.file, args.json.json),
        NodeVerb::PostInit(args) => post_init(&args.file),
        NodeVerb::Apply(args) => {
            let file = NodeFile::load(&args.file.file)?;
            created(&file)?;
            let done = block_on(apply::apply(&file))?;
            if done.is_empty() {
                info!("the monitors have what {} says", args.file.file.display());
            }
            match args.json.json {
                true => output::json(&done.iter().map(apply::Applied::json).collect()),
                false => Ok(()),
            }
        }
    }
}

/// Is the node or monitor of the file there, completely?
fn exists(file: &NodeFile) -> Result<bool, CliError> {
    let found = locate::kind(&file.pgdata)?;
    match (file.kind, found) {
        (_, None) => Ok(false),
        (Kind::Monitor, Some(locate::Kind::Monitor)) => Ok(true),
        // What `create` found is removed once it is done.
        (Kind::Postgres, Some(locate::Kind::Node)) => Ok(!commands::paths(&file.pgdata)?.init.exists()),
        (kind, Some(_)) => Err(CliError::new(
            Status::BadConfiguration,
            format!("the file says kind = {}, and {} belongs to something else", kind.name(), file.pgdata.display()),
        )),
    }
}

fn created(file: &NodeFile) -> Result<(), CliError> {
    match exists(file)? {
        true => Ok(()),
        false => Err(CliError::new(Status::BadState, format!("nothing was created in {} yet", file.pgdata.display()))
            .hint("pgquorum node run FILE")),
    }
}

/// The command that the file stands for, as if it had been typed.
fn create(file: &NodeFile, and_run: bool) -> Result<(), CliError> {
    info!("the file stands for: pgquorum {}", file.shown_words().join(" "));
    let run = and_run.then(|| "--run".to_string());
    let all = std::iter::once("pgquorum".to_string()).chain(file.create_words()).chain(file.secret_words()).chain(run);
    let parsed = Cli::try_parse_from(all).map_err(|error| {
        // Its first paragraph; the usage is that of another command.
        let text = error.to_string();
        let first = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        CliError::new(Status::BadConfiguration, first.to_string())
    })?;
    match parsed.verb {
        Verb::Create(verb) => create::run(verb),
        _ => Err(CliError::new(Status::Internal, "the file stands for no creation")),
    }
}

fn init(path: &Path) -> Result<(), CliError> {
    let file = NodeFile::load(path)?;
    if exists(&file)? {
        info!("{} exists already: there is nothing to do", file.pgdata.display());
        return Ok(());
    }
    create(&file, false)
}

fn run_file(path: &Path) -> Result<(), CliError> {
    let mut file = NodeFile::load(path)?;
    if file.deferred {
        info!("{} says deferred: waiting for `pgquorum node start {}`", path.display(), path.display());
        match block_on(started(path))? {
            Some(changed) => file = changed,
            None => return Ok(()),
        }
    }
    let there = exists(&file)?;
    if !there {
        follow::start(path, file.clone())?;
        return create(&file, true);
    }
    let data = DataDir { pgdata: Some(file.pgdata.clone()) };
    let mut args = RunArgs { data, rejoin: false, name: None, hostname: None, pgport: None };
    if file.kind == Kind::Monitor {
        follow::start(path, file)?;
        return service::run(&args);
    }
    let config = node_settings(&file)?;
    args.name = file.name.clone().filter(|name| *name != config.name);
    args.hostname = file.hostname.clone().filter(|host| *host != config.hostname);
    args.pgport = file.port.filter(|port| *port != config.port);
    follow::start(path, file)?;
    node::run(&args)
}

/// The node's configuration, with the monitors of the file.
fn node_settings(file: &NodeFile) -> Result<keeper::config::Config, CliError> {
    let load = || Ok::<_, CliError>(keeper::config::Config::load(&commands::paths(&file.pgdata)?.config)?);
    let config = load()?;
    let wanted = file.monitor.as_deref().unwrap_or(MONITOR_DISABLED);
    if config.monitor == wanted {
        return Ok(config);
    }
    // Leaving the monitors, or finding them, takes more than a setting.
    if [config.monitor.as_str(), wanted].contains(&MONITOR_DISABLED) {
        warn!("the file and the node do not agree whether there are monitors: the node stays as it is");
        info!("hint: pgquorum enable monitor URI, or pgquorum disable monitor");
        return Ok(config);
    }
    commands::config::set(&file.pgdata, "pg_autoctl.monitor", wanted)?;
    info!("the monitors of this node are those of the file now");
    load()
}

/// Waits until the file says something else than deferred; `None`: told to end.
async fn started(path: &Path) -> Result<Option<NodeFile>, CliError> {
    // The first process of a container is not ended by signals that it does not handle.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        tokio::select! {
            _ = tokio::time::sleep(LOOK_EVERY) => {}
            _ = terminate.recv() => return Ok(None),
            _ = interrupt.recv() => return Ok(None),
        }
        // While it is written it may be half there.
        if let Ok(file) = NodeFile::load(path)
            && !file.deferred
        {
            return Ok(Some(file));
        }
    }
}

fn start(path: &Path) -> Result<(), CliError> {
    if !NodeFile::load(path)?.deferred {
        info!("{} does not say deferred: there is nothing to do", path.display());
        return Ok(());
    }
    let failed = |error: std::io::Error| {
        CliError::new(Status::BadConfiguration, format!("cannot write {}: {error}", path.display()))
            .hint("where it is mounted read-only, change it where it comes from: [launch] run = immediate")
    };
    let text = immediate(&fs::read_to_string(path).map_err(failed)?);
    // In place: a file that is mounted by itself cannot be replaced.
    let mut file = OpenOptions::new().write(true).truncate(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    info!("{} says immediate now: a `pgquorum node run` that waits goes on", path.display());
    Ok(())
}

/// The text with every `deferred` of `[launch]` become `immediate`; comments and the rest stay.
fn immediate(text: &str) -> String {
    let mut inside = false;
    let mut lines = String::new();
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        if bare.starts_with('[') {
            inside = bare.starts_with("[launch]");
        }
        let key = bare.split('=').next().unwrap_or_default().trim();
        match inside && LAUNCH.contains(&key) {
            true => lines.push_str(&line.replacen("deferred", "immediate", 1)),
            false => lines.push_str(line),
        }
    }
    lines
}

fn post_init(path: &Path) -> Result<(), CliError> {
    let file = NodeFile::load(path)?;
    if file.kind == Kind::Postgres {
        info!("a PostgreSQL node has no formations to create: there is nothing to do");
        return Ok(());
    }
    created(&file)?;
    let deadline = Instant::now() + MONITORS_WAIT;
    loop {
        match block_on(apply::apply(&file)) {
            Ok(done) if done.is_empty() => info!("the monitors have the formations of {}", path.display()),
            Ok(_) => {}
            // Its replicas may be about to start.
            Err(error) if error.status == Status::Monitor && Instant::now() < deadline => {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            Err(error) => return Err(error),
        }
        return Ok(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_launch_changes() {
        let text = "# deferred\n[node]\nname = deferred\n[launch]\n# run = deferred\nrun = deferred # later\ncreate=deferred\n";
        let expected =
            "# deferred\n[node]\nname = deferred\n[launch]\n# run = deferred\nrun = immediate # later\ncreate=immediate\n";
        assert_eq!(immediate(text), expected);
    }
}
