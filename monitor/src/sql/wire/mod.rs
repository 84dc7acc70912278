//! The PostgreSQL wire protocol, version 3.

pub mod backend;
pub mod connection;
mod extended;
pub mod frontend;
pub mod scram;
pub mod server;
mod startup;
