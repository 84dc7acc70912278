//! Three monitors as real processes, and nodes that are played.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

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

use crate::support::free_port;

pub const NAMES: [&str; 3] = ["m1", "m2", "m3"];

pub struct Monitors {
    pub dir: tempfile::TempDir,
    pub replicas: String,
    pub uri: String,
    pub running: BTreeMap<&'static str, Child>,
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
    pub fn start() -> Monitors {
        let ports: Vec<u16> = (0..6).map(|_| free_port()).collect();
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

    pub fn pgdata(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn run(&mut self, name: &'static str) {
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

    pub fn kill(&mut self, name: &str) {
        let mut child = self.running.remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn local(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgquorum"));
        command.args(args).env_remove("PGDATA").env_remove("PG_AUTOCTL_MONITOR").env_remove("PGCONNECT_TIMEOUT");
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// A client command; its output. It must succeed.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> String {
        let output = self.local(&[args, &["--monitor", &self.uri]].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Replica names by role.
    pub fn roles(&self) -> Option<BTreeMap<String, String>> {
        let output = self.local(&["show", "monitors", "--json", "--monitor", &self.uri]);
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
        Some(rows.iter().map(|row| (field(row, "name"), field(row, "role"))).collect())
    }

    /// Waits for a leader and names it.
    pub fn leader(&self) -> &'static str {
        let mut leader = String::new();
        eventually("a leader", || {
            let roles = self.roles().unwrap_or_default();
            leader = roles.into_iter().find(|(_, role)| role == "leader").map(|(name, _)| name).unwrap_or_default();
            !leader.is_empty()
        });
        NAMES.into_iter().find(|name| *name == leader).unwrap()
    }

    pub fn client(&self) -> MonitorClient {
        MonitorClient::new(Target::parse(&self.uri).unwrap(), ConnectOptions::default(), Duration::from_secs(10))
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn field(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_string()
}

#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A PostgreSQL that is there: it refuses everybody, which is answer enough for a health check.
pub async fn fake_postgres(listener: tokio::net::TcpListener) {
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
pub struct FakeNode {
    pub name: String,
    pub stop: Arc<AtomicBool>,
}

impl FakeNode {
    pub async fn register(monitors: &Monitors, name: &str) -> FakeNode {
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
            region: None,
        };
        let registration = client.register_node(&request).await.unwrap();
        let registered = registration.commit(Duration::from_secs(30)).await.unwrap();
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

/// A primary and two secondaries, probed and settled.
pub async fn three_nodes(monitors: &Monitors) -> Vec<FakeNode> {
    let mut nodes = Vec::new();
    for (name, state) in [("node1", "single"), ("node2", "secondary"), ("node3", "secondary")] {
        nodes.push(FakeNode::register(monitors, name).await);
        eventually(&format!("{name} {state}"), || state_of(monitors, name).as_deref() == Some(state));
    }
    eventually("node1 is primary", || state_of(monitors, "node1").as_deref() == Some("primary"));
    nodes
}

pub fn state_of(monitors: &Monitors, name: &str) -> Option<String> {
    let rows: Vec<Value> = serde_json::from_str(&monitors.ask(&["show", "state", "--json"])).unwrap();
    let row = rows.iter().find(|row| row["nodename"] == name)?;
    let (reported, goal) = (field(row, "current_group_state"), field(row, "assigned_group_state"));
    (reported == goal).then_some(goal)
}
