//! The monitors and nodes of the demonstration.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use failover::NodeState;
use monitor_client::{ConnectOptions, Endpoint, MonitorClient, NodeRow, ReplicaRow, Target};
use tokio::time::sleep;

use super::ground::{APPLICATION, Ground};
use super::processes;
use super::{Events, Teller};
use crate::exit::{CliError, Status};
use crate::progress::Line;

const MONITORS: [&str; 3] = ["m1", "m2", "m3"];

/// Stock nodes take 50 s to replace a primary with the settings as they come; these are for a show: a
/// stock keeper that is cut off stops its PostgreSQL after 20 s only.
const HURRIED: [(&str, &str); 6] = [
    ("health_check_period", "1s"),
    ("health_check_timeout", "1s"),
    ("health_check_retry_delay", "500ms"),
    ("node_considered_unhealthy_timeout", "3s"),
    ("primary_demote_timeout", "2s"),
    ("startup_grace_period", "2s"),
];

/// The longest that a single command may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Cluster<'a> {
    ground: &'a Ground,
    client: MonitorClient,
    target: Target,
    children: RefCell<BTreeMap<String, Child>>,
}

impl<'a> Cluster<'a> {
    pub fn new(ground: &'a Ground) -> Cluster<'a> {
        let endpoints = (1..=3).map(|n| Endpoint { host: "127.0.0.1".to_string(), port: ground.port + n }).collect();
        let target = Target::new(endpoints);
        let client = MonitorClient::new(target.clone(), ConnectOptions::default(), Duration::from_secs(10))
            .with_answer_patience(Duration::from_secs(2));
        Cluster { ground, client, target, children: RefCell::default() }
    }

    pub fn client(&self) -> &MonitorClient {
        &self.client
    }

    pub fn monitors_uri(&self) -> String {
        self.target.uri()
    }

    pub fn monitor_ports(&self) -> String {
        let ports: Vec<String> = self.target.endpoints.iter().map(|endpoint| endpoint.port.to_string()).collect();
        ports.join(", ")
    }

    pub fn node_port(&self, number: u16) -> u16 {
        self.ground.port + 10 + number
    }

    fn command(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = self.ground.command(program);
        command.args(words);
        command
    }

    /// Runs a command to its end; its last words are the error.
    async fn done(&self, log: &str, program: &Path, words: &[&str]) -> Result<(), CliError> {
        let log = self.ground.log(log);
        let mut command = tokio::process::Command::from(self.command(program, words));
        let mut child = command.stdout(Stdio::null()).stderr(File::create(&log)?).kill_on_drop(true).spawn()?;
        let _line = Line::spinner(&words[..2].join(" "));
        let failed = |reason: &str| {
            Err(CliError::new(Status::BadState, format!("`{}` failed: {reason}", words[..2].join(" "))))
        };
        match tokio::time::timeout(PATIENCE, child.wait()).await {
            Err(_) => failed(&format!("not done within {} s", PATIENCE.as_secs())),
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(_) => failed(&last_words(&log)),
        }
    }

    /// A service that was not killed here and does not run any more: that is the end of the play.
    fn all_alive(&self) -> Result<(), CliError> {
        for (name, child) in self.children.borrow_mut().iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                let said = last_words(&self.ground.log(name));
                return Err(CliError::new(Status::BadState, format!("{name} ended ({status}): {said}")));
            }
        }
        Ok(())
    }

    /// Starts a service; what it says goes to a file.
    fn spawn(&self, name: &str, program: &Path, words: &[&str]) -> Result<(), CliError> {
        let log = File::options().create(true).append(true).open(self.ground.log(name))?;
        let mut command = self.command(program, words);
        let child = command.stdout(Stdio::null()).stderr(log).spawn()?;
        self.children.borrow_mut().insert(name.to_string(), child);
        Ok(())
    }

    pub async fn start_monitors(&self) -> Result<(), CliError> {
        let program = self.ground.program();
        let place = |at: usize| format!("{}=127.0.0.1:{}", MONITORS[at], self.target.endpoints[at].port);
        let replicas = [place(0), place(1), place(2)].join(",");
        for (at, name) in MONITORS.into_iter().enumerate() {
            let (data, port) = (self.ground.data(name), self.target.endpoints[at].port.to_string());
            let words = [
                "create", "monitor", "--pgdata", &data.display().to_string(), "--name", name, "--hostname", "127.0.0.1",
                "--listen", "127.0.0.1", "--pgport", &port, "--replicas", &replicas, "--auth", "trust", "--no-ssl",
            ];
            self.done(name, &program, &words).await?;
            self.run_monitor(name)?;
        }
        Ok(())
    }

    pub fn run_monitor(&self, name: &str) -> Result<(), CliError> {
        let (program, data) = (self.ground.program(), self.ground.data(name));
        self.spawn(name, &program, &["run", "--pgdata", &data.display().to_string()])
    }

    pub fn run_node(&self, name: &str) -> Result<(), CliError> {
        let data = self.ground.data(name).display().to_string();
        let program = self.keeper();
        self.spawn(name, &program, &["run", "--pgdata", &data])
    }

    fn keeper(&self) -> std::path::PathBuf {
        match self.ground.stock_nodes {
            true => "pg_autoctl".into(),
            false => self.ground.program(),
        }
    }

    /// Waits for a leader other than `dead`.
    pub async fn leader(&self, dead: &str) -> Result<String, CliError> {
        self.until("a monitor to lead", 30, async || {
            let replicas = self.client.replicas().await.ok()??;
            let leader = replicas.into_iter().find(|replica| replica.role == "leader" && replica.name != dead)?;
            Some(leader.name)
        })
        .await
    }

    /// What comes, and where.
    pub fn introduction(&self, keep: bool) -> String {
        let nodes = match self.ground.stock_nodes {
            true => "Nodes run under stock pg_autoctl: expect an outage of 6 to 8 s, and 50 s\n\
                     with the settings that are safe for them.",
            false => "Nodes run under pgquorum's own keeper, with default settings.",
        };
        let end = match keep {
            true => "It stays when the play is over (--keep).",
            false => "Ctrl-C stops and removes everything, and so does the end.",
        };
        format!(
            "A failover on this machine, at 127.0.0.1, in\n  {}\n{nodes}\n{end}",
            self.ground.directory().display()
        )
    }

    /// Stock nodes: short patience, and what that is worth.
    pub async fn hurry(&self, teller: &Teller) -> Result<(), CliError> {
        if !self.ground.stock_nodes {
            return Ok(());
        }
        teller.tell("for the show, the monitors are told to be impatient:")?;
        let session = self.client.session().await?;
        for (name, value) in HURRIED {
            let sql = format!("ALTER SYSTEM SET pgautofailover.{name} = '{value}'");
            session.query(&sql, Duration::from_secs(5)).await?;
            teller.tell(&format!("  {name} = {value}"))?;
        }
        session.query("SELECT pg_reload_conf()", Duration::from_secs(5)).await?;
        Ok(())
    }

    pub async fn create_node(&self, number: u16) -> Result<(), CliError> {
        let name = format!("node{number}");
        let (data, port) = (self.ground.data(&name).display().to_string(), self.node_port(number).to_string());
        let socket = self.ground.socket().display().to_string();
        let uri = self.target.uri();
        let first = format!("postgres://autoctl_node@{}/pg_auto_failover", self.target.endpoints[0]);
        // pg_autoctl 2.0 reads one host only while it creates the first node; all of them come next.
        let monitor = if self.ground.stock_nodes { &first } else { &uri };
        let mut words = vec![
            "create", "postgres", "--pgdata", &data, "--name", &name, "--hostname", "127.0.0.1", "--pgport", &port,
            "--listen", "127.0.0.1", "--username", APPLICATION, "--dbname", APPLICATION, "--auth", "trust",
            "--no-ssl", "--monitor", monitor,
        ];
        let pg_ctl = self.ground.bindir.join("pg_ctl").display().to_string();
        words.extend(["--pgctl", &pg_ctl, "--pghost", &socket]);
        let program = self.keeper();
        match self.ground.stock_nodes {
            true => {
                self.done(&name, &program, &words).await?;
                self.done(&name, &program, &["config", "set", "pg_autoctl.monitor", &uri, "--pgdata", &data]).await?;
                self.run_node(&name)?;
            }
            false => {
                words.push("--run");
                self.spawn(&name, &program, &words)?;
            }
        }
        let goal = if number == 1 { NodeState::Single } else { NodeState::Secondary };
        self.in_state(&name, goal).await
    }

    async fn nodes(&self) -> Option<Vec<NodeRow>> {
        self.client.current_state("default", None).await.ok()
    }

    async fn in_state(&self, name: &str, goal: NodeState) -> Result<(), CliError> {
        self.until(&format!("{name} to be {goal}"), 120, async || {
            let nodes = self.nodes().await?;
            nodes.iter().any(|node| node.name == name && node.reported == goal && node.goal == goal).then_some(())
        })
        .await
    }

    /// Waits for one primary and two secondaries; returns them.
    pub async fn settled(&self) -> Result<Vec<NodeRow>, CliError> {
        self.until("a primary with two secondaries", 120, async || {
            self.nodes().await.filter(|nodes| is_settled(nodes))
        })
        .await
    }

    /// Waits for a node other than `dead` that takes the writes.
    pub async fn primary(&self, dead: &str) -> Result<String, CliError> {
        self.until("a primary", 30, async || {
            let nodes = self.nodes().await?;
            nodes.into_iter().find(|node| node.reported.is_writable() && node.name != dead).map(|node| node.name)
        })
        .await
    }

    /// Waits for the dead monitor and a settled cluster; returns the nodes.
    pub async fn rejoined(&self, monitor: &str, events: &mut Events, teller: &Teller) -> Result<Vec<NodeRow>, CliError> {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            events.show(self, teller).await?;
            let replicas = self.client.replicas().await.ok().flatten().unwrap_or_default();
            let follows = |row: &ReplicaRow| row.name == monitor && matches!(row.role.as_str(), "leader" | "follower");
            match self.nodes().await.filter(|nodes| is_settled(nodes)) {
                Some(nodes) if replicas.iter().any(follows) => return Ok(nodes),
                _ => self.all_alive()?,
            }
            if Instant::now() > deadline {
                return Err(CliError::new(Status::BadState, "the dead were not all back within 180 s"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn application_uri(&self) -> Result<String, CliError> {
        let uri = self.client.formation_uri("default", "prefer").await?;
        uri.ok_or_else(|| CliError::new(Status::BadState, "the monitors give no connection string"))
    }

    /// SIGKILL for everything of a data directory.
    pub fn kill(&self, name: &str) -> Result<(), CliError> {
        processes::kill_below(&self.ground.data(name));
        if let Some(mut child) = self.children.borrow_mut().remove(name) {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks until the answer is there. A service that has ended is reported at once.
    async fn until<T>(&self, what: &str, seconds: u64, ask: impl AsyncFn() -> Option<T>) -> Result<T, CliError> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let _line = Line::spinner(&format!("waiting for {what}"));
        loop {
            if let Some(answer) = ask().await {
                return Ok(answer);
            }
            self.all_alive()?;
            if Instant::now() > deadline {
                return Err(CliError::new(Status::BadState, format!("waited {seconds} s in vain for {what}")));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Why a process failed: its last error, or whatever it said last.
fn last_words(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let wrong = said.lines().rfind(|line| line.contains("ERROR") || line.contains("FATAL"));
    wrong.or(said.lines().last()).unwrap_or("without a word").to_string()
}

fn is_settled(nodes: &[NodeRow]) -> bool {
    let count = |state| nodes.iter().filter(|node| node.reported == state && node.goal == state).count();
    count(NodeState::Primary) == 1 && count(NodeState::Secondary) == 2
}
