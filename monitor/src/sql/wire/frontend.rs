//! Messages from clients. Every length and count is checked before it is believed: whatever bytes
//! arrive, the result is a message or an error.

use bytes::{Buf, Bytes, BytesMut};

use crate::sql::error::SqlError;

/// Longest startup packet, as in PostgreSQL.
pub const STARTUP_LIMIT: usize = 10_000;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENC_REQUEST: u32 = 80_877_104;

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    Ssl,
    GssEncryption,
    Cancel { pid: i32, secret: Vec<u8> },
    /// Major and minor protocol version with the parameters in the order sent.
    Startup { major: u16, minor: u16, parameters: Vec<(String, String)> },
}

/// A message of an established session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frontend {
    Query(Bytes),
    Parse { name: Bytes, text: Bytes, types: Vec<u32> },
    Bind(Bind),
    Describe(Target),
    Close(Target),
    Execute { portal: Bytes, max_rows: i32 },
    Flush,
    Sync,
    Terminate,
    /// Password, SASL initial response, SASL response: told apart by the state of authentication.
    Password(Bytes),
    /// COPY data that nobody asked for: PostgreSQL ignores it, and so do we.
    Copy,
    /// Fast-path function call: refused.
    FunctionCall,
}

/// The operands of Bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    pub portal: Bytes,
    pub statement: Bytes,
    pub formats: Vec<i16>,
    pub values: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

/// What Describe and Close act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Statement(Bytes),
    Portal(Bytes),
}

/// A protocol violation (08P01).
pub fn violation(message: impl Into<String>) -> SqlError {
    SqlError::new("08P01", message)
}

fn short() -> SqlError {
    violation("insufficient data left in message")
}

/// A checked cursor over one message body.
struct Reader(Bytes);

impl Reader {
    fn u8(&mut self) -> Result<u8, SqlError> {
        self.0.try_get_u8().map_err(|_| short())
    }

    fn i16(&mut self) -> Result<i16, SqlError> {
        self.0.try_get_i16().map_err(|_| short())
    }

    fn i32(&mut self) -> Result<i32, SqlError> {
        self.0.try_get_i32().map_err(|_| short())
    }

    fn u32(&mut self) -> Result<u32, SqlError> {
        self.0.try_get_u32().map_err(|_| short())
    }

    fn take(&mut self, n: usize) -> Result<Bytes, SqlError> {
        if n > self.0.len() { Err(short()) } else { Ok(self.0.split_to(n)) }
    }

    fn cstring(&mut self) -> Result<Bytes, SqlError> {
        let end = self
            .0
            .iter()
            .position(|b| *b == 0)
            .ok_or_else(|| violation("invalid string in message"))?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        Ok(text)
    }

    /// A 16-bit count of elements that take at least `size` bytes each.
    fn count(&mut self, size: usize) -> Result<usize, SqlError> {
        let n = self.i16()?;
        let n = usize::try_from(n).map_err(|_| violation("negative count in message"))?;
        if n * size > self.0.len() { Err(short()) } else { Ok(n) }
    }

    fn end(self) -> Result<(), SqlError> {
        if self.0.is_empty() { Ok(()) } else { Err(violation("invalid message format")) }
    }
}

/// Takes one complete message off `buffer`; `None` when more bytes are needed.
///
/// # Errors
/// 08P01. With the message's type when the frame was whole and only its body wrong; without it the
/// framing is lost and the connection must be closed.
pub fn decode(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frontend>, (SqlError, Option<u8>)> {
    if buffer.len() < 5 {
        return Ok(None);
    }
    let kind = buffer[0];
    let length = u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
    if !b"QPBDCEHSXpdcfF".contains(&kind) {
        return Err((violation(format!("invalid frontend message type {kind}")), None));
    }
    if length < 4 {
        return Err((violation("invalid message length"), None));
    }
    if length > limit {
        let text = format!("message of {length} bytes exceeds the limit of {limit}");
        return Err((violation(text), None));
    }
    if buffer.len() < length + 1 {
        return Ok(None);
    }
    let mut frame = buffer.split_to(length + 1);
    frame.advance(5);
    body(kind, frame.freeze()).map(Some).map_err(|e| (e, Some(kind)))
}

fn body(kind: u8, body: Bytes) -> Result<Frontend, SqlError> {
    let mut r = Reader(body);
    let message = match kind {
        b'Q' => Frontend::Query(r.cstring()?),
        b'P' => {
            let (name, text) = (r.cstring()?, r.cstring()?);
            let n = r.count(4)?;
            let types = (0..n).map(|_| r.u32()).collect::<Result<_, _>>()?;
            Frontend::Parse { name, text, types }
        }
        b'B' => {
            let (portal, statement) = (r.cstring()?, r.cstring()?);
            let n = r.count(2)?;
            let formats = (0..n).map(|_| r.i16()).collect::<Result<_, _>>()?;
            let n = r.count(4)?;
            let mut values = Vec::with_capacity(n);
            for _ in 0..n {
                let length = r.i32()?;
                values.push(match usize::try_from(length) {
                    Ok(length) => Some(r.take(length)?),
                    Err(_) => None,
                });
            }
            let n = r.count(2)?;
            let result_formats = (0..n).map(|_| r.i16()).collect::<Result<_, _>>()?;
            Frontend::Bind(Bind { portal, statement, formats, values, result_formats })
        }
        b'D' | b'C' => {
            let target = match r.u8()? {
                b'S' => Target::Statement(r.cstring()?),
                b'P' => Target::Portal(r.cstring()?),
                other => return Err(violation(format!("invalid DESCRIBE or CLOSE message subtype {other}"))),
            };
            if kind == b'D' { Frontend::Describe(target) } else { Frontend::Close(target) }
        }
        b'E' => Frontend::Execute { portal: r.cstring()?, max_rows: r.i32()? },
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'X' => Frontend::Terminate,
        b'p' => {
            let all = r.0.len();
            Frontend::Password(r.take(all)?)
        }
        b'F' => return Ok(Frontend::FunctionCall),
        _ => return Ok(Frontend::Copy),
    };
    r.end()?;
    Ok(message)
}

/// The length of the first packet once its four length bytes are there.
///
/// # Errors
/// When the number cannot be the length of a startup packet: this is no PostgreSQL client.
pub fn first_packet_length(bytes: [u8; 4]) -> Result<usize, SqlError> {
    let length = u32::from_be_bytes(bytes) as usize;
    if (8..=STARTUP_LIMIT).contains(&length) {
        Ok(length)
    } else {
        Err(violation("invalid length of startup packet"))
    }
}

/// Decodes the first packet without its length word.
pub fn first_packet(bytes: Bytes) -> Result<FirstPacket, SqlError> {
    let mut r = Reader(bytes);
    match r.u32()? {
        SSL_REQUEST if r.0.is_empty() => Ok(FirstPacket::Ssl),
        GSS_ENC_REQUEST if r.0.is_empty() => Ok(FirstPacket::GssEncryption),
        CANCEL_REQUEST => Ok(FirstPacket::Cancel { pid: r.i32()?, secret: r.0.to_vec() }),
        version => {
            let (major, minor) = ((version >> 16) as u16, version as u16);
            let mut parameters = Vec::new();
            // Versions other than 3 may lay their parameters out in any way: only the number counts.
            if major != 3 {
                return Ok(FirstPacket::Startup { major, minor, parameters });
            }
            loop {
                let name = r.cstring().map_err(|_| violation("invalid startup packet layout: expected terminator as last byte"))?;
                if name.is_empty() {
                    break;
                }
                let value = r.cstring()?;
                let utf8 = |b: Bytes| {
                    String::from_utf8(b.to_vec()).map_err(|_| SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\""))
                };
                parameters.push((utf8(name)?, utf8(value)?));
            }
            Ok(FirstPacket::Startup { major, minor, parameters })
        }
    }
}
