//! `pgquorum config` for a monitor: the file in its data directory.

use std::path::Path;

use ini::Ini;
use serde_json::{Map, Value};
use tracing::info;

use crate::args::service::ConfigVerb;
use crate::exit::{CliError, Status};
use crate::output;
use crate::server::{Config, FILE_NAME};
use crate::verbs::node_config::as_ini;

/// What is never printed.
const SECRETS: [&str; 1] = ["autoctl_node_password"];

pub fn run(pgdata: &Path, verb: &ConfigVerb) -> Result<(), CliError> {
    let config = Config::load(pgdata).map_err(|error| CliError::new(Status::BadConfiguration, error.to_string()))?;
    match verb {
        ConfigVerb::Check(args) if args.json.json => output::json(&Value::Object(all(pgdata)?)),
        ConfigVerb::Check(_) => {
            info!("the configuration of the monitor \"{}\" is sound", config.name);
            Ok(())
        }
        ConfigVerb::Get(args) => {
            let all = all(pgdata)?;
            let Some(name) = &args.setting else { return print_all(pgdata, args.json.json) };
            let found = name.split_once('.').and_then(|(section, key)| all.get(section)?.get(key)?.as_str());
            match found {
                Some(found) => output::line(found),
                None => Err(CliError::new(Status::BadArguments, format!("a monitor has no setting {name}"))
                    .hint("`pgquorum config get` prints all of them")),
            }
        }
        ConfigVerb::Set(_) => Err(CliError::new(
            Status::BadArguments,
            "the settings of a monitor are those that it was created with",
        )
        .hint(format!("edit {} and start the monitor again", pgdata.join(FILE_NAME).display()))),
    }
}

/// The whole file, without what is secret.
pub fn print_all(pgdata: &Path, as_json: bool) -> Result<(), CliError> {
    let all = Value::Object(all(pgdata)?);
    if as_json { output::json(&all) } else { output::line(&as_ini(&all)) }
}

/// Every section with its settings.
fn all(pgdata: &Path) -> Result<Map<String, Value>, CliError> {
    let path = pgdata.join(FILE_NAME);
    let ini = Ini::load_from_file(&path)
        .map_err(|error| CliError::new(Status::BadConfiguration, format!("{}: {error}", path.display())))?;
    let mut sections = Map::new();
    for (section, properties) in ini.iter() {
        let Some(section) = section else { continue };
        let shown = |key: &str, text: &str| match SECRETS.contains(&key) {
            true => Value::from("(set)"),
            false => Value::from(text),
        };
        let keys = properties.iter().map(|(key, text)| (key.to_string(), shown(key, text))).collect();
        sections.insert(section.to_string(), Value::Object(keys));
    }
    Ok(sections)
}
