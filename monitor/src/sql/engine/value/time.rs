//! Dates and timestamps. Where a zone matters, it is that of the session ([`zone::within`]).

use std::fmt::Write;

use jiff::tz::TimeZone;

use super::zone;

pub const US_PER_SECOND: i64 = 1_000_000;
pub const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;

/// Day number since 1970-01-01 to (year, month, day), proleptic Gregorian.
pub fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Days in a month.
pub fn month_length(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// `2026-11-21`.
pub fn date_text(days: i64) -> String {
    let (year, month, day) = civil(days);
    if year > 0 { format!("{year:04}-{month:02}-{day:02}") } else { format!("{:04}-{month:02}-{day:02} BC", 1 - year) }
}

/// `02:11:31.038117`, fraction without trailing zeros.
pub fn time_text(us: i64) -> String {
    let seconds = us / US_PER_SECOND;
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    push_fraction(&mut text, us % US_PER_SECOND);
    text
}

/// Appends `.038117`, trimmed; nothing for a whole second.
pub fn push_fraction(text: &mut String, us: i64) {
    if us != 0 {
        let digits = format!("{:06}", us.abs());
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
}

/// Splits into (day number, microseconds of that day).
pub fn split(us: i64) -> (i64, i64) {
    (us.div_euclid(US_PER_DAY), us.rem_euclid(US_PER_DAY))
}

/// `2026-11-21 02:11:31.038117`.
pub fn timestamp_text(us: i64) -> String {
    let (day, time) = split(us);
    format!("{} {}", date_text(day), time_text(time))
}

/// `2026-11-21 02:11:31.038117+00`.
pub fn timestamptz_text(us: i64) -> String {
    let offset = zone::offset_at(&zone::current(), us);
    format!("{}{}", timestamp_text(us.saturating_add(offset * US_PER_SECOND)), zone::offset_text(offset, false))
}

/// `2026-11-21T02:11:31.038117+00:00`, as JSON shows it.
pub fn timestamptz_json(us: i64) -> String {
    let offset = zone::offset_at(&zone::current(), us);
    let (day, time) = split(us.saturating_add(offset * US_PER_SECOND));
    format!("{}T{}{}", date_text(day), time_text(time), zone::offset_text(offset, true))
}

/// `2026-11-21`, or with a time behind it, which is dropped.
pub fn parse_date(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, _) = text.split_once([' ', 'T']).unwrap_or((text, ""));
    let mut parts = date.split('-');
    let year = digits(parts.next()?)?;
    let month = digits(parts.next()?)?;
    let day = digits(parts.next()?)?;
    let valid = parts.next().is_none()
        && (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && day >= 1
        && day <= i64::from(month_length(year, month as u32));
    valid.then(|| days_from_civil(year, month as u32, day as u32))
}

/// `02:11[:31[.038]]`.
pub fn parse_time(text: &str) -> Option<i64> {
    let mut parts = text.trim().split(':');
    let hour = digits(parts.next()?)?;
    let minute = digits(parts.next()?)?;
    let seconds = parts.next().unwrap_or("0");
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let second = digits(whole)?;
    if parts.next().is_some() || hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    Some(((hour * 60 + minute) * 60 + second) * US_PER_SECOND + parse_fraction(fraction)?)
}

/// `038` after the point, in microseconds.
pub fn parse_fraction(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let six: String = text.chars().chain("000000".chars()).take(6).collect();
    six.parse().ok()
}

/// A timestamp without time zone; one that the text names does not count.
pub fn parse_timestamp(text: &str, now: Option<i64>) -> Option<i64> {
    Some(parse_clock(text, now)?.0)
}

/// A timestamp with time zone, that of the session unless the text names one: `2026-11-21 02:11:31+01`,
/// `2026-11-21T02:11:31Z`, `2026-11-21 02:11 Europe/Berlin`.
pub fn parse_timestamptz(text: &str, now: Option<i64>) -> Option<i64> {
    let (shown, named) = parse_clock(text, now)?;
    Some(zone::to_utc(&named.unwrap_or_else(zone::current), shown))
}

/// What the clock on the wall shows, and the zone that the text names.
fn parse_clock(text: &str, now: Option<i64>) -> Option<(i64, Option<TimeZone>)> {
    let text = text.trim();
    let word = text.to_ascii_lowercase();
    if word == "epoch" {
        return Some((0, Some(TimeZone::UTC)));
    }
    if let Some(now) = now {
        let shown = zone::to_local(&zone::current(), now);
        let today = split(shown).0 * US_PER_DAY;
        match word.as_str() {
            "now" => return Some((shown, None)),
            "today" => return Some((today, None)),
            "tomorrow" => return Some((today + US_PER_DAY, None)),
            "yesterday" => return Some((today - US_PER_DAY, None)),
            _ => {}
        }
    }
    let (date, rest) = match text.split_once([' ', 'T']) {
        Some(parts) => parts,
        // A zone may follow the date directly.
        None => text.split_at_checked(10).unwrap_or((text, "")),
    };
    let day = parse_date(date)?;
    let rest = rest.trim();
    if rest.is_empty() {
        return Some((day * US_PER_DAY, None));
    }
    let zone_at = rest.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone_at);
    let time = if time.is_empty() { 0 } else { parse_time(time)? };
    Some((day * US_PER_DAY + time, parse_zone(zone.trim())?))
}

/// The zone behind a time, if there is one; `None`: it is none.
fn parse_zone(text: &str) -> Option<Option<TimeZone>> {
    if text.is_empty() {
        return Some(None);
    }
    if !text.starts_with(['+', '-']) {
        return zone::find(text).map(|(_, zone)| Some(zone));
    }
    let seconds = i32::try_from(zone_offset(text)? / US_PER_SECOND).ok()?;
    Some(Some(TimeZone::fixed(jiff::tz::Offset::from_seconds(seconds).ok()?)))
}

/// `+02`, `-0330`, `+05:30`: the offset to the east, in microseconds.
pub fn zone_offset(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.as_bytes().first()? {
        b'+' => (1, zone.get(1..)?),
        b'-' => (-1, zone.get(1..)?),
        _ => return None,
    };
    let (hours, minutes) = match rest.split_once(':') {
        Some((h, m)) => (digits(h)?, digits(m)?),
        None if rest.len() == 4 => (digits(rest.get(..2)?)?, digits(rest.get(2..)?)?),
        None => (digits(rest)?, 0),
    };
    (hours <= 15 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60 * US_PER_SECOND)
}

fn digits(text: &str) -> Option<i64> {
    let plain = (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// 0 Sunday to 6 Saturday.
pub fn weekday(days: i64) -> i64 {
    (days + 4).rem_euclid(7)
}

/// ISO week-numbering year and week.
pub fn iso_week(days: i64) -> (i64, i64) {
    let monday_based = (weekday(days) + 6) % 7;
    let thursday = days - monday_based + 3;
    let (year, _, _) = civil(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

/// `date_trunc` of a timestamp; `None`: unknown unit.
pub fn truncate(unit: &str, us: i64) -> Option<i64> {
    let (day, time) = split(us);
    let (year, month, _) = civil(day);
    let start_of = |year: i64, month: u32| days_from_civil(year, month, 1) * US_PER_DAY;
    Some(match unit.to_ascii_lowercase().as_str() {
        "microseconds" | "microsecond" => us,
        "milliseconds" | "millisecond" => us - us.rem_euclid(1000),
        "second" | "seconds" => us - us.rem_euclid(US_PER_SECOND),
        "minute" | "minutes" => day * US_PER_DAY + time - time % (60 * US_PER_SECOND),
        "hour" | "hours" => day * US_PER_DAY + time - time % (3600 * US_PER_SECOND),
        "day" | "days" => day * US_PER_DAY,
        "week" | "weeks" => (day - (weekday(day) + 6) % 7) * US_PER_DAY,
        "month" | "months" => start_of(year, month),
        "quarter" => start_of(year, (month - 1) / 3 * 3 + 1),
        "year" | "years" => start_of(year, 1),
        "decade" => start_of(year.div_euclid(10) * 10, 1),
        "century" => start_of((year - 1).div_euclid(100) * 100 + 1, 1),
        _ => return None,
    })
}
