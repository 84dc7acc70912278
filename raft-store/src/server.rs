//! The listening side: accepts connections, checks who is there, serves requests concurrently.
//!
//! Whatever arrives, the worst outcome for us is one closed connection and one (rate-limited) line.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::codec::Kind;
use crate::frame::{self, FrameError, MAX_FRAME, MAX_HELLO, PROTOCOL};
use crate::identities::{Identities, Store};
use crate::peer::IDLE_LIMIT;
use crate::tls::Stream;
use crate::wire::{self, Hello, Purpose, Refusal, Request, Response, Welcome};

/// Connections that have not shown who they are.
const STRANGERS: usize = 64;
/// Connections in all.
const CONNECTIONS: usize = 512;
/// Requests being served per connection.
const IN_FLIGHT: usize = 256;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries out requests; implemented by the replica.
pub trait Dispatch: Send + Sync + 'static {
    /// One request of a peer that passed the handshake.
    fn dispatch(self: Arc<Self>, from: u64, request: Request) -> futures::future::BoxFuture<'static, Response>;
}

/// A warning at most once per second; says how many it swallowed.
#[derive(Default)]
pub struct RateLimitedWarning {
    last: Mutex<Option<Instant>>,
    swallowed: AtomicU64,
}

impl RateLimitedWarning {
    /// Warns, or counts.
    pub fn warn(&self, text: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            self.swallowed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *last = Some(Instant::now());
        match self.swallowed.swap(0, Ordering::Relaxed) {
            0 => tracing::warn!("{text}"),
            n => tracing::warn!("{text} (and {n} more like it)"),
        }
    }
}

struct Server<D> {
    identities: Arc<Identities>,
    dispatch: Arc<D>,
    strangers: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    warning: RateLimitedWarning,
    stop: watch::Receiver<bool>,
}

/// Accepts until `stop` becomes true, then closes the listener and every connection.
pub async fn serve<D: Dispatch>(
    listener: TcpListener,
    identities: Arc<Identities>,
    dispatch: Arc<D>,
    mut stop: watch::Receiver<bool>,
) {
    let server = Arc::new(Server {
        identities,
        dispatch,
        strangers: Arc::new(Semaphore::new(STRANGERS)),
        connections: Arc::new(Semaphore::new(CONNECTIONS)),
        warning: RateLimitedWarning::default(),
        stop: stop.clone(),
    });
    loop {
        let accepted = tokio::select! {
            a = listener.accept() => a,
            _ = stop.wait_for(|s| *s) => return,
        };
        match accepted {
            Ok((tcp, from)) => {
                let server = server.clone();
                tokio::spawn(async move { server.connection(tcp, from).await });
            }
            Err(e) => {
                server.warning.warn(&format!("accepting a replica's connection: {e}"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl<D: Dispatch> Server<D> {
    async fn connection(self: Arc<Self>, tcp: TcpStream, from: SocketAddr) {
        let mut stop = self.stop.clone();
        tokio::select! {
            end = self.clone().talk(tcp, from) => {
                if let Err(e) = end {
                    self.warning.warn(&format!("connection from {from}: {e}"));
                }
            }
            _ = stop.wait_for(|s| *s) => {}
        }
    }

    async fn talk(self: Arc<Self>, tcp: TcpStream, from: SocketAddr) -> Result<(), String> {
        let Ok(_connection) = self.connections.clone().try_acquire_owned() else {
            return Err("too many connections".into());
        };
        let Ok(stranger) = self.strangers.clone().try_acquire_owned() else {
            return Err("too many connections in handshake".into());
        };
        tcp.set_nodelay(true).map_err(|e| e.to_string())?;
        let greeted = timeout(HANDSHAKE_TIMEOUT, self.greet(tcp)).await.map_err(|_| "no handshake within 5 s")??;
        drop(stranger);
        let Some((stream, hello)) = greeted else { return Ok(()) };
        tracing::debug!(peer = hello.from.id, %from, "connected");
        self.requests(stream, hello.purpose, hello.from.id, Store::of(&hello.from)).await
    }

    /// `None`: the other side went away before it said anything (a port scan, a health probe).
    async fn greet(&self, tcp: TcpStream) -> Result<Option<(Box<dyn Stream>, Hello)>, String> {
        let mut stream: Box<dyn Stream> = match &self.identities.tls {
            None => Box::new(tcp),
            Some(tls) => tls.accept(tcp).await.map_err(|e| format!("TLS: {e}"))?,
        };
        let first = match frame::read(&mut stream, MAX_HELLO).await {
            Ok(f) => f,
            Err(FrameError::Io(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        if first.kind != Kind::Hello {
            return Err("the first frame is no handshake".into());
        }
        let hello: Hello = wire::decode(&first.body).map_err(|e| format!("handshake: {e}"))?;
        let answer = match self.judge(&hello) {
            Ok(protocol) => Welcome::Accepted { protocol, from: self.identities.introduction() },
            Err(refusal) => Welcome::Refused(refusal),
        };
        let body = wire::encode(&answer).map_err(|e| e.to_string())?;
        frame::write(&mut stream, Kind::Welcome, 0, &body).await.map_err(|e| e.to_string())?;
        match answer {
            Welcome::Accepted { .. } => {
                if hello.purpose == Purpose::Member {
                    self.identities.note_peer(&hello.from);
                }
                Ok(Some((stream, hello)))
            }
            Welcome::Refused(r) => Err(format!("replica {} refused: {}", hello.from.id, r.text())),
        }
    }

    fn judge(&self, hello: &Hello) -> Result<u16, Refusal> {
        let common = hello.protocol.1.min(PROTOCOL.1);
        if common < hello.protocol.0.max(PROTOCOL.0) {
            return Err(Refusal::Protocol(format!(
                "no common protocol version: {:?} and {PROTOCOL:?}; one of the two replicas is too old",
                hello.protocol
            )));
        }
        if hello.to != self.identities.id() {
            return Err(Refusal::WrongReplica(format!(
                "this is replica {}, not replica {}: the member lists disagree",
                self.identities.id(),
                hello.to
            )));
        }
        self.identities.check(hello.from.id, &hello.from, hello.purpose)?;
        Ok(common)
    }

    async fn requests(
        self: Arc<Self>,
        stream: Box<dyn Stream>,
        purpose: Purpose,
        peer: u64,
        store: Store,
    ) -> Result<(), String> {
        let (reader, writer) = tokio::io::split(stream);
        let mut reader = BufReader::new(reader);
        let (out, queue) = mpsc::channel::<Vec<u8>>(IN_FLIGHT);
        let writing = tokio::spawn(respond(BufWriter::new(writer), queue));
        let permits = Arc::new(Semaphore::new(IN_FLIGHT));
        let end = loop {
            if writing.is_finished() {
                break Ok(());
            }
            let frame = match timeout(IDLE_LIMIT, frame::read(&mut reader, MAX_FRAME)).await {
                Err(_) => break Ok(()),
                Ok(Err(FrameError::Io(_))) => break Ok(()),
                Ok(Err(e)) => break Err(format!("replica {peer}: {e}")),
                Ok(Ok(f)) => f,
            };
            match frame.kind {
                Kind::Ping => {
                    let _ = out.try_send(frame::encode(Kind::Ping, 0, &[]));
                    continue;
                }
                Kind::Request => {}
                _ => break Err(format!("replica {peer}: unexpected frame")),
            }
            let request: Request = match wire::decode(&frame.body) {
                Ok(r) => r,
                Err(e) => break Err(format!("replica {peer}: {e}")),
            };
            let allowed = match purpose {
                Purpose::Visitor => matches!(request, Request::Probe | Request::Rejoin(_)),
                // Again at each request: the records may have changed since the handshake.
                Purpose::Member => self.identities.admit(peer, &store).is_ok(),
            };
            if !allowed {
                break Err(format!("replica {peer}: not admitted"));
            }
            // The semaphore is never closed; an error would only mean that.
            let Ok(permit) = permits.clone().acquire_owned().await else { break Ok(()) };
            let (dispatch, out) = (self.dispatch.clone(), out.clone());
            tokio::spawn(async move {
                let response = dispatch.dispatch(peer, request).await;
                let body = wire::encode(&response).unwrap_or_default();
                let _ = out.send(frame::encode(Kind::Response, frame.id, &body)).await;
                drop(permit);
            });
        };
        writing.abort();
        end
    }
}

async fn respond(mut to: impl tokio::io::AsyncWrite + Unpin, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = queue.recv().await {
        let write = async {
            to.write_all(&bytes).await?;
            while let Ok(more) = queue.try_recv() {
                to.write_all(&more).await?;
            }
            to.flush().await
        };
        if !matches!(timeout(WRITE_TIMEOUT, write).await, Ok(Ok(()))) {
            return;
        }
    }
}
