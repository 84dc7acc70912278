//! One connection to one monitor.

use std::future::poll_fn;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage};

use crate::connect::describe;
use crate::error::{CallError, ServerError};
use crate::rows::Row;
use crate::target::{Endpoint, Target};
use crate::tls::Tls;

/// A message on a LISTEN channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listened {
    pub channel: String,
    pub payload: String,
}

/// An authenticated connection. Dropping it closes the connection; a transaction that was open is
/// thereby rolled back.
pub struct Session {
    endpoint: Endpoint,
    client: Client,
    driver: JoinHandle<()>,
    listened: tokio::sync::Mutex<mpsc::UnboundedReceiver<Listened>>,
    notices: Mutex<mpsc::UnboundedReceiver<ServerError>>,
}

impl Session {
    pub(crate) async fn open(target: &Target, tls: Tls, endpoint: &Endpoint) -> Result<Session, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&target.user)
            .dbname(&target.dbname)
            .port(endpoint.port)
            .ssl_mode(tls.mode)
            // A dead peer is noticed within about three seconds; a hung one by the call's deadline.
            .keepalives_idle(Duration::from_secs(1))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(2)
            .tcp_user_timeout(Duration::from_millis(2500));
        if endpoint.host.starts_with('/') {
            config.host_path(&endpoint.host);
        } else {
            config.host(&endpoint.host);
        }
        if let Some(password) = &target.password {
            config.password(password);
        }
        if let Some(name) = &target.application_name {
            config.application_name(name);
        }
        let (client, mut connection) = config.connect(tls).await?;
        let (listened_to, listened) = mpsc::unbounded_channel();
        let (noticed_to, notices) = mpsc::unbounded_channel();
        let driver = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    AsyncMessage::Notification(n) => {
                        let heard = Listened { channel: n.channel().into(), payload: n.payload().into() };
                        let _ = listened_to.send(heard);
                    }
                    AsyncMessage::Notice(notice) => {
                        let _ = noticed_to.send(ServerError::from_db(&notice));
                    }
                    _ => {}
                }
            }
        });
        let listened = tokio::sync::Mutex::new(listened);
        Ok(Session { endpoint: endpoint.clone(), client, driver, listened, notices: Mutex::new(notices) })
    }

    /// The monitor at the other end.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs SQL by the simple protocol; the rows of all its statements, as text.
    pub async fn query(&self, sql: &str, patience: Duration) -> Result<Vec<Row>, CallError> {
        let host = || self.endpoint.to_string();
        match timeout(patience, self.client.simple_query(sql)).await {
            Err(_) => {
                // Whatever comes now would answer a question that nobody asks any more.
                self.driver.abort();
                Err(CallError::Silent { host: host(), after: patience })
            }
            Ok(Err(error)) => Err(match error.as_db_error() {
                Some(db) => CallError::Server(ServerError::from_db(db)),
                None => CallError::Lost { host: host(), reason: describe(&error) },
            }),
            Ok(Ok(messages)) => Ok(messages
                .into_iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(Row(row)),
                    _ => None,
                })
                .collect()),
        }
    }

    /// The notices that came since the last call of this.
    pub fn take_notices(&self) -> Vec<ServerError> {
        let mut taken = Vec::new();
        // A poisoned lock means that another taker panicked between two receives: the channel is whole.
        let mut notices = self.notices.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        while let Ok(notice) = notices.try_recv() {
            taken.push(notice);
        }
        taken
    }

    /// The next message on a channel that this session LISTENs to; `None` when none came in time.
    pub async fn listened(&self, patience: Duration) -> Result<Option<Listened>, CallError> {
        let mut receiver = self.listened.lock().await;
        match timeout(patience, receiver.recv()).await {
            Err(_) => Ok(None),
            Ok(Some(message)) => Ok(Some(message)),
            Ok(None) => Err(CallError::Lost {
                host: self.endpoint.to_string(),
                reason: "the monitor closed the connection".to_string(),
            }),
        }
    }
}
