//! The node's own connections to its PostgreSQL, over the Unix socket, every one with a deadline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use crate::config::Config;
use crate::error::KeeperError;

/// Where the local server is, and who to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalServer {
    pub socket_dir: String,
    pub port: u16,
    pub user: String,
    /// The operating system's user, as whom initdb makes the superuser: the role `user` may not be there
    /// yet, and may not be let in by `peer`.
    pub fallback: Option<String>,
    pub dbname: String,
}

/// The fallback was the one that was let in. A keeper has one PostgreSQL; it need not write a refusal into
/// that one's log at every connection.
static BY_FALLBACK: AtomicBool = AtomicBool::new(false);

/// PostgreSQL's own default as Debian builds it; upstream's build default is /tmp.
const SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

impl LocalServer {
    /// `postmaster.pid` tells the socket's directory once PostgreSQL runs; before that the
    /// configuration's, or the place that Debian uses.
    pub fn of(config: &Config) -> LocalServer {
        let from_pid_file = || {
            let file = super::control::PidFile::read(&config.pgdata).ok().flatten()?;
            Some(file.socket_dir).filter(|dir| dir.starts_with('/'))
        };
        let default = || {
            let found = SOCKET_DIRS.iter().find(|dir| std::path::Path::new(dir).is_dir());
            found.unwrap_or(&SOCKET_DIRS[1]).to_string()
        };
        let configured = Some(config.host.clone()).filter(|host| host.starts_with('/'));
        LocalServer {
            socket_dir: from_pid_file().or(configured).unwrap_or_else(default),
            port: config.port,
            user: config.username.clone(),
            fallback: nix::unistd::User::from_uid(nix::unistd::geteuid())
                .ok()
                .flatten()
                .map(|user| user.name)
                .filter(|name| *name != config.username),
            // Exists in every cluster; the application's database may not exist yet.
            dbname: "template1".to_string(),
        }
    }

    pub fn with_database(mut self, dbname: &str) -> LocalServer {
        self.dbname = dbname.to_string();
        self
    }
}

/// Why a local query gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlError {
    /// Nothing came within the deadline: PostgreSQL may be hung.
    Silent(Duration),
    /// Nobody listens.
    Unreachable(String),
    /// The server answered with an error.
    Server { code: String, message: String },
}

impl SqlError {
    /// 57P03: it is starting up, recovering or shutting down.
    pub fn is_starting(&self) -> bool {
        matches!(self, SqlError::Server { code, .. } if code == "57P03")
    }
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SqlError::Silent(after) => write!(f, "PostgreSQL gave no answer within {:.1} s", after.as_secs_f64()),
            SqlError::Unreachable(text) => write!(f, "PostgreSQL cannot be reached: {text}"),
            SqlError::Server { code, message } => write!(f, "PostgreSQL says: {message} [{code}]"),
        }
    }
}

impl From<SqlError> for KeeperError {
    fn from(error: SqlError) -> KeeperError {
        KeeperError::postgres(error.to_string())
    }
}

/// One connection. It never waits for standbys and may write on a server that is read-only by default.
pub struct Sql {
    client: Client,
    driver: JoinHandle<()>,
    /// Queries whose answers were not awaited to the end: the connection is not to be used again.
    unanswered: AtomicBool,
}

/// A connection that is kept from one step to the next: making one costs more than most questions.
#[derive(Default)]
pub struct Keep {
    kept: Mutex<Option<Sql>>,
}

/// Borrowed from its [`Keep`], to which it goes back unless it is of no more use.
pub struct Kept<'a> {
    keep: &'a Keep,
    sql: Option<Sql>,
}

impl Keep {
    /// The kept connection, or a new one.
    pub async fn connect(&self, server: &LocalServer, patience: Duration) -> std::result::Result<Kept<'_>, SqlError> {
        let kept = self.slot().take().filter(Sql::is_usable);
        let sql = match kept {
            // The server may have gone a moment ago, or hang.
            Some(sql) if sql.query("select", patience.min(Duration::from_millis(500))).await.is_ok() => sql,
            _ => Sql::connect(server, patience).await?,
        };
        Ok(Kept { keep: self, sql: Some(sql) })
    }

    /// Is there a connection, and does it answer?
    pub async fn answers(&self) -> bool {
        let kept = self.slot().take().filter(Sql::is_usable);
        let Some(sql) = kept else { return false };
        let answers = sql.query("select", Duration::from_millis(500)).await.is_ok();
        if answers {
            *self.slot() = Some(sql);
        }
        answers
    }

    /// The next connection is a new one: an old one may answer where nobody is let in any more.
    pub fn forget(&self) {
        *self.slot() = None;
    }

    fn slot(&self) -> MutexGuard<'_, Option<Sql>> {
        // A poisoned lock means that another holder panicked; the slot is only ever replaced whole.
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Kept<'_> {
    /// Out of the keep for good, for a query that takes long.
    pub fn take(mut self) -> Option<Sql> {
        self.sql.take()
    }

    pub async fn query(&self, sql: &str, patience: Duration) -> std::result::Result<Vec<SimpleQueryRow>, SqlError> {
        match &self.sql {
            Some(open) => open.query(sql, patience).await,
            None => Err(SqlError::Unreachable("the connection was given away".to_string())),
        }
    }

    pub async fn value(&self, sql: &str, patience: Duration) -> std::result::Result<Option<String>, SqlError> {
        let rows = self.query(sql, patience).await?;
        Ok(single(&rows))
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if let Some(sql) = self.sql.take().filter(Sql::is_usable) {
            *self.keep.slot() = Some(sql);
        }
    }
}

/// What can be asked: a connection of one's own, or the kept one.
pub trait Ask {
    fn ask(
        &self,
        sql: &str,
        patience: Duration,
    ) -> impl Future<Output = std::result::Result<Vec<SimpleQueryRow>, SqlError>> + Send;
}

impl Ask for Sql {
    async fn ask(&self, sql: &str, patience: Duration) -> std::result::Result<Vec<SimpleQueryRow>, SqlError> {
        self.query(sql, patience).await
    }
}

impl Ask for Kept<'_> {
    async fn ask(&self, sql: &str, patience: Duration) -> std::result::Result<Vec<SimpleQueryRow>, SqlError> {
        self.query(sql, patience).await
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

const OPTIONS: &str = "-c synchronous_commit=local -c default_transaction_read_only=off -c client_min_messages=warning \
                       -c statement_timeout=0 -c lock_timeout=0 -c search_path=pg_catalog";

impl Sql {
    /// Connects, authenticates and is ready within `patience`.
    pub async fn connect(server: &LocalServer, patience: Duration) -> std::result::Result<Sql, SqlError> {
        let first = BY_FALLBACK.load(Ordering::Relaxed) && server.fallback.is_some();
        let refused = match Self::connect_as(server, first, patience).await {
            Err(SqlError::Server { code, message }) if server.fallback.is_some() && code.starts_with("28") => {
                SqlError::Server { code, message }
            }
            other => return other,
        };
        match Self::connect_as(server, !first, patience).await {
            Ok(sql) => {
                BY_FALLBACK.store(!first, Ordering::Relaxed);
                Ok(sql)
            }
            // What the configured user was told is what its owner can mend.
            Err(other) => Err(if first { other } else { refused }),
        }
    }

    async fn connect_as(
        server: &LocalServer,
        fallback: bool,
        patience: Duration,
    ) -> std::result::Result<Sql, SqlError> {
        let user = server.fallback.as_ref().filter(|_| fallback).unwrap_or(&server.user);
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&server.socket_dir)
            .port(server.port)
            .user(user)
            .dbname(&server.dbname)
            .application_name("pgquorum")
            .options(OPTIONS)
            .ssl_mode(SslMode::Disable);
        match timeout(patience, config.connect(NoTls)).await {
            Err(_) => Err(SqlError::Silent(patience)),
            Ok(Err(error)) => Err(classify(&error)),
            Ok(Ok((client, connection))) => {
                let driver = tokio::spawn(async move {
                    let _ = connection.await;
                });
                Ok(Sql { client, driver, unanswered: AtomicBool::new(false) })
            }
        }
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    fn is_usable(&self) -> bool {
        !self.is_closed() && !self.unanswered.load(Ordering::Relaxed)
    }

    /// Runs SQL by the simple protocol; the rows of its last statement that returns any.
    pub async fn query(&self, sql: &str, patience: Duration) -> std::result::Result<Vec<SimpleQueryRow>, SqlError> {
        // Stays when the caller drops this future: what comes then answers nobody.
        self.unanswered.store(true, Ordering::Relaxed);
        let answer = timeout(patience, self.client.simple_query(sql)).await;
        self.unanswered.store(answer.is_err(), Ordering::Relaxed);
        match answer {
            Err(_) => {
                // What comes later would answer a question that nobody asks any more.
                self.driver.abort();
                Err(SqlError::Silent(patience))
            }
            Ok(Err(error)) => Err(classify(&error)),
            Ok(Ok(messages)) => Ok(messages
                .into_iter()
                .filter_map(|m| match m {
                    SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                })
                .collect()),
        }
    }

    /// The only value of the only row; `None` when NULL or no row.
    pub async fn value(&self, sql: &str, patience: Duration) -> std::result::Result<Option<String>, SqlError> {
        let rows = self.query(sql, patience).await?;
        Ok(single(&rows))
    }
}

fn single(rows: &[SimpleQueryRow]) -> Option<String> {
    rows.first().and_then(|row| row.try_get(0).ok().flatten().map(str::to_string))
}

fn classify(error: &tokio_postgres::Error) -> SqlError {
    if let Some(db) = error.as_db_error() {
        return SqlError::Server { code: db.code().code().to_string(), message: db.message().to_string() };
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    SqlError::Unreachable(text)
}

/// A string as an SQL literal.
pub fn literal(text: &str) -> String {
    monitor_client::literal(text)
}

/// A name as an SQL identifier.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
