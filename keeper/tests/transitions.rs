//! The keeper table as files that a reviewer reads, and its promises.
#![allow(clippy::unwrap_used)]

use failover::NodeState::{self, *};
use keeper::transitions::{self, TABLE, Wanted, wanted};

fn golden(path: &str, text: &str) {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(stored, text, "{path} is stale: look at the difference, then UPDATE_GOLDEN=1");
}

#[test]
fn golden_files() {
    golden("tests/transitions.golden", &transitions::render());
    golden("../docs/reference/keeper-transitions.md", &transitions::render_markdown());
}

#[test]
fn no_edge_stands_twice() {
    let mut seen = std::collections::BTreeSet::new();
    for row in TABLE {
        for from in row.from {
            assert!(seen.insert((*from, row.to)), "{from} -> {}", row.to);
            assert_ne!(*from, row.to);
        }
    }
}

/// Upstream's edges: release 2.0 and what its development branch added (fsm: `KeeperFSM`).
#[test]
fn every_upstream_edge_is_there() {
    let mut edges = Vec::new();
    let mut add = |from: &[NodeState], to: &[NodeState]| {
        for from in from {
            edges.extend(to.iter().filter(|to| *to != from).map(|to| (*from, *to)));
        }
    };
    add(&[Init, Dropped], &[Single, WaitStandby, ReportLsn]);
    add(&[Primary, WaitPrimary, JoinPrimary, ApplySettings], &[Single]);
    add(&[Primary, JoinPrimary, ApplySettings], &[Draining, Demoted, DemoteTimeout, WaitPrimary]);
    add(&[WaitPrimary], &[Demoted]);
    add(&[Draining], &[Demoted, DemoteTimeout]);
    add(&[DemoteTimeout], &[Demoted, Primary]);
    add(&[Demoted, DemoteTimeout, Draining], &[Single]);
    add(&[Primary], &[PrepareMaintenance, Maintenance]);
    add(&[PrepareMaintenance], &[Maintenance]);
    add(&[Secondary, Catchingup, PreparePromotion, StopReplication, ReportLsn, WaitMaintenance, FastForward], &[Single]);
    add(&[Single], &[WaitPrimary]);
    add(&[Primary, WaitPrimary, ApplySettings], &[JoinPrimary]);
    add(&[WaitPrimary, JoinPrimary, ApplySettings], &[Primary]);
    add(&[Primary, WaitPrimary], &[ApplySettings]);
    add(&[WaitStandby, Demoted, Maintenance, PrepareMaintenance, Secondary], &[Catchingup]);
    add(&[Catchingup], &[Secondary]);
    add(&[Secondary, Catchingup, ReportLsn, FastForward], &[PreparePromotion]);
    add(&[PreparePromotion], &[StopReplication, WaitPrimary]);
    add(&[StopReplication], &[WaitPrimary]);
    add(&[Secondary], &[WaitStandby]);
    add(&[Secondary, Catchingup], &[WaitMaintenance, Maintenance]);
    add(&[WaitMaintenance], &[Maintenance]);
    add(
        &[
            Secondary, Catchingup, Maintenance, PrepareMaintenance, WaitMaintenance, FastForward, PreparePromotion,
            StopReplication, DemoteTimeout, JoinSecondary, Draining, Demoted,
        ],
        &[ReportLsn],
    );
    add(&[ReportLsn], &[FastForward, JoinSecondary, Secondary]);
    add(&[JoinSecondary], &[Secondary]);
    add(
        &[
            Init, Single, Catchingup, Secondary, PreparePromotion, StopReplication, Maintenance, PrepareMaintenance,
            WaitMaintenance, ReportLsn, FastForward,
        ],
        &[Demoted, DemoteTimeout],
    );
    add(&[Demoted], &[DemoteTimeout]);
    add(NodeState::ALL, &[Dropped]);
    for (from, to) in &edges {
        assert!(transitions::steps(*from, *to).is_some(), "{from} -> {to} is missing");
    }
    let ours: usize = TABLE.iter().map(|row| row.from.len()).sum();
    let theirs: std::collections::BTreeSet<_> = edges.iter().filter(|(_, to)| *to != Dropped).collect();
    assert_eq!(ours, theirs.len(), "an edge that upstream does not have");
}

/// A state that PostgreSQL must not serve in is never entered by starting it, and no standby is ever
/// promoted on the way to a state that is not a primary's or on the way to one.
#[test]
fn rows_fit_the_states_they_lead_to() {
    for row in TABLE {
        let name = |step: &transitions::Step| format!("{step:?}");
        let steps: Vec<String> = row.steps.iter().map(name).collect();
        let has = |step: &str| steps.iter().any(|s| s == step);
        if wanted(row.to) == Wanted::Stopped {
            assert!(has("Stop") && !has("Start"), "{:?}", row);
        }
        if has("Promote") {
            assert!(wanted(row.to) == Wanted::Primary || row.to == StopReplication, "{row:?}");
            // Nothing is acknowledged before it is settled for whom commits wait.
            let promote = steps.iter().position(|s| s == "Promote").unwrap();
            let from_standby = row.from.iter().any(|from| matches!(wanted(*from), Wanted::Standby | Wanted::Running));
            let settled = ["HoldCommits", "TakeSyncNames", "ClearSyncNames"];
            assert!(!from_standby || steps[..promote].iter().any(|s| settled.contains(&s.as_str())), "{row:?}");
        }
    }
}

/// The monitors hold the same edges to see which goals a keeper can reach.
#[test]
fn the_monitors_know_the_same_edges() {
    use failover::Generation;
    for from in NodeState::ALL {
        for to in NodeState::ALL {
            let known = failover::edges::has_edge(Generation::Pgquorum, *from, *to);
            assert_eq!(transitions::steps(*from, *to).is_some(), known, "{from} -> {to}");
        }
    }
}
