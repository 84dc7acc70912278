//! What a node must remember: who it is, where it stands, what it was told.
//!
//! Layout: `pgqstate`, then little-endian u32 format version, u32 length, u32 CRC32C of the
//! payload, then the payload in bincode. A new goal is written before it is acted on.

use std::path::Path;

use failover::NodeState;
use serde::{Deserialize, Serialize};

use crate::error::{KeeperError, Result};
use crate::files;

const MAGIC: &[u8; 8] = b"pgqstate";
const VERSION: u32 = 1;
const HEADER: usize = 20;

/// The node's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperState {
    pub node_id: i64,
    pub group: i32,
    /// What the node has reached.
    pub current: NodeState,
    /// What it was told to reach.
    pub assigned: NodeState,
    /// The newest configuration epoch seen; 0 while the monitors hand out none.
    pub epoch: u64,
    /// 0: not known yet.
    pub system_identifier: u64,
    /// `server_version_num`, such as 150018; 0: not known yet.
    pub pg_version: u32,
    /// Unix seconds, for people only; deadlines run on another clock. 0: never.
    pub last_monitor_contact: i64,
    pub last_secondary_contact: i64,
}

/// Version 1 on disk. States are stored by name, so that no enum order becomes a format.
#[derive(Serialize, Deserialize)]
struct V1 {
    node_id: i64,
    group: i32,
    current: String,
    assigned: String,
    epoch: u64,
    system_identifier: u64,
    pg_version: u32,
    last_monitor_contact: i64,
    last_secondary_contact: i64,
}

impl KeeperState {
    pub fn new(node_id: i64, group: i32, assigned: NodeState) -> KeeperState {
        KeeperState {
            node_id,
            group,
            current: NodeState::Init,
            assigned,
            epoch: 0,
            system_identifier: 0,
            pg_version: 0,
            last_monitor_contact: 0,
            last_secondary_contact: 0,
        }
    }

    /// Reads the file; `None` when there is none. A damaged file is an error that says what to do.
    pub fn load(path: &Path) -> Result<Option<KeeperState>> {
        match std::fs::read(path) {
            Ok(bytes) => decode(&bytes).map(Some).map_err(|what| {
                KeeperError::state(format!(
                    "the state file {} {what}. Nothing is started on guesswork: restore the file from a backup of \
                     this moment, or remove this node with `pgquorum drop node` from another machine, move the file \
                     away and run `pgquorum create postgres` again (the data directory is reused when it fits)",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(KeeperError::io(format!("cannot read {}", path.display()), &error)),
        }
    }

    /// Writes the file durably. Returns only once a power cut cannot take it back.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, &self.encode()?, 0o600)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let payload = bincode::serialize(&V1 {
            node_id: self.node_id,
            group: self.group,
            current: self.current.name().to_string(),
            assigned: self.assigned.name().to_string(),
            epoch: self.epoch,
            system_identifier: self.system_identifier,
            pg_version: self.pg_version,
            last_monitor_contact: self.last_monitor_contact,
            last_secondary_contact: self.last_secondary_contact,
        })
        .map_err(|error| KeeperError::internal(format!("cannot encode the state: {error}")))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(crc32c::crc32c(&payload).to_le_bytes());
        bytes.extend(payload);
        Ok(bytes)
    }
}

fn decode(bytes: &[u8]) -> std::result::Result<KeeperState, String> {
    let word = |at: usize| -> Option<u32> { Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
    if bytes.get(..8) != Some(MAGIC.as_slice()) {
        return Err("was not written by pgquorum (stock pg_autoctl keeps another format in the same place)".to_string());
    }
    let (Some(version), Some(length), Some(checksum)) = (word(8), word(12), word(16)) else {
        return Err("is cut short".to_string());
    };
    if version != VERSION {
        return Err(format!("has format {version}, which this release does not know (it knows {VERSION})"));
    }
    let payload = bytes.get(HEADER..).unwrap_or_default();
    if payload.len() != length as usize || crc32c::crc32c(payload) != checksum {
        return Err("is damaged (its checksum does not match)".to_string());
    }
    let v1: V1 = bincode::deserialize(payload).map_err(|error| format!("is damaged ({error})"))?;
    let state = |name: &str| NodeState::from_name(name).ok_or_else(|| format!("names the unknown state \"{name}\""));
    Ok(KeeperState {
        node_id: v1.node_id,
        group: v1.group,
        current: state(&v1.current)?,
        assigned: state(&v1.assigned)?,
        epoch: v1.epoch,
        system_identifier: v1.system_identifier,
        pg_version: v1.pg_version,
        last_monitor_contact: v1.last_monitor_contact,
        last_secondary_contact: v1.last_secondary_contact,
    })
}

/// What `create` found in the data directory. The file exists while creation is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitStage {
    /// No data directory: it is made by initdb or pg_basebackup.
    Empty,
    /// A cluster that was stopped.
    Exists,
    /// A cluster that was running.
    Running,
    /// A running cluster that takes writes.
    Primary,
}

impl InitStage {
    const NAMES: [(InitStage, &'static str); 4] = [
        (InitStage::Empty, "empty"),
        (InitStage::Exists, "exists"),
        (InitStage::Running, "running"),
        (InitStage::Primary, "primary"),
    ];

    pub fn name(self) -> &'static str {
        InitStage::NAMES.iter().find(|(stage, _)| *stage == self).map_or("empty", |(_, name)| name)
    }

    pub fn load(path: &Path) -> Result<Option<InitStage>> {
        let Some(text) = files::read_text(path)? else { return Ok(None) };
        let name = text.trim().strip_prefix("pgquorum init 1 ").unwrap_or("");
        InitStage::NAMES.iter().find(|(_, n)| *n == name).map(|(stage, _)| Some(*stage)).ok_or_else(|| {
            KeeperError::state(format!(
                "the init file {} is damaged or not ours; remove it together with the state file and run \
                 `pgquorum create postgres` again",
                path.display()
            ))
        })
    }

    pub fn save(self, path: &Path) -> Result<()> {
        files::write_atomic(path, format!("pgquorum init 1 {}\n", self.name()).as_bytes(), 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> KeeperState {
        KeeperState {
            current: NodeState::Secondary,
            epoch: 7,
            system_identifier: 7_710_436_105_327_879_054,
            ..KeeperState::new(3, 0, NodeState::PreparePromotion)
        }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pg_autoctl.state");
        assert_eq!(KeeperState::load(&path).unwrap(), None);
        sample().save(&path).unwrap();
        assert_eq!(KeeperState::load(&path).unwrap(), Some(sample()));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays behind");
    }

    #[test]
    fn any_damaged_byte_is_noticed() {
        let good = sample().encode().unwrap();
        assert!(decode(&good).is_ok());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(decode(&bad).is_err(), "byte {at}");
            assert!(decode(&good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pg_autoctl.state");
        std::fs::write(&path, [0u8; 1024]).unwrap();
        let error = KeeperState::load(&path).unwrap_err().to_string();
        assert!(error.contains("not written by pgquorum") && error.contains("drop node"), "{error}");
        let mut newer = sample().encode().unwrap();
        newer[8] = 9;
        std::fs::write(&path, newer).unwrap();
        assert!(KeeperState::load(&path).unwrap_err().to_string().contains("format 9"));
    }

    /// The bytes of release 0.1: a later release must go on reading them.
    #[test]
    fn version_1_stays_readable() {
        let hex: String = sample().encode().unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, include_str!("../tests/fixtures/state_v1.hex").trim());
    }

    #[test]
    fn init_stages() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pg_autoctl.init");
        assert_eq!(InitStage::load(&path).unwrap(), None);
        for (stage, _) in InitStage::NAMES {
            stage.save(&path).unwrap();
            assert_eq!(InitStage::load(&path).unwrap(), Some(stage));
        }
        std::fs::write(&path, "1").unwrap();
        assert!(InitStage::load(&path).unwrap_err().to_string().contains("not ours"));
    }
}
