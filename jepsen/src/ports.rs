//! Ports for one lab, safe against other labs running at the same time: a block of twenty is taken
//! by locking a file, and held as long as the lab lives.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::fcntl::{Flock, FlockArg};

use crate::{Context, Result, bail};

/// Below the kernel's ephemeral range, so that no outgoing connection ever sits on one of them; a
/// monitor's replica port is its SQL port plus [`REPLICA_OFFSET`].
const FIRST: u16 = 11_000;
const BLOCK: u16 = 20;
const BLOCKS: u16 = 450;
pub const REPLICA_OFFSET: u16 = 10_000;

pub struct Ports {
    _lock: Flock<File>,
    first: u16,
    used: AtomicU16,
}

impl Ports {
    /// Takes a free block; `locks` is a directory that all labs of this machine share.
    pub fn take(locks: &Path) -> Result<Self> {
        // Start somewhere of our own, so that runs at the same time seldom try the same blocks.
        let start = (std::process::id() % u32::from(BLOCKS)) as u16;
        for i in 0..BLOCKS {
            let block = (start + i) % BLOCKS;
            let first = FIRST + block * BLOCK;
            let path = locks.join(format!("ports-{first}"));
            let file = lock_file(&path)?;
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            if (first..first + BLOCK).all(|port| free(port) && free(port + REPLICA_OFFSET)) {
                return Ok(Self { _lock: lock, first, used: AtomicU16::new(0) });
            }
        }
        bail!("no block of {BLOCK} free ports below {}", FIRST + BLOCK * BLOCKS)
    }

    /// One more port of the block.
    pub fn next(&self) -> Result<u16> {
        let n = self.used.fetch_add(1, Ordering::Relaxed);
        if n >= BLOCK {
            bail!("the lab's {BLOCK} ports are used up");
        }
        Ok(self.first + n)
    }

    /// All ports of the block.
    pub fn all(&self) -> std::ops::Range<u16> {
        self.first..self.first + BLOCK
    }
}

/// Opens a file to lock, which may be another user's.
pub fn lock_file(path: &Path) -> Result<File> {
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    open.or_else(|_| File::open(path)).context(format!("open {}", path.display()))
}

fn free(port: u16) -> bool {
    TcpListener::bind(("0.0.0.0", port)).is_ok()
}
