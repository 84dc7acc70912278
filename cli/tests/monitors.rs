//! Three monitors as real processes, driven by the command line; nodes are played by the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use failover::{Lsn, NodeState};
use monitor_client::{ConnectOptions, MonitorClient, NodeActiveReport, RegistrationRequest, Target};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const NAMES: [&str; 3] = ["m1", "m2", "m3"];

struct Monitors {
    dir: tempfile::TempDir,
    replicas: String,
    uri: String,
    running: BTreeMap<&'static str, Child>,
}

impl Drop for Monitors {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for name in NAMES {
                let log = std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("--- {name}\n{}", lines[lines.len().saturating_sub(15)..].join("\n"));
            }
        }
    }
}

impl Monitors {
    fn start() -> Monitors {
        let ports: Vec<u16> = (0..6).map(|_| support::free_port()).collect();
        let replicas: Vec<String> =
            (0..3).map(|i| format!("{}=127.0.0.1:{}:{}", NAMES[i], ports[i], ports[i + 3])).collect();
        let hosts: Vec<String> = ports[..3].iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut monitors = Monitors {
            dir: tempfile::tempdir().unwrap(),
            replicas: replicas.join(","),
            uri: format!("postgres://autoctl_node@{}/pg_auto_failover", hosts.join(",")),
            running: BTreeMap::new(),
        };
        for name in NAMES {
            let pgdata = monitors.pgdata(name);
            let created = monitors.local(&[
                "create", "monitor", "--pgdata", pgdata.to_str().unwrap(), "--name", name, "--replicas",
                &monitors.replicas, "--auth", "trust", "--no-ssl",
            ]);
            assert!(created.status.success(), "{}", text(&created.stderr));
            monitors.run(name);
        }
        monitors.leader();
        monitors
    }

    fn pgdata(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&mut self, name: &'static str) {
        let log = File::options().create(true).append(true).open(self.dir.path().join(format!("{name}.log"))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pgquorum"))
            .args(["run", "--pgdata", self.pgdata(name).to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running.insert(name, child);
    }

    fn kill(&mut self, name: &str) {
        let mut child = self.running.remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn local(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgquorum"));
        command.args(args).env_remove("PGDATA").env_remove("PG_AUTOCTL_MONITOR").env_remove("PGCONNECT_TIMEOUT");
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// A client command; its output. It must succeed.
    #[track_caller]
    fn ask(&self, args: &[&str]) -> String {
        let output = self.local(&[args, &["--monitor", &self.uri]].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Replica names by role.
    fn roles(&self) -> Option<BTreeMap<String, String>> {
        let output = self.local(&["show", "monitors", "--json", "--monitor", &self.uri]);
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
        Some(rows.iter().map(|row| (field(row, "name"), field(row, "role"))).collect())
    }

    /// Waits for a leader and names it.
    fn leader(&self) -> &'static str {
        let mut leader = String::new();
        eventually("a leader", || {
            let roles = self.roles().unwrap_or_default();
            leader = roles.into_iter().find(|(_, role)| role == "leader").map(|(name, _)| name).unwrap_or_default();
            !leader.is_empty()
        });
        NAMES.into_iter().find(|name| *name == leader).unwrap()
    }

    fn client(&self) -> MonitorClient {
        MonitorClient::new(Target::parse(&self.uri).unwrap(), ConnectOptions::default(), Duration::from_secs(10))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn field(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_string()
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_life_of_three_monitors() {
    let mut monitors = Monitors::start();
    let table = monitors.ask(&["show", "monitors"]);
    assert_eq!(table.lines().count(), 6, "{table}");
    assert_eq!(table.matches("follower").count(), 2, "{table}");

    // What one replica is told, every one knows.
    monitors.ask(&["create", "formation", "--formation", "f2", "--number-sync-standbys", "0"]);
    for name in NAMES {
        let pgdata = monitors.pgdata(name);
        let output = monitors.local(&["show", "uri", "--json", "--pgdata", pgdata.to_str().unwrap()]);
        assert!(text(&output.stdout).contains("\"f2\""), "{}", text(&output.stderr));
    }
    let again = monitors.local(&["create", "formation", "--formation", "f2", "--monitor", &monitors.uri]);
    assert_eq!(again.status.code(), Some(6), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("SQLSTATE 23505"), "{}", text(&again.stderr));

    // A monitor does not run twice, and says where the other one is.
    let m1 = monitors.pgdata("m1");
    let m1 = m1.to_str().unwrap();
    let twice = monitors.local(&["run", "--pgdata", m1]);
    assert_eq!(twice.status.code(), Some(3), "{}", text(&twice.stderr));
    assert!(text(&twice.stderr).contains("pgquorum stop"), "{}", text(&twice.stderr));
    assert!(monitors.local(&["status", "--pgdata", m1]).status.success());
    assert!(monitors.local(&["reload", "--pgdata", m1]).status.success());

    // The leader dies: the other two go on with everything that was said.
    let dead = monitors.leader();
    monitors.kill(dead);
    // Until the others have noticed, a call may come back with an unknown outcome.
    eventually("a new leader", || {
        monitors.roles().is_some_and(|roles| roles.iter().any(|(name, role)| role == "leader" && name != dead))
    });
    monitors.ask(&["drop", "formation", "--formation", "f2"]);
    eventually("the dead one shown as unreachable", || {
        monitors.roles().is_some_and(|roles| roles.get(dead).is_some_and(|role| role == "unreachable"))
    });
    monitors.run(dead);
    eventually("it is back", || {
        monitors.ask(&["create", "formation", "--formation", "f3"]);
        monitors.ask(&["drop", "formation", "--formation", "f3"]);
        monitors.roles().is_some_and(|roles| roles.get(dead).is_some_and(|role| role == "follower"))
    });

    // Stopping is orderly and waits.
    for name in NAMES {
        let pgdata = monitors.pgdata(name);
        let pgdata = pgdata.to_str().unwrap();
        let stopped = monitors.local(&["stop", "--pgdata", pgdata]);
        assert!(stopped.status.success(), "{}", text(&stopped.stderr));
        let mut child = monitors.running.remove(name).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(monitors.local(&["status", "--pgdata", pgdata]).status.code(), Some(3));
    }
    let nobody = monitors.local(&["show", "monitors", "--monitor", &format!("{}?connect_timeout=1", monitors.uri)]);
    assert_eq!(nobody.status.code(), Some(6));
    assert_eq!(text(&nobody.stdout).matches("refused").count(), 3, "{}", text(&nobody.stdout));

    // All stopped and started again: nothing is forgotten.
    for name in NAMES {
        monitors.run(name);
    }
    monitors.leader();
    assert!(!monitors.ask(&["show", "uri"]).contains("f2"));
}

/// The monitor's read tier keeps the rows of `pgquorum.replica` until the applied index or a report
/// moves, so that without nodes a dead monitor is shown as it was.
#[test]
fn a_dead_follower_is_seen_while_nothing_else_happens() {
    let mut monitors = Monitors::start();
    let leader = monitors.leader();
    let follower = NAMES.into_iter().find(|name| *name != leader).unwrap();
    monitors.kill(follower);
    eventually("the dead one shown as unreachable", || {
        monitors.roles().is_some_and(|roles| roles.get(follower).is_some_and(|role| role == "unreachable"))
    });
}

/// A PostgreSQL that is there: it refuses everybody, which is answer enough for a health check.
async fn fake_postgres(listener: tokio::net::TcpListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut startup = [0; 8];
            socket.read_exact(&mut startup).await?;
            if startup[4..] == 80877103u32.to_be_bytes() {
                socket.write_all(b"N").await?;
                socket.read_exact(&mut startup).await?;
            }
            let body = b"SFATAL\0VFATAL\0C53300\0Mtoo many connections\0\0";
            socket.write_all(b"E").await?;
            socket.write_u32(body.len() as u32 + 4).await?;
            socket.write_all(body).await
        });
    }
}

/// A keeper that does at once whatever it is told.
struct FakeNode {
    name: String,
    stop: Arc<AtomicBool>,
}

impl FakeNode {
    async fn register(monitors: &Monitors, name: &str) -> FakeNode {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(fake_postgres(listener));
        let client = monitors.client();
        let request = RegistrationRequest {
            formation: "default".into(),
            host: "127.0.0.1".into(),
            port,
            dbname: "app".into(),
            name: name.into(),
            system_identifier: 4711,
            desired_id: None,
            desired_group: None,
            initial_state: NodeState::Init,
            kind: "standalone".into(),
            candidate_priority: 50,
            replication_quorum: true,
            cluster: "default".into(),
        };
        let registration = client.register_node(&request).await.unwrap();
        let registered = registration.commit(Duration::from_secs(5)).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        tokio::spawn(async move {
            let mut state = NodeState::Init;
            while !stopped.load(Ordering::SeqCst) {
                // A primary that steps down stops its PostgreSQL.
                let down = [NodeState::Draining, NodeState::Demoted, NodeState::DemoteTimeout, NodeState::Maintenance];
                let sync_state = if state == NodeState::Primary { "quorum" } else { "" };
                let report = NodeActiveReport {
                    formation: "default".into(),
                    id: registered.assignment.id,
                    group: registered.assignment.group,
                    state,
                    pg_is_running: !down.contains(&state),
                    timeline: 1,
                    lsn: Lsn(0x3000060),
                    sync_state: sync_state.into(),
                };
                if let Ok(assignment) = client.node_active(&report).await {
                    state = assignment.state;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        FakeNode { name: name.to_string(), stop }
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn state_of(monitors: &Monitors, name: &str) -> Option<String> {
    let rows: Vec<Value> = serde_json::from_str(&monitors.ask(&["show", "state", "--json"])).unwrap();
    let row = rows.iter().find(|row| row["nodename"] == name)?;
    let (reported, goal) = (field(row, "current_group_state"), field(row, "assigned_group_state"));
    (reported == goal).then_some(goal)
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_commands_over_three_monitors() {
    let mut monitors = Monitors::start();
    let mut nodes = Vec::new();
    for (name, state) in [("node1", "single"), ("node2", "secondary"), ("node3", "secondary")] {
        nodes.push(FakeNode::register(&monitors, name).await);
        eventually(&format!("{name} {state}"), || state_of(&monitors, name).as_deref() == Some(state));
    }
    eventually("node1 is primary", || state_of(&monitors, "node1").as_deref() == Some("primary"));
    let primary = |monitors: &Monitors| {
        nodes.iter().map(|node| node.name.clone()).find(|name| state_of(monitors, name).as_deref() == Some("primary"))
    };

    let table = monitors.ask(&["perform", "switchover"]);
    assert!(table.lines().next().unwrap().ends_with("Assigned State"), "{table}");
    assert!(table.lines().last().unwrap().ends_with("primary"), "{table}");
    assert_ne!(primary(&monitors).unwrap(), "node1");

    monitors.ask(&["perform", "promotion", "--name", "node1"]);
    assert_eq!(primary(&monitors).unwrap(), "node1");
    eventually("all settled", || state_of(&monitors, "node2").as_deref() == Some("secondary"));

    // The leader dies, and the operator asks the next monitor for the same.
    let dead = monitors.leader();
    monitors.kill(dead);
    eventually("a new leader", || {
        monitors.roles().is_some_and(|roles| roles.iter().any(|(name, role)| role == "leader" && name != dead))
    });
    monitors.ask(&["perform", "failover"]);
    assert_ne!(primary(&monitors).unwrap(), "node1");
    monitors.run(dead);

    assert_eq!(monitors.ask(&["set", "node", "candidate-priority", "70", "--name", "node2"]), "70\n");
    assert_eq!(monitors.ask(&["get", "node", "candidate-priority", "--name", "node2"]), "70\n");
    assert_eq!(monitors.ask(&["get", "formation", "number-sync-standbys"]), "1\n");
    assert_eq!(monitors.ask(&["set", "formation", "number-sync-standbys", "0"]), "0\n");
    assert!(monitors.ask(&["show", "settings"]).contains("synchronous_standby_names"));
    assert!(monitors.ask(&["show", "standby-names"]).starts_with("'"));
    assert!(monitors.ask(&["show", "uri", "--formation", "default"]).starts_with("postgres://"));
    assert!(monitors.ask(&["show", "events", "--count", "3"]).lines().count() >= 5);

    let standby = ["node1", "node2", "node3"].into_iter().find(|n| Some(n.to_string()) != primary(&monitors)).unwrap();
    eventually("the standby is settled", || state_of(&monitors, standby).as_deref() == Some("secondary"));
    monitors.ask(&["enable", "maintenance", "--name", standby]);
    assert_eq!(state_of(&monitors, standby).as_deref(), Some("maintenance"));
    monitors.ask(&["disable", "maintenance", "--name", standby]);
    assert_eq!(state_of(&monitors, standby).as_deref(), Some("secondary"));

    monitors.ask(&["drop", "node", "--name", standby]);
    assert_eq!(state_of(&monitors, standby), None);
}
