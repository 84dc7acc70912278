//! A kept session and the calls that may be repeated.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use crate::connect::{ConnectOptions, Connector, jittered};
use crate::error::{CallError, ServerError};
use crate::notification::{StateNotification, StateStream};
use crate::rows::Row;
use crate::session::Session;
use crate::target::Target;

/// May a call be sent again when it is not known whether it took effect?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Reads, and writes that are harmless twice.
    Harmless,
    /// Only when it surely did nothing.
    Careful,
}

/// The monitor, whichever replica answers. Calls go over one kept connection, one after another.
pub struct MonitorClient {
    connector: Arc<Connector>,
    kept: Mutex<Option<Arc<Session>>>,
    /// The kept session LISTENs to state changes.
    listening: bool,
    notices: std::sync::Mutex<Vec<ServerError>>,
    /// The whole time of one call, reconnections included.
    patience: Duration,
    /// The time that one monitor gets to answer before another one is asked.
    answer_patience: Duration,
    /// The end of all calls together.
    deadline: std::sync::Mutex<Option<Instant>>,
}

impl MonitorClient {
    /// `patience` is the deadline of every call, connecting included.
    pub fn new(target: Target, options: ConnectOptions, patience: Duration) -> MonitorClient {
        MonitorClient {
            connector: Arc::new(Connector::new(target, options)),
            kept: Mutex::new(None),
            listening: false,
            notices: std::sync::Mutex::new(Vec::new()),
            patience,
            answer_patience: patience,
            deadline: std::sync::Mutex::new(None),
        }
    }

    /// From now on no call goes on after this moment, whatever its own patience; `None`: each has its own.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        // A poisoned lock means that another setter panicked; the value in it is whole.
        *self.deadline.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = deadline;
    }

    /// When a call that begins now must be over.
    fn deadline(&self) -> Instant {
        let own = Instant::now() + self.patience;
        let whole = *self.deadline.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        whole.map_or(own, |whole| whole.min(own))
    }

    /// Gives a single monitor only `answer_patience` before another one is asked, where that is harmless.
    pub fn with_answer_patience(mut self, answer_patience: Duration) -> MonitorClient {
        self.answer_patience = answer_patience.min(self.patience);
        self
    }

    /// Has the kept session LISTEN to state changes, for [`MonitorClient::heard`]: a client that must
    /// do with one connection.
    pub fn listening(mut self) -> MonitorClient {
        self.listening = true;
        self
    }

    pub fn target(&self) -> &Target {
        self.connector.target()
    }

    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// A connection of its own, for a transaction or for psql-like use.
    pub async fn session(&self) -> Result<Session, CallError> {
        Ok(self.connector.connect(self.deadline()).await?)
    }

    /// Follows state changes from now on.
    pub async fn listen(&self) -> Result<StateStream, CallError> {
        StateStream::open(self.connector.clone(), self.deadline()).await
    }

    /// The notices of the calls since the last time this was asked.
    pub fn take_notices(&self) -> Vec<ServerError> {
        // A poisoned lock means that another taker panicked; a list of notices stays usable.
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// The monitor that the kept session leads to.
    pub async fn connected_to(&self) -> Option<String> {
        self.kept.lock().await.as_ref().map(|session| session.endpoint().to_string())
    }

    /// Runs SQL, over and over until an answer comes or the call's deadline, as far as `repeat` allows.
    pub async fn run(&self, sql: &str, repeat: Repeat) -> Result<Vec<Row>, CallError> {
        let deadline = self.deadline();
        let mut pause = Duration::from_millis(20);
        let mut kept = self.kept.lock().await;
        loop {
            let session = match kept.take().filter(|session| !session.is_closed()) {
                Some(session) => session,
                None => Arc::new(self.connect(deadline).await?),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = match repeat {
                Repeat::Harmless => left.min(self.answer_patience),
                // Leaving early would only mean not to know the outcome.
                Repeat::Careful => left,
            };
            let answer = session.query(sql, patience).await;
            self.keep_notices(&session);
            let error = match answer {
                Ok(rows) => {
                    *kept = Some(session);
                    return Ok(rows);
                }
                Err(error) => error,
            };
            let may_repeat = match repeat {
                Repeat::Harmless => error.is_transient(),
                Repeat::Careful => error.is_transient() && !error.outcome_unknown(),
            };
            match &error {
                // The session is fine, the statement was not.
                CallError::Server(_) if !error.is_transient() => *kept = Some(session),
                _ => self.connector.avoid(session.endpoint()),
            }
            if !may_repeat || Instant::now() + pause >= deadline {
                return Err(error);
            }
            match &error {
                CallError::Silent { .. } | CallError::Lost { .. } => {
                    info!(target: crate::MOVED, "{error}; asking another monitor");
                }
                _ => debug!(%error, "asking again"),
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    async fn connect(&self, deadline: Instant) -> Result<Session, CallError> {
        loop {
            let session = self.connector.connect(deadline).await?;
            if !self.listening {
                return Ok(session);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match session.query("LISTEN \"state\"", left.min(self.answer_patience)).await {
                Ok(_) => return Ok(session),
                Err(error) if !error.is_transient() || Instant::now() >= deadline => return Err(error),
                Err(_) => self.connector.avoid(session.endpoint()),
            }
        }
    }

    /// The next state change that the kept session hears of; `None` when none came in time, or when
    /// there is no session: the next call makes one. Calls may be made meanwhile.
    pub async fn heard(&self, patience: Duration) -> Option<StateNotification> {
        let deadline = Instant::now() + patience;
        loop {
            let session = self.kept.lock().await.clone();
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(session) = session.filter(|session| !session.is_closed()) else {
                sleep(left).await;
                return None;
            };
            match session.listened(left).await {
                Ok(Some(message)) if message.channel == "state" => {
                    if let Some(state) = StateNotification::parse(&message.payload) {
                        return Some(state);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(_) => {
                    sleep(left).await;
                    return None;
                }
            }
        }
    }

    fn keep_notices(&self, session: &Session) {
        self.notices.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(session.take_notices());
    }
}
