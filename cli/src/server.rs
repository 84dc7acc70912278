//! The monitor that this binary can run.

pub use monitor::client_tls;
pub use monitor::config::{FILE_NAME, default_replica_port};
pub use monitor::{Auth, Config, ConfigError, PID_FILE, Replica, ReplicaTls, RunError, RunOptions, run};
