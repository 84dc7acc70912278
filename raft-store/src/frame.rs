//! Frames on a connection: an envelope whose payload starts with the request id.
//!
//! Reading checks magic, kind, length limit and checksum before anything is allocated or decoded
//! beyond the header, so garbage costs the sender its connection and us thirteen bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::codec::{self, CodecError, HEADER, Kind};

/// Largest frame payload: the 16 MiB body limit of application calls plus room for our fields.
pub const MAX_FRAME: usize = (16 << 20) + (64 << 10);
/// Largest frame payload before the handshake is through.
pub const MAX_HELLO: usize = 4 << 10;

/// Newest and oldest protocol version spoken. The handshake picks the newest common one.
pub const PROTOCOL: (u16, u16) = (1, 1);

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Kind of frame.
    pub kind: Kind,
    /// Matches a response with its request; 0 where there is nothing to match.
    pub id: u64,
    /// Encoded message.
    pub body: Vec<u8>,
}

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection ended or failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer does not speak our protocol.
    #[error("{0}")]
    Garbage(#[from] CodecError),
}

fn kind_of(raw: u8) -> Option<Kind> {
    [Kind::Hello, Kind::Welcome, Kind::Request, Kind::Response, Kind::Ping].into_iter().find(|k| *k as u8 == raw)
}

/// Encodes a frame.
pub fn encode(kind: Kind, id: u64, body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(8 + body.len());
    payload.extend_from_slice(&id.to_le_bytes());
    payload.extend_from_slice(body);
    codec::seal(kind, PROTOCOL.1, &payload)
}

/// Checks a header against the limit; returns kind and payload length.
pub fn check_header(head: &[u8], limit: usize) -> Result<(Kind, usize), CodecError> {
    let h = codec::header(head)?;
    let Some(kind) = kind_of(h.kind) else {
        return Err(CodecError::Payload(format!("unknown frame kind {}", h.kind)));
    };
    if h.len > limit {
        return Err(CodecError::TooLong(h.len, limit));
    }
    if h.len < 8 {
        return Err(CodecError::Truncated { have: h.len, need: 8 });
    }
    if h.version < PROTOCOL.0 {
        return Err(CodecError::Payload(format!("frame version {}", h.version)));
    }
    Ok((kind, h.len))
}

/// Splits a checked payload.
pub fn finish(kind: Kind, head: &[u8], mut payload: Vec<u8>) -> Result<Frame, CodecError> {
    codec::verify(head, &payload)?;
    let Some(id) = payload.first_chunk::<8>().copied() else {
        return Err(CodecError::Truncated { have: payload.len(), need: 8 });
    };
    payload.drain(..8);
    Ok(Frame { kind, id: u64::from_le_bytes(id), body: payload })
}

/// Reads one frame.
pub async fn read(from: &mut (impl AsyncRead + Unpin), limit: usize) -> Result<Frame, FrameError> {
    let mut head = [0u8; HEADER];
    from.read_exact(&mut head).await?;
    let (kind, len) = check_header(&head, limit)?;
    // Grown while bytes arrive: a promise of 16 MiB alone allocates nothing.
    let mut payload = Vec::with_capacity(len.min(64 << 10));
    let got = AsyncReadExt::take(from, len as u64).read_to_end(&mut payload).await?;
    if got < len {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(finish(kind, &head, payload)?)
}

/// Writes one frame and flushes.
pub async fn write(to: &mut (impl AsyncWrite + Unpin), kind: Kind, id: u64, body: &[u8]) -> io::Result<()> {
    to.write_all(&encode(kind, id, body)).await?;
    to.flush().await
}
