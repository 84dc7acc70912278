//! Table spaces lie outside of the data directory, at the same path on every node. What an old copy has
//! there must go before a new one is made, and nothing else may.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::error::{KeeperError, Result};
use crate::files;
use crate::paths::Paths;

/// A directory that this node's cluster made in a table space, `PG_15_202209061` or the like. Inode and
/// birth tell it from any other that has the same name later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    directory: PathBuf,
    device: u64,
    inode: u64,
    /// Nanoseconds since 1970.
    born: u128,
}

impl Made {
    /// `None` where the file system knows no time of birth: then nothing proves whose it is.
    fn of(directory: &Path) -> Option<Made> {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::symlink_metadata(directory).ok().filter(fs::Metadata::is_dir)?;
        let born = meta.created().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(Made { directory: directory.to_path_buf(), device: meta.dev(), inode: meta.ino(), born })
    }
}

fn memory(paths: &Paths) -> PathBuf {
    paths.data_home.join("tablespaces.json")
}

fn locations(pgdata: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(pgdata.join("pg_tblspc")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).filter(|path| path.is_absolute()).collect()
}

/// What a cluster of this major version has there; one of another version may share the directory.
fn of_version(location: &Path, major: u32) -> Vec<PathBuf> {
    let ours = format!("PG_{major}_");
    let entries = fs::read_dir(location).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours)).map(|entry| entry.path()).collect()
}

/// Keeps in mind which directories are this node's, for the day when its data directory is gone and no
/// link leads to them any more.
pub fn remember(paths: &Paths) -> Result<()> {
    let version = files::read_text(&paths.pgdata.join("PG_VERSION"))?;
    let Some(major) = version.and_then(|text| text.trim().parse().ok()) else { return Ok(()) };
    let mut made: Vec<Made> = locations(&paths.pgdata)
        .iter()
        .flat_map(|location| of_version(location, major))
        .filter_map(|directory| Made::of(&directory))
        .collect();
    made.sort_by(|a, b| a.directory.cmp(&b.directory));
    let path = memory(paths);
    let before = files::read_text(&path)?;
    if made.is_empty() && before.is_none() {
        return Ok(());
    }
    let text = serde_json::to_string_pretty(&made)
        .map_err(|error| KeeperError::internal(format!("cannot encode the table spaces: {error}")))?;
    match before.as_deref() == Some(&text) {
        true => Ok(()),
        false => files::write_atomic(&path, text.as_bytes(), 0o600),
    }
}

/// Before a copy takes the place of a data directory that is gone: empties what this node provably made
/// in its table spaces, and nothing that somebody put there since.
pub fn reclaim(paths: &Paths) -> Result<()> {
    let Some(text) = files::read_text(&memory(paths))? else { return Ok(()) };
    let made: Vec<Made> = serde_json::from_str(&text).unwrap_or_default();
    for old in made.iter().filter(|old| old.directory.exists()) {
        if Made::of(&old.directory).as_ref() != Some(old) {
            return Err(KeeperError::state(format!(
                "the data directory is gone, and {} in a table space is not the directory that this node made there. \
                 If nobody needs it, remove it (rm -r {}); the keeper then goes on with a copy of the primary",
                old.directory.display(),
                old.directory.display()
            )));
        }
    }
    for old in made.iter().filter(|old| old.directory.exists()) {
        warn!("the data directory is gone: removing {}, which this node made in a table space", old.directory.display());
        remove_dir(&old.directory)?;
    }
    Ok(())
}

/// Empties the table spaces of the copy in `dir`. From then on the node's own data directory is no cluster
/// any more, and says so, lest a copy that fails lead to a start without the table spaces' files.
pub fn vacate(pgdata: &Path, dir: &Path, major: u32) -> Result<()> {
    let spaces = locations(dir);
    if !spaces.is_empty() && dir == pgdata {
        warn!("emptying {} table space(s) of the old copy; {} is void from now on", spaces.len(), dir.display());
        files::remove(&dir.join("PG_VERSION"))?;
    }
    spaces.iter().flat_map(|space| of_version(space, major)).try_for_each(|dir| remove_dir(&dir))
}

/// pg_basebackup says which directory is in its way, and not what to do about it.
pub fn explain(error: KeeperError, major: u32) -> KeeperError {
    if !error.message.contains("exists but is not empty") {
        return error;
    }
    KeeperError::state(format!(
        "{}. A table space of the primary belongs there, and nothing proves that the files in it are this node's. If \
         nobody needs them, remove them (rm -r DIRECTORY/PG_{major}_*); the keeper then goes on with the copy",
        error.message
    ))
}

pub(super) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(KeeperError::io(format!("cannot remove {}", path.display()), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster with one table space that holds a file, and a directory of another release.
    fn cluster(root: &Path) -> (Paths, PathBuf) {
        let file = |name: &str| root.join(name);
        let paths = Paths {
            pgdata: file("data"),
            config: file("cfg"),
            state: file("state"),
            init: file("init"),
            pid: file("pid"),
            data_home: file("home"),
        };
        let space = file("space");
        for dir in [paths.pgdata.join("pg_tblspc"), paths.data_home.clone(), space.join("PG_15_202209061/5")] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::create_dir(space.join("PG_14_202107181")).unwrap();
        fs::write(space.join("PG_15_202209061/5/16384"), "rows").unwrap();
        fs::write(paths.pgdata.join("PG_VERSION"), "15\n").unwrap();
        std::os::unix::fs::symlink(&space, paths.pgdata.join("pg_tblspc/16390")).unwrap();
        (paths, space)
    }

    #[test]
    fn what_the_node_made_is_removed_when_its_data_directory_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let (paths, space) = cluster(root.path());
        reclaim(&paths).unwrap();
        assert!(space.join("PG_15_202209061").exists(), "nothing is remembered yet");
        remember(&paths).unwrap();
        fs::remove_dir_all(&paths.pgdata).unwrap();
        // The data directory is gone, and what was known stays known.
        remember(&paths).unwrap();
        reclaim(&paths).unwrap();
        assert!(!space.join("PG_15_202209061").exists() && space.join("PG_14_202107181").exists());
        reclaim(&paths).unwrap();
    }

    #[test]
    fn what_somebody_else_put_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let (paths, space) = cluster(root.path());
        remember(&paths).unwrap();
        fs::remove_dir_all(&paths.pgdata).unwrap();
        let place = space.join("PG_15_202209061");
        fs::rename(&place, root.path().join("elsewhere")).unwrap();
        fs::create_dir(&place).unwrap();
        fs::write(place.join("precious"), "").unwrap();
        let error = reclaim(&paths).unwrap_err().to_string();
        assert!(error.contains(&format!("rm -r {}", place.display())), "{error}");
        assert!(place.join("precious").exists());
    }

    #[test]
    fn the_table_spaces_of_a_copy_are_emptied_and_the_copy_is_void() {
        let root = tempfile::tempdir().unwrap();
        let (paths, space) = cluster(root.path());
        vacate(&paths.pgdata, &paths.pgdata, 15).unwrap();
        assert!(!paths.pgdata.join("PG_VERSION").exists());
        assert!(!space.join("PG_15_202209061").exists() && space.join("PG_14_202107181").exists());
    }

    #[test]
    fn pg_basebackups_complaint_says_what_to_do() {
        let said = KeeperError::postgres("pg_basebackup: error: directory \"/ts\" exists but is not empty");
        assert!(explain(said, 15).to_string().contains("PG_15_*"));
        assert!(!explain(KeeperError::postgres("no space"), 15).to_string().contains("table space"));
    }
}
