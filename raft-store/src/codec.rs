//! The envelope that every persisted or transmitted value wears, and the bincode settings inside it.
//!
//! Layout, little endian, hand-laid so that it can be read before anything else is understood:
//!
//! ```text
//! magic u16 | kind u8 | version u16 | len u32 | crc32c u32 | payload (len bytes)
//! ```
//!
//! The checksum covers the nine bytes before it and the payload. bincode is not self-describing, so
//! a payload is a struct frozen for its version: it is never edited, a new version gets a new struct.

use bincode::Options;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// First two bytes of everything we write ("PQ").
pub const MAGIC: u16 = 0x5150;
/// Bytes of the envelope before the payload.
pub const HEADER: usize = 13;
/// Upper bound of a decoded payload; protects against a length read from garbage.
pub const MAX_PAYLOAD: usize = 1 << 30;

/// What an envelope carries. Numbers are frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A log entry in sled.
    Entry = 1,
    /// The vote in sled.
    Vote = 2,
    /// A log id (purged, committed) in sled.
    LogId = 3,
    /// The identity file.
    Identity = 4,
    /// A snapshot file.
    Snapshot = 5,
    /// The high-water mark file.
    Mark = 6,
    /// raft-store's own commands inside the log.
    Internal = 7,
    /// What a snapshot holds of the state machine (also sent to peers).
    Content = 8,
    /// First frame on a connection.
    Hello = 16,
    /// The answer to it.
    Welcome = 17,
    /// A request frame.
    Request = 18,
    /// A response frame.
    Response = 19,
    /// Keeps an idle connection alive.
    Ping = 20,
}

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Fewer bytes than the header or the length promise.
    #[error("truncated: {have} bytes where {need} are needed")]
    Truncated {
        /// Bytes present.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// Not ours.
    #[error("bad magic {0:#06x}: these are not pgquorum's bytes")]
    Magic(u16),
    /// Another kind of value than expected.
    #[error("kind {found} where {wanted:?} was expected")]
    Kind {
        /// What was there.
        found: u8,
        /// What should have been.
        wanted: Kind,
    },
    /// Written by a newer release.
    #[error("{kind:?} has format version {found}, this release reads up to {newest}; it was written by a newer release")]
    Newer {
        /// Which value.
        kind: Kind,
        /// Its version.
        found: u16,
        /// The newest version we read.
        newest: u16,
    },
    /// A length above the limit.
    #[error("length {0} exceeds the limit {1}")]
    TooLong(usize, usize),
    /// The checksum does not match.
    #[error("checksum mismatch: stored {stored:#010x}, computed {computed:#010x}")]
    Checksum {
        /// What the envelope says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The payload is not what its version promises.
    #[error("malformed payload: {0}")]
    Payload(String),
}

/// Parsed header of an envelope; the payload follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Raw kind.
    pub kind: u8,
    /// Format version.
    pub version: u16,
    /// Payload length in bytes.
    pub len: usize,
    /// Stored checksum.
    pub crc: u32,
}

/// Reads a header; the magic is checked, nothing else.
pub fn header(bytes: &[u8]) -> Result<Header, CodecError> {
    let Some(h) = bytes.first_chunk::<HEADER>() else {
        return Err(CodecError::Truncated { have: bytes.len(), need: HEADER });
    };
    let magic = u16::from_le_bytes([h[0], h[1]]);
    if magic != MAGIC {
        return Err(CodecError::Magic(magic));
    }
    Ok(Header {
        kind: h[2],
        version: u16::from_le_bytes([h[3], h[4]]),
        len: u32::from_le_bytes([h[5], h[6], h[7], h[8]]) as usize,
        crc: u32::from_le_bytes([h[9], h[10], h[11], h[12]]),
    })
}

/// Verifies the checksum of a header and its payload.
pub fn verify(head: &[u8], payload: &[u8]) -> Result<(), CodecError> {
    let h = header(head)?;
    let computed = crc32c::crc32c_append(crc32c::crc32c(&head[..9]), payload);
    if computed == h.crc { Ok(()) } else { Err(CodecError::Checksum { stored: h.crc, computed }) }
}

/// Wraps a payload.
pub fn seal(kind: Kind, version: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + payload.len());
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.push(kind as u8);
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), payload);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// Unwraps exactly one envelope: kind, version, length, checksum; trailing bytes are refused.
pub fn open(kind: Kind, newest: u16, bytes: &[u8]) -> Result<(u16, &[u8]), CodecError> {
    let h = header(bytes)?;
    if h.kind != kind as u8 {
        return Err(CodecError::Kind { found: h.kind, wanted: kind });
    }
    if h.len > MAX_PAYLOAD {
        return Err(CodecError::TooLong(h.len, MAX_PAYLOAD));
    }
    let need = HEADER + h.len;
    if bytes.len() < need {
        return Err(CodecError::Truncated { have: bytes.len(), need });
    }
    if bytes.len() > need {
        return Err(CodecError::Payload(format!("{} bytes too many", bytes.len() - need)));
    }
    let payload = &bytes[HEADER..];
    verify(bytes, payload)?;
    // After the checksum: a damaged version field must read as damage, not as a newer release.
    if h.version == 0 || h.version > newest {
        return Err(CodecError::Newer { kind, found: h.version, newest });
    }
    Ok((h.version, payload))
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(MAX_PAYLOAD as u64).reject_trailing_bytes()
}

/// Encodes one frozen struct.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    options().serialize(value).map_err(|e| CodecError::Payload(e.to_string()))
}

/// Decodes one frozen struct; trailing bytes are refused.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    options().deserialize(bytes).map_err(|e| CodecError::Payload(e.to_string()))
}

/// Encodes and wraps.
pub fn encode_sealed<T: Serialize>(kind: Kind, version: u16, value: &T) -> Result<Vec<u8>, CodecError> {
    Ok(seal(kind, version, &encode(value)?))
}

/// Bytes that serde copies in one piece (a `Vec<u8>` goes byte by byte). Same encoding as `Vec<u8>`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Blob;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, v: &[u8]) -> Result<Blob, E> {
                Ok(Blob(v.to_vec()))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, v: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(v))
            }
            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Blob, E> {
                Err(E::custom("text where bytes were expected"))
            }
        }
        d.deserialize_byte_buf(V).map_err(D::Error::custom)
    }
}
