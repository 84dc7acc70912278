//! Text to value: PostgreSQL's input functions, with their errors.

use failover::{Lsn, NodeState};
use rusqlite::types::Value;

use super::decimal::Decimal;
use super::interval::Interval;
use super::{array, json_read, time};
use crate::sql::engine::catalog;
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

/// How an LSN is stored: unsigned order in a signed integer.
pub fn lsn_to_i64(lsn: Lsn) -> i64 {
    (lsn.0 as i64) ^ i64::MIN
}

/// The inverse of [`lsn_to_i64`].
pub fn lsn_from_i64(stored: i64) -> Lsn {
    Lsn((stored ^ i64::MIN) as u64)
}

/// The place of a state in the enum.
pub fn state_to_i64(state: NodeState) -> i64 {
    NodeState::ALL.iter().position(|s| *s == state).map(|p| p as i64).unwrap_or(0)
}

/// The inverse of [`state_to_i64`].
pub fn state_from_i64(stored: i64) -> Option<NodeState> {
    NodeState::ALL.get(usize::try_from(stored).ok()?).copied()
}

fn invalid(ty: Ty, text: &str) -> SqlError {
    SqlError::new("22P02", format!("invalid input syntax for type {}: \"{text}\"", ty.display()))
}

fn integer(ty: Ty, text: &str, min: i64, max: i64) -> Result<Value, SqlError> {
    let plain = text.trim();
    let digits = plain.strip_prefix(['-', '+']).unwrap_or(plain);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid(ty, text));
    }
    let number = plain.strip_prefix('+').unwrap_or(plain).parse::<i64>().ok().filter(|n| (min..=max).contains(n));
    let out_of_range = || SqlError::new("22003", format!("value \"{text}\" is out of range for type {}", ty.display()));
    number.map(Value::Integer).ok_or_else(out_of_range)
}

/// PostgreSQL's boolean input: unambiguous prefixes, in any case.
pub fn boolean(text: &str) -> Option<bool> {
    failover::settings::parse_bool(text.trim()).or_else(|| match text.trim().to_ascii_lowercase().as_str() {
        "of" => Some(false),
        _ => None,
    })
}

/// Reads a value of `ty`; `now` is what the word `now` means to a timestamp.
pub fn parse(ty: Ty, text: &str, now: Option<i64>) -> Result<Value, SqlError> {
    let bad = || invalid(ty, text);
    let bad_time = || SqlError::new("22007", format!("invalid input syntax for type {}: \"{text}\"", ty.display()));
    Ok(match ty {
        Ty::Bool => Value::Integer(i64::from(boolean(text).ok_or_else(bad)?)),
        Ty::Int2 => integer(ty, text, i64::from(i16::MIN), i64::from(i16::MAX))?,
        Ty::Int4 => integer(ty, text, i64::from(i32::MIN), i64::from(i32::MAX))?,
        Ty::Int8 => integer(ty, text, i64::MIN, i64::MAX)?,
        Ty::Oid | Ty::Xid => integer(ty, text, i64::from(i32::MIN), i64::from(u32::MAX))?,
        Ty::Float8 => Value::Real(float(text).ok_or_else(bad)?),
        Ty::Numeric => match text.trim().eq_ignore_ascii_case("nan") {
            true => Value::Text("NaN".to_string()),
            false => Value::Text(Decimal::parse(text).ok_or_else(bad)?.text()),
        },
        Ty::PgLsn => Value::Integer(lsn_to_i64(text.parse::<Lsn>().map_err(|()| bad())?)),
        Ty::Timestamptz => Value::Integer(time::parse_timestamptz(text, now).ok_or_else(bad_time)?),
        Ty::Timestamp => Value::Integer(time::parse_timestamp(text, now).ok_or_else(bad_time)?),
        Ty::Date => match time::parse_timestamp(text, now) {
            Some(us) => Value::Integer(time::split(us).0),
            None => return Err(bad_time()),
        },
        Ty::Time => Value::Integer(time::parse_time(text).ok_or_else(bad_time)?),
        Ty::Interval => Value::Blob(Interval::parse(text, None).ok_or_else(bad_time)?.to_blob()),
        Ty::State => {
            let message = || format!("invalid input value for enum pgautofailover.replication_state: \"{text}\"");
            let state = NodeState::from_name(text).ok_or_else(|| SqlError::new("22P02", message()))?;
            Value::Integer(state_to_i64(state))
        }
        Ty::Json | Ty::Jsonb => {
            let json = json_read::parse(text)
                .ok_or_else(|| SqlError::new("22P02", format!("invalid input syntax for type {}", ty.display())))?;
            Value::Text(if ty == Ty::Jsonb { json.normalized().spaced() } else { text.to_string() })
        }
        Ty::Regproc if let Some(name) = catalog::names::type_function(text) => Value::Text(name),
        Ty::Regclass | Ty::Regtype | Ty::Regproc | Ty::Regnamespace | Ty::Regrole => {
            Value::Integer(catalog::names::parse_reg(ty, text)?)
        }
        Ty::Array(elem) => {
            let malformed = || {
                SqlError::new("22P02", format!("malformed array literal: \"{text}\""))
                    .detail("Array value must start with \"{\" or dimension information.")
            };
            let elements = array::parse(text).ok_or_else(malformed)?;
            let mut normal = Vec::with_capacity(elements.len());
            for element in elements {
                normal.push(match element {
                    Some(text) => super::output::value_text(*elem, &parse(*elem, &text, now)?),
                    None => None,
                });
            }
            Value::Text(array::text(&normal))
        }
        Ty::Name => Value::Text(text.chars().take(63).collect()),
        Ty::Void => Value::Text(String::new()),
        Ty::Text | Ty::Varchar | Ty::Char | Ty::Bytea | Ty::Unknown => Value::Text(text.to_string()),
    })
}

fn float(text: &str) -> Option<f64> {
    match text.trim().to_ascii_lowercase().as_str() {
        "infinity" | "inf" | "+infinity" => Some(f64::INFINITY),
        "-infinity" | "-inf" => Some(f64::NEG_INFINITY),
        "nan" => Some(f64::NAN),
        t if t.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) => t.parse().ok(),
        _ => None,
    }
}
