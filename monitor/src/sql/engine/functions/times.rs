//! Functions of timestamps and intervals.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::functions::Context as Call;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result};

use super::{float_arg, int_arg, strict, text_arg, text_value, type_arg, volatile};
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value::decimal::Decimal;
use crate::sql::engine::value::interval::Interval;
use crate::sql::engine::value::time::{self, US_PER_DAY, US_PER_SECOND};
use crate::sql::engine::value::zone;
use crate::sql::error::SqlError;

type Answer = std::result::Result<Value, SqlError>;

pub fn register(c: &Connection) -> Result<()> {
    volatile(c, "pg_clock", 0, |_| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Value::Integer(since.as_micros() as i64))
    })?;
    strict(c, "pg_time_add", 3, |a| {
        let result = interval_arg(a, 1).add_to(int_arg(a, 0), int_arg(a, 2));
        result.map(Value::Integer).ok_or_else(|| SqlError::new("22008", "timestamp out of range"))
    })?;
    // Months and days are those of the wall's clock, hours are hours.
    strict(c, "pg_zoned_add", 3, |a| {
        let (interval, sign, zone) = (interval_arg(a, 1), int_arg(a, 2), zone::current());
        let days = Interval { us: 0, ..interval };
        let start = match days == Interval::default() {
            true => Some(int_arg(a, 0)),
            false => days.add_to(zone::to_local(&zone, int_arg(a, 0)), sign).map(|shown| zone::to_utc(&zone, shown)),
        };
        let result = start.and_then(|start| Interval { months: 0, days: 0, ..interval }.add_to(start, sign));
        result.map(Value::Integer).ok_or_else(|| SqlError::new("22008", "timestamp out of range"))
    })?;
    strict(c, "pg_time_sub", 2, |a| Ok(interval(Interval::between(int_arg(a, 0), int_arg(a, 1)))))?;
    strict(c, "pg_age", 2, |a| Ok(interval(Interval::age(int_arg(a, 0), int_arg(a, 1)))))?;
    strict(c, "pg_interval_add", 3, |a| Ok(interval(interval_arg(a, 0).plus(interval_arg(a, 1), int_arg(a, 2)))))?;
    strict(c, "pg_interval_mul", 2, |a| Ok(interval(interval_arg(a, 0).times(float_arg(a, 1)))))?;
    strict(c, "pg_justify", 2, |a| Ok(interval(justify(text_arg(a, 0), interval_arg(a, 1)))))?;
    strict(c, "pg_extract", 3, extract)?;
    strict(c, "pg_date_trunc", 2, |a| {
        let unit = text_arg(a, 0);
        let bad = || SqlError::new("22023", format!("unit \"{unit}\" not recognized for type timestamp without time zone"));
        time::truncate(unit, int_arg(a, 1)).map(Value::Integer).ok_or_else(bad)
    })?;
    let named = |name: &str| {
        let missing = || SqlError::new("22023", format!("time zone \"{name}\" not recognized"));
        zone::find(name).map(|(_, zone)| zone).ok_or_else(missing)
    };
    strict(c, "pg_date_trunc_zoned", -1, move |a| {
        let zone = if a.len() > 2 { named(text_arg(a, 2))? } else { zone::current() };
        let unit = text_arg(a, 0);
        let bad = || SqlError::new("22023", format!("unit \"{unit}\" not recognized for type timestamp with time zone"));
        let shown = time::truncate(unit, zone::to_local(&zone, int_arg(a, 1))).ok_or_else(bad)?;
        Ok(Value::Integer(zone::to_utc(&zone, shown)))
    })?;
    // `AT TIME ZONE` of a timestamp with time zone, and of one without.
    strict(c, "pg_shown_in", 2, move |a| Ok(Value::Integer(zone::to_local(&named(text_arg(a, 1))?, int_arg(a, 0)))))?;
    strict(c, "pg_time_in", 2, move |a| Ok(Value::Integer(zone::to_utc(&named(text_arg(a, 1))?, int_arg(a, 0)))))
}

fn interval(value: Interval) -> Value {
    Value::Blob(value.to_blob())
}

/// The interval in argument `i`.
pub fn interval_arg(call: &Call<'_>, i: usize) -> Interval {
    match call.get_raw(i) {
        ValueRef::Blob(blob) => Interval::from_blob(blob).unwrap_or_default(),
        _ => Interval::default(),
    }
}

/// Carries hours into days and days into months, and gives all parts the same sign where it can.
fn justify(what: &str, i: Interval) -> Interval {
    let mut out = i;
    if what != "days" {
        out.days = out.days.saturating_add((out.us / US_PER_DAY) as i32);
        out.us %= US_PER_DAY;
    }
    if what != "hours" {
        out.months = out.months.saturating_add(out.days / 30);
        out.days %= 30;
        let rest = if what == "interval" { out.us.signum() } else { 0 };
        let sign = if out.days == 0 { rest } else { i64::from(out.days.signum()) };
        if out.months > 0 && sign < 0 {
            (out.days, out.months) = (out.days + 30, out.months - 1);
        } else if out.months < 0 && sign > 0 {
            (out.days, out.months) = (out.days - 30, out.months + 1);
        }
    }
    if what != "days" {
        if out.days > 0 && out.us < 0 {
            (out.us, out.days) = (out.us + US_PER_DAY, out.days - 1);
        } else if out.days < 0 && out.us > 0 {
            (out.us, out.days) = (out.us - US_PER_DAY, out.days + 1);
        }
    }
    out
}

fn extract(a: &Call<'_>) -> Answer {
    let (field, ty) = (text_arg(a, 0).to_ascii_lowercase(), type_arg(a, 1));
    let unknown = || {
        SqlError::new("22023", format!("unit \"{field}\" not recognized for type {}", ty.display()))
    };
    let whole = |n: i64| Ok(text_value(n.to_string()));
    let millionths = |n: i128, scale: u32| Ok(text_value(Decimal::new(n, scale).text()));
    if ty == Ty::Interval {
        let i = interval_arg(a, 2);
        return match field.as_str() {
            "epoch" => millionths(i.epoch_us(), 6),
            "second" | "seconds" => millionths(i128::from(i.us % (60 * US_PER_SECOND)), 6),
            "milliseconds" | "millisecond" => millionths(i128::from(i.us % (60 * US_PER_SECOND)), 3),
            "microseconds" | "microsecond" => whole(i.us % (60 * US_PER_SECOND)),
            "minute" | "minutes" => whole(i.us / (60 * US_PER_SECOND) % 60),
            "hour" | "hours" => whole(i.us / (3600 * US_PER_SECOND)),
            "day" | "days" => whole(i64::from(i.days)),
            "month" | "months" => whole(i64::from(i.months % 12)),
            "quarter" => whole(i64::from(i.months % 12 / 3 + 1)),
            "year" | "years" => whole(i64::from(i.months / 12)),
            _ => Err(unknown()),
        };
    }
    let offset = if ty == Ty::Timestamptz { zone::offset_at(&zone::current(), int_arg(a, 2)) } else { 0 };
    let since_epoch = int_arg(a, 2);
    let us = match ty {
        Ty::Date => since_epoch.saturating_mul(US_PER_DAY),
        _ => since_epoch.saturating_add(offset * US_PER_SECOND),
    };
    let (days, clock) = time::split(us);
    let (year, month, day) = time::civil(days);
    match field.as_str() {
        "epoch" if ty == Ty::Date => whole(us / US_PER_SECOND),
        "epoch" => millionths(i128::from(since_epoch), 6),
        "second" | "seconds" => millionths(i128::from(clock % (60 * US_PER_SECOND)), 6),
        "milliseconds" | "millisecond" => millionths(i128::from(clock % (60 * US_PER_SECOND)), 3),
        "microseconds" | "microsecond" => whole(clock % (60 * US_PER_SECOND)),
        "minute" | "minutes" => whole(clock / (60 * US_PER_SECOND) % 60),
        "hour" | "hours" => whole(clock / (3600 * US_PER_SECOND)),
        "day" | "days" => whole(i64::from(day)),
        "month" | "months" => whole(i64::from(month)),
        "quarter" => whole(i64::from((month - 1) / 3 + 1)),
        "year" | "years" => whole(year),
        "decade" => whole(year.div_euclid(10)),
        "century" => whole((year + 99).div_euclid(100)),
        "dow" => whole(time::weekday(days)),
        "isodow" => whole((time::weekday(days) + 6) % 7 + 1),
        "doy" => whole(days - time::days_from_civil(year, 1, 1) + 1),
        "week" => whole(time::iso_week(days).1),
        "isoyear" => whole(time::iso_week(days).0),
        "timezone" => whole(offset),
        "timezone_hour" => whole(offset / 3600),
        "timezone_minute" => whole(offset / 60 % 60),
        "julian" => whole(days + 2_440_588),
        _ => Err(unknown()),
    }
}
