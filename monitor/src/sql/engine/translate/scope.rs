//! What names mean at a place in a query.

use sqlparser::ast::Ident;

use super::{Sx, Translator, fold, unsupported};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

/// A column of something in FROM.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    /// How SQLite gets at it.
    pub sql: String,
    pub ty: Ty,
    /// Left out of `*` and of whole rows (columns of a newer release).
    pub hidden: bool,
    /// Joined with USING: only the merged column answers to the plain name.
    pub merged: bool,
}

/// Something in FROM.
#[derive(Clone, Debug)]
pub struct Item {
    /// The name it is referred to by.
    pub name: String,
    pub schema: Option<String>,
    pub columns: Vec<Column>,
    /// The SQL of the primary key, which the other columns depend on.
    pub key: Option<String>,
}

/// The FROM of one query level.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub items: Vec<Item>,
    /// Columns that JOIN ... USING has merged.
    pub merged: Vec<(String, Sx)>,
    /// Aggregates have been seen at this level.
    pub aggregates: bool,
    /// The columns used outside of any aggregate at this level: SQL and the name for a message.
    pub bare_columns: Vec<(String, String)>,
    /// How many aggregate calls enclose the expression that is being translated.
    pub in_aggregate: usize,
    /// Set-returning functions in the select list, which advance together: the name of their rows, and
    /// each one's.
    pub sets: Option<(String, Vec<String>)>,
}

/// A common table expression in sight.
#[derive(Clone, Debug)]
pub struct Cte {
    pub name: String,
    pub sql_name: String,
    pub columns: Vec<(String, Ty)>,
}

fn missing_column(name: &str) -> SqlError {
    SqlError::new("42703", format!("column {name} does not exist"))
}

impl Translator<'_> {
    /// Resolves a plain name: a column, innermost query first, or else a whole row.
    pub(super) fn identifier(&mut self, ident: &Ident) -> Result<Sx, SqlError> {
        let name = fold(ident);
        for level in (0..self.scopes.len()).rev() {
            let scope = &self.scopes[level];
            if let Some((_, sx)) = scope.merged.iter().find(|(n, _)| *n == name) {
                return Ok(sx.clone());
            }
            let mut found: Option<(Sx, String)> = None;
            for item in &scope.items {
                for column in item.columns.iter().filter(|c| c.name == name && !c.merged) {
                    if found.is_some() {
                        return Err(SqlError::new("42702", format!("column reference \"{name}\" is ambiguous")));
                    }
                    found = Some((Sx::new(column.sql.clone(), column.ty), format!("{}.{name}", item.name)));
                }
            }
            if let Some((sx, full)) = found {
                self.note_column(level, &sx.sql, full);
                return Ok(sx);
            }
        }
        for level in (0..self.scopes.len()).rev() {
            if let Some(item) = self.scopes[level].items.iter().find(|i| i.name == name) {
                let row = whole_row(item);
                return Ok(row);
            }
        }
        Err(missing_column(&format!("\"{name}\"")))
    }

    /// Resolves `table.column`, `schema.table.column`.
    pub(super) fn compound(&mut self, parts: &[Ident]) -> Result<Sx, SqlError> {
        let parts: Vec<String> = parts.iter().map(fold).collect();
        let (schema, table, column) = match parts.as_slice() {
            [table, column] => (None, table, column),
            [schema, table, column] => (Some(schema), table, column),
            _ => return Err(unsupported("a name of this many parts")),
        };
        for level in (0..self.scopes.len()).rev() {
            let item = self.scopes[level].items.iter().find(|i| {
                i.name == *table && (schema.is_none() || i.schema.as_ref() == schema)
            });
            if let Some(item) = item {
                let Some(found) = item.columns.iter().find(|c| c.name == *column) else {
                    return Err(missing_column(&format!("{table}.{column}")));
                };
                let sx = Sx::new(found.sql.clone(), found.ty);
                self.note_column(level, &sx.sql, format!("{table}.{column}"));
                return Ok(sx);
            }
        }
        Err(SqlError::new("42P01", format!("missing FROM-clause entry for table \"{table}\"")))
    }

    /// The columns of `table.*`, or of `*`.
    pub(super) fn star(&mut self, table: Option<(Option<String>, String)>) -> Result<Vec<(String, Sx)>, SqlError> {
        let Some(scope) = self.scopes.last_mut() else {
            return Err(SqlError::new("42601", "SELECT * with no tables specified is not valid"));
        };
        let of = |item: &Item, merged: bool| -> Vec<(String, Sx)> {
            let visible = item.columns.iter().filter(|c| !c.hidden && (merged || !c.merged));
            visible.map(|c| (c.name.clone(), Sx::new(c.sql.clone(), c.ty))).collect()
        };
        let columns: Vec<(String, Sx)> = match table {
            Some((schema, name)) => {
                let same = |i: &&Item| i.name == name && (schema.is_none() || i.schema == schema);
                let missing = || SqlError::new("42P01", format!("missing FROM-clause entry for table \"{name}\""));
                of(scope.items.iter().find(same).ok_or_else(missing)?, true)
            }
            None if scope.items.is_empty() => {
                return Err(SqlError::new("42601", "SELECT * with no tables specified is not valid"));
            }
            None => {
                let merged = scope.merged.iter().cloned();
                merged.chain(scope.items.iter().flat_map(|i| of(i, false))).collect()
            }
        };
        if let Some(item) = scope.items.first() {
            let noted = columns.iter().map(|(name, sx)| (sx.sql.clone(), format!("{}.{name}", item.name)));
            scope.bare_columns.extend(noted);
        }
        Ok(columns)
    }

    fn note_column(&mut self, level: usize, sql: &str, name: String) {
        let scope = &mut self.scopes[level];
        if scope.in_aggregate == 0 {
            scope.bare_columns.push((sql.to_string(), name));
        }
    }
}

/// The row of an item, for `row_to_json(item)`.
pub fn whole_row(item: &Item) -> Sx {
    let visible = item.columns.iter().filter(|c| !c.hidden);
    let fields = visible.map(|c| (c.name.clone(), Sx::new(c.sql.clone(), c.ty))).collect();
    Sx { sql: String::new(), ty: Ty::Unknown, literal: None, record: Some(fields) }
}
