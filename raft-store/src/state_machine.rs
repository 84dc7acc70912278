//! What the application gives: the thing that entries are applied to.

/// A deterministic state machine. Replicas that applied the same entries in the same order must be
/// equal, byte for byte, whatever release they run; so `apply` reads no clock, no random source, no
/// environment, and iterates no hash map.
///
/// raft-store keeps it behind the `Arc<RwLock<_>>` that the caller handed to
/// [`Replica::start`](crate::Replica::start): the caller reads through its own clone of the lock. The
/// lock is held for writing during one `apply` or `restore`, for reading during `snapshot`, and never
/// across I/O.
///
/// The state itself is not written to disk at each apply: at start it is rebuilt from the newest
/// snapshot and the log.
pub trait StateMachine: Send + Sync + 'static {
    /// Applies the entry that [`Replica::propose`](crate::Replica::propose) replicated at `index` and
    /// returns the response for its proposer. Indexes grow but are not contiguous: raft-store's own
    /// entries lie between. Infallible: an entry that cannot be carried out answers so in its
    /// response. A panic stops the replica.
    fn apply(&mut self, index: u64, entry: &[u8]) -> Vec<u8>;

    /// The whole state as bytes; versioned by the application.
    fn snapshot(&self) -> Vec<u8>;

    /// Replaces the whole state. Must leave the old state alone when it returns an error (for
    /// instance for a snapshot of a newer release); the replica then stops.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String>;
}
