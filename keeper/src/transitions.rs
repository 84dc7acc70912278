//! THE KEEPER TABLE: which steps lead from one state to another.
//!
//! Edges are upstream's (release 2.0, and those that its development branch added); the steps are ours.
//! The table is data: nothing here runs. A changed row changes `tests/transitions.golden` by one line.

use failover::NodeState::{self, *};

/// One thing to do. Each is idempotent: after a failure, or a keeper's death in the middle, the whole
/// row is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// initdb, unless `create` found a cluster.
    PrepareCluster,
    /// Our settings file, the HBA block, the certificate.
    Configure,
    /// Roles and the database.
    CreateRoles,
    /// Tell the monitors the system identifier.
    PublishIdentity,
    /// Creation is over.
    FinishInit,
    /// PostgreSQL runs and lets us in.
    Start,
    /// PostgreSQL is stopped: in order, by force when that takes too long.
    Stop,
    /// No process of PostgreSQL is left, at once.
    Fence,
    /// CHECKPOINT, so that the stop that follows is short.
    Checkpoint,
    /// The same when the monitors ask for it, as ahead of a switchover; not for long.
    CheckpointAhead,
    /// Out of recovery, on a timeline of its own.
    Promote,
    /// A checkpoint on that timeline, which pg_rewind on other nodes waits for; nothing waits here.
    CheckpointBeside,
    /// No trace left of having been a standby.
    ForgetUpstream,
    /// synchronous_standby_names is empty: the goal itself says so. Monitors of ours may know of a standby
    /// that commits must wait for all the same, and theirs is the last word.
    ClearSyncNames,
    /// Commits wait for one of the siblings, whichever, until the monitors have said for whom: set
    /// before the promotion, so that the new primary acknowledges nothing on its own authority.
    HoldCommits,
    /// synchronous_standby_names is what the monitors say, before any client can write.
    TakeSyncNames,
    /// The same, and a standby that counts has everything that was written before.
    AwaitSyncStandby,
    /// Sessions are read-only unless they ask otherwise: multi-host clients pass by.
    ReadOnly,
    /// The opposite.
    ReadWrite,
    /// Slots and HBA lines for the siblings.
    Siblings,
    /// No slot of ours is left: those of a former primary pin xmin.
    DropSlots,
    /// A copy of the primary, or the existing data directory when it is one.
    Copy,
    /// A copy of the most advanced standby, for a group without a primary.
    CopyStandby,
    /// Fit to follow the primary: as it is, by pg_rewind, or by a new copy. Stopped afterwards.
    Rejoin,
    /// Streams from the primary; rewound first when it went another way.
    Follow,
    /// It is on the primary's timeline and streams.
    Verify,
    /// THE SEAL: follows nobody, durably; its LSN is final.
    Seal,
    /// The WAL that the most advanced standby has and this one lacks.
    FetchWal,
    /// A stopped primary becomes a standby of nobody.
    BecomeStandby,
    /// Forget the unfinished creation; the keeper ends.
    Leave,
}

/// The steps for `from` -> `to`, for several `from`.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub to: NodeState,
    pub from: &'static [NodeState],
    pub steps: &'static [Step],
}

const fn row(to: NodeState, from: &'static [NodeState], steps: &'static [Step]) -> Row {
    Row { to, from, steps }
}

use Step::*;

pub const TABLE: &[Row] = &[
    row(
        Single,
        &[Init, NodeState::Dropped],
        &[
            PrepareCluster, Configure, Start, Promote, ForgetUpstream, ClearSyncNames, ReadWrite, CheckpointBeside,
            CreateRoles, PublishIdentity, Siblings, FinishInit,
        ],
    ),
    row(WaitStandby, &[Init, NodeState::Dropped], &[]),
    row(ReportLsn, &[Init, NodeState::Dropped], &[CopyStandby, Seal, PublishIdentity, FinishInit]),
    // The last node of its group.
    row(Single, &[Primary, WaitPrimary, JoinPrimary, ApplySettings], &[Start, ClearSyncNames, ReadWrite, Siblings]),
    row(Single, &[Demoted, DemoteTimeout, Draining], &[Start, Promote, ForgetUpstream, ClearSyncNames, ReadWrite, CheckpointBeside, Siblings]),
    row(
        Single,
        &[
            Secondary, Catchingup, PreparePromotion, StopReplication, ReportLsn, WaitMaintenance, FastForward,
        ],
        &[Start, ClearSyncNames, Promote, ForgetUpstream, ReadWrite, CheckpointBeside, Siblings],
    ),
    // A primary goes.
    row(Draining, &[Primary, JoinPrimary, ApplySettings], &[CheckpointAhead, Stop]),
    row(DemoteTimeout, &[Primary, JoinPrimary, ApplySettings, Draining], &[Stop]),
    row(Demoted, &[Primary, JoinPrimary, ApplySettings, WaitPrimary, Draining, DemoteTimeout], &[Stop]),
    row(PrepareMaintenance, &[Primary], &[Checkpoint, Stop]),
    row(Maintenance, &[Primary], &[Checkpoint, Stop]),
    row(Maintenance, &[PrepareMaintenance], &[Stop, BecomeStandby]),
    // A primary changes.
    row(WaitPrimary, &[Single], &[Siblings]),
    // PostgreSQL may be down, and nothing else starts it on the way.
    row(WaitPrimary, &[Primary, JoinPrimary, ApplySettings], &[Start, ClearSyncNames]),
    row(JoinPrimary, &[Primary, WaitPrimary, ApplySettings], &[Siblings]),
    row(Primary, &[WaitPrimary, JoinPrimary, ApplySettings], &[Start, AwaitSyncStandby]),
    row(Primary, &[DemoteTimeout], &[Start, TakeSyncNames, ReadWrite, Siblings]),
    row(ApplySettings, &[Primary, WaitPrimary], &[]),
    // A standby comes.
    row(Catchingup, &[WaitStandby], &[Copy, Start, PublishIdentity, Siblings, FinishInit]),
    row(Catchingup, &[Demoted, Maintenance, PrepareMaintenance], &[Rejoin, Start, PublishIdentity, DropSlots, Siblings]),
    row(Catchingup, &[Secondary], &[Follow]),
    row(Secondary, &[Catchingup], &[Verify]),
    row(Secondary, &[ReportLsn, JoinSecondary], &[Follow, Verify]),
    row(WaitStandby, &[Secondary], &[]),
    // A standby goes for maintenance.
    row(WaitMaintenance, &[Secondary, Catchingup], &[]),
    row(Maintenance, &[Secondary, Catchingup, WaitMaintenance], &[Stop]),
    // Election.
    row(
        ReportLsn,
        &[
            Secondary, Catchingup, Maintenance, PrepareMaintenance, WaitMaintenance, FastForward, PreparePromotion,
            StopReplication, DemoteTimeout, JoinSecondary,
        ],
        &[Seal],
    ),
    row(ReportLsn, &[Draining, Demoted], &[BecomeStandby, Seal, DropSlots]),
    row(FastForward, &[ReportLsn], &[FetchWal]),
    // Stays sealed, and running: the new primary is not ready yet.
    row(JoinSecondary, &[ReportLsn], &[]),
    // Promotion.
    row(PreparePromotion, &[Secondary, Catchingup, ReportLsn, FastForward], &[]),
    row(
        StopReplication,
        &[PreparePromotion],
        &[Start, HoldCommits, ReadOnly, Promote, ForgetUpstream],
    ),
    // Slots and HBA lines are there from the time as a standby, and looked after as soon as writes flow.
    row(WaitPrimary, &[StopReplication], &[Start, TakeSyncNames, ReadWrite, CheckpointBeside]),
    row(
        WaitPrimary,
        &[PreparePromotion],
        &[Start, TakeSyncNames, Promote, ForgetUpstream, ReadWrite, CheckpointBeside],
    ),
    // Wherever it is, a node that must not serve is stopped.
    row(
        Demoted,
        &[
            Init, Single, Catchingup, Secondary, PreparePromotion, StopReplication, Maintenance, PrepareMaintenance,
            WaitMaintenance, ReportLsn, FastForward,
        ],
        &[Stop],
    ),
    row(
        DemoteTimeout,
        &[
            Init, Single, Catchingup, Secondary, PreparePromotion, StopReplication, Maintenance, PrepareMaintenance,
            WaitMaintenance, ReportLsn, FastForward, Demoted,
        ],
        &[Stop],
    ),
];

/// From anywhere to `dropped`.
pub const DROP: &[Step] = &[Stop, Leave];

/// A primary without monitors and without enough standbys stops itself: at once, and whatever the table
/// says of `demote_timeout`.
pub const SELF_FENCE: &[Step] = &[Fence];

/// The steps, or `None` when the table knows no such edge. A state that is reached needs none.
pub fn steps(from: NodeState, to: NodeState) -> Option<&'static [Step]> {
    if from == to {
        return Some(&[]);
    }
    if to == NodeState::Dropped {
        return Some(DROP);
    }
    TABLE.iter().find(|row| row.to == to && row.from.contains(&from)).map(|row| row.steps)
}

/// What PostgreSQL should be doing in a state that has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Runs and takes writes (or could).
    Primary,
    /// Runs as a standby.
    Standby,
    /// Runs, as whichever of the two it is: in the midst of a promotion.
    Running,
    /// Does not run.
    Stopped,
    /// None of the keeper's business.
    HandsOff,
}

pub const fn wanted(state: NodeState) -> Wanted {
    match state {
        Single | Primary | WaitPrimary | JoinPrimary | ApplySettings => Wanted::Primary,
        Secondary | Catchingup | ReportLsn | FastForward | JoinSecondary | WaitMaintenance => Wanted::Standby,
        PreparePromotion | StopReplication => Wanted::Running,
        Demoted | DemoteTimeout | Draining => Wanted::Stopped,
        Init | Unknown | WaitStandby | Maintenance | PrepareMaintenance | NodeState::Dropped => Wanted::HandsOff,
    }
}

/// Every edge with its steps, one per line, in the order of the states.
pub fn render() -> String {
    let mut text = String::new();
    for from in NodeState::ALL {
        for to in NodeState::ALL.iter().filter(|to| *to != from && **to != NodeState::Dropped) {
            if let Some(steps) = steps(*from, *to) {
                text.push_str(&format!("{from} -> {to}: {}\n", list(steps)));
            }
        }
    }
    text.push_str(&format!("any -> dropped: {}\n", list(DROP)));
    text
}

/// The same for people: `docs/reference/keeper-transitions.md`.
pub fn render_markdown() -> String {
    let mut text = String::from(
        "# Keeper transitions\n\nGenerated from `keeper/src/transitions.rs` (`UPDATE_GOLDEN=1 cargo test -p keeper \
         --test transitions`); do not edit.\n\n| from | to | steps |\n|---|---|---|\n",
    );
    for line in render().lines() {
        let Some((edge, steps)) = line.split_once(": ") else { continue };
        let Some((from, to)) = edge.split_once(" -> ") else { continue };
        text.push_str(&format!("| {from} | {to} | {steps} |\n"));
    }
    text.push_str("\nIn a state that has been reached, PostgreSQL is kept like this:\n\n| state | PostgreSQL |\n|---|---|\n");
    for state in NodeState::ALL {
        let word = match wanted(*state) {
            Wanted::Primary => "runs, not as a standby",
            Wanted::Standby => "runs as a standby",
            Wanted::Running => "runs",
            Wanted::Stopped => "stopped",
            Wanted::HandsOff => "left alone",
        };
        text.push_str(&format!("| {state} | {word} |\n"));
    }
    text
}

fn list(steps: &[Step]) -> String {
    match steps.is_empty() {
        true => "nothing".to_string(),
        false => steps.iter().map(|step| format!("{step:?}")).collect::<Vec<_>>().join(", "),
    }
}
