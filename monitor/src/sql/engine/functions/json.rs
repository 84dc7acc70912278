//! JSON functions.

use rusqlite::functions::Context as Call;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result};

use super::{bool_value, int_arg, is_null, loose, owned, strict, text_arg, text_value, type_arg};
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value::json::{Json, quote};
use crate::sql::engine::value::{array, json_read, output};
use crate::sql::error::SqlError;

pub fn register(c: &Connection) -> Result<()> {
    loose(c, "pg_to_json", 2, |a| {
        if is_null(a, 1) {
            return Ok(Value::Null);
        }
        let ty = type_arg(a, 0);
        if ty == Ty::Jsonb {
            return Ok(owned(a.get_raw(1)));
        }
        let mut out = String::new();
        output::json(ty, a.get_raw(1)).compact(&mut out);
        Ok(text_value(out))
    })?;
    loose(c, "pg_row_to_json", -1, |a| Ok(text_value(row_to_json(a))))?;
    loose(c, "pg_json_build", -1, build)?;
    strict(c, "pg_jsonb_pretty", 1, |a| Ok(text_value(read(a, 0)?.pretty())))?;
    strict(c, "pg_json_typeof", 1, |a| Ok(text_value(read(a, 0)?.type_name())))?;
    strict(c, "pg_json_length", 1, |a| match read(a, 0)? {
        Json::Array(items) => Ok(Value::Integer(items.len() as i64)),
        _ => Err(SqlError::new("22023", "cannot get array length of a non-array")),
    })?;
    strict(c, "pg_json_strip", 1, |a| Ok(text_value(strip(read(a, 0)?).spaced())))?;
    strict(c, "pg_jsonb_concat", 2, |a| {
        let joined = match (read(a, 0)?, read(a, 1)?) {
            (Json::Object(mut x), Json::Object(y)) => {
                x.extend(y);
                Json::Object(x)
            }
            (x, y) => {
                let list = |j: Json| match j {
                    Json::Array(items) => items,
                    other => vec![other],
                };
                let mut items = list(x);
                items.extend(list(y));
                Json::Array(items)
            }
        };
        Ok(text_value(joined.normalized().spaced()))
    })?;
    strict(c, "pg_json_op", 3, operator)
}

fn read(call: &Call<'_>, i: usize) -> std::result::Result<Json, SqlError> {
    json_read::parse(text_arg(call, i)).ok_or_else(|| SqlError::new("22P02", "invalid input syntax for type json"))
}

/// The first argument lists `type name` per field, the values follow.
fn row_to_json(a: &Call<'_>) -> String {
    let mut out = String::from("{");
    for (i, field) in text_arg(a, 0).split('\u{2}').enumerate().filter(|(i, _)| i + 1 < a.len()) {
        let (code, name) = field.split_once('\u{1}').unwrap_or((field, ""));
        if i > 0 {
            out.push(',');
        }
        quote(&mut out, name);
        out.push(':');
        let ty = Ty::from_name(code).unwrap_or(Ty::Text);
        match (ty, a.get_raw(i + 1)) {
            // JSON inside JSON keeps its own spacing.
            (Ty::Json | Ty::Jsonb, ValueRef::Text(t)) => out.push_str(&String::from_utf8_lossy(t)),
            (ty, value) => output::json(ty, value).compact(&mut out),
        }
    }
    out.push('}');
    out
}

/// `json_build_object` and `json_build_array`; values come as JSON text, keys as text.
fn build(a: &Call<'_>) -> std::result::Result<Value, SqlError> {
    let (object, ty) = (text_arg(a, 0) == "object", type_arg(a, 1));
    let value = |i: usize| if is_null(a, i) { "null".to_string() } else { text_arg(a, i).to_string() };
    let mut out = String::new();
    if object {
        for i in (2..a.len()).step_by(2) {
            if is_null(a, i) {
                return Err(SqlError::new("22023", format!("argument {}: key must not be null", i - 1)));
            }
            out.push_str(if i > 2 { ", " } else { "" });
            quote(&mut out, text_arg(a, i));
            out += &format!(" : {}", value(i + 1));
        }
        out = format!("{{{out}}}");
    } else {
        let items: Vec<String> = (2..a.len()).map(value).collect();
        out = format!("[{}]", items.join(", "));
    }
    if ty == Ty::Jsonb {
        let json = json_read::parse(&out).ok_or_else(|| SqlError::new("22P02", "invalid input syntax for type json"))?;
        out = json.normalized().spaced();
    }
    Ok(text_value(out))
}

fn strip(json: Json) -> Json {
    match json {
        Json::Object(members) => {
            Json::Object(members.into_iter().filter(|(_, v)| *v != Json::Null).map(|(k, v)| (k, strip(v))).collect())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(strip).collect()),
        other => other,
    }
}

fn step(json: &Json, key: &str) -> Option<Json> {
    match json {
        Json::Object(members) => members.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.clone()),
        Json::Array(items) => index(items, key.parse().ok()?),
        _ => None,
    }
}

fn index(items: &[Json], at: i64) -> Option<Json> {
    let at = if at < 0 { items.len() as i64 + at } else { at };
    items.get(usize::try_from(at).ok()?).cloned()
}

fn contains(big: &Json, small: &Json) -> bool {
    match (big, small) {
        (Json::Object(b), Json::Object(s)) => {
            s.iter().all(|(k, v)| b.iter().any(|(bk, bv)| bk == k && contains(bv, v)))
        }
        (Json::Array(b), Json::Array(s)) => s.iter().all(|v| b.iter().any(|bv| contains(bv, v))),
        (Json::Array(b), scalar) => b.contains(scalar),
        (a, b) => a == b,
    }
}

fn operator(a: &Call<'_>) -> std::result::Result<Value, SqlError> {
    let (op, json) = (text_arg(a, 0), read(a, 1)?);
    let list = || array::parse(text_arg(a, 2)).unwrap_or_default().into_iter().flatten().collect::<Vec<String>>();
    let has = |key: &str| match &json {
        Json::Object(members) => members.iter().any(|(k, _)| k == key),
        Json::Array(items) => items.iter().any(|i| matches!(i, Json::String(s) if s == key)),
        Json::String(s) => s == key,
        _ => false,
    };
    let found = match op {
        "->" | "->>" => match (a.get_raw(2), &json) {
            (ValueRef::Integer(_), Json::Array(items)) => index(items, int_arg(a, 2)),
            (ValueRef::Integer(_), _) => None,
            (_, Json::Object(_)) => step(&json, text_arg(a, 2)),
            _ => None,
        },
        "#>" | "#>>" => list().iter().try_fold(json.clone(), |j, key| step(&j, key)),
        "@>" => return Ok(bool_value(contains(&json, &read(a, 2)?))),
        "<@" => return Ok(bool_value(contains(&read(a, 2)?, &json))),
        "?" => return Ok(bool_value(has(text_arg(a, 2)))),
        "?|" => return Ok(bool_value(list().iter().any(|k| has(k)))),
        _ => return Ok(bool_value(list().iter().all(|k| has(k)))),
    };
    Ok(match (found, op.ends_with(">>")) {
        (None, _) => Value::Null,
        (Some(json), true) => json.unquoted().map(Value::Text).unwrap_or(Value::Null),
        (Some(json), false) => text_value(json.spaced()),
    })
}
