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

pub use config::{Auth, Config, ConfigError, Replica, ReplicaTls};
pub use run::{PID_FILE, RunError, RunOptions, run};
