//! The rows of catalog relations.

use std::collections::HashMap;
use std::sync::OnceLock;

use failover::WallTime;
use rusqlite::types::Value;

use super::{ColumnDef, Relation, names, ours, procs, registry};
use crate::sql::engine::session_view::SessionView;
use crate::sql::engine::ty::Ty;
use crate::sql::engine::value::input;
use crate::sql::function::Function;

type Row = Vec<Option<String>>;

/// The rows of a relation in `rows.txt`, as text; empty: it has none there.
pub fn rows_of(relation: &str) -> &'static [Row] {
    static ROWS: OnceLock<HashMap<&'static str, Vec<Row>>> = OnceLock::new();
    let rows = ROWS.get_or_init(|| {
        let mut rows: HashMap<&'static str, Vec<Row>> = HashMap::new();
        let mut current = "";
        for line in include_str!("rows.txt").lines() {
            match line.strip_prefix('@') {
                Some(name) => current = name,
                None => rows.entry(current).or_default().push(line.split('\t').map(unescape).collect()),
            }
        }
        rows
    });
    rows.get(relation).map(Vec::as_slice).unwrap_or(&[])
}

/// A field of COPY text.
fn unescape(field: &str) -> Option<String> {
    if field == "\\N" {
        return None;
    }
    let mut out = String::new();
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
    Some(out)
}

/// Relations whose rows depend on the session.
pub fn is_session(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "pg_settings", "pg_stat_activity", "pg_available_extensions", "pg_available_extension_versions", "pg_extension",
        "pg_database", "pg_attribute", "pg_class", "pg_stat_database",
    ];
    NAMES.contains(&name)
}

/// A value of a column from text; what cannot be read stays text.
fn value(column: &ColumnDef, text: Option<&str>) -> Value {
    match (text, column.ty) {
        (None, _) => Value::Null,
        // int2vector and oidvector keep their own spelling.
        (Some(t), Ty::Array(_) | Ty::Text | Ty::Name | Ty::Char | Ty::Varchar) => Value::Text(t.to_string()),
        (Some(t), Ty::Regproc) => Value::Text(t.to_string()),
        (Some(t), ty) => input::parse(ty, t, None).unwrap_or_else(|_| Value::Text(t.to_string())),
    }
}

fn convert(relation: &Relation, rows: &[Row]) -> Vec<Vec<Value>> {
    let row = |r: &Row| {
        relation.columns.iter().enumerate().map(|(i, c)| value(c, r.get(i).and_then(|f| f.as_deref()))).collect()
    };
    rows.iter().map(row).collect()
}

/// The rows of a relation that is neither mirrored nor a view.
pub fn rows(relation: &Relation, functions: &'static [Function], session: &SessionView, newer: bool) -> Vec<Vec<Value>> {
    let full = format!("{}.{}", relation.schema, relation.name);
    let mut rows = convert(relation, rows_of(&full));
    match full.as_str() {
        "pgautofailover.fsm" => rows = super::super::mirror::fsm_rows(),
        "pg_catalog.pg_proc" => rows.extend(procs::rows(functions)),
        "pg_catalog.pg_namespace" => {
            let row = [Some(ours::PGQUORUM_SCHEMA_OID.to_string()), Some("pgquorum".into()), Some("10".into()), Some("{postgres=UC/postgres,autoctl_node=U/postgres}".into())];
            rows.extend(convert(relation, &[row.to_vec()]));
        }
        "pg_catalog.pg_class" => rows.extend(classes(relation)),
        "pg_catalog.pg_attribute" => rows.extend(attributes(relation, newer)),
        "pg_catalog.pg_extension" => set(relation, &mut rows, "extname", "pgautofailover", "extversion", &session.extension_version),
        "pg_catalog.pg_database" => set(relation, &mut rows, "datname", "pg_auto_failover", "datname", &session.database),
        "pg_catalog.pg_available_extensions" => rows = extensions(session),
        "pg_catalog.pg_settings" => rows = settings(session),
        "pg_catalog.pg_stat_activity" => rows = activity(relation, session),
        _ => {}
    }
    rows
}

/// Overwrites one column of one row.
fn set(relation: &Relation, rows: &mut [Vec<Value>], key: &str, wanted: &str, column: &str, new: &str) {
    let at = |name: &str| relation.columns.iter().position(|c| c.name == name);
    let (Some(key), Some(column)) = (at(key), at(column)) else { return };
    for row in rows {
        if row.get(key) == Some(&Value::Text(wanted.to_string()))
            && let Some(field) = row.get_mut(column)
        {
            *field = Value::Text(new.to_string());
        }
    }
}

/// A row from named fields; the rest is zero, false or NULL by type.
fn build(relation: &Relation, fields: &[(&str, Value)]) -> Vec<Value> {
    let default = |ty: Ty| match ty {
        Ty::Bool | Ty::Int2 | Ty::Int4 | Ty::Int8 | Ty::Oid | Ty::Xid | Ty::Regproc => Value::Integer(0),
        Ty::Char => Value::Text(String::new()),
        _ => Value::Null,
    };
    let field = |c: &ColumnDef| fields.iter().find(|f| f.0 == c.name).map(|f| f.1.clone()).unwrap_or_else(|| default(c.ty));
    relation.columns.iter().map(field).collect()
}

/// `pg_class` rows of the relations that `rows.txt` does not describe.
fn classes(class: &Relation) -> Vec<Vec<Value>> {
    let schema_oid = |name: &str| names::parse_reg(Ty::Regnamespace, name).unwrap_or(11);
    let described = |oid: i64| rows_of("pg_catalog.pg_class").iter().any(|r| r.first() == Some(&Some(oid.to_string())));
    let row = |r: &Relation| {
        build(class, &[
            ("oid", Value::Integer(r.oid)),
            ("relname", Value::Text(r.name.clone())),
            ("relnamespace", Value::Integer(schema_oid(&r.schema))),
            ("relowner", Value::Integer(10)),
            ("relam", Value::Integer(if r.kind == 'r' { 2 } else { 0 })),
            ("relkind", Value::Text(r.kind.to_string())),
            ("relpersistence", Value::Text("p".into())),
            ("relreplident", Value::Text("n".into())),
            ("relispopulated", Value::Integer(1)),
            ("relnatts", Value::Integer(r.columns.len() as i64)),
            ("relhasrules", Value::Integer(i64::from(r.kind == 'v'))),
            ("reltuples", Value::Real(-1.0)),
            ("relacl", Value::Text(if r.schema.starts_with("pgq") || r.name == "fsm" {
                "{postgres=arwdDxt/postgres,autoctl_node=r/postgres}".into()
            } else {
                "{=r/postgres}".into()
            })),
        ])
    };
    registry().relations.iter().filter(|r| !described(r.oid)).map(row).collect()
}

/// `pg_attribute` rows of the same, and of the columns that 2.3 has added to the tables.
fn attributes(attribute: &Relation, newer: bool) -> Vec<Vec<Value>> {
    let described = |oid: i64| rows_of("pg_catalog.pg_attribute").iter().any(|r| r.first() == Some(&Some(oid.to_string())));
    let mut rows = Vec::new();
    for relation in &registry().relations {
        let known = described(relation.oid);
        for (i, column) in relation.columns.iter().enumerate() {
            if (known && !column.newer) || (column.newer && !newer) {
                continue;
            }
            let varlena = matches!(column.ty, Ty::Text | Ty::Varchar | Ty::Json | Ty::Jsonb | Ty::Array(_) | Ty::Numeric);
            rows.push(build(attribute, &[
                ("attrelid", Value::Integer(relation.oid)),
                ("attname", Value::Text(column.name.clone())),
                ("atttypid", Value::Integer(names::parse_reg(Ty::Regtype, &column.ty.code()).unwrap_or(25))),
                ("attstattarget", Value::Integer(-1)),
                ("attlen", Value::Integer(-1)),
                ("attnum", Value::Integer(i as i64 + 1)),
                ("attcacheoff", Value::Integer(-1)),
                ("atttypmod", Value::Integer(-1)),
                ("attstorage", Value::Text(if varlena { "x" } else { "p" }.into())),
                ("attislocal", Value::Integer(1)),
            ]));
        }
    }
    rows
}

/// `pg_available_extensions`: the version that this session is shown, installed.
fn extensions(session: &SessionView) -> Vec<Vec<Value>> {
    let text = |t: &str| Value::Text(t.to_string());
    let version = session.extension_version.as_str();
    [
        ("btree_gist", "1.7", "support for indexing common datatypes in GiST"),
        ("pgautofailover", version, "pg_auto_failover"),
        ("plpgsql", "1.0", "PL/pgSQL procedural language"),
    ]
    .iter()
    .map(|(name, version, comment)| vec![text(name), text(version), text(version), text(comment)])
    .collect()
}

fn settings(session: &SessionView) -> Vec<Vec<Value>> {
    let text = |t: &str| Value::Text(t.to_string());
    let maybe = |t: &Option<String>| t.clone().map(Value::Text).unwrap_or(Value::Null);
    let row = |s: &super::super::SettingView| {
        vec![
            text(&s.name),
            text(&s.setting),
            maybe(&s.unit),
            text(&s.category),
            text(&s.short_desc),
            Value::Null,
            text(&s.context),
            text(&s.vartype),
            text(if s.source.is_empty() { "default" } else { &s.source }),
            maybe(&s.min_val),
            maybe(&s.max_val),
            Value::Null,
            maybe(&s.boot_val),
            maybe(&s.reset_val),
            Value::Null,
            Value::Null,
            Value::Integer(0),
        ]
    };
    let mut rows: Vec<(&String, Vec<Value>)> = session.settings.iter().map(|s| (&s.name, row(s))).collect();
    rows.sort_by(|a, b| a.0.cmp(b.0));
    rows.into_iter().map(|r| r.1).collect()
}

/// The own session.
fn activity(relation: &Relation, session: &SessionView) -> Vec<Vec<Value>> {
    let text = |t: &str| Value::Text(t.to_string());
    let WallTime(started) = session.started_at;
    vec![build(relation, &[
        ("datid", Value::Integer(16_384)),
        ("datname", text(&session.database)),
        ("pid", Value::Integer(i64::from(session.backend_pid))),
        ("leader_pid", Value::Null),
        ("usesysid", Value::Integer(10)),
        ("usename", text(&session.user)),
        ("application_name", text(&session.application_name)),
        ("client_addr", session.client_addr.clone().map(Value::Text).unwrap_or(Value::Null)),
        ("client_port", Value::Integer(i64::from(session.client_port))),
        ("backend_start", Value::Integer(started)),
        ("state", text("active")),
        ("backend_xid", Value::Null),
        ("backend_xmin", Value::Null),
        ("query_id", Value::Null),
        ("query", text("")),
        ("backend_type", text("client backend")),
    ])]
}
