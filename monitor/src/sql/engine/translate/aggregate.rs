//! Aggregates and window functions.

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
    OrderByExpr, WindowFrame, WindowFrameBound, WindowType,
};

use super::naming::sort_suffix;
use super::{Sx, Translator, quote, unsupported};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

const AGGREGATES: &[&str] = &[
    "count", "sum", "avg", "min", "max", "bool_and", "bool_or", "every", "string_agg", "array_agg", "json_agg",
    "jsonb_agg", "json_object_agg", "jsonb_object_agg", "stddev", "variance", "stddev_samp", "stddev_pop", "var_samp",
    "var_pop", "percentile_cont", "percentile_disc", "mode",
];

/// Aggregates over what WITHIN GROUP orders.
const ORDERED_SET: &[&str] = &["percentile_cont", "percentile_disc", "mode"];

/// Functions that exist with OVER only.
const WINDOW_ONLY: &[&str] = &[
    "row_number", "rank", "dense_rank", "lag", "lead", "first_value", "last_value", "ntile", "percent_rank",
    "cume_dist", "nth_value",
];

pub fn is_aggregate(name: &str) -> bool {
    AGGREGATES.contains(&name) || WINDOW_ONLY.contains(&name)
}

impl Translator<'_> {
    /// Translates a call of an aggregate or window function.
    pub(super) fn aggregate(&mut self, name: &str, function: &Function) -> Result<Sx, SqlError> {
        let ordered = ORDERED_SET.contains(&name);
        if !ordered && !function.within_group.is_empty() || function.null_treatment.is_some() {
            return Err(unsupported("this form of aggregate"));
        }
        let FunctionArguments::List(list) = &function.args else { return Err(unsupported("this call")) };
        if ordered && function.within_group.is_empty() {
            let args = self.positional(&list.args)?;
            return Err(super::builtin::missing(None, name, &args));
        }
        let window_only = WINDOW_ONLY.contains(&name);
        if window_only && function.over.is_none() {
            return Err(SqlError::new("42809", format!("window function {name} requires an OVER clause")));
        }
        if let Some(scope) = self.scopes.last_mut()
            && function.over.is_none()
        {
            if scope.in_aggregate > 0 {
                return Err(SqlError::new("42803", "aggregate function calls cannot be nested"));
            }
            scope.aggregates = true;
            scope.in_aggregate += 1;
        }
        let result = self.aggregate_inner(name, function, list).and_then(|call| {
            let filter = match &function.filter {
                Some(condition) => {
                    let sx = self.expr(condition)?;
                    format!(" FILTER (WHERE {})", self.condition(sx, "FILTER")?.sql)
                }
                None => String::new(),
            };
            Ok((call, filter))
        });
        if let Some(scope) = self.scopes.last_mut()
            && function.over.is_none()
        {
            scope.in_aggregate -= 1;
        }
        let ((call, ty, after), filter) = result?;
        let over = match &function.over {
            Some(window) => self.window(window)?,
            None => String::new(),
        };
        let sql = format!("{call}{filter}{over}");
        Ok(Sx::new(after.map(|f| f.replace("{}", &sql)).unwrap_or(sql), ty))
    }

    /// The call, its type, and what is to be done with the result.
    fn aggregate_inner(
        &mut self,
        name: &str,
        function: &Function,
        list: &sqlparser::ast::FunctionArgumentList,
    ) -> Result<(String, Ty, Option<String>), SqlError> {
        let distinct = matches!(list.duplicate_treatment, Some(DuplicateTreatment::Distinct));
        let mut order: &[OrderByExpr] = &[];
        for clause in &list.clauses {
            match clause {
                FunctionArgumentClause::OrderBy(terms) => order = terms,
                _ => return Err(unsupported("this clause in a call")),
            }
        }
        if let [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] = list.args.as_slice() {
            if name != "count" {
                return Err(unsupported("`*` here"));
            }
            return Ok(("count(*)".to_string(), Ty::Int8, None));
        }
        let mut args = Vec::new();
        for arg in &list.args {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => args.push(self.expr(e)?),
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(table)) => {
                    let fields = self.star(Some(super::qualified(table)?))?;
                    args.push(Sx { sql: String::new(), ty: Ty::Unknown, literal: None, record: Some(fields) });
                }
                _ => return Err(unsupported("this argument")),
            }
        }
        if ORDERED_SET.contains(&name) {
            return self.ordered_set(name, args, &function.within_group);
        }
        let order = self.inner_order(order, distinct)?;
        let word = if distinct { "DISTINCT " } else { "" };
        if function.over.is_some() && WINDOW_ONLY.contains(&name) {
            let ty = match name {
                "row_number" | "rank" | "dense_rank" => Ty::Int8,
                "ntile" => Ty::Int4,
                "percent_rank" | "cume_dist" => Ty::Float8,
                _ => args.first().map(|a| a.ty).unwrap_or(Ty::Text),
            };
            let args: Vec<String> = args.into_iter().map(|a| a.sql).collect();
            return Ok((format!("{name}({})", args.join(", ")), ty, None));
        }
        let missing = super::builtin::missing(None, name, &args);
        let mut args = args.into_iter();
        let (Some(first), second) = (args.next(), args.next()) else { return Err(missing) };
        let first = if first.ty == Ty::Unknown && first.record.is_none() { self.coerce(first, Ty::Text)? } else { first };
        let of = |f: &str, sx: &Sx| format!("{f}({word}{}{order})", sx.sql);
        Ok(match name {
            "count" => {
                let first = self.settle_record(first)?;
                (of("count", &first), Ty::Int8, None)
            }
            "min" | "max" if first.record.is_none() && !matches!(first.ty, Ty::Bool | Ty::Json | Ty::Jsonb) => {
                let collation = if first.ty == Ty::Numeric { " COLLATE PGNUM" } else { "" };
                (format!("{name}({}{collation})", first.sql), first.ty, None)
            }
            "bool_and" | "every" | "bool_or" => {
                let first = self.condition(first, name)?;
                (format!("{}({})", if name == "bool_or" { "max" } else { "min" }, first.sql), Ty::Bool, None)
            }
            // SQLite's own can look through a window; ours cannot.
            "sum" if function.over.is_some() && first.ty.is_int() => {
                let (ty, after) = match first.ty {
                    Ty::Int8 => (Ty::Numeric, Some("CAST({} AS TEXT)".to_string())),
                    _ => (Ty::Int8, None),
                };
                (of("sum", &first), ty, after)
            }
            "sum" if function.over.is_some() && first.ty == Ty::Float8 => (of("sum", &first), Ty::Float8, None),
            "sum" | "avg" | "stddev" | "variance" | "stddev_samp" | "stddev_pop" | "var_samp" | "var_pop" => {
                let (ty, code) = match (name, first.ty) {
                    ("sum", Ty::Int2 | Ty::Int4) => (Ty::Int8, "int8"),
                    (_, Ty::Float8) => (Ty::Float8, "float8"),
                    ("sum" | "avg", Ty::Interval) => (Ty::Interval, "interval"),
                    (_, t) if t.is_number() => (Ty::Numeric, "numeric"),
                    _ => return Err(missing),
                };
                (format!("pg_sum({word}{})", first.sql), ty, Some(format!("pg_sum_done({}, {}, {{}})", quote(name), quote(code))))
            }
            "string_agg" => {
                let Some(second) = second else { return Err(missing) };
                let (text, separator) = (self.coerce(first, Ty::Text)?.sql, self.as_text(second)?.sql);
                if distinct {
                    // SQLite takes one argument with DISTINCT: the separator comes in afterwards.
                    let after = format!("pg_join_array({{}}, {separator})");
                    (format!("pg_array_agg_distinct(DISTINCT {text}{order})"), Ty::Text, Some(after))
                } else {
                    (format!("pg_string_agg({text}, {separator}{order})"), Ty::Text, None)
                }
            }
            "array_agg" => {
                let first = self.settle_record(first)?;
                let code = quote(&first.ty.code());
                if distinct {
                    let text = self.as_text(first.clone())?.sql;
                    (format!("pg_array_agg_distinct(DISTINCT {text}{order})"), first.ty.array(), None)
                } else {
                    (format!("pg_array_agg({code}, {}{order})", first.sql), first.ty.array(), None)
                }
            }
            "json_agg" | "jsonb_agg" => {
                let broken = first.record.is_some() || matches!(first.ty, Ty::Array(_));
                let json = self.json_of(first)?.sql;
                let (ty, mode) = match (name, broken) {
                    ("jsonb_agg", _) => (Ty::Jsonb, "jsonb"),
                    (_, true) => (Ty::Json, "json-rows"),
                    _ => (Ty::Json, "json"),
                };
                let json = format!("{word}coalesce({json}, 'null')");
                (format!("pg_json_agg({json}{order})"), ty, Some(format!("pg_json_agg_done({}, {{}})", quote(mode))))
            }
            "json_object_agg" | "jsonb_object_agg" => {
                let Some(second) = second else { return Err(missing) };
                let (key, value) = (self.as_text(first)?.sql, self.json_of(second)?.sql);
                let (ty, mode) = if name.starts_with("jsonb") { (Ty::Jsonb, "jsonb") } else { (Ty::Json, "json") };
                let call = format!("pg_json_object_agg({key}, coalesce({value}, 'null'){order})");
                (call, ty, Some(format!("pg_json_object_done({}, {{}})", quote(mode))))
            }
            _ => return Err(missing),
        })
    }

    fn inner_order(&mut self, terms: &[OrderByExpr], distinct: bool) -> Result<String, SqlError> {
        let mut out = Vec::new();
        for term in terms {
            let sx = self.expr(&term.expr)?;
            out.push(format!("{}{}", sx.sql, sort_suffix(sx.ty, term)));
        }
        if out.is_empty() || distinct && out.len() > 1 {
            return Ok(String::new());
        }
        Ok(format!(" ORDER BY {}", out.join(", ")))
    }

    /// `percentile_cont(fraction) WITHIN GROUP (ORDER BY value)` and its like: the values are collected in
    /// their order, and one of them is picked.
    fn ordered_set(
        &mut self,
        name: &str,
        args: Vec<Sx>,
        terms: &[OrderByExpr],
    ) -> Result<(String, Ty, Option<String>), SqlError> {
        let missing = super::builtin::missing(None, name, &args);
        let [term] = terms else { return Err(unsupported("more than one value in WITHIN GROUP")) };
        let value = self.expr(&term.expr)?;
        let value = match (name, value.ty) {
            _ if value.record.is_some() => return Err(missing),
            ("percentile_cont", t) if t.is_number() => self.cast(value, Ty::Float8)?,
            ("percentile_cont", t) if t != Ty::Interval => return Err(missing),
            _ => value,
        };
        let order = sort_suffix(value.ty, term);
        let call = format!(
            "pg_array_agg({}, {value} ORDER BY {value}{order})",
            quote(&value.ty.code()),
            value = value.sql
        );
        let (fraction, many) = match (name, args.as_slice()) {
            ("mode", []) => ("0".to_string(), false),
            ("percentile_cont" | "percentile_disc", [fraction]) => match fraction.ty {
                Ty::Array(_) => (fraction.sql.clone(), true),
                _ => (self.cast(fraction.clone(), Ty::Float8)?.sql, false),
            },
            _ => return Err(missing),
        };
        let ty = if many { value.ty.array() } else { value.ty };
        let code = quote(&value.ty.code());
        Ok((call, ty, Some(format!("pg_ordered_set({}, {code}, {fraction}, {{}})", quote(name)))))
    }

    fn window(&mut self, window: &WindowType) -> Result<String, SqlError> {
        let WindowType::WindowSpec(spec) = window else { return Err(unsupported("a named window")) };
        if spec.window_name.is_some() {
            return Err(unsupported("a named window"));
        }
        let mut parts = Vec::new();
        if !spec.partition_by.is_empty() {
            let keys = self.exprs(&spec.partition_by)?;
            let keys: Vec<String> = keys.into_iter().map(|k| k.sql).collect();
            parts.push(format!("PARTITION BY {}", keys.join(", ")));
        }
        if !spec.order_by.is_empty() {
            parts.push(self.inner_order(&spec.order_by, false)?.trim_start().to_string());
        }
        if let Some(frame) = &spec.window_frame {
            parts.push(self.frame(frame)?);
        }
        Ok(format!(" OVER ({})", parts.join(" ")))
    }

    fn frame(&mut self, frame: &WindowFrame) -> Result<String, SqlError> {
        let mut bound = |b: &WindowFrameBound| -> Result<String, SqlError> {
            let mut amount = |e: &Option<Box<Expr>>| -> Result<String, SqlError> { match e {
                Some(e) => Ok(self.expr(e)?.sql),
                None => Ok("UNBOUNDED".to_string()),
            } };
            Ok(match b {
                WindowFrameBound::CurrentRow => "CURRENT ROW".to_string(),
                WindowFrameBound::Preceding(e) => format!("{} PRECEDING", amount(e)?),
                WindowFrameBound::Following(e) => format!("{} FOLLOWING", amount(e)?),
            })
        };
        let start = bound(&frame.start_bound)?;
        let end = frame.end_bound.as_ref().map(&mut bound).transpose()?;
        Ok(match end {
            Some(end) => format!("{} BETWEEN {start} AND {end}", frame.units),
            None => format!("{} {start}", frame.units),
        })
    }
}
