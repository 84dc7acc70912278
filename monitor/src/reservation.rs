//! Registrations in an open transaction keep others in their formation waiting.
//!
//! Stock clients register in a transaction of their own making: BEGIN, register_node, writing their
//! local files, COMMIT. Two at once would be told the same node id, and one would fail at COMMIT,
//! which that client cannot repeat. So the leader lets the second wait. This is a courtesy, not the
//! guard: a commit is decided anew on the state that it finds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::sql::backend::TransactionId;

/// How long an open registration keeps others out without a sign of life.
const LEASE: Duration = Duration::from_secs(30);
/// How long a second registration waits before its client is told to try again (55006).
const PATIENCE: Duration = Duration::from_secs(5);

/// The formations in which a registration is under way on this leader.
#[derive(Default)]
pub struct Reservations {
    held: Mutex<BTreeMap<String, (TransactionId, Instant)>>,
    released: Notify,
}

impl Reservations {
    /// Waits until nobody but `owner` holds the formation; with an owner, holds it then.
    ///
    /// # Errors
    /// The formation stayed busy for [`PATIENCE`].
    pub async fn acquire(&self, formation: &str, owner: Option<TransactionId>) -> Result<(), ()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Registered before the look, so that a release in between is not missed.
            released.as_mut().enable();
            if self.try_acquire(formation, owner) {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, released).await.is_err() {
                return if self.try_acquire(formation, owner) { Ok(()) } else { Err(()) };
            }
        }
    }

    fn try_acquire(&self, formation: &str, owner: Option<TransactionId>) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let other = held.get(formation).is_some_and(|(holder, until)| Some(*holder) != owner && *until > now);
        if other {
            return false;
        }
        match owner {
            Some(owner) => held.insert(formation.to_string(), (owner, now + LEASE)),
            None => held.remove(formation),
        };
        true
    }

    /// Gives up everything that a transaction holds.
    pub fn release(&self, owner: TransactionId) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (holder, _)| *holder != owner);
        self.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: TransactionId = TransactionId { replica: 1, session: 1 };
    const SECOND: TransactionId = TransactionId { replica: 2, session: 1 };

    #[tokio::test(start_paused = true)]
    async fn a_second_registration_waits_for_the_first() {
        let reservations = std::sync::Arc::new(Reservations::default());
        assert!(reservations.acquire("default", Some(FIRST)).await.is_ok());
        assert!(reservations.acquire("default", Some(FIRST)).await.is_ok());
        assert!(reservations.acquire("other", Some(SECOND)).await.is_ok());
        let waiting = tokio::spawn({
            let reservations = reservations.clone();
            async move { reservations.acquire("default", Some(SECOND)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        reservations.release(FIRST);
        assert_eq!(waiting.await.ok(), Some(Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_and_so_does_a_forgotten_reservation() {
        let reservations = Reservations::default();
        assert!(reservations.acquire("default", Some(FIRST)).await.is_ok());
        assert!(reservations.acquire("default", None).await.is_err());
        tokio::time::advance(LEASE).await;
        assert!(reservations.acquire("default", None).await.is_ok());
    }
}
