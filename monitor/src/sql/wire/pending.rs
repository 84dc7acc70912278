//! Notifications on their way to a client.
//!
//! `pg_autoctl` 2.0 waits for notifications like this: LISTEN again, wait for the socket to become
//! readable, read. What comes together with the answer to LISTEN is taken off the socket by libpq and
//! not looked at before more comes; and what belongs together (the `log` and the `state` message of one
//! event, the events of one decision) and comes in two pieces has a LISTEN between them. A client that
//! has missed the last message so waits out its 60 s and fails. Hence all that is notified within
//! [`HOLD`] is sent together, and nothing within [`HOLD`] after the answer to a LISTEN.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, sleep_until};

use crate::sql::backend::Notification;

/// Long for a client that goes from its LISTEN to waiting, short for people.
const HOLD: Duration = Duration::from_millis(15);

/// What a session has been notified of and not been sent yet.
#[derive(Default)]
pub struct Pending {
    receiver: Option<Receiver<Arc<Notification>>>,
    held: Vec<Arc<Notification>>,
    release: Option<Instant>,
}

impl Pending {
    /// Subscribes or unsubscribes; a subscription goes on.
    pub fn listen(&mut self, listens: bool, subscribe: impl FnOnce() -> Receiver<Arc<Notification>>) {
        if !listens {
            *self = Pending::default();
        } else if self.receiver.is_none() {
            self.receiver = Some(subscribe());
        }
    }

    /// The answer to a LISTEN goes out now.
    pub fn listened(&mut self) {
        self.release = Some(Instant::now() + HOLD);
    }

    /// Takes what has come, to be sent with the answer to a statement. Nothing soon after a LISTEN.
    pub fn take(&mut self) -> Vec<Arc<Notification>> {
        self.collect();
        if self.release.is_some_and(|release| Instant::now() < release) {
            return Vec::new();
        }
        self.release = None;
        std::mem::take(&mut self.held)
    }

    /// Waits for notifications to send while the session is idle. May be dropped at any time.
    pub async fn ready(&mut self) -> Vec<Arc<Notification>> {
        if self.held.is_empty() {
            let first = match &mut self.receiver {
                Some(receiver) => receiver.recv().await,
                None => std::future::pending().await,
            };
            match first {
                Ok(notification) => self.held.push(notification),
                Err(RecvError::Lagged(missed)) => lagged(missed),
                Err(RecvError::Closed) => self.receiver = None,
            }
        }
        let soon = Instant::now() + HOLD;
        let release = *self.release.get_or_insert(soon);
        sleep_until(release).await;
        self.take()
    }

    fn collect(&mut self) {
        while let Some(receiver) = &mut self.receiver {
            match receiver.try_recv() {
                Ok(notification) => self.held.push(notification),
                Err(TryRecvError::Lagged(missed)) => lagged(missed),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Closed) => self.receiver = None,
            }
        }
    }
}

fn lagged(missed: u64) {
    tracing::warn!("a listening session was too slow and missed {missed} notifications");
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::broadcast;

    fn message(channel: &str) -> Arc<Notification> {
        Arc::new(Notification { channel: channel.to_string(), payload: String::new() })
    }

    fn channels(notifications: &[Arc<Notification>]) -> Vec<&str> {
        notifications.iter().map(|n| n.channel.as_str()).collect()
    }

    #[tokio::test]
    async fn what_belongs_together_is_sent_together() {
        let (sender, receiver) = broadcast::channel(16);
        let mut pending = Pending::default();
        pending.listen(true, || receiver);
        let send = async {
            let _ = sender.send(message("log"));
            tokio::task::yield_now().await;
            let _ = sender.send(message("state"));
        };
        let (sent, ()) = tokio::join!(pending.ready(), send);
        assert_eq!(channels(&sent), ["log", "state"]);
    }

    #[tokio::test]
    async fn nothing_goes_with_the_answer_to_listen() {
        let (sender, receiver) = broadcast::channel(16);
        let mut pending = Pending::default();
        pending.listen(true, || receiver);
        let _ = sender.send(message("state"));
        pending.listened();
        assert!(pending.take().is_empty());
        assert_eq!(channels(&pending.ready().await), ["state"]);
        let _ = sender.send(message("log"));
        assert_eq!(channels(&pending.take()), ["log"], "with the answer to any other statement");
    }
}
