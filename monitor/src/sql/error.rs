//! Errors as a PostgreSQL client sees them.

use failover::Rejection;
use serde::{Deserialize, Serialize};

/// An ErrorResponse of severity ERROR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlError {
    /// Five characters.
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// One-based character position in the statement.
    pub position: Option<u32>,
}

impl SqlError {
    pub fn new(sqlstate: &str, message: impl Into<String>) -> SqlError {
        SqlError { sqlstate: sqlstate.to_string(), message: message.into(), detail: None, hint: None, position: None }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> SqlError {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Rejection> for SqlError {
    fn from(r: Rejection) -> SqlError {
        SqlError { sqlstate: r.sqlstate, message: r.message, detail: r.detail, hint: r.hint, position: None }
    }
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.sqlstate, self.message)
    }
}

impl std::error::Error for SqlError {}
