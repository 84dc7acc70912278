//! What can go wrong with a call, and what may be done about it.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::connect::ConnectError;

/// An ErrorResponse of the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl ServerError {
    pub(crate) fn from_db(error: &tokio_postgres::error::DbError) -> ServerError {
        ServerError {
            severity: error.severity().to_string(),
            code: error.code().code().to_string(),
            message: error.message().to_string(),
            detail: error.detail().map(str::to_string),
            hint: error.hint().map(str::to_string),
        }
    }

    /// The server is not able to serve now, another one or the same one a little later may be.
    pub fn is_transient(&self) -> bool {
        matches!(self.code.as_str(), "57P01" | "57P02" | "57P03" | "40001" | "40003" | "40P01" | "25006")
            || self.code.starts_with("08")
            || self.code.starts_with("53")
    }

    /// Surely nothing was done: the server refused before it began.
    pub fn did_nothing(&self) -> bool {
        matches!(self.code.as_str(), "57P03" | "40P01" | "25006") || self.code.starts_with("53")
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " (hint: {hint})")?;
        }
        write!(f, " [{}]", self.code)
    }
}

/// A call that gave no answer.
#[derive(Clone, Debug, Error)]
pub enum CallError {
    /// No monitor could be reached: surely nothing was done.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The monitor said no.
    #[error("{0}")]
    Server(ServerError),
    /// No answer in time: what was asked for may or may not have been done.
    #[error("{host} gave no answer within {}", shown(*.after))]
    Silent { host: String, after: Duration },
    /// The connection broke: what was asked for may or may not have been done.
    #[error("the connection to {host} broke: {reason}")]
    Lost { host: String, reason: String },
    /// The monitor answered something that this release does not understand.
    #[error("unexpected answer of the monitor: {0}")]
    Answer(String),
}

impl CallError {
    /// SQLSTATE, when the server gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            CallError::Server(error) => Some(&error.code),
            _ => None,
        }
    }

    /// Repeating may help.
    pub fn is_transient(&self) -> bool {
        match self {
            CallError::Connect(error) => !error.permanent,
            CallError::Server(error) => error.is_transient(),
            CallError::Silent { .. } | CallError::Lost { .. } => true,
            CallError::Answer(_) => false,
        }
    }

    /// It is not known whether the call took effect.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            CallError::Connect(_) | CallError::Answer(_) => false,
            CallError::Server(error) => error.is_transient() && !error.did_nothing(),
            CallError::Silent { .. } | CallError::Lost { .. } => true,
        }
    }
}

/// `1.5 s`, `200 ms`.
pub(crate) fn shown(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms < 1000 {
        format!("{ms} ms")
    } else {
        let text = format!("{:.1}", duration.as_secs_f64());
        format!("{} s", text.strip_suffix(".0").unwrap_or(&text))
    }
}
