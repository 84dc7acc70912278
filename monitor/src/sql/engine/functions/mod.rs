//! The SQL functions that SQLite is taught.
//!
//! All of them are called by SQL that the translator wrote, never by a client's text, so argument
//! counts are fixed; what a value may hold is not, and bad ones give PostgreSQL's errors.

mod aggregates;
mod api;
mod arrays;
mod json;
mod make_times;
mod numbers;
mod regex;
mod sets;
mod system;
mod text;
mod times;
mod to_char;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::functions::{Context as Call, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result};

use super::ty::Ty;
use crate::sql::backend::ReadView;
use crate::sql::error::SqlError;
use crate::sql::function::Function;

/// What functions know of the query that runs on their connection.
pub struct QueryContext {
    pub functions: &'static [Function],
    pub view: Option<ReadView>,
    pub search_path: Vec<String>,
    pub server_version: String,
    /// Filled only for statements that read settings.
    pub settings: HashMap<String, String>,
}

/// The context, shared between a connection and its functions.
pub type Shared = Arc<Mutex<QueryContext>>;

/// Reads the context; a poisoned one is still whole, since it is replaced and never half-written.
pub fn with<T>(shared: &Shared, read: impl FnOnce(&QueryContext) -> T) -> T {
    read(&shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// An error travels through SQLite as text; [`decode_error`] undoes it.
const MARK: char = '\u{1}';

fn fail(error: SqlError) -> Error {
    let mut text = format!("{MARK}{}{MARK}{}", error.sqlstate, error.message);
    for part in [error.detail, error.hint] {
        text.push(MARK);
        text.push_str(part.as_deref().unwrap_or(""));
    }
    Error::UserFunctionError(text.into())
}

/// The error that a function raised, from SQLite's message; `None`: it is SQLite's own.
pub fn decode_error(message: &str) -> Option<SqlError> {
    let mut parts = message.strip_prefix(MARK)?.split(MARK);
    let mut error = SqlError::new(parts.next()?, parts.next()?);
    error.detail = parts.next().filter(|d| !d.is_empty()).map(str::to_string);
    error.hint = parts.next().filter(|h| !h.is_empty()).map(str::to_string);
    Some(error)
}

/// Teaches a connection everything.
pub fn register(connection: &Connection, shared: &Shared) -> Result<()> {
    connection.create_collation("PGNUM", super::value::decimal::compare_texts)?;
    text::register(connection)?;
    regex::register(connection)?;
    numbers::register(connection)?;
    times::register(connection)?;
    make_times::register(connection)?;
    to_char::register(connection)?;
    arrays::register(connection)?;
    json::register(connection)?;
    aggregates::register(connection)?;
    sets::register(connection)?;
    api::register(connection, shared)?;
    system::register(connection, shared)
}

/// Registers a function that gives NULL as soon as one argument is NULL.
fn strict<F>(connection: &Connection, name: &str, args: i32, run: F) -> Result<()>
where
    F: Fn(&Call<'_>) -> std::result::Result<Value, SqlError> + Send + 'static,
{
    loose(connection, name, args, move |call| {
        if (0..call.len()).any(|i| matches!(call.get_raw(i), ValueRef::Null)) {
            return Ok(Value::Null);
        }
        run(call)
    })
}

/// Registers a function that looks at NULLs itself.
fn loose<F>(connection: &Connection, name: &str, args: i32, run: F) -> Result<()>
where
    F: Fn(&Call<'_>) -> std::result::Result<Value, SqlError> + Send + 'static,
{
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function(name, args, flags, move |call| run(call).map_err(fail))
}

/// As [`loose`], for functions whose result changes while a statement runs.
fn volatile<F>(connection: &Connection, name: &str, args: i32, run: F) -> Result<()>
where
    F: Fn(&Call<'_>) -> std::result::Result<Value, SqlError> + Send + 'static,
{
    connection.create_scalar_function(name, args, FunctionFlags::SQLITE_UTF8, move |call| run(call).map_err(fail))
}

fn text_arg<'a>(call: &'a Call<'_>, i: usize) -> &'a str {
    match call.get_raw(i) {
        ValueRef::Text(t) | ValueRef::Blob(t) => std::str::from_utf8(t).unwrap_or(""),
        _ => "",
    }
}

fn int_arg(call: &Call<'_>, i: usize) -> i64 {
    match call.get_raw(i) {
        ValueRef::Integer(n) => n,
        ValueRef::Real(f) => f as i64,
        ValueRef::Text(t) => std::str::from_utf8(t).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0),
        _ => 0,
    }
}

fn float_arg(call: &Call<'_>, i: usize) -> f64 {
    match call.get_raw(i) {
        ValueRef::Integer(n) => n as f64,
        ValueRef::Real(f) => f,
        ValueRef::Text(t) => std::str::from_utf8(t).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0.0),
        _ => 0.0,
    }
}

fn is_null(call: &Call<'_>, i: usize) -> bool {
    matches!(call.get_raw(i), ValueRef::Null)
}

fn type_arg(call: &Call<'_>, i: usize) -> Ty {
    Ty::from_name(text_arg(call, i)).unwrap_or(Ty::Text)
}

/// The argument as it is.
fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) => Value::Integer(i),
        ValueRef::Real(f) => Value::Real(f),
        ValueRef::Text(t) => Value::Text(String::from_utf8_lossy(t).into_owned()),
        ValueRef::Blob(b) => Value::Blob(b.to_vec()),
    }
}

fn text_value(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn bool_value(value: bool) -> Value {
    Value::Integer(i64::from(value))
}

/// Longer results than this are refused: one query must not eat the monitor's memory.
const MAX_TEXT: usize = 4 << 20;

fn bounded(length: usize) -> std::result::Result<(), SqlError> {
    if length > MAX_TEXT {
        return Err(SqlError::new("54000", "requested length too large"));
    }
    Ok(())
}
