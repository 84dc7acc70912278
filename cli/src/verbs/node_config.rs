//! `pgquorum config` for a PostgreSQL node.

use std::path::Path;

use keeper::KeeperError;
use keeper::commands::{self, config};
use keeper::postgres::sql::LocalServer;
use monitor_client::MonitorClient;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::args::service::ConfigVerb;
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::verbs::{block_on, monitor_config, setup};

pub fn run(verb: ConfigVerb) -> Result<(), CliError> {
    let data = match &verb {
        ConfigVerb::Check(args) => &args.data,
        ConfigVerb::Get(args) => &args.data,
        ConfigVerb::Set(args) => &args.data,
    };
    let (pgdata, kind) = locate::created(data)?;
    if kind == locate::Kind::Monitor {
        return monitor_config::run(&pgdata, &verb);
    }
    match verb {
        ConfigVerb::Check(args) => check(&pgdata, args.json.json),
        ConfigVerb::Get(args) => match args.setting {
            Some(name) => output::line(&get(&pgdata, &name)?),
            None if args.json.json => output::json(&all_settings(&pgdata)?),
            None => output::line(&as_ini(&all_settings(&pgdata)?)),
        },
        ConfigVerb::Set(args) => {
            // pg_autoctl calls this a matter of the configuration, and `get` one of the arguments.
            let refused = |error: KeeperError| {
                let mut error = CliError::from(error);
                if error.status == Status::BadArguments {
                    error.status = Status::BadConfiguration;
                }
                error
            };
            output::line(&config::set(&pgdata, &args.setting, &args.value).map_err(refused)?)
        }
    }
}

/// What the file says, and what was found behind it: PostgreSQL on disk and running, the monitors.
fn check(pgdata: &Path, as_json: bool) -> Result<(), CliError> {
    let checked = commands::block_on(config::check(pgdata))?;
    let postgres = setup::look(&checked)?;
    if postgres["pid"].is_null() {
        return Err(CliError::new(Status::BadConfiguration, format!("PostgreSQL does not run on {}", pgdata.display()))
            .hint("the file itself is sound; what PostgreSQL makes of it shows once `pgquorum run` has started it"));
    }
    match as_json {
        true => output::json(&json!({"postgres": postgres, "config": all_settings(pgdata)?}))?,
        false => output::line(&setup::text(&postgres))?,
    }
    match (&postgres["pid"], &postgres["in_recovery"]) {
        (pid, Value::Null) => warn!("PostgreSQL runs with pid {pid} and does not answer on port {}", checked.port),
        (pid, _) => info!("PostgreSQL answers on port {}, pid {pid}", checked.port),
    }
    match locate::monitors_of(pgdata)? {
        None => info!("this node runs without a monitor"),
        Some(located) => {
            let client: MonitorClient = located.client();
            let version = block_on(async { Ok(client.extension_version().await?) })?.unwrap_or_default();
            info!("the monitors answer, with API version {version}: {}", located.target.uri());
        }
    }
    info!("the configuration of node \"{}\" is sound", checked.name);
    Ok(())
}

/// One value; `postgresql.host` and `postgresql.proxyport` as pg_autoctl has them, which knows no defaults.
fn get(pgdata: &Path, name: &str) -> Result<String, CliError> {
    let (section, key) = name.split_once('.').unwrap_or((name, ""));
    let all = all_settings(pgdata)?;
    match &all[section][key] {
        // A secret is shown to the one who asks for it by its name.
        Value::String(text) if key != "password" && key != "monitor" => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Ok(config::get(pgdata, name)?),
    }
}

/// The configuration with numbers where pg_autoctl has them.
pub fn all_settings(pgdata: &Path) -> Result<Value, CliError> {
    const NUMBERS: [&str; 4] = ["group", "port", "proxyport", "active"];
    let mut all = config::get_all(pgdata)?;
    if let Some(postgresql) = all["postgresql"].as_object_mut() {
        let file = keeper::config::Config::load(&commands::paths(pgdata)?.config)?;
        postgresql.entry("host").or_insert_with(|| Value::from(LocalServer::of(&file).socket_dir));
        postgresql.entry("proxyport").or_insert_with(|| Value::from("0"));
    }
    for (section, settings) in all.as_object_mut().into_iter().flatten() {
        for (key, value) in settings.as_object_mut().into_iter().flatten() {
            let number = value.as_str().and_then(|text| text.parse::<i64>().ok());
            if let Some(number) = number.filter(|_| section == "timeout" || NUMBERS.contains(&key.as_str())) {
                *value = Value::from(number);
            }
        }
    }
    Ok(all)
}

/// Sections with their settings as the file would have them, in the order in which pg_autoctl has them.
pub fn as_ini(all: &Value) -> String {
    let known = keeper::config::KEYS;
    let place = |section: &str, key: &str| {
        // Not in the file.
        let key = if key == "proxyport" { "port" } else { key };
        known.iter().position(|(s, k, _)| *s == section && *k == key)
    };
    let mut sections: Vec<_> = all.as_object().into_iter().flatten().collect();
    sections.sort_by_key(|(section, _)| known.iter().position(|(known, ..)| known == section).unwrap_or(known.len()));
    let mut text = String::new();
    for (section, settings) in sections {
        text.push_str(&format!("[{section}]\n"));
        let mut settings: Vec<_> = settings.as_object().into_iter().flatten().collect();
        settings.sort_by_key(|(key, _)| place(section, key).unwrap_or(known.len()));
        for (key, value) in settings {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            text.push_str(&format!("{key} = {value}\n"));
        }
        text.push('\n');
    }
    text.pop();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_as_a_file() {
        let all = json!({"postgresql": {"port": 5432, "pgdata": "/x"}, "pg_autoctl": {"name": "a", "role": "keeper"}});
        assert_eq!(as_ini(&all), "[pg_autoctl]\nrole = keeper\nname = a\n\n[postgresql]\npgdata = /x\nport = 5432\n");
    }
}
