//! From a checked PostgreSQL syntax tree to SQL text for SQLite.
//!
//! Names are resolved and every expression gets a type here, so that errors are PostgreSQL's, `*`
//! is expanded by us, and SQLite only ever sees text that was written by this module: table names
//! of the mirror, aliases `t1`, `c0`, literals quoted by [`quote`].

mod aggregate;
mod api;
mod builtin;
mod call;
mod cast;
mod datatype;
mod expr;
mod from;
mod naming;
mod ops;
mod query;
mod record;
mod scope;
mod select;
mod subquery;
mod temporal;

use std::collections::BTreeSet;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Statement};

use super::ty::Ty;
use super::value::zone;
use crate::sql::error::SqlError;
use crate::sql::function::Function;
use scope::{Cte, Scope};

pub use cast::param_value;

/// Nesting of queries and expressions beyond this is refused (54001).
const MAX_DEPTH: usize = 200;

/// What that depth takes, with room: a build without optimisation needs 20 kB a level. Threads of
/// the runtime have 2 MB.
const STACK: usize = 16 << 20;

/// What a translation depends on besides the statement.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    pub functions: &'static [Function],
    /// Schemas in which unqualified names are looked up, `pg_catalog` first.
    pub search_path: &'a [String],
    /// The session is shown extension release 2.3, whose tables have more columns.
    pub newer: bool,
    /// What `now` means in a timestamp literal.
    pub now: i64,
}

/// A literal whose type is still open.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Text(String),
    Null,
    /// A parameter without a declared type, by its index.
    Param(usize),
}

/// A translated expression.
#[derive(Clone, Debug)]
pub struct Sx {
    pub sql: String,
    pub ty: Ty,
    pub literal: Option<Literal>,
    /// A whole row or a `ROW(...)`: named fields. `sql` is then meaningless.
    pub record: Option<Vec<(String, Sx)>>,
}

impl Sx {
    pub fn new(sql: impl Into<String>, ty: Ty) -> Sx {
        Sx { sql: sql.into(), ty, literal: None, record: None }
    }

    fn null() -> Sx {
        Sx { sql: "NULL".to_string(), ty: Ty::Unknown, literal: Some(Literal::Null), record: None }
    }

    fn text_literal(text: &str) -> Sx {
        Sx { sql: quote(text), ty: Ty::Unknown, literal: Some(Literal::Text(text.to_string())), record: None }
    }
}

/// A translated query: its output columns are called `c0`, `c1`... in the SQL.
#[derive(Clone, Debug)]
pub struct Translated {
    pub sql: String,
    pub columns: Vec<(String, Ty)>,
}

/// What running a statement takes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub query: Translated,
    /// Relations that must be filled before it runs, by their number in the catalog.
    pub relations: BTreeSet<usize>,
    /// Whether `current_setting` occurs.
    pub uses_settings: bool,
    /// A literal was read by the clock (`now`, `today`).
    pub reads_clock: bool,
    /// The types of the parameters, inferred where undeclared.
    pub params: Vec<Ty>,
}

pub struct Translator<'a> {
    env: Env<'a>,
    params: Vec<Ty>,
    inferred: Vec<Option<Ty>>,
    scopes: Vec<Scope>,
    ctes: Vec<Cte>,
    relations: BTreeSet<usize>,
    uses_settings: bool,
    reads_clock: bool,
    aliases: usize,
    depth: usize,
}

/// Translates a SELECT, VALUES or TABLE statement, on a thread whose stack is deep enough for
/// whatever the parser lets through. Statements are translated once, so the thread's cost is rare.
pub fn translate(env: Env<'_>, statement: &Statement, params: &[Ty]) -> Result<Plan, SqlError> {
    let failed = |what: String| SqlError::new("53000", format!("the statement could not be translated: {what}"));
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sql-translate".into()).stack_size(STACK);
        // Literals are read in the session's zone, which belongs to this thread.
        let zone = zone::current();
        let running = thread.spawn_scoped(scope, || zone::within(zone, || translate_here(env, statement, params)));
        let running = running.map_err(|e| failed(e.to_string()))?;
        running.join().unwrap_or_else(|_| Err(failed("internal error".into())))
    })
}

fn translate_here(env: Env<'_>, statement: &Statement, params: &[Ty]) -> Result<Plan, SqlError> {
    let Statement::Query(query) = statement else {
        return Err(unsupported("this kind of statement"));
    };
    let mut translator = Translator {
        env,
        params: params.to_vec(),
        inferred: vec![None; params.len()],
        scopes: Vec::new(),
        ctes: Vec::new(),
        relations: BTreeSet::new(),
        uses_settings: false,
        reads_clock: false,
        aliases: 0,
        depth: 0,
    };
    let mut query = translator.query(query)?;
    for column in &mut query.columns {
        if column.1 == Ty::Unknown {
            column.1 = Ty::Text;
        }
    }
    let open = |(i, ty): (usize, &Ty)| match ty {
        Ty::Unknown => translator.inferred.get(i).copied().flatten().unwrap_or(Ty::Text),
        declared => *declared,
    };
    let params = translator.params.iter().enumerate().map(open).collect();
    Ok(Plan { query, relations: translator.relations, uses_settings: translator.uses_settings, reads_clock: translator.reads_clock, params })
}

impl Translator<'_> {
    fn alias(&mut self, prefix: &str) -> String {
        self.aliases += 1;
        format!("{prefix}{}", self.aliases)
    }

    /// Guards the recursion: deep statements are an error, not a stack overflow.
    fn nested<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, SqlError>) -> Result<T, SqlError> {
        if self.depth >= MAX_DEPTH {
            return Err(SqlError::new("54001", "stack depth limit exceeded")
                .hint("The statement nests expressions or queries too deeply."));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }
}

/// An identifier as PostgreSQL folds it.
pub fn fold(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Schema and name of a possibly qualified name; a leading database name is dropped.
pub fn qualified(name: &ObjectName) -> Result<(Option<String>, String), SqlError> {
    let mut parts = Vec::new();
    for part in &name.0 {
        match part {
            ObjectNamePart::Identifier(ident) => parts.push(fold(ident)),
            ObjectNamePart::Function(_) => return Err(unsupported("this name")),
        }
    }
    let last = parts.pop().ok_or_else(|| unsupported("an empty name"))?;
    Ok((parts.pop(), last))
}

/// A string literal for SQLite. NUL bytes cannot occur in PostgreSQL text.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

/// A value as a literal for SQLite.
fn literal_sql(value: &rusqlite::types::Value) -> String {
    use rusqlite::types::Value;
    match value {
        Value::Null => "NULL".to_string(),
        // SQLite reads the smallest integer as a real number.
        Value::Integer(i64::MIN) => "(-9223372036854775807 - 1)".to_string(),
        Value::Integer(i) => i.to_string(),
        Value::Real(f) if f.is_infinite() => if *f > 0.0 { "9e999" } else { "-9e999" }.to_string(),
        Value::Real(f) if f.is_nan() => "NULL".to_string(),
        Value::Real(f) => format!("{f:e}"),
        Value::Text(t) => quote(t),
        Value::Blob(b) => format!("x'{}'", b.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

pub fn unsupported(what: &str) -> SqlError {
    SqlError::new("0A000", format!("{what} is not supported by this monitor"))
}
