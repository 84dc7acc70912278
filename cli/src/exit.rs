//! Exit codes and errors: what failed, why, and the command that helps.

use std::fmt;
use std::process::ExitCode;

use monitor_client::CallError;
use tracing::{error, info};

use crate::program;

/// pg_autoctl's exit codes, as scripts know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    BadArguments = 1,
    BadConfiguration = 2,
    /// Also `status` of something that does not run.
    BadState = 3,
    Postgres = 4,
    PgCtl = 5,
    Monitor = 6,
    Keeper = 8,
    Reload = 9,
    Internal = 12,
    /// By a signal, as shells count it.
    Interrupted = 130,
    /// The node was dropped: a service manager must not start it again.
    Dropped = 121,
    /// Nor before an operator has done something.
    Fatal = 122,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status as u8)
    }
}

/// Why a command ends without success.
#[derive(Debug)]
pub struct CliError {
    pub status: Status,
    text: String,
    hint: Option<String>,
    not_created: bool,
}

impl CliError {
    pub fn new(status: Status, text: impl Into<String>) -> CliError {
        CliError { status, text: text.into(), hint: None, not_created: false }
    }

    /// A data directory has no configuration: pg_autoctl's exit code for it depends on the command.
    pub fn not_created(text: impl Into<String>) -> CliError {
        CliError { not_created: true, ..CliError::new(Status::Internal, text) }
    }

    /// With the exit code that the command has for a data directory without configuration.
    pub fn of_command(mut self, without_configuration: Status) -> CliError {
        if self.not_created {
            self.status = without_configuration;
        }
        self
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was tried before why it failed.
    pub fn while_doing(mut self, doing: impl fmt::Display) -> CliError {
        self.text = format!("{doing}: {}", self.text);
        self
    }

    pub fn report(&self) {
        for line in program::renamed(&self.text).lines() {
            error!("{line}");
        }
        if let Some(hint) = &self.hint {
            info!("hint: {}", program::renamed(hint));
        }
    }

    /// What failed, without what to do about it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl From<CallError> for CliError {
    fn from(error: CallError) -> CliError {
        let unknown = error.outcome_unknown();
        let cli = match &error {
            CallError::Connect(connect) => {
                let hint = if connect.permanent {
                    "check the user, the password (in the URI or PGPASSWORD) and the database of the monitor's URI"
                } else {
                    "are the monitors running? `pgquorum status --pgdata DIR` on their machines tells"
                };
                CliError::new(Status::Monitor, error.to_string()).hint(hint)
            }
            CallError::Server(server) => {
                let mut text = match server.is_transient() {
                    true => format!(
                        "no monitor could do it, the last one said after {} s: {}",
                        program::running_seconds(),
                        server.message
                    ),
                    false => format!("the monitor refused: {}", server.message),
                };
                if let Some(detail) = &server.detail {
                    text.push_str(&format!("\n  detail: {detail}"));
                }
                text.push_str(&format!("\n  SQLSTATE {}", server.code));
                let cli = CliError::new(Status::Monitor, text);
                match &server.hint {
                    Some(hint) => cli.hint(hint.clone()),
                    None => cli,
                }
            }
            _ => CliError::new(Status::Monitor, format!("{error}; gave up after {} s", program::running_seconds())),
        };
        match unknown {
            true => cli.hint("it is not known whether this took effect: look at `pgquorum show state` before repeating it"),
            false => cli,
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> CliError {
        CliError::new(Status::Internal, error.to_string())
    }
}
