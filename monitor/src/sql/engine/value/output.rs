//! Value to text, to JSON and to the wire.

use failover::WallTime;
use rusqlite::types::{Value, ValueRef};

use super::input::{lsn_from_i64, state_from_i64};
use super::interval::Interval;
use super::json::Json;
use super::{array, json_read, time};
use crate::sql::engine::catalog;
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;
use crate::sql::types::Datum;

/// The text of a float8 as PostgreSQL prints it: shortest that reads back.
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    let exponent = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    if (-5..15).contains(&exponent) || value == 0.0 {
        return format!("{value}");
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// The text that goes to a client; `None` is NULL.
pub fn text(ty: Ty, value: ValueRef<'_>) -> Option<String> {
    Some(match (ty, value) {
        (_, ValueRef::Null) => return None,
        (Ty::Bool, ValueRef::Integer(i)) => if i != 0 { "t" } else { "f" }.to_string(),
        (Ty::PgLsn, ValueRef::Integer(i)) => lsn_from_i64(i).to_string(),
        (Ty::State, ValueRef::Integer(i)) => state_from_i64(i).map(|s| s.name()).unwrap_or("unknown").to_string(),
        (Ty::Timestamptz, ValueRef::Integer(i)) => time::timestamptz_text(i),
        (Ty::Timestamp, ValueRef::Integer(i)) => time::timestamp_text(i),
        (Ty::Date, ValueRef::Integer(i)) => time::date_text(i),
        (Ty::Time, ValueRef::Integer(i)) => time::time_text(i),
        (Ty::Interval, ValueRef::Blob(b)) => Interval::from_blob(b)?.text(),
        (Ty::Float8, ValueRef::Integer(i)) => float_text(i as f64),
        (Ty::Regclass | Ty::Regtype | Ty::Regproc | Ty::Regnamespace | Ty::Regrole, ValueRef::Integer(i)) => {
            catalog::names::reg_text(ty, i)
        }
        (_, ValueRef::Integer(i)) => i.to_string(),
        (_, ValueRef::Real(f)) => float_text(f),
        (_, ValueRef::Text(t) | ValueRef::Blob(t)) => String::from_utf8_lossy(t).into_owned(),
    })
}

/// [`text`] of an owned value.
pub fn value_text(ty: Ty, value: &Value) -> Option<String> {
    text(ty, ValueRef::from(value))
}

/// What `x::text` gives: as [`text`], booleans in full.
pub fn cast_text(ty: Ty, value: ValueRef<'_>) -> Option<String> {
    match (ty, value) {
        (Ty::Bool, ValueRef::Integer(i)) => Some(if i != 0 { "true" } else { "false" }.to_string()),
        _ => text(ty, value),
    }
}

/// The value inside JSON: numbers and booleans bare, timestamps in ISO 8601, JSON as itself.
pub fn json(ty: Ty, value: ValueRef<'_>) -> Json {
    match (ty, value) {
        (_, ValueRef::Null) => Json::Null,
        (Ty::Bool, ValueRef::Integer(i)) => Json::Bool(i != 0),
        (Ty::Int2 | Ty::Int4 | Ty::Int8, ValueRef::Integer(i)) => Json::Number(i.to_string()),
        (Ty::Float8, _) => match text(ty, value) {
            Some(t) if t.ends_with(|c: char| c.is_ascii_digit()) => Json::Number(t),
            t => t.map(Json::String).unwrap_or(Json::Null),
        },
        (Ty::Numeric, ValueRef::Text(t)) if t != b"NaN" => Json::Number(String::from_utf8_lossy(t).into_owned()),
        (Ty::Timestamptz, ValueRef::Integer(i)) => Json::String(time::timestamptz_json(i)),
        (Ty::Timestamp, ValueRef::Integer(i)) => Json::String(time::timestamp_text(i).replacen(' ', "T", 1)),
        (Ty::Json | Ty::Jsonb, ValueRef::Text(t)) => {
            std::str::from_utf8(t).ok().and_then(json_read::parse).unwrap_or(Json::Null)
        }
        (Ty::Array(elem), ValueRef::Text(t)) => {
            let elements = std::str::from_utf8(t).ok().and_then(array::parse).unwrap_or_default();
            let item = |text: Option<String>| match text {
                None => Json::Null,
                Some(text) => match super::input::parse(*elem, &text, None) {
                    Ok(value) => json(*elem, ValueRef::from(&value)),
                    Err(_) => Json::String(text),
                },
            };
            Json::Array(elements.into_iter().map(item).collect())
        }
        _ => text(ty, value).map(Json::String).unwrap_or(Json::Null),
    }
}

/// The value for the wire, checked against the range of its type.
pub fn datum(ty: Ty, value: ValueRef<'_>) -> Result<Datum, SqlError> {
    let range = |name: &str| SqlError::new("22003", format!("{name} out of range"));
    Ok(match (ty, value) {
        (Ty::Void, _) => Datum::Text(String::new()),
        (_, ValueRef::Null) => Datum::Null,
        (Ty::Bool, ValueRef::Integer(i)) => Datum::Bool(i != 0),
        (Ty::Int4, ValueRef::Integer(i)) if i32::try_from(i).is_err() => return Err(range("integer")),
        (Ty::Int2, ValueRef::Integer(i)) if i16::try_from(i).is_err() => return Err(range("smallint")),
        (Ty::Int2 | Ty::Int4 | Ty::Int8, ValueRef::Real(_)) => return Err(range(&ty.display())),
        (Ty::Int2 | Ty::Int4 | Ty::Int8 | Ty::Oid, ValueRef::Integer(i)) => Datum::Int(i),
        (Ty::Float8, ValueRef::Integer(i)) => Datum::Float(i as f64),
        (Ty::Float8, ValueRef::Real(f)) => Datum::Float(f),
        (Ty::PgLsn, ValueRef::Integer(i)) => Datum::Lsn(lsn_from_i64(i)),
        (Ty::Timestamptz, ValueRef::Integer(i)) => Datum::Time(WallTime(i)),
        (Ty::State, ValueRef::Integer(i)) => state_from_i64(i).map(Datum::State).unwrap_or(Datum::Null),
        _ => text(ty, value).map(Datum::Text).unwrap_or(Datum::Null),
    })
}

/// A wire value as SQLite holds it.
pub fn stored(ty: Ty, datum: &Datum) -> Result<Value, SqlError> {
    Ok(match datum {
        Datum::Null => Value::Null,
        Datum::Bool(b) => Value::Integer(i64::from(*b)),
        Datum::Int(i) => match ty {
            Ty::Numeric => Value::Text(i.to_string()),
            Ty::Float8 => Value::Real(*i as f64),
            _ => Value::Integer(*i),
        },
        Datum::Float(f) => match ty {
            Ty::Numeric => Value::Text(float_text(*f)),
            _ => Value::Real(*f),
        },
        Datum::Text(t) => match ty {
            Ty::Text | Ty::Varchar | Ty::Unknown => Value::Text(t.clone()),
            _ => super::input::parse(ty, t, None)?,
        },
        Datum::Lsn(lsn) => Value::Integer(super::input::lsn_to_i64(*lsn)),
        Datum::State(state) => Value::Integer(super::input::state_to_i64(*state)),
        Datum::Time(WallTime(us)) => Value::Integer(*us),
    })
}
