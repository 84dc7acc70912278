//! Opening sled with care: patience with its lock, panics as errors, examination of a copy first.

use std::io;
use std::path::{Path, PathBuf};

use sled::Db;

/// A copy of a database for examination, removed when dropped.
pub struct Copy {
    dir: PathBuf,
    /// The copied database.
    pub log: PathBuf,
}

impl Copy {
    /// Copies; an older copy is replaced.
    pub fn of(log: &Path) -> Result<Copy, String> {
        let dir = log.with_file_name("examined");
        let copy = Copy { log: dir.join("log"), dir };
        let _ = std::fs::remove_dir_all(&copy.dir);
        copy_tree(log, &copy.log).map_err(|e| format!("cannot copy the log to {}: {e}", copy.dir.display()))?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// sled panics on some kinds of corruption; a panic while opening is an error like any other.
pub fn catch<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(r) => r,
        Err(p) => {
            let text = p.downcast_ref::<String>().cloned().or_else(|| p.downcast_ref::<&str>().map(|s| (*s).to_string()));
            Err(format!("sled cannot read its files ({})", text.unwrap_or_else(|| "panic".into())))
        }
    }
}

/// What sled says when somebody else has the database.
pub const LOCKED: &str = "could not acquire lock";

/// Opens or creates a database.
pub fn open_db(dir: &Path) -> Result<Db, String> {
    // sled's own threads let go of a closed database a moment after the last handle.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(3);
    loop {
        let opened = sled::Config::new().path(dir).flush_every_ms(None).cache_capacity(64 << 20).open();
        match opened.map_err(|e| e.to_string()) {
            Err(e) if e.contains(LOCKED) && std::time::Instant::now() < patience => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            r => return r,
        }
    }
}

