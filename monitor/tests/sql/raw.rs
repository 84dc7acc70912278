//! A client that speaks the protocol byte by byte, as libpq's PQexec and PQsendQueryParams do.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A message from the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub kind: u8,
    pub body: Vec<u8>,
}

/// The answer to one query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Name and type OID.
    pub columns: Vec<(String, u32)>,
    pub rows: Vec<Vec<Option<String>>>,
    pub tags: Vec<String>,
    /// Fields of ErrorResponse by code.
    pub error: Option<Vec<(u8, String)>>,
    pub notices: Vec<String>,
    pub notifications: Vec<(String, String)>,
    pub parameters: Vec<(String, String)>,
    pub status: u8,
    /// What COPY gave.
    pub copied: String,
    /// Message kinds in order.
    pub kinds: String,
}

impl Answer {
    pub fn field(&self, code: u8) -> &str {
        let fields = self.error.as_deref().unwrap_or_default();
        fields.iter().find(|(c, _)| *c == code).map_or("", |(_, t)| t)
    }

    pub fn sqlstate(&self) -> &str {
        self.field(b'C')
    }

    /// The only row.
    pub fn row(&self) -> Vec<&str> {
        assert_eq!(self.error, None);
        assert_eq!(self.rows.len(), 1, "{self:?}");
        self.rows[0].iter().map(|v| v.as_deref().unwrap_or("NULL")).collect()
    }

    pub fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|(n, _)| n.as_str()).collect()
    }

    pub fn oids(&self) -> Vec<u32> {
        self.columns.iter().map(|(_, o)| *o).collect()
    }
}

pub struct Client {
    pub stream: TcpStream,
    pub greeting: Answer,
}

pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(name.as_bytes());
        body.push(0);
        body.extend(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

pub fn parse_message(name: &str, sql: &str, oids: &[u32]) -> Vec<u8> {
    let mut body = [name.as_bytes(), &[0], sql.as_bytes(), &[0]].concat();
    body.extend((oids.len() as u16).to_be_bytes());
    for oid in oids {
        body.extend(oid.to_be_bytes());
    }
    frame(b'P', &body)
}

/// All parameters in `format`, all results in `result`.
pub fn bind_message(portal: &str, name: &str, format: i16, values: &[Option<&[u8]>], result: i16) -> Vec<u8> {
    let mut body = [portal.as_bytes(), &[0], name.as_bytes(), &[0]].concat();
    body.extend(1_u16.to_be_bytes());
    body.extend(format.to_be_bytes());
    body.extend((values.len() as u16).to_be_bytes());
    for value in values {
        match value {
            Some(bytes) => {
                body.extend((bytes.len() as u32).to_be_bytes());
                body.extend(*bytes);
            }
            None => body.extend((-1_i32).to_be_bytes()),
        }
    }
    body.extend(1_u16.to_be_bytes());
    body.extend(result.to_be_bytes());
    frame(b'B', &body)
}

pub fn describe_message(kind: u8, name: &str) -> Vec<u8> {
    frame(b'D', &[&[kind], name.as_bytes(), &[0]].concat())
}

pub fn execute_message(portal: &str, rows: i32) -> Vec<u8> {
    frame(b'E', &[portal.as_bytes(), &[0], &rows.to_be_bytes()].concat())
}

pub fn sync_message() -> Vec<u8> {
    frame(b'S', &[])
}

fn cstring(bytes: &[u8], at: &mut usize) -> String {
    let end = bytes[*at..].iter().position(|b| *b == 0).unwrap() + *at;
    let text = String::from_utf8(bytes[*at..end].to_vec()).unwrap();
    *at = end + 1;
    text
}

impl Client {
    /// Connects as stock keepers do.
    pub async fn connect(address: SocketAddr) -> Client {
        Client::connect_as(address, &[("user", "autoctl_node"), ("database", "pg_auto_failover")]).await.unwrap()
    }

    /// The error's fields when the server refuses.
    pub async fn connect_as(address: SocketAddr, parameters: &[(&str, &str)]) -> Result<Client, Answer> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        // sslmode=prefer asks first.
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"N");
        stream.write_all(&startup(parameters)).await.unwrap();
        let mut client = Client { stream, greeting: Answer::default() };
        let greeting = client.answer().await;
        if greeting.error.is_some() {
            return Err(greeting);
        }
        client.greeting = greeting;
        Ok(client)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next message; `None` at the end of the connection.
    pub async fn message(&mut self) -> Option<Message> {
        let read = async {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let mut body = vec![0; length - 4];
            self.stream.read_exact(&mut body).await.ok()?;
            Some(Message { kind: head[0], body })
        };
        timeout(Duration::from_secs(60), read).await.expect("no message within a minute")
    }

    /// Everything up to ReadyForQuery or the end of the connection.
    pub async fn answer(&mut self) -> Answer {
        let mut answer = Answer::default();
        while let Some(message) = self.message().await {
            answer.kinds.push(message.kind as char);
            let (body, mut at) = (&message.body, 0);
            match message.kind {
                b'T' => {
                    let n = u16::from_be_bytes([body[0], body[1]]);
                    at = 2;
                    answer.columns.clear();
                    for _ in 0..n {
                        let name = cstring(body, &mut at);
                        let oid = u32::from_be_bytes(body[at + 6..at + 10].try_into().unwrap());
                        at += 18;
                        answer.columns.push((name, oid));
                    }
                }
                b'D' => {
                    let n = u16::from_be_bytes([body[0], body[1]]);
                    at = 2;
                    let mut row = Vec::new();
                    for _ in 0..n {
                        let length = i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
                        at += 4;
                        row.push(usize::try_from(length).ok().map(|length| {
                            let text = String::from_utf8_lossy(&body[at..at + length]).into_owned();
                            at += length;
                            text
                        }));
                    }
                    answer.rows.push(row);
                }
                b'd' => answer.copied.push_str(std::str::from_utf8(body).unwrap()),
                b'C' => answer.tags.push(cstring(body, &mut at)),
                b'E' | b'N' => {
                    let mut fields = Vec::new();
                    while body[at] != 0 {
                        let code = body[at];
                        at += 1;
                        fields.push((code, cstring(body, &mut at)));
                    }
                    if message.kind == b'E' {
                        answer.error = Some(fields);
                    } else {
                        let text = fields.into_iter().find(|(c, _)| *c == b'M').unwrap().1;
                        answer.notices.push(text);
                    }
                }
                b'A' => {
                    at = 4;
                    let channel = cstring(body, &mut at);
                    answer.notifications.push((channel, cstring(body, &mut at)));
                }
                b'S' => {
                    let name = cstring(body, &mut at);
                    answer.parameters.push((name, cstring(body, &mut at)));
                }
                b'Z' => {
                    answer.status = body[0];
                    return answer;
                }
                _ => {}
            }
        }
        answer
    }

    /// PQexec.
    pub async fn simple(&mut self, sql: &str) -> Answer {
        self.send(&frame(b'Q', &[sql.as_bytes(), &[0]].concat())).await;
        self.answer().await
    }

    /// PQsendQueryParams with text parameters.
    pub async fn params(&mut self, sql: &str, oids: &[u32], values: &[&str]) -> Answer {
        let values: Vec<Option<&[u8]>> = values.iter().map(|v| Some(v.as_bytes())).collect();
        self.bytes(sql, oids, &values).await
    }

    pub async fn bytes(&mut self, sql: &str, oids: &[u32], values: &[Option<&[u8]>]) -> Answer {
        let mut all = parse_message("", sql, oids);
        all.extend(bind_message("", "", 0, values, 0));
        all.extend(describe_message(b'P', ""));
        all.extend(execute_message("", 0));
        all.extend(sync_message());
        self.send(&all).await;
        self.answer().await
    }
}
