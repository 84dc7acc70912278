//! A lab: one directory with everything that a test starts, gone when the test is over.

use std::any::Any;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use crate::ports::{Ports, lock_file};
use crate::process::{living_in, signal_all};
use crate::requirements::{Account, account, in_path, postgres_bindir};
use crate::wait::wait_until;
use crate::{Context, Failure, Result, sql};

/// Every process of a lab carries this variable with the lab's directory.
const MARKER: &str = "PGQUORUM_LAB";

pub struct Lab {
    dir: PathBuf,
    account: Account,
    bindir: PathBuf,
    ports: Ports,
    monitors: Mutex<Vec<String>>,
    keep: AtomicBool,
    // Held as long as the lab lives: a directory whose lock is free was left behind.
    _lock: Flock<File>,
}

impl Lab {
    /// Runs a test in a lab of its own, one heavy test at a time on this machine. When it fails,
    /// what the monitors know and where the logs are is printed.
    pub fn run(name: &str, body: impl FnOnce(&Lab) -> Result<()>) {
        let _turn = turn(name);
        let lab = match Lab::new(name) {
            Ok(lab) => lab,
            Err(error) => fail(&format!("{name}: no lab: {error}")),
        };
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| body(&lab)));
        let took = started.elapsed().as_secs_f64();
        let message = match outcome.map(|body| body.and_then(|()| lab.no_panics())) {
            Ok(Ok(())) => {
                eprintln!("{name}: passed in {took:.1} s");
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_text(panic.as_ref()),
        };
        eprintln!("{name}: failed after {took:.1} s: {message}");
        eprintln!("{}", lab.describe());
        lab.keep.store(true, Ordering::Relaxed);
        let dir = lab.dir.clone();
        drop(lab);
        fail(&format!("{name}: {message}\nlogs: {}", dir.display()));
    }

    pub fn new(name: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let base = base()?;
        sweep(&base);
        let account = account()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Short, for the sake of unix sockets.
        let dir = base.join(format!("{name}-{}-{number}", std::process::id()));
        for sub in ["", "log", "home", "config", "share", "run"] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).context(format!("create {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            chown(&path, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
        }
        let lock = lock_file(&dir.join("lock"))?;
        // Waits for a sweeper that looks at it just now.
        let lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, error)| Failure::from(error))
            .context("lock the lab's directory")?;
        let ports = Ports::take(&base)?;
        Ok(Self {
            dir,
            account,
            bindir: postgres_bindir()?,
            ports,
            monitors: Mutex::default(),
            keep: AtomicBool::new(std::env::var_os("JEPSEN_KEEP").is_some()),
            _lock: lock,
        })
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    pub fn port(&self) -> Result<u16> {
        self.ports.next()
    }

    /// PostgreSQL's own programs.
    pub fn bindir(&self) -> &Path {
        &self.bindir
    }

    /// A command in the lab's environment, run as the account that nodes run as.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command_as_us(program);
        if self.account.switch {
            command.uid(self.account.uid.as_raw()).gid(self.account.gid.as_raw());
        }
        command
    }

    /// A command in the lab's environment, run as whoever we are.
    pub fn command_as_us(&self, program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref();
        // Look it up here: the lab's own PATH does not hold for finding the program itself.
        let found = program.to_str().and_then(in_path);
        let mut command = Command::new(found.as_deref().map_or(program, Path::as_os_str));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.bindir.display());
        command
            .env_clear()
            .env("PATH", path)
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", self.path("home"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_DATA_HOME", self.path("share"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env(MARKER, &self.dir)
            .current_dir(&self.dir)
            .process_group(0);
        for name in ["RUST_LOG", "PGQUORUM_LOG", "RUST_BACKTRACE", "PGQUORUM_MUTANT"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// Remembers a monitor to ask for its events when the test fails.
    pub fn remember_monitor(&self, uri: String) {
        self.monitors.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(uri);
    }

    /// What the monitors know: nodes and events, of the first one that answers.
    pub fn describe(&self) -> String {
        let monitors = self.monitors.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut text = String::new();
        for uri in monitors {
            match sql::events(&uri) {
                Ok(events) => {
                    text.push_str(&format!("{uri} knows:\n{events}\n"));
                    break;
                }
                Err(error) => text.push_str(&format!("{uri} does not answer: {error}\n")),
            }
        }
        text
    }

    /// Fails when a process of the lab has logged a panic, even if nobody noticed.
    fn no_panics(&self) -> Result<()> {
        for entry in fs::read_dir(self.path("log"))? {
            let path = entry?.path();
            let log = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
                crate::bail!("{} says: {line}", path.display());
            }
        }
        Ok(())
    }

    /// Kills everything that lives in the lab.
    fn kill_all(&self) -> Result<()> {
        let marker = format!("{MARKER}={}", self.dir.display());
        wait_until("the end of all processes of the lab", Duration::from_secs(20), || {
            let pids = living_in(&self.dir, &marker);
            signal_all(&pids, Signal::SIGKILL)?;
            Ok(pids.is_empty().then_some(()))
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.kill_all() {
            eprintln!("{error}");
        }
        for port in self.ports.all() {
            for suffix in ["", ".lock"] {
                _ = fs::remove_file(format!("/var/run/postgresql/.s.PGSQL.{port}{suffix}"));
            }
        }
        if self.keep.load(Ordering::Relaxed) || std::thread::panicking() {
            eprintln!("logs are kept in {}", self.dir.display());
            strip_data(&self.dir);
        } else if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("could not remove {}: {error}", self.dir.display());
        }
    }
}

/// Where labs live.
fn base() -> Result<PathBuf> {
    let base = std::env::temp_dir().join("pgquorum-lab");
    fs::create_dir_all(&base).context(format!("create {}", base.display()))?;
    // Others may run labs, too.
    _ = fs::set_permissions(&base, fs::Permissions::from_mode(0o1777));
    Ok(base)
}

/// Waits for this machine's turn: heavy tests would starve each other.
fn turn(name: &str) -> Option<Flock<File>> {
    let file = base().and_then(|base| lock_file(&base.join("turn")));
    match file {
        Ok(file) => match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Some(lock),
            Err((file, _)) => {
                eprintln!("{name}: waiting for another test to end");
                Flock::lock(file, FlockArg::LockExclusive).ok()
            }
        },
        Err(error) => {
            eprintln!("{name}: running beside others: {error}");
            None
        }
    }
}

/// Ends what a killed run left behind: labs whose lock is free and that still have processes.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let Ok(lock) = File::open(dir.join("lock")) else {
            continue;
        };
        let Ok(_lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
            continue;
        };
        let left = living_in(&dir, &format!("{MARKER}={}", dir.display()));
        if !left.is_empty() {
            eprintln!("ending {} processes that an earlier run left in {}", left.len(), dir.display());
            _ = signal_all(&left, Signal::SIGKILL);
            strip_data(&dir);
        }
    }
}

/// Removes the bulk of PostgreSQL's data directories, leaving logs and settings.
fn strip_data(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.join("PG_VERSION").exists() {
            for bulk in ["base", "pg_wal", "global", "pg_xact"] {
                _ = fs::remove_dir_all(path.join(bulk));
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "panic".to_owned())
}

#[expect(clippy::panic, reason = "this is how a test fails")]
fn fail(message: &str) -> ! {
    panic!("{message}")
}
