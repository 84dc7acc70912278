//! The SQLite connections that queries run on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::limits::Limit;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::catalog::{Relation, Source, content, registry};
use super::functions::{self, QueryContext, Shared};
use super::mirror::{self, EventsSeen, Stamp};
use super::session_view::SessionView;
use crate::sql::backend::ReadView;
use crate::sql::error::SqlError;
use crate::sql::function::Function;

/// Queries that run at once; more of them wait.
const SIZE: usize = 3;

/// How long one query may compute.
pub const TIME_LIMIT: Duration = Duration::from_secs(5);

/// What all connections together may hold in memory, bytes.
const MEMORY_LIMIT: u64 = 40 << 20;

/// What a relation's table was filled with.
enum Filled {
    Once,
    From(Stamp),
    Rows(Vec<Vec<Value>>),
    Events(Stamp, EventsSeen),
}

/// One connection with its mirror of the state.
pub struct Reader {
    pub connection: Connection,
    pub context: Shared,
    pub deadline: Arc<Mutex<Instant>>,
    functions: &'static [Function],
    filled: HashMap<usize, Filled>,
}

/// Connections, opened as they are needed.
pub struct Pool {
    functions: &'static [Function],
    slots: Vec<Mutex<Option<Reader>>>,
}

impl Pool {
    pub fn new(functions: &'static [Function]) -> Pool {
        Pool { functions, slots: (0..SIZE).map(|_| Mutex::new(None)).collect() }
    }

    /// Runs something on a free connection, or on the first that becomes free.
    pub fn with<T>(&self, run: impl FnOnce(&mut Reader) -> Result<T, SqlError>) -> Result<T, SqlError> {
        let free = self.slots.iter().find_map(|s| s.try_lock().ok());
        let mut slot = match free {
            Some(slot) => slot,
            None => self.wait(),
        };
        let reader = match slot.as_mut() {
            Some(reader) => reader,
            None => slot.insert(Reader::open(self.functions)?),
        };
        let result = run(reader);
        // A connection that SQLite itself complained about starts over.
        if matches!(&result, Err(e) if e.sqlstate == "XX000" || e.sqlstate == "53200") {
            *slot = None;
        }
        result
    }

    fn wait(&self) -> MutexGuard<'_, Option<Reader>> {
        // Spread waiting threads over the slots; a poisoned one holds a reader that is replaced.
        let pick = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map(|d| d.subsec_nanos() as usize % SIZE)
            .unwrap_or(0);
        let mut guard = self.slots[pick].lock().unwrap_or_else(PoisonError::into_inner);
        if self.slots[pick].is_poisoned() {
            *guard = None;
            self.slots[pick].clear_poison();
        }
        guard
    }
}

impl Reader {
    fn open(functions: &'static [Function]) -> Result<Reader, SqlError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(":memory:", flags).map_err(|e| error(&e))?;
        let context: Shared = Arc::new(Mutex::new(QueryContext {
            functions,
            view: None,
            search_path: Vec::new(),
            server_version: String::new(),
            settings: HashMap::new(),
        }));
        let deadline = Arc::new(Mutex::new(Instant::now() + TIME_LIMIT));
        let mut prepare = || -> rusqlite::Result<()> {
            connection.execute_batch(&format!(
                "PRAGMA hard_heap_limit = {MEMORY_LIMIT}; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF"
            ))
            .or(Ok::<(), rusqlite::Error>(()))?;
            connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, 8 << 20)?;
            connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
            connection.set_limit(Limit::SQLITE_LIMIT_EXPR_DEPTH, 300)?;
            connection.set_prepared_statement_cache_capacity(64);
            functions::register(&connection, &context)?;
            let until = deadline.clone();
            let late = move || *until.lock().unwrap_or_else(PoisonError::into_inner) < Instant::now();
            connection.progress_handler(5_000, Some(late))?;
            Ok(())
        };
        prepare().map_err(|e| error(&e))?;
        Ok(Reader { connection, context, deadline, functions, filled: HashMap::new() })
    }

    /// Brings a relation's table up to date.
    pub fn fill(&mut self, number: usize, view: &ReadView, session: &SessionView, newer: bool) -> Result<(), SqlError> {
        let Some(relation) = registry().relations.get(number) else { return Ok(()) };
        let fresh = match self.filled.get(&number) {
            Some(Filled::Once) => true,
            Some(Filled::From(stamp)) => stamp.is(view),
            Some(Filled::Events(stamp, _)) => stamp.is(view),
            _ => false,
        };
        if fresh {
            return Ok(());
        }
        let before = self.filled.remove(&number);
        let filled = self.refill(relation, before, view, session, newer).map_err(|e| error(&e))?;
        self.filled.insert(number, filled);
        Ok(())
    }

    fn refill(
        &mut self,
        relation: &Relation,
        before: Option<Filled>,
        view: &ReadView,
        session: &SessionView,
        newer: bool,
    ) -> rusqlite::Result<Filled> {
        if before.is_none() {
            // After an error half-way the table may be there already.
            self.connection.execute_batch(&format!("DROP TABLE IF EXISTS {}", relation.sql_name))?;
            mirror::create(&self.connection, relation)?;
        }
        let connection = self.connection.transaction()?;
        let filled = match relation.source {
            Source::Mirror if relation.name == "event" => {
                let mut seen = match before {
                    Some(Filled::Events(_, seen)) => seen,
                    _ => EventsSeen::default(),
                };
                mirror::events(&connection, relation, &mut seen, view)?;
                Filled::Events(Stamp::of(view), seen)
            }
            Source::Mirror if relation.schema == "pgautofailover" => {
                mirror::replace(&connection, relation, &mirror::rows(relation, view))?;
                Filled::From(Stamp::of(view))
            }
            // The replicas come and go without a change of the state: their rows are compared.
            Source::Mirror | Source::Session => {
                let rows = match relation.source {
                    Source::Mirror => mirror::rows(relation, view),
                    _ => content::rows(relation, self.functions, session, newer),
                };
                match before {
                    Some(Filled::Rows(old)) if old == rows => Filled::Rows(old),
                    _ => {
                        mirror::replace(&connection, relation, &rows)?;
                        Filled::Rows(rows)
                    }
                }
            }
            Source::Static | Source::View(_) => {
                mirror::replace(&connection, relation, &content::rows(relation, self.functions, session, newer))?;
                Filled::Once
            }
        };
        connection.commit()?;
        Ok(filled)
    }
}

/// SQLite's errors as PostgreSQL's.
pub fn error(error: &rusqlite::Error) -> SqlError {
    let (code, message) = match error {
        rusqlite::Error::SqliteFailure(failure, message) => (failure.code, message.as_deref().unwrap_or("")),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error.code, msg.as_str()),
        other => {
            tracing::error!(error = %other, "the read tier failed");
            return SqlError::new("XX000", "the read tier failed");
        }
    };
    if let Some(own) = functions::decode_error(message) {
        return own;
    }
    let says = |words: &[&str]| words.iter().any(|w| message.contains(w));
    match code {
        ErrorCode::OperationInterrupted => SqlError::new("57014", "canceling statement due to statement timeout"),
        ErrorCode::OutOfMemory => SqlError::new("53200", "out of memory"),
        ErrorCode::TooBig => SqlError::new("54000", "requested length too large"),
        ErrorCode::Unknown if says(&["window function"]) => {
            SqlError::new("0A000", "this use of a window function is not supported by this monitor")
        }
        ErrorCode::Unknown if says(&["aggregate"]) => {
            SqlError::new("42803", "aggregate functions are not allowed here").detail(message)
        }
        ErrorCode::Unknown if says(&["too complex", "too large", "too many", "parser stack"]) => {
            SqlError::new("54001", "statement too complex").detail(message)
        }
        _ => {
            tracing::error!(%error, "the read tier failed");
            SqlError::new("XX000", format!("the read tier failed: {message}"))
        }
    }
}
