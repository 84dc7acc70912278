//! Disks that cannot be written. PostgreSQL's is spoken of as soon as it shows, because what PostgreSQL
//! says of it lies in its own log, if it found room there; the keeper's own is tried again at every tick.

use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};
use tokio::time::Instant;
use tracing::{error, info};

use crate::error::KeeperError;
use crate::keeper::Keeper;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Between two words about the same trouble.
const AGAIN: Duration = Duration::from_secs(10);
/// One WAL segment of the default size: PostgreSQL stops (PANIC) when it cannot make the next one.
const LEAST: u64 = 16 * 1024 * 1024;

#[derive(Default)]
pub struct Watch {
    looked: Option<Instant>,
    told: Option<String>,
}

impl Watch {
    /// Looks now and then, and logs what has changed.
    pub fn look(&mut self, pgdata: &Path) {
        if self.looked.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        self.looked = Some(Instant::now());
        let now = [pgdata.to_path_buf(), pgdata.join("pg_wal")].iter().find_map(|dir| trouble(dir));
        match (&now, &self.told) {
            (Some(text), told) if told.as_ref() != Some(text) => error!(
                "{text}: PostgreSQL cannot write there. It is started again, and this node comes back by itself, once \
                 that has been mended"
            ),
            (None, Some(_)) => info!("the file system of {} can be written again", pgdata.display()),
            _ => {}
        }
        self.told = now;
    }
}

fn trouble(dir: &Path) -> Option<String> {
    let found = statvfs(dir).ok()?;
    if found.flags().contains(FsFlags::ST_RDONLY) {
        return Some(format!("the file system of {} is mounted read-only", dir.display()));
    }
    let free = found.blocks_available() * found.fragment_size();
    (free < LEAST).then(|| format!("the file system of {} is full (less than 16 MB are free)", dir.display()))
}

/// The state on disk is not the keeper's.
pub struct Unsaved {
    told: Instant,
    consequence: String,
}

const WAITS: &str = "trying again at every tick";

impl Keeper {
    /// Every tick tries again; until then the old state on disk leads to the same actions.
    pub(crate) fn save(&mut self) {
        match self.state.save(&self.worker.paths.state) {
            Ok(()) => {
                if self.unsaved.take().is_some() {
                    info!("the state file can be written again");
                }
            }
            Err(error) => self.tell_unsaved(&error, WAITS),
        }
    }

    /// Says that the state file cannot be written and what is done in spite of it: each thing at once, and
    /// none all the time.
    pub(crate) fn tell_unsaved(&mut self, error: &KeeperError, consequence: &str) {
        let told = self.unsaved.as_ref().is_some_and(|unsaved| {
            (unsaved.consequence == consequence || consequence == WAITS) && unsaved.told.elapsed() < AGAIN
        });
        if !told {
            error!("{error}; {consequence}");
            self.unsaved = Some(Unsaved { told: Instant::now(), consequence: consequence.to_string() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_disk_is_no_trouble() {
        assert_eq!(trouble(Path::new("/proc/self/no such directory")), None);
        assert!(trouble(Path::new("/sys")).is_none_or(|text| text.contains("read-only") || text.contains("is full")));
        assert!(trouble(Path::new("/proc")).is_some_and(|text| text.contains("is full")), "it has no blocks at all");
    }
}
