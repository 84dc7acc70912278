//! A place of its own on this machine, with a user that PostgreSQL accepts.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};

use crate::support;

pub const BINDIR: &str = "/usr/lib/postgresql/15/bin";

pub struct Machine {
    pub root: PathBuf,
    pub binary: PathBuf,
    pub running: Vec<Child>,
}

impl Machine {
    pub fn new(what: &str) -> Machine {
        let root = PathBuf::from(format!("/tmp/pgquorum-{what}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        if geteuid().is_root() {
            let user = User::from_name("postgres").unwrap().expect("user postgres");
            chown(&root, Some(user.uid), Some(user.gid)).unwrap();
        }
        let binary = root.join("pgquorum");
        support::copy_program(&binary);
        Machine { root, binary, running: Vec::new() }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.program(&self.binary, args)
    }

    /// Any program, as that user, in an environment of its own.
    pub fn program(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = match geteuid().is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        command.args(args).env_clear().env("HOME", &self.root).env("PATH", format!("{BINDIR}:/usr/bin:/bin"));
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn spawn(&mut self, log: &str, args: &[&str]) {
        self.spawn_program(log, &self.binary.clone(), args);
    }

    pub fn spawn_program(&mut self, log: &str, program: &Path, args: &[&str]) {
        let out = File::create(self.root.join(log)).unwrap();
        let child = self.program(program, args).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        self.running.push(child);
    }

    /// One monitor alone, which answers: its URI.
    #[allow(dead_code)]
    pub fn monitor(&mut self) -> String {
        let (pgdata, port) = (self.root.join("monitor"), port());
        let uri = format!("postgres://autoctl_node@127.0.0.1:{port}/pg_auto_failover");
        let mut args = vec!["create", "monitor", "--pgdata", pgdata.to_str().unwrap(), "--pgport", &port];
        args.extend(["--hostname", "127.0.0.1", "--listen", "127.0.0.1", "--name", "m", "--auth", "trust", "--no-ssl", "--run"]);
        self.spawn("monitor.log", &args);
        self.eventually("the monitor answers", || self.run(&["show", "state", "--monitor", &uri]).status.success());
        uri
    }

    pub fn eventually(&self, what: &str, mut check: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !check() {
            if Instant::now() > deadline {
                for entry in fs::read_dir(&self.root).unwrap().flatten() {
                    if entry.path().extension().is_some_and(|extension| extension == "log") {
                        eprintln!("--- {:?}\n{}", entry.path(), fs::read_to_string(entry.path()).unwrap_or_default());
                    }
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
        // A PostgreSQL that ran on without a keeper.
        for dir in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let file = fs::read_to_string(dir.path().join("postmaster.pid")).unwrap_or_default();
            if let Some(pid) = file.lines().next().and_then(|line| line.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
            }
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

pub fn port() -> String {
    support::free_port().to_string()
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// PostgreSQL is there; where it is not, the test is left out.
pub fn has_postgres() -> bool {
    support::has("PostgreSQL 15", Path::new(BINDIR).join("pg_ctl").exists())
}
