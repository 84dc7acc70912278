//! The wire protocol as libpq speaks it for a keeper: unnamed statements, text only. For load
//! generators and for sessions whose every byte matters.

use bytes::{Buf, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::sql::{Row, SqlError};

/// A prepared request of bytes to send, again and again.
pub type Request = BytesMut;

pub struct RawClient {
    stream: TcpStream,
    read: BytesMut,
    /// ParameterStatus messages so far, the latest of each name last.
    pub parameters: Vec<(String, String)>,
}

fn lost(error: std::io::Error) -> SqlError {
    SqlError::Connection(error.to_string())
}

impl RawClient {
    /// Connects as libpq does by default: SSLRequest first, then in the clear.
    pub async fn connect(port: u16, ask_ssl: bool) -> Result<Self, SqlError> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        let mut client = Self { stream, read: BytesMut::with_capacity(4096), parameters: Vec::new() };
        let mut out = BytesMut::new();
        if ask_ssl {
            frontend::ssl_request(&mut out);
            client.stream.write_all(&out).await.map_err(lost)?;
            let answer = client.stream.read_u8().await.map_err(lost)?;
            if answer != b'N' {
                return Err(SqlError::Connection(format!("SSLRequest was answered {answer}")));
            }
            out.clear();
        }
        let parameters = [("user", "autoctl_node"), ("database", "pg_auto_failover")];
        frontend::startup_message(parameters, &mut out).map_err(lost)?;
        client.stream.write_all(&out).await.map_err(lost)?;
        client.answer().await?;
        Ok(client)
    }

    /// Sends a request and returns its rows.
    pub async fn ask(&mut self, request: &Request) -> Result<Vec<Row>, SqlError> {
        self.stream.write_all(request).await.map_err(lost)?;
        self.answer().await
    }

    /// Sends a simple query and returns its rows.
    pub async fn simple(&mut self, sql: &str) -> Result<Vec<Row>, SqlError> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(lost)?;
        self.ask(&out).await
    }

    /// Says good-bye, as libpq does.
    pub async fn end(mut self) {
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        _ = self.stream.write_all(&out).await;
    }

    /// Reads up to ReadyForQuery.
    async fn answer(&mut self) -> Result<Vec<Row>, SqlError> {
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            let (tag, mut body) = self.message().await?;
            match tag {
                b'D' => rows.push(data_row(&mut body)),
                b'E' => failure = Some(error(&body)),
                b'S' => {
                    let mut parts =
                        body[..].split(|b: &u8| *b == 0).map(|p| String::from_utf8_lossy(p).into_owned());
                    self.parameters
                        .push((parts.next().unwrap_or_default(), parts.next().unwrap_or_default()));
                }
                b'Z' => return failure.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    async fn message(&mut self) -> Result<(u8, BytesMut), SqlError> {
        loop {
            if let Some([tag, a, b, c, d]) = self.read.first_chunk::<5>() {
                let (tag, length) = (*tag, u32::from_be_bytes([*a, *b, *c, *d]) as usize);
                if self.read.len() > length {
                    let mut message = self.read.split_to(length + 1);
                    message.advance(5);
                    return Ok((tag, message));
                }
            }
            if self.stream.read_buf(&mut self.read).await.map_err(lost)? == 0 {
                return Err(SqlError::Connection("the server closed the connection".to_owned()));
            }
        }
    }
}

fn data_row(body: &mut BytesMut) -> Row {
    let columns = if body.remaining() >= 2 { body.get_u16() } else { 0 };
    let mut row = Row::with_capacity(columns.into());
    for _ in 0..columns {
        if body.remaining() < 4 {
            break;
        }
        let length = body.get_i32();
        row.push(
            usize::try_from(length)
                .ok()
                .filter(|n| *n <= body.remaining())
                .map(|n| String::from_utf8_lossy(&body.split_to(n)).into_owned()),
        );
    }
    row
}

fn error(body: &[u8]) -> SqlError {
    let field = |tag: u8| {
        let found = body.split(|b| *b == 0).find(|f| f.first() == Some(&tag));
        found.and_then(|f| f.get(1..)).map(|f| String::from_utf8_lossy(f).into_owned()).unwrap_or_default()
    };
    SqlError::Server { code: field(b'C'), message: field(b'M') }
}

/// Parse, Bind, Describe, Execute, Sync, with every parameter as text: what libpq's
/// `PQsendQueryParams` sends.
pub fn extended(sql: &str, oids: &[u32], parameters: &[&str]) -> Result<Request, SqlError> {
    let mut out = BytesMut::new();
    frontend::parse("", sql, oids.iter().copied(), &mut out).map_err(lost)?;
    frontend::bind(
        "",
        "",
        std::iter::empty(),
        parameters,
        |value, buffer| {
            buffer.extend_from_slice(value.as_bytes());
            Ok(IsNull::No)
        },
        [0],
        &mut out,
    )
    .map_err(|_| SqlError::Connection("a parameter is too long".to_owned()))?;
    frontend::describe(b'P', "", &mut out).map_err(lost)?;
    frontend::execute("", 0, &mut out).map_err(lost)?;
    frontend::sync(&mut out);
    Ok(out)
}

/// The `node_active` call of a keeper at rest.
pub fn node_active(
    formation: &str,
    node: i64,
    state: &str,
    lsn: &str,
    sync: &str,
) -> Result<Request, SqlError> {
    extended(
        "SELECT * FROM pgautofailover.node_active($1, $2, $3, $4::pgautofailover.replication_state, $5, $6, $7, $8)",
        &[25, 20, 23, 25, 16, 23, 3220, 25],
        &[formation, &node.to_string(), "0", state, "true", "1", lsn, sync],
    )
}
