//! The keeper: our agent beside one PostgreSQL.
//!
//! [`transitions`] is the table of what leads from state to state; [`steps`] carries it out;
//! [`keeper`] reports to the monitors and follows their goals; [`guardian`] owns PostgreSQL and stops it
//! when the keeper is gone; [`commands`] is what the command line calls.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod boottime;
pub mod commands;
pub mod config;
mod disk;
mod ending;
pub mod error;
pub mod fence;
mod files;
pub mod guardian;
pub mod hide;
mod job;
pub mod keeper;
mod leases;
mod observe;
pub mod orders;
pub mod paths;
pub mod postgres;
mod primary_steps;
mod reload;
mod reports;
pub mod signals;
pub mod source;
mod standby_repair;
mod standby_steps;
pub mod state_file;
pub mod steps;
pub mod transitions;

pub use error::{Exit, KeeperError, Result};
