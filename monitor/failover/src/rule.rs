//! The shape of a row of the rule table.

use alloc::string::String;
use alloc::vec::Vec;

use crate::NodeState;
use crate::condition::{GroupTest, NodeTest};

/// Where in the evaluation a row stands. First match wins inside a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    RemoveNode,
    PerformFailover,
    /// `start_maintenance` of a standby.
    StartMaintenance,
    /// `start_maintenance` of the primary; the node is the first standby.
    StartPrimaryMaintenance,
    StopMaintenance,
    SetCandidatePriority,
    SetReplicationQuorum,
    SetNumberSyncStandbys,
    /// Any reporting node, before everything else.
    Early,
    /// A reporting node that is not in a primary state.
    Standby,
    /// The steps of an election in a group of more than two nodes.
    Election,
    /// What becomes of an unhealthy primary before an election.
    LostPrimary,
    /// A reporting node that is in a primary state.
    Primary,
    /// Groups of our keepers, whoever reports.
    Quorum,
}

impl Section {
    /// Upstream's name, as the `rule_section` column of events carries it.
    pub const fn name(self) -> &'static str {
        match self {
            Section::RemoveNode => "api_triggered: remove_node",
            Section::PerformFailover => "api_triggered: perform_failover",
            Section::StartMaintenance | Section::StartPrimaryMaintenance => "api_triggered: start_maintenance",
            Section::StopMaintenance => "api_triggered: stop_maintenance",
            Section::SetCandidatePriority => "api_triggered: set_node_candidate_priority",
            Section::SetReplicationQuorum => "api_triggered: set_node_replication_quorum",
            Section::SetNumberSyncStandbys => "api_triggered: set_formation_number_sync_standbys",
            Section::Early => "early_checks",
            Section::Standby | Section::Election | Section::LostPrimary => "reporting_node",
            Section::Primary => "primary_node",
            Section::Quorum => "quorum_path",
        }
    }
}

/// Whom an assignment concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The node that reports, or that the call names.
    Node,
    Primary,
    /// Every other node of the group that is not in maintenance and whose keeper can.
    Others,
    /// Every standby with goal `secondary` that is unhealthy.
    UnhealthySecondaries,
    /// Every standby that can be sealed: rows 367 to 374 say which.
    Standbys,
    /// Every other node that is sealed and converged to `report_lsn`.
    Sealed,
}

impl Who {
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Who::Node => "node",
            Who::Primary => "primary",
            Who::Others => "other nodes",
            Who::UnhealthySecondaries => "unhealthy secondaries",
            Who::Standbys => "standbys",
            Who::Sealed => "sealed standbys",
        }
    }
}

/// What happens once a row has matched and its goals are assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Stop,
    /// Run the election; end there.
    Elect,
    /// Run the rows of `LostPrimary`, then the election; if it declines, go on with the next row.
    ReplacePrimary,
    /// Run the section of the primary, for the primary.
    ReviewPrimary,
    /// Delete the node's row.
    DeleteNode,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Upstream's permanent number. Even numbers between upstream's odd ones are ours.
    pub pos: u16,
    pub section: Section,
    pub node: &'static [NodeTest],
    pub primary: &'static [NodeTest],
    pub group: &'static [GroupTest],
    pub assign: &'static [(Who, NodeState)],
    pub then: Then,
    /// The event's text. `{node}`, `{primary}` and the other words of `texts.rs` are filled in.
    pub event: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Where and why we differ from upstream; empty: we do not.
    pub differs: &'static str,
}

impl Rule {
    /// Every condition of the row, in words, in the order of evaluation.
    pub fn conditions(&self) -> Vec<String> {
        let node = self.node.iter().map(|test| alloc::format!("node {}", test.words()));
        let primary = self.primary.iter().map(|test| alloc::format!("primary {}", test.words()));
        let group = self.group.iter().map(|test| test.words());
        node.chain(primary).chain(group).collect()
    }

    /// The goals that the row assigns, in words: `node -> catchingup, primary -> apply_settings`.
    pub fn assignments(&self) -> String {
        let words: Vec<String> =
            self.assign.iter().map(|(who, goal)| alloc::format!("{} -> {}", who.word(), goal.name())).collect();
        words.join(", ")
    }
}
