//! String functions.

use rusqlite::types::Value;
use rusqlite::{Connection, Result};

use super::{bool_value, bounded, int_arg, is_null, loose, strict, text_arg, text_value, type_arg};
use crate::sql::engine::catalog::names::quote_ident;
use crate::sql::engine::value::output;
use crate::sql::error::SqlError;

pub fn register(c: &Connection) -> Result<()> {
    strict(c, "pg_lower", 1, |a| Ok(text_value(text_arg(a, 0).to_lowercase())))?;
    strict(c, "pg_upper", 1, |a| Ok(text_value(text_arg(a, 0).to_uppercase())))?;
    strict(c, "pg_initcap", 1, |a| Ok(text_value(initcap(text_arg(a, 0)))))?;
    strict(c, "pg_reverse", 1, |a| Ok(text_value(text_arg(a, 0).chars().rev().collect::<String>())))?;
    strict(c, "pg_md5", 1, |a| Ok(text_value(format!("{:x}", md5::compute(text_arg(a, 0))))))?;
    strict(c, "pg_quote_ident", 1, |a| Ok(text_value(quote_ident(text_arg(a, 0)))))?;
    strict(c, "pg_quote_literal", 1, |a| Ok(text_value(quote_literal(text_arg(a, 0)))))?;
    strict(c, "pg_to_hex", 1, |a| Ok(text_value(format!("{:x}", int_arg(a, 0)))))?;
    loose(c, "pg_substr", 3, |a| {
        if is_null(a, 0) || is_null(a, 1) {
            return Ok(Value::Null);
        }
        let from = int_arg(a, 1);
        let to = if is_null(a, 2) { i64::MAX } else { from.saturating_add(int_arg(a, 2)) };
        let skip = usize::try_from(from.max(1) - 1).unwrap_or(0);
        let take = usize::try_from(to.saturating_sub(from.max(1)).max(0)).unwrap_or(usize::MAX);
        Ok(text_value(text_arg(a, 0).chars().skip(skip).take(take).collect::<String>()))
    })?;
    strict(c, "pg_left", 2, |a| Ok(text_value(side(text_arg(a, 0), int_arg(a, 1), true))))?;
    strict(c, "pg_right", 2, |a| Ok(text_value(side(text_arg(a, 0), int_arg(a, 1), false))))?;
    strict(c, "pg_pad", 4, |a| {
        let width = usize::try_from(int_arg(a, 1).max(0)).unwrap_or(0);
        bounded(width.saturating_mul(4))?;
        let text: String = text_arg(a, 0).chars().take(width).collect();
        let missing = width - text.chars().count();
        let fill: String = text_arg(a, 2).chars().cycle().take(if text_arg(a, 2).is_empty() { 0 } else { missing }).collect();
        Ok(text_value(if int_arg(a, 3) == 1 { fill + &text } else { text + &fill }))
    })?;
    strict(c, "pg_repeat", 2, |a| {
        let times = usize::try_from(int_arg(a, 1).max(0)).unwrap_or(0);
        bounded(times.saturating_mul(text_arg(a, 0).len()))?;
        Ok(text_value(text_arg(a, 0).repeat(times)))
    })?;
    strict(c, "pg_split_part", 3, |a| {
        let parts: Vec<&str> = match text_arg(a, 1) {
            "" => vec![text_arg(a, 0)],
            separator => text_arg(a, 0).split(separator).collect(),
        };
        let index = match int_arg(a, 2) {
            0 => return Err(SqlError::new("22023", "field position must not be zero")),
            n if n > 0 => n - 1,
            n => parts.len() as i64 + n,
        };
        Ok(text_value(usize::try_from(index).ok().and_then(|i| parts.get(i)).copied().unwrap_or("")))
    })?;
    strict(c, "pg_translate", 3, |a| {
        let (from, to): (Vec<char>, Vec<char>) = (text_arg(a, 1).chars().collect(), text_arg(a, 2).chars().collect());
        let swap = |c: char| match from.iter().position(|f| *f == c) {
            Some(at) => to.get(at).copied(),
            None => Some(c),
        };
        Ok(text_value(text_arg(a, 0).chars().filter_map(swap).collect::<String>()))
    })?;
    loose(c, "pg_concat", -1, |a| {
        let parts: Vec<&str> = (0..a.len()).filter(|i| !is_null(a, *i)).map(|i| text_arg(a, i)).collect();
        Ok(text_value(parts.concat()))
    })?;
    loose(c, "pg_concat_ws", -1, |a| {
        if is_null(a, 0) {
            return Ok(Value::Null);
        }
        let parts: Vec<&str> = (1..a.len()).filter(|i| !is_null(a, *i)).map(|i| text_arg(a, i)).collect();
        Ok(text_value(parts.join(text_arg(a, 0))))
    })?;
    loose(c, "pg_format", -1, |a| {
        if is_null(a, 0) {
            return Ok(Value::Null);
        }
        let args: Vec<Option<&str>> = (1..a.len()).map(|i| (!is_null(a, i)).then(|| text_arg(a, i))).collect();
        format(text_arg(a, 0), &args).map(text_value)
    })?;
    strict(c, "pg_text", 2, |a| {
        Ok(output::cast_text(type_arg(a, 0), a.get_raw(1)).map(Value::Text).unwrap_or(Value::Null))
    })?;
    loose(c, "pg_record_text", -1, |a| {
        let mut out = String::from("(");
        for (i, code) in text_arg(a, 0).split(',').enumerate().filter(|(i, _)| i + 1 < a.len()) {
            if i > 0 {
                out.push(',');
            }
            let ty = super::Ty::from_name(code).unwrap_or(super::Ty::Text);
            if let Some(text) = output::text(ty, a.get_raw(i + 1)) {
                let special = |c: char| matches!(c, '(' | ')' | ',' | '"' | '\\') || c.is_ascii_whitespace();
                if text.is_empty() || text.contains(special) {
                    out += &format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""));
                } else {
                    out += &text;
                }
            }
        }
        out.push(')');
        Ok(text_value(out))
    })?;
    strict(c, "pg_like", 4, |a| {
        let fold = int_arg(a, 3) == 1;
        let escape = text_arg(a, 2).chars().next();
        let prepare = |t: &str| -> Vec<char> {
            if fold { t.to_lowercase().chars().collect() } else { t.chars().collect() }
        };
        Ok(bool_value(like(&prepare(text_arg(a, 0)), &prepare(text_arg(a, 1)), escape)))
    })?;
    loose(c, "pg_not_negative", 2, |a| {
        if is_null(a, 0) {
            return Ok(Value::Null);
        }
        if int_arg(a, 0) >= 0 {
            return Ok(Value::Integer(int_arg(a, 0)));
        }
        Err(match text_arg(a, 1) {
            "LIMIT" => SqlError::new("2201W", "LIMIT must not be negative"),
            "OFFSET" => SqlError::new("2201X", "OFFSET must not be negative"),
            _ => SqlError::new("22011", "negative substring length not allowed"),
        })
    })?;
    loose(c, "pg_fail", 2, |a| Err(SqlError::new(text_arg(a, 0), text_arg(a, 1))))
}

fn initcap(text: &str) -> String {
    let mut start = true;
    let mut out = String::new();
    for c in text.chars() {
        if start { out.extend(c.to_uppercase()) } else { out.extend(c.to_lowercase()) }
        start = !c.is_alphanumeric();
    }
    out
}

/// A string literal as `quote_literal` writes it.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// `left` and `right`; a negative count leaves that many off at the other end.
fn side(text: &str, count: i64, left: bool) -> String {
    let length = text.chars().count() as i64;
    let keep = if count >= 0 { count.min(length) } else { (length + count).max(0) } as usize;
    let skip = if left { 0 } else { length as usize - keep };
    text.chars().skip(skip).take(keep).collect()
}

/// LIKE with linear backtracking: `%` tries the latest star only.
fn like(text: &[char], pattern: &[char], escape: Option<char>) -> bool {
    let (mut t, mut p) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() || p < pattern.len() {
        if let Some(&c) = pattern.get(p) {
            if c == '%' {
                star = Some((p, t));
                p += 1;
                continue;
            }
            let (wanted, width, any) = match (Some(c) == escape, pattern.get(p + 1)) {
                (true, Some(&next)) => (next, 2, false),
                _ => (c, 1, c == '_'),
            };
            if let Some(&have) = text.get(t)
                && (any || have == wanted)
            {
                p += width;
                t += 1;
                continue;
            }
        }
        match star {
            Some((at, from)) if from < text.len() => {
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
            _ => return false,
        }
    }
    true
}

/// `format()`: `%s`, `%I`, `%L`, `%%`, with `n$` and widths.
fn format(pattern: &str, args: &[Option<&str>]) -> std::result::Result<String, SqlError> {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        let kind = loop {
            match chars.next() {
                Some(c @ ('0'..='9' | '-' | '$')) => spec.push(c),
                Some(c) => break c,
                None => return Err(SqlError::new("22023", "unterminated format() type specifier")
                    .hint("For a single \"%\" use \"%%\".")),
            }
        };
        if kind == '%' {
            out.push('%');
            continue;
        }
        let (position, width) = match spec.split_once('$') {
            Some((n, w)) => (n.parse::<usize>().ok().and_then(|n| n.checked_sub(1)), w.to_string()),
            None => (Some(next), spec),
        };
        let position = position.ok_or_else(|| SqlError::new("22023", "format specifies argument 0, but arguments are numbered from 1"))?;
        next = position + 1;
        let value = args.get(position).ok_or_else(|| SqlError::new("22023", "too few arguments for format()"))?;
        let text = match (kind, value) {
            ('s', value) => value.unwrap_or("").to_string(),
            ('I', Some(value)) => quote_ident(value),
            ('I', None) => return Err(SqlError::new("22004", "null values cannot be formatted as an SQL identifier")),
            ('L', Some(value)) => quote_literal(value),
            ('L', None) => "NULL".to_string(),
            (other, _) => {
                return Err(SqlError::new("22023", format!("unrecognized format() type specifier \"{other}\""))
                    .hint("For a single \"%\" use \"%%\"."));
            }
        };
        let wanted: i64 = width.parse().unwrap_or(0);
        let size = wanted.unsigned_abs() as usize;
        bounded(size)?;
        let pad: String = " ".repeat(size.saturating_sub(text.chars().count()));
        out += &if wanted < 0 { text + &pad } else { pad + &text };
    }
    Ok(out)
}
