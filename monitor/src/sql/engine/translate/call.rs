//! Function calls: who is meant, and set-returning functions.

use sqlparser::ast::{Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName};

use super::builtin::missing;
use super::{Sx, Translator, qualified, quote, unsupported};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

/// What a function in FROM yields: SQL for a JSON array of arrays, and the columns (name, type,
/// hidden).
pub struct Rows {
    pub sql: String,
    pub columns: Vec<(String, Ty, bool)>,
}

/// Set-returning functions of PostgreSQL itself, with their columns. No columns: one, named as the
/// function or its alias.
const SETS: &[(&str, &[(&str, Ty)])] = &[
    ("generate_series", &[]),
    ("unnest", &[]),
    ("generate_subscripts", &[]),
    ("regexp_split_to_table", &[]),
    ("string_to_table", &[]),
    ("regexp_matches", &[]),
    ("json_array_elements", &[("value", Ty::Json)]),
    ("jsonb_array_elements", &[("value", Ty::Jsonb)]),
    ("json_array_elements_text", &[("value", Ty::Text)]),
    ("jsonb_array_elements_text", &[("value", Ty::Text)]),
    ("json_each", &[("key", Ty::Text), ("value", Ty::Json)]),
    ("jsonb_each", &[("key", Ty::Text), ("value", Ty::Jsonb)]),
    ("json_each_text", &[("key", Ty::Text), ("value", Ty::Text)]),
    ("jsonb_each_text", &[("key", Ty::Text), ("value", Ty::Text)]),
    ("json_object_keys", &[]),
    ("jsonb_object_keys", &[]),
    ("pg_partition_ancestors", &[("relid", Ty::Regclass)]),
    (
        "pg_partition_tree",
        &[("relid", Ty::Regclass), ("parentrelid", Ty::Regclass), ("isleaf", Ty::Bool), ("level", Ty::Int4)],
    ),
    (
        "aclexplode",
        &[("grantor", Ty::Oid), ("grantee", Ty::Oid), ("privilege_type", Ty::Text), ("is_grantable", Ty::Bool)],
    ),
    ("pg_options_to_table", &[("option_name", Ty::Text), ("option_value", Ty::Text)]),
    ("pg_listening_channels", &[]),
    ("pg_get_keywords", &[("word", Ty::Text), ("catcode", Ty::Char), ("barelabel", Ty::Bool), ("catdesc", Ty::Text), ("baredesc", Ty::Text)]),
];

/// The arguments of a call without clauses.
pub fn plain_arguments(function: &Function) -> Result<&[FunctionArg], SqlError> {
    let simple = function.filter.is_none()
        && function.over.is_none()
        && function.within_group.is_empty()
        && function.null_treatment.is_none()
        && matches!(function.parameters, FunctionArguments::None);
    match &function.args {
        _ if !simple => Err(unsupported("this form of call")),
        FunctionArguments::None => Ok(&[]),
        FunctionArguments::List(list) if list.clauses.is_empty() && list.duplicate_treatment.is_none() => Ok(&list.args),
        _ => Err(unsupported("this form of call")),
    }
}

impl Translator<'_> {
    /// A call inside an expression.
    pub(super) fn call(&mut self, function: &Function) -> Result<Sx, SqlError> {
        let (schema, name) = qualified(&function.name)?;
        let native = matches!(schema.as_deref(), None | Some("pg_catalog"));
        if native && super::aggregate::is_aggregate(&name) {
            return self.aggregate(&name, function);
        }
        if native
            && name == "array"
            && let FunctionArguments::Subquery(query) = &function.args
        {
            return self.array_subquery(query);
        }
        let args = plain_arguments(function)?;
        if native {
            if SETS.iter().any(|s| s.0 == name) {
                return self.first_of_set(&function.name, args);
            }
            if !args.iter().any(|a| matches!(a, FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. })) {
                if name == "make_interval" {
                    return self.make_interval(args);
                }
                let values = self.positional(args)?;
                if let Some(sx) = self.builtin(&name, values.clone())? {
                    return Ok(sx);
                }
                if let Some(sx) = self.api_scalar(None, &name, args)? {
                    return Ok(sx);
                }
                return match (schema.is_none(), values.as_slice()) {
                    // `text(x)`, `int4(x)`: a cast in the form of a call.
                    (_, [value]) if Ty::from_name(&name).is_some() => {
                        self.cast(value.clone(), Ty::from_name(&name).unwrap_or(Ty::Text))
                    }
                    _ => Err(missing(schema.as_deref(), &name, &values)),
                };
            }
        }
        if native && name == "make_interval" {
            return self.make_interval(args);
        }
        let error_args = self.positional(args).unwrap_or_default();
        self.api_scalar(schema.as_deref(), &name, args)?
            .ok_or_else(|| missing(schema.as_deref(), &name, &error_args))
    }

    /// `make_interval(years, months, weeks, days, hours, mins, secs)`: any of them, by place or by name.
    fn make_interval(&mut self, args: &[FunctionArg]) -> Result<Sx, SqlError> {
        const FIELDS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];
        let mut parts: Vec<Option<String>> = vec![None; FIELDS.len()];
        let given = self.positional(args)?;
        let error = missing(None, "make_interval", &given);
        for (i, (arg, value)) in args.iter().zip(given).enumerate() {
            let field = match arg {
                FunctionArg::Named { name, .. } => FIELDS.iter().position(|f| *f == super::fold(name)),
                FunctionArg::ExprNamed { name: sqlparser::ast::Expr::Identifier(name), .. } => {
                    FIELDS.iter().position(|f| *f == super::fold(name))
                }
                FunctionArg::ExprNamed { .. } => None,
                FunctionArg::Unnamed(_) => Some(i),
            };
            let Some(part) = field.and_then(|field| parts.get_mut(field)).filter(|part| part.is_none()) else {
                return Err(error);
            };
            let ty = if field == Some(6) { Ty::Float8 } else { Ty::Int4 };
            *part = Some(self.cast(value, ty)?.sql);
        }
        let parts: Vec<String> = parts.into_iter().map(|part| part.unwrap_or_else(|| "0".to_string())).collect();
        Ok(Sx::new(format!("pg_make_interval({})", parts.join(", ")), Ty::Interval))
    }

    /// The arguments in order; named ones lose their names.
    pub(super) fn positional(&mut self, args: &[FunctionArg]) -> Result<Vec<Sx>, SqlError> {
        let mut out = Vec::new();
        for arg in args {
            let value = match arg {
                FunctionArg::Unnamed(value) => value,
                FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. } => arg,
            };
            out.push(match value {
                FunctionArgExpr::Expr(expr) => self.expr(expr)?,
                FunctionArgExpr::QualifiedWildcard(table) => {
                    let fields = self.star(Some(qualified(table)?))?;
                    Sx { sql: String::new(), ty: Ty::Unknown, literal: None, record: Some(fields) }
                }
                _ => return Err(unsupported("this argument")),
            });
        }
        Ok(out)
    }

    /// Whether a call yields rows.
    pub(super) fn returns_set(&self, schema: Option<&str>, name: &str) -> bool {
        matches!(schema, None | Some("pg_catalog")) && SETS.iter().any(|s| s.0 == name)
            || self.api_returns_set(schema, name)
    }

    /// Deep inside an expression, a set counts as its first row.
    fn first_of_set(&mut self, name: &ObjectName, args: &[FunctionArg]) -> Result<Sx, SqlError> {
        let rows = self.rows_of(name, args, None)?;
        let ty = rows.columns.first().map(|c| c.1).unwrap_or(Ty::Text);
        Ok(Sx::new(format!("json_extract({}, '$[0][0]')", rows.sql), ty))
    }

    /// A function in FROM. `alias` names the column of a function that yields plain values.
    pub(super) fn rows_of(
        &mut self,
        name: &ObjectName,
        args: &[FunctionArg],
        alias: Option<&str>,
    ) -> Result<Rows, SqlError> {
        let (schema, plain) = qualified(name)?;
        let native = matches!(schema.as_deref(), None | Some("pg_catalog"));
        if native && let Some((_, columns)) = SETS.iter().find(|s| s.0 == plain) {
            return self.native_set(&plain, columns, args, alias);
        }
        if let Some(rows) = self.api_rows(schema.as_deref(), &plain, args, alias)? {
            return Ok(rows);
        }
        let values = self.positional(args)?;
        let error = missing(schema.as_deref(), &plain, &values);
        let scalar = if native { self.builtin(&plain, values)? } else { None };
        let sx = scalar.ok_or(error)?;
        let sx = self.settle_record(sx)?;
        let column = (alias.unwrap_or(&plain).to_string(), sx.ty, false);
        let value = if sx.ty == Ty::Interval { format!("pg_text('interval', {})", sx.sql) } else { sx.sql };
        Ok(Rows { sql: format!("json_array(json_array({value}))"), columns: vec![column] })
    }

    fn native_set(
        &mut self,
        name: &str,
        columns: &[(&str, Ty)],
        args: &[FunctionArg],
        alias: Option<&str>,
    ) -> Result<Rows, SqlError> {
        let args = self.positional(args)?;
        let wrong = || missing(None, name, &args);
        let (types, result): (Vec<Ty>, Ty) = match (name, args.as_slice()) {
            ("generate_series", [a, b, rest @ ..]) if rest.len() <= 1 => {
                let ty = Ty::common(a.ty, b.ty).ok_or_else(wrong)?;
                match ty {
                    Ty::Timestamptz | Ty::Timestamp | Ty::Date => {
                        let ty = if ty == Ty::Date { Ty::Timestamptz } else { ty };
                        (vec![ty, ty, Ty::Interval], ty)
                    }
                    Ty::Int8 => (vec![Ty::Int8, Ty::Int8, Ty::Int8], Ty::Int8),
                    t if t.is_int() || t == Ty::Unknown => (vec![Ty::Int4, Ty::Int4, Ty::Int4], Ty::Int4),
                    _ => return Err(wrong()),
                }
            }
            ("unnest", [a]) => match a.ty {
                Ty::Array(elem) => (vec![a.ty], *elem),
                Ty::Unknown => (vec![Ty::Array(&Ty::Text)], Ty::Text),
                _ => return Err(wrong()),
            },
            ("generate_subscripts", [a, _]) => (vec![a.ty, Ty::Int4], Ty::Int4),
            ("regexp_split_to_table" | "string_to_table", [_, _]) => (vec![Ty::Text, Ty::Text], Ty::Text),
            ("regexp_matches", [_, _]) => (vec![Ty::Text; 2], Ty::Array(&Ty::Text)),
            ("regexp_matches", [_, _, _]) => (vec![Ty::Text; 3], Ty::Array(&Ty::Text)),
            ("pg_partition_ancestors" | "pg_partition_tree", [_]) => (vec![Ty::Regclass], Ty::Regclass),
            ("aclexplode", [a]) => (vec![a.ty], Ty::Text),
            ("pg_options_to_table", [a]) => (vec![a.ty], Ty::Text),
            ("pg_listening_channels" | "pg_get_keywords", []) => (Vec::new(), Ty::Text),
            (n, [_]) if n.starts_with("jsonb") => (vec![Ty::Jsonb], Ty::Text),
            (n, [_]) if n.starts_with("json") => (vec![Ty::Json], Ty::Text),
            _ => return Err(wrong()),
        };
        let mut list = vec![quote(name), quote(&result.code())];
        for (arg, ty) in args.into_iter().zip(types) {
            let arg = if arg.ty == ty { arg } else { self.cast(arg, ty)? };
            list.push(arg.sql);
        }
        let columns = if columns.is_empty() {
            vec![(alias.unwrap_or(name).to_string(), result, false)]
        } else {
            columns.iter().map(|c| (c.0.to_string(), c.1, false)).collect()
        };
        Ok(Rows { sql: format!("pg_set({})", list.join(", ")), columns })
    }
}
