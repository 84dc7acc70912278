//! Dates, times and intervals made of numbers, and rounded to steps.

use rusqlite::functions::Context as Call;
use rusqlite::types::Value;
use rusqlite::{Connection, Result};

use super::times::interval_arg;
use super::{float_arg, int_arg, strict, text_arg};
use crate::sql::engine::value::interval::Interval;
use crate::sql::engine::value::time::{self, US_PER_DAY, US_PER_SECOND};
use crate::sql::engine::value::zone;
use crate::sql::error::SqlError;

type Made<T> = std::result::Result<T, SqlError>;

pub fn register(c: &Connection) -> Result<()> {
    strict(c, "pg_make_interval", 7, |a| {
        let part = |i| int_arg(a, i);
        let months = part(0).saturating_mul(12).saturating_add(part(1));
        let days = part(2).saturating_mul(7).saturating_add(part(3));
        let us = part(4).saturating_mul(3600).saturating_add(part(5).saturating_mul(60)).saturating_mul(US_PER_SECOND);
        let interval = Interval {
            months: i32::try_from(months).map_err(|_| out_of_range("interval"))?,
            days: i32::try_from(days).map_err(|_| out_of_range("interval"))?,
            us: us.saturating_add(seconds(float_arg(a, 6))),
        };
        Ok(Value::Blob(interval.to_blob()))
    })?;
    strict(c, "pg_make_date", 3, |a| Ok(Value::Integer(date(a)?)))?;
    strict(c, "pg_make_time", 3, |a| Ok(Value::Integer(clock(a, 0)?)))?;
    strict(c, "pg_make_timestamp", 6, |a| Ok(Value::Integer(date(a)? * US_PER_DAY + clock(a, 3)?)))?;
    strict(c, "pg_interval_trunc", 2, |a| {
        let i = interval_arg(a, 1);
        let whole = |months: i32| Interval { months: i.months - i.months % months, ..Interval::default() };
        let days = Interval { us: 0, ..i };
        let unit = text_arg(a, 0).to_ascii_lowercase();
        let to = |us: i64| Interval { us: i.us - i.us % us, ..i };
        let cut = match unit.trim_end_matches('s') {
            "microsecond" => i,
            "millisecond" => to(1000),
            "second" => to(US_PER_SECOND),
            "minute" => to(60 * US_PER_SECOND),
            "hour" => to(3600 * US_PER_SECOND),
            "day" => days,
            "month" => whole(1),
            "quarter" => whole(3),
            "year" => whole(12),
            "decade" => whole(120),
            _ => return Err(SqlError::new("22023", format!("unit \"{unit}\" not recognized for type interval"))),
        };
        Ok(Value::Blob(cut.to_blob()))
    })?;
    strict(c, "pg_date_bin", 3, |a| {
        let stride = interval_arg(a, 0);
        if stride.months != 0 {
            return Err(SqlError::new("0A000", "timestamps cannot be binned into intervals containing months or years"));
        }
        let stride = i64::from(stride.days).saturating_mul(US_PER_DAY).saturating_add(stride.us);
        if stride <= 0 {
            return Err(SqlError::new("22008", "stride must be greater than zero"));
        }
        let (at, origin) = (int_arg(a, 1), int_arg(a, 2));
        Ok(Value::Integer(origin + at.saturating_sub(origin).div_euclid(stride) * stride))
    })?;
    strict(c, "pg_time_of_text", 2, |a| Ok(Value::Integer(of_text(text_arg(a, 0), text_arg(a, 1))?)))?;
    strict(c, "pg_local_to_utc", 1, |a| Ok(Value::Integer(zone::to_utc(&zone::current(), int_arg(a, 0)))))
}

fn out_of_range(what: &str) -> SqlError {
    SqlError::new("22008", format!("{what} out of range"))
}

fn seconds(seconds: f64) -> i64 {
    (seconds * 1e6).round_ties_even() as i64
}

/// Year, month and day in the first three arguments.
fn date(a: &Call<'_>) -> Made<i64> {
    let (year, month, day) = (int_arg(a, 0), int_arg(a, 1), int_arg(a, 2));
    valid_date(year, month, day)
        .ok_or_else(|| SqlError::new("22008", format!("date field value out of range: {year}-{month:02}-{day:02}")))
}

fn valid_date(year: i64, month: i64, day: i64) -> Option<i64> {
    let (month, day) = (u32::try_from(month).ok()?, u32::try_from(day).ok()?);
    let fits = (1..=12).contains(&month) && (1..=294_275).contains(&year) && day >= 1 && day <= time::month_length(year, month);
    fits.then(|| time::days_from_civil(year, month, day))
}

/// Hours, minutes and seconds from argument `i` on.
fn clock(a: &Call<'_>, i: usize) -> Made<i64> {
    let (hours, minutes, secs) = (int_arg(a, i), int_arg(a, i + 1), float_arg(a, i + 2));
    if !(0..=24).contains(&hours) || !(0..60).contains(&minutes) || !(0.0..=60.0).contains(&secs) {
        return Err(SqlError::new("22008", format!("time field value out of range: {hours}:{minutes:02}:{secs:02}")));
    }
    Ok((hours * 3600 + minutes * 60) * US_PER_SECOND + seconds(secs))
}

/// `to_date` and `to_timestamp`: numbers at the places that the format gives, microseconds since 1970.
fn of_text(text: &str, format: &str) -> Made<i64> {
    const FIELDS: [(&str, usize, usize); 11] = [
        ("YYYY", 0, 4), ("MM", 1, 2), ("DD", 2, 2), ("HH24", 3, 2), ("HH12", 3, 2), ("HH", 3, 2), ("MI", 4, 2), ("SS", 5, 2),
        ("MS", 6, 3), ("US", 7, 6), ("YY", 8, 2),
    ];
    let mut values = [1, 1, 1, 0, 0, 0, 0, 0, 0];
    let (mut rest, mut format) = (text.trim_start(), format.to_ascii_uppercase());
    while !format.is_empty() {
        let field = FIELDS.iter().filter(|f| format.starts_with(f.0)).max_by_key(|f| f.0.len());
        let Some((name, at, width)) = field else {
            // What is no field stands for itself, or for any other sign.
            format = format.chars().skip(1).collect();
            rest = rest.strip_prefix(|c: char| !c.is_ascii_digit()).unwrap_or(rest);
            continue;
        };
        format = format.split_off(name.len());
        rest = rest.trim_start();
        let length = rest.bytes().take(*width).take_while(u8::is_ascii_digit).count();
        let (digits, after) = rest.split_at(length);
        let bad = || {
            SqlError::new("22007", format!("invalid value \"{}\" for \"{name}\"", rest.chars().take(*width).collect::<String>()))
                .detail("Value must be an integer.")
        };
        let number: i64 = digits.parse().map_err(|_| bad())?;
        // Fractions of a second are read from the left.
        values[*at] = if matches!(*at, 6 | 7) { number * 10_i64.pow((*width - length) as u32) } else { number };
        if *at == 8 {
            values[0] = 2000 + number;
        }
        rest = after;
    }
    let [year, month, day, hours, minutes, secs, ms, us, _] = values;
    let out = || SqlError::new("22008", format!("date/time field value out of range: \"{text}\""));
    if hours > 23 || minutes > 59 || secs > 59 {
        return Err(out());
    }
    let days = valid_date(year, month, day).ok_or_else(out)?;
    Ok(days * US_PER_DAY + (hours * 3600 + minutes * 60 + secs) * US_PER_SECOND + ms * 1000 + us)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_by_their_format() {
        let read = |text, format| of_text(text, format).map(time::timestamp_text);
        assert_eq!(read("2026-11-21", "YYYY-MM-DD").unwrap(), "2026-11-21 00:00:00");
        assert_eq!(read("21/11/2026 01:02:03.5", "DD/MM/YYYY HH24:MI:SS.MS").unwrap(), "2026-11-21 01:02:03.5");
        assert_eq!(read("20261121", "YYYYMMDD").unwrap(), "2026-11-21 00:00:00");
        assert_eq!(read("2026-13-01", "YYYY-MM-DD").unwrap_err().sqlstate, "22008");
        assert_eq!(read("x", "YYYY").unwrap_err().sqlstate, "22007");
    }
}
