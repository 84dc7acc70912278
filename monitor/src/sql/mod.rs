//! The SQL facade: stock `pg_autoctl` clients, psql and dashboards talk to this.
//!
//! Two tiers over one parsed statement. Calls of our functions, SET/SHOW, transactions and LISTEN
//! are routed and executed by typed code; every other SELECT is answered by `engine`, an
//! in-memory SQLite that mirrors the replicated state. `node_active` never meets an SQL engine.

mod amounts;
pub mod backend;
mod client_settings;
mod context;
mod cursors;
mod deep;
pub mod engine;
pub mod error;
mod execute;
mod extension;
pub mod facade;
mod forward;
pub mod function;
pub mod functions;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod plan;
mod rows_as_sql;
mod session;
mod settings;
mod shape;
mod test_mode;
pub mod types;
mod values;
pub mod wire;

pub use facade::{Facade, FacadeConfig};
pub use wire::scram::{Authentication, Verifiers};
pub use wire::server::{ServerHandle, serve};
