//! Relations that are queries over others, in PostgreSQL's own SQL.

use std::collections::HashMap;
use std::sync::OnceLock;

use sqlparser::ast::{Query, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::sql::error::SqlError;

/// The query of a view; `None`: the relation is none.
pub fn text(schema: &str, name: &str) -> Option<&'static str> {
    static VIEWS: OnceLock<HashMap<String, &'static str>> = OnceLock::new();
    let views = VIEWS.get_or_init(|| {
        let blocks = include_str!("views.sql").split("\n-- @").skip(1);
        blocks.filter_map(|b| b.split_once('\n')).map(|(name, sql)| (name.to_string(), sql.trim())).collect()
    });
    views.get(&format!("{schema}.{name}")).copied()
}

/// Parses a view's query.
pub fn parse(text: &str) -> Result<Query, SqlError> {
    let broken = |e: String| SqlError::new("XX000", format!("a catalog view does not parse: {e}"));
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, text).map_err(|e| broken(e.to_string()))?;
    match statements.pop() {
        Some(Statement::Query(query)) if statements.is_empty() => Ok(*query),
        _ => Err(broken("not one query".to_string())),
    }
}
