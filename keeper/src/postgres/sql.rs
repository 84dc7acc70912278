//! The node's own connections to its PostgreSQL, over the Unix socket, every one with a deadline.

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
    pub dbname: String,
}

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
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&server.socket_dir)
            .port(server.port)
            .user(&server.user)
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
                Ok(Sql { client, driver })
            }
        }
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs SQL by the simple protocol; the rows of its last statement that returns any.
    pub async fn query(&self, sql: &str, patience: Duration) -> std::result::Result<Vec<SimpleQueryRow>, SqlError> {
        match timeout(patience, self.client.simple_query(sql)).await {
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
        Ok(rows.first().and_then(|row| row.try_get(0).ok().flatten().map(str::to_string)))
    }
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
