//! Messages between replicas, protocol version 1. Frozen like the stored formats: enums are
//! append-only, structs are never edited.

use serde::{Deserialize, Serialize};

use crate::codec::{self, Blob, CodecError};
use crate::internal::Id16;
use crate::stored::{StoredEntry, StoredLogId, StoredSnapshotMeta, StoredVote};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Raft and application calls between admitted members.
    Member,
    /// Only `Probe` and `Rejoin` are served; the incarnation is not checked.
    Visitor,
}

/// Who is speaking. Both sides of a handshake say this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    pub id: u64,
    pub name: String,
    pub incarnation: Id16,
    /// Applied index at which this store finds its own incarnation in the records; `None` while it does
    /// not. Whoever has applied less cannot judge it.
    pub confirmed_at: Option<u64>,
    pub cluster_id: Option<Id16>,
    /// Release of the application, for people.
    pub software: String,
    /// Oldest and newest cluster version that this replica understands.
    pub cluster_versions: (u16, u16),
    /// Has this store ever taken part in a cluster?
    pub initialised: bool,
    /// Fingerprint of the configured member list.
    pub members: u32,
    /// Term, for operators reading a probe.
    pub term: u64,
}

/// First frame of the connecting side. `Hello`, `Introduction` and `Welcome` keep this layout in
/// every protocol version: they are read before the version is agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: (u16, u16),
    pub purpose: Purpose,
    /// The replica that the sender believes to be connecting to.
    pub to: u64,
    pub from: Introduction,
}

/// Why a connection was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    Protocol(String),
    WrongReplica(String),
    WrongCluster(String),
    WrongIncarnation(String),
    Busy(String),
}

impl Refusal {
    /// The text for people.
    pub fn text(&self) -> &str {
        match self {
            Refusal::Protocol(t)
            | Refusal::WrongReplica(t)
            | Refusal::WrongCluster(t)
            | Refusal::WrongIncarnation(t)
            | Refusal::Busy(t) => t,
        }
    }
}

/// The answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Welcome {
    Accepted { protocol: u16, from: Introduction },
    Refused(Refusal),
}

/// AppendEntries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    pub vote: StoredVote,
    pub prev: Option<StoredLogId>,
    pub commit: Option<StoredLogId>,
    pub entries: Vec<StoredEntry>,
}

/// RequestVote and pre-vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    pub vote: StoredVote,
    pub last: Option<StoredLogId>,
    pub transfer: bool,
}

/// One piece of a snapshot. The piece that completes it is answered after installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPiece {
    pub vote: StoredVote,
    pub meta: StoredSnapshotMeta,
    pub offset: u64,
    pub total: u64,
    pub data: Blob,
}

/// Leadership handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    pub from: StoredVote,
    pub to: u64,
    pub last: Option<StoredLogId>,
}

/// "Take me back under a new incarnation."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejoin {
    pub id: u64,
    pub name: String,
    pub host: String,
    pub port: u16,
    pub incarnation: Id16,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    Append(Append),
    Vote(Ballot),
    PreVote(Ballot),
    Snapshot(SnapshotPiece),
    Handover(Handover),
    Call(Blob),
    Probe,
    Rejoin(Rejoin),
}

/// Outcome of an append.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Appended {
    Success,
    PartialSuccess(Option<StoredLogId>),
    Conflict,
    HigherVote(StoredVote),
}

/// How far a rejoin is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejoinProgress {
    /// Voter again.
    Done,
    /// A step was taken; ask again.
    Working(String),
    /// Ask this replica, or anybody when unknown.
    NotLeader(Option<u64>),
    /// Will not work however often it is asked.
    Refused(String),
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    Append(Appended),
    Vote { vote: StoredVote, last: Option<StoredLogId>, granted: bool },
    Snapshot { vote: Option<StoredVote> },
    Handover { accepted: bool, text: String },
    Call(Blob),
    Probe(Introduction),
    Rejoin(RejoinProgress),
    /// The request was not carried out.
    Failed(String),
}

/// Encodes a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    codec::encode(message)
}

/// Decodes a message; never panics, whatever the bytes.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    codec::decode(bytes)
}
