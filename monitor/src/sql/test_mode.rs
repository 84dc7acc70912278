//! What only a monitor in test mode does: writing the node table by hand, as upstream's
//! regression scripts do.

use failover::command::ForceNode;
use failover::{Command, Health, Now, SyncState, WallTime};

use super::error::SqlError;
use super::function::Function;
use super::types::{Datum, PgType};
use super::values;

/// Upstream's function for its own tests.
pub const SET_NODE_HEALTH: &str = "testing_set_node_health";

/// Whether the function exists for tests alone.
pub fn is_test_function(function: &Function) -> bool {
    function.name == SET_NODE_HEALTH
}

/// The refusal outside test mode.
pub fn refused(function: &Function) -> SqlError {
    SqlError::new("42501", format!("permission denied for function {}", function.name))
        .hint("The monitor must run in test mode.")
}

/// The command of a test function, seen at `now`.
///
/// # Errors
/// 22007 for intervals that are not understood, 22023 for an impossible health.
pub fn command(function: &Function, args: &[Datum], now: Now) -> Result<Command, SqlError> {
    let int = |i: usize| match args.get(i) {
        Some(Datum::Int(v)) => Ok(*v),
        _ => Err(SqlError::new("XX000", format!("argument {} of {} has an unexpected type", i + 1, function.name))),
    };
    let ago = |i: usize| -> Result<Option<WallTime>, SqlError> {
        match args.get(i) {
            Some(Datum::Text(text)) => Ok(Some(WallTime(now.wall.0.saturating_sub(interval_us(text)?)))),
            _ => Ok(None),
        }
    };
    let set = ForceNode {
        health: if args.get(1) == Some(&Datum::Null) { None } else { Some(health(int(1)?)?) },
        report_time: ago(2)?,
        state_change_time: ago(3)?,
        health_check_time: ago(4)?,
        ..ForceNode::default()
    };
    Ok(Command::ForceNode { id: int(0)?, set })
}

fn health(value: i64) -> Result<Health, SqlError> {
    i32::try_from(value)
        .ok()
        .and_then(Health::from_i32)
        .ok_or_else(|| SqlError::new("22023", format!("invalid value for health: {value}")))
}

/// Sets one column of a forced row.
///
/// # Errors
/// 42703 for columns that do not exist or cannot be forced, and what the conversion refuses.
pub fn force(set: &mut ForceNode, column: &str, datum: Datum, from: PgType) -> Result<(), SqlError> {
    let as_type = |ty| values::cast(datum.clone(), from, ty);
    let not_null = || {
        SqlError::new("23502", format!("null value in column \"{column}\" of relation \"node\" violates not-null constraint"))
    };
    let int = |ty| match as_type(ty)? {
        Datum::Int(v) => Ok(v),
        _ => Err(not_null()),
    };
    let int4 = || int(PgType::Int4).map(|v| v as i32);
    let boolean = || match as_type(PgType::Bool)? {
        Datum::Bool(v) => Ok(v),
        _ => Err(not_null()),
    };
    let text = || match as_type(PgType::Text)? {
        Datum::Text(v) => Ok(v),
        _ => Err(not_null()),
    };
    let state = || match as_type(PgType::ReplicationState)? {
        Datum::State(v) => Ok(v),
        _ => Err(not_null()),
    };
    let time = || match as_type(PgType::Timestamptz)? {
        Datum::Time(v) => Ok(v),
        _ => Err(not_null()),
    };
    match column {
        "goalstate" => set.goal = Some(state()?),
        "reportedstate" => set.reported = Some(state()?),
        "reportedpgisrunning" => set.pg_is_running = Some(boolean()?),
        "reportedrepstate" => {
            let name = text()?;
            let found = SyncState::from_name(&name);
            set.sync_state = Some(found.ok_or_else(|| SqlError::new("22023", format!("unexpected sync state: \"{name}\"")))?);
        }
        "reportedtli" => set.timeline = Some(int4()?),
        "reportedlsn" => match as_type(PgType::PgLsn)? {
            Datum::Lsn(lsn) => set.lsn = Some(lsn),
            _ => return Err(not_null()),
        },
        "health" => set.health = Some(health(int(PgType::Int4)?)?),
        "candidatepriority" => set.candidate_priority = Some(int4()?),
        "replicationquorum" => set.replication_quorum = Some(boolean()?),
        "sysidentifier" => set.system_identifier = Some(int(PgType::Int8)?),
        "nodename" => set.name = Some(text()?),
        "nodehost" => set.host = Some(text()?),
        "nodeport" => set.port = Some(int4()?),
        "reporttime" => set.report_time = Some(time()?),
        "walreporttime" => set.wal_report_time = Some(time()?),
        "healthchecktime" => set.health_check_time = Some(time()?),
        "statechangetime" => set.state_change_time = Some(time()?),
        "formationid" | "nodeid" | "groupid" | "nodecluster" => {
            return Err(SqlError::new("0A000", format!("column \"{column}\" cannot be updated")));
        }
        _ => return Err(SqlError::new("42703", format!("column \"{column}\" of relation \"node\" does not exist"))),
    }
    Ok(())
}

/// Microseconds of an interval such as `60 s`, `1 min 30 sec` or `00:01:30`.
fn interval_us(text: &str) -> Result<i64, SqlError> {
    let wrong = || SqlError::new("22007", format!("invalid input syntax for type interval: \"{text}\""));
    let mut total = 0.0_f64;
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        if word.contains(':') {
            let mut seconds = 0.0;
            for part in word.split(':') {
                seconds = seconds * 60.0 + part.parse::<f64>().map_err(|_| wrong())?;
            }
            total += if word.matches(':').count() == 1 { seconds * 60.0 } else { seconds };
            continue;
        }
        let digits = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
        let (number, attached) = word.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = if attached.is_empty() { words.next().unwrap_or("s") } else { attached };
        total += number
            * match unit.trim_end_matches('s').to_ascii_lowercase().as_str() {
                "m" | "ms" | "msec" | "millisecond" if unit.to_ascii_lowercase().starts_with("ms") || unit.starts_with("mill") => 0.001,
                "u" | "usec" | "microsecond" => 0.000_001,
                "" | "sec" | "second" => 1.0,
                "m" | "min" | "minute" => 60.0,
                "h" | "hr" | "hour" => 3600.0,
                "d" | "day" => 86_400.0,
                _ => return Err(wrong()),
            };
    }
    Ok((total * 1e6) as i64)
}
