//! The configured members of the quorum, and what is known of each at the moment.

use std::collections::BTreeMap;

use raft_store::{Leadership, Role as RaftRole, Status, TlsConfig};

use crate::config::{Config, ConfigError, Replica};
use crate::sql::backend::{ReplicaRow, Role};

/// The directory of the store inside the data directory.
const STORE: &str = "store";

/// The members by Raft id, as the configuration names them.
pub struct Members {
    own: u64,
    replicas: BTreeMap<u64, Replica>,
}

impl Members {
    /// # Errors
    /// The monitor's own name is none of the replicas.
    pub fn new(config: &Config) -> Result<Members, ConfigError> {
        let replicas: BTreeMap<u64, Replica> = config.replica_ids().into_iter().collect();
        let own = replicas.iter().find(|(_, replica)| replica.name == config.name).map(|(id, _)| *id);
        match own {
            Some(own) => Ok(Members { own, replicas }),
            None => Err(ConfigError(format!("\"{}\" is none of the replicas", config.name))),
        }
    }

    /// What raft-store is started with.
    pub fn store_config(&self, config: &Config, rejoin: bool) -> raft_store::Config {
        let members = self
            .replicas
            .iter()
            .map(|(id, replica)| raft_store::Member {
                id: *id,
                name: replica.name.clone(),
                host: replica.host.clone(),
                port: replica.replica_port,
            })
            .collect();
        let own_port = self.replicas.get(&self.own).map_or(0, |replica| replica.replica_port);
        // One replica alone has nobody to talk to and offers the network nothing.
        let listen_host = match self.replicas.len() == 1 || config.test_mode {
            true => config.hostname.as_str(),
            false => crate::config::every_address(),
        };
        let listen = match listen_host.contains(':') {
            true => format!("[{listen_host}]:{own_port}"),
            false => format!("{listen_host}:{own_port}"),
        };
        let mut store = raft_store::Config::new(self.own, members, config.pgdata.join(STORE), listen);
        store.software = env!("CARGO_PKG_VERSION").to_string();
        store.cluster_versions = (1, crate::codec::VERSION);
        store.rejoin = rejoin;
        store.tls = config.replica_tls.as_ref().map(|tls| TlsConfig {
            ca: tls.ca_file.clone(),
            cert: tls.cert_file.clone(),
            key: tls.key_file.clone(),
        });
        store
    }

    /// The ids of the other members.
    pub fn peers(&self) -> impl Iterator<Item = u64> {
        self.replicas.keys().copied().filter(|id| *id != self.own)
    }

    /// A member's name, for people.
    pub fn name(&self, id: u64) -> &str {
        self.replicas.get(&id).map_or("?", |replica| &replica.name)
    }

    /// The facade's view of the replica's role.
    pub fn role(&self, known: Leadership) -> Role {
        match (known.role, known.leader) {
            _ if !known.leader_seen || known.stopped => Role::NoLeader,
            (RaftRole::Leader, _) => Role::Leader,
            (_, Some(leader)) if leader != known.id => Role::Follower { leader },
            _ => Role::NoLeader,
        }
    }

    /// `pgquorum.replica`, as this replica sees the quorum.
    pub fn rows(&self, status: &Status) -> Vec<ReplicaRow> {
        self.replicas.iter().map(|(id, replica)| self.row(*id, replica, status)).collect()
    }

    fn row(&self, id: u64, replica: &Replica, status: &Status) -> ReplicaRow {
        let leads = status.leader == Some(id) && status.leader_seen;
        let committed = status.committed.unwrap_or(0);
        let (role, stored, version) = if id == self.own {
            let role = match status.role {
                RaftRole::Leader if leads => "leader",
                RaftRole::Leader | RaftRole::Candidate => "candidate",
                RaftRole::Follower => "follower",
                RaftRole::Learner => "learner",
                RaftRole::Uninitialised => "uninitialised",
            };
            (role, status.applied_index, Some(env!("CARGO_PKG_VERSION").to_string()))
        } else {
            let peer = status.peers.iter().find(|peer| peer.id == id);
            let role = match peer {
                Some(peer) if peer.connected && leads => "leader",
                Some(peer) if peer.connected && status.learners.contains(&id) => "learner",
                Some(peer) if peer.connected => "follower",
                _ => "unreachable",
            };
            // A follower applies what it has stored as soon as it knows that it is committed.
            let stored = peer.and_then(|peer| peer.matched_index).map(|index| index.min(committed));
            (role, stored, peer.and_then(|peer| peer.software.clone()))
        };
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        ReplicaRow {
            id: number(id),
            name: replica.name.clone(),
            host: replica.host.clone(),
            port: replica.port.into(),
            replica_port: replica.replica_port.into(),
            role: role.to_string(),
            term: number(status.term),
            applied_index: stored.map_or(0, number),
            lag: stored.map(|index| number(committed.saturating_sub(index))),
            version,
        }
    }
}
