//! The shape of an API function: one entry from which decoding, row description, `pg_proc` rows
//! and the reference documentation derive.

use failover::Command;

use super::backend::ReadView;
use super::error::SqlError;
use super::types::{Datum, PgType};

/// An input argument.
#[derive(Clone, Copy)]
pub struct Arg {
    pub name: &'static str,
    pub ty: PgType,
    /// The default as text input of `ty`; `Some("NULL")` is SQL NULL; `None`: required.
    pub default: Option<&'static str>,
}

/// An OUT column.
#[derive(Clone, Copy)]
pub struct OutColumn {
    pub name: &'static str,
    pub ty: PgType,
}

/// A column that functions have from release 2.3 on: an older session sees it only when it names it.
pub fn is_newer(column: &str) -> bool {
    ["rule_pos", "rule_section", "noderegion", "node_region"].contains(&column)
}

/// What a call results in.
pub enum Returns {
    /// `void`, or one unnamed value; as a column it bears the function's name.
    Scalar(PgType),
    /// OUT columns, exactly one row.
    Record(&'static [OutColumn]),
    /// OUT columns, any number of rows.
    SetOf(&'static [OutColumn]),
}

/// Reads the view; one inner vector per row.
pub type ReadHandler = fn(&ReadView, &[Datum]) -> Result<Vec<Vec<Datum>>, SqlError>;

/// How a call is executed. Arguments come decoded, defaults filled in, in declaration order; a
/// strict function is never called with a NULL.
pub enum Handler {
    /// Reads the view; one inner vector per row, in the order of the OUT columns.
    Read(ReadHandler),
    /// Becomes a command; the reply is turned into rows by the router.
    Write(fn(&[Datum]) -> Result<Command, SqlError>),
}

/// One function of the `pgautofailover` or `pgquorum` schema. Overloads are separate entries.
pub struct Function {
    pub schema: &'static str,
    pub name: &'static str,
    pub args: &'static [Arg],
    pub returns: Returns,
    pub strict: bool,
    /// One or two sentences for people.
    pub doc: &'static str,
    pub handler: Handler,
}
