//! The processes of a directory: those whose command line names it, those that work in it, as PostgreSQL's
//! do, and those whose environment says that their data directory is in it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn belongs(pid: i32, directory: &Path) -> bool {
    let below = |path: &[u8]| Path::new(OsStr::from_bytes(path)).starts_with(directory);
    let of = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let works_there = || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
    let named = || of("cmdline").split(|byte| *byte == 0).any(|word| below(word.strip_prefix(b"--pgdata=").unwrap_or(word)));
    // A stock keeper's children have a title for a command line and work above their node's directory.
    let of_a_keeper =
        || of("environ").split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(b"PGDATA=")).any(below);
    works_there() || named() || of_a_keeper()
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
