//! The monitor: replicated failover state behind a PostgreSQL-compatible SQL facade.

pub mod sql;
