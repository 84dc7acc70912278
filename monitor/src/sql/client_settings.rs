//! PostgreSQL's own settings that clients set or read, and how their values are read and shown. Most of
//! them change nothing here: they are accepted so that clients and drivers can do what they always do.

use super::amounts::{self, Unit};
use super::engine::zone;
use super::error::SqlError;
use super::settings::{EXTENSION_VERSION, EXTENSION_VERSIONS, READ_CONSISTENCY, SERVER_VERSION, SERVER_VERSION_NUM};
use super::values::parse_bool;

/// How a setting's value is read; bounds are inclusive.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Form {
    Bool,
    Int(i64, i64),
    /// Milliseconds.
    Time(i64, i64),
    /// Kilobytes.
    Memory(i64, i64),
    /// Blocks of 8 kB.
    Blocks(i64, i64),
    Real(f64, f64),
    Text,
    Locale,
    /// The session's own role is the only one that it can have.
    Role,
    /// One of these words.
    Enum(&'static [&'static str]),
}

pub(super) struct ClientSetting {
    pub name: &'static str,
    /// In the unit of `form`.
    pub default: &'static str,
    pub form: Form,
    /// `user`, `superuser`, `internal` or `postmaster`: the first two can be set.
    pub context: &'static str,
    /// Announced by ParameterStatus.
    pub report: bool,
    pub category: &'static str,
    pub description: &'static str,
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

const ANY_INT: Form = Form::Int(0, i32::MAX as i64);
const COST: Form = Form::Real(0.0, f64::MAX);
const LOCALE: Form = Form::Locale;
const TIMEOUT: Form = Form::Time(0, i32::MAX as i64);

const COSTS: &str = "Query Tuning / Planner Cost Constants";
const MEMORY: &str = "Resource Usage / Memory";
const METHODS: &str = "Query Tuning / Planner Method Configuration";
const LOG_LEVELS: &[&str] =
    &["debug5", "debug4", "debug3", "debug2", "debug1", "debug", "info", "notice", "warning", "error", "log", "fatal", "panic"];
const FORMAT: &str = "Client Connection Defaults / Locale and Formatting";
const BEHAVIOR: &str = "Client Connection Defaults / Statement Behavior";
const PRESET: &str = "Preset Options";
const LOG: &str = "Reporting and Logging / What to Log";
const COMPAT: &str = "Version and Platform Compatibility / Previous PostgreSQL Versions";
const LEVELS: &[&str] = &["debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "notice", "warning", "error"];
const ISOLATION: &[&str] = &["serializable", "repeatable read", "read committed", "read uncommitted"];

/// Sorted by name, ours last.
pub(super) const CLIENT: &[ClientSetting] = &[
    c("application_name", "", Form::Text, "user", true, LOG, "Sets the application name to be reported in statistics and logs."),
    c("backslash_quote", "safe_encoding", Form::Enum(&["safe_encoding", "on", "off"]), "user", false, COMPAT, "Sets whether \"\\'\" is allowed in string literals."),
    c("bytea_output", "hex", Form::Enum(&["escape", "hex"]), "user", false, BEHAVIOR, "Sets the output format for bytea."),
    c("check_function_bodies", "on", Form::Bool, "user", false, BEHAVIOR, "Check routine bodies during CREATE FUNCTION and CREATE PROCEDURE."),
    c("client_connection_check_interval", "0", TIMEOUT, "user", false, "Connections and Authentication / TCP Settings", "Sets the time interval between checks for disconnection while running queries."),
    c("client_encoding", "UTF8", Form::Text, "user", true, FORMAT, "Sets the client's character set encoding."),
    c("client_min_messages", "notice", Form::Enum(LEVELS), "user", false, BEHAVIOR, "Sets the message levels that are sent to the client."),
    c("DateStyle", "ISO, MDY", Form::Text, "user", true, FORMAT, "Sets the display format for date and time values."),
    c("default_tablespace", "", Form::Text, "user", false, BEHAVIOR, "Sets the default tablespace to create tables and indexes in."),
    c("default_transaction_deferrable", "off", Form::Bool, "user", false, BEHAVIOR, "Sets the default deferrable status of new transactions."),
    c("default_transaction_isolation", "read committed", Form::Enum(ISOLATION), "user", false, BEHAVIOR, "Sets the transaction isolation level of each new transaction."),
    c("default_transaction_read_only", "off", Form::Bool, "user", true, BEHAVIOR, "Sets the default read-only status of new transactions."),
    c("effective_cache_size", "524288", Form::Blocks(1, i32::MAX as i64), "user", false, COSTS, "Sets the planner's assumption about the total size of the data caches."),
    c("enable_bitmapscan", "on", Form::Bool, "user", false, METHODS, "Enables the planner's use of bitmap-scan plans."),
    c("enable_hashagg", "on", Form::Bool, "user", false, METHODS, "Enables the planner's use of hashed aggregation plans."),
    c("enable_hashjoin", "on", Form::Bool, "user", false, METHODS, "Enables the planner's use of hash join plans."),
    c("enable_indexonlyscan", "on", Form::Bool, "user", false, METHODS, "Enables the planner's use of index-only-scan plans."),
    c("enable_indexscan", "on", Form::Bool, "user", false, METHODS, "Enables the planner's use of index-scan plans."),
    c("enable_material", "on", Form::Bool, "user", false, METHODS, "Enables the planner's use of materialization."),
    c("enable_mergejoin", "on", Form::Bool, "user", false, METHODS, "Enables the planner's use of merge join plans."),
    c("enable_nestloop", "on", Form::Bool, "user", false, METHODS, "Enables the planner's use of nested-loop join plans."),
    c("enable_seqscan", "on", Form::Bool, "user", false, METHODS, "Enables the planner's use of sequential-scan plans."),
    c("enable_sort", "on", Form::Bool, "user", false, METHODS, "Enables the planner's use of explicit sort steps."),
    c("extra_float_digits", "1", Form::Int(-15, 3), "user", false, FORMAT, "Sets the number of digits displayed for floating-point values."),
    c("geqo", "on", Form::Bool, "user", false, "Query Tuning / Genetic Query Optimizer", "Enables genetic query optimization."),
    c("idle_in_transaction_session_timeout", "0", TIMEOUT, "user", false, BEHAVIOR, "Sets the maximum allowed idle time between queries, when in a transaction."),
    c("idle_session_timeout", "0", TIMEOUT, "user", false, BEHAVIOR, "Sets the maximum allowed idle time between queries, when not in a transaction."),
    c("in_hot_standby", "off", Form::Bool, "internal", true, PRESET, "Shows whether hot standby is currently active."),
    c("integer_datetimes", "on", Form::Bool, "internal", true, PRESET, "Shows whether datetimes are integer based."),
    c("IntervalStyle", "postgres", Form::Enum(&["postgres", "postgres_verbose", "sql_standard", "iso_8601"]), "user", true, FORMAT, "Sets the display format for interval values."),
    c("is_superuser", "off", Form::Bool, "internal", true, PRESET, "Shows whether the current user is a superuser."),
    c("jit", "on", Form::Bool, "user", false, "Query Tuning / Other Planner Options", "Allow JIT compilation."),
    c("lc_collate", "C.UTF-8", Form::Text, "internal", false, PRESET, "Shows the collation order locale."),
    c("lc_ctype", "C.UTF-8", Form::Text, "internal", false, PRESET, "Shows the character classification and case conversion locale."),
    c("lc_messages", "C.UTF-8", LOCALE, "user", false, FORMAT, "Sets the language in which messages are displayed."),
    c("lc_monetary", "C.UTF-8", LOCALE, "user", false, FORMAT, "Sets the locale for formatting monetary amounts."),
    c("lc_numeric", "C.UTF-8", LOCALE, "user", false, FORMAT, "Sets the locale for formatting numbers."),
    c("lc_time", "C.UTF-8", LOCALE, "user", false, FORMAT, "Sets the locale for formatting date and time values."),
    c("lock_timeout", "0", TIMEOUT, "user", false, BEHAVIOR, "Sets the maximum allowed duration of any wait for a lock."),
    c("log_min_messages", "warning", Form::Enum(LOG_LEVELS), "superuser", false, "Reporting and Logging / When to Log", "Sets the message levels that are logged."),
    c("log_statement", "none", Form::Enum(&["none", "ddl", "mod", "all"]), "superuser", false, LOG, "Sets the type of statements logged."),
    c("maintenance_work_mem", "65536", Form::Memory(1024, i32::MAX as i64), "user", false, MEMORY, "Sets the maximum memory to be used for maintenance operations."),
    c("max_connections", "0", ANY_INT, "postmaster", false, "Connections and Authentication / Connection Settings", "Sets the maximum number of concurrent connections."),
    c("max_identifier_length", "63", ANY_INT, "internal", false, PRESET, "Shows the maximum identifier length."),
    c("max_index_keys", "32", ANY_INT, "internal", false, PRESET, "Shows the maximum number of index keys."),
    c("max_parallel_workers_per_gather", "2", Form::Int(0, 1024), "user", false, "Resource Usage / Asynchronous Behavior", "Sets the maximum number of parallel processes per executor node."),
    c("password_encryption", "scram-sha-256", Form::Text, "user", false, "Connections and Authentication / Authentication", "Chooses the algorithm for encrypting passwords."),
    c("port", "5432", ANY_INT, "postmaster", false, "Connections and Authentication / Connection Settings", "Sets the TCP port the server listens on."),
    c("random_page_cost", "4", COST, "user", false, COSTS, "Sets the planner's estimate of the cost of a nonsequentially fetched disk page."),
    c("role", "none", Form::Role, "user", false, "Ungrouped", "Sets the current role."),
    c("row_security", "on", Form::Bool, "user", false, BEHAVIOR, "Enable row security."),
    c("search_path", "\"$user\", public", Form::Text, "user", false, BEHAVIOR, "Sets the schema search order for names that are not schema-qualified."),
    c("seq_page_cost", "1", COST, "user", false, COSTS, "Sets the planner's estimate of the cost of a sequentially fetched disk page."),
    c("server_encoding", "UTF8", Form::Text, "internal", true, PRESET, "Shows the server (database) character set encoding."),
    c("server_version", SERVER_VERSION, Form::Text, "internal", true, PRESET, "Shows the server version."),
    c("server_version_num", SERVER_VERSION_NUM, ANY_INT, "internal", false, PRESET, "Shows the server version as an integer."),
    c("session_authorization", "", Form::Text, "internal", true, "Ungrouped", "Sets the current role and session user name."),
    c("shared_buffers", "16384", Form::Blocks(16, 1_073_741_823), "postmaster", false, MEMORY, "Sets the number of shared memory buffers used by the server."),
    c("ssl", "off", Form::Bool, "internal", false, "Connections and Authentication / SSL", "Enables SSL connections."),
    c("standard_conforming_strings", "on", Form::Enum(&["on"]), "user", true, COMPAT, "Causes '...' strings to treat backslashes literally."),
    c("statement_timeout", "0", TIMEOUT, "user", false, BEHAVIOR, "Sets the maximum allowed duration of any statement."),
    c("synchronous_commit", "on", Form::Enum(&["local", "remote_write", "remote_apply", "on", "off"]), "user", false, "Write-Ahead Log / Settings", "Sets the current transaction's synchronization level."),
    c("tcp_keepalives_count", "0", Form::Int(0, i32::MAX as i64), "user", false, "Connections and Authentication / TCP Settings", "Maximum number of TCP keepalive retransmits."),
    c("tcp_keepalives_idle", "0", Form::Int(0, i32::MAX as i64), "user", false, "Connections and Authentication / TCP Settings", "Time between issuing TCP keepalives."),
    c("tcp_keepalives_interval", "0", Form::Int(0, i32::MAX as i64), "user", false, "Connections and Authentication / TCP Settings", "Time between TCP keepalive retransmits."),
    c("temp_buffers", "1024", Form::Blocks(100, 1_073_741_823), "user", false, MEMORY, "Sets the maximum number of temporary buffers used by each session."),
    c("TimeZone", "UTC", Form::Text, "user", true, FORMAT, "Sets the time zone for displaying and interpreting time stamps."),
    c("transaction_deferrable", "off", Form::Bool, "user", false, BEHAVIOR, "Whether to defer a read-only serializable transaction."),
    c("transaction_isolation", "read committed", Form::Enum(ISOLATION), "user", false, BEHAVIOR, "Sets the current transaction's isolation level."),
    c("transaction_read_only", "off", Form::Bool, "user", false, BEHAVIOR, "Sets the current transaction's read-only status."),
    c("wal_level", "replica", Form::Text, "internal", false, "Write-Ahead Log / Settings", "Sets the level of information written to the WAL."),
    c("work_mem", "4096", Form::Memory(64, i32::MAX as i64), "user", false, MEMORY, "Sets the maximum memory to be used for query workspaces."),
    c("xmlbinary", "base64", Form::Enum(&["base64", "hex"]), "user", false, BEHAVIOR, "Sets how binary values are to be encoded in XML."),
    c("xmloption", "content", Form::Enum(&["content", "document"]), "user", false, BEHAVIOR, "Sets whether XML data is considered as documents or content fragments."),
    c(EXTENSION_VERSION, "2.0", Form::Enum(EXTENSION_VERSIONS), "user", false, "Customized Options", "The pgautofailover release that this session is shown."),
    c(READ_CONSISTENCY, "linearizable", Form::Enum(&["linearizable", "local"]), "user", false, "Customized Options", "Whether reads are proved by the leader or answered from what this monitor has applied."),
];

/// Finds a setting; names are case-insensitive.
pub(super) fn client(name: &str) -> Option<&'static ClientSetting> {
    CLIENT.iter().find(|s| s.name.eq_ignore_ascii_case(name))
}

impl Form {
    fn amount(self) -> Option<(Unit, i64, i64)> {
        match self {
            Form::Int(min, max) => Some((Unit::None, min, max)),
            Form::Time(min, max) => Some((Unit::Milliseconds, min, max)),
            Form::Memory(min, max) => Some((Unit::Kilobytes, min, max)),
            Form::Blocks(min, max) => Some((Unit::Blocks, min, max)),
            _ => None,
        }
    }

    /// Unit, least and greatest value, as `pg_settings` shows them.
    pub fn bounds(self) -> (Option<&'static str>, Option<String>, Option<String>) {
        match (self, self.amount()) {
            (_, Some((unit, min, max))) => (unit.name(), Some(min.to_string()), Some(max.to_string())),
            (Form::Real(min, _), _) => (None, Some(min.to_string()), Some("1.79769e+308".to_string())),
            _ => (None, None, None),
        }
    }

    /// `pg_settings.vartype`.
    pub fn vartype(self) -> &'static str {
        match self {
            Form::Bool => "bool",
            Form::Int(..) | Form::Time(..) | Form::Memory(..) | Form::Blocks(..) => "integer",
            Form::Real(..) => "real",
            Form::Text | Form::Locale | Form::Role => "string",
            Form::Enum(_) => "enum",
        }
    }

    /// A stored value as SHOW prints it.
    pub fn shown(self, stored: &str) -> String {
        match (self.amount(), stored.parse()) {
            (Some((unit, ..)), Ok(number)) => amounts::shown(number, unit),
            _ => stored.to_string(),
        }
    }
}

/// Reads a value as PostgreSQL would; gives what is stored. `user` is the session's.
///
/// # Errors
/// 22023 in PostgreSQL's words, 0A000 for what is not supported here.
pub(super) fn read(s: &ClientSetting, value: &str, user: &str) -> Result<String, SqlError> {
    let invalid = || SqlError::new("22023", format!("invalid value for parameter \"{}\": \"{value}\"", s.name));
    if let Some((unit, min, max)) = s.form.amount() {
        return Ok(amounts::read(s.name, value, unit, min, max)?.to_string());
    }
    Ok(match s.form {
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
        Form::Locale => match value.to_ascii_uppercase().as_str() {
            "" | "C" | "POSIX" | "C.UTF-8" | "C.UTF8" | "EN_US.UTF-8" | "EN_US.UTF8" => value.to_string(),
            _ => return Err(invalid()),
        },
        Form::Role if value == "none" || value == user => value.to_string(),
        Form::Role if matches!(value, "postgres" | "autoctl" | "autoctl_node") => {
            return Err(SqlError::new("0A000", "changing the role of a session is not supported"));
        }
        Form::Role => return Err(SqlError::new("22023", format!("role \"{value}\" does not exist"))),
        Form::Real(min, max) => {
            let number: f64 = value.trim().parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(invalid)?;
            if !(min..=max).contains(&number) {
                let message = format!("{number} is outside the valid range for parameter \"{}\" ({min} .. 1.79769e+308)", s.name);
                return Err(SqlError::new("22023", message));
            }
            number.to_string()
        }
        Form::Bool => {
            let message = || SqlError::new("22023", format!("parameter \"{}\" requires a Boolean value", s.name));
            if parse_bool(value).ok_or_else(message)? { "on" } else { "off" }.to_string()
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
        _ => value.to_string(),
    })
}
