//! The guardian: a small process of the same binary that starts PostgreSQL, owns it, and stops it when
//! the keeper gives no sign of life in time.
//!
//! It outlives the keeper: a keeper that dies, hangs or is upgraded finds PostgreSQL as it was, if it
//! comes back before the lease ends. It has one thread, no runtime, and depends on nothing but the
//! kernel: a pidfd tells of the postmaster's end, a timer on CLOCK_BOOTTIME of the lease's. The
//! postmaster gets SIGQUIT from the kernel when the guardian itself is killed (PR_SET_PDEATHSIG), so
//! that no postmaster is ever left alone.

pub mod client;
pub mod exec;
pub mod protocol;
pub mod remains;
mod server;
mod tied;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{KeeperError, Result};

/// `guardian` on the command line.
pub const COMMAND: &str = "guardian";
/// `guardian --tied PARENT PROGRAM ARGS`: runs a program that ends with its keeper.
pub(crate) const TIED: &str = "--tied";

/// The internal command: `guardian --pgdata DIR --home DIR`, and `guardian --exec PARENT PROGRAM ARGS`,
/// the last step between the guardian and the postmaster.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Result<()> {
    let args: Vec<OsString> = args.into_iter().collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    if args.first().is_some_and(|arg| arg == "--exec") {
        return exec::run(&args[1..]);
    }
    if args.first().is_some_and(|arg| arg == TIED) {
        return tied::run(&args[1..]);
    }
    let path = |name: &str| {
        value(name).map(PathBuf::from).ok_or_else(|| KeeperError::arguments(format!("guardian: {name} is missing")))
    };
    server::run(&path("--pgdata")?, &path("--home")?)
}

/// The running program, also when its file was replaced by a newer release.
pub(crate) fn own_program() -> Result<PathBuf> {
    let exe = std::env::current_exe()
        .map_err(|error| KeeperError::internal(format!("cannot tell the path of this program: {error}")))?;
    let text = exe.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map(PathBuf::from).unwrap_or(exe.clone()))
}
