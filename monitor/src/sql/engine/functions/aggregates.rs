//! Aggregates that SQLite lacks or counts otherwise.

use rusqlite::functions::{Aggregate, Context as Call, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result};

use super::{bounded, fail, float_arg, is_null, strict, text_arg, text_value, type_arg};
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value::decimal::Decimal;
use crate::sql::engine::value::interval::Interval;
use crate::sql::engine::value::json::quote;
use crate::sql::engine::value::{array, input, json_read, output};
use crate::sql::error::SqlError;

pub fn register(c: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    c.create_aggregate_function("pg_sum", 1, flags, Sum)?;
    c.create_aggregate_function("pg_string_agg", 2, flags, Texts { kind: Kind::Joined })?;
    c.create_aggregate_function("pg_array_agg", 2, flags, Texts { kind: Kind::Array })?;
    c.create_aggregate_function("pg_array_agg_distinct", 1, flags, Texts { kind: Kind::Texts })?;
    c.create_aggregate_function("pg_json_agg", 1, flags, Texts { kind: Kind::Json })?;
    c.create_aggregate_function("pg_json_object_agg", 2, flags, Texts { kind: Kind::Object })?;
    strict(c, "pg_sum_done", 3, sum_done)?;
    strict(c, "pg_ordered_set", 4, ordered_set)?;
    strict(c, "pg_json_agg_done", 2, |a| {
        let items: Vec<&str> = text_arg(a, 1).split('\u{1}').collect();
        match text_arg(a, 0) {
            "jsonb" => normalized(format!("[{}]", items.join(","))),
            "json-rows" => Ok(text_value(format!("[{}]", items.join(", \n ")))),
            _ => Ok(text_value(format!("[{}]", items.join(", ")))),
        }
    })?;
    strict(c, "pg_json_object_done", 2, |a| {
        let items: Vec<&str> = text_arg(a, 1).split('\u{1}').collect();
        match text_arg(a, 0) {
            "jsonb" => normalized(format!("{{{}}}", items.join(","))),
            _ => Ok(text_value(format!("{{ {} }}", items.join(", ")))),
        }
    })
}

fn normalized(text: String) -> std::result::Result<Value, SqlError> {
    let json = json_read::parse(&text).ok_or_else(|| SqlError::new("22P02", "invalid input syntax for type json"))?;
    Ok(text_value(json.normalized().spaced()))
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Joined,
    Array,
    Texts,
    Json,
    Object,
}

/// Collects texts.
struct Texts {
    kind: Kind,
}

#[derive(Default)]
struct Collected {
    items: Vec<Option<String>>,
    /// `string_agg`: what is between.
    joined: String,
    size: usize,
}

impl Aggregate<Collected, Option<String>> for Texts {
    fn init(&self, _: &mut Call<'_>) -> Result<Collected> {
        Ok(Collected::default())
    }

    fn step(&self, call: &mut Call<'_>, state: &mut Collected) -> Result<()> {
        let item = match self.kind {
            Kind::Joined => {
                if !is_null(call, 0) {
                    if !state.items.is_empty() {
                        let separator = text_arg(call, 1).to_string();
                        state.joined.push_str(&separator);
                    }
                    state.items.push(None);
                    let text = text_arg(call, 0).to_string();
                    state.joined.push_str(&text);
                }
                return bounded(state.joined.len()).map_err(fail);
            }
            Kind::Array => output::text(type_arg(call, 0), call.get_raw(1)),
            Kind::Texts | Kind::Json => output::text(Ty::Text, call.get_raw(0)),
            Kind::Object => {
                if is_null(call, 0) {
                    return Err(fail(SqlError::new("22023", "field name must not be null")));
                }
                let mut out = String::new();
                quote(&mut out, text_arg(call, 0));
                Some(format!("{out} : {}", text_arg(call, 1)))
            }
        };
        state.size += item.as_ref().map(String::len).unwrap_or(0) + 16;
        state.items.push(item);
        bounded(state.size).map_err(fail)
    }

    fn finalize(&self, _: &mut Call<'_>, state: Option<Collected>) -> Result<Option<String>> {
        let Some(state) = state.filter(|s| !s.items.is_empty()) else { return Ok(None) };
        Ok(Some(match self.kind {
            Kind::Joined => state.joined,
            Kind::Array | Kind::Texts => array::text(&state.items),
            Kind::Json | Kind::Object => {
                let items: Vec<String> = state.items.into_iter().map(Option::unwrap_or_default).collect();
                items.join("\u{1}")
            }
        }))
    }
}

/// Adds up whatever it is given: integers, decimals, doubles or intervals.
struct Sum;

#[derive(Default)]
struct Total {
    count: i64,
    decimal: Option<Decimal>,
    float: f64,
    squares: f64,
    interval: Interval,
}

impl Aggregate<Total, Option<String>> for Sum {
    fn init(&self, _: &mut Call<'_>) -> Result<Total> {
        Ok(Total::default())
    }

    fn step(&self, call: &mut Call<'_>, total: &mut Total) -> Result<()> {
        let value = match call.get_raw(0) {
            ValueRef::Null => return Ok(()),
            ValueRef::Integer(i) => {
                total.squares += (i as f64) * (i as f64);
                Some(Decimal::new(i128::from(i), 0))
            }
            ValueRef::Text(t) => {
                let decimal = std::str::from_utf8(t).ok().and_then(Decimal::parse);
                let f = decimal.map(Decimal::to_f64).unwrap_or(0.0);
                total.squares += f * f;
                decimal
            }
            ValueRef::Real(f) => {
                total.float += f;
                total.squares += f * f;
                None
            }
            ValueRef::Blob(b) => {
                total.interval = total.interval.plus(Interval::from_blob(b).unwrap_or_default(), 1);
                None
            }
        };
        total.count += 1;
        if let Some(value) = value {
            total.decimal = Some(match total.decimal {
                Some(sum) => sum.add(value).map_err(fail)?,
                None => value,
            });
        }
        Ok(())
    }

    /// `count|decimal|float|squares|months|days|us`, which `pg_sum_done` takes apart.
    fn finalize(&self, _: &mut Call<'_>, total: Option<Total>) -> Result<Option<String>> {
        let Some(t) = total.filter(|t| t.count > 0) else { return Ok(None) };
        let decimal = t.decimal.map(Decimal::text).unwrap_or_else(|| "0".to_string());
        let i = t.interval;
        Ok(Some(format!("{}|{decimal}|{:e}|{:e}|{}|{}|{}", t.count, t.float, t.squares, i.months, i.days, i.us)))
    }
}

/// Function, type of the values, fraction or array of fractions, the values in order.
fn ordered_set(a: &Call<'_>) -> std::result::Result<Value, SqlError> {
    let (name, ty) = (text_arg(a, 0), type_arg(a, 1));
    let values: Vec<String> = array::parse(text_arg(a, 3)).unwrap_or_default().into_iter().flatten().collect();
    let parse = |text: &str| input::parse(ty, text, None);
    if name == "mode" {
        let mut best: Option<(usize, &String)> = None;
        for run in values.chunk_by(|a, b| a == b) {
            if best.is_none_or(|(length, _)| run.len() > length) {
                best = run.first().map(|value| (run.len(), value));
            }
        }
        return best.map_or(Ok(Value::Null), |(_, value)| parse(value));
    }
    let pick = |fraction: f64| -> std::result::Result<Value, SqlError> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(SqlError::new("22003", format!("percentile value {fraction} is not between 0 and 1")));
        }
        let Some(last) = values.len().checked_sub(1) else { return Ok(Value::Null) };
        if name == "percentile_disc" {
            let place = (fraction * values.len() as f64).ceil() as usize;
            return parse(&values[place.saturating_sub(1).min(last)]);
        }
        let place = fraction * last as f64;
        let (low, high) = (place.floor() as usize, (place.ceil() as usize).min(last));
        let part = place - place.floor();
        Ok(match (parse(&values[low])?, parse(&values[high])?) {
            (Value::Blob(low), Value::Blob(high)) => {
                let read = |blob: &[u8]| Interval::from_blob(blob).unwrap_or_default();
                let (low, high) = (read(&low), read(&high));
                Value::Blob(low.plus(high.plus(low, -1).times(part), 1).to_blob())
            }
            (Value::Real(low), Value::Real(high)) => Value::Real(low + (high - low) * part),
            (low, _) => low,
        })
    };
    if let ValueRef::Text(_) = a.get_raw(2) {
        let fractions = array::parse(text_arg(a, 2)).unwrap_or_default();
        let one = |f: Option<String>| match f.and_then(|f| f.parse().ok()) {
            Some(fraction) => Ok(output::value_text(ty, &pick(fraction)?)),
            None => Ok(None),
        };
        let picked = fractions.into_iter().map(one).collect::<std::result::Result<Vec<_>, SqlError>>()?;
        return Ok(text_value(array::text(&picked)));
    }
    pick(float_arg(a, 2))
}

/// What is wanted (`sum`, `avg`...), the result's type, the total.
fn sum_done(a: &Call<'_>) -> std::result::Result<Value, SqlError> {
    let parts: Vec<&str> = text_arg(a, 2).split('|').collect();
    let part = |i: usize| parts.get(i).copied().unwrap_or("0");
    let count: i64 = part(0).parse().unwrap_or(1);
    let decimal = Decimal::parse(part(1)).unwrap_or(Decimal::new(0, 0));
    let float: f64 = part(2).parse().unwrap_or(0.0);
    let number = |i: usize| part(i).parse::<i64>().unwrap_or(0);
    let interval = Interval { months: number(4) as i32, days: number(5) as i32, us: number(6) };
    let n = count as f64;
    Ok(match (text_arg(a, 0), type_arg(a, 1)) {
        ("sum", Ty::Int8) => {
            Value::Integer(decimal.to_i64().ok_or_else(|| SqlError::new("22003", "bigint out of range"))?)
        }
        ("sum", Ty::Numeric) => text_value(decimal.text()),
        ("sum", Ty::Interval) => Value::Blob(interval.to_blob()),
        ("sum", _) => Value::Real(float),
        ("avg", Ty::Numeric) => text_value(decimal.div(Decimal::new(i128::from(count), 0))?.text()),
        ("avg", Ty::Interval) => Value::Blob(interval.times(1.0 / n).to_blob()),
        ("avg", _) => Value::Real(float / n),
        ("stddev_pop" | "var_pop", ty) if count < 2 => {
            if ty == Ty::Float8 { Value::Real(0.0) } else { text_value("0") }
        }
        (_, _) if count < 2 => Value::Null,
        (name, ty) => {
            let sum = if ty == Ty::Float8 { float } else { decimal.to_f64() };
            let squares: f64 = part(3).parse().unwrap_or(0.0);
            let degrees = if name.ends_with("_pop") { n } else { n - 1.0 };
            let variance = ((squares - sum * sum / n) / degrees).max(0.0);
            let result = if name.starts_with("stddev") { variance.sqrt() } else { variance };
            if ty == Ty::Float8 { Value::Real(result) } else { text_value(format!("{result:.16}")) }
        }
    })
}
