//! What a monitor costs its machine: CPU time, memory, writes and syncs to disk.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::command;
use crate::process::{resident, stat, ticks_per_second, tree, written};
use crate::requirements::in_path;
use crate::{Context, Result};

/// CPU time of a process and all below it, also of children that have ended meanwhile.
#[derive(Clone, Debug)]
pub struct Cpu {
    roots: Vec<i32>,
    ticks: u64,
    written: u64,
    at: Instant,
}

fn ticks(roots: &[i32]) -> u64 {
    tree(roots).into_iter().filter_map(stat).map(|s| s.ticks_with_children).sum()
}

fn bytes(roots: &[i32]) -> u64 {
    tree(roots).into_iter().filter_map(written).sum()
}

impl Cpu {
    pub fn start(roots: &[i32]) -> Self {
        Self { roots: roots.to_vec(), ticks: ticks(roots), written: bytes(roots), at: Instant::now() }
    }

    /// CPU seconds used since the start.
    pub fn seconds(&self) -> f64 {
        ticks(&self.roots).saturating_sub(self.ticks) as f64 / ticks_per_second()
    }

    /// Per cent of one core since the start.
    pub fn percent(&self) -> f64 {
        100.0 * self.seconds() / self.at.elapsed().as_secs_f64()
    }

    /// Bytes sent to disk a second since the start.
    pub fn bytes_per_second(&self) -> f64 {
        bytes(&self.roots).saturating_sub(self.written) as f64 / self.at.elapsed().as_secs_f64()
    }
}

/// Resident memory in MiB, shared pages counted in each process.
pub fn memory(roots: &[i32]) -> f64 {
    tree(roots).into_iter().filter_map(resident).sum::<u64>() as f64 / 1_048_576.0
}

/// Syncs a second, counted by `strace` for `time`; `None` without strace.
pub fn syncs(roots: &[i32], time: Duration) -> Result<Option<f64>> {
    let Some(strace) = in_path("strace") else {
        return Ok(None);
    };
    let out = std::env::temp_dir().join(format!("pgquorum-syncs-{}", std::process::id()));
    let mut count = Command::new("timeout");
    count.args(["--signal=INT", "--preserve-status", &time.as_secs().to_string()]);
    count.arg(strace).args(["-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs,msync"]);
    count.arg("-o").arg(&out);
    for pid in tree(roots) {
        count.args(["-p", &pid.to_string()]);
    }
    let done = command::run(count, time + Duration::from_secs(20))?;
    let trace = std::fs::read_to_string(&out).context(format!("strace left no trace: {done}"))?;
    _ = std::fs::remove_file(&out);
    let calls = trace.lines().filter(|line| line.contains("sync") && !line.contains("resumed>"));
    Ok(Some(calls.count() as f64 / time.as_secs_f64()))
}
