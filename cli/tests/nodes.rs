//! A PostgreSQL node from our own command line under our own monitor: made, looked at, changed, dropped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};

const BINDIR: &str = "/usr/lib/postgresql/15/bin";

struct Machine {
    root: PathBuf,
    binary: PathBuf,
    running: Vec<Child>,
}

impl Machine {
    fn new() -> Machine {
        let root = PathBuf::from(format!("/tmp/pgquorum-nodes-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        if geteuid().is_root() {
            let user = User::from_name("postgres").unwrap().expect("user postgres");
            chown(&root, Some(user.uid), Some(user.gid)).unwrap();
        }
        let binary = root.join("pgquorum");
        fs::copy(env!("CARGO_BIN_EXE_pgquorum"), &binary).unwrap();
        Machine { root, binary, running: Vec::new() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = match geteuid().is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(&self.binary);
                command
            }
            false => Command::new(&self.binary),
        };
        command.args(args).env_clear().env("HOME", &self.root).env("PATH", format!("{BINDIR}:/usr/bin:/bin"));
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn spawn(&mut self, log: &str, args: &[&str]) {
        let out = File::create(self.root.join(log)).unwrap();
        let child = self.command(args).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        self.running.push(child);
    }

    fn eventually(&self, what: &str, mut check: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !check() {
            if Instant::now() > deadline {
                for log in ["monitor.log", "node.log"] {
                    eprintln!("--- {log}\n{}", fs::read_to_string(self.root.join(log)).unwrap_or_default());
                }
                panic!("not within two minutes: {what}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in self.running.iter_mut().rev() {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGQUIT);
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn port() -> String {
    support::free_port().to_string()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_node_from_creation_to_removal() {
    if !Path::new(BINDIR).join("pg_ctl").exists() {
        assert!(std::env::var_os("CI").is_none(), "no PostgreSQL 15 in {BINDIR}");
        eprintln!("SKIPPED: no PostgreSQL 15 in {BINDIR}");
        return;
    }
    let mut machine = Machine::new();
    let (monitor, node) = (machine.root.join("monitor"), machine.root.join("node"));
    let (monitor, node) = (monitor.to_str().unwrap().to_string(), node.to_str().unwrap().to_string());
    let (sql_port, pg_port) = (port(), port());
    let uri = format!("postgres://autoctl_node@127.0.0.1:{sql_port}/pg_auto_failover");
    let mut args = vec!["create", "monitor", "--pgdata", &monitor, "--pgport", &sql_port, "--hostname", "127.0.0.1"];
    args.extend(["--listen", "127.0.0.1", "--name", "m", "--auth", "trust", "--no-ssl", "--run"]);
    machine.spawn("monitor.log", &args);
    machine.eventually("the monitor answers", || machine.run(&["show", "state", "--monitor", &uri]).status.success());

    let mut create = vec!["create", "postgres", "--pgdata", &node, "--pgport", &pg_port, "--hostname", "127.0.0.1"];
    create.extend(["--listen", "127.0.0.1", "--name", "n", "--monitor", &uri, "--pgctl", "/usr/lib/postgresql/15/bin/pg_ctl"]);
    assert_eq!(machine.run(&create).status.code(), Some(1), "a choice about TLS is required");
    // A role that initdb does not make.
    create.extend(["--username", "app", "--dbname", "shop", "--no-ssl", "--run"]);
    machine.spawn("node.log", &create);
    machine.eventually("the node is single", || {
        text(&machine.run(&["show", "state", "--monitor", &uri])).contains("single |              single")
    });

    let psql = Command::new(format!("{BINDIR}/psql"))
        .args(["-h", "127.0.0.1", "-p", &pg_port, "-U", "app", "-d", "shop", "-Atc", "select current_user, current_database()"])
        .output();
    assert_eq!(text(&psql.unwrap()).trim(), "app|shop");

    let status = machine.run(&["status", "--pgdata", &node, "--json"]);
    assert!(status.status.success() && text(&status).contains("\"name\": \"guardian\""), "{}", text(&status));
    let local = text(&machine.run(&["show", "state", "--local", "--pgdata", &node]));
    assert!(local.contains("read-write") && local.contains("single"), "{local}");
    let file = text(&machine.run(&["show", "file", "--state", "--contents", "--pgdata", &node]));
    assert!(file.contains("Current Role:             single"), "{file}");
    let set = ["config", "set", "timeout.guardian_timeout", "7", "--pgdata", &node];
    assert_eq!(text(&machine.run(&set)).trim(), "7");
    assert!(machine.run(&["reload", "--pgdata", &node]).status.success());
    assert_eq!(machine.run(&["config", "set", "postgresql.port", "1", "--pgdata", &node]).status.code(), Some(2));
    assert!(machine.run(&["config", "check", "--pgdata", &node]).status.success());

    assert!(machine.run(&["stop", "--pgdata", &node]).status.success());
    assert_eq!(machine.run(&["status", "--pgdata", &node]).status.code(), Some(3));
    assert_eq!(machine.running.pop().unwrap().wait().unwrap().code(), Some(0));
    machine.spawn("node.log", &["run", "--pgdata", &node]);
    machine.eventually("it runs again", || machine.run(&["status", "--pgdata", &node]).status.success());

    let dropped = machine.run(&["drop", "node", "--pgdata", &node, "--destroy"]);
    assert!(dropped.status.success(), "{}", String::from_utf8_lossy(&dropped.stderr));
    assert_eq!(machine.running.pop().unwrap().wait().unwrap().code(), Some(121));
    assert!(!Path::new(&node).exists());
    assert!(!text(&machine.run(&["show", "state", "--monitor", &uri])).contains("127.0.0.1"));
}
