//! `to_char`.

use rusqlite::{Connection, Result};

use super::times::interval_arg;
use super::{int_arg, strict, text_arg, text_value, type_arg};
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value::decimal::Decimal;
use crate::sql::engine::value::time::{self, US_PER_SECOND};
use crate::sql::engine::value::zone;
use crate::sql::error::SqlError;

pub fn register(c: &Connection) -> Result<()> {
    strict(c, "pg_to_char_time", 3, |a| {
        Ok(text_value(format_time(int_arg(a, 1), type_arg(a, 0) == Ty::Timestamptz, text_arg(a, 2))))
    })?;
    strict(c, "pg_to_char_interval", 2, |a| {
        let i = interval_arg(a, 0);
        // Hours beyond a day stay hours; the date part comes from the months and days.
        let fields = Fields {
            year: i64::from(i.months / 12),
            month: (i.months % 12).unsigned_abs(),
            day: i.days.unsigned_abs(),
            hour: i.us / (3600 * US_PER_SECOND),
            us: i.us.rem_euclid(3600 * US_PER_SECOND),
            days: i64::from(i.days),
            zone: String::new(),
            offset: 0,
        };
        Ok(text_value(fields.format(text_arg(a, 1))))
    })?;
    strict(c, "pg_to_char_number", 2, |a| number(text_arg(a, 0), text_arg(a, 1)).map(text_value))
}

const MONTHS: [&str; 12] = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Longer patterns before those that they begin with.
const PATTERNS: &[&str] = &[
    "HH24", "HH12", "HH", "MI", "SSSSS", "SSSS", "SS", "MS", "US", "FF6", "FF3", "AM", "PM", "am", "pm", "A.M.", "P.M.",
    "YYYY", "IYYY", "YYY", "YY", "Y", "MONTH", "Month", "month", "MON", "Mon", "mon", "MM", "DAY", "Day", "day", "DDD", "DD",
    "DY", "Dy", "dy", "D", "ID", "IW", "WW", "W", "CC", "J", "Q", "TZH", "TZM", "TZ", "tz", "OF",
];

struct Fields {
    year: i64,
    month: u32,
    day: u32,
    hour: i64,
    /// Within the hour.
    us: i64,
    days: i64,
    /// Its abbreviation.
    zone: String,
    /// Seconds east of UTC.
    offset: i64,
}

/// `to_char(timestamp, pattern)`.
pub fn format_time(us: i64, zoned: bool, pattern: &str) -> String {
    let (offset, zone) = match zoned {
        true => (zone::offset_at(&zone::current(), us), zone::abbreviation_at(&zone::current(), us)),
        false => (0, String::new()),
    };
    let (days, clock) = time::split(us.saturating_add(offset * US_PER_SECOND));
    let (year, month, day) = time::civil(days);
    let hour = clock / (3600 * US_PER_SECOND);
    Fields { year, month, day, hour, us: clock % (3600 * US_PER_SECOND), days, zone, offset }.format(pattern)
}

impl Fields {
    fn format(&self, pattern: &str) -> String {
        let mut out = String::new();
        let mut rest = pattern;
        let mut fill = true;
        while let Some(c) = rest.chars().next() {
            if c == '"' {
                let inner = &rest[1..];
                let end = inner.find('"').unwrap_or(inner.len());
                out += &inner[..end];
                rest = inner.get(end + 1..).unwrap_or("");
                continue;
            }
            if let Some(after) = rest.strip_prefix("FM").or_else(|| rest.strip_prefix("fm")) {
                fill = false;
                rest = after;
                continue;
            }
            let known = PATTERNS.iter().find(|p| {
                rest.get(..p.len()).is_some_and(|head| head == **p || (head.eq_ignore_ascii_case(p) && numeric(p)))
            });
            match known {
                Some(p) => {
                    out += &self.field(p, fill);
                    rest = &rest[p.len()..];
                    if let Some(after) = rest.strip_prefix("TH").or_else(|| rest.strip_prefix("th")) {
                        out += "th";
                        rest = after;
                    }
                    fill = true;
                }
                None => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        out
    }

    fn field(&self, pattern: &str, fill: bool) -> String {
        let two = |n: i64| if fill { format!("{n:02}") } else { n.to_string() };
        let word = |w: &str, width: usize| {
            let cased = match pattern {
                p if p.chars().all(|c| c.is_uppercase()) => w.to_uppercase(),
                p if p.chars().all(|c| c.is_lowercase()) => w.to_lowercase(),
                _ => w.to_string(),
            };
            if fill { format!("{cased:<width$}") } else { cased }
        };
        let month = MONTHS[(self.month.clamp(1, 12) - 1) as usize];
        let weekday = DAYS[time::weekday(self.days) as usize];
        let minute = self.us / (60 * US_PER_SECOND);
        let second = self.us / US_PER_SECOND % 60;
        let fraction = self.us % US_PER_SECOND;
        let twelve = if self.hour % 12 == 0 { 12 } else { self.hour % 12 };
        let year_start = time::days_from_civil(self.year, 1, 1);
        match pattern {
            "HH24" => two(self.hour),
            "HH12" | "HH" => two(twelve),
            "MI" => two(minute),
            "SS" => two(second),
            "SSSS" | "SSSSS" => (self.hour * 3600 + minute * 60 + second).to_string(),
            "MS" | "FF3" => format!("{:03}", fraction / 1000),
            "US" | "FF6" => format!("{fraction:06}"),
            "AM" | "PM" => if self.hour % 24 < 12 { "AM" } else { "PM" }.to_string(),
            "am" | "pm" => if self.hour % 24 < 12 { "am" } else { "pm" }.to_string(),
            "A.M." | "P.M." => if self.hour % 24 < 12 { "A.M." } else { "P.M." }.to_string(),
            "YYYY" => if fill { format!("{:04}", self.year) } else { self.year.to_string() },
            "IYYY" => format!("{:04}", time::iso_week(self.days).0),
            "YYY" => format!("{:03}", self.year % 1000),
            "YY" => format!("{:02}", self.year % 100),
            "Y" => (self.year % 10).to_string(),
            "MM" => two(i64::from(self.month)),
            "DD" => two(i64::from(self.day)),
            "DDD" => format!("{:03}", self.days - year_start + 1),
            "D" => (time::weekday(self.days) + 1).to_string(),
            "ID" => ((time::weekday(self.days) + 6) % 7 + 1).to_string(),
            "IW" => two(time::iso_week(self.days).1),
            "WW" => two((self.days - year_start) / 7 + 1),
            "W" => ((i64::from(self.day) - 1) / 7 + 1).to_string(),
            "CC" => two((self.year + 99) / 100),
            "J" => (self.days + 2_440_588).to_string(),
            "Q" => ((self.month.max(1) - 1) / 3 + 1).to_string(),
            "TZ" => self.zone.to_string(),
            "tz" => self.zone.to_lowercase(),
            "TZH" => zone::offset_text(self.offset / 3600 * 3600, false),
            "OF" => zone::offset_text(self.offset, false),
            "TZM" => format!("{:02}", self.offset.abs() / 60 % 60),
            "MONTH" | "Month" | "month" => word(month, 9),
            "DAY" | "Day" | "day" => word(weekday, 9),
            "MON" | "Mon" | "mon" => word(&month[..3], 0),
            _ => word(&weekday[..3], 0),
        }
    }
}

/// Patterns whose case says nothing.
fn numeric(pattern: &str) -> bool {
    !matches!(
        pattern,
        "MONTH" | "Month" | "month" | "MON" | "Mon" | "mon" | "DAY" | "Day" | "day" | "DY" | "Dy" | "dy" | "AM" | "am"
            | "PM" | "pm" | "TZ" | "tz"
    )
}

/// `to_char(number, pattern)` with `9 0 . , D G FM S MI`.
fn number(value: &str, pattern: &str) -> std::result::Result<String, SqlError> {
    let (trim, pattern) = match pattern.strip_prefix("FM") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let places: usize = pattern.split(['.', 'D']).nth(1).map(|f| f.matches(['9', '0']).count()).unwrap_or(0);
    let whole_pattern: Vec<char> = pattern.split(['.', 'D']).next().unwrap_or("").chars().collect();
    let decimal = Decimal::parse(value).unwrap_or(Decimal::new(0, 0)).round(places as i32)?;
    let text = decimal.text();
    let digits = text.trim_start_matches('-');
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let slots = whole_pattern.iter().filter(|c| matches!(c, '9' | '0')).count();
    let forced = whole_pattern.iter().filter(|c| matches!(c, '9' | '0')).position(|c| *c == '0').map(|p| slots - p).unwrap_or(0);
    let significant = if whole == "0" && slots > 0 && places > 0 && forced == 0 { "" } else { whole };
    let mut filled: Vec<char> = if significant.len() > slots {
        vec!['#'; slots]
    } else {
        let padded = format!("{:0>forced$}", significant);
        format!("{padded:>slots$}").chars().collect()
    };
    filled.reverse();
    let mut body = String::new();
    for c in &whole_pattern {
        match c {
            '9' | '0' => body.push(filled.pop().unwrap_or(' ')),
            ',' | 'G' => body.push(if body.trim().is_empty() { ' ' } else { ',' }),
            'S' | 'M' | 'I' => {}
            other => body.push(*other),
        }
    }
    if places > 0 {
        body.push('.');
        body += fraction;
    }
    let sign = if decimal.is_negative() { "-" } else { " " };
    let lead = body.len() - body.trim_start().len();
    let signed = format!("{}{sign}{}", &body[..lead], body.trim_start());
    Ok(if trim {
        let plain = signed.trim().to_string();
        let optional = pattern.ends_with('9') && places > 0;
        if optional { plain.trim_end_matches('0').to_string() } else { plain }
    } else {
        signed
    })
}
