//! The settings of a session: what SET, SHOW, RESET and `pg_settings` know.

use std::collections::BTreeMap;

use failover::settings::{self as replicated, Definition, Kind};
use failover::State;
use serde::{Deserialize, Serialize};

use super::engine::{SettingView, zone};
use super::error::SqlError;
use super::values::parse_bool;

/// `server_version` that clients are told: the release whose catalogs the read tier mirrors.
pub const SERVER_VERSION: &str = "15.18";
const SERVER_VERSION_NUM: &str = "150018";

/// `pgquorum.read_consistency`: `linearizable` or `local`.
pub const READ_CONSISTENCY: &str = "pgquorum.read_consistency";
/// `pgquorum.extension_version`: the extension release that this session is shown.
pub const EXTENSION_VERSION: &str = "pgquorum.extension_version";

/// The extension releases that a client may ask to be shown.
pub const EXTENSION_VERSIONS: &[&str] = &["2.0", "2.1", "2.2", "2.3"];

/// How a client setting's value is read.
#[derive(Clone, Copy)]
enum Form {
    Bool,
    Int,
    Text,
    /// One of these words.
    Enum(&'static [&'static str]),
}

/// A setting of PostgreSQL's that clients set or read. Most of them change nothing here: they are
/// accepted so that drivers can do what they always do.
struct ClientSetting {
    name: &'static str,
    default: &'static str,
    form: Form,
    /// `user`, `internal` or `postmaster`: only `user` ones can be set.
    context: &'static str,
    /// Announced by ParameterStatus.
    report: bool,
    category: &'static str,
    description: &'static str,
}

const fn c(
    name: &'static str,
    default: &'static str,
    form: Form,
    context: &'static str,
    report: bool,
    category: &'static str,
    description: &'static str,
) -> ClientSetting {
    ClientSetting { name, default, form, context, report, category, description }
}

const FORMAT: &str = "Client Connection Defaults / Locale and Formatting";
const BEHAVIOR: &str = "Client Connection Defaults / Statement Behavior";
const PRESET: &str = "Preset Options";
const LOG: &str = "Reporting and Logging / What to Log";
const COMPAT: &str = "Version and Platform Compatibility / Previous PostgreSQL Versions";
const LEVELS: &[&str] = &["debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "notice", "warning", "error"];
const ISOLATION: &[&str] = &["serializable", "repeatable read", "read committed", "read uncommitted"];

const CLIENT: &[ClientSetting] = &[
    c("application_name", "", Form::Text, "user", true, LOG, "Sets the application name to be reported in statistics and logs."),
    c("backslash_quote", "safe_encoding", Form::Text, "user", false, COMPAT, "Sets whether \"\\'\" is allowed in string literals."),
    c("bytea_output", "hex", Form::Enum(&["escape", "hex"]), "user", false, BEHAVIOR, "Sets the output format for bytea."),
    c("client_encoding", "UTF8", Form::Text, "user", true, FORMAT, "Sets the client's character set encoding."),
    c("client_min_messages", "notice", Form::Enum(LEVELS), "user", false, BEHAVIOR, "Sets the message levels that are sent to the client."),
    c("DateStyle", "ISO, MDY", Form::Text, "user", true, FORMAT, "Sets the display format for date and time values."),
    c("default_transaction_isolation", "read committed", Form::Enum(ISOLATION), "user", false, BEHAVIOR, "Sets the transaction isolation level of each new transaction."),
    c("default_transaction_read_only", "off", Form::Bool, "user", true, BEHAVIOR, "Sets the default read-only status of new transactions."),
    c("extra_float_digits", "1", Form::Int, "user", false, FORMAT, "Sets the number of digits displayed for floating-point values."),
    c("geqo", "on", Form::Bool, "user", false, "Query Tuning / Genetic Query Optimizer", "Enables genetic query optimization."),
    c("idle_in_transaction_session_timeout", "0", Form::Text, "user", false, BEHAVIOR, "Sets the maximum allowed idle time between queries, when in a transaction."),
    c("in_hot_standby", "off", Form::Bool, "internal", true, PRESET, "Shows whether hot standby is currently active."),
    c("integer_datetimes", "on", Form::Bool, "internal", true, PRESET, "Shows whether datetimes are integer based."),
    c("IntervalStyle", "postgres", Form::Enum(&["postgres", "postgres_verbose", "sql_standard", "iso_8601"]), "user", true, FORMAT, "Sets the display format for interval values."),
    c("is_superuser", "off", Form::Bool, "internal", true, PRESET, "Shows whether the current user is a superuser."),
    c("lc_collate", "C.UTF-8", Form::Text, "internal", false, PRESET, "Shows the collation order locale."),
    c("lc_ctype", "C.UTF-8", Form::Text, "internal", false, PRESET, "Shows the character classification and case conversion locale."),
    c("lc_messages", "C.UTF-8", Form::Text, "user", false, FORMAT, "Sets the language in which messages are displayed."),
    c("lc_monetary", "C.UTF-8", Form::Text, "user", false, FORMAT, "Sets the locale for formatting monetary amounts."),
    c("lc_numeric", "C.UTF-8", Form::Text, "user", false, FORMAT, "Sets the locale for formatting numbers."),
    c("lc_time", "C.UTF-8", Form::Text, "user", false, FORMAT, "Sets the locale for formatting date and time values."),
    c("lock_timeout", "0", Form::Text, "user", false, BEHAVIOR, "Sets the maximum allowed duration of any wait for a lock."),
    c("max_connections", "0", Form::Int, "postmaster", false, "Connections and Authentication / Connection Settings", "Sets the maximum number of concurrent connections."),
    c("max_identifier_length", "63", Form::Int, "internal", false, PRESET, "Shows the maximum identifier length."),
    c("max_index_keys", "32", Form::Int, "internal", false, PRESET, "Shows the maximum number of index keys."),
    c("password_encryption", "scram-sha-256", Form::Text, "user", false, "Connections and Authentication / Authentication", "Chooses the algorithm for encrypting passwords."),
    c("port", "5432", Form::Int, "postmaster", false, "Connections and Authentication / Connection Settings", "Sets the TCP port the server listens on."),
    c("role", "none", Form::Enum(&["none"]), "user", false, "Ungrouped", "Sets the current role."),
    c("row_security", "on", Form::Bool, "user", false, BEHAVIOR, "Enable row security."),
    c("search_path", "\"$user\", public", Form::Text, "user", false, BEHAVIOR, "Sets the schema search order for names that are not schema-qualified."),
    c("server_encoding", "UTF8", Form::Text, "internal", true, PRESET, "Shows the server (database) character set encoding."),
    c("server_version", SERVER_VERSION, Form::Text, "internal", true, PRESET, "Shows the server version."),
    c("server_version_num", SERVER_VERSION_NUM, Form::Int, "internal", false, PRESET, "Shows the server version as an integer."),
    c("session_authorization", "", Form::Text, "internal", true, "Ungrouped", "Sets the current role and session user name."),
    c("ssl", "off", Form::Bool, "internal", false, "Connections and Authentication / SSL", "Enables SSL connections."),
    c("standard_conforming_strings", "on", Form::Enum(&["on"]), "user", true, COMPAT, "Causes '...' strings to treat backslashes literally."),
    c("statement_timeout", "0", Form::Text, "user", false, BEHAVIOR, "Sets the maximum allowed duration of any statement."),
    c("synchronous_commit", "on", Form::Text, "user", false, "Write-Ahead Log / Settings", "Sets the current transaction's synchronization level."),
    c("TimeZone", "UTC", Form::Text, "user", true, FORMAT, "Sets the time zone for displaying and interpreting time stamps."),
    c("transaction_deferrable", "off", Form::Bool, "user", false, BEHAVIOR, "Whether to defer a read-only serializable transaction."),
    c("transaction_isolation", "read committed", Form::Enum(ISOLATION), "user", false, BEHAVIOR, "Sets the current transaction's isolation level."),
    c("transaction_read_only", "off", Form::Bool, "user", false, BEHAVIOR, "Sets the current transaction's read-only status."),
    c("wal_level", "replica", Form::Text, "internal", false, "Write-Ahead Log / Settings", "Sets the level of information written to the WAL."),
    c("xmloption", "content", Form::Text, "user", false, BEHAVIOR, "Sets whether XML data is considered as documents or content fragments."),
    c(EXTENSION_VERSION, "2.0", Form::Enum(EXTENSION_VERSIONS), "user", false, "Customized Options", "The pgautofailover release that this session is shown."),
    c(READ_CONSISTENCY, "linearizable", Form::Enum(&["linearizable", "local"]), "user", false, "Customized Options", "Whether reads are proved by the leader or answered from what this monitor has applied."),
];

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

fn client(name: &str) -> Option<&'static ClientSetting> {
    CLIENT.iter().find(|s| s.name.eq_ignore_ascii_case(name))
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
            name => self.own(name).unwrap_or(setting.default).to_string(),
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
        let value = self.client_value(s.name, around).unwrap_or_default();
        SettingView {
            name: s.name.to_string(),
            setting: value.clone(),
            shown: value,
            category: s.category.to_string(),
            short_desc: s.description.to_string(),
            context: s.context.to_string(),
            vartype: match s.form {
                Form::Bool => "bool",
                Form::Int => "integer",
                Form::Text => "string",
                Form::Enum(_) => "enum",
            }
            .to_string(),
            source: if self.own(s.name).is_some() { "session" } else { "default" }.to_string(),
            boot_val: Some(s.default.to_string()),
            reset_val: Some(self.startup.get(s.name).map_or(s.default, String::as_str).to_string()),
            ..SettingView::default()
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
            _ => return Err(SqlError::new("22023", format!("invalid value for parameter \"DateStyle\": \"{value}\""))),
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
    if s.context != "user" {
        return Err(SqlError::new("55P02", format!("parameter \"{}\" cannot be changed without restarting the server", s.name)));
    }
    let Some(value) = value else { return Ok(None) };
    let invalid = || SqlError::new("22023", format!("invalid value for parameter \"{}\": \"{value}\"", s.name));
    Ok(Some(match s.form {
        Form::Text if s.name == "client_encoding" => {
            let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
            match plain.as_str() {
                "utf8" | "unicode" => "UTF8".to_string(),
                // Nothing is converted, which is right for both: SQL_ASCII means "as it is", and
                // libpq calls an ASCII locale that.
                "sqlascii" => "SQL_ASCII".to_string(),
                _ => return Err(invalid().hint("This server speaks UTF8.")),
            }
        }
        Form::Text if s.name == "TimeZone" => zone::find(value.trim()).ok_or_else(invalid)?.0,
        Form::Text => value.to_string(),
        Form::Int => value.trim().parse::<i32>().map_err(|_| invalid())?.to_string(),
        Form::Bool => {
            let message = || SqlError::new("22023", format!("parameter \"{}\" requires a Boolean value", s.name));
            let on = parse_bool(value).ok_or_else(message)?;
            if s.name == "transaction_read_only" && !on && around.in_recovery {
                return Err(SqlError::new("0A000", "cannot set transaction read-write mode during recovery"));
            }
            if on { "on" } else { "off" }.to_string()
        }
        Form::Enum(words) => {
            let found = words.iter().find(|w| w.eq_ignore_ascii_case(value));
            // `debug` is understood and not advertised.
            let shown: Vec<&str> = words.iter().copied().filter(|w| *w != "debug").collect();
            let hint = format!("Available values: {}.", shown.join(", "));
            let found = found.ok_or_else(|| invalid().hint(hint))?;
            if s.name == "IntervalStyle" && *found != s.default {
                return Err(SqlError::new("0A000", format!("IntervalStyle \"{found}\" is not supported"))
                    .hint("This server writes intervals in the style postgres only."));
            }
            found.to_string()
        }
    }))
}
