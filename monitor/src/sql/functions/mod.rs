//! The functions of the API: one entry each, in the order of the reference documentation.

mod facts;
mod formations;
mod nodes;
mod operations;
mod ours;
mod reads;
mod replies;
pub mod render;

use std::sync::LazyLock;

use super::error::SqlError;
use super::function::{Arg, Function, OutColumn, Returns};
use super::types::{Column, Datum, PgType};

pub use replies::rows_of_reply;

static ALL: LazyLock<Vec<Function>> = LazyLock::new(|| {
    let mut all = nodes::entries();
    all.extend(operations::entries());
    all.extend(formations::entries());
    all.extend(reads::entries());
    all.extend(facts::entries());
    all.extend(ours::entries());
    all
});

static BUILTINS: LazyLock<Vec<Function>> = LazyLock::new(operations::builtins);

/// Every function of the API.
pub fn registry() -> &'static [Function] {
    &ALL
}

/// The overloads of a function by schema and name.
pub fn overloads(schema: &str, name: &str) -> impl Iterator<Item = &'static Function> {
    registry().iter().chain(BUILTINS.iter()).filter(move |f| f.name == name && f.schema == schema)
}

/// The result columns of a function in FROM.
pub fn columns(function: &Function) -> Vec<Column> {
    match &function.returns {
        Returns::Scalar(ty) => vec![Column { name: function.name.to_string(), ty: *ty }],
        Returns::Record(out) | Returns::SetOf(out) => {
            out.iter().map(|c| Column { name: c.name.to_string(), ty: c.ty }).collect()
        }
    }
}

/// What a strict function gives when an argument is NULL: NULL, a row of NULLs, or no row.
pub fn rows_of_null(function: &Function) -> Vec<Vec<Datum>> {
    match &function.returns {
        Returns::Scalar(_) => vec![vec![Datum::Null]],
        Returns::Record(out) => vec![vec![Datum::Null; out.len()]],
        Returns::SetOf(_) => Vec::new(),
    }
}

const SCHEMA: &str = "pgautofailover";

const fn arg(name: &'static str, ty: PgType) -> Arg {
    Arg { name, ty, default: None }
}

const fn opt(name: &'static str, ty: PgType, default: &'static str) -> Arg {
    Arg { name, ty, default: Some(default) }
}

const fn out(name: &'static str, ty: PgType) -> OutColumn {
    OutColumn { name, ty }
}

/// The router checked number, types and NULLs; should it ever pass something else, that is an
/// error of ours and no reason to panic.
fn internal(i: usize) -> SqlError {
    SqlError::new("XX000", format!("argument {} has an unexpected type", i + 1))
}

fn text(args: &[Datum], i: usize) -> Result<String, SqlError> {
    match args.get(i) {
        Some(Datum::Text(text)) => Ok(text.clone()),
        _ => Err(internal(i)),
    }
}

fn int8(args: &[Datum], i: usize) -> Result<i64, SqlError> {
    match args.get(i) {
        Some(Datum::Int(value)) => Ok(*value),
        _ => Err(internal(i)),
    }
}

fn int4(args: &[Datum], i: usize) -> Result<i32, SqlError> {
    i32::try_from(int8(args, i)?).map_err(|_| SqlError::new("22003", "integer out of range"))
}

fn boolean(args: &[Datum], i: usize) -> Result<bool, SqlError> {
    match args.get(i) {
        Some(Datum::Bool(value)) => Ok(*value),
        _ => Err(internal(i)),
    }
}

fn state(args: &[Datum], i: usize) -> Result<failover::NodeState, SqlError> {
    match args.get(i) {
        Some(Datum::State(value)) => Ok(*value),
        _ => Err(internal(i)),
    }
}

fn lsn(args: &[Datum], i: usize) -> Result<failover::Lsn, SqlError> {
    match args.get(i) {
        Some(Datum::Lsn(value)) => Ok(*value),
        _ => Err(internal(i)),
    }
}

/// `None` for NULL, else what `read` makes of it.
fn nullable<T>(
    args: &[Datum],
    i: usize,
    read: impl Fn(&[Datum], usize) -> Result<T, SqlError>,
) -> Result<Option<T>, SqlError> {
    match args.get(i) {
        Some(Datum::Null) => Ok(None),
        _ => read(args, i).map(Some),
    }
}
