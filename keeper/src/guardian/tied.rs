//! Runs a program that must not outlive its keeper, nor leave anything behind: what a killed keeper had
//! begun, the next one begins anew, and two must not write into one directory. pg_basebackup forks a
//! receiver of WAL that goes on, and holds the replication slot, when only pg_basebackup is killed.
//!
//! The keeper puts this process into a group of its own and kills the group. When the keeper is killed,
//! the kernel tells this process, which then does the same.

use std::ffi::OsString;
use std::process::{Child, Command};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getpgrp, getpid, getppid};

use crate::error::{KeeperError, Result};

/// `PARENT PROGRAM ARGS...`. Ends with the program's exit code.
pub fn run(args: &[OsString]) -> Result<()> {
    let (Some(parent), Some(program)) = (args.first().and_then(|p| p.to_str()?.parse::<i32>().ok()), args.get(1)) else {
        return Err(KeeperError::arguments("guardian --tied: PARENT PROGRAM ARGS"));
    };
    if getpgrp() != getpid() {
        return Err(KeeperError::arguments("guardian --tied: not the leader of a process group"));
    }
    let mut awaited = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        awaited.add(signal);
    }
    let fail = |error: nix::errno::Errno| KeeperError::internal(format!("guardian --tied: {error}"));
    // The child does not inherit the blocked signals: the standard library clears the mask.
    awaited.thread_block().map_err(fail)?;
    prctl::set_pdeathsig(Signal::SIGTERM).map_err(fail)?;
    // The keeper may have died before the line above.
    if getppid().as_raw() != parent {
        return Err(KeeperError::internal("the keeper is gone"));
    }
    let mut child = Command::new(program)
        .args(&args[2..])
        .spawn()
        .map_err(|error| KeeperError::postgres(format!("cannot run {}: {error}", program.to_string_lossy())))?;
    loop {
        if awaited.wait().map_err(fail)? != Signal::SIGCHLD {
            return end_all(&mut child);
        }
        match child.try_wait() {
            Ok(Some(status)) => match status.code() {
                Some(code) => std::process::exit(code),
                // Killed by somebody: what it had forked is not to go on alone.
                None => return end_all(&mut child),
            },
            Ok(None) => {}
            Err(_) => return end_all(&mut child),
        }
    }
}

/// SIGKILL to the whole group, this process included.
fn end_all(child: &mut Child) -> Result<()> {
    let _ = kill(Pid::from_raw(-getpid().as_raw()), Signal::SIGKILL);
    let _ = child.wait();
    Err(KeeperError::internal("survived SIGKILL"))
}
