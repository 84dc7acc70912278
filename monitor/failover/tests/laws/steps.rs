//! What may happen in a random story.

use failover::NodeState;
use failover::state::Generation;
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub enum Step {
    Register { name: usize, priority: i32, quorum: bool, keeper: Generation },
    Report(usize),
    Follow(usize),
    Rounds(u8),
    Clock(u8),
    Leader,
    Silence(usize),
    Return(usize),
    PostgresDown(usize),
    PostgresUp(usize),
    Health(usize, bool),
    Cut(usize, bool),
    Failover { accept_loss: bool },
    Promote(usize),
    Maintenance(usize, bool),
    Drop(usize, bool),
    Priority(usize, i32),
    Quorum(usize, bool),
    Number(i32),
    Force(usize, Forced),
    Garbage(usize, usize),
    /// A keeper of ours says anything at all.
    Claims(usize, Claims),
    Witness(usize, u8),
    Review,
}

#[derive(Clone, Debug)]
pub struct Claims {
    pub state: usize,
    pub epoch: i64,
    pub sync_version: i64,
    pub sealed: bool,
    pub timeline: i32,
    pub lsn: u64,
    pub end: u8,
    pub fork: (i32, i32, u64),
}

#[derive(Clone, Debug)]
pub struct Forced {
    pub goal: Option<usize>,
    pub reported: Option<usize>,
    pub running: Option<bool>,
    pub lsn: Option<u64>,
    pub timeline: Option<i32>,
}

pub fn state(index: usize) -> NodeState {
    NodeState::ALL[index % NodeState::ALL.len()]
}

pub fn generation() -> impl Strategy<Value = Generation> {
    prop_oneof![Just(Generation::Stock20), Just(Generation::Stock23), Just(Generation::Pgquorum)]
}

pub const NAMES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

pub fn step() -> impl Strategy<Value = Step> {
    let node = 0..5usize;
    prop_oneof![
        3 => (node.clone(), prop_oneof![Just(50), Just(0), Just(90)], any::<bool>(), generation())
            .prop_map(|(name, priority, quorum, keeper)| Step::Register { name, priority, quorum, keeper }),
        4 => node.clone().prop_map(Step::Report),
        4 => node.clone().prop_map(Step::Follow),
        12 => (1..8u8).prop_map(Step::Rounds),
        4 => (1..40u8).prop_map(Step::Clock),
        1 => Just(Step::Leader),
        3 => node.clone().prop_map(Step::Silence),
        4 => node.clone().prop_map(Step::Return),
        1 => node.clone().prop_map(Step::PostgresDown),
        2 => node.clone().prop_map(Step::PostgresUp),
        3 => (node.clone(), any::<bool>()).prop_map(|(node, good)| Step::Health(node, good)),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, on)| Step::Cut(node, on)),
        2 => any::<bool>().prop_map(|accept_loss| Step::Failover { accept_loss }),
        2 => node.clone().prop_map(Step::Promote),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, start)| Step::Maintenance(node, start)),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, force)| Step::Drop(node, force)),
        1 => (node.clone(), prop_oneof![Just(0), Just(50), Just(90), Just(-3), Just(101)])
            .prop_map(|(node, priority)| Step::Priority(node, priority)),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, quorum)| Step::Quorum(node, quorum)),
        1 => (-1..4i32).prop_map(Step::Number),
        2 => (node, 0..4u8).prop_map(|(node, what)| Step::Witness(node, what)),
        1 => Just(Step::Review),
    ]
}

pub fn claims() -> impl Strategy<Value = Claims> {
    let number = || prop_oneof![4 => -1..6i64, 1 => any::<i64>()];
    let fork = (any::<i32>(), any::<i32>(), any::<u64>());
    (0..22usize, number(), number(), any::<bool>(), -1..5i32, any::<u64>(), 0..3u8, fork).prop_map(
        |(state, epoch, sync_version, sealed, timeline, lsn, end, fork)| Claims {
            state,
            epoch,
            sync_version,
            sealed,
            timeline,
            lsn,
            end,
            fork,
        },
    )
}

pub fn wild_step() -> impl Strategy<Value = Step> {
    let node = 0..5usize;
    let forced = (
        proptest::option::of(0..22usize),
        proptest::option::of(0..22usize),
        proptest::option::of(any::<bool>()),
        proptest::option::of(any::<u64>()),
        proptest::option::of(any::<i32>()),
    )
        .prop_map(|(goal, reported, running, lsn, timeline)| Forced { goal, reported, running, lsn, timeline });
    prop_oneof![
        6 => step(),
        2 => (node.clone(), forced).prop_map(|(node, forced)| Step::Force(node, forced)),
        1 => (node.clone(), 0..22usize).prop_map(|(node, state)| Step::Garbage(node, state)),
        2 => (node, claims()).prop_map(|(node, claims)| Step::Claims(node, claims)),
    ]
}
