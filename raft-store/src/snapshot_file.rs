//! Snapshot files: one envelope per file, written to a temporary name, synced, renamed; two kept.
//!
//! Name: `<index, 20 digits>-<term>.snapshot`. The newest that reads well is used; a damaged newest
//! one is an error, because the log before it is purged and an older state would be half a state.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::codec::{self, Blob, Kind};
use crate::identity::write_durably;
use crate::stored::StoredSnapshotMeta;

const VERSION: u16 = 1;
const KEEP: usize = 2;
const SUFFIX: &str = ".snapshot";

/// One snapshot: what it covers and the state's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// Covered log and membership.
    pub meta: StoredSnapshotMeta,
    /// Encoded [`crate::state_store::Content`].
    pub content: Blob,
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
        Ok(entries) => entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?,
    };
    files.retain(|p| p.to_string_lossy().ends_with(SUFFIX));
    files.sort();
    Ok(files)
}

impl SnapshotFile {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, codec::CodecError> {
        codec::encode_sealed(Kind::Snapshot, VERSION, self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, codec::CodecError> {
        let (_, payload) = codec::open(Kind::Snapshot, VERSION, bytes)?;
        codec::decode(payload)
    }

    /// Writes it durably, then removes all but the newest two.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        // What a crash left of an earlier attempt.
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                std::fs::remove_file(path)?;
            }
        }
        let (index, term) = self.meta.last.map_or((0, 0), |l| (l.index, l.term));
        write_durably(&dir.join(format!("{index:020}-{term}{SUFFIX}")), &[&self.encode().map_err(io::Error::other)?])?;
        let files = list(dir)?;
        for old in files.iter().rev().skip(KEEP) {
            if let Err(e) = std::fs::remove_file(old) {
                tracing::warn!("{}: {e}", old.display());
            }
        }
        Ok(())
    }

    /// The newest snapshot, if there is any.
    pub fn newest(dir: &Path) -> Result<Option<SnapshotFile>, (PathBuf, String)> {
        let files = list(dir).map_err(|e| (dir.to_path_buf(), e.to_string()))?;
        let Some(path) = files.last() else { return Ok(None) };
        let read = std::fs::read(path).map_err(|e| e.to_string());
        match read.and_then(|b| Self::decode(&b).map_err(|e| e.to_string())) {
            Ok(s) => Ok(Some(s)),
            Err(e) => Err((path.clone(), e)),
        }
    }
}
