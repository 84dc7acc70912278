//! What several of these tests need.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
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

/// A copy of the program, where another user may run it. Made by a process of its own: what another thread
/// starts would have the copy open for writing until it is executed, and nothing can be executed meanwhile.
#[allow(dead_code)]
pub fn copy_program(to: &Path) {
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_pgquorum")).arg(to).status().unwrap();
    assert!(copied.success());
}

/// A port that was free a moment ago, for a server that is started now.
#[allow(dead_code)]
pub fn free_port() -> u16 {
    taken_port().0
}

/// A port that stays taken while the listener lives. Who lets it go and binds it again at once may find it
/// taken: a program that another thread starts has the listener, too, until it is executed.
///
/// From below the range that the kernel takes the ports of outgoing connections from: one of those must not
/// have it when a server comes back to it. A monitor's port for its replicas lies 10,000 above unless it is
/// told another, and has to be free and below that range too. Ports of `pgquorum demo` (20,000 to 22,000 and
/// 30,000 to 32,000) are neither.
#[allow(dead_code)]
pub fn taken_port() -> (u16, TcpListener) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = std::process::id().wrapping_mul(211).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + (n % 8_000) as u16;
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).ok();
        if let (Some(listener), Some(_)) = (free(port), free(port + 10_000)) {
            return (port, listener);
        }
    }
}
