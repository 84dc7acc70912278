//! PostgreSQL, as a careful administrator would handle it.

pub mod basebackup;
pub mod certificate;
pub mod command;
pub mod conf;
pub mod control;
pub mod facts;
pub mod fork;
pub mod hba;
pub mod kept;
pub mod rewind;
pub mod roles;
pub mod slots;
pub mod sql;
pub mod standby;
pub mod start;
pub mod sync;
pub mod tablespaces;
pub mod upstream;
