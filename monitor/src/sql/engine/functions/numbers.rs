//! Arithmetic with PostgreSQL's overflow and rounding, input and casts.

use std::cmp::Ordering;

use rusqlite::functions::Context as Call;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result};

use super::{float_arg, int_arg, loose, owned, strict, text_arg, text_value, type_arg};
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value::decimal::{self, Decimal};
use crate::sql::engine::value::interval::Interval;
use crate::sql::engine::value::{input, output, time, zone};
use crate::sql::error::SqlError;

type Answer = std::result::Result<Value, SqlError>;

pub fn register(c: &Connection) -> Result<()> {
    strict(c, "pg_int", 4, integer)?;
    strict(c, "pg_divide", 4, divide)?;
    strict(c, "pg_num", 3, numeric)?;
    strict(c, "pg_power", 2, |a| Ok(Value::Real(float_arg(a, 0).powf(float_arg(a, 1)))))?;
    strict(c, "pg_float", 2, |a| {
        let x = float_arg(a, 1);
        Ok(Value::Real(match text_arg(a, 0) {
            "ceil" => x.ceil(),
            "floor" => x.floor(),
            "trunc" => x.trunc(),
            "round" => x.round_ties_even(),
            "sign" => if x == 0.0 { 0.0 } else { x.signum() },
            "sqrt" if x < 0.0 => return Err(SqlError::new("2201F", "cannot take square root of a negative number")),
            "sqrt" => x.sqrt(),
            "exp" => x.exp(),
            "ln" | "log" if x <= 0.0 => return Err(SqlError::new("2201E", "cannot take logarithm of a negative number")),
            "ln" => x.ln(),
            "cbrt" => x.cbrt(),
            "sin" => x.sin(),
            "cos" => x.cos(),
            "tan" => x.tan(),
            "atan" => x.atan(),
            "degrees" => x.to_degrees(),
            "radians" => x.to_radians(),
            _ => x.log10(),
        }))
    })?;
    strict(c, "pg_in", 2, |a| {
        let text = match a.get_raw(1) {
            ValueRef::Text(_) => text_arg(a, 1).to_string(),
            other => output::text(Ty::Text, other).unwrap_or_default(),
        };
        input::parse(type_arg(a, 0), &text, None)
    })?;
    strict(c, "pg_cast", 3, |a| cast(type_arg(a, 0), type_arg(a, 1), a.get_raw(2)))?;
    loose(c, "pg_extreme", -1, |a| {
        let (greatest, ty) = (text_arg(a, 0) == "greatest", type_arg(a, 1));
        let mut best = Value::Null;
        for i in 2..a.len() {
            let value = owned(a.get_raw(i));
            if value == Value::Null {
                continue;
            }
            let better = match order(ty, &value, &best) {
                Ordering::Greater => greatest,
                Ordering::Less => !greatest,
                Ordering::Equal => false,
            };
            if best == Value::Null || better {
                best = value;
            }
        }
        Ok(best)
    })?;
    strict(c, "pg_lsn_diff", 2, |a| {
        let lsn = |i| i128::from(input::lsn_from_i64(int_arg(a, i)).0);
        Ok(text_value((lsn(0) - lsn(1)).to_string()))
    })?;
    strict(c, "pg_gcd", 2, |a| {
        let (mut x, mut y) = (int_arg(a, 0).unsigned_abs(), int_arg(a, 1).unsigned_abs());
        while y != 0 {
            (x, y) = (y, x % y);
        }
        i64::try_from(x).map(Value::Integer).map_err(|_| out_of_range(Ty::Int8))
    })?;
    strict(c, "pg_width_bucket", 4, |a| {
        let (x, low, high, buckets) = (float_arg(a, 0), float_arg(a, 1), float_arg(a, 2), int_arg(a, 3));
        let bad = |message: &str| Err(SqlError::new("2201G", message));
        if buckets <= 0 {
            return bad("count must be greater than zero");
        }
        if low == high {
            return bad("lower bound cannot equal upper bound");
        }
        let place = ((x - low) / (high - low) * buckets as f64).floor();
        Ok(Value::Integer(if place < 0.0 { 0 } else { (place as i64).min(buckets) + 1 }))
    })?;
    strict(c, "pg_size_bytes", 1, |a| {
        let text = text_arg(a, 0);
        let bad = || SqlError::new("22023", format!("invalid size: \"{text}\""));
        let end = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
        let number: f64 = text[..end].trim().parse().map_err(|_| bad())?;
        let factor = match text[end..].trim().to_ascii_lowercase().as_str() {
            "" | "bytes" | "b" => 1_u64,
            "kb" => 1 << 10,
            "mb" => 1 << 20,
            "gb" => 1 << 30,
            "tb" => 1 << 40,
            "pb" => 1 << 50,
            _ => return Err(bad().hint("Valid units are \"bytes\", \"B\", \"kB\", \"MB\", \"GB\", \"TB\", and \"PB\".")),
        };
        Ok(Value::Integer((number * factor as f64) as i64))
    })?;
    strict(c, "pg_size_text", 1, |a| Ok(text_value(size(int_arg(a, 0)))))
}

/// The order of two stored values of a type.
pub fn order(ty: Ty, a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) if ty == Ty::Numeric => decimal::compare_texts(a, b),
        (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
        (Value::Real(a), Value::Real(b)) => a.total_cmp(b),
        (Value::Integer(a), Value::Real(b)) => (*a as f64).total_cmp(b),
        (Value::Real(a), Value::Integer(b)) => a.total_cmp(&(*b as f64)),
        (Value::Blob(a), Value::Blob(b)) => a.cmp(b),
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Greater,
        _ => Ordering::Less,
    }
}

fn out_of_range(ty: Ty) -> SqlError {
    SqlError::new("22003", format!("{} out of range", ty.display()))
}

fn fits(ty: Ty, value: Option<i64>) -> Answer {
    let value = value.filter(|v| match ty {
        Ty::Int2 => i16::try_from(*v).is_ok(),
        Ty::Int4 => i32::try_from(*v).is_ok(),
        _ => true,
    });
    value.map(Value::Integer).ok_or_else(|| out_of_range(ty))
}

fn integer(a: &Call<'_>) -> Answer {
    let (x, y) = (int_arg(a, 1), int_arg(a, 2));
    fits(type_arg(a, 3), match text_arg(a, 0) {
        "+" => x.checked_add(y),
        "-" => x.checked_sub(y),
        _ => x.checked_mul(y),
    })
}

fn divide(a: &Call<'_>) -> Answer {
    let zero = || SqlError::new("22012", "division by zero");
    let ty = type_arg(a, 3);
    if ty == Ty::Float8 {
        let (x, y) = (float_arg(a, 1), float_arg(a, 2));
        return if y == 0.0 { Err(zero()) } else { Ok(Value::Real(x / y)) };
    }
    let (x, y) = (int_arg(a, 1), int_arg(a, 2));
    if y == 0 {
        return Err(zero());
    }
    fits(ty, if text_arg(a, 0) == "/" { x.checked_div(y) } else { Some(x.wrapping_rem(y)) })
}

fn numeric(a: &Call<'_>) -> Answer {
    let read = |i: usize| {
        let text = text_arg(a, i);
        Decimal::parse(text).ok_or_else(|| SqlError::new("22P02", format!("invalid input syntax for type numeric: \"{text}\"")))
    };
    let (x, y) = (read(1)?, read(2)?);
    let places = i32::try_from(y.to_i64().unwrap_or(0)).unwrap_or(0);
    let result = match text_arg(a, 0) {
        "+" => x.add(y)?,
        "-" => x.add(y.negate())?,
        "*" => x.mul(y)?,
        "/" => x.div(y)?,
        "%" => x.rem(y)?,
        "abs" => if x.is_negative() { x.negate() } else { x },
        "floor" => x.floor()?,
        "ceil" => x.negate().floor()?.negate(),
        "round" => x.round(places)?,
        "trunc" => x.truncate(places.max(0) as u32)?,
        _ => Decimal::new(if x.is_zero() { 0 } else if x.is_negative() { -1 } else { 1 }, 0),
    };
    Ok(text_value(result.text()))
}

/// Conversions that are more than a change of name.
fn cast(from: Ty, to: Ty, value: ValueRef<'_>) -> Answer {
    let nearest = |f: f64| -> Answer {
        let rounded = f.round_ties_even();
        if !rounded.is_finite() || rounded.abs() >= 9.3e18 {
            return Err(out_of_range(to));
        }
        fits(to, Some(rounded as i64))
    };
    Ok(match (from, to, value) {
        (_, t, ValueRef::Real(f)) if t.is_int() => return nearest(f),
        (Ty::Float8, t, ValueRef::Integer(i)) if t.is_int() => return fits(t, Some(i)),
        (Ty::Float8, Ty::Numeric, v) => {
            let text = output::text(Ty::Float8, v).unwrap_or_default();
            let f: f64 = text.parse().unwrap_or(0.0);
            // PostgreSQL keeps 15 significant digits here.
            return input::parse(Ty::Numeric, &fifteen_digits(f), None);
        }
        (Ty::Numeric, t, ValueRef::Text(text)) if t.is_int() => {
            let text = std::str::from_utf8(text).unwrap_or("");
            return fits(t, Decimal::parse(text).and_then(Decimal::to_i64));
        }
        (_, Ty::Int2 | Ty::Int4 | Ty::Int8, ValueRef::Integer(i)) => return fits(to, Some(i)),
        (Ty::Timestamptz, Ty::Timestamp, ValueRef::Integer(i)) => Value::Integer(zone::to_local(&zone::current(), i)),
        (Ty::Timestamp, Ty::Timestamptz, ValueRef::Integer(i)) => Value::Integer(zone::to_utc(&zone::current(), i)),
        (Ty::Date, Ty::Timestamptz, ValueRef::Integer(i)) => {
            Value::Integer(zone::to_utc(&zone::current(), i.saturating_mul(time::US_PER_DAY)))
        }
        (Ty::Timestamptz, Ty::Date | Ty::Time, ValueRef::Integer(i)) => {
            let shown = zone::to_local(&zone::current(), i);
            return cast(Ty::Timestamp, to, ValueRef::Integer(shown));
        }
        (Ty::Timestamp, Ty::Date, ValueRef::Integer(i)) => Value::Integer(time::split(i).0),
        (Ty::Timestamp, Ty::Time, ValueRef::Integer(i)) => Value::Integer(time::split(i).1),
        (Ty::Time, Ty::Interval, ValueRef::Integer(i)) => Value::Blob(Interval { us: i, ..Interval::default() }.to_blob()),
        (Ty::Interval, Ty::Time, ValueRef::Blob(b)) => {
            Value::Integer(Interval::from_blob(b).unwrap_or_default().us.rem_euclid(time::US_PER_DAY))
        }
        (_, _, ValueRef::Null) => Value::Null,
        (_, _, other) => match output::cast_text(from, other) {
            Some(text) => input::parse(to, &text, None)?,
            None => Value::Null,
        },
    })
}

fn fifteen_digits(f: f64) -> String {
    let text = format!("{f:.14e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    format!("{mantissa}e{exponent}")
}

/// `pg_size_pretty`.
fn size(bytes: i64) -> String {
    let mut value = bytes;
    for (unit, shift, limit) in [("bytes", 0, 10_240), ("kB", 9, 20_479), ("MB", 10, 20_479), ("GB", 10, 20_479), ("TB", 10, 20_479)] {
        value >>= shift;
        if value.abs() < limit {
            return match unit {
                "bytes" => format!("{value} bytes"),
                // One bit more was kept for rounding.
                unit => format!("{} {unit}", (value + value.signum()) / 2),
            };
        }
    }
    format!("{} PB", ((value >> 10) + 1) / 2)
}
