//! What a replica is told at start.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::tls::TlsConfig;

/// Where a peer is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Name or address; with TLS it must be in the peer's certificate.
    pub host: String,
    /// TCP port of the replicas' own protocol.
    pub port: u16,
}

/// One configured replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Unique in the cluster, never 0, kept for life.
    pub id: u64,
    /// For people.
    pub name: String,
    /// How *this* replica reaches it (own entry: how the others do).
    pub host: String,
    /// TCP port of the replicas' own protocol.
    pub port: u16,
}

impl Member {
    /// Host and port.
    pub fn address(&self) -> PeerAddress {
        PeerAddress { host: self.host.clone(), port: self.port }
    }
}

/// Configuration of one replica. [`Config::new`] fills in the measured defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Own id; must be in `members`.
    pub id: u64,
    /// The initial members, the same ids and names on every replica. Only bootstrap and address
    /// look-up use it; later changes are replicated.
    pub members: Vec<Member>,
    /// Directory of identity file, log and snapshots; created if missing.
    pub data_dir: PathBuf,
    /// `host:port` to listen on.
    pub listen: String,
    /// Milliseconds between heartbeats.
    pub heartbeat_ms: u64,
    /// Election timeout, lower bound in milliseconds; counted after the leader's lease, which is the
    /// upper bound: a lost leader is replaced after `max + random(min..max)`.
    pub election_timeout_min_ms: u64,
    /// Election timeout, upper bound in milliseconds, and the leader's lease.
    pub election_timeout_max_ms: u64,
    /// A snapshot is taken after this many log entries...
    pub snapshot_entries: u64,
    /// ...or this many bytes of log.
    pub snapshot_bytes: u64,
    /// Entries kept in the log after a snapshot, for followers that are a little behind.
    pub keep_entries: u64,
    /// Mutual TLS between replicas; `None` is plain TCP.
    pub tls: Option<TlsConfig>,
    /// The application's release, shown to peers and in `Status`.
    pub software: String,
    /// Oldest and newest cluster version that the application understands.
    pub cluster_versions: (u16, u16),
    /// Move the present store aside and come back as a new, empty member. For a replica whose store
    /// was lost or damaged. Use it for one start only: each such start begins anew.
    pub rejoin: bool,
}

impl Config {
    /// A configuration with the defaults that were measured (see docs/decisions/0001).
    pub fn new(id: u64, members: Vec<Member>, data_dir: impl Into<PathBuf>, listen: impl Into<String>) -> Config {
        Config {
            id,
            members,
            data_dir: data_dir.into(),
            listen: listen.into(),
            heartbeat_ms: 240,
            election_timeout_min_ms: 300,
            election_timeout_max_ms: 600,
            snapshot_entries: 10_000,
            snapshot_bytes: 16 << 20,
            keep_entries: 1_000,
            tls: None,
            software: String::new(),
            cluster_versions: (1, 1),
            rejoin: false,
        }
    }

    /// Own entry in `members`; errors in words.
    pub(crate) fn check(&self) -> Result<&Member, String> {
        let ids: BTreeSet<u64> = self.members.iter().map(|m| m.id).collect();
        if ids.len() != self.members.len() || ids.contains(&0) {
            return Err("member ids must be unique and not 0".into());
        }
        if self.members.iter().any(|m| m.name.len() > 200 || m.host.len() > 255) || self.software.len() > 200 {
            return Err("names of members and of the software are limited to 200 bytes, hosts to 255".into());
        }
        self.members
            .iter()
            .find(|m| m.id == self.id)
            .ok_or_else(|| format!("replica {} is not in its own member list", self.id))
    }

    /// Same on every replica with the same ids and names (addresses may differ by viewpoint).
    pub(crate) fn fingerprint(&self) -> u32 {
        let mut members: Vec<_> = self.members.iter().map(|m| (m.id, m.name.as_str())).collect();
        members.sort();
        members.iter().fold(0, |crc, (id, name)| {
            let crc = crc32c::crc32c_append(crc, &id.to_le_bytes());
            let crc = crc32c::crc32c_append(crc, name.as_bytes());
            crc32c::crc32c_append(crc, &[0])
        })
    }
}
