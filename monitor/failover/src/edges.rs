//! Which transitions a keeper knows, per generation: a goal without an edge stops a keeper for ever.

use crate::NodeState::{self, *};
use crate::state::Generation;

/// Transitions to one goal.
#[derive(Clone, Copy, Debug)]
pub struct Edges {
    pub to: NodeState,
    /// States from which every generation can go there.
    pub from: &'static [NodeState],
    /// States from which only keepers of release 2.3 and ours can.
    pub newer: &'static [NodeState],
}

const fn edges(to: NodeState, from: &'static [NodeState], newer: &'static [NodeState]) -> Edges {
    Edges { to, from, newer }
}

/// The keepers' transition table for kind `pgsql`, by goal. `dropped` is reached from everywhere.
/// Source: upstream's `KeeperFSM[]` at v2.0 (`from`) and at 2.3 (`newer`: the additions).
pub const TABLE: &[Edges] = &[
    edges(
        Single,
        &[
            Init, Dropped, Primary, WaitPrimary, JoinPrimary, ApplySettings, Demoted, DemoteTimeout, Draining,
            Secondary, Catchingup, PreparePromotion, StopReplication, ReportLsn,
        ],
        &[WaitMaintenance, FastForward],
    ),
    edges(WaitStandby, &[Init, Dropped, Secondary], &[]),
    edges(
        ReportLsn,
        &[Init, Dropped, Secondary, Catchingup, Maintenance, PrepareMaintenance, Draining, Demoted],
        &[WaitMaintenance, FastForward, PreparePromotion, StopReplication, DemoteTimeout, JoinSecondary],
    ),
    edges(Draining, &[Primary, JoinPrimary, ApplySettings], &[]),
    edges(
        DemoteTimeout,
        &[Primary, JoinPrimary, ApplySettings, Draining],
        &[
            Init, Single, Catchingup, Secondary, PreparePromotion, StopReplication, Maintenance, PrepareMaintenance,
            WaitMaintenance, ReportLsn, FastForward, Demoted,
        ],
    ),
    edges(
        Demoted,
        &[Primary, JoinPrimary, ApplySettings, WaitPrimary, Draining, DemoteTimeout],
        &[
            Init, Single, Catchingup, Secondary, PreparePromotion, StopReplication, Maintenance, PrepareMaintenance,
            WaitMaintenance, ReportLsn, FastForward,
        ],
    ),
    edges(PrepareMaintenance, &[Primary], &[]),
    edges(Maintenance, &[Primary, PrepareMaintenance, Secondary, Catchingup, WaitMaintenance], &[]),
    edges(WaitMaintenance, &[Secondary, Catchingup], &[]),
    edges(
        WaitPrimary,
        &[Single, Primary, JoinPrimary, ApplySettings, StopReplication, PreparePromotion],
        &[],
    ),
    edges(JoinPrimary, &[Primary, WaitPrimary, ApplySettings], &[]),
    edges(Primary, &[WaitPrimary, JoinPrimary, ApplySettings, DemoteTimeout], &[]),
    edges(ApplySettings, &[Primary, WaitPrimary], &[]),
    edges(Catchingup, &[WaitStandby, Demoted, Maintenance, PrepareMaintenance, Secondary], &[]),
    edges(Secondary, &[Catchingup, ReportLsn, JoinSecondary], &[]),
    edges(PreparePromotion, &[Secondary, Catchingup, ReportLsn, FastForward], &[]),
    edges(StopReplication, &[PreparePromotion], &[]),
    edges(FastForward, &[ReportLsn], &[]),
    edges(JoinSecondary, &[ReportLsn], &[]),
];

/// Whether a keeper of this generation in `from` can go to `to`; staying where it is counts.
pub fn has_edge(generation: Generation, from: NodeState, to: NodeState) -> bool {
    if from == to || to == Dropped {
        return true;
    }
    TABLE.iter().any(|edges| {
        edges.to == to
            && (edges.from.contains(&from) || (generation != Generation::Stock20 && edges.newer.contains(&from)))
    })
}

/// Every edge of a generation, in the order of the states: for listings and tests.
pub fn edges_of(generation: Generation) -> impl Iterator<Item = (NodeState, NodeState)> {
    NodeState::ALL.iter().flat_map(move |from| {
        NodeState::ALL
            .iter()
            .filter(move |to| *from != **to && has_edge(generation, *from, **to))
            .map(move |to| (*from, *to))
    })
}
