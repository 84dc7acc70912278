//! PostgreSQL of this machine as pg_autoctl tells about it: in text and as JSON.

use std::process::Command;

use keeper::commands::{self, service};
use keeper::config::Config;
use serde_json::Value;

use crate::exit::CliError;
use crate::verbs::version;

/// The JSON of `status`, with the version of the programs where no server tells its own.
pub fn look(config: &Config) -> Result<Value, CliError> {
    let mut found = commands::block_on(service::postgres(config))?;
    if found["version"].is_null() {
        found["version"] = version_of(config).map_or(Value::Null, Value::from);
    }
    Ok(found)
}

/// `15.18`, of the node's `pg_ctl`.
fn version_of(config: &Config) -> Option<String> {
    let said = Command::new(&config.pg_ctl).arg("--version").output().ok()?;
    let text = version::postgres_version_in(&String::from_utf8_lossy(&said.stdout))?;
    text.split(' ').next().map(str::to_string)
}

/// Labelled lines, as `config check` prints them. What is not known is left out.
pub fn text(postgres: &Value) -> String {
    let control = &postgres["control"];
    let recovery = postgres["in_recovery"].as_bool().map(|on| if on { "yes" } else { "no" });
    let shown = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let version = postgres["version"].as_str().map(|text| format!("\"{text}\" ({})", text.replace('.', "")));
    let lines = [
        ("pgdata", shown(&postgres["pgdata"])),
        ("pg_ctl", shown(&postgres["pg_ctl"])),
        ("pg_version", version),
        ("pghost", shown(&postgres["host"])),
        ("pgport", shown(&postgres["port"])),
        ("proxyport", shown(&postgres["proxyport"])),
        ("pid", shown(&postgres["pid"])),
        ("is in recovery", recovery.map(str::to_string)),
        ("Control cluster state", shown(&control["state"])),
        ("Control Version", shown(&control["version"])),
        ("Catalog Version", shown(&control["catalog_version"])),
        ("System Identifier", shown(&control["system_identifier"])),
        ("Latest checkpoint LSN", shown(&control["checkpoint"])),
        ("Postmaster status", shown(&postgres["postmaster"]["status"])),
    ];
    let known = lines.into_iter().filter_map(|(label, value)| Some(format!("{:23}{}", format!("{label}:"), value?)));
    known.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_known_is_left_out() {
        let stopped = json!({
            "pgdata": "/d", "pg_ctl": "/b/pg_ctl", "version": "15.18", "host": "/run", "port": 5432, "proxyport": 0,
            "pid": null, "in_recovery": null, "control": {"state": "shut down", "version": 1300}, "postmaster": {"status": "unknown"},
        });
        assert_eq!(
            text(&stopped),
            "pgdata:                /d\npg_ctl:                /b/pg_ctl\npg_version:            \"15.18\" (1518)\n\
             pghost:                /run\npgport:                5432\nproxyport:             0\n\
             Control cluster state: shut down\nControl Version:       1300\nPostmaster status:     unknown"
        );
    }
}
