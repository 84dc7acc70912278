//! What tests of several commands need: golden files, and a cluster that stands still.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use failover::Snapshot;
use failover::simulation::{Cluster, registration};
use failover::state::Generation;
use monitor_client::ReplicaRow;

/// Compares with a file of `cli/tests/golden`; `UPDATE_GOLDEN=1` writes it anew.
pub fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(wanted == found, "{name} is to be\n{wanted}\nand is\n{found}");
}

/// A primary and two secondaries of ours.
pub fn settled() -> Snapshot {
    let mut cluster = Cluster::new();
    for name in ["node1", "node2", "node3"] {
        let mut call = registration(name);
        call.generation = Generation::Pgquorum;
        cluster.register(call).unwrap();
        cluster.settle(|_, _, _| {});
        probe(&mut cluster);
        cluster.settle(|_, _, _| {});
    }
    Snapshot::of(&cluster.state, &cluster.observations, cluster.now, "default", 0)
}

fn probe(cluster: &mut Cluster) {
    let ids: Vec<i64> = cluster.keepers.keys().copied().collect();
    for id in ids {
        let health = failover::Health::Good;
        cluster.call(failover::Command::HealthChecked { id, health }).unwrap();
    }
}

/// Three monitors; m1 leads.
pub fn replicas() -> Vec<ReplicaRow> {
    let one = |number: u16| ReplicaRow {
        name: format!("m{number}"),
        host: format!("10.0.1.{number}"),
        port: 5432,
        replica_port: 15432,
        role: if number == 1 { "leader" } else { "follower" }.to_string(),
        term: Some(4),
        applied_index: Some(1200 - i64::from(number)),
        lag: Some(i64::from(number) - 1),
        version: Some("0.1.0".to_string()),
    };
    (1..=3).map(one).collect()
}
