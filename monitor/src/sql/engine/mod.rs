//! The read tier: free SELECTs over the replicated state and a small `pg_catalog`.
//!
//! A statement goes through three steps. `translate` resolves names and types against `catalog`
//! and writes SQL for SQLite; `pool` brings the tables that it reads up to the view (`mirror`,
//! `catalog::content`); SQLite runs it with the functions of `functions`, and the result is typed
//! by what the translation knows.

mod catalog;
mod functions;
pub mod guard;
mod mirror;
mod pool;
mod run;
pub mod session_view;
mod translate;
mod ty;
mod value;

use std::sync::Arc;

use sqlparser::ast::Statement;

use super::backend::ReadView;
use super::error::SqlError;
use super::function::Function;
use super::types::{Column, Datum, PgType, RowSet};
use ty::Ty;

pub use catalog::names::quote_ident;
pub use session_view::{SessionView, SettingView};
pub(crate) use value::binary::write as write_binary;
pub(crate) use value::{time, zone};

/// The value of a `$n` parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    pub ty: PgType,
    pub value: Datum,
}

/// Answers SELECT, VALUES and TABLE statements.
pub struct Engine {
    functions: &'static [Function],
    pool: pool::Pool,
    plans: run::Plans,
}

impl Engine {
    /// `functions`: the API. Its reading functions may be called inside queries, and all of them
    /// are rows of `pg_proc`.
    pub fn new(functions: &'static [Function]) -> Engine {
        Engine { functions, pool: pool::Pool::new(functions), plans: run::Plans::default() }
    }

    /// Runs a query. It blocks the thread for as long as the query takes (five seconds at most).
    pub fn query(
        &self,
        view: &ReadView,
        session: &SessionView,
        statement: &Statement,
        params: &[Param],
    ) -> Result<RowSet, SqlError> {
        let types: Vec<Ty> = params.iter().map(|p| Ty::from_wire(p.ty)).collect();
        let plan = self.plan(view, session, statement, &types)?;
        if plan.params.len() > params.len() {
            let message = format!("there is no parameter ${}", params.len() + 1);
            return Err(SqlError::new("42P02", message));
        }
        self.pool.with(|reader| run::run(reader, &plan, view, session, params))
    }

    /// The columns that `query` would give.
    pub fn describe(
        &self,
        view: &ReadView,
        session: &SessionView,
        statement: &Statement,
        param_types: &[PgType],
    ) -> Result<Vec<Column>, SqlError> {
        let types: Vec<Ty> = param_types.iter().copied().map(Ty::from_wire).collect();
        let plan = self.plan(view, session, statement, &types)?;
        Ok(run::columns(&plan))
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
        let types: Vec<Ty> = declared.iter().copied().map(Ty::from_wire).collect();
        Ok(self.plan(view, session, statement, &types)?.params.iter().map(|t| t.wire()).collect())
    }

    fn plan(
        &self,
        view: &ReadView,
        session: &SessionView,
        statement: &Statement,
        types: &[Ty],
    ) -> Result<Arc<translate::Plan>, SqlError> {
        self.plans.get(self.functions, view, session, statement, types)
    }
}
