//! Queries as wholes: WITH, set operations, VALUES, ORDER BY and LIMIT over them.

use sqlparser::ast::{
    Expr, LimitClause, Query, SetExpr, SetOperator, SetQuantifier, Value, Values, With,
};

use super::naming::sort_suffix;
use super::scope::Cte;
use super::{Sx, Translated, Translator, fold, unsupported};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

impl Translator<'_> {
    /// Translates a query with everything around it.
    pub(super) fn query(&mut self, query: &Query) -> Result<Translated, SqlError> {
        self.nested(|t| {
            let ctes = t.ctes.len();
            let result = t.query_inner(query);
            t.ctes.truncate(ctes);
            result
        })
    }

    fn query_inner(&mut self, query: &Query) -> Result<Translated, SqlError> {
        if !query.locks.is_empty() {
            return Err(SqlError::new("25006", "cannot execute SELECT FOR UPDATE in a read-only transaction"));
        }
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            return Err(unsupported("this clause"));
        }
        let with = match &query.with {
            Some(with) => self.with(with)?,
            None => String::new(),
        };
        let mut body = match query.body.as_ref() {
            SetExpr::Select(select) => self.select(select, query.order_by.as_ref())?,
            other => {
                let mut body = self.set_expr(other)?;
                if let Some(order_by) = &query.order_by {
                    body.sql += &self.order_of_set(order_by, &body.columns)?;
                }
                body
            }
        };
        body.sql = format!("{with}{}{}", body.sql, self.limits(query)?);
        Ok(body)
    }

    fn with(&mut self, with: &With) -> Result<String, SqlError> {
        let mut parts = Vec::new();
        for cte in &with.cte_tables {
            if cte.from.is_some() {
                return Err(unsupported("this WITH clause"));
            }
            let name = fold(&cte.alias.name);
            let sql_name = self.alias("w");
            let given: Vec<String> = cte.alias.columns.iter().map(|c| fold(&c.name)).collect();
            let body = if with.recursive {
                self.recursive_cte(&name, &sql_name, &given, &cte.query)?
            } else {
                self.query(&cte.query)?
            };
            let columns = rename(&name, body.columns, &given)?;
            let list: Vec<String> = (0..columns.len()).map(|i| format!("c{i}")).collect();
            parts.push(format!("{sql_name}({}) AS ({})", list.join(", "), body.sql));
            self.ctes.push(Cte { name, sql_name, columns });
        }
        Ok(format!("WITH {}{} ", if with.recursive { "RECURSIVE " } else { "" }, parts.join(", ")))
    }

    /// A CTE that may refer to itself: the first branch of its union gives the types.
    fn recursive_cte(
        &mut self,
        name: &str,
        sql_name: &str,
        given: &[String],
        query: &Query,
    ) -> Result<Translated, SqlError> {
        let SetExpr::SetOperation { left, op: SetOperator::Union, set_quantifier, right } = query.body.as_ref() else {
            return self.query(query);
        };
        if query.order_by.is_some() || query.limit_clause.is_some() || query.with.is_some() {
            return self.query(query);
        }
        let first = self.operand(left)?;
        let columns = rename(name, first.columns.clone(), given)?;
        self.ctes.push(Cte { name: name.to_string(), sql_name: sql_name.to_string(), columns: columns.clone() });
        let second = self.operand(right);
        self.ctes.pop();
        let second = second?;
        if second.columns.len() != columns.len() {
            return Err(column_count("UNION"));
        }
        let types: Vec<Ty> = columns.iter().map(|c| c.1).collect();
        let second = self.retype(second, &types)?;
        let all = if matches!(set_quantifier, SetQuantifier::All) { " ALL" } else { "" };
        Ok(Translated { sql: format!("{} UNION{all} {}", first.sql, second.sql), columns })
    }

    fn set_expr(&mut self, body: &SetExpr) -> Result<Translated, SqlError> {
        match body {
            SetExpr::Select(select) => self.select(select, None),
            SetExpr::Query(query) => {
                let inner = self.query(query)?;
                Ok(Translated { sql: format!("SELECT * FROM ({})", inner.sql), columns: inner.columns })
            }
            SetExpr::Values(values) => self.values(values),
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                self.nested(|t| t.set_operation(left, *op, set_quantifier, right))
            }
            SetExpr::Table(table) => {
                let name = table.table_name.clone().unwrap_or_default().to_lowercase();
                let schema = table.schema_name.as_ref().map(|s| s.to_lowercase());
                self.table_statement(schema, name)
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(unsupported("writing through a query"))
            }
        }
    }

    fn set_operation(
        &mut self,
        left: &SetExpr,
        op: SetOperator,
        quantifier: &SetQuantifier,
        right: &SetExpr,
    ) -> Result<Translated, SqlError> {
        let (word, all) = match (op, quantifier) {
            (SetOperator::Union, SetQuantifier::All) => ("UNION", " ALL"),
            (SetOperator::Union, SetQuantifier::None | SetQuantifier::Distinct) => ("UNION", ""),
            (SetOperator::Intersect, SetQuantifier::None | SetQuantifier::Distinct) => ("INTERSECT", ""),
            (SetOperator::Except | SetOperator::Minus, SetQuantifier::None | SetQuantifier::Distinct) => ("EXCEPT", ""),
            _ => return Err(unsupported("this set operation")),
        };
        let left = self.operand(left)?;
        let right = self.operand(right)?;
        if left.columns.len() != right.columns.len() {
            return Err(column_count(word));
        }
        let mut types = Vec::new();
        for (l, r) in left.columns.iter().zip(&right.columns) {
            types.push(Ty::common(l.1, r.1).ok_or_else(|| {
                let message = format!("{word} types {} and {} cannot be matched", l.1.display(), r.1.display());
                SqlError::new("42804", message)
            })?);
        }
        let types: Vec<Ty> = types.into_iter().map(|t| if t == Ty::Unknown { Ty::Text } else { t }).collect();
        let left = self.retype(left, &types)?;
        let right = self.retype(right, &types)?;
        Ok(Translated { sql: format!("{} {word}{all} {}", left.sql, right.sql), columns: left.columns })
    }

    /// A branch of a set operation, in a form that SQLite takes there.
    fn operand(&mut self, body: &SetExpr) -> Result<Translated, SqlError> {
        match body {
            SetExpr::Select(select) => self.select(select, None),
            other => {
                let inner = self.nested(|t| t.set_expr(other))?;
                Ok(Translated { sql: format!("SELECT * FROM ({})", inner.sql), columns: inner.columns })
            }
        }
    }

    /// Converts the columns of a branch to the types that the branches meet in.
    pub(super) fn retype(&mut self, branch: Translated, types: &[Ty]) -> Result<Translated, SqlError> {
        if branch.columns.iter().zip(types).all(|(c, t)| c.1 == *t) {
            return Ok(branch);
        }
        let mut list = Vec::new();
        let mut columns = Vec::new();
        for (i, ((name, from), to)) in branch.columns.into_iter().zip(types).enumerate() {
            let converted = self.coerce(Sx::new(format!("c{i}"), from), *to)?;
            list.push(format!("{} AS c{i}", converted.sql));
            columns.push((name, *to));
        }
        Ok(Translated { sql: format!("SELECT {} FROM ({})", list.join(", "), branch.sql), columns })
    }

    fn values(&mut self, values: &Values) -> Result<Translated, SqlError> {
        let mut rows: Vec<Vec<Sx>> = Vec::new();
        for row in &values.rows {
            let mut out = Vec::new();
            for expr in row.content.iter() {
                out.push(self.expr(expr)?);
            }
            if rows.first().is_some_and(|first| first.len() != out.len()) {
                return Err(SqlError::new("42601", "VALUES lists must all be the same length"));
            }
            rows.push(out);
        }
        let width = rows.first().map(Vec::len).unwrap_or(0);
        let mut types = vec![Ty::Unknown; width];
        for row in &rows {
            for (ty, sx) in types.iter_mut().zip(row) {
                let (a, b) = (*ty, sx.ty);
                *ty = Ty::common(a, b).ok_or_else(|| {
                    let message = format!("VALUES types {} and {} cannot be matched", a.display(), b.display());
                    SqlError::new("42804", message)
                })?;
            }
        }
        for ty in &mut types {
            *ty = if *ty == Ty::Unknown { Ty::Text } else { *ty };
        }
        let mut branches = Vec::new();
        for row in rows {
            let mut list = Vec::new();
            for (i, (sx, ty)) in row.into_iter().zip(&types).enumerate() {
                list.push(format!("{} AS c{i}", self.coerce(sx, *ty)?.sql));
            }
            branches.push(format!("SELECT {}", list.join(", ")));
        }
        let columns = types.iter().enumerate().map(|(i, ty)| (format!("column{}", i + 1), *ty)).collect();
        Ok(Translated { sql: branches.join(" UNION ALL "), columns })
    }

    /// ORDER BY over a set operation: by output column only, as in PostgreSQL.
    fn order_of_set(&mut self, order_by: &sqlparser::ast::OrderBy, columns: &[(String, Ty)]) -> Result<String, SqlError> {
        let mut terms = Vec::new();
        for term in super::naming::order_terms(order_by)? {
            let place = match &term.expr {
                Expr::Value(v) => ordinal(&v.value, columns.len())?,
                Expr::Identifier(ident) => columns.iter().position(|c| c.0 == fold(ident)),
                _ => None,
            };
            let Some(place) = place else {
                if let Expr::Identifier(ident) = &term.expr {
                    return Err(SqlError::new("42703", format!("column \"{}\" does not exist", fold(ident))));
                }
                return Err(SqlError::new("0A000", "invalid UNION/INTERSECT/EXCEPT ORDER BY clause")
                    .detail("Only result column names can be used, not expressions or functions."));
            };
            terms.push(format!("{}{}", place + 1, sort_suffix(columns[place].1, term)));
        }
        Ok(format!(" ORDER BY {}", terms.join(", ")))
    }

    fn limits(&mut self, query: &Query) -> Result<String, SqlError> {
        let (limit, offset) = match &query.limit_clause {
            None => (None, None),
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                (limit.as_ref(), offset.as_ref().map(|o| &o.value))
            }
            Some(_) => return Err(unsupported("this LIMIT clause")),
        };
        let limit = match (limit, &query.fetch) {
            (None, Some(fetch)) if !fetch.with_ties && !fetch.percent => fetch.quantity.as_ref(),
            (limit, None) => limit,
            _ => return Err(unsupported("this FETCH clause")),
        };
        if limit.is_none() && offset.is_none() {
            return Ok(String::new());
        }
        let mut part = |expr: Option<&Expr>, none: &str| -> Result<String, SqlError> { match expr {
            Some(expr) => {
                let sx = self.expr(expr)?;
                let what = if none == "0" { "OFFSET" } else { "LIMIT" };
                let sx = self.coerce(sx, Ty::Int8)?;
                Ok(format!("coalesce(pg_not_negative({}, {}), {none})", sx.sql, super::quote(what)))
            }
            None => Ok(none.to_string()),
        } };
        Ok(format!(" LIMIT {} OFFSET {}", part(limit, "-1")?, part(offset, "0")?))
    }
}

/// The output column that a bare number in ORDER BY or GROUP BY means.
pub fn ordinal(value: &Value, columns: usize) -> Result<Option<usize>, SqlError> {
    let Value::Number(digits, _) = value else { return Ok(None) };
    match digits.parse::<usize>() {
        Ok(n) if (1..=columns).contains(&n) => Ok(Some(n - 1)),
        Ok(_) => Err(SqlError::new("42P10", format!("ORDER BY position {digits} is not in select list"))),
        Err(_) => Ok(None),
    }
}

fn column_count(word: &str) -> SqlError {
    SqlError::new("42601", format!("each {word} query must have the same number of columns"))
}

/// Applies the names of an alias's column list.
pub fn rename(table: &str, columns: Vec<(String, Ty)>, given: &[String]) -> Result<Vec<(String, Ty)>, SqlError> {
    if given.len() > columns.len() {
        let message = format!(
            "table \"{table}\" has {} columns available but {} columns specified",
            columns.len(),
            given.len()
        );
        return Err(SqlError::new("42P10", message));
    }
    let settle = |ty: Ty| if ty == Ty::Unknown { Ty::Text } else { ty };
    let renamed = columns.into_iter().enumerate().map(|(i, (name, ty))| {
        (given.get(i).cloned().unwrap_or(name), settle(ty))
    });
    Ok(renamed.collect())
}
