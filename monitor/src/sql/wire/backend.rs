//! Messages to clients, written straight into the connection's output buffer.

use bytes::{BufMut, BytesMut};
use failover::Notice;
use jiff::tz::TimeZone;

use crate::sql::engine::zone;
use crate::sql::error::SqlError;
use crate::sql::types::{Column, Datum};
use crate::sql::values;

/// Transaction status in ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Idle,
    InTransaction,
    Failed,
}

/// The output of one connection, flushed by its owner.
#[derive(Default)]
pub struct Output {
    pub buffer: BytesMut,
    /// The zone that timestamps are shown in; none is UTC.
    pub zone: Option<TimeZone>,
}

impl Output {
    fn message(&mut self, kind: u8, body: impl FnOnce(&mut BytesMut)) {
        self.buffer.put_u8(kind);
        let at = self.buffer.len();
        self.buffer.put_u32(0);
        body(&mut self.buffer);
        let length = (self.buffer.len() - at) as u32;
        self.buffer[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub fn authentication(&mut self, code: u32, data: &[u8]) {
        self.message(b'R', |b| {
            b.put_u32(code);
            b.put_slice(data);
        });
    }

    pub fn parameter_status(&mut self, name: &str, value: &str) {
        self.message(b'S', |b| {
            cstring(b, name);
            cstring(b, value);
        });
    }

    pub fn backend_key_data(&mut self, pid: i32, secret: &[u8]) {
        self.message(b'K', |b| {
            b.put_i32(pid);
            b.put_slice(secret);
        });
    }

    /// The newest minor version that we speak, and the protocol options that we do not know.
    pub fn negotiate_protocol_version(&mut self, minor: u16, unknown: &[String]) {
        self.message(b'v', |b| {
            b.put_u32(u32::from(minor) | 3 << 16);
            b.put_u32(unknown.len() as u32);
            for name in unknown {
                cstring(b, name);
            }
        });
    }

    pub fn ready(&mut self, status: Status) {
        self.message(b'Z', |b| {
            b.put_u8(match status {
                Status::Idle => b'I',
                Status::InTransaction => b'T',
                Status::Failed => b'E',
            })
        });
    }

    pub fn parse_complete(&mut self) {
        self.message(b'1', |_| {});
    }

    pub fn bind_complete(&mut self) {
        self.message(b'2', |_| {});
    }

    pub fn close_complete(&mut self) {
        self.message(b'3', |_| {});
    }

    pub fn no_data(&mut self) {
        self.message(b'n', |_| {});
    }

    pub fn portal_suspended(&mut self) {
        self.message(b's', |_| {});
    }

    pub fn empty_query(&mut self) {
        self.message(b'I', |_| {});
    }

    pub fn command_complete(&mut self, tag: &str) {
        self.message(b'C', |b| cstring(b, tag));
    }

    /// The text of so many columns follows.
    pub fn copy_out_response(&mut self, columns: usize) {
        self.message(b'H', |b| {
            b.put_u8(0);
            b.put_u16(columns as u16);
            b.put_bytes(0, 2 * columns);
        });
    }

    pub fn copy_data(&mut self, line: &str) {
        self.message(b'd', |b| b.put_slice(line.as_bytes()));
    }

    pub fn copy_done(&mut self) {
        self.message(b'c', |_| {});
    }

    pub fn parameter_description(&mut self, oids: &[u32]) {
        self.message(b't', |b| {
            b.put_u16(oids.len() as u16);
            for oid in oids {
                b.put_u32(*oid);
            }
        });
    }

    pub fn row_description(&mut self, columns: &[Column], formats: &[i16]) {
        self.message(b'T', |b| {
            b.put_u16(columns.len() as u16);
            for (i, column) in columns.iter().enumerate() {
                cstring(b, &column.name);
                b.put_u32(0);
                b.put_u16(0);
                b.put_u32(column.ty.oid());
                b.put_i16(values::type_length(column.ty));
                b.put_i32(-1);
                b.put_i16(format_of(formats, i));
            }
        });
    }

    /// One row. Binary formats were checked against the column types at Bind.
    pub fn data_row(&mut self, columns: &[Column], row: &[Datum], formats: &[i16]) {
        let zone = self.zone.clone().unwrap_or(TimeZone::UTC);
        zone::within(zone, || self.write_row(columns, row, formats));
    }

    fn write_row(&mut self, columns: &[Column], row: &[Datum], formats: &[i16]) {
        self.message(b'D', |b| {
            b.put_u16(row.len() as u16);
            for (i, datum) in row.iter().enumerate() {
                if *datum == Datum::Null {
                    b.put_i32(-1);
                    continue;
                }
                let at = b.len();
                b.put_i32(0);
                let binary = format_of(formats, i) == 1;
                match columns.get(i) {
                    Some(column) if binary => values::write_binary(b, datum, column.ty),
                    _ => values::write_text(b, datum),
                }
                let length = (b.len() - at - 4) as i32;
                b[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
        });
    }

    pub fn error(&mut self, severity: &str, error: &SqlError) {
        self.message(b'E', |b| {
            fields(b, severity, &error.sqlstate, &error.message, error.detail.as_deref(), error.hint.as_deref());
            if let Some(position) = error.position {
                b.put_u8(b'P');
                cstring(b, &position.to_string());
            }
            b.put_u8(0);
        });
    }

    pub fn notice(&mut self, notice: &Notice) {
        self.message(b'N', |b| {
            let (detail, hint) = (notice.detail.as_deref(), notice.hint.as_deref());
            fields(b, &notice.severity, &notice.sqlstate, &notice.message, detail, hint);
            b.put_u8(0);
        });
    }

    pub fn notification(&mut self, pid: i32, channel: &str, payload: &str) {
        self.message(b'A', |b| {
            b.put_i32(pid);
            cstring(b, channel);
            cstring(b, payload);
        });
    }
}

/// The format of column `i`: none given means text, one given means it for all.
pub fn format_of(formats: &[i16], i: usize) -> i16 {
    match formats {
        [] => 0,
        [one] => *one,
        many => many.get(i).copied().unwrap_or(0),
    }
}

fn fields(b: &mut BytesMut, severity: &str, sqlstate: &str, message: &str, detail: Option<&str>, hint: Option<&str>) {
    let all = [(b'S', Some(severity)), (b'V', Some(severity)), (b'C', Some(sqlstate)), (b'M', Some(message)), (b'D', detail), (b'H', hint)];
    for (code, text) in all {
        if let Some(text) = text {
            b.put_u8(code);
            cstring(b, text);
        }
    }
}

/// A NUL inside would end the string early and shift everything after it.
fn cstring(b: &mut BytesMut, text: &str) {
    for byte in text.bytes() {
        b.put_u8(if byte == 0 { b' ' } else { byte });
    }
    b.put_u8(0);
}
