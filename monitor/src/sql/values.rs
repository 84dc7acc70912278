//! Values in and out: PostgreSQL's text and binary forms, casts, and the errors of its input
//! functions.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use failover::{Lsn, NodeState, WallTime};

use super::engine::{self, time};
use super::error::SqlError;
use super::types::{Datum, PgType};

/// Microseconds between the Unix epoch and PostgreSQL's (2000-01-01).
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The type that a parameter of this OID is handled as; `None`: not one that we know.
pub fn type_of_oid(oid: u32) -> Option<PgType> {
    Some(match oid {
        0 | 705 => PgType::Unknown,
        16 => PgType::Bool,
        18 => PgType::Char,
        19 => PgType::Name,
        20 => PgType::Int8,
        21 | 23 => PgType::Int4,
        25 | 1042 | 1043 => PgType::Text,
        26 | 2205 | 24 => PgType::Oid,
        114 => PgType::Json,
        700 | 701 => PgType::Float8,
        1114 | 1184 => PgType::Timestamptz,
        1186 => PgType::Interval,
        1700 => PgType::Numeric,
        2278 => PgType::Void,
        3220 => PgType::PgLsn,
        3802 => PgType::Jsonb,
        17040 => PgType::ReplicationState,
        _ => return None,
    })
}

/// `pg_type.typlen`.
pub const fn type_length(ty: PgType) -> i16 {
    match ty {
        PgType::Bool | PgType::Char => 1,
        PgType::Int4 | PgType::Oid | PgType::ReplicationState | PgType::Void => 4,
        PgType::Int8 | PgType::Float8 | PgType::PgLsn | PgType::Timestamptz => 8,
        PgType::Interval => 16,
        PgType::Name => 64,
        PgType::Unknown => -2,
        PgType::Other(21) => 2,
        PgType::Other(1082 | 24 | 28 | 2205 | 2206 | 4089 | 4096) => 4,
        PgType::Other(1083 | 1114) => 8,
        _ => -1,
    }
}

fn invalid(ty: &str, text: &str) -> SqlError {
    SqlError::new("22P02", format!("invalid input syntax for type {ty}: \"{text}\""))
}

fn out_of_range(ty: &str, text: &str) -> SqlError {
    SqlError::new("22003", format!("value \"{text}\" is out of range for type {ty}"))
}

/// The input function of a type.
///
/// # Errors
/// 22P02 and 22003 in PostgreSQL's words.
pub fn parse(ty: PgType, text: &str) -> Result<Datum, SqlError> {
    Ok(match ty {
        PgType::Bool => Datum::Bool(parse_bool(text).ok_or_else(|| invalid("boolean", text))?),
        PgType::Int4 => Datum::Int(parse_int(text, "integer", i32::MIN.into(), i32::MAX.into())?),
        PgType::Int8 => Datum::Int(parse_int(text, "bigint", i64::MIN, i64::MAX)?),
        PgType::Oid => Datum::Int(parse_int(text, "oid", 0, u32::MAX.into())?),
        PgType::Float8 => {
            Datum::Float(text.trim().parse().map_err(|_| invalid("double precision", text))?)
        }
        PgType::PgLsn => Datum::Lsn(text.parse().map_err(|()| invalid("pg_lsn", text))?),
        PgType::ReplicationState => Datum::State(NodeState::from_name(text).ok_or_else(|| {
            let message = format!("invalid input value for enum pgautofailover.replication_state: \"{text}\"");
            SqlError::new("22P02", message)
        })?),
        PgType::Timestamptz => Datum::Time(parse_time(text).ok_or_else(|| {
            SqlError::new("22007", format!("invalid input syntax for type timestamp with time zone: \"{text}\""))
        })?),
        PgType::Name => {
            let mut end = text.len().min(63);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            Datum::Text(text[..end].to_string())
        }
        PgType::Json | PgType::Jsonb => {
            let value: serde_json::Value =
                serde_json::from_str(text).map_err(|_| SqlError::new("22P02", "invalid input syntax for type json"))?;
            let _ = value;
            Datum::Text(text.to_string())
        }
        PgType::Numeric => {
            let trimmed = text.trim();
            if trimmed.parse::<f64>().is_err() {
                return Err(invalid("numeric", text));
            }
            Datum::Text(trimmed.to_string())
        }
        PgType::Text | PgType::Char | PgType::Interval | PgType::Unknown | PgType::Other(_) => Datum::Text(text.to_string()),
        PgType::Void => Datum::Text(String::new()),
    })
}

fn parse_int(text: &str, ty: &str, min: i64, max: i64) -> Result<i64, SqlError> {
    let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace());
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid(ty, text));
    }
    match trimmed.parse::<i64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(out_of_range(ty, text)),
    }
}

/// PostgreSQL's boolean input: unambiguous prefixes, any case, surrounding blanks.
pub fn parse_bool(text: &str) -> Option<bool> {
    failover::settings::parse_bool(text.trim_matches(|c: char| c.is_ascii_whitespace()))
}

fn parse_time(text: &str) -> Option<WallTime> {
    time::parse_timestamptz(text, None).map(WallTime)
}

/// Decodes a parameter in binary format.
///
/// # Errors
/// 22P03 for a value of the wrong length, 0A000 for a type without binary input here.
pub fn parse_binary(oid: u32, bytes: &[u8]) -> Result<Datum, SqlError> {
    let wrong = || SqlError::new("22P03", "incorrect binary data format in bind parameter");
    let int = |n: usize| -> Result<i64, SqlError> {
        match (n, bytes) {
            (2, &[a, b]) => Ok(i16::from_be_bytes([a, b]).into()),
            (4, &[a, b, c, d]) => Ok(i32::from_be_bytes([a, b, c, d]).into()),
            (8, &[a, b, c, d, e, f, g, h]) => Ok(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => Err(wrong()),
        }
    };
    Ok(match oid {
        16 => match bytes {
            [byte] => Datum::Bool(*byte != 0),
            _ => return Err(wrong()),
        },
        20 => Datum::Int(int(8)?),
        21 => Datum::Int(int(2)?),
        23 => Datum::Int(int(4)?),
        26 => Datum::Int(int(4)? & 0xFFFF_FFFF),
        700 => Datum::Float(f32::from_bits(int(4)? as u32).into()),
        701 => Datum::Float(f64::from_bits(int(8)? as u64)),
        3220 => Datum::Lsn(Lsn(int(8)? as u64)),
        1114 | 1184 => Datum::Time(WallTime(int(8)?.checked_add(POSTGRES_EPOCH_US).ok_or_else(wrong)?)),
        3802 => match bytes.split_first() {
            Some((1, rest)) => parse(PgType::Jsonb, utf8(rest)?)?,
            _ => return Err(wrong()),
        },
        // These have the same bytes in both formats.
        0 | 18 | 19 | 25 | 114 | 705 | 1042 | 1043 | 17040 => {
            parse(type_of_oid(oid).unwrap_or(PgType::Text), utf8(bytes)?)?
        }
        _ => {
            let name = type_of_oid(oid).map_or("?", PgType::name);
            return Err(SqlError::new("0A000", format!("binary input of type {name} is not supported")));
        }
    })
}

/// Client bytes as text; 22021 in PostgreSQL's words otherwise.
pub fn utf8(bytes: &[u8]) -> Result<&str, SqlError> {
    if let Some(at) = bytes.iter().position(|b| *b == 0) {
        let _ = at;
        return Err(SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"));
    }
    std::str::from_utf8(bytes).map_err(|e| {
        let rest = &bytes[e.valid_up_to()..];
        // PostgreSQL prints as many bytes as the first one announces.
        let announced = match rest.first() {
            Some(0xC0..=0xDF) => 2,
            Some(0xE0..=0xEF) => 3,
            Some(0xF0..=0xF7) => 4,
            _ => 1,
        };
        let mut text = String::from("invalid byte sequence for encoding \"UTF8\":");
        for byte in rest.iter().take(announced) {
            let _ = write!(text, " 0x{byte:02x}");
        }
        SqlError::new("22021", text)
    })
}

/// The binary form of a non-null value. A datum that does not fit its column's type is sent as the
/// type's zero: that is a bug of ours, not a reason to break the connection.
pub fn write_binary(b: &mut BytesMut, datum: &Datum, ty: PgType) {
    let int = match datum {
        Datum::Int(i) => *i,
        Datum::Bool(v) => i64::from(*v),
        Datum::Lsn(lsn) => lsn.0 as i64,
        Datum::Time(t) => t.0.saturating_sub(POSTGRES_EPOCH_US),
        Datum::Text(text) => text.parse().unwrap_or(0),
        _ => 0,
    };
    match ty {
        PgType::Bool => b.put_u8(u8::from(matches!(datum, Datum::Bool(true)))),
        PgType::Int4 => b.put_i32(int as i32),
        PgType::Oid => b.put_u32(int as u32),
        PgType::Int8 | PgType::PgLsn | PgType::Timestamptz => b.put_i64(int),
        PgType::Float8 => b.put_f64(match datum {
            Datum::Float(f) => *f,
            other => to_text(other).parse().unwrap_or(0.0),
        }),
        PgType::Jsonb => {
            b.put_u8(1);
            write_text(b, datum);
        }
        PgType::Numeric => write_numeric(b, &to_text(datum)),
        PgType::Interval | PgType::Other(_) => engine::write_binary(b, ty, &to_text(datum)),
        _ => write_text(b, datum),
    }
}

/// The binary form of a numeric: digits to the base 10,000 around the decimal point.
fn write_numeric(b: &mut BytesMut, text: &str) {
    const NAN: u16 = 0xC000;
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let plain = |s: &str| s.bytes().all(|c| c.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || (whole.is_empty() && fraction.is_empty()) {
        for word in [0, 0, NAN, 0] {
            b.put_u16(word);
        }
        return;
    }
    let whole = whole.trim_start_matches('0');
    let group = |chunk: &[u8]| chunk.iter().fold(0_i16, |n, c| n * 10 + i16::from(c - b'0'));
    let head = whole.len() % 4;
    let mut digits: Vec<i16> = Vec::new();
    if head > 0 {
        digits.push(group(&whole.as_bytes()[..head]));
    }
    digits.extend(whole.as_bytes()[head..].chunks(4).map(group));
    let mut weight = digits.len() as i16 - 1;
    let mut padded = fraction.as_bytes().to_vec();
    padded.resize(fraction.len().next_multiple_of(4), b'0');
    digits.extend(padded.chunks(4).map(group));
    let zeros = digits.iter().take_while(|d| **d == 0).count();
    digits.drain(..zeros);
    weight -= zeros as i16;
    while digits.last() == Some(&0) {
        digits.pop();
    }
    if digits.is_empty() {
        weight = 0;
    }
    b.put_i16(digits.len() as i16);
    b.put_i16(weight);
    b.put_u16(if negative && !digits.is_empty() { 0x4000 } else { 0 });
    b.put_u16(fraction.len() as u16);
    for digit in digits {
        b.put_i16(digit);
    }
}

/// The text form of a non-null value.
pub fn write_text(b: &mut BytesMut, datum: &Datum) {
    // Writing to BytesMut cannot fail.
    let _ = match datum {
        Datum::Null => Ok(()),
        Datum::Bool(v) => b.write_str(if *v { "t" } else { "f" }),
        Datum::Int(i) => write!(b, "{i}"),
        Datum::Lsn(lsn) => write!(b, "{lsn}"),
        Datum::State(s) => b.write_str(s.name()),
        Datum::Text(text) => b.write_str(text),
        Datum::Float(f) => b.write_str(&float_text(*f)),
        Datum::Time(t) => b.write_str(&time_text(*t)),
    };
}

/// The text form of a value; empty for NULL.
pub fn to_text(datum: &Datum) -> Cow<'_, str> {
    match datum {
        Datum::Null => Cow::Borrowed(""),
        Datum::Text(text) => Cow::Borrowed(text),
        Datum::State(s) => Cow::Borrowed(s.name()),
        Datum::Bool(v) => Cow::Borrowed(if *v { "t" } else { "f" }),
        Datum::Int(i) => Cow::Owned(i.to_string()),
        Datum::Float(f) => Cow::Owned(float_text(*f)),
        Datum::Lsn(lsn) => Cow::Owned(lsn.to_string()),
        Datum::Time(t) => Cow::Owned(time_text(*t)),
    }
}

fn float_text(f: f64) -> String {
    if f.is_nan() {
        "NaN".to_string()
    } else if f.is_infinite() {
        if f > 0.0 { "Infinity" } else { "-Infinity" }.to_string()
    } else if f != 0.0 && !(1e-4..1e15).contains(&f.abs()) {
        // PostgreSQL prints at least two digits of exponent, with its sign.
        let text = format!("{f:e}");
        match text.split_once('e') {
            Some((mantissa, exponent)) => {
                let exponent: i32 = exponent.parse().unwrap_or(0);
                format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
            }
            None => text,
        }
    } else {
        format!("{f}")
    }
}

/// `2026-11-21 02:11:31.038117+00`: ISO style, in the session's zone, without trailing zeros.
pub fn time_text(time: WallTime) -> String {
    match jiff::Timestamp::from_microsecond(time.0) {
        Ok(_) => time::timestamptz_text(time.0),
        Err(_) => if time.0 > 0 { "infinity" } else { "-infinity" }.to_string(),
    }
}

/// An explicit cast, or the conversion of an argument to its declared type.
///
/// # Errors
/// 22P02, 22003 as the input functions; 42846 for casts that PostgreSQL has not either.
pub fn cast(datum: Datum, from: PgType, to: PgType) -> Result<Datum, SqlError> {
    let fits = matches!(
        (&datum, to),
        (Datum::Null, _)
            | (Datum::Text(_), PgType::Text)
            | (Datum::Bool(_), PgType::Bool)
            | (Datum::Lsn(_), PgType::PgLsn)
            | (Datum::State(_), PgType::ReplicationState)
            | (Datum::Time(_), PgType::Timestamptz)
            | (Datum::Float(_), PgType::Float8)
    );
    if fits {
        return Ok(datum);
    }
    match (datum, to) {
        (Datum::Int(i), PgType::Int4 | PgType::Oid | PgType::Int8) => {
            let (name, low, high) = match to {
                PgType::Int4 => ("integer", i32::MIN.into(), i32::MAX.into()),
                PgType::Oid => ("OID", 0, u32::MAX.into()),
                _ => ("bigint", i64::MIN, i64::MAX),
            };
            if (low..=high).contains(&i) {
                Ok(Datum::Int(i))
            } else {
                Err(SqlError::new("22003", format!("{name} out of range")))
            }
        }
        (Datum::Int(i), PgType::Bool) if from == PgType::Int4 => Ok(Datum::Bool(i != 0)),
        (Datum::Bool(v), PgType::Int4) => Ok(Datum::Int(v.into())),
        (Datum::Bool(v), PgType::Text | PgType::Name) => Ok(Datum::Text(if v { "true" } else { "false" }.to_string())),
        (Datum::Float(f), PgType::Int4 | PgType::Int8) => {
            let rounded = f.round_ties_even();
            cast(Datum::Int(rounded as i64), PgType::Int8, to)
        }
        (Datum::Text(text), PgType::Int4 | PgType::Int8) if from == PgType::Numeric => {
            let rounded = text.parse::<f64>().map_err(|_| invalid("numeric", &text))?.round();
            cast(Datum::Int(rounded as i64), PgType::Int8, to)
        }
        (Datum::Int(i), PgType::Float8) => Ok(Datum::Float(i as f64)),
        (Datum::Text(text), to) => parse(to, &text),
        (other, PgType::Text | PgType::Name | PgType::Unknown | PgType::Numeric) => Ok(Datum::Text(to_text(&other).into_owned())),
        (_, to) => {
            Err(SqlError::new("42846", format!("cannot cast type {} to {}", from.name(), to.name())))
        }
    }
}

/// The text of a composite value, as `record_out` prints it.
pub fn record_text(row: &[Datum]) -> String {
    let mut text = String::from("(");
    for (i, datum) in row.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        if *datum == Datum::Null {
            continue;
        }
        let value = to_text(datum);
        let plain = !value.is_empty()
            && !value.contains(|c: char| matches!(c, '"' | '\\' | '(' | ')' | ',') || c.is_ascii_whitespace());
        if plain {
            text.push_str(&value);
            continue;
        }
        text.push('"');
        for c in value.chars() {
            if c == '"' || c == '\\' {
                text.push(c);
            }
            text.push(c);
        }
        text.push('"');
    }
    text.push(')');
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numerics_in_binary() {
        let bytes = |text: &str| {
            let mut b = BytesMut::new();
            write_numeric(&mut b, text);
            b.chunks(2).map(|c| i16::from_be_bytes([c[0], c[1]])).collect::<Vec<_>>()
        };
        // As PostgreSQL's numeric_send gives them.
        assert_eq!(bytes("0"), [0, 0, 0, 0]);
        assert_eq!(bytes("1.306457"), [3, 0, 0, 6, 1, 3064, 5700]);
        assert_eq!(bytes("-12345.5"), [3, 1, 0x4000, 1, 1, 2345, 5000]);
        assert_eq!(bytes("0.00012"), [2, -1, 0, 5, 1, 2000]);
        assert_eq!(bytes("10000"), [1, 1, 0, 0, 1]);
    }

    #[test]
    fn texts_of_values() {
        let round = |ty, text: &str| to_text(&parse(ty, text).unwrap()).into_owned();
        assert_eq!(round(PgType::Timestamptz, "2026-11-21 02:11:31.038110+01"), "2026-11-21 01:11:31.03811+00");
        assert_eq!(round(PgType::Timestamptz, "2026-11-21"), "2026-11-21 00:00:00+00");
        assert_eq!(round(PgType::Bool, " YES "), "t");
        assert_eq!(round(PgType::PgLsn, "16/b374d848"), "16/B374D848");
        assert_eq!(round(PgType::Int8, " -9223372036854775808 "), "-9223372036854775808");
        assert_eq!(parse(PgType::Int4, "2147483648").unwrap_err().sqlstate, "22003");
        assert_eq!(parse(PgType::Int4, "1.5").unwrap_err().sqlstate, "22P02");
        assert_eq!(record_text(&[Datum::Null, Datum::Text(String::new()), Datum::Text("a \"b".into())]), "(,\"\",\"a \"\"b\")");
        assert_eq!(float_text(1e20), "1e+20");
        assert_eq!(float_text(0.5), "0.5");
    }
}
