//! Numbers with units, as PostgreSQL's settings are read and shown.

use super::error::SqlError;

/// What a setting counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    None,
    Milliseconds,
    Kilobytes,
    /// Of 8 kB.
    Blocks,
}

/// Names and sizes of the units that a value may come in, the smallest first.
type Names = &'static [(&'static str, f64)];

const TIME: Names = &[("us", 0.001), ("ms", 1.0), ("s", 1e3), ("min", 6e4), ("h", 3.6e6), ("d", 8.64e7)];
const MEMORY: Names = &[("B", 1.0), ("kB", 1024.0), ("MB", 1_048_576.0), ("GB", 1_073_741_824.0), ("TB", 1_099_511_627_776.0)];

impl Unit {
    /// As `pg_settings` shows it.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Unit::None => None,
            Unit::Milliseconds => Some("ms"),
            Unit::Kilobytes => Some("kB"),
            Unit::Blocks => Some("8kB"),
        }
    }

    /// The units of its kind, and its own size among them.
    fn kind(self) -> (Names, f64, &'static str) {
        const TIMES: &str = "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".";
        const SIZES: &str = "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\".";
        match self {
            Unit::None => (&[], 1.0, ""),
            Unit::Milliseconds => (TIME, 1.0, TIMES),
            Unit::Kilobytes => (MEMORY, 1024.0, SIZES),
            Unit::Blocks => (MEMORY, 8192.0, SIZES),
        }
    }
}

/// The number at the beginning of a text, and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim_start();
    let plain = |c: char| c.is_ascii_digit() || c == '.';
    let from = text.len() - text.trim_start_matches(['+', '-']).len();
    let mut end = from + text.get(from..)?.find(|c| !plain(c)).unwrap_or(text.len() - from);
    if let Some(power) = text.get(end..)?.strip_prefix(['e', 'E']) {
        let digits = power.trim_start_matches(['+', '-']);
        let length = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        if length > 0 {
            end += 1 + power.len() - digits.len() + length;
        }
    }
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest))
}

/// Reads an integer setting, in its own unit or in another one of the kind; fractions are rounded.
///
/// # Errors
/// 22023 in PostgreSQL's words.
pub fn read(name: &str, text: &str, unit: Unit, min: i64, max: i64) -> Result<i64, SqlError> {
    let invalid = || SqlError::new("22023", format!("invalid value for parameter \"{name}\": \"{text}\""));
    let (number, rest) = number(text).ok_or_else(invalid)?;
    let (units, size, known) = unit.kind();
    let factor = match (rest.trim(), known) {
        ("", _) => 1.0,
        (_, "") => return Err(invalid()),
        (given, _) => {
            let found = units.iter().find(|u| u.0 == given);
            found.ok_or_else(|| invalid().hint(known))?.1 / size
        }
    };
    let value = (number * factor).round_ties_even();
    if !(f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value) {
        return Err(invalid().hint("Value exceeds integer range."));
    }
    let value = value as i64;
    if !(min..=max).contains(&value) {
        let unit = unit.name().map(|u| format!(" {u}")).unwrap_or_default();
        let message = format!("{value}{unit} is outside the valid range for parameter \"{name}\" ({min} .. {max})");
        return Err(SqlError::new("22023", message));
    }
    Ok(value)
}

/// The value in the largest unit that it is a whole number of.
pub fn shown(value: i64, unit: Unit) -> String {
    let (units, size, _) = unit.kind();
    if value <= 0 {
        return value.to_string();
    }
    let amount = value as f64 * size;
    match units.iter().rev().find(|u| amount % u.1 == 0.0) {
        Some((name, size)) => format!("{}{name}", amount / size),
        None => value.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_and_shown_as_postgresql_does() {
        let time = |text| read("t", text, Unit::Milliseconds, 0, 2_147_483_647);
        let round = |text| shown(time(text).unwrap(), Unit::Milliseconds);
        assert_eq!(["5s", "1500", "1.5 s", "60000", "90min", "0", "1e3", "1d"].map(round), [
            "5s", "1500ms", "1500ms", "1min", "90min", "0", "1s", "1d"
        ]);
        let size = |text| shown(read("m", text, Unit::Kilobytes, 64, 2_147_483_647).unwrap(), Unit::Kilobytes);
        assert_eq!(["4096", "64kB", "1GB", "1.5MB"].map(size), ["4MB", "64kB", "1GB", "1536kB"]);
        assert_eq!(shown(16_384, Unit::Blocks), "128MB");
    }

    #[test]
    fn what_is_wrong_with_a_value_is_said() {
        let wrong = |text, unit| {
            let error = read("x", text, unit, 0, 100).unwrap_err();
            assert_eq!(error.sqlstate, "22023");
            (error.message, error.hint.unwrap_or_default())
        };
        let invalid = |text: &str| format!("invalid value for parameter \"x\": \"{text}\"");
        assert_eq!(wrong("abc", Unit::Milliseconds), (invalid("abc"), String::new()));
        assert_eq!(wrong("", Unit::None), (invalid(""), String::new()));
        assert_eq!(wrong("5 parsecs", Unit::Milliseconds).1.split(' ').next_back(), Some("\"d\"."));
        assert_eq!(wrong("100000000000", Unit::None), (invalid("100000000000"), "Value exceeds integer range.".to_string()));
        let outside = "-1 ms is outside the valid range for parameter \"x\" (0 .. 100)";
        assert_eq!(wrong("-1", Unit::Milliseconds).0, outside);
    }
}
