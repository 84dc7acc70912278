//! The settings of a session: what SET, SHOW, RESET and `pg_settings` know.

use std::collections::BTreeMap;
use std::time::Duration;

use failover::settings::{self as replicated, Definition, Kind};
use failover::State;
use serde::{Deserialize, Serialize};

use super::client_settings::{self, CLIENT, ClientSetting, client};
use super::engine::SettingView;
use super::error::SqlError;

/// `server_version` that clients are told: the release whose catalogs the read tier mirrors.
pub const SERVER_VERSION: &str = "15.18";
pub(super) const SERVER_VERSION_NUM: &str = "150018";

/// `pgquorum.read_consistency`: `linearizable` or `local`.
pub const READ_CONSISTENCY: &str = "pgquorum.read_consistency";
/// `pgquorum.extension_version`: the extension release that this session is shown.
pub const EXTENSION_VERSION: &str = "pgquorum.extension_version";

/// The extension releases that a client may ask to be shown.
pub const EXTENSION_VERSIONS: &[&str] = &["2.0", "2.1", "2.2", "2.3"];

/// What the settings depend on besides what the session has set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    pub user: String,
    pub in_recovery: bool,
    pub max_connections: u32,
    pub port: u16,
    pub extension_version: String,
    pub test_mode: bool,
}

/// The values that a session has set, by their canonical names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSettings {
    /// From the startup packet: what RESET goes back to.
    pub startup: BTreeMap<String, String>,
    pub session: BTreeMap<String, String>,
    /// SET LOCAL: gone at the end of the transaction.
    pub local: BTreeMap<String, String>,
}

fn unrecognized(name: &str) -> SqlError {
    SqlError::new("42704", format!("unrecognized configuration parameter \"{name}\""))
}

fn is_pgautofailover(name: &str) -> bool {
    name.get(..15).is_some_and(|p| p.eq_ignore_ascii_case("pgautofailover."))
}

/// Names with a dot are placeholders that anybody may set, as in PostgreSQL; our own prefixes are
/// reserved, so that a misspelling is not silently accepted.
fn is_placeholder(name: &str) -> bool {
    name.contains('.') && !is_pgautofailover(name) && !name.get(..9).is_some_and(|p| p.eq_ignore_ascii_case("pgquorum."))
}

impl SessionSettings {
    /// What the session itself has set.
    pub fn own(&self, name: &str) -> Option<&str> {
        [&self.local, &self.session, &self.startup].into_iter().find_map(|l| l.get(name)).map(String::as_str)
    }

    /// A timeout that the session has set; none when it is 0.
    pub fn timeout(&self, name: &str) -> Option<Duration> {
        self.own(name).and_then(|ms| ms.parse().ok()).filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// Whether the session itself has set a Boolean setting, and to what.
    pub fn explicitly_on(&self, name: &str) -> Option<bool> {
        self.own(name).map(|v| v == "on")
    }

    /// The value of a client setting as `SHOW` prints it; `None` for names of other kinds.
    pub fn client_value(&self, name: &str, around: &Surroundings) -> Option<String> {
        let Some(setting) = client(name) else {
            return if is_placeholder(name) { self.own(&name.to_ascii_lowercase()).map(str::to_string) } else { None };
        };
        let on_off = |v: bool| String::from(if v { "on" } else { "off" });
        Some(match setting.name {
            "in_hot_standby" => on_off(around.in_recovery),
            "default_transaction_read_only" | "transaction_read_only" if around.in_recovery => on_off(true),
            "transaction_read_only" if self.own(setting.name).is_none() => {
                self.own("default_transaction_read_only").unwrap_or("off").to_string()
            }
            "session_authorization" => around.user.clone(),
            "max_connections" => around.max_connections.to_string(),
            "port" => around.port.to_string(),
            EXTENSION_VERSION => self.own(EXTENSION_VERSION).unwrap_or(&around.extension_version).to_string(),
            name => setting.form.shown(self.own(name).unwrap_or(setting.default)),
        })
    }

    /// `SHOW name`.
    ///
    /// # Errors
    /// 42704 for unknown names.
    pub fn show(&self, name: &str, state: &State, around: &Surroundings) -> Result<String, SqlError> {
        if let Some(definition) = replicated::definition(name) {
            return Ok(definition.show(replicated::value_of(state, &self.for_call(), definition.name)));
        }
        self.client_value(name, around).ok_or_else(|| unrecognized(name))
    }

    /// Whether `SHOW name` needs the replicated state.
    pub fn needs_state(name: &str) -> bool {
        replicated::definition(name).is_some()
    }

    /// The name as SHOW prints it in the column header.
    pub fn canonical(name: &str) -> String {
        match (replicated::definition(name), client(name)) {
            (Some(definition), _) => definition.name.to_string(),
            (_, Some(setting)) => setting.name.to_string(),
            _ => name.to_ascii_lowercase(),
        }
    }

    /// The `pgautofailover.*` values that travel with this session's calls.
    pub fn for_call(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for layer in [&self.startup, &self.session, &self.local] {
            all.extend(layer.iter().filter(|(n, _)| is_pgautofailover(n)).map(|(n, v)| (n.clone(), v.clone())));
        }
        all
    }

    /// `SET [LOCAL] name TO value`; `None` is DEFAULT, as RESET. Gives the canonical name.
    ///
    /// # Errors
    /// 42704 unknown name, 22023 bad value, 55P02 not changeable in a session.
    pub fn set(&mut self, name: &str, value: Option<&str>, local: bool, around: &Surroundings) -> Result<String, SqlError> {
        let canonical = Self::canonical(name);
        let value = check(name, value, around)?;
        let value = match (canonical.as_str(), value) {
            ("DateStyle", Some(value)) => Some(date_style(&value, self.own("DateStyle").unwrap_or("ISO, MDY"))?),
            (_, value) => value,
        };
        match (value, local) {
            (Some(value), true) => self.local.insert(canonical.clone(), value),
            (Some(value), false) => {
                self.local.remove(&canonical);
                self.session.insert(canonical.clone(), value)
            }
            (None, true) => self.local.remove(&canonical),
            (None, false) => {
                self.local.remove(&canonical);
                self.session.remove(&canonical)
            }
        };
        Ok(canonical)
    }

    /// `RESET ALL`.
    pub fn reset_all(&mut self) {
        self.session.clear();
        self.local.clear();
    }

    /// Names and values that ParameterStatus announces.
    pub fn reported(&self, around: &Surroundings) -> Vec<(&'static str, String)> {
        CLIENT
            .iter()
            .filter(|s| s.report)
            .filter_map(|s| Some((s.name, self.client_value(s.name, around)?)))
            .collect()
    }

    /// Every setting that the session can SHOW, sorted by name as `SHOW ALL` sorts.
    pub fn views(&self, state: &State, around: &Surroundings) -> Vec<SettingView> {
        let mut all: Vec<SettingView> = CLIENT.iter().map(|s| self.client_view(s, around)).collect();
        all.extend(replicated::DEFINITIONS.iter().map(|d| self.replicated_view(d, state)));
        all.sort_by_key(|v| v.name.to_ascii_lowercase());
        all
    }

    fn client_view(&self, s: &ClientSetting, around: &Surroundings) -> SettingView {
        let shown = self.client_value(s.name, around).unwrap_or_default();
        let (unit, min_val, max_val) = s.form.bounds();
        SettingView {
            name: s.name.to_string(),
            setting: if unit.is_some() { self.own(s.name).unwrap_or(s.default).to_string() } else { shown.clone() },
            shown,
            unit: unit.map(str::to_string),
            min_val,
            max_val,
            category: s.category.to_string(),
            short_desc: s.description.to_string(),
            context: s.context.to_string(),
            vartype: s.form.vartype().to_string(),
            source: if self.own(s.name).is_some() { "session" } else { "default" }.to_string(),
            boot_val: Some(s.default.to_string()),
            reset_val: Some(self.startup.get(s.name).map_or(s.default, String::as_str).to_string()),
        }
    }

    fn replicated_view(&self, d: &Definition, state: &State) -> SettingView {
        let number = |v: i64| match d.kind {
            Kind::Bool => d.show(v),
            _ => v.to_string(),
        };
        let value = replicated::value_of(state, &self.for_call(), d.name);
        let source = if self.own(d.name).is_some() {
            "session"
        } else if state.database_settings.contains_key(d.name) {
            "database"
        } else if state.system_settings.contains_key(d.name) {
            "configuration file"
        } else {
            "default"
        };
        let bounds = d.kind != Kind::Bool;
        SettingView {
            name: d.name.to_string(),
            setting: number(value),
            shown: d.show(value),
            unit: (d.kind == Kind::Milliseconds).then(|| "ms".to_string()),
            category: "Customized Options".to_string(),
            short_desc: d.description.to_string(),
            context: d.context.to_string(),
            vartype: if bounds { "integer" } else { "bool" }.to_string(),
            source: source.to_string(),
            min_val: bounds.then(|| d.min.to_string()),
            max_val: bounds.then(|| d.max.to_string()),
            boot_val: Some(number(d.default)),
            reset_val: Some(number(replicated::value_of(state, &BTreeMap::new(), d.name))),
        }
    }
}

/// Checks a value for `ALTER SYSTEM` and `ALTER DATABASE`. Gives the canonical name.
///
/// # Errors
/// 42704 and 22023.
pub fn check_replicated(name: &str, value: Option<&str>) -> Result<String, SqlError> {
    let definition = replicated::definition(name).ok_or_else(|| {
        if is_pgautofailover(name) || client(name).is_none() {
            unrecognized(name)
        } else {
            SqlError::new("0A000", format!("parameter \"{name}\" is not kept by the monitors"))
                .hint("Only the settings in pgautofailover.* are replicated.")
        }
    })?;
    if let Some(value) = value {
        definition.parse(value).map_err(|m| SqlError::new("22023", m))?;
    }
    Ok(definition.name.to_string())
}

/// `ISO, DMY`: the order alone keeps the style, the style alone the order. Dates are written in ISO style
/// only, whatever the order.
fn date_style(value: &str, present: &str) -> Result<String, SqlError> {
    let mut order = present.rsplit(", ").next().unwrap_or("MDY");
    for word in value.split([',', ' ']).filter(|word| !word.is_empty()) {
        let word = word.to_ascii_lowercase();
        match word.as_str() {
            "iso" => {}
            "dmy" | "european" | "euro" => order = "DMY",
            "mdy" | "us" | "noneuropean" | "noneuro" => order = "MDY",
            "ymd" => order = "YMD",
            "default" => order = "MDY",
            "sql" | "postgres" | "german" => {
                return Err(SqlError::new("0A000", format!("DateStyle \"{value}\" is not supported"))
                    .hint("This server writes dates in ISO style only."));
            }
            _ => {
                return Err(SqlError::new("22023", format!("invalid value for parameter \"DateStyle\": \"{value}\""))
                    .detail(format!("Unrecognized key word: \"{word}\".")));
            }
        }
    }
    Ok(format!("ISO, {order}"))
}

fn check(name: &str, value: Option<&str>, around: &Surroundings) -> Result<Option<String>, SqlError> {
    let cannot = |canonical: &str| SqlError::new("55P02", format!("parameter \"{canonical}\" cannot be changed now"));
    if let Some(d) = replicated::definition(name) {
        if d.context == "sighup" && !around.test_mode {
            return Err(cannot(d.name).hint("Use ALTER SYSTEM SET, then SELECT pg_reload_conf()."));
        }
        return value.map(|v| d.parse(v).map(|parsed| d.show(parsed)).map_err(|m| SqlError::new("22023", m))).transpose();
    }
    let Some(s) = client(name) else {
        return if is_placeholder(name) { Ok(value.map(str::to_string)) } else { Err(unrecognized(name)) };
    };
    if s.context == "internal" {
        return Err(SqlError::new("55P02", format!("parameter \"{}\" cannot be changed", s.name)));
    }
    if s.context == "superuser" && around.user != "postgres" {
        return Err(SqlError::new("42501", format!("permission denied to set parameter \"{}\"", s.name)));
    }
    if s.context == "postmaster" {
        return Err(SqlError::new("55P02", format!("parameter \"{}\" cannot be changed without restarting the server", s.name)));
    }
    let Some(value) = value else { return Ok(None) };
    let stored = client_settings::read(s, value, &around.user)?;
    if s.name == "transaction_read_only" && stored == "off" && around.in_recovery {
        return Err(SqlError::new("0A000", "cannot set transaction read-write mode during recovery"));
    }
    Ok(Some(stored))
}
