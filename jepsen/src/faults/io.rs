//! I/O errors of a machine: strace answers system calls of its processes with EIO, on live processes and
//! those that they start. It needs no device mapper, and no root where the processes are ours.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::net::Machine;
use crate::process::{Process, stat};
use crate::requirements::in_path;
use crate::wait::wait_until;
use crate::{Context, Lab, Result, bail, ensure};

/// Calls that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// What makes writes durable, and nothing else: a failed sync is the error that programs forget.
    Syncs,
    /// Reads and writes at an offset, too: those of PostgreSQL and of the store, not those of sockets.
    All,
}

impl Calls {
    fn names(self) -> &'static str {
        match self {
            Self::Syncs => "fsync,fdatasync,sync_file_range,msync",
            Self::All => {
                "fsync,fdatasync,sync_file_range,msync,pwrite64,pwritev,pwritev2,pread64,preadv,preadv2"
            }
        }
    }
}

/// Errors in force, until they are healed or we end.
pub struct Errors {
    tracers: Vec<Process>,
    said: Vec<PathBuf>,
}

/// strace's mark at a call that it has answered itself.
const MARK: &str = "(INJECTED)";

/// Whether system calls of living processes can be answered here; the error says what is missing.
pub fn probe() -> Result<()> {
    in_path("strace").context("strace is missing (Debian: strace)")?;
    let said = std::env::temp_dir().join(format!("pgquorum-strace-{}", std::process::id()));
    let mut victim = Command::new("sleep").arg("20").spawn().context("start sleep")?;
    let pid = i32::try_from(victim.id())?;
    let mut strace = Command::new("strace");
    strace.args(arguments(&said, &[pid], Calls::All)).stdout(Stdio::null()).stderr(Stdio::piped());
    let seen = strace.spawn().context("start strace").and_then(|mut tracer| {
        let seen = wait_until("strace", Duration::from_secs(5), || Ok((traced(pid) || tracer.try_wait()?.is_some()).then_some(())));
        let works = seen.is_ok() && traced(pid);
        tracer.kill()?;
        let said = tracer.wait_with_output()?;
        ensure!(
            works,
            "strace cannot attach to processes (as root, or with kernel.yama.ptrace_scope=0, it can): {}",
            String::from_utf8_lossy(&said.stderr).trim()
        );
        Ok(())
    });
    victim.kill()?;
    victim.wait()?;
    _ = fs::remove_file(&said);
    seen
}

fn arguments(said: &Path, pids: &[i32], calls: Calls) -> Vec<OsString> {
    let (names, pids): (_, Vec<String>) = (calls.names(), pids.iter().map(ToString::to_string).collect());
    let mut all: Vec<OsString> = vec!["-f".into(), "-qq".into(), "-e".into(), "signal=none".into()];
    all.extend(["-e".into(), format!("trace={names}").into(), "-e".into(), format!("inject={names}:error=EIO").into()]);
    all.extend(["-o".into(), said.into(), "-p".into(), pids.join(",").into()]);
    all
}

fn traced(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("TracerPid:")).is_some_and(|by| by.trim() != "0")
}

fn gone(pid: i32) -> bool {
    stat(pid).is_none_or(|stat| stat.state == 'Z')
}

impl Errors {
    /// From now on these calls of everything that runs on a machine fail. Returns when each of its processes
    /// is traced.
    pub fn install(lab: &Lab, machine: &Machine, calls: Calls) -> Result<Self> {
        ensure!(!machine.pids().is_empty(), "nothing runs on {}", machine.name);
        let mut errors = Self { tracers: Vec::new(), said: Vec::new() };
        // Once more for what was forked by somebody who was not traced yet.
        for _ in 0..4 {
            let free: Vec<i32> = machine.pids().into_iter().filter(|pid| !traced(*pid)).collect();
            if free.is_empty() {
                return Ok(errors);
            }
            // Every call of a traced process waits for its tracer: the keeper shall not wait behind the calls
            // of PostgreSQL.
            let postgres = machine.pids_of("postgres");
            let (servers, others): (Vec<i32>, Vec<i32>) = free.iter().partition(|pid| postgres.contains(pid));
            for pids in [others, servers] {
                errors.trace(lab, &machine.name, &pids, calls)?;
            }
        }
        bail!("some of {} cannot be traced", machine.name)
    }

    fn trace(&mut self, lab: &Lab, machine: &str, pids: &[i32], calls: Calls) -> Result<()> {
        if pids.is_empty() {
            return Ok(());
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let said = lab.log(&format!("strace-{machine}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let mut strace = lab.command_as_us("setpriv");
        // It goes with us, whatever happens to us.
        strace.args(["--pdeathsig", "TERM", "strace"]).args(arguments(&said, pids, calls));
        let tracer = Process::spawn("strace", strace, &lab.log("strace"))?;
        let seen = wait_until("processes to be traced", Duration::from_secs(10), || {
            let all = pids.iter().all(|pid| gone(*pid) || traced(*pid));
            ensure!(all || tracer.running(), "strace has ended, see {}", tracer.log.display());
            Ok(all.then_some(()))
        });
        self.said.push(said);
        self.tracers.push(tracer);
        seen
    }

    /// Ends them; how many calls have failed. Ending them twice is no error.
    pub fn heal(&self) -> Result<usize> {
        for tracer in self.tracers.iter().filter(|tracer| tracer.running()) {
            // It lets go of everybody first; killed, the kernel does that.
            tracer.signal(Signal::SIGTERM)?;
            if tracer.wait(Duration::from_secs(3)).is_err() {
                tracer.signal(Signal::SIGKILL)?;
                tracer.wait(Duration::from_secs(10))?;
            }
        }
        Ok(self.said.iter().map(|path| marks(path)).sum())
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        if let Err(error) = self.heal() {
            eprintln!("{error}");
        }
    }
}

fn marks(path: &Path) -> usize {
    fs::read(path).map_or(0, |text| String::from_utf8_lossy(&text).matches(MARK).count())
}
