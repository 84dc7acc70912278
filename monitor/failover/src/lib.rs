//! The failover rules, and nothing else: pure decisions over replicated state.
//!
//! This crate does no I/O, asks no clock and draws no random number. The monitor that leads calls
//! [`decide`] with the replicated [`State`], its own [`Observations`] and the time; what comes back
//! is an [`Outcome`] that the monitors replicate and [`apply`] everywhere. `apply` runs no rule, so
//! replicas of different releases cannot diverge.
#![no_std]

extern crate alloc;

/// Whether this process makes a mistake on purpose; never in a build without the feature `mutants`.
macro_rules! mistake {
    ($mistake:ident) => {{
        #[cfg(feature = "mutants")]
        let made = crate::mutant::is(crate::mutant::Mutant::$mistake);
        #[cfg(not(feature = "mutants"))]
        let made = false;
        made
    }};
}

pub mod apply;
pub mod command;
pub mod condition;
pub mod decide;
pub mod edges;
pub mod explain;
pub mod extended;
#[cfg(feature = "mutants")]
pub mod mutant;
pub mod node_state;
pub mod observation;
pub mod outcome;
pub mod queries;
pub mod render;
pub mod rule;
pub mod rules;
pub mod settings;
pub mod simulation;
pub mod snapshot;
pub mod state;
mod suspicion;
pub mod values;

mod calls;
mod election;
mod evidence;
mod facts;
mod quorum;
mod quorum_path;
mod reject;
mod rules_engine;
mod texts;
mod view;

pub use apply::{apply, Applied};
pub use command::{Call, Command};
pub use decide::decide;
pub use node_state::NodeState;
pub use observation::{Observation, Observations, Stamp};
pub use outcome::{Change, Decision, Event, NewEvent, Notice, Outcome, Rejection, Reply, Scope};
pub use settings::Settings;
pub use snapshot::Snapshot;
pub use explain::explain;
pub use extended::{Extended, ExtendedGoal, PostgresEnd, UpstreamView};
pub use render::fsm_rows;
pub use state::{Formation, Generation, Group, Node, State};
pub use values::{GroupId, Health, Lsn, NodeId, Now, SyncState, WallTime};
