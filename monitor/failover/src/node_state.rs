//! The replication states of a node, with upstream's names and wire order.

use serde::{Deserialize, Serialize};

macro_rules! node_states {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// A state that a node reports or is assigned (`pgautofailover.replication_state`).
        /// Declaration order is upstream's enum order; it is the sort order of the SQL type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum NodeState { $($(#[$doc])* $variant),+ }

        impl NodeState {
            /// Every state, in upstream's enum order.
            pub const ALL: &'static [NodeState] = &[$(NodeState::$variant),+];

            /// The SQL label, as it travels on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(NodeState::$variant => $name),+ }
            }

            /// Finds a state by its SQL label. Labels are case-sensitive, as enum labels are.
            pub fn from_name(name: &str) -> Option<NodeState> {
                match name { $($name => Some(NodeState::$variant),)+ _ => None }
            }
        }
    };
}

node_states! {
    Unknown = "unknown",
    Init = "init",
    Single = "single",
    WaitPrimary = "wait_primary",
    Primary = "primary",
    Draining = "draining",
    DemoteTimeout = "demote_timeout",
    Demoted = "demoted",
    Catchingup = "catchingup",
    Secondary = "secondary",
    PreparePromotion = "prepare_promotion",
    StopReplication = "stop_replication",
    WaitStandby = "wait_standby",
    Maintenance = "maintenance",
    JoinPrimary = "join_primary",
    ApplySettings = "apply_settings",
    PrepareMaintenance = "prepare_maintenance",
    WaitMaintenance = "wait_maintenance",
    ReportLsn = "report_lsn",
    FastForward = "fast_forward",
    JoinSecondary = "join_secondary",
    Dropped = "dropped",
}

impl NodeState {
    /// The states of [`NodeState::is_writable`], as a list.
    pub const WRITABLE: &'static [NodeState] = &[
        NodeState::Single,
        NodeState::Primary,
        NodeState::WaitPrimary,
        NodeState::JoinPrimary,
        NodeState::ApplySettings,
    ];

    /// States in which PostgreSQL may accept writes (upstream's `CanTakeWrites`).
    pub const fn is_writable(self) -> bool {
        use NodeState::*;
        matches!(self, Single | Primary | WaitPrimary | JoinPrimary | ApplySettings)
    }

    /// States of a node that is, or was until a moment ago, the primary.
    pub const fn belongs_to_primary(self) -> bool {
        use NodeState::*;
        self.is_writable() || matches!(self, Draining | DemoteTimeout | PrepareMaintenance)
    }
}

impl core::fmt::Display for NodeState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}
