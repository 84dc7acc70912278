//! The identity file: whose store this is. Beside sled, written once, rewritten when the cluster's
//! id becomes known. Its presence is the promise "this store has voted": if it exists and the log
//! does not, the replica refuses to start instead of starting empty.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, Kind};
use crate::internal::Id16;
use crate::log_writer::sync_dir;

const VERSION: u16 = 1;

/// Contents of the identity file (version 1, frozen).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Replica id in the cluster.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Random, one per life of a store.
    pub incarnation: Id16,
    /// The cluster it belongs to; none until its first leader has named it.
    pub cluster_id: Option<Id16>,
    /// A rejoin was begun and has not finished.
    pub rejoining: bool,
}

impl Identity {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode_sealed(Kind::Identity, VERSION, self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (_, payload) = codec::open(Kind::Identity, VERSION, bytes)?;
        codec::decode(payload)
    }

    /// Reads the file; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Identity>, String> {
        match std::fs::read(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.to_string()),
            Ok(bytes) => Self::decode(&bytes).map(Some).map_err(|e| e.to_string()),
        }
    }

    /// Writes the file durably and atomically.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        write_durably(path, &[&self.encode().map_err(io::Error::other)?])
    }
}

/// tmp + fsync + rename + fsync of the directory.
pub fn write_durably(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let tmp = path.with_extension("tmp");
    let mut file = File::create(&tmp)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    std::fs::rename(&tmp, path)?;
    match path.parent() {
        Some(dir) => sync_dir(dir),
        None => Ok(()),
    }
}
