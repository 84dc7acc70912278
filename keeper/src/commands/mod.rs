//! What the command line calls: plain arguments in, text or JSON out.

pub mod config;
pub mod create;
pub mod drop;
pub mod fsm;
pub mod service;
pub mod show;

use std::path::Path;

use crate::error::{KeeperError, Result};
use crate::paths::Paths;

/// PostgreSQL refuses to run as root; so does its keeper, before it has made files that belong to root.
pub fn refuse_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Err(KeeperError::arguments(
            "a keeper cannot run as root, because PostgreSQL does not: run the command as the user that owns the data \
             directory, as in `sudo -u postgres pgquorum ...`",
        ));
    }
    Ok(())
}

/// The files of the node of a data directory.
pub fn paths(pgdata: &Path) -> Result<Paths> {
    Paths::of(pgdata)
}

/// A runtime of one thread: a keeper waits nearly all of its time.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| KeeperError::internal(format!("runtime: {error}")))?
        .block_on(work)
}
