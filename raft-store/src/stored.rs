//! The frozen formats of what is stored and sent, and the mapping to and from openraft's types.
//!
//! openraft's own types change between its alphas, so none of them ever reaches a disk or a wire.
//! Structs in here are frozen: golden byte fixtures in the tests guard them.

use std::collections::{BTreeMap, BTreeSet};

use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderId;
use openraft::EntryPayload;
use serde::{Deserialize, Serialize};

use crate::codec::{self, Blob, CodecError, Kind};
use crate::internal::Internal;
use crate::types::{Command, Entry, LogId, Membership, Node, SnapshotMeta, StoredMembershipOf, Vote};

/// Newest version of every stored format that this release reads; also the one that it writes.
pub const VERSION: u16 = 1;

type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;

/// Term, node that led the term, index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLogId {
    pub term: u64,
    pub node: u64,
    pub index: u64,
}

/// A vote: for whom, and whether a quorum granted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVote {
    pub term: u64,
    pub node: u64,
    pub committed: bool,
}

/// Address of one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredNode {
    pub name: String,
    pub host: String,
    pub port: u16,
}

/// A membership: one voter set, or two while a change is under way, and all nodes with addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMembership {
    pub voters: Vec<Vec<u64>>,
    pub nodes: Vec<(u64, StoredNode)>,
}

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredPayload {
    Blank,
    Application(Blob),
    Internal(Blob),
    Membership(StoredMembership),
}

/// One log entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEntry {
    pub term: u64,
    pub node: u64,
    pub index: u64,
    pub payload: StoredPayload,
}

/// What a snapshot covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSnapshotMeta {
    pub last: Option<StoredLogId>,
    pub membership_at: Option<StoredLogId>,
    pub membership: StoredMembership,
}

impl From<&LogId> for StoredLogId {
    fn from(id: &LogId) -> Self {
        let leader = id.committed_leader_id();
        StoredLogId { term: leader.term, node: leader.node_id, index: id.index() }
    }
}

impl From<StoredLogId> for LogId {
    fn from(s: StoredLogId) -> Self {
        LogId::new(LeaderId::new(s.term, s.node), s.index)
    }
}

impl From<&Vote> for StoredVote {
    fn from(v: &Vote) -> Self {
        StoredVote { term: v.leader_id.term, node: v.leader_id.node_id, committed: v.committed }
    }
}

impl From<StoredVote> for Vote {
    fn from(s: StoredVote) -> Self {
        if s.committed { Vote::new_committed(s.term, s.node) } else { Vote::new(s.term, s.node) }
    }
}

impl From<&Membership> for StoredMembership {
    fn from(m: &Membership) -> Self {
        StoredMembership {
            voters: m.get_joint_config().iter().map(|set| set.iter().copied().collect()).collect(),
            nodes: m
                .nodes()
                .map(|(id, n)| (*id, StoredNode { name: n.name.clone(), host: n.host.clone(), port: n.port }))
                .collect(),
        }
    }
}

impl StoredMembership {
    /// Back to openraft's type; refuses a voter without an address.
    pub fn restore(self) -> Result<Membership, CodecError> {
        if self.voters.is_empty() && self.nodes.is_empty() {
            return Ok(Membership::default());
        }
        let voters: Vec<BTreeSet<u64>> = self.voters.into_iter().map(|v| v.into_iter().collect()).collect();
        let nodes: BTreeMap<u64, Node> =
            self.nodes.into_iter().map(|(id, n)| (id, Node { name: n.name, host: n.host, port: n.port })).collect();
        Membership::new(voters, nodes).map_err(|e| CodecError::Payload(format!("membership: {e}")))
    }
}

impl StoredEntry {
    /// From openraft's entry.
    pub fn from_entry(e: &Entry) -> Result<Self, CodecError> {
        let id = StoredLogId::from(&e.log_id);
        let payload = match &e.payload {
            EntryPayload::Blank => StoredPayload::Blank,
            EntryPayload::Normal(Command::Application(b)) => StoredPayload::Application(Blob(b.clone())),
            EntryPayload::Normal(Command::Internal(i)) => StoredPayload::Internal(Blob(i.encode()?)),
            EntryPayload::Membership(m) => StoredPayload::Membership(m.into()),
        };
        Ok(StoredEntry { term: id.term, node: id.node, index: id.index, payload })
    }

    /// To openraft's entry.
    pub fn into_entry(self) -> Result<Entry, CodecError> {
        let id = LogId::from(StoredLogId { term: self.term, node: self.node, index: self.index });
        let payload = match self.payload {
            StoredPayload::Blank => EntryPayload::Blank,
            StoredPayload::Application(b) => EntryPayload::Normal(Command::Application(b.0)),
            StoredPayload::Internal(b) => EntryPayload::Normal(Command::Internal(Internal::decode(&b.0)?)),
            StoredPayload::Membership(m) => EntryPayload::Membership(m.restore()?),
        };
        Ok(Entry::new(id, payload))
    }

    /// Roughly the bytes that this entry takes on the wire.
    pub fn weight(&self) -> usize {
        64 + match &self.payload {
            StoredPayload::Blank => 0,
            StoredPayload::Application(b) | StoredPayload::Internal(b) => b.0.len(),
            StoredPayload::Membership(m) => m.nodes.len() * 128,
        }
    }
}

/// An entry in its envelope.
pub fn encode_entry(e: &Entry) -> Result<Vec<u8>, CodecError> {
    codec::encode_sealed(Kind::Entry, VERSION, &StoredEntry::from_entry(e)?)
}

/// An entry from its envelope.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    let (_, payload) = codec::open(Kind::Entry, VERSION, bytes)?;
    codec::decode::<StoredEntry>(payload)?.into_entry()
}

/// A vote in its envelope.
pub fn encode_vote(v: &Vote) -> Result<Vec<u8>, CodecError> {
    codec::encode_sealed(Kind::Vote, VERSION, &StoredVote::from(v))
}

/// A vote from its envelope.
pub fn decode_vote(bytes: &[u8]) -> Result<Vote, CodecError> {
    let (_, payload) = codec::open(Kind::Vote, VERSION, bytes)?;
    Ok(codec::decode::<StoredVote>(payload)?.into())
}

/// A log id in its envelope.
pub fn encode_log_id(id: &LogId) -> Result<Vec<u8>, CodecError> {
    codec::encode_sealed(Kind::LogId, VERSION, &StoredLogId::from(id))
}

/// A log id from its envelope.
pub fn decode_log_id(bytes: &[u8]) -> Result<LogId, CodecError> {
    let (_, payload) = codec::open(Kind::LogId, VERSION, bytes)?;
    Ok(codec::decode::<StoredLogId>(payload)?.into())
}

impl From<&SnapshotMeta> for StoredSnapshotMeta {
    fn from(m: &SnapshotMeta) -> Self {
        StoredSnapshotMeta {
            last: m.last_log_id.as_ref().map(Into::into),
            membership_at: m.last_membership.log_id().as_ref().map(Into::into),
            membership: m.last_membership.membership().into(),
        }
    }
}

impl StoredSnapshotMeta {
    /// Back to openraft's type.
    pub fn restore(self) -> Result<SnapshotMeta, CodecError> {
        Ok(SnapshotMeta {
            last_log_id: self.last.map(Into::into),
            last_membership: StoredMembershipOf::new(self.membership_at.map(Into::into), self.membership.restore()?),
        })
    }
}
