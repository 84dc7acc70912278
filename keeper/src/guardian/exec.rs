//! The last step before the postmaster: a process that ties its life to the guardian's, then becomes
//! the postmaster.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getppid, setsid};

use crate::error::{KeeperError, Result};

/// `PARENT PROGRAM ARGS...`. Returns only when it failed.
pub fn run(args: &[OsString]) -> Result<()> {
    let (Some(parent), Some(program)) = (args.first().and_then(|p| p.to_str()?.parse::<i32>().ok()), args.get(1)) else {
        return Err(KeeperError::arguments("guardian --exec: PARENT PROGRAM ARGS"));
    };
    // SIGQUIT is PostgreSQL's immediate shutdown. The setting survives exec.
    prctl::set_pdeathsig(Signal::SIGQUIT)
        .map_err(|error| KeeperError::internal(format!("PR_SET_PDEATHSIG: {error}")))?;
    // The guardian may have died before the line above.
    if getppid().as_raw() != parent {
        return Err(KeeperError::internal("the guardian is gone"));
    }
    // What the guardian blocks, PostgreSQL must hear.
    SigSet::all().thread_unblock().map_err(|error| KeeperError::internal(format!("signals: {error}")))?;
    // A session of its own: signals of a terminal stop with the keeper.
    let _ = setsid();
    let error = std::process::Command::new(program).args(&args[2..]).exec();
    Err(KeeperError::postgres(format!("cannot run {}: {error}", program.to_string_lossy())))
}
