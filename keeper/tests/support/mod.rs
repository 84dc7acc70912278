//! A group of real nodes under a stock pg_auto_failover 2.0 monitor.
//!
//! Works as root (PostgreSQL then runs as user `postgres`) and as any other user.
#![allow(dead_code)]

pub mod disk;
pub mod relay;
pub mod writer;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use failover::NodeState;
use monitor_client::{ConnectOptions, MonitorClient, NodeRow, Target};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

/// Two cores: one story at a time.
static ONE: Mutex<()> = Mutex::new(());
/// However slow the machine is.
pub const PATIENCE: Duration = Duration::from_secs(120);
const BINDIRS: &[&str] = &["/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin"];

pub fn bindir() -> PathBuf {
    let found = BINDIRS.iter().map(PathBuf::from).find(|dir| dir.join("pg_ctl").exists());
    found.expect("PostgreSQL 15, 16 or 17 as Debian packages it")
}

/// Says that a story is skipped, past the test harness, which hides what a passing test prints. In CI
/// nothing may be skipped for want of something that deploy/test.sh installs.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("test").to_string();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
    let ci = std::env::var("CI").unwrap_or_default();
    assert!(ci.is_empty() || ci == "false", "{test} must not be skipped in CI: {reason}");
}

/// The stock monitor comes from Debian's package pg-auto-failover-cli; stories need it.
pub fn has_stock_monitor() -> bool {
    let found = Path::new("/usr/bin/pg_autoctl").exists();
    if !found {
        skip("no /usr/bin/pg_autoctl (Debian: pg-auto-failover-cli, postgresql-15-auto-failover)");
    }
    found
}

/// Mounts and namespaces of mounts need root, and a machine that lets root have them. Continuous
/// integration may run elsewhere.
pub fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    let may = tried.is_ok_and(|out| out.status.success());
    if !may {
        let _ = writeln!(std::io::stderr(), "SKIPPED {:?}: cannot mount", std::thread::current().name());
    }
    may
}

/// A command as the user that PostgreSQL runs as; the process id is the program's own.
pub fn as_postgres(program: impl AsRef<Path>) -> Command {
    wrapped(&[], &[], program)
}

/// The same, run by other commands: the first as the test's user, the last as PostgreSQL's.
fn wrapped(wrap: &[String], inner: &[String], program: impl AsRef<Path>) -> Command {
    let mut words: Vec<std::ffi::OsString> = wrap.iter().map(Into::into).collect();
    if geteuid().is_root() {
        let setpriv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"];
        words.extend(setpriv.map(Into::into));
    }
    words.extend(inner.iter().map(Into::into));
    words.push(program.as_ref().into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let path = format!("{}:/usr/bin:/bin", bindir().display());
    command.env_clear().env("PATH", path).env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
    command
}

pub fn own(path: &Path) {
    if geteuid().is_root() {
        let user = User::from_name("postgres").unwrap().expect("user postgres");
        nix::unistd::chown(path, Some(user.uid), Some(user.gid)).unwrap();
    }
}

/// A port that was free a moment ago, from below the range that the kernel takes the ports of outgoing
/// connections from: one of those must not have it when a server comes back to it.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id().wrapping_mul(211).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + (n % 12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The example binary of this crate, copied to where user postgres may run it.
fn keeper_binary(root: &Path) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let built = exe.parent().and_then(Path::parent).unwrap().join("examples/keeper-dev");
    assert!(built.exists(), "{} is built by `cargo test -p keeper`", built.display());
    let copy = root.join("keeper-dev");
    copy_program(&built, &copy);
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

/// Copies by a process of its own: what another thread starts would have the copy open for writing until it
/// is executed, and nothing can be executed meanwhile.
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

pub struct Node {
    pub name: String,
    pub host: String,
    pub pgdata: PathBuf,
    pub port: u16,
    pub log: PathBuf,
    /// In addition to, or instead of, what every node's environment has.
    pub env: Vec<(String, String)>,
    /// The monitor as this node sees it.
    pub monitor: String,
    /// A command that runs the keeper's, such as `unshare`; it must become it.
    pub wrap: Vec<String>,
    /// The same, as the keeper's user.
    pub inner: Vec<String>,
    keeper: Option<Child>,
}

pub struct World {
    pub root: PathBuf,
    pub monitor_port: u16,
    monitor: Option<Child>,
    pub nodes: Vec<Node>,
    pub binary: PathBuf,
    runtime: tokio::runtime::Runtime,
    _one: MutexGuard<'static, ()>,
}

/// Monitor settings that make failures show within seconds. A stock monitor that waits for the disk gives no
/// answers, takes nodes for unhealthy in the meantime, and then loses writes in a switchover: its disk is not
/// what is tested.
const TIGHT: &str = "alter system set fsync = off; alter system set pgautofailover.health_check_period = 500; \
     alter system set pgautofailover.health_check_timeout = 1000; \
     alter system set pgautofailover.health_check_retry_delay = 100; \
     alter system set pgautofailover.health_check_max_retries = 1; \
     alter system set pgautofailover.node_considered_unhealthy_timeout = 3000; \
     alter system set pgautofailover.primary_demote_timeout = 3000; \
     alter system set pgautofailover.startup_grace_period = 1000; select pg_reload_conf()";

impl World {
    /// A monitor and no nodes.
    pub fn new(name: &str) -> World {
        let one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let root = PathBuf::from(format!("/tmp/keeper-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        own(&root);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let binary = keeper_binary(&root);
        let mut world =
            World { binary, root, monitor_port: free_port(), monitor: None, nodes: Vec::new(), runtime, _one: one };
        world.start_monitor();
        world
    }

    fn start_monitor(&mut self) {
        let pgdata = self.root.join("monitor");
        let out = File::create(self.root.join("monitor.log")).unwrap();
        let child = as_postgres("/usr/bin/pg_autoctl")
            .env("HOME", &self.root)
            .args(["create", "monitor", "--hostname", "127.0.0.1", "--auth", "trust", "--no-ssl", "--run", "--pgdata"])
            .arg(&pgdata)
            .args(["--pgport", &self.monitor_port.to_string(), "--pgctl"])
            .arg(bindir().join("pg_ctl"))
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        self.monitor = Some(child);
        let client = self.client();
        self.eventually("the monitor answers", || {
            self.runtime.block_on(client.current_state("default", None)).ok()
        });
        self.psql_at(self.monitor_port, "pg_auto_failover", TIGHT);
    }

    pub fn monitor_uri(&self) -> String {
        format!("postgres://autoctl_node@127.0.0.1:{}/pg_auto_failover", self.monitor_port)
    }

    pub fn client(&self) -> MonitorClient {
        let target = Target::parse(&self.monitor_uri()).unwrap();
        MonitorClient::new(target, ConnectOptions::default(), Duration::from_secs(5))
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub fn handle(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    /// Registers and runs a node; returns its index.
    pub fn add(&mut self, extra: &[&str]) -> usize {
        let at = self.plan();
        self.start(at, extra);
        at
    }

    /// A node that can still be changed before it is started.
    pub fn plan(&mut self) -> usize {
        let at = self.nodes.len();
        let name = format!("n{}", at + 1);
        self.nodes.push(Node {
            pgdata: self.root.join(&name),
            log: self.root.join(format!("{name}.log")),
            host: "127.0.0.1".to_string(),
            port: free_port(),
            env: Vec::new(),
            monitor: self.monitor_uri(),
            wrap: Vec::new(),
            inner: Vec::new(),
            name,
            keeper: None,
        });
        at
    }

    /// `create --run` for a node: creates it, or goes on, or runs it.
    pub fn start(&mut self, at: usize, extra: &[&str]) {
        let node = &self.nodes[at];
        let child = self.command(at, "create").args(["--run"]).args(extra).spawn().unwrap();
        assert!(node.keeper.is_none(), "{} runs", node.name);
        self.nodes[at].keeper = Some(child);
    }

    /// A keeper command for a node with its output in the node's log.
    pub fn command(&self, at: usize, verb: &str) -> Command {
        let node = &self.nodes[at];
        let out = fs::OpenOptions::new().create(true).append(true).open(&node.log).unwrap();
        let mut command = wrapped(&node.wrap, &node.inner, &self.binary);
        command
            .env("HOME", &self.root)
            .envs(node.env.iter().cloned())
            .env("KEEPER_LOG", std::env::var("KEEPER_LOG").unwrap_or_else(|_| "info".into()))
            .arg(verb)
            .arg("--pgdata")
            .arg(&node.pgdata)
            .args(["--pgport", &node.port.to_string(), "--name", &node.name, "--hostname", &node.host])
            .args(["--listen", "127.0.0.1", "--monitor", &node.monitor, "--pgctl"])
            .arg(bindir().join("pg_ctl"))
            .stdout(out.try_clone().unwrap())
            .stderr(out);
        command
    }

    pub fn keeper_pid(&self, at: usize) -> i32 {
        self.nodes[at].keeper.as_ref().expect("a keeper").id() as i32
    }

    pub fn home_of(&self, at: usize) -> PathBuf {
        let node = &self.nodes[at];
        let moved = node.env.iter().find(|(name, _)| name == "XDG_DATA_HOME").map(|(_, dir)| PathBuf::from(dir));
        let share = moved.unwrap_or_else(|| self.root.join(".local/share"));
        share.join("pg_autoctl").join(node.pgdata.strip_prefix("/").unwrap())
    }

    pub fn guardian_pid(&self, at: usize) -> Option<i32> {
        let text = fs::read_to_string(self.home_of(at).join("guardian.pid")).ok()?;
        let pid = text.split_whitespace().next()?.parse().ok()?;
        keeper::guardian::remains::stat(pid).filter(|stat| stat.comm.starts_with("keeper-dev"))?;
        Some(pid)
    }

    /// The postmaster, by its pid file and only while the process is really it.
    pub fn postmaster_pid(&self, at: usize) -> Option<i32> {
        let text = fs::read_to_string(self.nodes[at].pgdata.join("postmaster.pid")).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        alive_postgres(pid).then_some(pid)
    }

    pub fn signal(&self, pid: i32, signal: Signal) {
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("{signal} to {pid}: {error}"));
    }

    /// The keeper ends by `signal`; the exit status is collected.
    pub fn end_keeper(&mut self, at: usize, signal: Signal) {
        let mut child = self.nodes[at].keeper.take().expect("a keeper");
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        self.reap(&mut child);
    }

    pub fn wait_exit(&mut self, at: usize) -> i32 {
        let mut child = self.nodes[at].keeper.take().expect("a keeper");
        self.reap(&mut child)
    }

    /// Has the keeper ended by itself? Its status is collected then.
    pub fn has_ended(&mut self, at: usize) -> bool {
        let ended = self.nodes[at].keeper.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
        if ended {
            self.nodes[at].keeper = None;
        }
        ended
    }

    /// Takes charge of a keeper that was started by a command of its own.
    pub fn adopt_keeper(&mut self, at: usize, child: Child) {
        assert!(self.nodes[at].keeper.is_none());
        self.nodes[at].keeper = Some(child);
    }

    fn reap(&self, child: &mut Child) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "process {} does not end", child.id());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Keeper, guardian and PostgreSQL at once: what a machine does that loses power.
    pub fn crash(&mut self, at: usize) {
        let (guardian, postmaster) = (self.guardian_pid(at), self.postmaster_pid(at));
        let mut child = self.nodes[at].keeper.take().expect("a keeper");
        for pid in [Some(child.id() as i32), guardian, postmaster].into_iter().flatten() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        keeper_kill_rest(&self.nodes[at].pgdata);
        self.reap(&mut child);
        self.eventually("nothing of the node is left", || postgres_of(&self.nodes[at].pgdata).is_empty().then_some(()));
    }

    pub fn rows(&self) -> Vec<NodeRow> {
        let client = self.client();
        self.block_on(client.current_state("default", None)).unwrap_or_default()
    }

    pub fn row(&self, at: usize) -> Option<NodeRow> {
        self.rows().into_iter().find(|row| row.name == self.nodes[at].name)
    }

    /// Waits until the nodes have reached these states.
    pub fn settle(&self, states: &[(usize, NodeState)]) {
        self.eventually(&format!("states {states:?}"), || {
            let rows = self.rows();
            states
                .iter()
                .all(|(at, state)| {
                    rows.iter().any(|r| r.name == self.nodes[*at].name && r.reported == *state && r.goal == *state)
                })
                .then_some(())
        });
    }

    /// One primary, all others secondary; returns the primary.
    pub fn settle_all(&self, count: usize) -> usize {
        let name = self.eventually("one primary and its secondaries", || {
            let rows = self.rows();
            let of = |state| rows.iter().filter(|r| r.reported == state && r.goal == state).count();
            let whole = rows.len() == count && of(NodeState::Primary) == 1 && of(NodeState::Secondary) == count - 1;
            whole.then(|| rows.iter().find(|r| r.goal == NodeState::Primary).unwrap().name.clone())
        });
        self.nodes.iter().position(|node| node.name == name).unwrap()
    }

    /// Polls until there is an answer. On failure the logs are shown.
    pub fn eventually<T>(&self, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = check() {
                return value;
            }
            if Instant::now() > deadline {
                self.show_logs();
                panic!("not within {} s: {what}", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    pub fn show_logs(&self) {
        for row in self.rows() {
            eprintln!("{}: {} -> {} tli {} {}", row.name, row.reported, row.goal, row.timeline, row.lsn);
        }
        for node in &self.nodes {
            let text = fs::read_to_string(&node.log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(40).collect();
            eprintln!("--- {}", node.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }

    pub fn log(&self, at: usize) -> String {
        fs::read_to_string(&self.nodes[at].log).unwrap_or_default()
    }

    /// SQL as superuser over the Unix socket; the text of all rows, `|` between columns.
    pub fn sql(&self, at: usize, sql: &str) -> String {
        self.psql_at(self.nodes[at].port, "postgres", sql)
    }

    pub fn try_sql(&self, at: usize, sql: &str) -> Result<String, String> {
        run_psql(self.nodes[at].port, "postgres", sql)
    }

    fn psql_at(&self, port: u16, dbname: &str, sql: &str) -> String {
        run_psql(port, dbname, sql).unwrap_or_else(|error| {
            self.show_logs();
            panic!("psql: {error}")
        })
    }

    pub fn switchover(&self) {
        self.block_on(self.client().perform_failover("default", 0)).unwrap();
    }
}

fn run_psql(port: u16, dbname: &str, sql: &str) -> Result<String, String> {
    let mut command = as_postgres(bindir().join("psql"));
    command.env("PGCONNECT_TIMEOUT", "5").args(["-X", "-A", "-t", "-q", "-h", "/var/run/postgresql", "-p"]);
    command.args([&port.to_string(), "-d", dbname, "-v", "ON_ERROR_STOP=1"]);
    // One -c per statement: ALTER SYSTEM must stand alone.
    for statement in sql.split(';').map(str::trim).filter(|s| !s.is_empty()) {
        command.args(["-c", statement]);
    }
    let said = command.output().unwrap();
    match said.status.success() {
        true => Ok(String::from_utf8_lossy(&said.stdout).trim().to_string()),
        false => Err(String::from_utf8_lossy(&said.stderr).trim().to_string()),
    }
}

fn alive_postgres(pid: i32) -> bool {
    let stat = keeper::guardian::remains::stat(pid);
    stat.is_some_and(|s| matches!(s.comm.as_str(), "postgres" | "postmaster") && s.state != 'Z')
}

/// PostgreSQL processes that work in a data directory, whoever's they are.
pub fn postgres_of(pgdata: &Path) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| alive_postgres(*pid))
        .filter(|pid| {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            cwd.to_string_lossy().trim_end_matches(" (deleted)") == pgdata.to_string_lossy()
        })
        .collect()
}

pub fn keeper_kill_rest(pgdata: &Path) {
    for pid in postgres_of(pgdata) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("KEEP_WORLD").is_some() {
            eprintln!("left in place: {}", self.root.display());
            std::mem::forget(self.monitor.take());
            return;
        }
        for at in 0..self.nodes.len() {
            let guardian = self.guardian_pid(at);
            if let Some(mut child) = self.nodes[at].keeper.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            if let Some(pid) = guardian {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            keeper_kill_rest(&self.nodes[at].pgdata);
        }
        if let Some(mut child) = self.monitor.take() {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGQUIT);
            let deadline = Instant::now() + Duration::from_secs(10);
            while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
            keeper_kill_rest(&self.root.join("monitor"));
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

pub fn read(path: impl AsRef<Path>) -> String {
    let mut text = String::new();
    File::open(path.as_ref()).and_then(|mut f| f.read_to_string(&mut text)).unwrap();
    text
}

pub fn append(path: impl AsRef<Path>, text: &str) {
    fs::OpenOptions::new().append(true).open(path.as_ref()).unwrap().write_all(text.as_bytes()).unwrap();
}
