//! Small pieces of SQL for the engine: rows of a call as a table, one expression as a query.

use std::fmt::Write;

use sqlparser::ast::{Expr, SelectItem, SetExpr, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::error::SqlError;
use super::function::Function;
use super::functions;
use super::types::{Datum, PgType};
use super::values;

fn broken() -> SqlError {
    SqlError::new("XX000", "could not build a query")
}

fn parse(sql: &str) -> Result<Statement, SqlError> {
    Parser::parse_sql(&PostgreSqlDialect {}, sql).ok().and_then(|mut s| s.pop()).ok_or_else(broken)
}

/// `SELECT expr`.
pub fn select(expr: Expr) -> Result<Statement, SqlError> {
    let mut statement = parse("SELECT 1")?;
    if let Statement::Query(query) = &mut statement
        && let SetExpr::Select(select) = &mut *query.body
    {
        select.projection = vec![SelectItem::UnnamedExpr(expr)];
    }
    Ok(statement)
}

/// `column IN (ids)`.
pub fn any_of(column: &str, ids: &[i64]) -> Result<Expr, SqlError> {
    let list: Vec<String> = ids.iter().map(i64::to_string).collect();
    let sql = if list.is_empty() { "false".to_string() } else { format!("{column} IN ({})", list.join(", ")) };
    Parser::new(&PostgreSqlDialect {}).try_with_sql(&sql).and_then(|mut p| p.parse_expr()).map_err(|_| broken())
}

fn literal(datum: &Datum, ty: PgType) -> String {
    let ty = if ty == PgType::Void { PgType::Text } else { ty };
    match datum {
        Datum::Null => format!("CAST(NULL AS {})", ty.name()),
        other => format!("CAST('{}' AS {})", values::to_text(other).replace('\'', "''"), ty.name()),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Puts the rows of a call in the place of its table in FROM.
///
/// # Errors
/// XX000 if the query is not of the form that the planner makes.
pub fn replace(query: &Statement, function: &Function, alias: &str, rows: &[Vec<Datum>]) -> Result<Statement, SqlError> {
    let columns = functions::columns(function);
    let mut inner = String::new();
    // Writing to a String cannot fail.
    for row in rows {
        let values: Vec<String> = row.iter().zip(&columns).map(|(d, c)| literal(d, c.ty)).collect();
        let _ = write!(inner, "{}({})", if inner.is_empty() { "VALUES " } else { ", " }, values.join(", "));
    }
    if rows.is_empty() {
        let values: Vec<String> = columns.iter().map(|c| literal(&Datum::Null, c.ty)).collect();
        inner = format!("SELECT {} WHERE false", values.join(", "));
    }
    let mut result = query.clone();
    let Statement::Query(outer) = &mut result else { return Err(broken()) };
    let SetExpr::Select(select) = &mut *outer.body else { return Err(broken()) };
    let [from] = select.from.as_mut_slice() else { return Err(broken()) };
    let mut names: Vec<String> = columns.iter().map(|c| quoted(&c.name)).collect();
    if let sqlparser::ast::TableFactor::Table { alias: Some(alias), .. } = &from.relation {
        for (name, alias) in names.iter_mut().zip(&alias.columns) {
            *name = quoted(&super::plan::fold(&alias.name));
        }
    }
    let sql = format!("SELECT * FROM ({inner}) AS {}({})", quoted(alias), names.join(", "));
    let Statement::Query(derived) = parse(&sql)? else { return Err(broken()) };
    let SetExpr::Select(mut derived) = *derived.body else { return Err(broken()) };
    from.relation = derived.from.pop().ok_or_else(broken)?.relation;
    Ok(result)
}
