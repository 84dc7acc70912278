//! The settings: `pgautofailover.*` as upstream's GUCs, `pgquorum.*` for what upstream does not have.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use crate::state::State;

/// Type and unit of a setting, as `pg_settings` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// Plain integer (bytes or a count).
    Integer,
    /// Integer milliseconds; input takes PostgreSQL's time units (`us ms s min h d`).
    Milliseconds,
}

/// One row of the settings table.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    /// In the unit of `kind`; 0 or 1 for a boolean.
    pub default: i64,
    pub min: i64,
    pub max: i64,
    /// `sighup`, `user`...: who may change it and when, as in `pg_settings.context`.
    pub context: &'static str,
    pub description: &'static str,
}

const fn ms(name: &'static str, default: i64, context: &'static str, description: &'static str) -> Definition {
    Definition { name, kind: Kind::Milliseconds, default, min: 1, max: i32::MAX as i64, context, description }
}

/// Every setting, sorted by name. Defaults, bounds and descriptions of the first nine are those
/// of the stock 2.0 monitor's `pg_settings`; `guard_data_loss` and `replication_stall_timeout`
/// come from 2.3. The others are ours.
pub const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "pgautofailover.enable_health_checks",
        kind: Kind::Bool,
        default: 1,
        min: 0,
        max: 1,
        context: "sighup",
        description: "Enable background health checks",
    },
    Definition {
        name: "pgautofailover.enable_sync_wal_log_threshold",
        kind: Kind::Integer,
        default: 16_777_216,
        min: 1,
        max: i32::MAX as i64,
        context: "sighup",
        description: "Don't enable synchronous replication until secondary xlog is within this many bytes of the primary's",
    },
    Definition {
        name: "pgautofailover.enable_version_checks",
        kind: Kind::Bool,
        default: 1,
        min: 0,
        max: 1,
        context: "superuser",
        description: "Enable extension version checks",
    },
    Definition {
        name: "pgautofailover.guard_data_loss",
        kind: Kind::Bool,
        default: 1,
        min: 0,
        max: 1,
        context: "user",
        description: "Refuse a failover that could lose acknowledged writes; turn off for one session to accept the loss",
    },
    Definition {
        name: "pgautofailover.health_check_max_retries",
        kind: Kind::Integer,
        default: 2,
        min: 1,
        max: 100,
        context: "sighup",
        description: "Maximum number of re-tries before marking a node as failed.",
    },
    ms("pgautofailover.health_check_period", 5_000, "sighup", "Duration between each check (in milliseconds)."),
    ms("pgautofailover.health_check_retry_delay", 2_000, "sighup", "Delay between consecutive retries."),
    ms("pgautofailover.health_check_timeout", 5_000, "sighup", "Connect timeout (in milliseconds)."),
    ms(
        "pgautofailover.node_considered_unhealthy_timeout",
        20_000,
        "sighup",
        "Mark node unhealthy if last ping was over this long ago",
    ),
    ms(
        "pgautofailover.primary_demote_timeout",
        30_000,
        "sighup",
        "Give the primary this long to drain before promoting the secondary",
    ),
    Definition {
        name: "pgautofailover.promote_wal_log_threshold",
        kind: Kind::Integer,
        default: 16_777_216,
        min: 1,
        max: i32::MAX as i64,
        context: "sighup",
        description: "Don't promote secondary unless xlog is with this many bytes of the master",
    },
    ms(
        "pgautofailover.replication_stall_timeout",
        10_000,
        "sighup",
        "Leave synchronous replication when no standby has streamed for this long",
    ),
    ms(
        "pgautofailover.startup_grace_period",
        10_000,
        "sighup",
        "Wait for at least this much time after startup before initiating a failover.",
    ),
    ms(
        "pgquorum.missed_reports_timeout_ms",
        3_000,
        "sighup",
        "Groups of pgquorum keepers: a node that has not reported for this long, and does not answer a probe either, \
         is replaced. Shorter: faster failover of silent nodes, more unneeded switchovers on slow networks.",
    ),
    Definition {
        name: "pgquorum.read_lease_ms",
        kind: Kind::Milliseconds,
        default: 1_000,
        min: 0,
        max: 60_000,
        context: "sighup",
        description: "Groups of pgquorum keepers: how long a primary that is cut off may go on without its standbys, \
                      counted from its last answered report; bounds stale reads. 0: no lease. Longer: slower failover \
                      when the old primary cannot be seen to have stopped.",
    },
    ms(
        "pgquorum.restart_patience_ms",
        5_000,
        "sighup",
        "Groups of pgquorum keepers: a keeper gets this long to start a PostgreSQL that went down.",
    ),
    Definition {
        name: "pgquorum.seals_end_demote_timeout",
        kind: Kind::Bool,
        default: 0,
        min: 0,
        max: 1,
        context: "sighup",
        description: "Stock keepers: promote as soon as enough standbys are cut off from the old primary, without \
                      waiting for primary_demote_timeout. Loses no synchronous write; until it stops, an old primary \
                      that is cut off may serve stale reads and accept synchronous_commit=local writes that are lost.",
    },
    ms(
        "pgquorum.suspicion_timeout_ms",
        1_000,
        "sighup",
        "Groups of pgquorum keepers: a node that has not reported for this long is probed at once, and replaced when \
         the probe fails and all its standbys have lost it too.",
    ),
];

/// Finds a definition by name; setting names are case-insensitive.
pub fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|d| d.name.eq_ignore_ascii_case(name))
}

impl Definition {
    /// Reads a value as PostgreSQL would. Errors say what was wrong, in PostgreSQL's words, for a
    /// 22023 `invalid value for parameter`.
    pub fn parse(&self, text: &str) -> Result<i64, String> {
        let text = text.trim();
        let invalid = || alloc::format!("invalid value for parameter \"{}\": \"{}\"", self.name, text);
        let value = match self.kind {
            Kind::Bool => parse_bool(text).ok_or_else(|| {
                alloc::format!("parameter \"{}\" requires a Boolean value", self.name)
            })? as i64,
            Kind::Integer => text.parse::<i64>().map_err(|_| invalid())?,
            Kind::Milliseconds => parse_milliseconds(text).ok_or_else(invalid)?,
        };
        if value < self.min || value > self.max {
            return Err(alloc::format!(
                "{}{} is outside the valid range for parameter \"{}\" ({} .. {})",
                value,
                if self.kind == Kind::Milliseconds { " ms" } else { "" },
                self.name,
                self.min,
                self.max
            ));
        }
        Ok(value)
    }

    /// The value as `SHOW` prints it: milliseconds in their largest whole unit, booleans as on/off.
    pub fn show(&self, value: i64) -> String {
        match self.kind {
            Kind::Bool => String::from(if value != 0 { "on" } else { "off" }),
            Kind::Integer => value.to_string(),
            Kind::Milliseconds => {
                for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)] {
                    if value != 0 && value % factor == 0 {
                        return alloc::format!("{}{unit}", value / factor);
                    }
                }
                alloc::format!("{value}ms")
            }
        }
    }
}

/// PostgreSQL's boolean input for settings: unambiguous prefixes of true/false/yes/no, on/off, 1/0.
pub fn parse_bool(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let prefix = |word: &str, min: usize| lower.len() >= min && word.starts_with(lower.as_str());
    if prefix("true", 1) || prefix("yes", 1) || lower == "on" || lower == "1" {
        Some(true)
    } else if prefix("false", 1) || prefix("no", 1) || prefix("off", 2) || lower == "0" {
        Some(false)
    } else {
        None
    }
}

fn parse_milliseconds(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().ok()?;
    match unit.trim() {
        "" | "ms" => Some(number),
        "us" => Some((number + 500) / 1000),
        "s" => number.checked_mul(1_000),
        "min" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    }
}

/// The settings in force for one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub enable_health_checks: bool,
    pub enable_version_checks: bool,
    pub guard_data_loss: bool,
    /// Bytes of WAL.
    pub enable_sync_wal_log_threshold: u64,
    /// Bytes of WAL.
    pub promote_wal_log_threshold: u64,
    pub health_check_max_retries: u32,
    pub health_check_period_ms: i64,
    pub health_check_retry_delay_ms: i64,
    pub health_check_timeout_ms: i64,
    pub node_considered_unhealthy_timeout_ms: i64,
    pub primary_demote_timeout_ms: i64,
    pub replication_stall_timeout_ms: i64,
    pub startup_grace_period_ms: i64,
    pub missed_reports_timeout_ms: i64,
    pub read_lease_ms: i64,
    pub restart_patience_ms: i64,
    pub seals_end_demote_timeout: bool,
    pub suspicion_timeout_ms: i64,
}

impl Settings {
    /// Session values win over `ALTER DATABASE`, which wins over `ALTER SYSTEM`, which wins over
    /// the defaults. Values that do not parse were refused when they were set; should one be here
    /// all the same, the next layer counts.
    pub fn effective(state: &State, session: &BTreeMap<String, String>) -> Settings {
        let get = |name: &str| value_of(state, session, name);
        Settings {
            enable_health_checks: get("pgautofailover.enable_health_checks") != 0,
            enable_version_checks: get("pgautofailover.enable_version_checks") != 0,
            guard_data_loss: get("pgautofailover.guard_data_loss") != 0,
            enable_sync_wal_log_threshold: get("pgautofailover.enable_sync_wal_log_threshold") as u64,
            promote_wal_log_threshold: get("pgautofailover.promote_wal_log_threshold") as u64,
            health_check_max_retries: get("pgautofailover.health_check_max_retries") as u32,
            health_check_period_ms: get("pgautofailover.health_check_period"),
            health_check_retry_delay_ms: get("pgautofailover.health_check_retry_delay"),
            health_check_timeout_ms: get("pgautofailover.health_check_timeout"),
            node_considered_unhealthy_timeout_ms: get("pgautofailover.node_considered_unhealthy_timeout"),
            primary_demote_timeout_ms: get("pgautofailover.primary_demote_timeout"),
            replication_stall_timeout_ms: get("pgautofailover.replication_stall_timeout"),
            startup_grace_period_ms: get("pgautofailover.startup_grace_period"),
            missed_reports_timeout_ms: get("pgquorum.missed_reports_timeout_ms"),
            read_lease_ms: get("pgquorum.read_lease_ms"),
            restart_patience_ms: get("pgquorum.restart_patience_ms"),
            seals_end_demote_timeout: get("pgquorum.seals_end_demote_timeout") != 0,
            suspicion_timeout_ms: get("pgquorum.suspicion_timeout_ms"),
        }
    }
}

/// The value in force of one setting, in the unit of its kind. Unknown names read as 0.
pub fn value_of(state: &State, session: &BTreeMap<String, String>, name: &str) -> i64 {
    let Some(definition) = definition(name) else { return 0 };
    [session, &state.database_settings, &state.system_settings]
        .into_iter()
        .filter_map(|layer| layer.get(definition.name))
        .find_map(|text| definition.parse(text).ok())
        .unwrap_or(definition.default)
}
