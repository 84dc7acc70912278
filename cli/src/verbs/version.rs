//! `pgquorum version`

use serde_json::json;

use crate::args::JsonArgs;
use crate::exit::CliError;
use crate::output;

pub const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// The API that the monitors speak to keepers.
pub const API_VERSION: &str = "2.0";

pub fn run(args: &JsonArgs) -> Result<(), CliError> {
    match args.json {
        true => output::json(&json!({"pgquorum": RELEASE, "pgautofailover": API_VERSION})),
        false => {
            output::line(&format!("pgquorum version {RELEASE}"))?;
            output::line(&format!("monitors speak the API of pg_auto_failover {API_VERSION}"))
        }
    }
}
