//! The connecting side: one [`Peer`] per other replica, three lanes (connections) each, so that a
//! snapshot or a 16 MiB call never stands in front of a heartbeat.
//!
//! Requests are multiplexed by id. Connecting runs in its own task: a caller's short deadline gives
//! up waiting, not connecting. After a failure the next attempt waits for a jittered backoff.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::codec::Kind;
use crate::frame::{self, MAX_FRAME, MAX_HELLO, PROTOCOL};
use crate::identities::{Identities, Store};
use crate::tls::Stream;
use crate::wire::{self, Hello, Purpose, Request, Response, Welcome};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection is asked whether it lives when nothing was written to it for once to twice as long.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Nothing heard for this long (pings, which are answered, come at least every 10 s): the connection is dead.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(15);
/// A request ran out of time and nothing at all was heard for this long: reconnect.
const SILENCE: Duration = Duration::from_millis(1000);
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(400);
/// Requests waiting for the socket of one lane.
const QUEUE: usize = 256;

/// Which connection a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Heartbeats, votes, read-index rounds.
    Control = 0,
    /// Log entries.
    Log = 1,
    /// Snapshots and application calls.
    Bulk = 2,
}

/// Why a request got no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// Sent, but no answer in time, or the connection broke: it may have been carried out.
    #[error("{0}")]
    Lost(String),
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Exponential with jitter: between half and the whole of the step.
pub(crate) fn jittered(step: Duration) -> Duration {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let half = (step.as_micros() as u64 / 2).max(1);
    Duration::from_micros(half + random % half)
}

struct Connection {
    out: mpsc::Sender<(u64, Vec<u8>)>,
    pending: Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>,
    next_id: AtomicU64,
    closed: AtomicBool,
    close: watch::Sender<bool>,
    started: Instant,
    /// Milliseconds after `started` at which a frame last arrived.
    heard: AtomicU64,
    store: Store,
}

impl Connection {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.close.send_replace(true);
        lock(&self.pending).clear();
    }

    fn silent_for(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }
}

#[derive(Default)]
struct LaneState {
    connection: Option<Arc<Connection>>,
    /// Signals the end of a running connection attempt.
    attempt: Option<watch::Receiver<bool>>,
    failures: u32,
    not_before: Option<Instant>,
    last_error: String,
}

/// The other end of one replica.
pub struct Peer {
    id: u64,
    host: String,
    port: u16,
    purpose: Purpose,
    identities: Arc<Identities>,
    lanes: [Mutex<LaneState>; 3],
    stopped: AtomicBool,
}

impl Peer {
    /// No connection is made before the first request.
    pub fn new(id: u64, host: &str, port: u16, purpose: Purpose, identities: Arc<Identities>) -> Arc<Peer> {
        Arc::new(Peer {
            id,
            host: host.to_string(),
            port,
            purpose,
            identities,
            lanes: Default::default(),
            stopped: AtomicBool::new(false),
        })
    }

    /// Address, for noticing that it changed.
    pub fn is_at(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    /// Closes all lanes; later requests fail.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        for lane in &self.lanes {
            if let Some(c) = lock(lane).connection.take() {
                c.close();
            }
        }
    }

    /// Is any lane connected?
    pub fn is_connected(&self) -> bool {
        self.lanes.iter().any(|l| lock(l).connection.as_ref().is_some_and(|c| !c.closed.load(Ordering::Acquire)))
    }

    /// Sends a request and waits for its response until the deadline.
    pub async fn request(
        self: &Arc<Self>,
        lane: Lane,
        request: &Request,
        deadline: Instant,
    ) -> Result<Response, RequestError> {
        let body = wire::encode(request).map_err(|e| RequestError::Unreachable(e.to_string()))?;
        if body.len() + 8 > MAX_FRAME {
            return Err(RequestError::Unreachable(format!("request of {} bytes exceeds the limit", body.len())));
        }
        let connection = self.connection(lane, deadline).await?;
        let id = connection.next_id.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = oneshot::channel();
        lock(&connection.pending).insert(id, tx);
        // Closed between the look-up and the insertion: nobody would ever answer.
        if connection.closed.load(Ordering::Acquire) {
            lock(&connection.pending).remove(&id);
            return Err(RequestError::Unreachable(format!("connection to replica {} closed", self.id)));
        }
        let sent = timeout_at(deadline, connection.out.send((id, body))).await;
        if !matches!(sent, Ok(Ok(()))) {
            lock(&connection.pending).remove(&id);
            self.give_up_if_silent(&connection);
            return Err(RequestError::Unreachable(format!("connection to replica {} is stuck", self.id)));
        }
        match timeout_at(deadline, rx).await {
            Ok(Ok(bytes)) => wire::decode(&bytes).map_err(|e| RequestError::Lost(format!("replica {}: {e}", self.id))),
            Ok(Err(_)) => Err(RequestError::Lost(format!("connection to replica {} broke", self.id))),
            Err(_) => {
                lock(&connection.pending).remove(&id);
                self.give_up_if_silent(&connection);
                Err(RequestError::Lost(format!("replica {} did not answer in time", self.id)))
            }
        }
    }

    fn give_up_if_silent(&self, c: &Connection) {
        if c.silent_for() > SILENCE {
            tracing::debug!(peer = self.id, "nothing heard; reconnecting");
            c.close();
        }
    }

    async fn connection(self: &Arc<Self>, lane: Lane, deadline: Instant) -> Result<Arc<Connection>, RequestError> {
        loop {
            let wait = {
                let mut state = lock(&self.lanes[lane as usize]);
                if self.stopped.load(Ordering::Acquire) {
                    return Err(RequestError::Unreachable("this replica is shutting down".into()));
                }
                if let Some(c) = &state.connection {
                    if !c.closed.load(Ordering::Acquire) {
                        // The records may have changed since the handshake (a rejoin).
                        if self.purpose == Purpose::Member
                            && let Err(why) = self.identities.admit(self.id, &c.store)
                        {
                            c.close();
                            return Err(RequestError::Unreachable(why));
                        }
                        return Ok(c.clone());
                    }
                    state.connection = None;
                }
                if let Some(attempt) = &state.attempt {
                    Ok(attempt.clone())
                } else if let Some(at) = state.not_before.filter(|at| *at > Instant::now()) {
                    Err((at, state.last_error.clone()))
                } else {
                    let (tx, rx) = watch::channel(false);
                    state.attempt = Some(rx.clone());
                    let me = self.clone();
                    tokio::spawn(async move { me.attempt(lane, tx).await });
                    Ok(rx)
                }
            };
            match wait {
                Ok(mut attempt) => {
                    if timeout_at(deadline, attempt.wait_for(|done| *done)).await.is_err() {
                        return Err(RequestError::Unreachable(format!("still connecting to replica {}", self.id)));
                    }
                }
                Err((at, error)) => {
                    if at >= deadline {
                        return Err(RequestError::Unreachable(error));
                    }
                    tokio::time::sleep_until(at).await;
                }
            }
        }
    }

    async fn attempt(self: Arc<Self>, lane: Lane, done: watch::Sender<bool>) {
        let result = self.connect(lane).await;
        {
            let mut state = lock(&self.lanes[lane as usize]);
            state.attempt = None;
            match result {
                Ok(c) if !self.stopped.load(Ordering::Acquire) => {
                    state.connection = Some(c);
                    state.failures = 0;
                    state.last_error.clear();
                    state.not_before = None;
                }
                Ok(c) => c.close(),
                Err(e) => {
                    if state.last_error != e {
                        tracing::warn!("replica {} at {}:{}: {e}", self.id, self.host, self.port);
                    }
                    let step = BACKOFF_MIN * 2u32.pow(state.failures.min(8));
                    state.failures += 1;
                    state.not_before = Some(Instant::now() + jittered(step.min(BACKOFF_MAX)));
                    state.last_error = e;
                }
            }
        }
        done.send_replace(true);
    }

    async fn connect(self: &Arc<Self>, lane: Lane) -> Result<Arc<Connection>, String> {
        let tcp = match timeout(CONNECT_TIMEOUT, TcpStream::connect((self.host.as_str(), self.port))).await {
            Err(_) => return Err("no connection within 2 s".into()),
            Ok(Err(e)) => return Err(format!("cannot connect: {e}")),
            Ok(Ok(tcp)) => tcp,
        };
        tcp.set_nodelay(true).map_err(|e| e.to_string())?;
        match timeout(HANDSHAKE_TIMEOUT, self.handshake(lane, tcp)).await {
            Err(_) => Err("no handshake within 3 s".into()),
            Ok(r) => r,
        }
    }

    async fn handshake(self: &Arc<Self>, lane: Lane, tcp: TcpStream) -> Result<Arc<Connection>, String> {
        let mut stream: Box<dyn Stream> = match &self.identities.tls {
            None => Box::new(tcp),
            Some(tls) => tls.connect(&self.host, tcp).await.map_err(|e| format!("TLS: {e}"))?,
        };
        let hello = Hello {
            protocol: PROTOCOL,
            purpose: self.purpose,
            to: self.id,
            from: self.identities.introduction(),
        };
        let body = wire::encode(&hello).map_err(|e| e.to_string())?;
        frame::write(&mut stream, Kind::Hello, 0, &body).await.map_err(|e| format!("handshake: {e}"))?;
        let answer = frame::read(&mut stream, MAX_HELLO).await.map_err(|e| format!("handshake: {e}"))?;
        if answer.kind != Kind::Welcome {
            return Err("handshake: unexpected frame".into());
        }
        let intro = match wire::decode::<Welcome>(&answer.body).map_err(|e| format!("handshake: {e}"))? {
            Welcome::Accepted { protocol, from } if (PROTOCOL.0..=PROTOCOL.1).contains(&protocol) => from,
            Welcome::Accepted { protocol, .. } => return Err(format!("peer chose protocol {protocol}")),
            Welcome::Refused(r) => {
                self.identities.note_refusal(self.id, &r);
                return Err(format!("refused us: {}", r.text()));
            }
        };
        self.identities.check(self.id, &intro, self.purpose).map_err(|r| r.text().to_string())?;
        self.identities.note_peer(&intro);
        Ok(self.start(lane, stream, Store::of(&intro)))
    }

    fn start(self: &Arc<Self>, lane: Lane, stream: Box<dyn Stream>, store: Store) -> Arc<Connection> {
        let (reader, writer) = tokio::io::split(stream);
        let (out, queue) = mpsc::channel(QUEUE);
        let connection = Arc::new(Connection {
            out,
            pending: Mutex::default(),
            next_id: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            close: watch::Sender::new(false),
            started: Instant::now(),
            heard: AtomicU64::new(0),
            store,
        });
        let id = self.id;
        let c = connection.clone();
        tokio::spawn(async move {
            let mut stop = c.close.subscribe();
            let end = tokio::select! {
                e = receive(BufReader::new(reader), &c) => e,
                e = send(BufWriter::new(writer), queue) => e,
                _ = stop.wait_for(|closed| *closed) => "closed".to_string(),
            };
            tracing::debug!(peer = id, ?lane, "connection ended: {end}");
            c.close();
        });
        connection
    }
}

async fn receive(mut from: impl tokio::io::AsyncRead + Unpin, c: &Connection) -> String {
    loop {
        let frame = match timeout(IDLE_LIMIT, frame::read(&mut from, MAX_FRAME)).await {
            Err(_) => return "silent".into(),
            Ok(Err(e)) => return e.to_string(),
            Ok(Ok(f)) => f,
        };
        c.heard.store(c.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        if frame.kind == Kind::Response
            && let Some(waiting) = lock(&c.pending).remove(&frame.id)
        {
            let _ = waiting.send(frame.body);
        }
    }
}

/// When connections that were not written to since the last time are asked whether they live: all of this
/// process at once, so that it need not wake for each.
fn next_ping() -> Instant {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let passed = FIRST.elapsed().as_millis() / PING_EVERY.as_millis();
    *FIRST + PING_EVERY * u32::try_from(passed + 1).unwrap_or(u32::MAX)
}

async fn send(mut to: impl tokio::io::AsyncWrite + Unpin, mut queue: mpsc::Receiver<(u64, Vec<u8>)>) -> String {
    let (mut written, mut ping) = (false, next_ping());
    loop {
        let bytes = match timeout_at(ping, queue.recv()).await {
            Ok(None) => return "closed".into(),
            Ok(Some((id, body))) => {
                written = true;
                frame::encode(Kind::Request, id, &body)
            }
            Err(_) => {
                ping = next_ping();
                if std::mem::take(&mut written) {
                    continue;
                }
                frame::encode(Kind::Ping, 0, &[])
            }
        };
        if let Err(e) = to.write_all(&bytes).await {
            return e.to_string();
        }
        // One write for everything that has queued up.
        while let Ok((id, body)) = queue.try_recv() {
            if let Err(e) = to.write_all(&frame::encode(Kind::Request, id, &body)).await {
                return e.to_string();
            }
        }
        if let Err(e) = to.flush().await {
            return e.to_string();
        }
    }
}
