//! What several of these tests need.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a test needs from outside is there. Where it is not, the test is left out, and said so; the
/// continuous integration has to have it.
#[allow(dead_code)]
pub fn has(what: &str, there: bool) -> bool {
    if !there {
        assert!(std::env::var_os("CI").is_none(), "{what} is missing, and CI is set");
        eprintln!("SKIPPED: {what} is missing");
    }
    there
}

/// A port that was free a moment ago, from below the range that the kernel takes the ports of outgoing
/// connections from: one of those must not have it when a server comes back to it. A monitor's port for
/// its replicas lies 10,000 above unless it is told another, and has to be free and below that range too.
#[allow(dead_code)]
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id().wrapping_mul(211).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (n % 12_000) as u16;
        if [port, port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
}
