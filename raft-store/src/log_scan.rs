//! Keys of the log and reading entries back from their chunks.

use std::io;
use std::ops::Bound;

use sled::{IVec, Tree};

use crate::stored;
use crate::types::Entry;

/// Key of one chunk of one entry.
pub fn key(index: u64, chunk: u16) -> [u8; 10] {
    let mut k = [0u8; 10];
    k[..8].copy_from_slice(&index.to_be_bytes());
    k[8..].copy_from_slice(&chunk.to_be_bytes());
    k
}

/// Index and chunk of a key.
pub fn split_key(k: &[u8]) -> Result<(u64, u16), String> {
    let Ok(k) = <[u8; 10]>::try_from(k) else {
        return Err(format!("log key of {} bytes", k.len()));
    };
    let (index, chunk) = k.split_at(8);
    let mut i = [0u8; 8];
    i.copy_from_slice(index);
    Ok((u64::from_be_bytes(i), u16::from_be_bytes([chunk[0], chunk[1]])))
}

fn other(e: impl std::fmt::Display) -> io::Error {
    io::Error::other(e.to_string())
}

/// Entries with an index between the bounds, in order.
pub fn scan(log: &Tree, start: Bound<u64>, end: Bound<u64>) -> Scan {
    let from = match start {
        Bound::Included(i) => Bound::Included(key(i, 0)),
        Bound::Excluded(i) => Bound::Excluded(key(i, u16::MAX)),
        Bound::Unbounded => Bound::Unbounded,
    };
    let to = match end {
        Bound::Included(i) => Bound::Included(key(i, u16::MAX)),
        Bound::Excluded(i) => Bound::Excluded(key(i, 0)),
        Bound::Unbounded => Bound::Unbounded,
    };
    Scan { rows: log.range((from, to)) }
}

/// Reads entries in order, putting chunks together.
pub struct Scan {
    rows: sled::Iter,
}

impl Scan {
    fn read(&mut self, k: &IVec, first: IVec) -> Result<Entry, String> {
        let (index, chunk) = split_key(k)?;
        if chunk != 0 {
            return Err(format!("log entry {index} lacks its beginning"));
        }
        let head = crate::codec::header(&first).map_err(|e| format!("log entry {index}: {e}"))?;
        let total = head.len + crate::codec::HEADER;
        let entry = if total <= first.len() {
            stored::decode_entry(&first)
        } else {
            let mut whole = Vec::with_capacity(total.min(crate::log_store::MAX_ENTRY));
            whole.extend_from_slice(&first);
            let mut expected = 1u16;
            while whole.len() < total {
                let Some(row) = self.rows.next() else {
                    return Err(format!("log entry {index} lacks its end"));
                };
                let (k, v) = row.map_err(|e| e.to_string())?;
                if split_key(&k)? != (index, expected) {
                    return Err(format!("log entry {index} lacks chunk {expected}"));
                }
                whole.extend_from_slice(&v);
                expected = expected.wrapping_add(1);
            }
            stored::decode_entry(&whole)
        }
        .map_err(|e| format!("log entry {index}: {e}"))?;
        if entry.log_id.index() != index {
            return Err(format!("log entry {index} says that it is entry {}", entry.log_id.index()));
        }
        Ok(entry)
    }
}

impl Iterator for Scan {
    type Item = io::Result<Entry>;
    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?;
        Some(row.map_err(other).and_then(|(k, v)| self.read(&k, v).map_err(other)))
    }
}

