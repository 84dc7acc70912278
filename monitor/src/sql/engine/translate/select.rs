//! One SELECT: select list, WHERE, GROUP BY, HAVING, DISTINCT, ORDER BY.

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, OrderBy, OrderByExpr, Select, SelectItem, SelectItemQualifiedWildcardKind,
    WildcardAdditionalOptions,
};

use super::naming::{column_name, order_terms, sort_suffix};
use super::query::ordinal;
use super::scope::Scope;
use super::{Sx, Translated, Translator, fold, qualified, unsupported};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

impl Translator<'_> {
    /// Translates a SELECT, with the ORDER BY that belongs to it.
    pub(super) fn select(&mut self, select: &Select, order_by: Option<&OrderBy>) -> Result<Translated, SqlError> {
        let plain = select.top.is_none()
            && select.into.is_none()
            && select.lateral_views.is_empty()
            && select.prewhere.is_none()
            && select.connect_by.is_empty()
            && select.cluster_by.is_empty()
            && select.distribute_by.is_empty()
            && select.sort_by.is_empty()
            && select.qualify.is_none()
            && select.value_table_mode.is_none()
            && select.exclude.is_none()
            && select.named_window.is_empty();
        if !plain {
            return Err(unsupported("this form of SELECT"));
        }
        self.nested(|t| {
            t.scopes.push(Scope::default());
            let result = t.select_inner(select, order_by);
            t.scopes.pop();
            result
        })
    }

    fn select_inner(&mut self, select: &Select, order_by: Option<&OrderBy>) -> Result<Translated, SqlError> {
        let mut from = self.from(&select.from)?;
        let filter = match &select.selection {
            Some(condition) => {
                let sx = self.expr(condition)?;
                if self.scopes.last().is_some_and(|s| s.aggregates) {
                    return Err(SqlError::new("42803", "aggregate functions are not allowed in WHERE"));
                }
                let sx = self.condition(sx, "WHERE")?;
                format!(" WHERE {}", sx.sql)
            }
            None => String::new(),
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.bare_columns.clear();
        }
        let list = self.select_list(&select.projection)?;
        let used = self.scopes.last_mut().map(|s| std::mem::take(&mut s.bare_columns)).unwrap_or_default();
        let (grouped, keys) = self.group_by(&select.group_by, &list)?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.bare_columns = used;
        }
        let having = match &select.having {
            Some(condition) => {
                let sx = self.expr(condition)?;
                let sx = self.condition(sx, "HAVING")?;
                format!(" HAVING {}", sx.sql)
            }
            None => String::new(),
        };
        let on = match &select.distinct {
            Some(Distinct::On(exprs)) => Some(self.distinct_on(exprs, &list)?),
            _ => None,
        };
        let order = match order_by {
            Some(order_by) => self.order(order_terms(order_by)?, &list, on.is_some())?,
            None => Vec::new(),
        };
        self.check_grouping(!keys.is_empty() || select.having.is_some(), &keys)?;
        if let Some((name, sets)) = self.scopes.last_mut().and_then(|s| s.sets.take()) {
            let table = format!("json_each(pg_abreast({})) AS {name}", sets.join(", "));
            from = if from.is_empty() { format!(" FROM {table}") } else { format!("{from}, {table}") };
        }
        let columns: Vec<(String, Ty)> = list.iter().map(|(name, sx)| (name.clone(), sx.ty)).collect();
        let mut outputs: Vec<String> =
            list.iter().enumerate().map(|(i, (_, sx))| format!("{} AS c{i}", sx.sql)).collect();
        if outputs.is_empty() {
            return Err(unsupported("a SELECT without columns"));
        }
        let tail = format!("{from}{filter}{grouped}{having}");
        let sql = match on {
            Some(on) => {
                // The first row of each group in the wanted order, then that order again outside.
                let inner_order = if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) };
                outputs.push(format!("row_number() OVER (PARTITION BY {}{inner_order}) AS pick", on.join(", ")));
                outputs.push(format!("row_number() OVER ({}) AS place", inner_order.trim_start()));
                let names: Vec<String> = (0..columns.len()).map(|i| format!("c{i}")).collect();
                format!(
                    "SELECT {} FROM (SELECT {}{tail}) WHERE pick = 1 ORDER BY place",
                    names.join(", "),
                    outputs.join(", ")
                )
            }
            None => {
                let distinct = if matches!(select.distinct, Some(Distinct::Distinct)) { "DISTINCT " } else { "" };
                let order = if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) };
                format!("SELECT {distinct}{}{tail}{order}", outputs.join(", "))
            }
        };
        Ok(Translated { sql, columns })
    }

    fn select_list(&mut self, items: &[SelectItem]) -> Result<Vec<(String, Sx)>, SqlError> {
        let plain = |o: &WildcardAdditionalOptions| {
            o.opt_ilike.is_none()
                && o.opt_exclude.is_none()
                && o.opt_except.is_none()
                && o.opt_replace.is_none()
                && o.opt_rename.is_none()
                && o.opt_alias.is_none()
        };
        let mut list = Vec::new();
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let sx = self.output(expr)?;
                    list.push((column_name(expr), sx));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let sx = self.output(expr)?;
                    list.push((fold(alias), sx));
                }
                SelectItem::Wildcard(options) if plain(options) => list.extend(self.star(None)?),
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
                    if plain(options) =>
                {
                    list.extend(self.star(Some(qualified(name)?))?);
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), options)
                    if plain(options) =>
                {
                    let sx = self.expr(expr)?;
                    list.extend(sx.record.ok_or_else(|| unsupported("this `.*`"))?);
                }
                _ => return Err(unsupported("this select list")),
            }
        }
        if list.len() > 1600 {
            return Err(SqlError::new("54011", "target lists can have at most 1664 entries"));
        }
        Ok(list)
    }

    /// An entry of the select list: set-returning functions are allowed, rows become text.
    fn output(&mut self, expr: &Expr) -> Result<Sx, SqlError> {
        if let Expr::Function(function) = expr
            && let Some(sx) = self.srf_in_select_list(function)?
        {
            return self.settle_record(sx);
        }
        let sx = self.expr(expr)?;
        self.settle_record(sx)
    }

    fn group_by(&mut self, clause: &GroupByExpr, list: &[(String, Sx)]) -> Result<(String, Vec<String>), SqlError> {
        let GroupByExpr::Expressions(exprs, modifiers) = clause else {
            return Err(unsupported("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(unsupported("this GROUP BY clause"));
        }
        if exprs.is_empty() {
            return Ok((String::new(), Vec::new()));
        }
        let mut keys = Vec::new();
        for expr in exprs {
            if let Expr::Value(v) = expr
                && let Some(at) = ordinal(&v.value, list.len())?
            {
                keys.push(list[at].1.sql.clone());
                continue;
            }
            let sx = match (self.expr(expr), expr) {
                (Ok(sx), _) => sx,
                (Err(error), Expr::Identifier(ident)) => {
                    list.iter().find(|(n, _)| *n == fold(ident)).map(|(_, sx)| sx.clone()).ok_or(error)?
                }
                (Err(error), _) => return Err(error),
            };
            match sx.record {
                Some(fields) => keys.extend(fields.into_iter().map(|f| f.1.sql)),
                None => keys.push(sx.sql),
            }
        }
        let terms: Vec<String> = keys.iter().map(|k| no_number(k)).collect();
        Ok((format!(" GROUP BY {}", terms.join(", ")), keys))
    }

    /// Aggregates beside plain columns need a GROUP BY of these columns, or of the primary key that
    /// they depend on. With an expression as a key, nothing is checked.
    fn check_grouping(&mut self, grouped: bool, keys: &[String]) -> Result<(), SqlError> {
        let Some(scope) = self.scopes.last() else { return Ok(()) };
        let is_column = |key: &String| scope.items.iter().any(|i| i.columns.iter().any(|c| c.sql == *key));
        if !(scope.aggregates || grouped) || !keys.iter().all(is_column) {
            return Ok(());
        }
        let depends = |sql: &str| {
            let item = scope.items.iter().find(|i| i.columns.iter().any(|c| c.sql == sql));
            item.and_then(|i| i.key.as_ref()).is_some_and(|k| keys.contains(k))
        };
        match scope.bare_columns.iter().find(|(sql, _)| !keys.contains(sql) && !depends(sql)) {
            Some((_, column)) => Err(SqlError::new(
                "42803",
                format!("column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"),
            )),
            None => Ok(()),
        }
    }

    fn distinct_on(&mut self, exprs: &[Expr], list: &[(String, Sx)]) -> Result<Vec<String>, SqlError> {
        let mut out = Vec::new();
        for expr in exprs {
            out.push(match expr {
                Expr::Value(v) => match ordinal(&v.value, list.len())? {
                    Some(at) => list[at].1.sql.clone(),
                    None => return Err(unsupported("this DISTINCT ON")),
                },
                Expr::Identifier(i) if list.iter().any(|(n, _)| *n == fold(i)) => {
                    list.iter().find(|(n, _)| *n == fold(i)).map(|(_, sx)| sx.sql.clone()).unwrap_or_default()
                }
                expr => self.expr(expr)?.sql,
            });
        }
        Ok(out)
    }

    /// ORDER BY terms. Output columns go by number, so that SQLite sorts what it has computed;
    /// `inside` writes them out, for a window.
    fn order(
        &mut self,
        terms: &[OrderByExpr],
        list: &[(String, Sx)],
        inside: bool,
    ) -> Result<Vec<String>, SqlError> {
        let mut out = Vec::new();
        for term in terms {
            let place = match &term.expr {
                Expr::Value(v) => ordinal(&v.value, list.len())?,
                Expr::Identifier(ident) => {
                    let name = fold(ident);
                    let mut matches = list.iter().enumerate().filter(|(_, c)| c.0 == name);
                    let first = matches.next();
                    if let Some((_, (_, sx))) = first
                        && matches.any(|(_, (_, other))| other.sql != sx.sql)
                    {
                        return Err(SqlError::new("42702", format!("ORDER BY \"{name}\" is ambiguous")));
                    }
                    first.map(|(i, _)| i)
                }
                _ => None,
            };
            match place {
                Some(at) if inside => out.push(format!("{}{}", list[at].1.sql, sort_suffix(list[at].1.ty, term))),
                Some(at) => out.push(format!("{}{}", at + 1, sort_suffix(list[at].1.ty, term))),
                None => {
                    let sx = self.expr(&term.expr)?;
                    match sx.record {
                        Some(fields) => {
                            out.extend(fields.iter().map(|f| format!("{}{}", f.1.sql, sort_suffix(f.1.ty, term))));
                        }
                        // A constant would be taken for a column number; it orders nothing.
                        None if sx.literal.is_some() => {}
                        None => out.push(format!("{}{}", no_number(&sx.sql), sort_suffix(sx.ty, term))),
                    }
                }
            }
        }
        Ok(out)
    }
}

/// Keeps a constant in ORDER BY or GROUP BY from being taken for a column number; SQLite looks
/// through signs and parentheses.
fn no_number(sql: &str) -> String {
    if sql.starts_with(|c: char| c.is_ascii_alphabetic()) { sql.to_string() } else { format!("coalesce({sql}, NULL)") }
}
