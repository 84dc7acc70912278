//! Finding a monitor that answers.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use crate::error::{ServerError, shown};
use crate::session::Session;
use crate::target::{Endpoint, Target};
use crate::tls::Tls;

/// Deadlines of connecting.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// One attempt: TCP connect, startup and authentication together.
    pub attempt: Duration,
    /// The pause after a round in which no monitor answered; it doubles up to `backoff_max`, and
    /// each pause is drawn from its upper half.
    pub backoff: Duration,
    pub backoff_max: Duration,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            attempt: Duration::from_secs(2),
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
        }
    }
}

/// Why one attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Refused,
    /// Nothing came back within the attempt's deadline.
    Silent(Duration),
    /// The server answered with an error.
    Server(ServerError),
    /// What the connection string asks for cannot be done; nothing was sent.
    Unsupported(String),
    Other(String),
}

impl Failure {
    /// Trying again will not help: wrong password, no such role or database.
    fn is_permanent(&self) -> bool {
        match self {
            Failure::Server(error) => error.code.starts_with("28") || error.code == "3D000",
            Failure::Unsupported(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => write!(f, "connection refused"),
            Failure::Silent(after) => write!(f, "no answer within {}", shown(*after)),
            Failure::Server(error) => write!(f, "{error}"),
            Failure::Unsupported(text) | Failure::Other(text) => write!(f, "{text}"),
        }
    }
}

/// What one monitor said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub endpoint: Endpoint,
    pub failure: Failure,
    pub tries: u32,
}

/// No monitor could be reached; says what each of them answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConnectError {
    pub attempts: Vec<Attempt>,
    pub elapsed: Duration,
    /// Every monitor refused for a reason that time does not heal.
    pub permanent: bool,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.permanent {
            true => write!(f, "no monitor let us in:")?,
            false => write!(f, "no monitor could be reached in {}:", shown(self.elapsed))?,
        }
        for attempt in &self.attempts {
            write!(f, "\n  {}: {}", attempt.endpoint, attempt.failure)?;
            if attempt.tries > 1 {
                write!(f, " ({} attempts)", attempt.tries)?;
            }
        }
        Ok(())
    }
}

/// Connects to whichever monitor answers, the last good one first.
#[derive(Debug)]
pub struct Connector {
    target: Target,
    /// Or why the target's files do not allow it.
    tls: Result<Tls, String>,
    options: ConnectOptions,
    last_good: AtomicUsize,
}

impl Connector {
    pub fn new(target: Target, options: ConnectOptions) -> Connector {
        let attempt = target.connect_timeout.unwrap_or(options.attempt);
        let tls = Tls::of(&target);
        Connector { target, tls, options: ConnectOptions { attempt, ..options }, last_good: AtomicUsize::new(0) }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A session with any monitor, at the latest at `deadline`.
    pub async fn connect(&self, deadline: Instant) -> Result<Session, ConnectError> {
        let started = Instant::now();
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut backoff = self.options.backoff;
        loop {
            let first = self.last_good.load(Ordering::Relaxed);
            let count = self.target.endpoints.len();
            let mut all_permanent = count > 0;
            for step in 0..count {
                let index = (first + step) % count;
                let endpoint = &self.target.endpoints[index];
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() && !attempts.is_empty() {
                    return Err(ConnectError { attempts, elapsed: started.elapsed(), permanent: false });
                }
                let patience = self.options.attempt.min(left);
                match self.attempt(endpoint, patience).await {
                    Ok(session) => {
                        self.last_good.store(index, Ordering::Relaxed);
                        // One that came round in the end needs no word.
                        for attempt in attempts.iter().filter(|attempt| attempt.endpoint != *endpoint) {
                            info!(
                                target: crate::MOVED,
                                "{}: {}; going on with {endpoint}", attempt.endpoint, attempt.failure
                            );
                        }
                        return Ok(session);
                    }
                    Err(failure) => {
                        debug!(%endpoint, %failure, "monitor not usable");
                        all_permanent &= failure.is_permanent();
                        note(&mut attempts, endpoint, failure);
                    }
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if all_permanent || left.is_zero() || count == 0 {
                return Err(ConnectError { attempts, elapsed: started.elapsed(), permanent: all_permanent });
            }
            sleep(jittered(backoff).min(left)).await;
            backoff = (backoff * 2).min(self.options.backoff_max);
        }
    }

    /// The next connection starts with another monitor: the present one proved useless.
    pub fn avoid(&self, endpoint: &Endpoint) {
        let current = self.last_good.load(Ordering::Relaxed);
        let count = self.target.endpoints.len().max(1);
        if self.target.endpoints.get(current) == Some(endpoint) {
            self.last_good.store((current + 1) % count, Ordering::Relaxed);
        }
    }

    /// One attempt at one monitor. tokio-postgres' own timeout ends with the TCP connect, so that
    /// the deadline is put around everything.
    async fn attempt(&self, endpoint: &Endpoint, patience: Duration) -> Result<Session, Failure> {
        let tls = self.tls.clone().map_err(|what| Failure::Unsupported(format!("not tried: {what}")))?;
        match timeout(patience, Session::open(&self.target, tls, endpoint)).await {
            Err(_) => Err(Failure::Silent(patience)),
            Ok(Err(error)) => Err(classify(&error)),
            Ok(Ok(session)) => Ok(session),
        }
    }
}

fn note(attempts: &mut Vec<Attempt>, endpoint: &Endpoint, failure: Failure) {
    match attempts.iter_mut().find(|a| a.endpoint == *endpoint) {
        Some(attempt) => {
            attempt.failure = failure;
            attempt.tries += 1;
        }
        None => attempts.push(Attempt { endpoint: endpoint.clone(), failure, tries: 1 }),
    }
}

fn classify(error: &tokio_postgres::Error) -> Failure {
    if let Some(db) = error.as_db_error() {
        return Failure::Server(ServerError::from_db(db));
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::ConnectionRefused => Failure::Refused,
                _ => Failure::Other(io.to_string()),
            };
        }
        source = inner.source();
    }
    Failure::Other(describe(error))
}

/// The error with its causes; tokio-postgres' own text names the kind only.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// Something in the upper half of `duration`, so that clients that lost the same monitor do not
/// come back in step.
pub(crate) fn jittered(duration: Duration) -> Duration {
    // RandomState is seeded anew for every instance: random enough for this, and no dependency.
    let random = std::hash::RandomState::new().build_hasher().finish();
    let half = duration.as_micros() as u64 / 2;
    Duration::from_micros(half + random % (half + 1))
}
