//! Which tier answers a query: typed calls here, everything else the engine.

use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function as FunctionExpr, Ident, LimitClause, ObjectName, OrderByKind,
    OrderBySort, Query, Select, SelectItem, SetExpr, Statement, TableAlias, TableFactor, visit_expressions,
    visit_relations,
};

use super::call::{given, list_type, plain_arguments, resolve, source, split_name};
use super::{ArgSource, Call, CallList, Item, Plan, Shape, dml, lex};
use sqlparser::ast::Spanned;
use sqlparser::tokenizer::Location;

use crate::sql::error::SqlError;
use crate::sql::function::{Function, Handler, Returns, is_newer};
use crate::sql::functions;
use crate::sql::types::{Column, PgType};
use crate::sql::values;

/// The parameters of a statement: declared types, and what their use suggests.
pub struct ParamTypes<'a> {
    /// The query string, for positions in errors.
    text: &'a str,
    oids: Vec<u32>,
    /// Highest number used.
    used: usize,
}

/// Parameters that one statement may have.
const MOST_PARAMETERS: usize = 1000;

impl<'a> ParamTypes<'a> {
    pub fn new(text: &'a str, declared: &[u32]) -> ParamTypes<'a> {
        ParamTypes { text, oids: declared.to_vec(), used: declared.len() }
    }

    /// The error with the position of what it is about.
    pub fn at(&self, mut error: SqlError, location: Location) -> SqlError {
        error.position = lex::position(self.text, lex::offset_of(self.text, location));
        error
    }

    /// The zero-based number of `$n`.
    pub fn placeholder(&mut self, name: &str) -> Result<usize, SqlError> {
        let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
        match number {
            Some(n) if (1..=MOST_PARAMETERS).contains(&n) => {
                self.used = self.used.max(n);
                if self.oids.len() < n {
                    self.oids.resize(n, 0);
                }
                Ok(n - 1)
            }
            _ => Err(SqlError::new("42P02", format!("there is no parameter {name}"))),
        }
    }

    pub fn of(&self, index: usize) -> PgType {
        self.oids.get(index).and_then(|oid| values::type_of_oid(*oid)).unwrap_or(PgType::Unknown)
    }

    /// Types a parameter whose type is not declared.
    pub fn suggest(&mut self, index: usize, ty: PgType) {
        if let Some(oid) = self.oids.get_mut(index)
            && (*oid == 0 || *oid == 705)
            && ty != PgType::Unknown
        {
            *oid = ty.oid();
        }
    }

    /// The OIDs; what nothing is known of stays 0 for the engine's opinion.
    pub fn finish(self) -> Vec<u32> {
        self.oids
    }
}

/// An identifier as PostgreSQL folds it.
pub fn fold(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

fn idents(name: &ObjectName) -> Vec<Ident> {
    name.0.iter().filter_map(|p| p.as_ident().cloned()).collect()
}

/// The type that a cast names; `None`: leave it to the engine.
pub fn data_type(ty: &DataType) -> Option<PgType> {
    let text = ty.to_string().to_ascii_lowercase();
    let text = text.strip_prefix("pg_catalog.").unwrap_or(&text);
    Some(match text {
        "int" | "integer" | "int4" | "smallint" | "int2" => PgType::Int4,
        "bigint" | "int8" => PgType::Int8,
        "bool" | "boolean" => PgType::Bool,
        "text" | "varchar" | "character varying" => PgType::Text,
        "name" => PgType::Name,
        "pg_lsn" => PgType::PgLsn,
        "float8" | "double precision" | "double" => PgType::Float8,
        "numeric" => PgType::Numeric,
        "timestamptz" | "timestamp with time zone" => PgType::Timestamptz,
        "oid" => PgType::Oid,
        "interval" => PgType::Interval,
        "json" => PgType::Json,
        "jsonb" => PgType::Jsonb,
        "pgautofailover.replication_state" | "\"pgautofailover\".\"replication_state\"" => PgType::ReplicationState,
        _ => return None,
    })
}

/// Our function of this name, if there is one: any overload tells whether it writes.
fn ours(name: &ObjectName) -> Option<(String, String, &'static Function)> {
    let (schema, name) = match name.0.as_slice() {
        [one] => (String::from("pg_catalog"), fold(one.as_ident()?)),
        _ => split_name(&idents(name))?,
    };
    let function = functions::overloads(&schema, &name).next()?;
    Some((schema, name, function))
}

fn writes(function: &Function) -> bool {
    matches!(function.handler, Handler::Write(_))
}

/// Chooses the plan for a parsed statement.
///
/// # Errors
/// What PostgreSQL finds wrong in analysis, and 0A000 for what we do not do.
pub fn route(text: &str, statement: Statement, types: &mut ParamTypes<'_>, test_mode: bool) -> Result<Plan, SqlError> {
    register_placeholders(&statement, types)?;
    let query = match statement {
        Statement::Query(query) => query,
        other => return dml::route(text, other, types, test_mode),
    };
    if let Some(plan) = simple(&query, types)? {
        return Ok(plan);
    }
    if calls_writer(&query) {
        return writing(*query, types);
    }
    Ok(Plan::Query(Arc::new(Statement::Query(query))))
}

/// Every `$n` of the statement becomes known, whichever tier answers it.
fn register_placeholders(statement: &Statement, types: &mut ParamTypes<'_>) -> Result<(), SqlError> {
    let found = visit_expressions(statement, |expr| {
        if let Expr::Value(value) = expr
            && let sqlparser::ast::Value::Placeholder(name) = &value.value
            && let Err(e) = types.placeholder(name)
        {
            return ControlFlow::Break(e);
        }
        if let Expr::Cast { expr: inner, data_type: ty, .. } = expr
            && let Expr::Value(value) = &**inner
            && let sqlparser::ast::Value::Placeholder(name) = &value.value
            && let (Ok(index), Some(ty)) = (types.placeholder(name), data_type(ty))
        {
            types.suggest(index, ty);
        }
        ControlFlow::Continue(())
    });
    match found {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// `SELECT` over one of our functions (or pg_available_extensions), or a list of calls, in forms
/// that need no engine.
fn simple(query: &Query, types: &mut ParamTypes<'_>) -> Result<Option<Plan>, SqlError> {
    let plain = query.with.is_none() && query.fetch.is_none() && query.locks.is_empty() && query.for_clause.is_none();
    let SetExpr::Select(select) = &*query.body else { return Ok(None) };
    if !plain || !is_plain(select) {
        return Ok(None);
    }
    match select.from.as_slice() {
        [] if query.order_by.is_none() && query.limit_clause.is_none() && select.selection.is_none() => {
            list_without_from(select, types)
        }
        [one] if one.joins.is_empty() => {
            let TableFactor::Table { name, alias, args, with_ordinality: false, .. } = &one.relation else {
                return Ok(None);
            };
            let (columns, label) = match args {
                None if is_available_extensions(name) => {
                    let text = |n: &str| Column { name: n.to_string(), ty: PgType::Text };
                    let columns = vec![
                        Column { name: "name".to_string(), ty: PgType::Name },
                        text("default_version"),
                        text("installed_version"),
                        text("comment"),
                    ];
                    (columns, "pg_available_extensions".to_string())
                }
                Some(args) if args.settings.is_none() => {
                    let start = name.span().start;
                    let Some((schema, name, _)) = our_schema(name) else { return Ok(None) };
                    let call = resolve(&schema, &name, start, given(&args.args, types)?, types)?;
                    if call.args.iter().any(|a| matches!(a, ArgSource::Engine(_))) && !writes(call.function) {
                        return Ok(None);
                    }
                    let mut columns = functions::columns(call.function);
                    // Which of them `*` stands for is the session's matter.
                    if columns.iter().any(|column| is_newer(&column.name)) && !writes(call.function) {
                        return Ok(None);
                    }
                    if let (Some(alias), Returns::Scalar(_)) = (alias, &call.function.returns)
                        && let Some(column) = columns.first_mut()
                    {
                        column.name = fold(&alias.name);
                    }
                    if !rename(&mut columns, alias) {
                        return Ok(None);
                    }
                    let label = alias.as_ref().map_or(name, |a| fold(&a.name));
                    return Ok(shape(query, select, &columns, &label, types)?
                        .map(|shape| Plan::CallFrom { call, shape: Box::new(shape) }));
                }
                _ => return Ok(None),
            };
            let mut columns = columns;
            if !rename(&mut columns, alias) {
                return Ok(None);
            }
            let label = alias.as_ref().map_or(label, |a| fold(&a.name));
            Ok(shape(query, select, &columns, &label, types)?.map(|s| Plan::AvailableExtensions(Box::new(s))))
        }
        _ => Ok(None),
    }
}

fn is_available_extensions(name: &ObjectName) -> bool {
    match idents(name).as_slice() {
        [one] => fold(one) == "pg_available_extensions",
        [schema, one] => fold(schema) == "pg_catalog" && fold(one) == "pg_available_extensions",
        _ => false,
    }
}

/// A function of our own schemas, existing or not.
fn our_schema(name: &ObjectName) -> Option<(String, String, ())> {
    let (schema, name) = split_name(&idents(name))?;
    matches!(schema.as_str(), "pgautofailover" | "pgquorum").then_some((schema, name, ()))
}

fn is_plain(select: &Select) -> bool {
    let grouped = match &select.group_by {
        sqlparser::ast::GroupByExpr::All(_) => true,
        sqlparser::ast::GroupByExpr::Expressions(exprs, modifiers) => !exprs.is_empty() || !modifiers.is_empty(),
    };
    select.distinct.is_none()
        && select.top.is_none()
        && select.into.is_none()
        && select.having.is_none()
        && select.named_window.is_empty()
        && select.qualify.is_none()
        && select.exclude.is_none()
        && !grouped
}

/// Applies the column aliases of `f(...) AS x(a, b)`; false for forms with types.
fn rename(columns: &mut [Column], alias: &Option<TableAlias>) -> bool {
    let Some(alias) = alias else { return true };
    if alias.columns.len() > columns.len() || alias.columns.iter().any(|c| c.data_type.is_some()) {
        return false;
    }
    for (column, alias) in columns.iter_mut().zip(&alias.columns) {
        column.name = fold(&alias.name);
    }
    true
}

/// The index of a column reference; `None` when it is something else or ambiguous.
fn column(expr: &Expr, columns: &[Column], label: &str) -> Option<usize> {
    let name = match expr {
        Expr::Identifier(name) => fold(name),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, name] if fold(table) == label => fold(name),
            _ => return None,
        },
        _ => return None,
    };
    let mut found = columns.iter().enumerate().filter(|(_, c)| c.name == name).map(|(i, _)| i);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// The simple shape of a query over one source, or `None` for the engine.
fn shape(
    query: &Query,
    select: &Select,
    columns: &[Column],
    label: &str,
    types: &mut ParamTypes<'_>,
) -> Result<Option<Shape>, SqlError> {
    let mut shape = Shape::default();
    for item in &select.projection {
        match item {
            SelectItem::Wildcard(_) => shape.output.extend(columns.iter().cloned().enumerate()),
            SelectItem::UnnamedExpr(expr) => match column(expr, columns, label) {
                Some(i) => shape.output.push((i, columns[i].clone())),
                None => return Ok(None),
            },
            SelectItem::ExprWithAlias { expr, alias } => match column(expr, columns, label) {
                Some(i) => shape.output.push((i, Column { name: fold(alias), ty: columns[i].ty })),
                None => return Ok(None),
            },
            _ => return Ok(None),
        }
    }
    if let Some(selection) = &select.selection
        && !filter(selection, columns, label, types, &mut shape)?
    {
        return Ok(None);
    }
    if let Some(order) = &query.order_by {
        let OrderByKind::Expressions(exprs) = &order.kind else { return Ok(None) };
        for by in exprs {
            let descending = match by.options.sort {
                None | Some(OrderBySort::Asc) => false,
                Some(OrderBySort::Desc) => true,
                Some(OrderBySort::Using(_)) => return Ok(None),
            };
            let Some(i) = column(&by.expr, columns, label) else { return Ok(None) };
            shape.order.push((i, descending, by.options.nulls_first.unwrap_or(descending)));
        }
    }
    match &query.limit_clause {
        None => {}
        Some(LimitClause::LimitOffset { limit: None, offset: None, limit_by }) if limit_by.is_empty() => {}
        Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by }) if limit_by.is_empty() => {
            let (limit, _) = source(limit, types)?;
            match &limit {
                ArgSource::Engine(_) => return Ok(None),
                ArgSource::Param(i, casts) if casts.is_empty() => types.suggest(*i, PgType::Int8),
                _ => {}
            }
            shape.limit = Some(limit);
        }
        Some(_) => return Ok(None),
    }
    Ok(Some(shape))
}

/// `column = constant [AND ...]`.
fn filter(
    expr: &Expr,
    columns: &[Column],
    label: &str,
    types: &mut ParamTypes<'_>,
    shape: &mut Shape,
) -> Result<bool, SqlError> {
    match expr {
        Expr::Nested(inner) => filter(inner, columns, label, types, shape),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            Ok(filter(left, columns, label, types, shape)? && filter(right, columns, label, types, shape)?)
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let (at, value) = match (column(left, columns, label), column(right, columns, label)) {
                (Some(at), None) => (at, right),
                (None, Some(at)) => (at, left),
                _ => return Ok(false),
            };
            let wanted = columns[at].ty;
            let (value, ty) = source(value, types)?;
            let value = match value {
                ArgSource::Engine(_) => return Ok(false),
                // Other pairs of types have operators of their own: the engine knows them.
                _ if !comparable(ty, wanted) => return Ok(false),
                ArgSource::Const(datum, from) => ArgSource::Const(values::cast(datum, from, wanted)?, wanted),
                ArgSource::Param(i, casts) => {
                    if casts.is_empty() {
                        types.suggest(i, wanted);
                    }
                    ArgSource::Param(i, casts)
                }
            };
            shape.filter.push((at, wanted, value));
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn comparable(a: PgType, b: PgType) -> bool {
    use PgType::{Int4, Int8, Name, Text};
    a == b || a == PgType::Unknown || matches!((a, b), (Int4 | Int8, Int4 | Int8) | (Text | Name, Text | Name))
}

/// `SELECT f(...) [, g(...)]` without FROM.
fn list_without_from(select: &Select, types: &mut ParamTypes<'_>) -> Result<Option<Plan>, SqlError> {
    let mut items = Vec::new();
    for item in &select.projection {
        let (expr, alias) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(fold(alias))),
            _ => return Ok(None),
        };
        let Expr::Function(function) = expr else { return Ok(None) };
        if let [SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }] = select.projection.as_slice()
            && let Some(plan) = set_config(function, alias.clone(), types)?
        {
            return Ok(Some(plan));
        }
        let Some((call, name)) = list_call(function, alias, types)? else { return Ok(None) };
        if call.args.iter().any(|a| matches!(a, ArgSource::Engine(_))) {
            return Ok(None);
        }
        items.push(Item::Call { call, name });
    }
    Ok(Some(Plan::CallList(Box::new(CallList { items, base: None, engine_args: 0 }))))
}

fn set_config(function: &FunctionExpr, alias: Option<String>, types: &mut ParamTypes<'_>) -> Result<Option<Plan>, SqlError> {
    let name = idents(&function.name);
    if name.last().map(fold).as_deref() != Some("set_config") || name.len() > 2 {
        return Ok(None);
    }
    let Some(args) = plain_arguments(&function.args) else { return Ok(None) };
    let mut sources = Vec::new();
    for (given, ty) in given(args, types)?.into_iter().zip([PgType::Text, PgType::Text, PgType::Bool]) {
        if let ArgSource::Param(i, _) = &given.source {
            types.suggest(*i, ty);
        }
        sources.push(given.source);
    }
    match <[ArgSource; 3]>::try_from(sources) {
        Ok(args) if !args.iter().any(|a| matches!(a, ArgSource::Engine(_))) => {
            Ok(Some(Plan::SetConfig { args, column: alias.unwrap_or_else(|| "set_config".to_string()) }))
        }
        _ => Ok(None),
    }
}

/// A call of ours in a SELECT list, with its column name.
fn list_call(
    function: &FunctionExpr,
    alias: Option<String>,
    types: &mut ParamTypes<'_>,
) -> Result<Option<(Call, String)>, SqlError> {
    let resolved = match ours(&function.name) {
        Some((schema, name, _)) => Some((schema, name)),
        None => our_schema(&function.name).map(|(schema, name, ())| (schema, name)),
    };
    let Some((schema, name)) = resolved else { return Ok(None) };
    if function.over.is_some() || function.filter.is_some() {
        return Err(SqlError::new("42809", format!("{name} is not an aggregate or window function")));
    }
    let start = function.name.span().start;
    let Some(args) = plain_arguments(&function.args) else { return Ok(None) };
    let call = resolve(&schema, &name, start, given(args, types)?, types)?;
    Ok(Some((call, alias.unwrap_or(name))))
}

fn is_writer(name: &ObjectName) -> bool {
    ours(name).is_some_and(|(_, _, f)| writes(f))
}

/// Whether a writing function is called anywhere in the query.
fn calls_writer(query: &Query) -> bool {
    let in_expressions = visit_expressions(query, |expr| match expr {
        Expr::Function(f) if is_writer(&f.name) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    // A table of a writing function's name does not exist, so a relation of that name is a call.
    let in_from = visit_relations(query, |name| {
        if idents(name).len() > 1 && is_writer(name) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    in_expressions.is_break() || in_from.is_break()
}

/// Queries with writing functions in them: as the only call in FROM, or in the SELECT list.
fn writing(mut query: Query, types: &mut ParamTypes<'_>) -> Result<Plan, SqlError> {
    let unsupported = || {
        SqlError::new("0A000", "a function that writes cannot be called in this place")
            .hint("Call it alone in FROM, or in the SELECT list.")
    };
    let SetExpr::Select(select) = &mut *query.body else { return Err(unsupported()) };
    // In FROM: run the call first, then let the engine read its rows.
    if let [one] = select.from.as_mut_slice()
        && let TableFactor::Table { name, alias, args: Some(args), .. } = &one.relation
        && is_writer(name)
    {
        let start = name.span().start;
        let Some((schema, function, ())) = our_schema(name) else { return Err(unsupported()) };
        let call = resolve(&schema, &function, start, given(&args.args, types)?, types)?;
        let label = alias.as_ref().map_or(function, |a| fold(&a.name));
        let kept = alias.clone();
        one.relation = TableFactor::Table {
            name: ObjectName::from(vec![Ident::new(super::CALL_ROWS)]),
            alias: kept,
            args: None,
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        };
        if calls_writer(&query) {
            return Err(unsupported());
        }
        return Ok(Plan::CallInQuery { call, query: Arc::new(Statement::Query(Box::new(query))), alias: label });
    }
    if !is_plain(select) {
        return Err(unsupported());
    }
    let mut items = Vec::new();
    let mut projection = Vec::new();
    let mut arguments: Vec<SelectItem> = Vec::new();
    for item in std::mem::take(&mut select.projection) {
        let called = match &item {
            SelectItem::UnnamedExpr(Expr::Function(f)) if is_writer(&f.name) => list_call(f, None, types)?,
            SelectItem::ExprWithAlias { expr: Expr::Function(f), alias } if is_writer(&f.name) => {
                list_call(f, Some(fold(alias)), types)?
            }
            _ => None,
        };
        match called {
            Some((call, name)) => {
                for arg in &call.args {
                    if let ArgSource::Engine(expr) = arg {
                        arguments.push(SelectItem::UnnamedExpr((**expr).clone()));
                    }
                }
                items.push(Item::Call { call, name });
            }
            None => {
                // `*` makes an unknown number of columns, so calls can only follow it.
                let several = matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
                if several && (!projection.is_empty() || !items.is_empty()) {
                    return Err(unsupported());
                }
                if projection.iter().any(|i| matches!(i, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))) {
                    return Err(unsupported());
                }
                projection.push(item);
                items.push(Item::Base);
            }
        }
    }
    let engine_args = arguments.len();
    projection.append(&mut arguments);
    if projection.is_empty() {
        projection.push(SelectItem::UnnamedExpr(Expr::Value(sqlparser::ast::Value::Boolean(true).into())));
        // Its column is dropped as if it were an argument.
        select.projection = projection;
        let base = Some(Arc::new(Statement::Query(Box::new(query))));
        return Ok(Plan::CallList(Box::new(CallList { items, base, engine_args: 1 })));
    }
    select.projection = projection;
    if calls_writer(&query) {
        return Err(unsupported());
    }
    let base = Some(Arc::new(Statement::Query(Box::new(query))));
    Ok(Plan::CallList(Box::new(CallList { items, base, engine_args })))
}

/// The column of a call in a SELECT list.
pub fn list_column(call: &Call, name: &str) -> Column {
    Column { name: name.to_string(), ty: list_type(call.function) }
}
