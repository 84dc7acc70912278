//! Where searches begin.

use failover::simulation::{Cluster, registration};
use failover::state::Generation;
use failover::{Command, Lsn, NodeState};

use crate::actions::{Action, act};
use crate::keepers::{self, Step};
use crate::monitors::Time;
use crate::recovery::{self, fair_round, whole};
use crate::world::*;

/// A group at rest: node 1 is the primary, the others its standbys.
pub fn group(nodes: usize, number_sync: i32, faults: Faults) -> World {
    let mut cluster = Cluster::new();
    for index in 1..=nodes {
        let mut call = registration(&format!("node{index}"));
        call.generation = Generation::Pgquorum;
        cluster.register(call).unwrap();
        cluster.settle(|_, _, _| {});
    }
    if cluster.state.formations["default"].number_sync_standbys != number_sync {
        let number = Command::SetNumberSyncStandbys { formation: "default".into(), number: number_sync };
        cluster.call(number).unwrap();
        cluster.settle(|_, _, _| {});
    }
    let mut core = cluster.state.clone();
    for row in core.nodes.values_mut() {
        let row = std::sync::Arc::make_mut(row);
        row.lsn = lsn_of(&[]);
        let times = [
            &mut row.report_time,
            &mut row.wal_report_time,
            &mut row.health_check_time,
            &mut row.state_change_time,
        ];
        times.into_iter().for_each(|time| time.0 = 0);
        row.sync_sets.iter_mut().filter(|set| set.confirmed != Lsn::ZERO).for_each(|set| set.confirmed = lsn_of(&[]));
    }
    let machines = cluster.keepers.values().enumerate().map(|(id, keeper)| Machine {
        up: true,
        state: keeper.state,
        assigned: keeper.goal,
        epoch: keeper.told.as_ref().map_or(0, |told| told.epoch),
        log: Vec::new(),
        recovery: id != 0,
        upstream: (id != 0).then_some(0),
        names: Names::default(),
        clean: false,
        promoted: if id == 0 { 0 } else { -1 },
        running: true,
        in_contact: true,
        orders: None,
        confirmed: 0,
        seal: false,
        waiting: 0,
        pending: None,
    });
    let mut world = World {
        core,
        seen: vec![Seen::default(); nodes],
        machines: machines.collect(),
        late: Vec::new(),
        acked: 0,
        written: 0,
        left: Faults::default(),
        broken: None,
    };
    for _ in 0..5 {
        fair_round(&mut world, &[], Mutant::None, &mut Vec::new());
    }
    assert!(whole(&world), "{}", recovery::states(&world));
    world.left = faults;
    world
}

/// Takes a way that is known, to begin the search at its end.
fn after(mut world: World, actions: &[Action]) -> World {
    for action in actions {
        world = act(&world, *action, Mutant::None, &mut Vec::new())
            .unwrap_or_else(|| panic!("{action:?} is not possible: {}", recovery::states(&world)));
    }
    world
}

/// Everybody reports once, and everybody does one thing.
fn fair_step(world: &mut World, absent: &[Id]) {
    for id in (0..world.machines.len()).filter(|id| !absent.contains(id)) {
        let mut actions = vec![Action::Report(id, Time::Late)];
        actions.extend(keepers::steps(world, id, Mutant::None).first().map(|step| Action::Step(id, *step)));
        for action in actions {
            if let Some(next) = act(world, action, Mutant::None, &mut Vec::new()) {
                *world = next;
            }
        }
    }
}

/// The others go on until they have settled.
fn settle_without(mut world: World, absent: &[Id]) -> World {
    let left = world.left;
    for _ in 0..12 {
        fair_round(&mut world, absent, Mutant::None, &mut Vec::new());
    }
    world.left = left;
    world
}

/// Node 3 dies, node 1 stops waiting for it, and it is back as far as catchingup.
const THIRD_CATCHES_UP: [Action; 10] = [
    Action::Crash(2),
    Action::Suspect(2, Time::Soon),
    Action::Report(0, Time::Soon),
    Action::Step(0, Step::Apply),
    Action::Step(0, Step::Confirm),
    Action::Report(0, Time::Soon),
    Action::Restart(2),
    Action::Report(2, Time::Soon),
    Action::Step(2, Step::Follow(0)),
    Action::Step(2, Step::Reach(NodeState::Catchingup)),
];

/// number_sync_standbys is 0. Node 3 is back and about to be a secondary again, when node 2 is taken for
/// dead: node 1 is told to go to wait_primary, and to wait for node 3.
pub fn amid_a_return(faults: Faults) -> World {
    let world = group(3, 0, Faults { total: 2, crashes: 1, suspicions: 1, ..Faults::default() });
    let mut world = after(world, &THIRD_CATCHES_UP);
    world = after(world, &[
        Action::Report(2, Time::Soon),
        Action::Suspect(1, Time::Soon),
        Action::Report(0, Time::Soon),
    ]);
    assert_eq!(world.machines[0].assigned, NodeState::WaitPrimary);
    assert_eq!(world.machines[0].orders.unwrap().names, Names { standbys: 4, required: 1 });
    world.left = faults;
    world
}

/// Node 3 was away and not waited for when a write was acknowledged, which nodes 1 and 2 have. Now node 1 is
/// dead for good, node 2 is the candidate, and node 3 is back with what it had.
pub fn amid_a_promotion(faults: Faults) -> World {
    let world = group(3, 1, Faults { total: 2, crashes: 2, writes: 1, ..Faults::default() });
    let [crash, suspect, waits @ ..] = &THIRD_CATCHES_UP;
    let mut world = after(world, &[*crash, *suspect]);
    world = after(world, &waits[..4]);
    world = after(world, &[Action::Write(0), Action::Stream(1)]);
    assert!(world.acked != 0);
    world = after(world, &[Action::Crash(0), Action::Suspect(0, Time::Soon)]);
    while world.machines[1].state != NodeState::PreparePromotion {
        fair_step(&mut world, &[0, 2]);
    }
    world = after(world, &[Action::Restart(2)]);
    world.left = faults;
    world
}

/// Node 2 was promoted while node 3 was not waited for. Node 3 sat that out, and lies on timeline 1 with a
/// large write that nobody else has; node 1, which wrote it, has been rewound and follows node 2. A small
/// write was acknowledged since, and the monitors begin to replace node 2 as well.
pub fn after_a_failover(faults: Faults) -> World {
    let world = group(3, 1, Faults { total: 3, crashes: 3, writes: 1, ..Faults::default() });
    let world = after(world, &THIRD_CATCHES_UP);
    let world = after(world, &[
        Action::Write(0),
        Action::Stream(2),
        Action::Crash(2),
        Action::Crash(0),
        Action::Suspect(0, Time::Soon),
    ]);
    let mut world = settle_without(settle_without(world, &[0, 2]), &[2]);
    assert_eq!(
        recovery::states(&world),
        "1 secondary/secondary; 2 primary/primary; 3 catchingup/catchingup, meant to be report_lsn (down)"
    );
    world.left = Faults { total: 1, suspicions: 1, writes: 1, ..Faults::default() };
    let mut world =
        after(world, &[Action::Write(1), Action::Stream(0), Action::Suspect(1, Time::Soon), Action::Restart(2)]);
    assert!(world.acked & 2 != 0 && lsn_of(&world.machines[2].log) > lsn_of(&world.machines[1].log));
    world.left = faults;
    world
}

/// Nodes 2 and 3 were promoted one after the other without having heard of each other: both chose
/// timeline 2. Node 2 is down, with a write that nobody else has; node 1 follows node 3.
pub fn after_two_failovers(faults: Faults) -> World {
    let world = group(3, 1, Faults { total: 2, crashes: 2, writes: 1, ..Faults::default() });
    let mut world = after(world, &[Action::Crash(0), Action::Suspect(0, Time::Soon)]);
    while world.machines[1].assigned != NodeState::WaitPrimary {
        fair_step(&mut world, &[0]);
    }
    let world = after(world, &[
        Action::Step(1, Step::Promote),
        Action::Step(1, Step::Reach(NodeState::WaitPrimary)),
        Action::Write(1),
        Action::Crash(1),
        Action::Suspect(1, Time::Soon),
    ]);
    let mut world = settle_without(settle_without(world, &[0, 1]), &[1]);
    assert_eq!(
        recovery::states(&world),
        "1 secondary/secondary; 2 wait_primary/wait_primary, meant to be demoted (down); 3 primary/primary"
    );
    world.left = faults;
    world
}
