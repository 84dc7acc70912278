//! What goes wrong, with the exit code that upstream's scripts expect.

use std::fmt;

/// Exit codes of upstream's command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    BadArguments = 1,
    BadConfig = 2,
    BadState = 3,
    Postgres = 4,
    PgCtl = 5,
    Monitor = 6,
    Keeper = 8,
    Reload = 9,
    Internal = 12,
    /// The node was dropped from the monitor: a service manager must not start it again.
    Dropped = 121,
    /// Starting again does not help before an operator has done something.
    Fatal = 122,
}

/// A failure, told so that an operator knows what to do.
#[derive(Clone, Debug)]
pub struct KeeperError {
    pub exit: Exit,
    pub message: String,
}

impl std::error::Error for KeeperError {}

impl fmt::Display for KeeperError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

macro_rules! constructors {
    ($($name:ident => $exit:ident),+ $(,)?) => {
        impl KeeperError {
            $(pub fn $name(message: impl Into<String>) -> KeeperError {
                KeeperError { exit: Exit::$exit, message: message.into() }
            })+
        }
    };
}

constructors! {
    arguments => BadArguments,
    config => BadConfig,
    state => BadState,
    postgres => Postgres,
    pg_ctl => PgCtl,
    monitor => Monitor,
    keeper => Keeper,
    internal => Internal,
    dropped => Dropped,
    fatal => Fatal,
}

impl KeeperError {
    /// The same failure with what was being done in front.
    pub fn while_doing(mut self, what: impl fmt::Display) -> KeeperError {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// An I/O failure on a path.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> KeeperError {
        KeeperError { exit: Exit::Keeper, message: format!("{what}: {error}") }
    }
}

impl From<monitor_client::CallError> for KeeperError {
    fn from(error: monitor_client::CallError) -> KeeperError {
        KeeperError { exit: Exit::Monitor, message: error.to_string() }
    }
}

pub type Result<T> = std::result::Result<T, KeeperError>;
