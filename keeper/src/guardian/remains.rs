//! Processes of a data directory, told by facts that cannot be stale: a number in a pid file may
//! belong to a zombie or to another program by now.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// `pid (comm) state ppid ...`
pub struct Stat {
    pub comm: String,
    pub state: char,
    pub parent: i32,
    /// User and system time, in ticks.
    pub cpu: u64,
    /// When it started, in ticks since boot: tells a process from a later one with its number.
    pub started: u64,
}

pub fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = text.rsplit_once(')')?;
    let comm = head.split_once('(')?.1.to_string();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok());
    Some(Stat {
        comm,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        cpu: number(11)? + number(12)?,
        started: number(19)?,
    })
}

/// No such process, or a zombie: it keeps its number until its parent has asked how it ended.
pub fn has_ended(pid: i32) -> bool {
    stat(pid).is_none_or(|stat| is_dead(&stat))
}

fn is_dead(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X')
}

/// A live PostgreSQL process that works in this data directory, under this user.
pub fn is_postgres_of(pid: i32, pgdata: &Path) -> bool {
    let Some(stat) = stat(pid) else { return false };
    if !matches!(stat.comm.as_str(), "postgres" | "postmaster") || is_dead(&stat) {
        return false;
    }
    if fs::metadata(format!("/proc/{pid}")).map(|m| m.uid()).ok() != Some(geteuid().as_raw()) {
        return false;
    }
    let Ok(cwd) = fs::read_link(format!("/proc/{pid}/cwd")) else { return false };
    let cwd = cwd.to_string_lossy();
    let cwd = Path::new(cwd.strip_suffix(" (deleted)").unwrap_or(&cwd));
    cwd == pgdata || fs::canonicalize(pgdata).is_ok_and(|real| cwd == real)
}

/// All of them but `spare`.
pub fn processes_of(pgdata: &Path, spare: Option<i32>) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| Some(*pid) != spare && is_postgres_of(*pid, pgdata))
        .collect()
}

/// SIGKILL to all of them; how many there were. A backend whose postmaster was killed can still commit
/// and acknowledge (measured: 2.2 s later).
pub fn kill_all(pgdata: &Path) -> usize {
    let pids = processes_of(pgdata, None);
    for pid in &pids {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    pids.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_no_postgres() {
        let me = std::process::id() as i32;
        let cwd = std::env::current_dir().unwrap();
        assert!(stat(me).unwrap().started > 0);
        assert!(!is_postgres_of(me, &cwd));
        assert!(!is_postgres_of(999_999_999, &cwd));
        assert!(processes_of(&cwd, None).is_empty());
    }

    /// kill(pid, 0) succeeds for a zombie; the facts in /proc do not lie.
    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while stat(pid).is_some_and(|s| s.state != 'Z') {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert!(kill(Pid::from_raw(pid), None).is_ok());
        assert!(!is_postgres_of(pid, Path::new("/")));
        child.wait().unwrap();
    }
}
