//! The SQL facade: stock `pg_autoctl` clients, psql and dashboards talk to this.
//!
//! Two tiers over one parsed statement. Calls of our functions, SET/SHOW, transactions and LISTEN
//! are routed and executed by typed code; every other SELECT is answered by `engine`, an
//! in-memory SQLite that mirrors the replicated state. `node_active` never meets an SQL engine.

pub mod backend;
pub mod engine;
pub mod error;
pub mod function;
pub mod types;
