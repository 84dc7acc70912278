//! The monitor: replicated failover state behind a PostgreSQL-compatible SQL facade.

pub mod client_tls;
pub mod clock;
mod codec;
pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod health;
mod leader;
mod members;
mod monitor;
mod notify;
mod observed;
mod replicated;
mod reservation;
mod run;
pub mod sql;
mod watch;

/// Passes a mistake on to the log, which does not know the list of them.
#[cfg(feature = "mutants")]
pub fn mutant() {
    let skip = failover::mutant::is(failover::mutant::Mutant::NoSync);
    raft_store::SKIP_SYNC.store(skip, std::sync::atomic::Ordering::Relaxed);
}

pub use config::{Auth, Config, ConfigError, Replica, ReplicaTls};
pub use run::{PID_FILE, RunError, RunOptions, run};
