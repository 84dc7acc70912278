//! Set-returning functions of PostgreSQL, as JSON arrays of rows.

use rusqlite::functions::Context as Call;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result};

use super::{bounded, int_arg, is_null, loose, text_arg, text_value, type_arg};
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value::interval::Interval;
use crate::sql::engine::value::json::{Json, quote};
use crate::sql::engine::value::{array, input, json_read};
use crate::sql::error::SqlError;

/// A series longer than this is refused.
const MAX_ROWS: usize = 200_000;

pub fn register(c: &Connection) -> Result<()> {
    loose(c, "pg_abreast", -1, abreast)?;
    loose(c, "pg_set", -1, |a| {
        let (name, ty) = (text_arg(a, 0).to_string(), type_arg(a, 1));
        if (2..a.len()).any(|i| is_null(a, i)) {
            return Ok(text_value("[]"));
        }
        let rows = rows(&name, ty, a)?;
        let mut out = String::from("[");
        for (i, row) in rows.iter().enumerate() {
            out.push_str(if i > 0 { ",[" } else { "[" });
            for (j, value) in row.iter().enumerate() {
                if j > 0 {
                    out.push(',');
                }
                push_value(&mut out, value);
            }
            out.push(']');
        }
        out.push(']');
        bounded(out.len())?;
        Ok(text_value(out))
    })
}

/// The rows of several sets side by side: as many as the longest has, the others with nulls at the end.
fn abreast(a: &Call<'_>) -> std::result::Result<Value, SqlError> {
    let set = |i: usize| match json_read::parse(text_arg(a, i)) {
        Some(Json::Array(rows)) => rows,
        _ => Vec::new(),
    };
    let mut sets: Vec<_> = (0..a.len()).map(|i| set(i).into_iter()).collect();
    let longest = sets.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    let row = |_| Json::Array(sets.iter_mut().map(|set| set.next().unwrap_or(Json::Null)).collect());
    let mut out = String::new();
    Json::Array((0..longest).map(row).collect()).compact(&mut out);
    bounded(out.len())?;
    Ok(text_value(out))
}

/// A stored value inside the JSON that rows travel in. Intervals travel as text.
pub fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Integer(i) => out.push_str(&i.to_string()),
        Value::Real(f) if f.is_finite() => out.push_str(&format!("{f:e}")),
        Value::Real(_) => out.push_str("null"),
        Value::Text(t) => quote(out, t),
        Value::Blob(b) => quote(out, &Interval::from_blob(b).unwrap_or_default().text()),
    }
}

fn rows(name: &str, ty: Ty, a: &Call<'_>) -> std::result::Result<Vec<Vec<Value>>, SqlError> {
    let one = |value: Value| vec![value];
    let texts = |items: Vec<String>| items.into_iter().map(|t| vec![Value::Text(t)]).collect::<Vec<_>>();
    let list = |i: usize| {
        let text = text_arg(a, i);
        array::parse(text).unwrap_or_else(|| text.split_whitespace().map(|e| Some(e.to_string())).collect())
    };
    Ok(match name {
        "generate_series" => return series(ty, a),
        "unnest" => {
            let mut out = Vec::new();
            for element in list(2) {
                out.push(one(match element {
                    Some(text) => input::parse(ty, &text, None)?,
                    None => Value::Null,
                }));
            }
            out
        }
        "generate_subscripts" => (1..=list(2).len() as i64).map(|i| one(Value::Integer(i))).collect(),
        "string_to_table" => texts(text_arg(a, 2).split(text_arg(a, 3)).map(str::to_string).collect()),
        "regexp_split_to_table" => {
            let regex = super::regex::compile(text_arg(a, 3), false)?;
            texts(regex.split(text_arg(a, 2)).map(str::to_string).collect())
        }
        "regexp_matches" => {
            let flags = if a.len() > 4 { text_arg(a, 4) } else { "" };
            texts(super::regex::all_groups(text_arg(a, 2), text_arg(a, 3), flags)?)
        }
        n if n.starts_with("json") => return json_rows(n, text_arg(a, 2)),
        // Nothing here is partitioned, granted in pieces or listened to.
        _ => Vec::new(),
    })
}

fn series(ty: Ty, a: &Call<'_>) -> std::result::Result<Vec<Vec<Value>>, SqlError> {
    let too_long = || SqlError::new("54000", format!("a series is limited to {MAX_ROWS} rows here"));
    let zero = || SqlError::new("22023", "step size cannot equal zero");
    let (mut at, end) = (int_arg(a, 2), int_arg(a, 3));
    let mut out = Vec::new();
    if let (true, ValueRef::Blob(blob)) = (a.len() > 4, if a.len() > 4 { a.get_raw(4) } else { ValueRef::Null }) {
        let step = Interval::from_blob(blob).unwrap_or_default();
        if step.total() == 0 {
            return Err(zero());
        }
        while if step.total() > 0 { at <= end } else { at >= end } {
            out.push(vec![Value::Integer(at)]);
            if out.len() > MAX_ROWS {
                return Err(too_long());
            }
            let Some(next) = step.add_to(at, 1) else { break };
            at = next;
        }
        return Ok(out);
    }
    if !ty.is_int() {
        return Err(SqlError::new("42883", "function pg_catalog.generate_series(timestamp with time zone, timestamp with time zone) does not exist"));
    }
    let step = if a.len() > 4 { int_arg(a, 4) } else { 1 };
    if step == 0 {
        return Err(zero());
    }
    while if step > 0 { at <= end } else { at >= end } {
        out.push(vec![Value::Integer(at)]);
        if out.len() > MAX_ROWS {
            return Err(too_long());
        }
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    Ok(out)
}

fn json_rows(name: &str, text: &str) -> std::result::Result<Vec<Vec<Value>>, SqlError> {
    let json = json_read::parse(text).ok_or_else(|| SqlError::new("22P02", "invalid input syntax for type json"))?;
    let as_text = name.ends_with("_text");
    let value = |j: Json| match as_text {
        true => j.unquoted().map(Value::Text).unwrap_or(Value::Null),
        false if name.starts_with("jsonb") => Value::Text(j.spaced()),
        false => {
            let mut out = String::new();
            j.compact(&mut out);
            Value::Text(out)
        }
    };
    Ok(match (name.contains("array_elements"), json) {
        (true, Json::Array(items)) => items.into_iter().map(|j| vec![value(j)]).collect(),
        (true, Json::Object(_)) => return Err(SqlError::new("22023", "cannot extract elements from an object")),
        (true, _) => return Err(SqlError::new("22023", "cannot extract elements from a scalar")),
        (false, Json::Object(members)) if name.ends_with("object_keys") => {
            members.into_iter().map(|(k, _)| vec![Value::Text(k)]).collect()
        }
        (false, Json::Object(members)) => {
            members.into_iter().map(|(k, j)| vec![Value::Text(k), value(j)]).collect()
        }
        _ => return Err(SqlError::new("22023", format!("cannot call {name} on a non-object"))),
    })
}
