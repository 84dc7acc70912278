//! The registry's functions as `pg_proc` shows them.

use rusqlite::types::Value;

use super::{names, ours};
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value::array;
use crate::sql::function::{Arg, Function, Handler, Returns};

/// Functions have consecutive OIDs from here on.
const FIRST_OID: i64 = 17_300;

/// The schema of a stock monitor's functions and tables.
const SCHEMA_OID: i64 = 17_038;

fn find(functions: &'static [Function], oid: i64) -> Option<&'static Function> {
    functions.get(usize::try_from(oid - FIRST_OID).ok()?)
}

/// The schema of a function.
pub fn schema(functions: &'static [Function], oid: i64) -> Option<String> {
    find(functions, oid).map(|f| f.schema.to_string())
}

/// The comment on a function: its entry's words for people.
pub fn comment(functions: &'static [Function], oid: i64) -> Option<String> {
    find(functions, oid).map(|f| f.doc.to_string())
}

/// `schema.name` or `schema.name(type, type)`, as `regproc` and `regprocedure` take them.
pub fn by_signature(functions: &'static [Function], text: &str) -> Option<i64> {
    let (name, types) = match text.split_once('(') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(')')?)),
        None => (text, None),
    };
    let (schema, name) = name.trim().split_once('.')?;
    let wanted: Option<Vec<Ty>> = types.map(|t| t.split(',').filter(|t| !t.trim().is_empty()).filter_map(Ty::from_name).collect());
    let fits = |f: &Function| {
        let types = f.args.iter().map(|a| Ty::from_wire(a.ty));
        f.schema == schema && f.name == name && wanted.as_ref().is_none_or(|w| types.eq(w.iter().copied()))
    };
    functions.iter().position(fits).map(|i| FIRST_OID + i as i64)
}

fn argument(arg: &Arg, defaults: bool) -> String {
    let ty = Ty::from_wire(arg.ty).display();
    let default = match arg.default {
        Some(value) if defaults => format!(" DEFAULT {}", default_text(arg, value)),
        _ => String::new(),
    };
    format!("{} {ty}{default}", names::quote_ident(arg.name))
}

/// A default as PostgreSQL prints it: `'default'::text`, `10`, `'-1'::integer`, `NULL::integer`.
fn default_text(arg: &Arg, value: &str) -> String {
    let ty = Ty::from_wire(arg.ty);
    match ty {
        _ if value.eq_ignore_ascii_case("null") => format!("NULL::{}", ty.display()),
        t if t.is_int() && value.starts_with('-') => format!("'{value}'::integer"),
        t if t.is_int() => value.to_string(),
        Ty::Bool => if value.starts_with(['t', 'T']) { "true" } else { "false" }.to_string(),
        _ => format!("'{}'::{}", value.replace('\'', "''"), ty.display()),
    }
}

/// What `pg_get_function_arguments` (`arguments`), `_identity_arguments` (`identity`), `_result`
/// (`result`) and `pg_get_functiondef` (`definition`) print.
pub fn text(functions: &'static [Function], oid: i64, what: &str) -> Option<String> {
    let f = find(functions, oid)?;
    let inputs = |defaults: bool| f.args.iter().map(|a| argument(a, defaults)).collect::<Vec<_>>();
    let event = f.name == "last_events";
    Some(match what {
        "arguments" | "identity" => {
            let mut all = inputs(what == "arguments");
            if let Returns::Record(out) | Returns::SetOf(out) = &f.returns
                && !event
            {
                all.extend(out.iter().map(|c| format!("OUT {} {}", names::quote_ident(c.name), Ty::from_wire(c.ty).display())));
            }
            all.join(", ")
        }
        "result" => match &f.returns {
            Returns::Scalar(ty) => Ty::from_wire(*ty).display(),
            Returns::Record(_) => "record".to_string(),
            Returns::SetOf(_) if event => "SETOF pgautofailover.event".to_string(),
            Returns::SetOf(_) => "SETOF record".to_string(),
        },
        _ => format!(
            "CREATE OR REPLACE FUNCTION {}.{}({})\n RETURNS {}\n LANGUAGE c{}\nAS '$libdir/pgautofailover', $function${}$function$\n",
            f.schema,
            f.name,
            text(functions, oid, "arguments")?,
            text(functions, oid, "result")?,
            if f.strict { "\n STRICT" } else { "" },
            f.name
        ),
    })
}

/// The rows of `pg_proc`, in the order of its columns.
pub fn rows(functions: &'static [Function]) -> Vec<Vec<Value>> {
    functions.iter().enumerate().map(|(i, f)| row(FIRST_OID + i as i64, f)).collect()
}

fn row(oid: i64, f: &Function) -> Vec<Value> {
    let int = Value::Integer;
    let text = |t: &str| Value::Text(t.to_string());
    let flag = |b: bool| Value::Integer(i64::from(b));
    let out = match &f.returns {
        Returns::Scalar(_) => &[][..],
        Returns::Record(out) | Returns::SetOf(out) => out,
    };
    let event = f.name == "last_events";
    let result = match &f.returns {
        Returns::Scalar(ty) => Ty::from_wire(*ty).oid(),
        // The row type of the event table, else record.
        _ if event => 17_141,
        _ => 2249,
    };
    let oids: Vec<String> = f.args.iter().map(|a| Ty::from_wire(a.ty).oid().to_string()).collect();
    let list = |items: Vec<String>| {
        Value::Text(array::text(&items.into_iter().map(Some).collect::<Vec<_>>()))
    };
    let outs = !out.is_empty() && !event;
    let all = || f.args.iter().map(|a| a.ty).chain(out.iter().map(|c| c.ty)).map(|t| Ty::from_wire(t).oid().to_string());
    let modes = || f.args.iter().map(|_| "i").chain(out.iter().map(|_| "o")).map(str::to_string);
    let mut labels: Vec<String> = f.args.iter().map(|a| a.name.to_string()).collect();
    if outs {
        labels.extend(out.iter().map(|c| c.name.to_string()));
    }
    let acl = "{=X/postgres,postgres=X/postgres,autoctl_node=X/postgres}";
    vec![
        int(oid),
        text(f.name),
        int(if f.schema == "pgquorum" { ours::PGQUORUM_SCHEMA_OID } else { SCHEMA_OID }),
        int(10),
        int(13),
        Value::Real(1.0),
        Value::Real(if matches!(f.returns, Returns::SetOf(_)) { 1000.0 } else { 0.0 }),
        int(0),
        text("-"),
        text("f"),
        flag(matches!(f.handler, Handler::Write(_))),
        flag(false),
        flag(f.strict),
        flag(matches!(f.returns, Returns::SetOf(_))),
        text("v"),
        text("u"),
        int(f.args.len() as i64),
        int(f.args.iter().filter(|a| a.default.is_some()).count() as i64),
        int(result),
        Value::Text(oids.join(" ")),
        if outs { list(all().collect()) } else { Value::Null },
        if outs { list(modes().collect()) } else { Value::Null },
        if labels.is_empty() { Value::Null } else { list(labels) },
        Value::Null,
        Value::Null,
        text(f.name),
        text("$libdir/pgautofailover"),
        Value::Null,
        Value::Null,
        text(acl),
    ]
}
