//! The only codec for what the monitors persist or send each other: kind, format version, payload.
//!
//! bincode is not self-describing, so every value says first what it is and in which format; an
//! unknown or newer one is refused, never guessed at. `raft-store` adds lengths and checksums.

mod format1;

use bincode::Options;
use failover::{Outcome, State};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a payload is. Numbers are permanent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`failover::Outcome`], a log entry.
    Outcome = 1,
    /// [`failover::State`], a snapshot.
    State = 2,
    /// A statement for the leader's executor (`sql`), replica to replica.
    Statement = 3,
    /// A human message for the `log` channel, replica to replica.
    LogMessage = 4,
    /// A node id, eight bytes: its keeper's connection to a follower ended; follower to leader.
    SessionLost = 5,
}

/// The format that this release writes, and the newest that it reads.
pub const VERSION: u16 = 2;

/// Larger values are refused on both ways.
const LIMIT: u64 = 256 * 1024 * 1024;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(LIMIT).reject_trailing_bytes()
}

/// Why a value could not be read or written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("too short to be anything of ours")]
    Short,
    #[error("a value of kind {found} where kind {expected} was expected")]
    Kind { expected: u8, found: u8 },
    #[error("format version {0} is newer than this release understands (version {VERSION}): upgrade this monitor")]
    Newer(u16),
    #[error("damaged value: {0}")]
    Damaged(String),
}

/// A value that has had more than one format.
pub trait Value: Serialize + DeserializeOwned {
    /// Its shape in format 1.
    type Format1: Serialize + DeserializeOwned + Into<Self> + for<'a> From<&'a Self>;
}

impl Value for Outcome {
    type Format1 = format1::Outcome1;
}

impl Value for State {
    type Format1 = format1::State1;
}

/// Text has been the same in every format.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Text(pub String);

impl From<&Text> for Text {
    fn from(text: &Text) -> Text {
        Text(text.0.clone())
    }
}

impl Value for Text {
    type Format1 = Text;
}

/// Encodes a value in the present format.
#[cfg(any(test, feature = "fuzzing"))]
pub fn encode<T: Value>(kind: Kind, value: &T) -> Result<Vec<u8>, CodecError> {
    encode_as(VERSION, kind, value)
}

/// Encodes a value in a format that every replica understands.
pub fn encode_as<T: Value>(version: u16, kind: Kind, value: &T) -> Result<Vec<u8>, CodecError> {
    let version = version.clamp(1, VERSION);
    let mut bytes = vec![kind as u8];
    bytes.extend_from_slice(&version.to_be_bytes());
    let written = match version {
        1 => options().serialize_into(&mut bytes, &T::Format1::from(value)),
        _ => options().serialize_into(&mut bytes, value),
    };
    written.map_err(|e| CodecError::Damaged(e.to_string()))?;
    Ok(bytes)
}

/// Decodes a value of the given kind, of the present format or an older one.
pub fn decode<T: Value>(kind: Kind, bytes: &[u8]) -> Result<T, CodecError> {
    let (&[found, high, low], payload) = bytes.split_first_chunk::<3>().ok_or(CodecError::Short)?;
    if found != kind as u8 {
        return Err(CodecError::Kind { expected: kind as u8, found });
    }
    let damaged = |e: bincode::Error| CodecError::Damaged(e.to_string());
    match u16::from_be_bytes([high, low]) {
        VERSION => options().deserialize(payload).map_err(damaged),
        1 => options().deserialize::<T::Format1>(payload).map(Into::into).map_err(damaged),
        0 => Err(CodecError::Damaged("format version 0".to_string())),
        newer => Err(CodecError::Newer(newer)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use failover::{Outcome, State};
    use proptest::prelude::*;

    #[test]
    fn values_come_back() {
        let state = State::default();
        let bytes = encode(Kind::State, &state).unwrap();
        assert_eq!(decode::<State>(Kind::State, &bytes).unwrap(), state);
    }

    #[test]
    fn wrong_kinds_newer_versions_and_trailing_bytes_are_refused() {
        let mut bytes = encode(Kind::Outcome, &Outcome::default()).unwrap();
        assert_eq!(decode::<State>(Kind::State, &bytes), Err(CodecError::Kind { expected: 2, found: 1 }));
        bytes.push(0);
        assert!(matches!(decode::<Outcome>(Kind::Outcome, &bytes), Err(CodecError::Damaged(_))));
        bytes[2] = 9;
        assert_eq!(decode::<Outcome>(Kind::Outcome, &bytes), Err(CodecError::Newer(9)));
        assert_eq!(decode::<Outcome>(Kind::Outcome, &[1]), Err(CodecError::Short));
    }

    /// Values of every shape, as they were first written. Bytes that are out there are read for ever:
    /// a changed fixture needs a new format version and a reader for the old one.
    #[test]
    fn the_bytes_of_every_format_stay_what_they_are() {
        let (outcome, state) = sample();
        let golden = |name: &str, bytes: Vec<u8>| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &bytes).unwrap();
            }
            let known = std::fs::read(&path).unwrap();
            assert!(known == bytes, "{} differs: is this a new format version?", path.display());
            known
        };
        for version in 1..=VERSION {
            let bytes = golden(&format!("outcome-{version}.bin"), encode_as(version, Kind::Outcome, &outcome).unwrap());
            assert_eq!(decode::<Outcome>(Kind::Outcome, &bytes).unwrap(), outcome, "format {version}");
            let bytes = golden(&format!("state-{version}.bin"), encode_as(version, Kind::State, &state).unwrap());
            assert_eq!(decode::<State>(Kind::State, &bytes).unwrap(), state, "format {version}");
        }
        let (outcome, state) = with_epochs(outcome, state);
        let bytes = golden("outcome-2-epochs.bin", encode(Kind::Outcome, &outcome).unwrap());
        assert_eq!(decode::<Outcome>(Kind::Outcome, &bytes).unwrap(), outcome);
        let bytes = golden("state-2-epochs.bin", encode(Kind::State, &state).unwrap());
        assert_eq!(decode::<State>(Kind::State, &bytes).unwrap(), state);
    }

    /// What only format 2 can say.
    fn with_epochs(mut outcome: Outcome, mut state: State) -> (Outcome, State) {
        use failover::state::{Group, SyncSet};
        use failover::*;
        let mut node = Node::clone(state.nodes.values().next().unwrap());
        node.generation = Generation::Pgquorum;
        node.sync_sets =
            vec![SyncSet { standbys: vec![2, 3], required: 1, offered: true, version: 4, confirmed: Lsn(0x0193_A2F0) }];
        (node.epoch, node.goal_epoch, node.sync_version) = (3, 2, 4);
        (node.sealed, node.postgres_end) = (true, PostgresEnd::Clean);
        let row = Group { epoch: 3, sync_version: 4 };
        let changes = vec![Change::PutNode(node), Change::PutGroup { formation: "default".into(), group: 0, row }];
        let second = Outcome { changes, ..Outcome::default() };
        assert_ne!(apply(&mut state, &second), Applied::Conflict);
        outcome.changes.extend(second.changes);
        (outcome, state)
    }

    /// A small history: a registration, its report, every kind of change; and the state after it.
    fn sample() -> (Outcome, State) {
        use failover::command::{NodeActive, RegisterNode};
        use failover::state::TimelineFork;
        use failover::*;
        let mut state = State::default();
        let now = Now { wall: WallTime(1_795_255_200_000_000), mono_us: 60_000_000 };
        let mut observations = Observations::starting(Now::default());
        let mut total = Outcome::default();
        let register = RegisterNode {
            formation: "default".into(),
            host: "192.0.2.1".into(),
            port: 5432,
            dbname: "app".into(),
            name: "n1".into(),
            system_identifier: 7_710_441_297_739_166_913,
            desired_node_id: -1,
            desired_group: -1,
            initial_state: NodeState::Init,
            kind: "standalone".into(),
            candidate_priority: 50,
            replication_quorum: true,
            cluster: "default".into(),
            region: "default".into(),
            generation: Generation::Stock20,
        };
        let report = NodeActive {
            formation: "default".into(),
            id: 1,
            group: 0,
            state: NodeState::Single,
            pg_is_running: true,
            timeline: 1,
            lsn: Lsn(0x0193_A2E8),
            sync_state: SyncState::Quorum,
            extended: None,
        };
        for command in [Command::RegisterNode(register), Command::NodeActive(report)] {
            let decision = decide(&state, &observations, &command.into(), now).unwrap();
            assert_ne!(apply(&mut state, &decision.outcome), Applied::Conflict);
            observations.nodes.extend(decision.observed);
            total.decided_on.extend(decision.outcome.decided_on);
            total.changes.extend(decision.outcome.changes);
            total.events.extend(decision.outcome.events);
            total.decided_at = decision.outcome.decided_at;
        }
        let others = Outcome {
            changes: vec![
                Change::DropFormation("f2".into()),
                Change::DropNode(9),
                Change::TouchRegistry,
                Change::SetDatabaseSetting { name: "pgautofailover.guard_data_loss".into(), value: Some("off".into()) },
                Change::SetSystemSetting { name: "pgautofailover.health_check_period".into(), value: Some("1s".into()) },
                Change::ReloadSettings,
                Change::SetSystemSetting { name: "pgautofailover.health_check_timeout".into(), value: None },
                Change::PutTimelineFork(TimelineFork { node: 1, timeline: 2, parent: 1, switchpoint: Lsn(0x0200_0000) }),
                Change::SetClusterVersion(1),
            ],
            ..Outcome::default()
        };
        assert_ne!(apply(&mut state, &others), Applied::Conflict);
        total.changes.extend(others.changes);
        total.changes.push(Change::ResetSystemSettings);
        (total, state)
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<Outcome>(Kind::Outcome, &bytes);
            for version in 1..=2 {
                let mut framed = vec![Kind::State as u8, 0, version];
                framed.extend_from_slice(&bytes);
                let _ = decode::<State>(Kind::State, &framed);
            }
        }
    }
}
