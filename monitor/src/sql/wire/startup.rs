//! From accept to ReadyForQuery: encryption requests, startup packet, authentication.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use failover::WallTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::backend::Output;
use super::frontend::{self, FirstPacket};
use super::scram::{self, Authentication, Conversation, Step};
use crate::sql::backend::{Consistency, Role, TransactionId};
use crate::sql::context::StatementContext;
use crate::sql::error::SqlError;
use crate::sql::facade::{Facade, wall_now};
use crate::sql::session::Session;
use crate::sql::settings::{EXTENSION_VERSIONS, SessionSettings, Surroundings};

/// How a startup ended that did not lead to a session.
pub enum Ended {
    /// The peer went away, or it only wanted to cancel.
    Quietly,
    /// No PostgreSQL client, or one that broke the protocol.
    Refused(SqlError),
}

impl From<std::io::Error> for Ended {
    fn from(_: std::io::Error) -> Ended {
        Ended::Quietly
    }
}

impl From<SqlError> for Ended {
    fn from(e: SqlError) -> Ended {
        Ended::Refused(e)
    }
}

/// Where a connection comes from and arrives at.
#[derive(Clone, Copy)]
pub struct Addresses {
    pub client: Option<SocketAddr>,
    pub server: Option<SocketAddr>,
    /// By TLS.
    pub encrypted: bool,
}

/// What a client opens a connection with.
pub enum Opening {
    /// It asked for TLS and was told to go ahead.
    Tls,
    Startup(StartupPacket),
}

/// The startup packet as it came.
pub struct StartupPacket {
    major: u16,
    minor: u16,
    parameters: Vec<(String, String)>,
}

/// Reads up to the startup packet, or to the beginning of TLS where that is on offer.
pub async fn opening<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    facade: &Facade,
    tls_on_offer: bool,
) -> Result<Opening, Ended> {
    let (mut ssl_asked, mut gss_asked) = (false, false);
    loop {
        // Exactly the packet and not a byte more: what follows a request for encryption must not
        // be taken for the inside of the encrypted stream.
        let mut length = [0; 4];
        stream.read_exact(&mut length).await?;
        let length = frontend::first_packet_length(length)?;
        let mut body = BytesMut::zeroed(length - 4);
        stream.read_exact(&mut body).await?;
        match frontend::first_packet(body.freeze())? {
            FirstPacket::Ssl if tls_on_offer => {
                stream.write_all(b"S").await?;
                return Ok(Opening::Tls);
            }
            FirstPacket::Ssl if !ssl_asked => ssl_asked = true,
            FirstPacket::GssEncryption if !gss_asked => gss_asked = true,
            FirstPacket::Ssl | FirstPacket::GssEncryption => {
                return Err(frontend::violation("encryption was refused already").into());
            }
            FirstPacket::Cancel { pid, secret } => {
                facade.cancel(pid, &secret);
                return Err(Ended::Quietly);
            }
            FirstPacket::Startup { major, minor, parameters } => {
                return Ok(Opening::Startup(StartupPacket { major, minor, parameters }));
            }
        }
        stream.write_all(b"N").await?;
    }
}

/// Carries out the startup. The greeting is left in `out`, not yet sent.
pub async fn start<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    facade: &Arc<Facade>,
    packet: StartupPacket,
    addresses: Addresses,
    over_limit: bool,
    out: &mut Output,
) -> Result<Session, Ended> {
    let StartupPacket { major, minor, parameters } = packet;
    if over_limit {
        return Err(SqlError::new("53300", "sorry, too many clients already").into());
    }
    if major != 3 {
        let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0");
        return Err(SqlError::new("0A000", message).into());
    }
    let local = addresses.client.is_some_and(|client| client.ip().to_canonical().is_loopback());
    if facade.config.tls.is_some() && !addresses.encrypted && !local {
        return Err(SqlError::new("28000", "this monitor takes encrypted connections only")
            .hint("Connect with sslmode=require, or stricter. Only clients on the monitor's own machine may do without.")
            .into());
    }
    greet(stream, facade, addresses, minor, parameters, out).await
}

async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    facade: &Arc<Facade>,
    addresses: Addresses,
    minor: u16,
    parameters: Vec<(String, String)>,
    out: &mut Output,
) -> Result<Session, Ended> {
    let unknown: Vec<String> = parameters.iter().filter(|(n, _)| n.starts_with("_pq_.")).map(|(n, _)| n.clone()).collect();
    if minor > 0 || !unknown.is_empty() {
        out.negotiate_protocol_version(0, &unknown);
    }
    let ctx = context(facade, addresses, parameters)?;
    let role = facade.backend.role();
    if role == Role::NoLeader && ctx.consistency() == Consistency::Linearizable {
        return Err(SqlError::new("57P03", "the monitors have no leader at the moment")
            .hint("A majority of the monitors must be running and reach each other. Try again shortly.")
            .into());
    }
    authenticate(stream, facade, &ctx.around.user, out).await?;
    let (pid, secret) = (ctx.backend_pid, secret(ctx.backend_pid));
    for (name, value) in ctx.settings.reported(&ctx.around) {
        out.parameter_status(name, &value);
    }
    out.backend_key_data(pid, &secret);
    let cancel = Arc::new(Notify::new());
    facade.register(pid, secret, cancel.clone());
    Ok(Session::new(facade.clone(), ctx, cancel))
}

fn context(facade: &Facade, addresses: Addresses, parameters: Vec<(String, String)>) -> Result<StatementContext, SqlError> {
    let (mut user, mut database) = (None, None);
    let mut wanted = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "user" => user = Some(value),
            "database" => database = Some(value),
            "options" => wanted.extend(options(&value)?),
            "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => {}
            "replication" => return Err(SqlError::new("0A000", "replication connections are not supported")),
            name if name.starts_with("_pq_.") => {}
            _ => wanted.push((name, value)),
        }
    }
    let Some(user) = user.filter(|u| !u.is_empty()) else {
        return Err(SqlError::new("28000", "no PostgreSQL user name specified in startup packet"));
    };
    let database = database.filter(|d| !d.is_empty()).unwrap_or_else(|| user.clone());
    let session = facade.next_session.fetch_add(1, Ordering::Relaxed);
    // Process ids are positive and start anew after the last.
    let backend_pid = facade.next_pid.fetch_add(1, Ordering::Relaxed) & i32::MAX;
    let around = Surroundings {
        user,
        in_recovery: facade.backend.role() != Role::Leader,
        max_connections: facade.config.max_connections,
        port: addresses.server.map_or(5432, |a| a.port()),
        extension_version: version_of(&database).unwrap_or(&facade.config.extension_version).to_string(),
        test_mode: facade.config.test_mode,
    };
    let mut settings = SessionSettings::default();
    for (name, value) in wanted {
        let mut one = SessionSettings::default();
        one.set(&name, Some(&value), false, &around)?;
        settings.startup.append(&mut one.session);
    }
    Ok(StatementContext {
        database,
        settings,
        around,
        backend_pid,
        client_addr: addresses.client.map(|a| a.ip().to_string()),
        client_port: addresses.client.map_or(0, |a| a.port()),
        server_addr: addresses.server.map(|a| a.ip().to_string()),
        started_at: wall_now(),
        server_started_at: WallTime(facade.started_at.0),
        transaction: TransactionId { replica: facade.backend.replica_id(), session },
        in_transaction: false,
        pending: Vec::new(),
    })
}

/// The extension release that a database name asks for: `pg_auto_failover_2.2`.
fn version_of(database: &str) -> Option<&str> {
    let (_, version) = database.rsplit_once('_')?;
    EXTENSION_VERSIONS.contains(&version).then_some(version)
}

/// `-c name=value` and `--name=value`, blanks and backslashes escaped by a backslash.
pub(crate) fn options(text: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_ascii_whitespace() => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    let mut words = words.into_iter().filter(|w| !w.is_empty());
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let invalid = || SqlError::new("42601", format!("invalid command-line argument for server process: {word}"));
        let assignment = match word.strip_prefix("--") {
            Some(rest) => rest.replace('-', "_"),
            None => match word.strip_prefix("-c") {
                Some("") => words.next().ok_or_else(invalid)?,
                Some(rest) => rest.to_string(),
                None => return Err(invalid()),
            },
        };
        let (name, value) = assignment.split_once('=').ok_or_else(invalid)?;
        found.push((name.to_string(), value.to_string()));
    }
    Ok(found)
}

/// A cancel key: a keyed hash whose key nobody outside this process knows.
fn secret(pid: i32) -> [u8; 4] {
    use std::hash::{BuildHasher, RandomState};
    static KEY: std::sync::LazyLock<RandomState> = std::sync::LazyLock::new(RandomState::new);
    let hash = KEY.hash_one((pid, wall_now().0)).to_be_bytes();
    [hash[0], hash[1], hash[2], hash[3]]
}

async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    facade: &Facade,
    user: &str,
    out: &mut Output,
) -> Result<(), Ended> {
    if let Authentication::Scram(verifiers) = &facade.config.auth {
        let mut conversation = Conversation::new(user, verifiers);
        out.authentication(10, &scram::offer());
        let mut input = BytesMut::new();
        loop {
            stream.write_all_buf(&mut out.buffer).await?;
            let message = loop {
                // A SASL message is small; whoever sends more is not authenticating.
                match frontend::decode(&mut input, 64 * 1024) {
                    Ok(Some(message)) => break message,
                    Ok(None) => {}
                    Err((e, _)) => return Err(e.into()),
                }
                if stream.read_buf(&mut input).await? == 0 {
                    return Err(Ended::Quietly);
                }
            };
            match conversation.take(message)? {
                Step::Continue(data) => out.authentication(11, &data),
                Step::Success(data) => {
                    out.authentication(12, &data);
                    break;
                }
            }
        }
        if !input.is_empty() {
            return Err(frontend::violation("unexpected data after the SASL response").into());
        }
    }
    out.authentication(0, &[]);
    Ok(())
}
