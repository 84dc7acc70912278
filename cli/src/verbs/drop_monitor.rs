//! `drop monitor`: stopped, and not to be started again by mistake.
//!
//! Its store holds votes that it gave and entries that it acknowledged, and is kept unless it is to be
//! destroyed. The configuration moves aside, where it goes on telling whose store this is: `create monitor`
//! with the same name and replicas takes the store up again, and anything else is refused.

use std::fs::{self, File};
use std::path::Path;

use tracing::{info, warn};

use crate::args::change::DropMonitor;
use crate::exit::{CliError, Status};
use crate::locate::{self, Located};
use crate::server::{Config, FILE_NAME};
use crate::verbs::{block_on, service};
use nix::sys::signal::Signal;

/// Where the configuration of a dropped monitor is, below its data directory.
const DROPPED: &str = "dropped";

pub fn run(args: &DropMonitor) -> Result<(), CliError> {
    let (pgdata, kind) = locate::created(&args.data)?;
    if kind == locate::Kind::Node {
        return Err(CliError::new(
            Status::BadArguments,
            format!("{} is the data directory of a PostgreSQL node, not of a monitor", pgdata.display()),
        )
        .hint("pgquorum drop node --pgdata DIR"));
    }
    let config = service::load(&pgdata)?;
    if !args.force {
        spare_the_majority(&pgdata, &config)?;
    }
    if let Some(pid) = service::running_pid(&pgdata) {
        service::stop_process(&pgdata, pid, Signal::SIGTERM)?;
    }
    let done = match args.destroy {
        true => fs::remove_dir_all(&pgdata),
        false => set_aside(&pgdata),
    };
    done.map_err(|error| {
        CliError::new(Status::BadState, format!("cannot remove the monitor on {}: {error}", pgdata.display()))
    })?;
    match args.destroy {
        true => info!("removed the monitor \"{}\" with {}", config.name, pgdata.display()),
        false => {
            info!("dropped the monitor \"{}\"; its store stays in {}", config.name, pgdata.display());
            info!("`pgquorum create monitor` with the same name and replicas takes the store up again");
        }
    }
    if config.replicas.len() > 1 {
        let needed = majority(&config);
        warn!("the other monitors still count it as one of {}: {needed} must run", config.replicas.len());
        if args.destroy {
            info!("to bring it back: `pgquorum create monitor` with the same options, then `pgquorum run --rejoin`");
        }
    }
    Ok(())
}

fn majority(config: &Config) -> usize {
    config.replicas.len() / 2 + 1
}

/// The others must be a majority without this one: with fewer, nothing fails over any more.
fn spare_the_majority(pgdata: &Path, config: &Config) -> Result<(), CliError> {
    let needed = majority(config);
    // One that is alone, or does not run, is missed by nobody who has not missed it before.
    if config.replicas.len() == 1 || service::running_pid(pgdata).is_none() {
        return Ok(());
    }
    let located: Located = locate::monitor_of(config);
    let rows = block_on(async { Ok(located.client().replicas().await?) });
    let here = |role: &str| role == "leader" || role == "follower";
    let others = match rows {
        Ok(Some(rows)) => rows.iter().filter(|row| row.name != config.name && here(&row.role)).count(),
        Ok(None) | Err(_) => 0,
    };
    if others >= needed {
        return Ok(());
    }
    Err(CliError::new(
        Status::BadState,
        format!(
            "without \"{}\" {others} of {} monitors would run, and {needed} are needed: nothing would fail over",
            config.name,
            config.replicas.len()
        ),
    )
    .hint("start the others first (`pgquorum show monitors` tells who is away), or repeat it with --force"))
}

/// By rename, and on disk when this returns: a monitor that was dropped does not come back by a power cut.
fn set_aside(pgdata: &Path) -> std::io::Result<()> {
    let dropped = pgdata.join(DROPPED);
    fs::create_dir_all(&dropped)?;
    fs::rename(pgdata.join(FILE_NAME), dropped.join(FILE_NAME))?;
    File::open(&dropped)?.sync_all()?;
    File::open(pgdata)?.sync_all()
}

/// Is there a store that a dropped monitor left?
pub fn is_left(pgdata: &Path) -> bool {
    pgdata.join(DROPPED).join(FILE_NAME).exists()
}

/// A store that a dropped monitor left: it may be taken up by the same monitor only.
///
/// # Errors
/// The store is another's, or what tells whose it is cannot be read.
pub fn take_up(pgdata: &Path, asked: &Config) -> Result<bool, CliError> {
    if !is_left(pgdata) {
        return Ok(false);
    }
    let previous = service::load(&pgdata.join(DROPPED))?;
    let replicas = |config: &Config| Config::format_replicas(&config.replicas);
    if previous.name != asked.name || replicas(&previous) != replicas(asked) {
        return Err(CliError::new(
            Status::BadConfiguration,
            format!(
                "{} holds the store of the dropped monitor \"{}\" of {}, and this is \"{}\" of {}",
                pgdata.display(),
                previous.name,
                replicas(&previous),
                asked.name,
                replicas(asked)
            ),
        )
        .hint("repeat the command with that name and those replicas, or choose another --pgdata"));
    }
    info!("taking up the store that the dropped monitor \"{}\" left", previous.name);
    Ok(true)
}

/// To be called when the new configuration is in its place.
pub fn taken_up(pgdata: &Path) -> std::io::Result<()> {
    fs::remove_dir_all(pgdata.join(DROPPED))?;
    File::open(pgdata)?.sync_all()
}
