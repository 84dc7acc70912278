//! `pgquorum version`

use std::process::Command;

use keeper::postgres::control::Installation;
use serde_json::{Value, json};

use crate::args::JsonArgs;
use crate::exit::CliError;
use crate::output;
use crate::program;

pub const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// The API that the monitors speak to keepers.
pub const API_VERSION: &str = "2.0";
/// Majors of PostgreSQL that the keeper takes.
const COMPATIBLE: &str = "Postgres 13, 14, 15, 16, and 17";

pub fn run(args: &JsonArgs) -> Result<(), CliError> {
    if args.json {
        // pg_autoctl tells the PostgreSQL that it was built with; here it is the one that would be run.
        let version = postgres_version();
        let major = version.as_deref().and_then(|text| text.split(['.', ' ']).next()).map(str::to_string);
        let number = version.as_deref().and_then(version_number);
        return output::json(&json!({
            "pg_autoctl": RELEASE,
            "pgautofailover": API_VERSION,
            "pg_major": major,
            "pg_version": version,
            "pg_version_str": version.as_ref().map(|version| format!("PostgreSQL {version}")),
            "pg_version_num": number.map_or(Value::Null, Value::from),
            "pgquorum": RELEASE,
        }));
    }
    output::line(&format!("{} version {RELEASE}", program::name()))?;
    output::line(&format!("{} extension version {API_VERSION}", program::name()))?;
    output::line(&format!("compatible with {COMPATIBLE}"))
}

/// `15.18 (Debian 15.18-0+deb12u1)`, of the only PostgreSQL that is installed.
fn postgres_version() -> Option<String> {
    let pg_ctl = Installation::find_pg_ctl().ok()?;
    let said = Command::new(pg_ctl).arg("--version").output().ok()?;
    postgres_version_in(&String::from_utf8_lossy(&said.stdout))
}

/// What follows the program's name in the answer to `--version`.
pub fn postgres_version_in(said: &str) -> Option<String> {
    said.trim().split_once("(PostgreSQL) ").map(|(_, version)| version.to_string())
}

/// `15.18` is 150018.
fn version_number(version: &str) -> Option<u32> {
    let mut parts = version.split([' ', '.']);
    let major: u32 = parts.next()?.parse().ok()?;
    let minor: u32 = parts.next().and_then(|minor| minor.parse().ok()).unwrap_or(0);
    Some(major * 10_000 + minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_versions() {
        assert_eq!(version_number("15.18 (Debian 15.18-0+deb12u1)"), Some(150_018));
        assert_eq!(version_number("18beta1"), None);
        assert_eq!(version_number("17 (x)"), Some(170_000));
    }
}
