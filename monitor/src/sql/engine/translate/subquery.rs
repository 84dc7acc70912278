//! Subqueries as values: scalar, IN, ARRAY(...).

use sqlparser::ast::{Expr, Query};

use super::{Sx, Translator, quote, unsupported};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

impl Translator<'_> {
    pub(super) fn scalar_subquery(&mut self, query: &Query) -> Result<Sx, SqlError> {
        let query = self.query(query)?;
        let [(_, ty)] = query.columns.as_slice() else {
            return Err(SqlError::new("42601", "subquery must return only one column"));
        };
        let ty = if *ty == Ty::Unknown { Ty::Text } else { *ty };
        // More than one row is an error in PostgreSQL, where SQLite takes the first.
        let guard = format!(
            "SELECT CASE WHEN count(*) OVER () > 1 THEN pg_fail('21000', 'more than one row returned by a subquery used as \
             an expression') ELSE c0 END FROM ({})",
            query.sql
        );
        Ok(Sx::new(format!("({guard})"), ty))
    }

    pub(super) fn in_subquery(&mut self, expr: &Expr, query: &Query, negated: bool) -> Result<Sx, SqlError> {
        let value = self.expr(expr)?;
        let query = self.query(query)?;
        let not = if negated { "NOT " } else { "" };
        let values = match value.record {
            Some(fields) => fields.into_iter().map(|f| f.1).collect(),
            None => vec![value],
        };
        if values.len() != query.columns.len() {
            let few = if values.len() > query.columns.len() { "few" } else { "many" };
            return Err(SqlError::new("42601", format!("subquery has too {few} columns")));
        }
        let mut types = Vec::new();
        let mut left = Vec::new();
        for (value, (_, ty)) in values.into_iter().zip(&query.columns) {
            let common = Ty::common(value.ty, *ty).ok_or_else(|| super::ops::no_operator("=", Some(value.ty), *ty))?;
            let common = if common == Ty::Unknown { Ty::Text } else { common };
            types.push(common);
            left.push(self.coerce(value, common)?.sql);
        }
        let query = self.retype(query, &types)?;
        let left = if left.len() == 1 { left.concat() } else { format!("({})", left.join(", ")) };
        Ok(Sx::new(format!("({left} {not}IN ({}))", query.sql), Ty::Bool))
    }

    /// `ARRAY(SELECT ...)`, in the order of the query.
    pub(super) fn array_subquery(&mut self, query: &Query) -> Result<Sx, SqlError> {
        let query = self.query(query)?;
        let [(_, ty)] = query.columns.as_slice() else {
            return Err(SqlError::new("42601", "subquery must return only one column"));
        };
        let ty = if *ty == Ty::Unknown { Ty::Text } else { *ty };
        let code = quote(&ty.code());
        let sql = format!("(SELECT coalesce(pg_array_agg({code}, c0), '{{}}') FROM ({}))", query.sql);
        Ok(Sx::new(sql, ty.array()))
    }

    /// `ARRAY[...]`.
    pub(super) fn array_of(&mut self, items: Vec<Sx>) -> Result<Sx, SqlError> {
        let (items, ty) = self.unify(items, "ARRAY")?;
        if let Ty::Array(_) = ty {
            return Err(unsupported("an array of arrays"));
        }
        let code = quote(&ty.code());
        let list: String = items.iter().map(|i| format!(", {}", i.sql)).collect();
        Ok(Sx::new(format!("pg_array({code}{list})"), ty.array()))
    }
}
