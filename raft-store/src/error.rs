//! Errors of the public API.

use std::path::PathBuf;

/// Why a replica could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(String),
    /// Certificates or keys cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(String, std::io::Error),
    /// The store cannot be used. Nothing was changed on disk.
    #[error(
        "{path}: {what}. Nothing was changed. A replica must not go on with a store that may have forgotten what it \
         acknowledged; if the other replicas are healthy, let this one fetch everything anew: \
         pgquorum run --pgdata DIR --rejoin"
    )]
    Store {
        /// File or directory that is wrong.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Something the system refused (disk full, permissions).
    #[error("{path}: {source}")]
    Io {
        /// File or directory.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Consensus would not start over this store.
    #[error("consensus: {0}")]
    Raft(String),
}

/// Why a proposal has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Surely not applied, now or later: this replica did not accept it. Ask `leader`, when known.
    #[error("this replica is not the leader (leader: {leader:?})")]
    NotLeader {
        /// Who leads as far as is known; may be stale.
        leader: Option<u64>,
    },
    /// It may be applied or not, now or later (lost leadership, deadline passed). The caller must be
    /// able to propose again without harm.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// Refused before anything was written: the entry exceeds the limit.
    #[error("entry of {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// This replica has stopped for good; restart the process. An entry under way may be applied by
    /// the others or not, as with `Unknown`.
    #[error("this replica has stopped: {0}")]
    Fatal(String),
}

/// Why an application call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not delivered: the handler over there surely did not see it.
    #[error("not delivered: {0}")]
    Unreachable(String),
    /// Sent, but unanswered at the deadline or when the connection broke: it may have been handled.
    #[error("no answer: {0}")]
    Lost(String),
    /// No such replica.
    #[error("replica {0} is unknown")]
    UnknownPeer(u64),
    /// The body exceeds the limit; nothing was sent.
    #[error("body of {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The most that is accepted.
        limit: usize,
    },
}

/// Why a membership change did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Ask the leader.
    #[error("this replica is not the leader (leader: {leader:?})")]
    NotLeader {
        /// Who leads as far as is known.
        leader: Option<u64>,
    },
    /// It would be wrong, or another change is under way; the text says which.
    #[error("{0}")]
    Refused(String),
    /// No result before the deadline; it may still happen.
    #[error("no result before the deadline; the change may still happen")]
    Deadline,
}
