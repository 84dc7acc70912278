//! The accept loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use nix::sys::socket::SetSockOpt;
use nix::{libc, setsockopt_impl, sockopt_impl};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::TlsStream;

use super::backend::Output;
use super::connection::Connection;
use super::startup::{self, Addresses, Ended, Opening};
use crate::sql::facade::{Facade, wall_now};

/// Sockets beyond `max_connections` that are still told why they are refused.
const GRACE: usize = 64;

/// A running facade. Dropping the handle leaves the facade running.
pub struct ServerHandle {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl ServerHandle {
    /// Accepts no more, tells every session that the server shuts down, and waits for them.
    pub async fn shutdown(self, deadline: Duration) {
        let _ = self.stop.send(true);
        let _ = timeout(deadline, async {
            // Sessions hold receivers; the last one gone, everybody is.
            self.stop.closed().await;
            let _ = self.task.await;
        })
        .await;
    }
}

sockopt_impl!(
    /// A connection is accepted once its startup packet is there, or after this many seconds: each of the
    /// twelve that three stock keepers open in a second wakes the monitor once less. No crate has the option
    /// itself.
    DeferAccept,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    u32
);

/// Serves clients on a listener until it is shut down.
pub fn serve(listener: TcpListener, facade: Arc<Facade>) -> ServerHandle {
    tune(&listener);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(accept(listener, facade, stopped));
    ServerHandle { stop, task }
}

async fn accept(listener: TcpListener, facade: Arc<Facade>, mut stopped: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stopped) => return,
        };
        match accepted {
            Ok((stream, client)) => {
                let (facade, stopped) = (facade.clone(), stopped.clone());
                tokio::spawn(connection(stream, client, facade, stopped));
            }
            Err(e) => {
                // Out of file descriptors, most likely: that does not get better by hurrying.
                complain("cannot accept a connection", &e.to_string());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Waits for the word to stop. A handle that was dropped never gives it.
pub(super) async fn told(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

/// Counts a connection for as long as it lives.
struct Counted(Arc<Facade>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(mut stream: TcpStream, client: SocketAddr, facade: Arc<Facade>, stopped: watch::Receiver<bool>) {
    let count = facade.sessions.fetch_add(1, Ordering::Relaxed) + 1;
    let _counted = Counted(facade.clone());
    let limit = facade.config.max_connections as usize;
    if count > limit + GRACE {
        complain("connection refused", "too many clients");
        return;
    }
    let deadline = Instant::now() + facade.config.startup_deadline;
    let addresses = Addresses { client: Some(client), server: stream.local_addr().ok(), encrypted: false };
    let visit = Visit { facade, addresses, over_limit: count > limit, deadline, stopped };
    let tls = visit.facade.config.tls.clone();
    match timeout_at(deadline, startup::opening(&mut stream, &visit.facade, tls.is_some())).await {
        Ok(Ok(Opening::Tls)) => {
            // It is offered where there is an acceptor.
            let Some(tls) = tls else { return };
            match timeout_at(deadline, tls.accept(stream)).await {
                Ok(Ok(stream)) => visit.encrypted(stream).await,
                Ok(Err(error)) => complain("connection refused", &format!("TLS handshake: {error}")),
                Err(_) => complain("connection refused", "no TLS handshake in time"),
            }
        }
        Ok(opening) => visit.serve(stream, opening).await,
        Err(_) => complain("connection refused", "no startup packet in time"),
    }
}

/// What is known of a connection apart from its stream.
struct Visit {
    facade: Arc<Facade>,
    addresses: Addresses,
    over_limit: bool,
    /// The end of the startup.
    deadline: Instant,
    stopped: watch::Receiver<bool>,
}

impl Visit {
    /// Inside TLS the client begins again.
    async fn encrypted(mut self, mut stream: TlsStream<TcpStream>) {
        self.addresses.encrypted = true;
        match timeout_at(self.deadline, startup::opening(&mut stream, &self.facade, false)).await {
            Ok(opening) => self.serve(stream, opening).await,
            Err(_) => complain("connection refused", "no startup packet in time"),
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, mut stream: S, opening: Result<Opening, Ended>) {
        let mut out = Output::default();
        let started = match opening {
            Ok(Opening::Startup(packet)) => {
                let starting =
                    startup::start(&mut stream, &self.facade, packet, self.addresses, self.over_limit, &mut out);
                match timeout_at(self.deadline, starting).await {
                    Ok(started) => started,
                    Err(_) => return complain("connection refused", "no authentication in time"),
                }
            }
            // Not on offer a second time.
            Ok(Opening::Tls) => return,
            Err(ended) => Err(ended),
        };
        match started {
            Ok(session) => {
                let pid = session.ctx.backend_pid;
                Connection::new(stream, session, out, self.stopped).run().await;
                self.facade.unregister(pid);
            }
            Err(Ended::Quietly) => {}
            Err(Ended::Refused(error)) => {
                complain("connection refused", &error.to_string());
                out.error("FATAL", &error);
                let _ = timeout(Duration::from_secs(1), stream.write_all_buf(&mut out.buffer)).await;
            }
        }
    }
}

/// Sessions that only listen send nothing for hours: a peer that is gone must be noticed all the
/// same. So must one that takes nothing any more. Connections have these options from their listener.
fn tune(listener: &TcpListener) {
    let socket = SockRef::from(listener);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    // A socket without these still serves.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(Duration::from_secs(25)));
    let _ = DeferAccept.set(listener, &1);
}

/// Logs at most one line a second: garbage can come fast.
fn complain(what: &str, why: &str) {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = wall_now().0;
    let last = LAST.load(Ordering::Relaxed);
    if now - last >= 1_000_000 && LAST.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        tracing::warn!("{what}: {why}");
    }
}
