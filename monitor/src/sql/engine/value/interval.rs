//! Intervals: months, days and microseconds, kept apart as PostgreSQL does.

use super::time::{US_PER_DAY, US_PER_SECOND, civil, days_from_civil, month_length, push_fraction, split};

/// An interval. Days are not 24 hours and months are not 30 days, except for comparing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub us: i64,
}

impl Interval {
    /// The distance between two timestamps: whole days and the rest.
    pub fn between(later: i64, earlier: i64) -> Interval {
        let us = later.saturating_sub(earlier);
        Interval { months: 0, days: (us / US_PER_DAY) as i32, us: us % US_PER_DAY }
    }

    /// `age(later, earlier)`: years, months and days by the calendar.
    pub fn age(later: i64, earlier: i64) -> Interval {
        if later < earlier {
            let i = Interval::age(earlier, later);
            return Interval { months: -i.months, days: -i.days, us: -i.us };
        }
        let ((day1, time1), (day2, time2)) = (split(later), split(earlier));
        let ((y1, m1, d1), (y2, m2, d2)) = (civil(day1), civil(day2));
        let mut us = time1 - time2;
        let mut days = i64::from(d1) - i64::from(d2);
        let mut months = (y1 - y2) * 12 + i64::from(m1) - i64::from(m2);
        if us < 0 {
            us += US_PER_DAY;
            days -= 1;
        }
        if days < 0 {
            days += i64::from(month_length(y2, m2));
            months -= 1;
        }
        Interval { months: months as i32, days: days as i32, us }
    }

    /// Microseconds with days of 24 hours and months of 30 days: the order of intervals.
    pub fn total(self) -> i128 {
        (i128::from(self.months) * 30 + i128::from(self.days)) * i128::from(US_PER_DAY) + i128::from(self.us)
    }

    pub fn plus(self, other: Interval, sign: i64) -> Interval {
        Interval {
            months: self.months.saturating_add(other.months.saturating_mul(sign as i32)),
            days: self.days.saturating_add(other.days.saturating_mul(sign as i32)),
            us: self.us.saturating_add(other.us.saturating_mul(sign)),
        }
    }

    /// `interval * factor`; fractions of months and days flow down, as in PostgreSQL.
    pub fn times(self, factor: f64) -> Interval {
        let months = f64::from(self.months) * factor;
        let days = f64::from(self.days) * factor + (months - months.trunc()) * 30.0;
        let us = self.us as f64 * factor + (days - days.trunc()) * US_PER_DAY as f64;
        Interval { months: months.trunc() as i32, days: days.trunc() as i32, us: us.round() as i64 }
    }

    /// `timestamp + interval` (`sign` 1) or `timestamp - interval` (-1); `None`: out of range.
    pub fn add_to(self, timestamp: i64, sign: i64) -> Option<i64> {
        let (mut day, time) = split(timestamp);
        if self.months != 0 {
            let (year, month, dom) = civil(day);
            let months = year.checked_mul(12)? + i64::from(month) - 1 + sign * i64::from(self.months);
            let (year, month) = (months.div_euclid(12), (months.rem_euclid(12) + 1) as u32);
            day = days_from_civil(year, month, dom.min(month_length(year, month)));
        }
        day = day.checked_add(sign * i64::from(self.days))?;
        let result = day.checked_mul(US_PER_DAY)?.checked_add(time)?.checked_add(self.us.checked_mul(sign)?)?;
        // 4713 BC is where PostgreSQL's calendar begins.
        (result >= -210_866_803_200_000_000).then_some(result)
    }

    /// Seconds in millionths, with years of 365.25 days: `extract(epoch from interval)`.
    pub fn epoch_us(self) -> i128 {
        let (years, months) = (i128::from(self.months / 12), i128::from(self.months % 12));
        let day = i128::from(US_PER_DAY);
        years * (day * 1461 / 4) + (months * 30 + i128::from(self.days)) * day + i128::from(self.us)
    }

    /// Bytes that sort as the interval does; the fields behind keep what the order forgets.
    pub fn to_blob(self) -> Vec<u8> {
        let key = (self.total() as u128) ^ (1 << 127);
        let mut blob = key.to_be_bytes().to_vec();
        blob.extend(self.months.to_be_bytes());
        blob.extend(self.days.to_be_bytes());
        blob.extend(self.us.to_be_bytes());
        blob
    }

    /// The inverse of [`Interval::to_blob`].
    pub fn from_blob(blob: &[u8]) -> Option<Interval> {
        let part = |range: std::ops::Range<usize>| blob.get(range);
        Some(Interval {
            months: i32::from_be_bytes(part(16..20)?.try_into().ok()?),
            days: i32::from_be_bytes(part(20..24)?.try_into().ok()?),
            us: i64::from_be_bytes(part(24..32)?.try_into().ok()?),
        })
    }

    /// Reads `1 day 02:03:04`, `30s`, `-1 mon +2 days`, `10 minutes ago`.
    pub fn parse(text: &str, default_unit: Option<&str>) -> Option<Interval> {
        let mut total = Interval::default();
        let mut tokens = tokens(text)?.into_iter().peekable();
        let mut any = false;
        while let Some(token) = tokens.next() {
            if token.eq_ignore_ascii_case("ago") {
                total = Interval { months: -total.months, days: -total.days, us: -total.us };
                continue;
            }
            any = true;
            if token.contains(':') {
                let (sign, digits) = match token.strip_prefix('-') {
                    Some(rest) => (-1, rest),
                    None => (1, token.strip_prefix('+').unwrap_or(&token)),
                };
                total.us = total.us.checked_add(sign * clock(digits)?)?;
                continue;
            }
            let unit = match tokens.peek() {
                Some(next) if next.chars().all(|c| c.is_ascii_alphabetic()) && !next.eq_ignore_ascii_case("ago") => {
                    tokens.next()?
                }
                _ => default_unit.unwrap_or("second").to_string(),
            };
            total = total.plus(one(&token, &unit)?, 1);
        }
        any.then_some(total)
    }

    /// As PostgreSQL prints it with `IntervalStyle` postgres.
    pub fn text(self) -> String {
        let mut text = String::new();
        let mut negative_before = false;
        for (value, unit) in [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")] {
            if value != 0 {
                let space = if text.is_empty() { "" } else { " " };
                let plus = if negative_before && value > 0 { "+" } else { "" };
                text += &format!("{space}{plus}{value} {unit}{}", if value == 1 { "" } else { "s" });
                negative_before = value < 0;
            }
        }
        if text.is_empty() || self.us != 0 {
            let space = if text.is_empty() { "" } else { " " };
            let sign = match (self.us < 0, negative_before) {
                (true, _) => "-",
                (false, true) => "+",
                _ => "",
            };
            let us = self.us.unsigned_abs() as i64;
            let seconds = us / US_PER_SECOND;
            text += &format!("{space}{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
            push_fraction(&mut text, us % US_PER_SECOND);
        }
        text
    }
}

/// Cuts at spaces and between a number and the unit glued to it.
fn tokens(text: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    for word in text.trim_start_matches('@').split_whitespace() {
        match word.find(|c: char| c.is_ascii_alphabetic()) {
            Some(0) | None => out.push(word.to_string()),
            Some(at) => {
                out.push(word[..at].to_string());
                out.push(word[at..].to_string());
            }
        }
        if out.len() > 32 {
            return None;
        }
    }
    Some(out)
}

fn clock(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split(':').collect();
    let number = |t: &str| -> Option<i64> { if t.len() < 10 { t.parse().ok() } else { None } };
    let (hours, minutes, seconds) = match parts.as_slice() {
        [h, m] => (number(h)?, number(m)?, "0"),
        [h, m, s] => (number(h)?, number(m)?, *s),
        _ => return None,
    };
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let us = super::time::parse_fraction(fraction)?;
    Some(((hours * 60 + minutes) * 60 + number(whole)?) * US_PER_SECOND + us)
}

fn one(number: &str, unit: &str) -> Option<Interval> {
    let value: f64 = number.parse().ok().filter(|v: &f64| v.is_finite() && v.abs() < 1e9)?;
    let months = |n: f64| Interval { months: 1, ..Interval::default() }.times(n);
    let days = |n: f64| Interval { days: 1, ..Interval::default() }.times(n);
    let us = |n: f64| Interval { us: (n * value).round() as i64, ..Interval::default() };
    Some(match unit.to_ascii_lowercase().as_str() {
        "us" | "usec" | "usecs" | "microsecond" | "microseconds" => us(1.0),
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => us(1e3),
        "s" | "sec" | "secs" | "second" | "seconds" => us(1e6),
        "m" | "min" | "mins" | "minute" | "minutes" => us(60e6),
        "h" | "hr" | "hrs" | "hour" | "hours" => us(3600e6),
        "d" | "day" | "days" => days(value),
        "w" | "week" | "weeks" => days(value * 7.0),
        "mon" | "mons" | "month" | "months" => months(value),
        "y" | "yr" | "yrs" | "year" | "years" => months(value * 12.0),
        "decade" | "decades" => months(value * 120.0),
        "century" | "centuries" => months(value * 1200.0),
        _ => return None,
    })
}
