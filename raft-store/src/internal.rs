//! raft-store's own replicated bookkeeping: the cluster's id and who its members are.
//!
//! It travels in the same log as the application's entries and is applied around them. It answers
//! one question: is the store behind this peer the one that joined the cluster, or an emptied
//! successor that has forgotten the votes and entries it once acknowledged?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Kind};

/// Sixteen random bytes, unique to one life of one store (or to one cluster).
pub type Id16 = [u8; 16];

/// Newest version of [`Internal`] that we read, and the one we write.
const VERSION: u16 = 1;

/// One internal command. Append-only: variants are never removed, reordered or edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Internal {
    /// Names the cluster; the first one in the log wins.
    SetClusterId(Id16),
    /// Remembers under which incarnation a member joined; the first one wins.
    Record { id: u64, incarnation: Id16 },
    /// A rejoin: replaces the incarnation of a replica that is no voter at this moment.
    Replace { id: u64, incarnation: Id16 },
    /// A removed member: its id may be taken by a new store.
    Forget { id: u64 },
}

impl Internal {
    /// With its envelope.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode_sealed(Kind::Internal, VERSION, self)
    }

    /// From its envelope; an unknown command is an error, never skipped.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (_, payload) = codec::open(Kind::Internal, VERSION, bytes)?;
        codec::decode(payload)
    }
}

/// What the internal commands have built so far. Part of every snapshot (frozen with it).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bookkeeping {
    /// The cluster's id, once its first leader has named it.
    pub cluster_id: Option<Id16>,
    /// Incarnation under which each member joined.
    pub incarnations: BTreeMap<u64, Id16>,
}

impl Bookkeeping {
    /// Applies one command. Deterministic; `is_voter` comes from the applied membership.
    pub fn apply(&mut self, command: &Internal, is_voter: impl Fn(u64) -> bool) {
        match command {
            Internal::SetClusterId(id) => {
                self.cluster_id.get_or_insert(*id);
            }
            Internal::Record { id, incarnation } => {
                self.incarnations.entry(*id).or_insert(*incarnation);
            }
            Internal::Replace { id, incarnation } => {
                if !is_voter(*id) {
                    self.incarnations.insert(*id, *incarnation);
                }
            }
            Internal::Forget { id } => {
                if !is_voter(*id) {
                    self.incarnations.remove(id);
                }
            }
        }
    }

    /// May this peer take part? The text says why not.
    pub fn admit(&self, id: u64, incarnation: &Id16) -> Result<(), String> {
        match self.incarnations.get(&id) {
            Some(known) if known != incarnation => Err(format!(
                "replica {id} joined this cluster with store {}, but now presents store {}: its store was emptied, \
                 replaced or restored from a copy and has forgotten what it acknowledged. It may not vote or \
                 replicate. Make it rejoin: pgquorum run --pgdata DIR --rejoin",
                short(known),
                short(incarnation)
            )),
            _ => Ok(()),
        }
    }
}

/// The first eight hexadecimal digits, for people.
pub fn short(id: &Id16) -> String {
    id[..4].iter().map(|b| format!("{b:02x}")).collect()
}

/// Sixteen bytes from the system's random source.
pub fn random_id() -> std::io::Result<Id16> {
    use std::io::Read;
    let mut id = [0u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut id)?;
    Ok(id)
}
