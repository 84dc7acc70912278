//! The processes of a directory: those whose command line names it, those that work in it, as PostgreSQL's
//! do, and those whose environment says that their data directory is in it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn belongs(pid: i32, directory: &Path) -> bool {
    let works_there = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
    let named = || {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| {
            let word = word.strip_prefix(b"--pgdata=").unwrap_or(word);
            Path::new(std::ffi::OsStr::from_bytes(word)).starts_with(directory)
        })
    };
    // A stock keeper's children have a title for a command line and work above their node's directory.
    let of_a_keeper = || {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut entries = environment.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(b"PGDATA="));
        entries.any(|pgdata| Path::new(std::ffi::OsStr::from_bytes(pgdata)).starts_with(directory))
    };
    works_there || named() || of_a_keeper()
}

fn all_of(directory: &Path) -> Vec<Pid> {
    let own = std::process::id() as i32;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own && belongs(*pid, directory))
        .map(Pid::from_raw)
        .collect()
}

/// SIGKILL for everything of a directory, all in one instant: first they are stopped, so that none sees
/// another one die and acts upon it.
pub fn kill_below(directory: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let victims = all_of(directory);
        if victims.is_empty() || Instant::now() > deadline {
            return;
        }
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for pid in &victims {
                let _ = kill(*pid, signal);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
