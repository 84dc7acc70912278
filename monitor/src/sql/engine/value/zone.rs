//! Time zones: what `TimeZone` may be set to, and the zone of the session whose work runs on this thread.
//!
//! Values and SQLite's functions are converted far from any session; the zone reaches them as
//! PostgreSQL's does, beside the arguments. What is computed in a zone is computed within one call of
//! [`within`], which never waits.

use std::cell::RefCell;

use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::time::{US_PER_SECOND, zone_offset};

thread_local! {
    static CURRENT: RefCell<TimeZone> = const { RefCell::new(TimeZone::UTC) };
}

/// Does `work` for a session in `zone`.
pub fn within<T>(zone: TimeZone, work: impl FnOnce() -> T) -> T {
    struct Back(Option<TimeZone>);
    impl Drop for Back {
        fn drop(&mut self) {
            if let Some(before) = self.0.take() {
                CURRENT.with(|current| current.replace(before));
            }
        }
    }
    let _back = Back(Some(CURRENT.with(|current| current.replace(zone))));
    work()
}

/// The zone of the session whose work runs here; UTC outside of [`within`].
pub fn current() -> TimeZone {
    CURRENT.with(|current| current.borrow().clone())
}

/// The zone that a value of `TimeZone` means, and the name under which SHOW gives it: a name of the tz
/// database in any case, hours east of UTC, `interval '+02:00'`, or a POSIX specification.
pub fn find(text: &str) -> Option<(String, TimeZone)> {
    const UTC: [&str; 6] = ["UTC", "GMT", "Etc/UTC", "UCT", "Zulu", "Z"];
    if let Some(name) = UTC.iter().find(|name| name.eq_ignore_ascii_case(text)) {
        return Some((name.to_string(), TimeZone::UTC));
    }
    let hours = text.parse::<f64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit() || b"+-.".contains(&b)));
    let east = match text.strip_prefix("interval ") {
        Some(interval) => Some(zone_offset(interval)? / US_PER_SECOND),
        None => hours.map(|hours| (hours * 3600.0).round() as i64),
    };
    if let Some(east) = east {
        return Some((posix_name(east), fixed(east)?));
    }
    // POSIX counts to the west, and needs no name. Names such as `<-03:30>` only PostgreSQL takes.
    let unnamed = text.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(text, |(_, west)| west);
    if let Some(west) = Some(unnamed).filter(|west| west.starts_with(['+', '-'])).and_then(zone_offset) {
        return Some((text.to_string(), fixed(-west / US_PER_SECOND)?));
    }
    if let Ok(zone) = TimeZone::get(text)
        && let Some(name) = zone.iana_name().filter(|name| *name != "Etc/Unknown").map(str::to_string)
    {
        return Some((name, zone));
    }
    TimeZone::posix(text).ok().map(|zone| (text.to_string(), zone))
}

/// The zone of a value that `TimeZone` has been set to.
pub fn named(name: &str) -> TimeZone {
    find(name).map_or(TimeZone::UTC, |(_, zone)| zone)
}

fn fixed(seconds: i64) -> Option<TimeZone> {
    Some(TimeZone::fixed(Offset::from_seconds(i32::try_from(seconds).ok()?).ok()?))
}

/// `<+02>-02`, as PostgreSQL names an offset.
fn posix_name(east: i64) -> String {
    format!("<{}>{}", offset_text(east, false), offset_text(-east, false))
}

/// `+02`, `-03:30`; with `minutes` always `+02:00`.
pub fn offset_text(seconds: i64, minutes: bool) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hour, minute, second) = (seconds.abs() / 3600, seconds.abs() / 60 % 60, seconds.abs() % 60);
    match (minute, second) {
        (0, 0) if !minutes => format!("{sign}{hour:02}"),
        (_, 0) => format!("{sign}{hour:02}:{minute:02}"),
        _ => format!("{sign}{hour:02}:{minute:02}:{second:02}"),
    }
}

/// Seconds east of UTC at a time.
pub fn offset_at(zone: &TimeZone, us: i64) -> i64 {
    // Times before -9999 and after 9999 have no zone.
    Timestamp::from_microsecond(us).map_or(0, |time| i64::from(zone.to_offset(time).seconds()))
}

/// `CEST`.
pub fn abbreviation_at(zone: &TimeZone, us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| String::new(), |t| zone.to_offset_info(t).abbreviation().to_string())
}

/// The clock on the wall at a time.
pub fn to_local(zone: &TimeZone, us: i64) -> i64 {
    us.saturating_add(offset_at(zone, us) * US_PER_SECOND)
}

/// The time at which the clock on the wall shows `local`. Where clocks go forward and show it never,
/// the offset before counts; where they go back and show it twice, the one after: PostgreSQL's choice.
pub fn to_utc(zone: &TimeZone, local: i64) -> i64 {
    let Ok(shown) = Timestamp::from_microsecond(local) else { return local };
    let offset = match zone.to_ambiguous_timestamp(Offset::UTC.to_datetime(shown)).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { before, .. } => before,
        AmbiguousOffset::Fold { after, .. } => after,
    };
    local.saturating_sub(i64::from(offset.seconds()) * US_PER_SECOND)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sql::engine::value::time::{parse_timestamp, parse_timestamptz, timestamptz_text};

    #[test]
    fn zones_are_named_as_postgresql_names_them() {
        let name = |text| find(text).map(|(name, _)| name);
        assert_eq!(name("utc").as_deref(), Some("UTC"));
        assert_eq!(name("europe/berlin").as_deref(), Some("Europe/Berlin"));
        assert_eq!(name("2").as_deref(), Some("<+02>-02"));
        assert_eq!(name("-3.5").as_deref(), Some("<-03:30>+03:30"));
        assert_eq!(name("interval +02:00").as_deref(), Some("<+02>-02"));
        assert_eq!(name("+05:30").as_deref(), Some("+05:30"));
        assert_eq!(name("<+03>-03").as_deref(), Some("<+03>-03"));
        for unknown in ["", "Nowhere/Land", "../passwd", "1e9", "99999", "+", "interval x", "\u{e9}"] {
            assert_eq!(name(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn clocks_go_forward_and_back() {
        let berlin = named("Europe/Berlin");
        within(berlin, || {
            let shown = |text: &str| timestamptz_text(parse_timestamptz(text, None).unwrap());
            assert_eq!(shown("2026-07-01 12:00:00+00"), "2026-07-01 14:00:00+02");
            assert_eq!(shown("2026-01-01 12:00:00"), "2026-01-01 12:00:00+01");
            assert_eq!(shown("2026-03-29 02:30:00"), "2026-03-29 03:30:00+02", "never shown");
            assert_eq!(shown("2026-10-25 02:30:00"), "2026-10-25 02:30:00+01", "shown twice");
            assert_eq!(shown("2026-07-01 12:00:00 America/New_York"), "2026-07-01 18:00:00+02");
            assert_eq!(shown("1890-01-01 00:00:00"), "1890-01-01 00:00:00+00:53:28");
            let plain = parse_timestamp("2026-07-01 12:00:00+05", None).unwrap();
            assert_eq!(Some(plain), parse_timestamp("2026-07-01 12:00:00", None), "its zone does not count");
        });
        assert_eq!(timestamptz_text(0), "1970-01-01 00:00:00+00", "the zone has not stayed");
        let newfoundland = within(named(&find("-3.5").unwrap().0), || timestamptz_text(0));
        assert_eq!(newfoundland, "1969-12-31 20:30:00-03:30", "found under the name that it was given");
        let india = within(named("+05:30"), || timestamptz_text(0));
        assert_eq!(india, "1969-12-31 18:30:00-05:30", "POSIX counts to the west");
    }
}
