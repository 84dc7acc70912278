//! What relations there are: the monitor's own tables, and `pg_catalog` as far as clients ask.
//!
//! `relations.txt` lists PostgreSQL 15's catalog relations with their columns, `rows.txt` the rows
//! that describe a stock 2.0 monitor's objects (COPY text), `definitions.txt` what functions such
//! as `pg_get_constraintdef` print for them.

pub mod content;
pub mod names;
pub mod ours;
pub mod procs;
pub mod views;

use std::collections::HashMap;
use std::sync::OnceLock;

use super::ty::Ty;

/// Where a relation's rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The replicated state: filled by the mirror.
    Mirror,
    /// Never change while the monitor runs.
    Static,
    /// Depend on the session or on the release it is shown.
    Session,
    /// A query over other relations.
    View(&'static str),
}

#[derive(Clone, Debug)]
pub struct ColumnDef {
    pub name: String,
    pub ty: Ty,
    /// Since release 2.3: sessions of older ones see it by name only.
    pub newer: bool,
}

#[derive(Clone, Debug)]
pub struct Relation {
    /// Its place in the registry.
    pub number: usize,
    pub schema: String,
    pub name: String,
    pub oid: i64,
    /// `pg_class.relkind`.
    pub kind: char,
    /// Its table in SQLite, quoted.
    pub sql_name: String,
    pub columns: Vec<ColumnDef>,
    pub source: Source,
}

impl Relation {
    /// The column of the primary key.
    pub fn key(&self) -> Option<&'static str> {
        match (self.schema.as_str(), self.name.as_str()) {
            ("pgautofailover", "node") => Some("nodeid"),
            ("pgautofailover", "event") => Some("eventid"),
            ("pgautofailover", "formation") => Some("formationid"),
            ("pg_catalog", _) if self.columns.first().is_some_and(|c| c.name == "oid") => Some("oid"),
            _ => None,
        }
    }
}

/// Every relation.
pub struct Registry {
    pub relations: Vec<Relation>,
    by_name: HashMap<(String, String), usize>,
}

impl Registry {
    pub fn find(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.by_name.get(&(schema.to_string(), name.to_string())).and_then(|i| self.relations.get(*i))
    }
}

/// The registry, built once.
pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let mut relations = Vec::new();
        for (schema, name, kind, oid, columns) in ours::relations().chain(foreign()) {
            let number = relations.len();
            let source = match (schema.as_str(), views::text(&schema, &name)) {
                (_, Some(query)) => Source::View(query),
                ("pgautofailover", None) if name != "fsm" => Source::Mirror,
                ("pgquorum", None) => Source::Mirror,
                _ if content::is_session(&name) => Source::Session,
                _ => Source::Static,
            };
            let sql_name = format!("\"{schema}.{name}\"");
            relations.push(Relation { number, schema, name, oid, kind, sql_name, columns, source });
        }
        let by_name = relations.iter().map(|r| ((r.schema.clone(), r.name.clone()), r.number)).collect();
        Registry { relations, by_name }
    })
}

type Described = (String, String, char, i64, Vec<ColumnDef>);

/// PostgreSQL's own relations.
fn foreign() -> impl Iterator<Item = Described> {
    include_str!("relations.txt").lines().filter_map(|line| {
        let mut parts = line.split(' ');
        let (schema, name) = parts.next()?.split_once('.')?;
        let kind = parts.next()?.chars().next()?;
        let oid = parts.next()?.parse().ok()?;
        let columns = parts.next()?.split(',').filter_map(|c| {
            let (name, ty) = c.split_once(':')?;
            Some(ColumnDef { name: name.to_string(), ty: Ty::from_name(ty).unwrap_or(Ty::Text), newer: false })
        });
        Some((schema.to_string(), name.to_string(), kind, oid, columns.collect()))
    })
}

/// What `pg_get_constraintdef` and its like print: kind, OID, column number (0: the whole).
pub fn definition(kind: &str, oid: i64, part: i64) -> Option<String> {
    static DEFINITIONS: OnceLock<HashMap<(String, i64, i64), String>> = OnceLock::new();
    let table = DEFINITIONS.get_or_init(|| {
        let read = |line: &str| {
            let mut parts = line.splitn(4, '\t');
            let key = (parts.next()?.to_string(), parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some((key, parts.next()?.to_string()))
        };
        include_str!("definitions.txt").lines().filter_map(read).collect()
    });
    if kind == "view" {
        let view = registry().relations.iter().find(|r| r.oid == oid)?;
        return match view.source {
            Source::View(query) => Some(format!("{query};")),
            _ => Some(" SELECT * FROM pgautofailover.dump_fsm();".to_string()),
        };
    }
    table.get(&(kind.to_string(), oid, part)).cloned()
}

/// `obj_description` and `shobj_description`.
pub fn description(oid: i64, class: Option<&str>, shared: bool) -> Option<String> {
    let relation = if shared { "pg_catalog.pg_shdescription" } else { "pg_catalog.pg_description" };
    let class = class.and_then(|c| registry().find("pg_catalog", c)).map(|r| r.oid.to_string());
    content::rows_of(relation).iter().find_map(|row| {
        let field = |i: usize| row.get(i).and_then(|f| f.as_deref());
        let matches = field(0) == Some(oid.to_string().as_str()) && (class.is_none() || field(1) == class.as_deref());
        if matches { row.last().cloned().flatten() } else { None }
    })
}
