//! Processes: started with their output in a log file, watched and signalled through /proc.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_until;
use crate::{Context, Result};

/// A long-running child. It lives as long as its lab: dropping the handle does not end it, so that a
/// monitor can still be asked after the test that failed.
pub struct Process {
    pub name: String,
    pub log: PathBuf,
    pid: i32,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command`, appending its output to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .context(format!("open the log {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().context(format!("start {name} ({:?})", command.get_program()))?;
        let pid = i32::try_from(child.id())?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), pid, child: Mutex::new(child) })
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The exit status, once there is one.
    pub fn exited(&self) -> Result<Option<ExitStatus>> {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(child.try_wait()?)
    }

    pub fn running(&self) -> bool {
        matches!(self.exited(), Ok(None))
    }

    /// Waits for the end of the process.
    pub fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        wait_until(&format!("the end of {}", self.name), deadline, || self.exited())
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_all(&[self.pid], signal)
    }

    /// Sends a signal to the process and all its descendants.
    pub fn signal_tree(&self, signal: Signal) -> Result<()> {
        signal_all(&tree(&[self.pid]), signal)
    }

    /// Kills the process and its descendants in one instant: all are stopped first, so that none
    /// sees another one die. Returns when the process is gone.
    pub fn kill(&self) -> Result<()> {
        if self.exited()?.is_none() {
            kill_at_once(|| tree(&[self.pid]))?;
        }
        self.wait(Duration::from_secs(10)).map(drop)
    }
}

/// Signals processes; one that is gone already is no error.
pub fn signal_all(pids: &[i32], signal: Signal) -> Result<()> {
    for &pid in pids {
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).context(format!("send {signal} to {pid}")),
        }
    }
    Ok(())
}

/// Stops all that `find` finds, then kills all: as if they had lost power together. It looks again until
/// nobody is new: who forks at this moment has a child that the first look did not see.
pub fn kill_at_once(find: impl Fn() -> Vec<i32>) -> Result<()> {
    let mut stopped: Vec<i32> = Vec::new();
    loop {
        let new: Vec<i32> = find().into_iter().filter(|pid| !stopped.contains(pid)).collect();
        if new.is_empty() {
            return signal_all(&stopped, Signal::SIGKILL);
        }
        signal_all(&new, Signal::SIGSTOP)?;
        wait_until("processes stopped", Duration::from_secs(5), || {
            let runs = |pid: &i32| stat(*pid).is_some_and(|stat| matches!(stat.state, 'R' | 'S'));
            Ok((!new.iter().any(runs)).then_some(()))
        })?;
        stopped.extend(new);
    }
}

/// One line of /proc/PID/stat.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    pub parent: i32,
    pub state: char,
    /// User plus system time in clock ticks, without and with the children already waited for.
    pub ticks: u64,
    pub ticks_with_children: u64,
}

/// Reads /proc/PID/stat; `None` when the process is gone.
pub fn stat(pid: i32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold blanks and parentheses: fields count from the last one.
    let fields: Vec<&str> = line.get(line.rfind(')')? + 2..)?.split(' ').collect();
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok());
    let own = number(11)? + number(12)?;
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        ticks: own,
        ticks_with_children: own + number(13)? + number(14)?,
    })
}

/// All processes of this machine.
pub fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The processes `roots` and their descendants, parents before children.
pub fn tree(roots: &[i32]) -> Vec<i32> {
    let parents: BTreeMap<i32, i32> =
        all().into_iter().filter_map(|pid| Some((pid, stat(pid)?.parent))).collect();
    let mut found: Vec<i32> = roots.to_vec();
    let mut i = 0;
    while let Some(&parent) = found.get(i) {
        found.extend(
            parents.iter().filter(|&(pid, p)| *p == parent && !roots.contains(pid)).map(|(pid, _)| *pid),
        );
        i += 1;
    }
    found
}

/// Processes that live in `dir`: they work there, or carry `marker` in their environment.
/// (PostgreSQL overwrites its environment, but works in its data directory.)
pub fn living_in(dir: &Path, marker: &str) -> Vec<i32> {
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    all()
        .into_iter()
        .filter(|&pid| pid != me && stat(pid).is_some_and(|s| s.state != 'Z'))
        .filter(|pid| {
            let works = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
            works
                || fs::read(format!("/proc/{pid}/environ"))
                    .is_ok_and(|env| env.split(|b| *b == 0).any(|var| var == marker.as_bytes()))
        })
        .collect()
}

/// Resident memory of a process in bytes.
pub fn resident(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Bytes that a process caused to be written to disk.
pub fn written(pid: i32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

/// Clock ticks per second, the unit of [`Stat::ticks`].
pub fn ticks_per_second() -> f64 {
    // USER_HZ is 100 on every Linux architecture that PostgreSQL runs on.
    100.0
}
