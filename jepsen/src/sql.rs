//! SQL for tests: one deadline over connecting, authenticating and asking.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Notification, SimpleQueryMessage};

use crate::{Context, Failure, Result, bail};

/// Long enough for a busy machine, short enough for a test.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// A row of text values.
pub type Row = Vec<Option<String>>;

/// Why a statement gave no answer.
#[derive(Debug)]
pub enum SqlError {
    /// The server said so: SQLSTATE and message.
    Server { code: String, message: String },
    /// No connection, or it was lost.
    Connection(String),
    /// The deadline passed.
    Deadline,
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server { code, message } => write!(f, "{code}: {message}"),
            Self::Connection(message) => f.write_str(message),
            Self::Deadline => f.write_str("no answer within the deadline"),
        }
    }
}

impl std::error::Error for SqlError {}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self::Server { code: db.code().code().to_owned(), message: db.message().to_owned() },
            None => Self::Connection(Failure::from(error).to_string()),
        }
    }
}

impl SqlError {
    /// The SQLSTATE, when the server sent one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// What a session was told besides answers.
#[derive(Clone, Default)]
pub struct Heard {
    notices: Arc<Mutex<Vec<String>>>,
    notifications: Arc<Mutex<Vec<Notification>>>,
}

impl Heard {
    /// Takes the notices heard so far. A notice is here before the answer that it belongs to.
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn notifications(&self) -> Vec<Notification> {
        self.notifications.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An asynchronous session; the connection is driven by a task that ends with the client.
pub struct Session {
    pub client: Client,
    pub heard: Heard,
    pub host: String,
    pub port: u16,
}

/// Connects to the first host of `uri` that suits its `target_session_attrs`, giving each host
/// `per_host` for connecting, authenticating and being asked what it is.
pub async fn connect(uri: &str, per_host: Duration) -> Result<Session, SqlError> {
    let config: Config = uri.parse().map_err(|e| SqlError::Connection(format!("bad URI {uri}: {e}")))?;
    let mut last = SqlError::Connection(format!("no host in {uri}"));
    for i in 0..config.get_hosts().len() {
        match timeout(per_host, connect_one(&config, i)).await {
            Ok(Ok(session)) => return Ok(session),
            Ok(Err(error)) => last = error,
            Err(_) => last = SqlError::Deadline,
        }
    }
    Err(last)
}

/// Asks all hosts of `uri` at the same time; the first that suits wins.
pub async fn connect_at_once(uri: &str, patience: Duration) -> Result<Session, SqlError> {
    let config: Config = uri.parse().map_err(|e| SqlError::Connection(format!("bad URI {uri}: {e}")))?;
    let mut attempts = tokio::task::JoinSet::new();
    for i in 0..config.get_hosts().len() {
        let config = config.clone();
        attempts.spawn(async move { timeout(patience, connect_one(&config, i)).await });
    }
    let mut last = SqlError::Connection(format!("no host in {uri}"));
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(Ok(session))) => return Ok(session),
            Ok(Ok(Err(error))) => last = error,
            _ => last = SqlError::Deadline,
        }
    }
    Err(last)
}

async fn connect_one(config: &Config, i: usize) -> Result<Session, SqlError> {
    let host = match config.get_hosts().get(i) {
        Some(Host::Tcp(host)) => host.clone(),
        other => return Err(SqlError::Connection(format!("no such host: {other:?}"))),
    };
    let port = config.get_ports().get(i).or(config.get_ports().first()).copied().unwrap_or(5432);
    let mut one = Config::new();
    one.host(&host).port(port).target_session_attrs(config.get_target_session_attrs());
    one.user(config.get_user().unwrap_or("postgres"));
    one.dbname(config.get_dbname().unwrap_or("postgres"));
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    let (client, mut connection) = one.connect(NoTls).await?;
    let heard = Heard::default();
    let to = heard.clone();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            match message {
                AsyncMessage::Notice(notice) => {
                    let text = format!("{} {}", notice.code().code(), notice.message());
                    to.notices.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                }
                AsyncMessage::Notification(notification) => {
                    to.notifications.lock().unwrap_or_else(PoisonError::into_inner).push(notification);
                }
                _ => {}
            }
        }
    });
    Ok(Session { client, heard, host, port })
}

/// Runs a future to its end on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?
        .block_on(future))
}

/// Runs `sql` by the simple protocol and returns the rows of all its statements.
pub fn query(uri: &str, sql: &str) -> Result<Vec<Row>> {
    try_query(uri, sql, DEADLINE)?.context(format!("`{sql}` on {uri}"))
}

/// Like [`query`], with the error told apart and a deadline of the caller's.
pub fn try_query(uri: &str, sql: &str, deadline: Duration) -> Result<Result<Vec<Row>, SqlError>> {
    block_on(async {
        let ask = async {
            // A host that hangs must not use up the time that the others have.
            let session = connect_at_once(uri, deadline).await?;
            rows(&session.client, sql).await
        };
        timeout(deadline, ask).await.unwrap_or(Err(SqlError::Deadline))
    })
}

/// Runs `sql` by the simple protocol on an open session.
pub async fn rows(client: &Client, sql: &str) -> Result<Vec<Row>, SqlError> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    });
    Ok(rows.collect())
}

/// The single value that `sql` returns.
pub fn value(uri: &str, sql: &str) -> Result<String> {
    let rows = query(uri, sql)?;
    match rows.first().and_then(|row| row.first()) {
        Some(Some(value)) => Ok(value.clone()),
        Some(None) => bail!("`{sql}` on {uri} returned NULL"),
        None => bail!("`{sql}` on {uri} returned no row"),
    }
}

/// Nodes and latest events of a monitor, to be read by people.
pub fn events(uri: &str) -> Result<String> {
    let nodes = query(
        uri,
        "SELECT nodeid, nodename, nodeport, reportedstate, goalstate, health, reportedtli, reportedlsn, \
         candidatepriority, replicationquorum FROM pgautofailover.node ORDER BY nodeid",
    )?;
    let events = query(
        uri,
        "SELECT eventid, eventtime, nodename, reportedstate, goalstate, description \
         FROM pgautofailover.last_events(60) ORDER BY eventid",
    )?;
    let line = |row: &Row| row.iter().map(|v| v.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" | ");
    Ok(nodes.iter().chain(&events).map(|row| format!("  {}\n", line(row))).collect())
}
