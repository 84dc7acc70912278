//! Calls of the monitor's own functions.

use sqlparser::ast::FunctionArg;

use super::call::Rows;
use super::{Literal, Sx, Translator, fold, literal_sql};
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value::input;
use crate::sql::error::SqlError;
use crate::sql::function::{Function, Handler, Returns, is_newer};

impl Translator<'_> {
    fn candidates(&self, schema: Option<&str>, name: &str) -> Vec<(usize, &'static Function)> {
        let here = |f: &Function| match schema {
            Some(schema) => f.schema == schema,
            None => self.env.search_path.iter().any(|s| s == f.schema),
        };
        let functions: &'static [Function] = self.env.functions;
        functions.iter().enumerate().filter(|(_, f)| f.name == name && here(f)).collect()
    }

    pub(super) fn api_returns_set(&self, schema: Option<&str>, name: &str) -> bool {
        self.candidates(schema, name).iter().any(|(_, f)| !matches!(f.returns, Returns::Scalar(_)))
    }

    /// Picks the overload and writes the call: SQL for a JSON array of arrays.
    fn api_call(
        &mut self,
        schema: Option<&str>,
        name: &str,
        args: &[FunctionArg],
    ) -> Result<Option<(String, &'static Function)>, SqlError> {
        let candidates = self.candidates(schema, name);
        if candidates.is_empty() {
            return Ok(None);
        }
        let values = self.positional(args)?;
        let names: Vec<Option<String>> = args.iter().map(|a| match a {
            FunctionArg::Named { name, .. } => Some(fold(name)),
            _ => None,
        }).collect();
        let mut best: Option<(u32, usize, &'static Function, Vec<Option<usize>>)> = None;
        for (index, function) in candidates {
            if let Some((points, places)) = fit(function, &values, &names)
                && best.as_ref().is_none_or(|b| points > b.0)
            {
                best = Some((points, index, function, places));
            }
        }
        let Some((_, index, function, places)) = best else {
            return Err(super::builtin::missing(schema, name, &values));
        };
        if matches!(function.handler, Handler::Write(_)) {
            let message = format!("function {}.{name} changes the cluster and cannot be called here", function.schema);
            return Err(SqlError::new("0A000", message).hint(format!("Use SELECT {}.{name}(...) on its own.", function.schema)));
        }
        let mut list = vec![index.to_string()];
        for (arg, place) in function.args.iter().zip(places) {
            let ty = Ty::from_wire(arg.ty);
            list.push(match (place, arg.default) {
                (Some(at), _) => {
                    let value = values[at].clone();
                    if value.ty == ty { value.sql } else { self.coerce_argument(value, ty)? }
                }
                (None, Some(default)) if !default.eq_ignore_ascii_case("null") => {
                    literal_sql(&input::parse(ty, default, None)?)
                }
                _ => "NULL".to_string(),
            });
        }
        Ok(Some((format!("pg_api({})", list.join(", ")), function)))
    }

    fn coerce_argument(&mut self, value: Sx, ty: Ty) -> Result<String, SqlError> {
        match value.literal {
            None if value.ty.is_int() && ty.is_int() => Ok(self.cast(value, ty)?.sql),
            _ => Ok(self.coerce(value, ty)?.sql),
        }
    }

    /// The call in FROM; `None`: no such function.
    pub(super) fn api_rows(
        &mut self,
        schema: Option<&str>,
        name: &str,
        args: &[FunctionArg],
        alias: Option<&str>,
    ) -> Result<Option<Rows>, SqlError> {
        let Some((sql, function)) = self.api_call(schema, name, args)? else { return Ok(None) };
        let columns = match &function.returns {
            Returns::Scalar(ty) => vec![(alias.unwrap_or(name).to_string(), Ty::from_wire(*ty), false)],
            Returns::Record(out) | Returns::SetOf(out) => {
                let hidden = |c: &str| !self.env.newer && is_newer(c);
                out.iter().map(|c| (c.name.to_string(), Ty::from_wire(c.ty), hidden(c.name))).collect()
            }
        };
        Ok(Some(Rows { sql, columns }))
    }

    /// The call as a value; `None`: no such function.
    pub(super) fn api_scalar(
        &mut self,
        schema: Option<&str>,
        name: &str,
        args: &[FunctionArg],
    ) -> Result<Option<Sx>, SqlError> {
        let Some(rows) = self.api_rows(schema, name, args, None)? else { return Ok(None) };
        let field = |i: usize, ty: Ty| Sx::new(format!("json_extract({}, '$[0][{i}]')", rows.sql), ty);
        let fields: Vec<(String, Sx)> = rows
            .columns
            .iter()
            .enumerate()
            .filter(|(_, c)| !c.2)
            .map(|(i, (name, ty, _))| (name.clone(), field(i, *ty)))
            .collect();
        Ok(Some(match fields.as_slice() {
            [(_, only)] => only.clone(),
            _ => Sx { sql: String::new(), ty: Ty::Unknown, literal: None, record: Some(fields) },
        }))
    }
}

/// How well a call fits a function, and which value goes to which argument.
fn fit(function: &Function, values: &[Sx], names: &[Option<String>]) -> Option<(u32, Vec<Option<usize>>)> {
    let mut places = vec![None; function.args.len()];
    for (at, name) in names.iter().enumerate() {
        let place = match name {
            None => at,
            Some(name) => function.args.iter().position(|a| a.name == name)?,
        };
        let slot = places.get_mut(place)?;
        if slot.replace(at).is_some() {
            return None;
        }
    }
    let mut points = 0;
    for (arg, place) in function.args.iter().zip(&places) {
        match place {
            None if arg.default.is_none() => return None,
            None => {}
            Some(at) => {
                let value = &values[*at];
                let wanted = Ty::from_wire(arg.ty);
                points += match value.ty {
                    _ if value.record.is_some() => return None,
                    ty if ty == wanted => 4,
                    // An open literal prefers text; a parameter takes anything.
                    Ty::Unknown if matches!(value.literal, Some(Literal::Text(_))) && wanted == Ty::Text => 3,
                    Ty::Unknown => 2,
                    ty if Ty::implicit(ty, wanted) && !(ty.is_number() && Ty::common(ty, wanted) != Some(wanted)) => 2,
                    // Assignment-like narrowing of an integer column is taken as the last resort.
                    ty if ty.is_int() && wanted.is_int() => 1,
                    _ => return None,
                };
            }
        }
    }
    // Of two that fit, the one that needs fewer defaults.
    let defaults = places.iter().filter(|p| p.is_none()).count() as u32;
    Some((points * 16 + (15 - defaults.min(15)), places))
}
