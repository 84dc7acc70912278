//! The PostgreSQL wire protocol, version 3.

pub mod backend;
pub mod connection;
mod copy_out;
mod extended;
pub mod frontend;
mod pending;
pub mod scram;
pub mod server;
pub(crate) mod startup;
