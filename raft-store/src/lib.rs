//! Replicates opaque bytes durably over a few replicas (Raft), each with its log in sled.
//!
//! The crate knows nothing of what it replicates. The application gives a deterministic
//! [`StateMachine`] and a [`CallHandler`]; it gets [`Replica::propose`] (durable on a majority and
//! applied), [`Replica::read_barrier`] (leadership proved after the call) and [`Replica::call`]
//! (messages to other replicas on the same connections).
//!
//! Consensus is openraft. None of its types is stored, sent or public, so that another version
//! touches this crate alone. Decisions and measurements: `docs/decisions/0001-raft-store.md`.

mod alarm;
mod barrier;
mod bootstrap;
mod codec;
mod config;
mod core;
mod error;
mod frame;
mod heartbeat;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod identities;
mod identity;
mod internal;
mod log_files;
mod log_scan;
mod log_store;
mod log_writer;
mod membership;
mod network;
mod peer;
mod replica;
mod server;
mod snapshot_file;
mod state_machine;
mod state_store;
mod status;
mod storage;
mod stored;
#[cfg(test)]
mod tests;
mod tls;
mod types;
mod wire;

pub use barrier::NotLeader;
pub use config::{Config, Member, PeerAddress};
pub use error::{CallError, MembershipError, ProposeError, StartError};
#[cfg(feature = "mutants")]
pub use log_writer::SKIP_SYNC;
pub use replica::{Applied, CallHandler, MAX_CALL_BYTES, MAX_ENTRY_BYTES, Replica};
pub use state_machine::StateMachine;
pub use status::{Leadership, PeerStatus, Role, Status};
pub use tls::TlsConfig;
