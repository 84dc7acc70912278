//! A TCP relay that can go deaf: what a firewall does that drops packets, for chosen connections only,
//! and at chosen moments.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// When a relay goes deaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deaf {
    /// While [`Relay::cut`] says so, for connections that sent these bytes among their first.
    WhileCut(&'static [u8]),
    /// From the moment on when a client sends these bytes, which do not arrive.
    Before(&'static [u8]),
    /// From the moment on when a client has sent these bytes, which arrive; the answer does not.
    After(&'static [u8]),
}

#[derive(Default)]
struct Shared {
    cut: AtomicBool,
    /// The moment of [`Deaf::Before`] and [`Deaf::After`] has come.
    reached: AtomicBool,
    /// It is over, and never comes again.
    cured: AtomicBool,
    ended: AtomicBool,
}

pub struct Relay {
    shared: Arc<Shared>,
}

impl Relay {
    /// Listens on `from` (host and port) and connects to `to` for each connection.
    pub fn start(from: (&str, u16), to: (&str, u16), deaf: Deaf) -> Relay {
        let listener = bound(from);
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared::default());
        let (theirs, to) = (shared.clone(), (to.0.to_string(), to.1));
        std::thread::spawn(move || {
            while !theirs.ended.load(Ordering::Relaxed) {
                let Ok((client, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                client.set_nonblocking(false).unwrap();
                let Ok(server) = TcpStream::connect((to.0.as_str(), to.1)) else { continue };
                join(client, server, deaf, &theirs);
            }
        });
        Relay { shared }
    }

    pub fn cut(&self, cut: bool) {
        self.shared.cut.store(cut, Ordering::Relaxed);
    }

    /// Connections from now on are served.
    pub fn cure(&self) {
        self.shared.cured.store(true, Ordering::Relaxed);
    }

    pub fn is_reached(&self) -> bool {
        self.shared.reached.load(Ordering::Relaxed)
    }
}

/// A program that another thread starts has every listener of this process until it is executed: a port that
/// was let go may be taken for that moment.
fn bound(address: (&str, u16)) -> TcpListener {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            listener => return listener.unwrap(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

fn join(client: TcpStream, server: TcpStream, deaf: Deaf, shared: &Arc<Shared>) {
    let deaf = if shared.cured.load(Ordering::Relaxed) { None } else { Some(deaf) };
    // Is this connection one of those that a cut concerns?
    let chosen = Arc::new(AtomicBool::new(false));
    for (from, to, is_client) in [
        (client.try_clone().unwrap(), server.try_clone().unwrap(), true),
        (server, client, false),
    ] {
        let (shared, chosen) = (shared.clone(), chosen.clone());
        from.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        std::thread::spawn(move || pump(from, to, is_client, deaf, &shared, &chosen));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, is_client: bool, deaf: Option<Deaf>, shared: &Shared, chosen: &AtomicBool) {
    let mut buffer = [0u8; 65_536];
    let holds = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    while !shared.ended.load(Ordering::Relaxed) {
        let bytes = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => &buffer[..n],
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        match deaf {
            None => {}
            Some(Deaf::WhileCut(part)) => {
                if is_client && holds(bytes, part) {
                    chosen.store(true, Ordering::Relaxed);
                }
                while chosen.load(Ordering::Relaxed)
                    && shared.cut.load(Ordering::Relaxed)
                    && !shared.ended.load(Ordering::Relaxed)
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Some(Deaf::Before(part) | Deaf::After(part)) => {
                if shared.reached.load(Ordering::Relaxed) {
                    continue;
                }
                if is_client && holds(bytes, part) {
                    shared.reached.store(true, Ordering::Relaxed);
                    if matches!(deaf, Some(Deaf::Before(_))) {
                        continue;
                    }
                }
            }
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
