//! `config check`, `config get`, `config set`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::{Config, KEYS, set_value};
use crate::error::{KeeperError, Result};
use crate::paths::Paths;
use crate::postgres::control::Installation;

/// Shown in place of a secret.
const HIDDEN: &str = "****";

/// Checks the file and what it names.
pub async fn check(pgdata: &Path) -> Result<Config> {
    let paths = Paths::of(pgdata)?;
    let config = Config::load(&paths.config)?;
    config.target()?;
    let install = Installation::of(&config.pg_ctl).map_err(|error| KeeperError::config(error.message))?;
    install.major_version().await?;
    Ok(config)
}

/// One value, `section.option`.
pub fn get(pgdata: &Path, name: &str) -> Result<String> {
    let (section, key) = split(name)?;
    let config = Config::load(&Paths::of(pgdata)?.config)?;
    if !KEYS.iter().any(|(s, k, _)| *s == section && *k == key) {
        return Err(KeeperError::arguments(format!("there is no setting {name}")));
    }
    Ok(config.get(section, key).unwrap_or_default())
}

/// All of them as JSON, by section; the password is not shown.
pub fn get_all(pgdata: &Path) -> Result<Value> {
    let config = Config::load(&Paths::of(pgdata)?.config)?;
    let mut all = Map::new();
    for (section, key, _) in KEYS {
        let Some(value) = config.get(section, key) else { continue };
        let shown = match *key {
            "password" => HIDDEN.to_string(),
            "monitor" => config.target().ok().flatten().map_or(value, |target| target.uri()),
            _ => value,
        };
        if let Value::Object(entries) = all.entry(*section).or_insert_with(|| Value::Object(Map::new())) {
            entries.insert((*key).to_string(), Value::String(shown));
        }
    }
    Ok(Value::Object(all))
}

/// Changes the file; a running keeper takes it up with `reload`.
pub fn set(pgdata: &Path, name: &str, value: &str) -> Result<String> {
    let (section, key) = split(name)?;
    let config = set_value(&Paths::of(pgdata)?.config, section, key, value)?;
    Ok(config.get(section, key).unwrap_or_default())
}

fn split(name: &str) -> Result<(&str, &str)> {
    name.split_once('.').ok_or_else(|| KeeperError::arguments(format!("\"{name}\" is not section.option")))
}
