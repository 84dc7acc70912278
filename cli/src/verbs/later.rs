//! Commands of pg_autoctl that this release answers with a reason instead.

use crate::exit::{CliError, Status};

/// Citus verbs.
pub fn citus(what: &str) -> Result<(), CliError> {
    Err(CliError::new(Status::BadArguments, format!("`{what}` is about Citus, which comes in a later release"))
        .hint("plain PostgreSQL: pgquorum create postgres"))
}

/// `accept timeline`.
pub fn accept_timeline() -> Result<(), CliError> {
    Err(CliError::new(
        Status::BadArguments,
        "timelines need no acceptance: the election leaves out nodes on a timeline that the group has left",
    )
    .hint("`pgquorum show timeline` shows them; `pgquorum perform failover --allow-data-loss` decides against one"))
}

/// What only a running keeper may do.
pub fn keeper_does(what: &str, instead: &str) -> Result<(), CliError> {
    Err(CliError::new(
        Status::BadArguments,
        format!("`{what}` is not provided: the running keeper does this by itself when the monitors ask for it"),
    )
    .hint(instead.to_string()))
}

/// Tools of upstream's developers.
pub fn not_provided(what: &str, instead: &str) -> Result<(), CliError> {
    Err(CliError::new(Status::BadArguments, format!("`{what}` is not provided")).hint(instead.to_string()))
}
