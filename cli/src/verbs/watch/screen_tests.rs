//! The screen at several sizes, against golden files (`UPDATE_GOLDEN=1` writes them anew).

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use failover::{Lsn, NodeState};
use monitor_client::{EventDetail, NodeRow, ReplicaRow};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn node(id: i64, reported: NodeState, goal: NodeState, health: i32) -> NodeRow {
    NodeRow {
        formation_kind: "pgsql".into(),
        name: format!("node{id}"),
        host: "10.0.0.1".into(),
        port: 5430 + id as u16,
        group: 0,
        id,
        reported,
        goal,
        candidate_priority: 50,
        replication_quorum: id != 3,
        timeline: 2,
        lsn: Lsn(0x5000060),
        health,
        cluster: "default".into(),
        health_lag: Some(0.4),
        report_lag: Some(if health == 0 { 7.2 } else { 0.3 }),
    }
}

fn replica(id: i64, role: &str) -> ReplicaRow {
    let there = role != "unreachable";
    ReplicaRow {
        name: format!("m{id}"),
        host: "10.0.1.1".into(),
        port: 5440 + id as u16,
        replica_port: 15_440,
        role: role.into(),
        term: there.then_some(7),
        applied_index: there.then_some(4_711),
        lag: there.then_some(if role == "leader" { 0 } else { 1 }),
        version: there.then(|| "0.1.0".to_string()),
    }
}

pub fn event(id: i64, node: i64, reported: &str, goal: &str, rule: Option<u16>, text: &str) -> EventDetail {
    EventDetail {
        id,
        time: format!("2026-01-02 03:04:{:02}", id % 60),
        milliseconds: id * 1000,
        formation: "default".into(),
        node,
        group: 0,
        name: format!("node{node}"),
        reported: reported.into(),
        goal: goal.into(),
        timeline: 2,
        lsn: "0/5000060".into(),
        priority: 50,
        quorum: true,
        description: text.into(),
        rule,
    }
}

pub fn quiet() -> Picture {
    use NodeState::*;
    let words = "New state is reported by node 2 \"node2\" (10.0.0.1:5432): \"secondary\"";
    Picture {
        formation: "default".into(),
        group: None,
        number_sync_standbys: Some(1),
        time: "03:04:05".into(),
        from: Some("10.0.1.1:5441".into()),
        monitors: Some(vec![replica(1, "leader"), replica(2, "follower"), replica(3, "follower")]),
        nodes: vec![node(1, Primary, Primary, 1), node(2, Secondary, Secondary, 1), node(3, Secondary, Secondary, 1)],
        events: (1..40).map(|id| event(id, 2, "secondary", "secondary", None, words)).collect(),
        problem: None,
        fetched: None,
    }
}

pub fn failing() -> Picture {
    use NodeState::*;
    let mut picture = quiet();
    picture.monitors = Some(vec![replica(1, "unreachable"), replica(2, "leader"), replica(3, "follower")]);
    picture.nodes =
        vec![node(1, Primary, Draining, 0), node(2, Secondary, PreparePromotion, 1), node(3, ReportLsn, ReportLsn, 1)];
    let words = "Setting goal state of node 1 \"node1\" (10.0.0.1:5431) to draining after it became unhealthy.";
    picture.events.push(event(40, 1, "primary", "draining", Some(351), words));
    picture
}

fn drawn(picture: &Picture, width: u16, height: u16, position: &mut Position) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| render(frame, picture, position)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| format!("|{}|\n", line(y))).collect()
}

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{name} differs (UPDATE_GOLDEN=1 writes it anew):\n{found}");
}

#[test]
fn sizes_from_small_to_wide() {
    for (width, height) in [(60, 15), (80, 24), (120, 30), (200, 40)] {
        golden(&format!("watch_{width}x{height}.txt"), &drawn(&quiet(), width, height, &mut Position::default()));
        let name = format!("watch_failover_{width}x{height}.txt");
        golden(&name, &drawn(&failing(), width, height, &mut Position::default()));
    }
}

#[test]
fn a_failover_is_over_when_somebody_takes_the_writes_although_the_dead_do_not_come_back() {
    use NodeState::*;
    let mut picture = failing();
    picture.nodes = vec![node(1, Primary, Demoted, 0), node(2, Primary, Primary, 1), node(3, Secondary, Secondary, 1)];
    let after = drawn(&picture, 80, 24, &mut Position::default());
    assert!(after.contains("|DOWN: node1 ") && !after.contains("FAILOVER"), "{after}");
    // Alive and on its way back, it takes part again.
    picture.nodes[0] = node(1, Primary, Demoted, 1);
    let back = drawn(&picture, 80, 24, &mut Position::default());
    assert!(back.contains("FAILOVER: node1 primary -> demoted") && !back.contains("DOWN"), "{back}");
}

#[test]
fn a_dead_leader_leaves_the_last_picture_with_a_word_about_it() {
    let mut picture = quiet();
    picture.problem = Some("no monitor could be reached in 10 s: 10.0.1.1:5441: connection refused".into());
    golden("watch_nobody_answers_80x24.txt", &drawn(&picture, 80, 24, &mut Position::default()));
}

#[test]
fn stock_monitors_have_no_replicas_and_new_formations_no_nodes() {
    let picture = Picture { monitors: None, nodes: Vec::new(), events: Vec::new(), ..quiet() };
    golden("watch_stock_empty_80x24.txt", &drawn(&picture, 80, 24, &mut Position::default()));
}

#[test]
fn events_scroll_and_stay_within_bounds() {
    let picture = quiet();
    let mut position = Position::default();
    let newest = drawn(&picture, 80, 24, &mut position);
    assert!(newest.contains("03:04:39"), "{newest}");
    position.up(1000);
    let oldest = drawn(&picture, 80, 24, &mut position);
    assert!(oldest.contains("03:04:01") && !oldest.contains("03:04:39"), "{oldest}");
    position.down(1000);
    position.right();
    let shifted = drawn(&picture, 80, 24, &mut position);
    assert!(!shifted.contains("03:04:39") && shifted.contains("secondary"), "{shifted}");
}

#[test]
fn no_size_is_too_small() {
    for width in [1, 2, 7, 20, 60, 300] {
        for height in [1, 2, 3, 5, 9, 60] {
            drawn(&failing(), width, height, &mut Position::default());
        }
    }
}
