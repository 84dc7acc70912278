//! Signals, as upstream uses them, and one more.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{KeeperError, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM, SIGINT: stop PostgreSQL in order, then end.
    Stop,
    /// SIGQUIT: stop PostgreSQL at once, then end.
    Immediate,
    /// SIGUSR2: end and leave PostgreSQL to the guardian, for the next keeper. Ours.
    Leave,
    /// SIGHUP: read the configuration again.
    Reload,
}

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    leave: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on no signal ends the process by itself.
    pub fn install() -> Result<Signals> {
        let of = |kind| signal(kind).map_err(|error| KeeperError::internal(format!("signals: {error}")));
        Ok(Signals {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
            quit: of(SignalKind::quit())?,
            leave: of(SignalKind::user_defined2())?,
            hangup: of(SignalKind::hangup())?,
        })
    }

    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.quit.recv() => Wish::Immediate,
            _ = self.leave.recv() => Wish::Leave,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}
