//! Array functions, over arrays as text.

use std::cmp::Ordering;

use rusqlite::functions::Context as Call;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result};

use super::numbers::order;
use super::{bool_value, int_arg, is_null, loose, owned, strict, text_arg, text_value, type_arg};
use crate::sql::engine::value::{array, input, output};
use crate::sql::error::SqlError;

pub fn register(c: &Connection) -> Result<()> {
    loose(c, "pg_array", -1, |a| {
        let ty = type_arg(a, 0);
        let elements: Vec<Option<String>> = (1..a.len()).map(|i| output::text(ty, a.get_raw(i))).collect();
        Ok(text_value(array::text(&elements)))
    })?;
    strict(c, "pg_any", 5, any)?;
    loose(c, "pg_array_concat", 2, |a| {
        Ok(match (is_null(a, 0), is_null(a, 1)) {
            (true, _) => owned(a.get_raw(1)),
            (_, true) => owned(a.get_raw(0)),
            _ => {
                let mut all = elements(a, 0);
                all.extend(elements(a, 1));
                text_value(array::text(&all))
            }
        })
    })?;
    strict(c, "pg_array_test", 3, |a| {
        let (left, right) = (elements(a, 1), elements(a, 2));
        Ok(bool_value(match text_arg(a, 0) {
            "@>" => right.iter().all(|e| left.contains(e)),
            "<@" => left.iter().all(|e| right.contains(e)),
            _ => left.iter().any(|e| e.is_some() && right.contains(e)),
        }))
    })?;
    strict(c, "pg_subscript", 3, |a| {
        let index = usize::try_from(int_arg(a, 2)).ok().and_then(|i| i.checked_sub(1));
        match index.and_then(|i| elements(a, 1).into_iter().nth(i)).flatten() {
            Some(text) => input::parse(type_arg(a, 0), &text, None),
            None => Ok(Value::Null),
        }
    })?;
    strict(c, "pg_array_length", 2, |a| {
        let length = elements(a, 0).len() as i64;
        Ok(if int_arg(a, 1) == 1 && length > 0 { Value::Integer(length) } else { Value::Null })
    })?;
    strict(c, "pg_array_position", 2, |a| {
        let wanted = Some(text_arg(a, 1).to_string());
        Ok(elements(a, 0).iter().position(|e| *e == wanted).map(|p| Value::Integer(p as i64 + 1)).unwrap_or(Value::Null))
    })?;
    strict(c, "pg_array_positions", 2, |a| {
        let wanted = Some(text_arg(a, 1).to_string());
        let all = elements(a, 0);
        let places = all.iter().enumerate().filter(|(_, e)| **e == wanted).map(|(i, _)| Some((i + 1).to_string()));
        Ok(text_value(array::text(&places.collect::<Vec<_>>())))
    })?;
    strict(c, "pg_array_replace", 3, |a| {
        let mut all = elements(a, 0);
        for element in all.iter_mut().filter(|e| e.as_deref() == Some(text_arg(a, 1))) {
            *element = Some(text_arg(a, 2).to_string());
        }
        Ok(text_value(array::text(&all)))
    })?;
    strict(c, "pg_array_slice", 3, |a| {
        let all = elements(a, 0);
        let place = |i: i64| usize::try_from(i).unwrap_or(0).min(all.len());
        let (from, to) = (place(int_arg(a, 1).saturating_sub(1)), place(int_arg(a, 2)));
        Ok(text_value(array::text(all.get(from..to).unwrap_or_default())))
    })?;
    strict(c, "pg_array_remove", 2, |a| {
        let mut left = elements(a, 0);
        left.retain(|e| e.as_deref() != Some(text_arg(a, 1)));
        Ok(text_value(array::text(&left)))
    })?;
    loose(c, "pg_array_to_string", 3, |a| {
        if is_null(a, 0) || is_null(a, 1) {
            return Ok(Value::Null);
        }
        let null = (!is_null(a, 2)).then(|| text_arg(a, 2).to_string());
        let parts: Vec<String> = elements(a, 0).into_iter().filter_map(|e| e.or_else(|| null.clone())).collect();
        Ok(text_value(parts.join(text_arg(a, 1))))
    })?;
    strict(c, "pg_join_array", 2, |a| {
        let parts: Vec<String> = elements(a, 0).into_iter().flatten().collect();
        Ok(text_value(parts.join(text_arg(a, 1))))
    })?;
    loose(c, "pg_string_to_array", 3, |a| {
        if is_null(a, 0) {
            return Ok(Value::Null);
        }
        let text = text_arg(a, 0);
        let parts: Vec<String> = match (is_null(a, 1), text_arg(a, 1)) {
            _ if text.is_empty() => Vec::new(),
            (true, _) => text.chars().map(String::from).collect(),
            (_, "") => vec![text.to_string()],
            (_, separator) => text.split(separator).map(str::to_string).collect(),
        };
        let null = (!is_null(a, 2)).then(|| text_arg(a, 2));
        let parts: Vec<Option<String>> = parts.into_iter().map(|p| if Some(p.as_str()) == null { None } else { Some(p) }).collect();
        Ok(text_value(array::text(&parts)))
    })
}

fn elements(call: &Call<'_>, i: usize) -> Vec<Option<String>> {
    let text = text_arg(call, i);
    // int2vector and oidvector print as `1 2`.
    array::parse(text).unwrap_or_else(|| text.split_whitespace().map(|e| Some(e.to_string())).collect())
}

/// `x op ANY/ALL (array)`: operator, any?, element type, x, array.
fn any(a: &Call<'_>) -> std::result::Result<Value, SqlError> {
    let (op, any, ty) = (text_arg(a, 0), int_arg(a, 1) == 1, type_arg(a, 2));
    let value = owned(a.get_raw(3));
    let mut unknown = false;
    for element in elements(a, 4) {
        let Some(text) = element else {
            unknown = true;
            continue;
        };
        let element = input::parse(ty, &text, None)?;
        let holds = match op {
            "~" | "!~" => {
                let subject = output::text(ty, ValueRef::from(&value)).unwrap_or_default();
                super::regex::compile(&text, false)?.is_match(&subject) == (op == "~")
            }
            _ => {
                let ordering = order(ty, &value, &element);
                match op {
                    "=" => ordering == Ordering::Equal,
                    "<>" => ordering != Ordering::Equal,
                    "<" => ordering == Ordering::Less,
                    "<=" => ordering != Ordering::Greater,
                    ">" => ordering == Ordering::Greater,
                    ">=" => ordering != Ordering::Less,
                    _ => return Err(SqlError::new("0A000", format!("operator {op} with ANY is not supported by this monitor"))),
                }
            }
        };
        if holds == any {
            return Ok(bool_value(any));
        }
    }
    Ok(if unknown { Value::Null } else { bool_value(!any) })
}
