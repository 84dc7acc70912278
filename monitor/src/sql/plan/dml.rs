//! INSERT, UPDATE, DELETE: refused, except for test mode's UPDATE of the node table.

use std::sync::Arc;

use sqlparser::ast::{
    Assignment, AssignmentTarget, Expr, FromTable, Ident, ObjectName, Query, SelectItem, SetExpr, Statement,
    TableFactor, TableObject, Update,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::query::{ParamTypes, fold};
use super::{Plan, UpdateNode};
use crate::sql::error::SqlError;

/// Plans a statement that is no query.
///
/// # Errors
/// 42501 for writes to our tables outside test mode, 0A000 for the rest.
pub fn route(_text: &str, statement: Statement, _types: &mut ParamTypes<'_>, test_mode: bool) -> Result<Plan, SqlError> {
    match statement {
        Statement::Update(update) => {
            let Some(name) = table_of(&update.table.relation) else { return Err(unsupported("this UPDATE")) };
            if test_mode && name == "pgautofailover.node" {
                return update_node(update);
            }
            Err(refused(&name))
        }
        Statement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => Err(refused(&full_name(name))),
            _ => Err(unsupported("this INSERT")),
        },
        Statement::Delete(delete) => {
            let tables = match &delete.from {
                FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables) => tables,
            };
            Err(tables.first().and_then(|t| table_of(&t.relation)).map_or_else(|| unsupported("this DELETE"), |n| refused(&n)))
        }
        Statement::Truncate(truncate) => {
            Err(truncate.table_names.first().map_or_else(|| unsupported("this TRUNCATE"), |t| refused(&full_name(&t.name))))
        }
        other => {
            let text = other.to_string();
            Err(unsupported(text.split_whitespace().next().unwrap_or("this statement")))
        }
    }
}

fn unsupported(what: &str) -> SqlError {
    SqlError::new("0A000", format!("{what} is not supported"))
}

/// Nobody has the right to write our tables by hand.
fn refused(table: &str) -> SqlError {
    let short = table.rsplit('.').next().unwrap_or(table);
    SqlError::new("42501", format!("permission denied for table {short}"))
        .hint("The monitor's tables are written by the functions of schema pgautofailover.")
}

fn full_name(name: &ObjectName) -> String {
    let parts: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(fold).collect();
    parts.join(".")
}

fn table_of(relation: &TableFactor) -> Option<String> {
    match relation {
        TableFactor::Table { name, args: None, .. } => Some(full_name(name)),
        _ => None,
    }
}

/// Turns `UPDATE pgautofailover.node SET c = e WHERE p RETURNING r` into a query for the node ids
/// with the new values.
fn update_node(update: Update) -> Result<Plan, SqlError> {
    if update.from.is_some() || !update.table.joins.is_empty() || update.limit.is_some() {
        return Err(unsupported("UPDATE with FROM"));
    }
    let mut columns = Vec::new();
    let mut projection = vec![SelectItem::UnnamedExpr(Expr::Identifier(Ident::new("nodeid")))];
    for Assignment { target, value } in update.assignments {
        let AssignmentTarget::ColumnName(name) = target else {
            return Err(unsupported("UPDATE with a list of columns"));
        };
        let name = full_name(&name);
        if columns.contains(&name) {
            return Err(SqlError::new("42601", format!("multiple assignments to same column \"{name}\"")));
        }
        columns.push(name);
        projection.push(SelectItem::UnnamedExpr(value));
    }
    let mut base = template()?;
    let mut returning = None;
    if let SetExpr::Select(select) = &mut *base.body {
        select.from = vec![update.table.clone()];
        select.selection = update.selection;
        if let Some(items) = update.returning {
            let mut again = template()?;
            if let SetExpr::Select(s) = &mut *again.body {
                s.projection = items;
                s.from = vec![update.table];
            }
            returning = Some(again);
        }
        select.projection = projection;
    }
    Ok(Plan::UpdateNode(Box::new(UpdateNode { columns, base: Arc::new(Statement::Query(base)), returning })))
}

/// A query to be filled in.
fn template() -> Result<Box<Query>, SqlError> {
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, "SELECT 1").ok().and_then(|mut s| s.pop());
    match parsed {
        Some(Statement::Query(query)) => Ok(query),
        _ => Err(SqlError::new("XX000", "could not build a query")),
    }
}
