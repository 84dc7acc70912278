//! The read tier: free SELECTs over the replicated state and a small `pg_catalog`.

pub mod session_view;

use sqlparser::ast::Statement;

use super::backend::ReadView;
use super::error::SqlError;
use super::function::Function;
use super::types::{Column, Datum, PgType, RowSet};

pub use session_view::{SessionView, SettingView};

/// The value of a `$n` parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    pub ty: PgType,
    pub value: Datum,
}

/// Answers SELECT, VALUES and TABLE statements.
pub struct Engine {
    functions: &'static [Function],
}

impl Engine {
    /// `functions`: the API. Its reading functions may be called inside queries, and all of them
    /// are rows of `pg_proc`.
    pub fn new(functions: &'static [Function]) -> Engine {
        Engine { functions }
    }

    /// Runs a query. It blocks the thread for as long as the query takes (five seconds at most).
    pub fn query(
        &self,
        view: &ReadView,
        session: &SessionView,
        statement: &Statement,
        params: &[Param],
    ) -> Result<RowSet, SqlError> {
        let _ = (view, session, statement, params, self.functions.len());
        Err(SqlError::new("0A000", "this statement is not supported"))
    }

    /// The columns that `query` would give.
    pub fn describe(
        &self,
        view: &ReadView,
        session: &SessionView,
        statement: &Statement,
        param_types: &[PgType],
    ) -> Result<Vec<Column>, SqlError> {
        let _ = (view, session, statement, param_types);
        Err(SqlError::new("0A000", "this statement is not supported"))
    }

    /// The types of the `$n` parameters: the declared ones, and where a declared one is `Unknown`
    /// or missing, the one that the statement suggests, else text.
    pub fn parameter_types(
        &self,
        view: &ReadView,
        session: &SessionView,
        statement: &Statement,
        declared: &[PgType],
    ) -> Result<Vec<PgType>, SqlError> {
        let _ = (view, session, statement, declared);
        Err(SqlError::new("0A000", "this statement is not supported"))
    }
}
