//! The decoders of foreign bytes as functions of those bytes alone: what `raft-store/fuzz` and the
//! tests call. Compiled with the feature `fuzzing` and in tests; no part of the crate's API.
//!
//! Each function returns an error when a property does not hold. Refused bytes are no error.

use std::fmt::Debug;

use futures::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, Kind};
use crate::frame::{self, MAX_FRAME, MAX_HELLO};
use crate::identity::Identity;
use crate::internal::Internal;
use crate::log_scan::split_key;
use crate::log_writer::Mark;
use crate::snapshot_file::SnapshotFile;
use crate::state_store::Content;
use crate::stored::{self, StoredEntry, StoredLogId, StoredSnapshotMeta, StoredVote};
use crate::wire::{Hello, Request, Response, Welcome};

/// What was read is written and read back the same.
fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> Result<(), String> {
    let bytes = codec::encode(value).map_err(|e| format!("{value:?} cannot be written: {e}"))?;
    match codec::decode::<T>(&bytes) {
        Ok(back) if back == *value => Ok(()),
        Ok(back) => Err(format!("{value:?} came back as {back:?}")),
        Err(e) => Err(format!("{value:?} cannot be read back: {e}")),
    }
}

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Result<Option<T>, String> {
    match codec::decode::<T>(bytes) {
        Ok(value) => again(&value).map(|()| Some(value)),
        Err(_) => Ok(None),
    }
}

/// A stream of frames, before and after the handshake.
pub fn frames(data: &[u8]) -> Result<(), String> {
    for limit in [MAX_HELLO, MAX_FRAME] {
        let mut rest = data;
        while !rest.is_empty() {
            let before = rest;
            let Some(Ok(read)) = frame::read(&mut rest, limit).now_or_never() else { break };
            if read.body.len() + 8 > limit {
                return Err(format!("a body of {} bytes passed the limit {limit}", read.body.len()));
            }
            let used = before.len() - rest.len();
            let written = frame::encode(read.kind, read.id, &read.body);
            // Versions of the protocol differ in nothing that is read here.
            if written.len() != used {
                return Err(format!("a frame of {used} bytes is written as {}", written.len()));
            }
            message(read.kind, &read.body)?;
        }
    }
    Ok(())
}

fn message(kind: Kind, body: &[u8]) -> Result<(), String> {
    match kind {
        Kind::Hello => drop(read::<Hello>(body)?),
        Kind::Welcome => drop(read::<Welcome>(body)?),
        Kind::Response => drop(read::<Response>(body)?),
        Kind::Request => match read::<Request>(body)? {
            Some(Request::Append(append)) => {
                for entry in append.entries {
                    let _ = entry.weight();
                    let _ = entry.into_entry();
                }
            }
            Some(Request::Snapshot(piece)) => drop(piece.meta.restore()),
            _ => {}
        },
        _ => {}
    }
    Ok(())
}

/// The body of a message; the first byte says of which.
pub fn messages(data: &[u8]) -> Result<(), String> {
    let Some((which, body)) = data.split_first() else { return Ok(()) };
    let kinds = [Kind::Request, Kind::Response, Kind::Hello, Kind::Welcome];
    kinds.get(usize::from(which % 4)).map_or(Ok(()), |kind| message(*kind, body))
}

/// What lies on disk; the first byte says what. The bytes are taken as they are and, so that the
/// checksum is no obstacle, in an envelope that fits them.
pub fn stored(data: &[u8]) -> Result<(), String> {
    let Some((which, body)) = data.split_first() else { return Ok(()) };
    let kinds =
        [Kind::Entry, Kind::Vote, Kind::LogId, Kind::Identity, Kind::Snapshot, Kind::Mark, Kind::Internal, Kind::Content];
    let Some(kind) = kinds.get(usize::from(which % 8)).copied() else { return Ok(()) };
    let _ = split_key(body);
    for bytes in [body, &codec::seal(kind, 1, body)] {
        match kind {
            Kind::Entry => {
                if let Ok(entry) = stored::decode_entry(bytes) {
                    let written = stored::encode_entry(&entry).map_err(|e| e.to_string())?;
                    again(&StoredEntry::from_entry(&entry).map_err(|e| e.to_string())?)?;
                    stored::decode_entry(&written).map_err(|e| format!("an entry cannot be read back: {e}"))?;
                }
            }
            Kind::Vote => kept(stored::decode_vote(bytes), |vote| again(&StoredVote::from(&vote)))?,
            Kind::LogId => kept(stored::decode_log_id(bytes), |id| again(&StoredLogId::from(&id)))?,
            Kind::Identity => kept(Identity::decode(bytes), |identity| again(&identity))?,
            Kind::Mark => drop(Mark::decode(bytes)),
            Kind::Internal => kept(Internal::decode(bytes), |internal| again(&internal))?,
            Kind::Content => kept(Content::decode(bytes), |content| again(&content))?,
            _ => {
                if let Ok(snapshot) = SnapshotFile::decode(bytes) {
                    again(&snapshot)?;
                    meta(snapshot.meta)?;
                }
            }
        }
    }
    Ok(())
}

/// A restored membership is what openraft can take, and is stored as it was read.
fn meta(meta: StoredSnapshotMeta) -> Result<(), String> {
    let Ok(restored) = meta.restore() else { return Ok(()) };
    again(&StoredSnapshotMeta::from(&restored))
}

/// A refusal is fine, a broken property is not.
fn kept<T, E>(read: Result<T, E>, property: impl FnOnce(T) -> Result<(), String>) -> Result<(), String> {
    read.map_or(Ok(()), property)
}
