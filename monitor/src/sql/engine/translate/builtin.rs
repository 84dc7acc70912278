//! PostgreSQL's own scalar functions: a table of signatures and of what SQLite computes for them.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::{Sx, Translator, quote};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

struct Builtin {
    /// `None`: anything, as text.
    args: Vec<Option<Ty>>,
    result: Ty,
    template: &'static str,
}

/// Signatures by name.
fn table() -> &'static HashMap<&'static str, Vec<Builtin>> {
    static TABLE: OnceLock<HashMap<&'static str, Vec<Builtin>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table: HashMap<&'static str, Vec<Builtin>> = HashMap::new();
        for line in include_str!("builtins.txt").lines().filter(|l| !l.starts_with('#')) {
            if let Some((name, builtin)) = read(line) {
                table.entry(name).or_default().push(builtin);
            }
        }
        table
    })
}

fn read(line: &'static str) -> Option<(&'static str, Builtin)> {
    let (signature, template) = line.split_once(" = ")?;
    let (call, result) = signature.rsplit_once(' ')?;
    let (name, args) = call.strip_suffix(')')?.split_once('(')?;
    let kind = |a: &str| if a == "text*" { Some(None) } else { Some(Some(Ty::from_name(a)?)) };
    let args = args.split(',').filter(|a| !a.is_empty()).map(kind).collect::<Option<Vec<_>>>()?;
    Some((name, Builtin { args, result: Ty::from_name(result)?, template }))
}

/// How well an argument fits: exactly, by conversion, or not.
fn fit(arg: &Sx, wanted: Option<Ty>) -> Option<u32> {
    let Some(wanted) = wanted else { return Some(1) };
    match (arg.ty, wanted) {
        _ if arg.record.is_some() => None,
        (a, b) if a == b => Some(3),
        (Ty::Array(_), Ty::Array(_)) => Some(2),
        (Ty::Unknown, Ty::Text) => Some(2),
        // Of several types, an open literal is taken for the preferred one.
        (Ty::Unknown, Ty::Timestamptz | Ty::Float8) => Some(2),
        (Ty::Unknown, _) => Some(1),
        (a, b) if Ty::implicit(a, b) => Some(2),
        (a, b) if a.is_oid() && b.is_oid() => Some(2),
        (a, Ty::Oid) if a.is_int() => Some(1),
        (Ty::Date, Ty::Timestamptz | Ty::Timestamp) => Some(1),
        _ => None,
    }
}

impl Translator<'_> {
    /// Calls a function of `pg_catalog`; `None`: there is none of that name.
    pub(super) fn builtin(&mut self, name: &str, args: Vec<Sx>) -> Result<Option<Sx>, SqlError> {
        if let Some(sx) = self.special(name, &args)? {
            return Ok(Some(sx));
        }
        let Some(overloads) = table().get(name) else { return Ok(None) };
        let score = |b: &Builtin| -> Option<u32> {
            if b.args.len() != args.len() {
                return None;
            }
            args.iter().zip(&b.args).map(|(a, w)| fit(a, *w)).sum()
        };
        let mut best: Option<(u32, &Builtin)> = None;
        for builtin in overloads {
            if let Some(points) = score(builtin)
                && best.is_none_or(|(most, _)| points > most)
            {
                best = Some((points, builtin));
            }
        }
        let Some((_, builtin)) = best else { return Err(missing(None, name, &args)) };
        self.uses_settings |= name == "current_setting";
        let mut sql = builtin.template.to_string();
        for (i, (arg, wanted)) in args.into_iter().zip(&builtin.args).enumerate() {
            let arg = match wanted {
                None => self.as_text(arg)?,
                Some(Ty::Array(_)) if matches!(arg.ty, Ty::Array(_)) => arg,
                Some(ty) if arg.ty.is_oid() && ty.is_oid() => arg,
                Some(ty) => self.cast(arg, *ty)?,
            };
            sql = sql.replace(&format!("{{{i}}}"), &arg.sql);
        }
        Ok(Some(Sx::new(sql, builtin.result)))
    }

    pub(super) fn builtin_or_missing(&mut self, name: &str, args: Vec<Sx>) -> Result<Sx, SqlError> {
        let error = missing(None, name, &args);
        self.builtin(name, args)?.ok_or(error)
    }

    /// Functions whose types depend on their arguments.
    fn special(&mut self, name: &str, args: &[Sx]) -> Result<Option<Sx>, SqlError> {
        let list = |args: &[Sx]| args.iter().map(|a| a.sql.clone()).collect::<Vec<_>>().join(", ");
        Ok(Some(match (name, args) {
            ("coalesce", [_, ..]) => {
                let (args, ty) = self.unify(args.to_vec(), "COALESCE")?;
                let sql = if args.len() == 1 { args[0].sql.clone() } else { format!("coalesce({})", list(&args)) };
                Sx::new(sql, ty)
            }
            ("greatest" | "least", [_, ..]) => {
                let what = name.to_uppercase();
                let (args, ty) = self.unify(args.to_vec(), &what)?;
                Sx::new(format!("pg_extreme({}, {}, {})", quote(name), quote(&ty.code()), list(&args)), ty)
            }
            ("nullif", [a, b]) => {
                let equal = self.compare("=", a.clone(), b.clone())?;
                let a = if a.ty == Ty::Unknown { self.coerce(a.clone(), Ty::Text)? } else { a.clone() };
                Sx::new(format!("(CASE WHEN {} THEN NULL ELSE {} END)", equal.sql, a.sql), a.ty)
            }
            ("row_to_json" | "to_json" | "to_jsonb", [value]) | ("row_to_json", [value, _]) => {
                if name == "to_jsonb" { self.jsonb_of(value.clone())? } else { self.json_of(value.clone())? }
            }
            ("array_to_json", [value]) => self.json_of(value.clone())?,
            ("json_build_object" | "jsonb_build_object", _) => {
                if !args.len().is_multiple_of(2) {
                    return Err(SqlError::new("22023", "argument list must have even number of elements")
                        .hint(format!("The arguments of {name}() must consist of alternating keys and values.")));
                }
                let mut out = Vec::new();
                for pair in args.chunks(2) {
                    out.push(self.as_text(pair[0].clone())?.sql);
                    out.push(self.json_of(pair[1].clone())?.sql);
                }
                self.built(name, "object", &out)
            }
            ("json_build_array" | "jsonb_build_array", _) => {
                let out = args.iter().map(|a| Ok(self.json_of(a.clone())?.sql)).collect::<Result<Vec<_>, SqlError>>()?;
                self.built(name, "array", &out)
            }
            ("row", _) => super::record::row(args.to_vec()),
            ("concat", _) => {
                let args = self.texts(args)?;
                Sx::new(format!("pg_concat({})", args.join(", ")), Ty::Text)
            }
            ("concat_ws", [_, ..]) => {
                let args = self.texts(args)?;
                Sx::new(format!("pg_concat_ws({})", args.join(", ")), Ty::Text)
            }
            ("format", [_, ..]) => {
                let args = self.texts(args)?;
                Sx::new(format!("pg_format({})", args.join(", ")), Ty::Text)
            }
            ("pg_typeof", [value]) => Sx::new(value.ty.oid().to_string(), Ty::Regtype),
            ("array_append" | "array_cat", [a, b]) => self.array_operator("||", a.clone(), b.clone())?,
            ("array_prepend", [a, b]) => self.array_operator("||", a.clone(), b.clone())?,
            ("array_replace", [a, from, to]) if let Ty::Array(elem) = a.ty => {
                let mut parts = vec![a.sql.clone()];
                for part in [from, to] {
                    let part = self.coerce(part.clone(), *elem)?;
                    parts.push(self.as_text(part)?.sql);
                }
                Sx::new(format!("pg_array_replace({})", parts.join(", ")), a.ty)
            }
            ("trim_array", [a, n]) if let Ty::Array(_) = a.ty => {
                let n = self.cast(n.clone(), Ty::Int4)?.sql;
                let length = format!("coalesce(pg_array_length({}, 1), 0)", a.sql);
                Sx::new(format!("pg_array_slice({}, 1, {length} - {n})", a.sql), a.ty)
            }
            ("array_remove", [a, b]) => match a.ty {
                Ty::Array(elem) => {
                    let b = self.coerce(b.clone(), *elem)?;
                    let b = self.as_text(b)?;
                    Sx::new(format!("pg_array_remove({}, {})", a.sql, b.sql), a.ty)
                }
                _ => return Err(missing(None, name, args)),
            },
            _ => return Ok(None),
        }))
    }

    fn texts(&mut self, args: &[Sx]) -> Result<Vec<String>, SqlError> {
        let mut out = Vec::new();
        for arg in args {
            // These print booleans as a column would.
            let arg = if arg.ty == Ty::Bool {
                Sx::new(format!("(CASE {} WHEN 1 THEN 't' WHEN 0 THEN 'f' END)", arg.sql), Ty::Text)
            } else {
                arg.clone()
            };
            out.push(self.as_text(arg)?.sql);
        }
        Ok(out)
    }

    fn built(&self, name: &str, kind: &str, parts: &[String]) -> Sx {
        let ty = if name.starts_with("jsonb") { Ty::Jsonb } else { Ty::Json };
        let comma = if parts.is_empty() { "" } else { ", " };
        Sx::new(format!("pg_json_build({}, {}{comma}{})", quote(kind), quote(&ty.code()), parts.join(", ")), ty)
    }
}

/// 42883, as PostgreSQL words it.
pub fn missing(schema: Option<&str>, name: &str, args: &[Sx]) -> SqlError {
    let types: Vec<String> = args
        .iter()
        .map(|a| if a.record.is_some() { "record".to_string() } else { a.ty.display() })
        .collect();
    let schema = schema.map(|s| format!("{s}.")).unwrap_or_default();
    SqlError::new("42883", format!("function {schema}{name}({}) does not exist", types.join(", ")))
        .hint("No function matches the given name and argument types. You might need to add explicit type casts.")
}
