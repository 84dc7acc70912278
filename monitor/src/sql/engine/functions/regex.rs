//! Regular expressions. PostgreSQL's and the crate's syntax agree in what people write; the crate
//! matches in linear time.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use rusqlite::functions::Context as Call;
use rusqlite::types::Value;
use rusqlite::{Connection, Result};

use super::{bool_value, bounded, int_arg, strict, text_arg, text_value};
use crate::sql::engine::value::array;
use crate::sql::error::SqlError;

pub fn register(c: &Connection) -> Result<()> {
    strict(c, "pg_regex", 3, |a| Ok(bool_value(compiled(a, 1, int_arg(a, 2) == 1)?.is_match(text_arg(a, 0)))))?;
    strict(c, "pg_similar", 2, |a| {
        let regex = compile(&similar(text_arg(a, 1)), false)?;
        Ok(bool_value(regex.is_match(text_arg(a, 0))))
    })?;
    strict(c, "pg_regex_substr", 2, |a| {
        let regex = compiled(a, 1, false)?;
        let found = regex.captures(text_arg(a, 0)).and_then(|m| m.get(1).or_else(|| m.get(0)).map(|m| m.as_str().to_string()));
        Ok(found.map(Value::Text).unwrap_or(Value::Null))
    })?;
    strict(c, "pg_regex_match", 2, |a| {
        let regex = compiled(a, 1, false)?;
        let Some(found) = regex.captures(text_arg(a, 0)) else { return Ok(Value::Null) };
        let from = usize::from(found.len() > 1);
        let groups: Vec<Option<&str>> = (from..found.len()).map(|i| found.get(i).map(|m| m.as_str())).collect();
        Ok(text_value(array::text(&groups)))
    })?;
    strict(c, "pg_regex_found", 3, |a| {
        let (text, regex) = (text_arg(a, 1), compiled(a, 2, false)?);
        let first = regex.find(text);
        Ok(match text_arg(a, 0) {
            "count" => Value::Integer(regex.find_iter(text).count() as i64),
            "place" => Value::Integer(first.map_or(0, |m| text[..m.start()].chars().count() as i64 + 1)),
            _ => first.map_or(Value::Null, |m| text_value(m.as_str())),
        })
    })?;
    strict(c, "pg_regex_split", 2, |a| {
        let regex = compiled(a, 1, false)?;
        let parts: Vec<Option<&str>> = regex.split(text_arg(a, 0)).map(Some).collect();
        Ok(text_value(array::text(&parts)))
    })?;
    strict(c, "pg_regex_replace", 4, |a| {
        let flags = text_arg(a, 3);
        let regex = compiled(a, 1, flags.contains('i'))?;
        let replacement = replacement(text_arg(a, 2));
        let limit = usize::from(!flags.contains('g'));
        let out = regex.replacen(text_arg(a, 0), limit, replacement.as_str()).into_owned();
        bounded(out.len())?;
        Ok(text_value(out))
    })
}

/// The groups of the first match, or of every one with `g`, each as an array.
pub fn all_groups(text: &str, pattern: &str, flags: &str) -> std::result::Result<Vec<String>, SqlError> {
    let regex = compile(pattern, flags.contains('i'))?;
    let groups = |found: regex::Captures<'_>| {
        let from = usize::from(found.len() > 1);
        let groups: Vec<Option<&str>> = (from..found.len()).map(|i| found.get(i).map(|m| m.as_str())).collect();
        array::text(&groups)
    };
    let most = if flags.contains('g') { usize::MAX } else { 1 };
    Ok(regex.captures_iter(text).take(most).map(groups).collect())
}

/// The compiled pattern of argument `i`, kept by SQLite while it is a constant.
fn compiled(call: &Call<'_>, i: i32, fold: bool) -> std::result::Result<Arc<Regex>, SqlError> {
    let cached: Option<Arc<(String, bool, Arc<Regex>)>> = call.get_aux(i).ok().flatten();
    let pattern = text_arg(call, i as usize);
    if let Some(entry) = cached
        && entry.0 == pattern
        && entry.1 == fold
    {
        return Ok(entry.2.clone());
    }
    let regex = Arc::new(compile(pattern, fold)?);
    let _ = call.set_aux(i, (pattern.to_string(), fold, regex.clone()));
    Ok(regex)
}

/// Compiles within bounds; errors are PostgreSQL's.
pub fn compile(pattern: &str, fold: bool) -> std::result::Result<Regex, SqlError> {
    let pattern = pattern.strip_prefix("(?i)").map(|p| format!("(?i){p}")).unwrap_or_else(|| pattern.to_string());
    let pattern = pattern.replace("\\y", "\\b").replace("\\m", "\\b").replace("\\M", "\\b").replace("\\Y", "\\B");
    RegexBuilder::new(&pattern)
        .case_insensitive(fold)
        .dot_matches_new_line(true)
        .size_limit(1 << 20)
        .build()
        .map_err(|e| SqlError::new("2201B", "invalid regular expression").detail(e.to_string()))
}

/// `\1` and `\&` to the crate's `${1}`, `${0}`.
fn replacement(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some(d @ '1'..='9') => out += &format!("${{{d}}}"),
                Some('&') => out.push_str("${0}"),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

/// A SIMILAR TO pattern as a regular expression.
fn similar(pattern: &str) -> String {
    let mut out = String::from("^(?:");
    for c in pattern.chars() {
        match c {
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '.' | '^' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push_str(")$");
    out
}
