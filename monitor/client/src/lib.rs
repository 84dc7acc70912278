//! A connection to the monitor, whichever of its replicas answers.
//!
//! [`Target`] says where the monitors are (stock URIs, key/value strings, host lists).
//! [`Connector`] finds one that answers, within deadlines that cover the whole way to a usable
//! session. [`MonitorClient`] keeps one session, repeats what may be repeated, and offers the calls
//! of the API with their types. [`StateStream`] follows the state changes through lost connections.
//!
//! Everything also works against a stock pg_auto_failover monitor, as far as it has the statement.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod calls;
mod client;
mod connect;
mod error;
mod insight;
mod keeper_calls;
mod notification;
mod rows;
mod session;
mod sql;
mod target;
mod tls;

pub use client::{MonitorClient, Repeat};
pub use connect::{Attempt, ConnectError, ConnectOptions, Connector, Failure};
pub use error::{CallError, ServerError};
pub use notification::{Heard, StateNotification, StateStream};
pub use rows::{
    Answer, EventDetail, FormationRow, EventRow, FormationUri, GroupNode, GroupState, NodeActiveReport, NodeAssignment, NodeRow,
    PrimaryTransactions, Registered, Registration, RegistrationRequest, ReplicaRow, Report, SettingRow, Upstream,
};
pub use session::{Listened, Session};
pub use sql::{literal, quoted_or_null};
pub use target::{Endpoint, Target, TargetError};

/// Target of the log lines about monitors that were given up for another one.
pub const MOVED: &str = "monitor_client::moved";
/// The role that keepers and operators connect as.
pub const DEFAULT_USER: &str = "autoctl_node";
/// The monitor's database.
pub const DEFAULT_DATABASE: &str = "pg_auto_failover";
/// The monitor's port when none is named.
pub const DEFAULT_PORT: u16 = 5432;
