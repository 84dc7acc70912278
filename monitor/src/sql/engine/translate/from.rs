//! FROM: tables, subqueries, functions, joins.

use sqlparser::ast::{
    FunctionArg, FunctionArgExpr, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor,
    TableWithJoins,
};

use super::query::rename;
use super::scope::{Column, Item};
use super::{Sx, Translated, Translator, fold, qualified, unsupported};
use crate::sql::engine::catalog::{self, Source};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

impl Translator<'_> {
    /// ` FROM ...`, or nothing; the items go into the innermost scope.
    pub(super) fn from(&mut self, tables: &[TableWithJoins]) -> Result<String, SqlError> {
        if tables.is_empty() {
            return Ok(String::new());
        }
        let mut parts = Vec::new();
        for table in tables {
            let sql = self.joined(table)?;
            let outer = |j: &Join| {
                matches!(
                    j.join_operator,
                    JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_)
                )
            };
            // A comma binds as tightly as JOIN in SQLite, which only shows with these two.
            let guard = tables.len() > 1 && table.joins.iter().any(outer);
            parts.push(if guard { format!("({sql})") } else { sql });
        }
        Ok(format!(" FROM {}", parts.join(", ")))
    }

    fn joined(&mut self, table: &TableWithJoins) -> Result<String, SqlError> {
        let start = self.items();
        let mut sql = self.factor(&table.relation)?;
        for join in &table.joins {
            let middle = self.items();
            let right = self.factor(&join.relation)?;
            let (word, constraint) = match &join.join_operator {
                JoinOperator::Join(c) | JoinOperator::Inner(c) => ("JOIN", c),
                JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => ("LEFT JOIN", c),
                JoinOperator::Right(c) | JoinOperator::RightOuter(c) => ("RIGHT JOIN", c),
                JoinOperator::FullOuter(c) => ("FULL JOIN", c),
                JoinOperator::CrossJoin(c) => ("JOIN", c),
                _ => return Err(unsupported("this kind of join")),
            };
            let on = match constraint {
                JoinConstraint::On(condition) => {
                    let sx = self.expr(condition)?;
                    self.condition(sx, "JOIN/ON")?.sql
                }
                JoinConstraint::Using(columns) => {
                    let names = columns.iter().map(|c| Ok(qualified(c)?.1)).collect::<Result<Vec<_>, SqlError>>()?;
                    self.using(word, &names, start, middle)?
                }
                JoinConstraint::Natural => {
                    let names = self.common_columns(start, middle);
                    self.using(word, &names, start, middle)?
                }
                JoinConstraint::None => "1".to_string(),
            };
            sql = format!("{sql} {word} {right} ON {on}");
        }
        Ok(sql)
    }

    fn items(&self) -> usize {
        self.scopes.last().map(|s| s.items.len()).unwrap_or(0)
    }

    fn common_columns(&self, start: usize, middle: usize) -> Vec<String> {
        let Some(scope) = self.scopes.last() else { return Vec::new() };
        let names = |items: &[Item]| -> Vec<String> {
            items.iter().flat_map(|i| i.columns.iter().filter(|c| !c.hidden).map(|c| c.name.clone())).collect()
        };
        let right = names(&scope.items[middle..]);
        let mut common = names(&scope.items[start..middle]);
        common.retain(|n| right.contains(n));
        common.dedup();
        common
    }

    /// The condition of a USING join; the merged columns take the plain names.
    fn using(&mut self, word: &str, names: &[String], start: usize, middle: usize) -> Result<String, SqlError> {
        let mut conditions = Vec::new();
        for name in names {
            let missing = |side: &str| {
                let message = format!("column \"{name}\" specified in USING clause does not exist in {side} table");
                SqlError::new("42703", message)
            };
            let scope = self.scopes.last_mut().ok_or_else(|| missing("left"))?;
            let find = |items: &[Item]| {
                let mut columns = items.iter().flat_map(|i| i.columns.iter());
                columns.find(|c| c.name == *name && !c.merged).map(|c| Sx::new(c.sql.clone(), c.ty))
            };
            let merged_before = scope.merged.iter().find(|(n, _)| n == name).map(|(_, sx)| sx.clone());
            let left = find(&scope.items[start..middle]).or(merged_before).ok_or_else(|| missing("left"))?;
            let right = find(&scope.items[middle..]).ok_or_else(|| missing("right"))?;
            for column in scope.items[start..].iter_mut().flat_map(|i| i.columns.iter_mut()) {
                column.merged |= column.name == *name;
            }
            let condition = self.compare("=", left.clone(), right.clone())?;
            conditions.push(condition.sql);
            let merged = match word {
                "RIGHT JOIN" => right,
                "FULL JOIN" => Sx::new(format!("coalesce({}, {})", left.sql, right.sql), left.ty),
                _ => left,
            };
            if let Some(scope) = self.scopes.last_mut() {
                scope.merged.retain(|(n, _)| n != name);
                scope.merged.push((name.clone(), merged));
            }
        }
        Ok(if conditions.is_empty() { "1".to_string() } else { conditions.join(" AND ") })
    }

    fn factor(&mut self, factor: &TableFactor) -> Result<String, SqlError> {
        self.nested(|t| t.factor_inner(factor))
    }

    fn factor_inner(&mut self, factor: &TableFactor) -> Result<String, SqlError> {
        match factor {
            TableFactor::Table { name, alias, args: None, with_ordinality: false, sample: None, version: None, .. } => {
                self.table(name, alias.as_ref())
            }
            TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
                self.table_function(name, &args.args, alias.as_ref(), *with_ordinality)
            }
            TableFactor::Function { name, args, with_ordinality, alias, .. } => {
                self.table_function(name, args, alias.as_ref(), *with_ordinality)
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality, .. } => {
                let args: Vec<FunctionArg> =
                    array_exprs.iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e.clone()))).collect();
                let name = ObjectName::from(vec![sqlparser::ast::Ident::new("unnest")]);
                self.table_function(&name, &args, alias.as_ref(), *with_ordinality)
            }
            TableFactor::Derived { lateral, subquery, alias, sample: None } => {
                if *lateral {
                    let query = self.query(subquery)?;
                    return self.lateral(query, alias.as_ref());
                }
                // A plain subquery does not see its neighbours.
                let scope = self.scopes.pop();
                let query = self.query(subquery);
                self.scopes.extend(scope);
                let query = query?;
                let name = alias.as_ref().map(|a| fold(&a.name)).unwrap_or_default();
                let sql_name = self.alias("t");
                let columns = (0..query.columns.len()).map(|i| format!("{sql_name}.c{i}")).collect();
                self.push_item(name, None, query.columns, columns, alias.as_ref())?;
                Ok(format!("({}) AS {sql_name}", query.sql))
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                Ok(format!("({})", self.joined(table_with_joins)?))
            }
            _ => Err(unsupported("this kind of table expression")),
        }
    }

    /// A subquery that refers to its neighbours: its rows travel as one JSON array.
    fn lateral(&mut self, query: Translated, alias: Option<&TableAlias>) -> Result<String, SqlError> {
        let name = alias.map(|a| fold(&a.name)).unwrap_or_default();
        let sql_name = self.alias("t");
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        for (i, (_, ty)) in query.columns.iter().enumerate() {
            let value = format!("json_extract({sql_name}.value, '$[{i}]')");
            // JSON holds no blobs.
            if *ty == Ty::Interval {
                fields.push(format!("pg_text('interval', c{i})"));
                columns.push(format!("pg_in('interval', {value})"));
            } else {
                fields.push(format!("c{i}"));
                columns.push(value);
            }
        }
        self.push_item(name, None, query.columns, columns, alias)?;
        let rows = format!("(SELECT json_group_array(json_array({})) FROM ({}))", fields.join(", "), query.sql);
        Ok(format!("json_each({rows}) AS {sql_name}"))
    }

    fn push_item(
        &mut self,
        name: String,
        schema: Option<String>,
        columns: Vec<(String, Ty)>,
        sql: Vec<String>,
        alias: Option<&TableAlias>,
    ) -> Result<(), SqlError> {
        let given: Vec<String> = alias.map(|a| a.columns.iter().map(|c| fold(&c.name)).collect()).unwrap_or_default();
        let columns = rename(&name, columns, &given)?.into_iter().zip(sql);
        let columns = columns
            .map(|((name, ty), sql)| Column { name, sql, ty, hidden: false, merged: false })
            .collect();
        self.push(Item { name, schema, columns, key: None })
    }

    fn push(&mut self, item: Item) -> Result<(), SqlError> {
        let Some(scope) = self.scopes.last_mut() else { return Err(unsupported("FROM here")) };
        if !item.name.is_empty() && scope.items.iter().any(|i| i.name == item.name) {
            return Err(SqlError::new("42712", format!("table name \"{}\" specified more than once", item.name)));
        }
        scope.items.push(item);
        Ok(())
    }

    /// A table, a view or a CTE.
    fn table(&mut self, name: &ObjectName, alias: Option<&TableAlias>) -> Result<String, SqlError> {
        let (schema, table) = qualified(name)?;
        let shown = alias.map(|a| fold(&a.name)).unwrap_or_else(|| table.clone());
        if schema.is_none()
            && let Some(cte) = self.ctes.iter().rev().find(|c| c.name == table).cloned()
        {
            let sql_name = self.alias("t");
            let columns = (0..cte.columns.len()).map(|i| format!("{sql_name}.c{i}")).collect();
            self.push_item(shown, None, cte.columns, columns, alias)?;
            return Ok(format!("{} AS {sql_name}", cte.sql_name));
        }
        let relation = self.relation(schema.as_deref(), &table)?;
        let sql_name = self.alias("t");
        let given: Vec<String> = alias.map(|a| a.columns.iter().map(|c| fold(&c.name)).collect()).unwrap_or_default();
        let visible = |c: &&catalog::ColumnDef| self.env.newer || !c.newer;
        let plain: Vec<(String, Ty)> = relation.columns.iter().filter(visible).map(|c| (c.name.clone(), c.ty)).collect();
        let mut names = rename(&shown, plain, &given)?.into_iter().map(|c| c.0);
        let view = matches!(relation.source, Source::View(_));
        let mut columns = Vec::new();
        for (i, def) in relation.columns.iter().enumerate() {
            let hidden = def.newer && !self.env.newer;
            let name = if hidden { def.name.clone() } else { names.next().unwrap_or_default() };
            let sql = if view { format!("{sql_name}.c{i}") } else { format!("{sql_name}.\"{}\"", def.name) };
            columns.push(Column { name, sql, ty: def.ty, hidden, merged: false });
        }
        let item_schema = alias.is_none().then(|| relation.schema.clone());
        let system = Column { name: "tableoid".into(), sql: relation.oid.to_string(), ty: Ty::Oid, hidden: true, merged: false };
        columns.push(system);
        let key = relation.key().map(|k| format!("{sql_name}.\"{k}\""));
        self.push(Item { name: shown, schema: item_schema, columns, key })?;
        match relation.source {
            Source::View(query) => {
                let body = self.view(query, relation)?;
                Ok(format!("({}) AS {sql_name}", body.sql))
            }
            _ => {
                self.relations.insert(relation.number);
                Ok(format!("{} AS {sql_name}", relation.sql_name))
            }
        }
    }

    /// A view's query, which sees nothing of where it is used.
    fn view(&mut self, text: &str, relation: &catalog::Relation) -> Result<Translated, SqlError> {
        let query = catalog::views::parse(text)?;
        let (scopes, ctes) = (std::mem::take(&mut self.scopes), std::mem::take(&mut self.ctes));
        let body = self.query(&query);
        self.scopes = scopes;
        self.ctes = ctes;
        let types: Vec<Ty> = relation.columns.iter().map(|c| c.ty).collect();
        let body = body?;
        if body.columns.len() != types.len() {
            let message = format!("view {} has {} columns, not {}", relation.name, body.columns.len(), types.len());
            return Err(SqlError::new("XX000", message));
        }
        self.retype(body, &types)
    }

    /// Finds a relation by name, along the search path where it is unqualified.
    pub(super) fn relation(&self, schema: Option<&str>, table: &str) -> Result<&'static catalog::Relation, SqlError> {
        let registry = catalog::registry();
        let found = match schema {
            Some(schema) => registry.find(schema, table),
            None => registry
                .find("pg_catalog", table)
                .or_else(|| self.env.search_path.iter().find_map(|s| registry.find(s, table))),
        };
        found.ok_or_else(|| {
            let full = schema.map(|s| format!("{s}.{table}")).unwrap_or_else(|| table.to_string());
            SqlError::new("42P01", format!("relation \"{full}\" does not exist"))
        })
    }

    /// `TABLE name`.
    pub(super) fn table_statement(&mut self, schema: Option<String>, name: String) -> Result<Translated, SqlError> {
        let parts = schema.into_iter().chain([name]).map(sqlparser::ast::Ident::new).collect::<Vec<_>>();
        self.scopes.push(super::scope::Scope::default());
        let from = self.table(&ObjectName::from(parts), None);
        let list = self.star(None);
        self.scopes.pop();
        let (from, list) = (from?, list?);
        let outputs: Vec<String> = list.iter().enumerate().map(|(i, (_, sx))| format!("{} AS c{i}", sx.sql)).collect();
        let columns = list.into_iter().map(|(name, sx)| (name, sx.ty)).collect();
        Ok(Translated { sql: format!("SELECT {} FROM {from}", outputs.join(", ")), columns })
    }

    /// A function in FROM: its rows come as a JSON array of arrays, which `json_each` opens, so that
    /// arguments may refer to what stands to the left.
    fn table_function(
        &mut self,
        name: &ObjectName,
        args: &[FunctionArg],
        alias: Option<&TableAlias>,
        ordinality: bool,
    ) -> Result<String, SqlError> {
        let (_, plain) = qualified(name)?;
        let shown = alias.map(|a| fold(&a.name)).unwrap_or_else(|| plain.clone());
        let rows = self.rows_of(name, args, alias.map(|_| shown.as_str()))?;
        let sql_name = self.alias("t");
        let given: Vec<String> = alias.map(|a| a.columns.iter().map(|c| fold(&c.name)).collect()).unwrap_or_default();
        let visible: Vec<(String, Ty)> =
            rows.columns.iter().filter(|c| !c.2).map(|c| (c.0.clone(), c.1)).collect();
        let mut with_ordinality = visible.clone();
        if ordinality {
            with_ordinality.push(("ordinality".to_string(), Ty::Int8));
        }
        let mut names = rename(&shown, with_ordinality, &given)?.into_iter().map(|c| c.0);
        let mut columns = Vec::new();
        for (i, (name, ty, hidden)) in rows.columns.iter().enumerate() {
            let value = format!("json_extract({sql_name}.value, '$[{i}]')");
            let sql = if *ty == Ty::Interval { format!("pg_in('interval', {value})") } else { value };
            let name = if *hidden { name.clone() } else { names.next().unwrap_or_default() };
            columns.push(Column { name, sql, ty: *ty, hidden: *hidden, merged: false });
        }
        if ordinality {
            let name = names.next().unwrap_or_default();
            columns.push(Column { name, sql: format!("({sql_name}.key + 1)"), ty: Ty::Int8, hidden: false, merged: false });
        }
        self.push(Item { name: shown, schema: None, columns, key: None })?;
        Ok(format!("json_each({}) AS {sql_name}", rows.sql))
    }

    /// A set-returning function in the select list joins FROM; `None`: it is none.
    pub(super) fn srf_in_select_list(&mut self, function: &sqlparser::ast::Function) -> Result<Option<Sx>, SqlError> {
        let (schema, name) = qualified(&function.name)?;
        if function.over.is_some() || !self.returns_set(schema.as_deref(), &name) {
            return Ok(None);
        }
        let args = super::call::plain_arguments(function)?;
        let rows = self.rows_of(&function.name, args, None)?;
        let fresh = self.alias("t");
        let Some(scope) = self.scopes.last_mut() else { return Ok(None) };
        let (sql_name, sets) = scope.sets.get_or_insert_with(|| (fresh, Vec::new()));
        let set = sets.len();
        sets.push(rows.sql);
        let fields: Vec<(String, Sx)> = rows.columns.iter().enumerate().filter(|(_, c)| !c.2).map(|(i, c)| {
            (c.0.clone(), Sx::new(format!("json_extract({sql_name}.value, '$[{set}][{i}]')"), c.1))
        }).collect();
        Ok(Some(match fields.as_slice() {
            [(_, only)] => only.clone(),
            _ => Sx { sql: String::new(), ty: Ty::Unknown, literal: None, record: Some(fields) },
        }))
    }

    /// A condition must be boolean.
    pub(super) fn condition(&mut self, sx: Sx, clause: &str) -> Result<Sx, SqlError> {
        if !matches!(sx.ty, Ty::Bool | Ty::Unknown) || sx.record.is_some() {
            let message = format!("argument of {clause} must be type boolean, not type {}", sx.ty.display());
            return Err(SqlError::new("42804", message));
        }
        self.coerce(sx, Ty::Bool)
    }
}
