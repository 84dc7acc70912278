//! OIDs and names: `regclass`, `format_type`, roles.

use super::{content, registry};
use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

/// Name or number in `rows.txt`: (oid, name, schema's oid as text).
fn lookup(relation: &str, matches: impl Fn(&str, &str) -> bool) -> Option<(i64, String, String)> {
    content::rows_of(relation).iter().find_map(|row| {
        let field = |i: usize| row.get(i).and_then(|f| f.as_deref()).unwrap_or("");
        let found = matches(field(0), field(1));
        found.then(|| (field(0).parse().unwrap_or(0), field(1).to_string(), field(2).to_string()))
    })
}

fn schema_name(oid: &str) -> Option<String> {
    lookup("pg_catalog.pg_namespace", |o, _| o == oid).map(|s| s.1)
}

pub fn schema_exists(name: &str) -> bool {
    name == "pgquorum" || lookup("pg_catalog.pg_namespace", |_, n| n == name).is_some()
}

/// Schema and name of a relation.
fn class(oid: i64) -> Option<(String, String)> {
    if let Some(r) = registry().relations.iter().find(|r| r.oid == oid) {
        return Some((r.schema.clone(), r.name.clone()));
    }
    let (_, name, schema) = lookup("pg_catalog.pg_class", |o, _| o == oid.to_string())?;
    Some((schema_name(&schema)?, name))
}

pub fn class_schema(oid: i64) -> Option<String> {
    class(oid).map(|c| c.0)
}

pub fn type_schema(oid: i64) -> Option<String> {
    let (_, _, schema) = lookup("pg_catalog.pg_type", |o, _| o == oid.to_string())?;
    schema_name(&schema)
}

/// The name of a role; PostgreSQL's words for one that is not there.
pub fn role_name(oid: i64) -> String {
    lookup("pg_catalog.pg_authid", |o, _| o == oid.to_string())
        .map(|r| r.1)
        .unwrap_or_else(|| format!("unknown (OID={oid})"))
}

/// An identifier, quoted where it needs it.
pub fn quote_ident(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !KEYWORDS.contains(&name);
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Reserved words that people do use as names.
const KEYWORDS: &[&str] = &[
    "all", "and", "any", "array", "as", "asc", "both", "case", "cast", "check", "collate", "column", "constraint",
    "create", "current_date", "current_role", "current_time", "current_timestamp", "current_user", "default", "desc",
    "distinct", "do", "else", "end", "except", "false", "fetch", "for", "foreign", "from", "grant", "group", "having",
    "in", "initially", "intersect", "into", "lateral", "leading", "limit", "not", "null", "offset", "on", "only", "or",
    "order", "primary", "references", "returning", "select", "session_user", "some", "table", "then", "to", "trailing",
    "true", "union", "unique", "user", "using", "variadic", "when", "where", "window", "with",
];

/// `format_type(oid, typmod)`.
pub fn format_type(oid: i64, modifier: i64) -> String {
    if oid == 0 {
        return "-".to_string();
    }
    let Some((_, name, schema)) = lookup("pg_catalog.pg_type", |o, _| o == oid.to_string()) else {
        return "???".to_string();
    };
    let element = |n: &str| -> String {
        let known = match n {
            "bpchar" => Some("character"),
            "float4" => Some("real"),
            "timetz" => Some("time with time zone"),
            "char" => Some("\"char\""),
            _ => None,
        };
        let plain = Ty::from_name(n).filter(|t| t.code() == n).map(Ty::display);
        known.map(str::to_string).or(plain).unwrap_or_else(|| n.to_string())
    };
    let schema = schema_name(&schema).unwrap_or_default();
    if schema != "pg_catalog" {
        let bare = name.strip_prefix('_').map(|n| format!("{n}[]")).unwrap_or(name);
        return format!("{schema}.{bare}");
    }
    let shown = match name.strip_prefix('_') {
        Some(elem) => format!("{}[]", element(elem)),
        None => element(&name),
    };
    if matches!(name.as_str(), "varchar" | "bpchar") && modifier >= 4 {
        return format!("{shown}({})", modifier - 4);
    }
    shown
}

/// How a `reg*` value prints. Relations outside of `pg_catalog` are qualified, as with the usual
/// search path.
pub fn reg_text(ty: Ty, oid: i64) -> String {
    let found = match ty {
        _ if oid == 0 => Some("-".to_string()),
        Ty::Regclass => class(oid).map(|(schema, name)| match schema.as_str() {
            "pg_catalog" => quote_ident(&name),
            _ => format!("{}.{}", quote_ident(&schema), quote_ident(&name)),
        }),
        Ty::Regtype => Some(format_type(oid, -1)).filter(|t| t != "???"),
        Ty::Regnamespace if oid == super::ours::PGQUORUM_SCHEMA_OID => Some("pgquorum".to_string()),
        Ty::Regnamespace => schema_name(&oid.to_string()),
        Ty::Regrole => Some(role_name(oid)).filter(|r| !r.starts_with("unknown")),
        _ => None,
    };
    found.unwrap_or_else(|| oid.to_string())
}

/// `'name'::regclass` and its like.
pub fn parse_reg(ty: Ty, text: &str) -> Result<i64, SqlError> {
    let text = text.trim();
    if let Ok(oid) = text.parse::<i64>() {
        return Ok(oid);
    }
    if text == "-" {
        return Ok(0);
    }
    let (schema, name) = split(text);
    match ty {
        Ty::Regclass => {
            let missing = || SqlError::new("42P01", format!("relation \"{text}\" does not exist"));
            let schema = schema.unwrap_or_else(|| "pg_catalog".to_string());
            if let Some(relation) = registry().find(&schema, &name) {
                return Ok(relation.oid);
            }
            let namespace = lookup("pg_catalog.pg_namespace", |_, n| n == schema).ok_or_else(missing)?.0.to_string();
            let found = content::rows_of("pg_catalog.pg_class").iter().find_map(|row| {
                let field = |i: usize| row.get(i).and_then(|f| f.as_deref()).unwrap_or("");
                (field(1) == name && field(2) == namespace).then(|| field(0).parse().unwrap_or(0))
            });
            found.ok_or_else(missing)
        }
        Ty::Regtype => {
            let ty = Ty::from_name(text).ok_or_else(|| SqlError::new("42704", format!("type \"{text}\" does not exist")))?;
            let code = ty.code();
            lookup("pg_catalog.pg_type", |_, n| n == code)
                .map(|t| t.0)
                .ok_or_else(|| SqlError::new("42704", format!("type \"{text}\" does not exist")))
        }
        Ty::Regnamespace if name == "pgquorum" => Ok(super::ours::PGQUORUM_SCHEMA_OID),
        Ty::Regnamespace => lookup("pg_catalog.pg_namespace", |_, n| n == name)
            .map(|s| s.0)
            .ok_or_else(|| SqlError::new("3F000", format!("schema \"{text}\" does not exist"))),
        Ty::Regrole => lookup("pg_catalog.pg_authid", |_, n| n == name)
            .map(|r| r.0)
            .ok_or_else(|| SqlError::new("42704", format!("role \"{text}\" does not exist"))),
        _ => Err(SqlError::new("42883", format!("function \"{text}\" does not exist"))),
    }
}

/// The place of `typinput` in `pg_type`.
const TYPINPUT: usize = 15;

/// The name of a function that reads values of a type: drivers tell arrays by `array_in`.
pub fn type_function(text: &str) -> Option<String> {
    let (schema, name) = split(text.trim());
    let mut types = content::rows_of("pg_catalog.pg_type").iter();
    let known = schema.is_none_or(|schema| schema == "pg_catalog")
        && types.any(|row| row.get(TYPINPUT).is_some_and(|input| input.as_deref() == Some(name.as_str())));
    known.then_some(name)
}

/// Cuts a possibly qualified, possibly quoted name.
fn split(text: &str) -> (Option<String>, String) {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c => {
                if let Some(last) = parts.last_mut() {
                    if quoted { last.push(c) } else { last.extend(c.to_lowercase()) }
                }
            }
        }
    }
    let name = parts.pop().unwrap_or_default();
    (parts.pop(), name)
}
