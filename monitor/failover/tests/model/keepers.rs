//! The nodes' side: keepers that follow the protocol as ours do, PostgreSQL reduced to who has which
//! record, and clients.

use failover::command::NodeActive;
use failover::edges::has_edge;
use failover::extended::HistoryLine;
use failover::state::Generation;
use failover::{Extended, Lsn, NodeState, PostgresEnd, SyncState, UpstreamView};

use NodeState::*;

use crate::monitors;
use crate::world::*;

fn stopped_for_good(state: NodeState) -> bool {
    matches!(state, Draining | Demoted | DemoteTimeout | PrepareMaintenance)
}

fn has_final_position(state: NodeState) -> bool {
    stopped_for_good(state) || matches!(state, ReportLsn | FastForward | PreparePromotion | JoinSecondary)
}

fn wanted_primary(state: NodeState) -> bool {
    matches!(state, Single | Primary | WaitPrimary | JoinPrimary | ApplySettings)
}

fn wanted_standby(state: NodeState) -> bool {
    matches!(state, Secondary | Catchingup | ReportLsn | FastForward | JoinSecondary)
}

/// What the keeper reports now (`keeper/src/reports.rs`).
pub fn report(world: &World, id: Id) -> NodeActive {
    let machine = &world.machines[id];
    let is_final = has_final_position(machine.state) && !(machine.running && stopped_for_good(machine.state));
    let sealed = machine.seal && is_final;
    // A primary is given time to come back before the monitors hear that it is down.
    let runs = machine.running || (machine.state == Primary && machine.assigned == Primary);
    let known = sealed || machine.running;
    let primary = machine.writable();
    let end = if machine.running || runs {
        PostgresEnd::None
    } else if sealed && stopped_for_good(machine.state) {
        PostgresEnd::Clean
    } else if stopped_for_good(machine.state) || wanted_primary(machine.state) {
        PostgresEnd::Crashed
    } else {
        PostgresEnd::None
    };
    NodeActive {
        formation: "default".to_string(),
        id: node_of(id),
        group: 0,
        state: machine.state,
        pg_is_running: runs,
        timeline: if known { machine.timeline() } else { 0 },
        lsn: if known { lsn_of(&machine.log) } else { Lsn::ZERO },
        sync_state: SyncState::Unknown,
        extended: Some(Extended {
            epoch: machine.epoch,
            sync_version: if primary && machine.state.is_writable() { machine.confirmed } else { 0 },
            sealed,
            upstream: UpstreamView::Unknown,
            postgres_end: end,
            timeline_history: if known { history(&machine.log) } else { Vec::new() },
            standbys_streaming: -1,
            transactions: None,
        }),
    }
}

fn history(log: &[Record]) -> Vec<HistoryLine> {
    let mut parent = 1;
    let mut lines = Vec::new();
    for (at, record) in log.iter().enumerate() {
        if let Record::Switch { timeline, .. } = record {
            lines.push(HistoryLine { timeline: *timeline, parent, switchpoint: lsn_of(&log[..at]) });
            parent = *timeline;
        }
    }
    lines
}

/// Goal and epoch are on disk before anything is done about them; an older epoch is not obeyed.
pub fn take_answer(world: &mut World, id: Id, answer: Answer, mutant: Mutant) {
    let machine = &mut world.machines[id];
    machine.in_contact = true;
    if answer.epoch < machine.epoch && mutant != Mutant::ForgetsEpochs {
        return;
    }
    machine.assigned = answer.goal;
    machine.epoch = answer.epoch;
    machine.orders = Some(answer.orders);
}

/// One thing that a keeper does, not to be divided as far as others can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The goal is reached.
    Reach(NodeState),
    /// A sealed standby is told another upstream: no seal from here on.
    Unseal(Id),
    /// Out of recovery.
    Promote,
    /// A stopped primary runs again, with the names that it had.
    Start,
    /// synchronous_standby_names as ordered.
    Apply,
    /// Enough of the standbys named have everything.
    Confirm,
    /// As goal `report_lsn` was reached before, and the seal was left or forgotten since.
    SealAgain,
    /// Another upstream, and a copy when the own history does not fit.
    Follow(Id),
    /// The primary waits for nobody any more, by itself (a mutant).
    DropSync,
}

/// What the keeper may do now (`keeper/src/transitions.rs`, `keeper.rs`).
pub fn steps(world: &World, id: Id, mutant: Mutant) -> Vec<Step> {
    let machine = &world.machines[id];
    if !machine.up {
        return Vec::new();
    }
    let mut steps = Vec::new();
    let orders = machine.orders;
    let alive = |other: Id| world.machines[other].writable() && other != id;
    let primary = orders.and_then(|orders| orders.primary).filter(|primary| alive(*primary));
    let (from, to) = (machine.state, machine.assigned);
    if mutant == Mutant::DropsSync
        && machine.writable()
        && machine.names.required > 0
        && world.holders(id, machine.names, 0) == 0
    {
        steps.push(Step::DropSync);
    }
    if from == to {
        if machine.in_contact {
            upkeep(world, id, primary, &mut steps);
        }
        return steps;
    }
    if !has_edge(Generation::Pgquorum, from, to) {
        return steps;
    }
    match (from, to) {
        (_, ReportLsn | Draining | Demoted | DemoteTimeout | PreparePromotion | ApplySettings) => {
            steps.push(Step::Reach(to));
        }
        (_, FastForward) => match monitors::source_of_wal(world, id) {
            None => steps.push(Step::Reach(to)),
            Some(source) => {
                let follows = machine.upstream == Some(source);
                if follows && machine.log == world.machines[source].log {
                    steps.push(Step::Reach(to));
                } else if !follows && world.machines[source].running {
                    steps.push(Step::Unseal(source));
                }
            }
        },
        (PreparePromotion, WaitPrimary) => {
            let promoted = machine.running && !machine.recovery;
            if promoted {
                steps.push(Step::Reach(to));
            } else if orders.is_some_and(|orders| orders.version != 0) {
                steps.push(Step::Promote);
            }
        }
        // A primary that is down starts on the monitors' word of a moment ago, never on an old one.
        (_, WaitPrimary | Primary) if !machine.running => {
            steps.extend(machine.in_contact.then_some(Step::Start));
        }
        (_, WaitPrimary) => steps.push(Step::Reach(to)),
        (DemoteTimeout, Primary) => steps.extend(orders.map(|_| Step::Reach(to))),
        (_, Primary) => {
            // The order is taken up on the way, and the state is reached once it is confirmed.
            if let Some(orders) = orders {
                match machine.names == orders.names {
                    false => steps.push(Step::Apply),
                    true => steps.extend(covered(world, id).then_some(Step::Reach(to))),
                }
            }
        }
        (Secondary, Catchingup) => match primary {
            Some(primary) if !world.streams(id, primary) => steps.push(Step::Follow(primary)),
            Some(_) => steps.push(Step::Reach(to)),
            None => {}
        },
        (_, Catchingup) => steps.extend(primary.map(|_| Step::Reach(to))),
        (_, Secondary) => match primary {
            Some(primary) if machine.upstream != Some(primary) => steps.push(Step::Unseal(primary)),
            Some(primary) if world.streams(id, primary) => steps.push(Step::Reach(to)),
            Some(primary) => steps.push(Step::Follow(primary)),
            None => {}
        },
        _ => {}
    }
    steps
}

fn upkeep(world: &World, id: Id, primary: Option<Id>, steps: &mut Vec<Step>) {
    let machine = &world.machines[id];
    let wanted = wanted_primary(machine.state) || wanted_standby(machine.state) || machine.state == PreparePromotion;
    if wanted && !machine.running {
        steps.push(Step::Start);
        return;
    }
    let Some(orders) = machine.orders else { return };
    if machine.state.is_writable() && orders.version > machine.confirmed {
        if machine.names != orders.names {
            steps.push(Step::Apply);
        } else if covered(world, id) {
            steps.push(Step::Confirm);
        }
    }
    if machine.state == ReportLsn && !machine.seal {
        steps.push(Step::SealAgain);
    }
    if let (Secondary | Catchingup, Some(primary)) = (machine.state, primary)
        && !world.streams(id, primary)
    {
        steps.push(Step::Follow(primary));
    }
}

/// Enough of the standbys named have everything that was written.
fn covered(world: &World, id: Id) -> bool {
    let machine = &world.machines[id];
    let names = machine.orders.map_or(machine.names, |orders| orders.names);
    world.holders(id, names, machine.log.len()) >= usize::from(names.required)
}

pub fn take_step(world: &mut World, id: Id, step: Step, mutant: Mutant) {
    match step {
        Step::Reach(to) => reach(world, id, to, mutant),
        Step::Unseal(upstream) => {
            let machine = &mut world.machines[id];
            machine.seal = false;
            machine.upstream = Some(upstream);
        }
        Step::Promote => promote(world, id, mutant),
        Step::Start => {
            let machine = &mut world.machines[id];
            machine.running = true;
            machine.clean = false;
            machine.recovery |= wanted_standby(machine.state);
            machine.seal &= !stopped_for_good(machine.state);
        }
        Step::Apply => {
            let machine = &mut world.machines[id];
            machine.names = machine.orders.map_or(machine.names, |orders| orders.names);
            if mutant == Mutant::ConfirmsAtOnce {
                machine.confirmed = machine.orders.map_or(0, |orders| orders.version);
            }
            world.acknowledge(id);
        }
        Step::Confirm => {
            let machine = &mut world.machines[id];
            machine.confirmed = machine.confirmed.max(machine.orders.map_or(0, |orders| orders.version));
        }
        Step::SealAgain => seal(world, id, mutant),
        Step::Follow(primary) => follow(world, id, primary),
        Step::DropSync => {
            world.machines[id].names = Names::default();
            world.acknowledge(id);
        }
    }
}

fn reach(world: &mut World, id: Id, to: NodeState, mutant: Mutant) {
    let from = world.machines[id].state;
    match to {
        Draining | Demoted | DemoteTimeout => stop(world, id),
        ReportLsn => {
            stop(world, id);
            seal(world, id, mutant);
        }
        FastForward => {
            let machine = &mut world.machines[id];
            machine.seal = machine.upstream.take().is_some();
        }
        WaitPrimary if from != PreparePromotion && from != Single => {
            let machine = &mut world.machines[id];
            let ordered = machine.orders.filter(|orders| orders.version != 0).map(|orders| orders.names);
            machine.names = match mutant {
                Mutant::ClearsNames => Names::default(),
                _ => ordered.unwrap_or_default(),
            };
            world.acknowledge(id);
        }
        Primary if from == DemoteTimeout => {
            let machine = &mut world.machines[id];
            machine.names = machine.orders.map_or(machine.names, |orders| orders.names);
        }
        Primary => {
            let machine = &mut world.machines[id];
            machine.confirmed = machine.confirmed.max(machine.orders.map_or(0, |orders| orders.version));
        }
        Catchingup => {
            if let Some(primary) = world.machines[id].orders.and_then(|orders| orders.primary) {
                follow(world, id, primary);
            }
        }
        _ => {}
    }
    let machine = &mut world.machines[id];
    machine.state = to;
    machine.seal &= has_final_position(to);
    if !from.is_writable() && !to.is_writable() {
        machine.confirmed = 0;
    }
}

/// In order: clients that wait for an acknowledgement get none.
fn stop(world: &mut World, id: Id) {
    let machine = &mut world.machines[id];
    machine.waiting = 0;
    if machine.running {
        machine.running = false;
        machine.clean = !machine.recovery;
    }
    machine.seal = machine.clean;
}

/// Durably connected to nobody, then the position is read.
fn seal(world: &mut World, id: Id, mutant: Mutant) {
    let machine = &mut world.machines[id];
    machine.running = true;
    machine.recovery = true;
    machine.clean = false;
    if mutant != Mutant::SealSkipped {
        machine.upstream = None;
    }
    machine.seal = true;
}

/// As it is where its history fits, or as a copy of the primary.
fn follow(world: &mut World, id: Id, primary: Id) {
    let log = world.machines[primary].log.clone();
    let machine = &mut world.machines[id];
    if !log.starts_with(&machine.log) {
        machine.log = log;
    }
    machine.upstream = Some(primary);
    machine.recovery = true;
    machine.running = true;
    machine.clean = false;
    machine.seal = false;
    world.acknowledge(primary);
}

fn promote(world: &mut World, id: Id, mutant: Mutant) {
    let machine = &mut world.machines[id];
    let timeline = machine.timeline() + 1;
    if mutant == Mutant::NamesAfterPromotion {
        machine.names = Names::default();
    } else if let Some(orders) = machine.orders {
        machine.names = orders.names;
    }
    machine.log.push(Record::Switch { timeline, by: id as u8 });
    machine.recovery = false;
    machine.running = true;
    machine.clean = false;
    machine.upstream = None;
    machine.promoted = machine.epoch;
    let epoch = machine.promoted;
    if let Some(other) = (0..world.machines.len()).find(|other| *other != id && world.machines[*other].promoted == epoch) {
        world.breaks(format!("nodes {} and {} were both promoted in epoch {epoch}", other + 1, id + 1));
    }
    world.check_complete(id);
}

/// A client writes to whoever takes writes.
pub fn write(world: &mut World, id: Id) {
    let write = world.written;
    world.written += 1;
    let machine = &mut world.machines[id];
    machine.log.push(Record::Write(write));
    machine.waiting |= 1 << write;
    world.acknowledge(id);
}

/// The standby flushes the next record of its upstream, which hears of it.
pub fn stream(world: &mut World, id: Id) -> Option<Id> {
    let upstream = world.machines[id].upstream?;
    if !world.streams(id, upstream) {
        return None;
    }
    let at = world.machines[id].log.len();
    let record = *world.machines[upstream].log.get(at)?;
    world.machines[id].log.push(record);
    world.acknowledge(upstream);
    Some(upstream)
}

/// The keeper is gone, and with it what it only remembered.
pub fn forget(world: &mut World, id: Id) {
    let machine = &mut world.machines[id];
    machine.in_contact = false;
    machine.orders = None;
    machine.confirmed = 0;
    machine.pending = None;
    machine.seal = !machine.running && machine.clean && stopped_for_good(machine.state);
}

/// The machine loses power. What it had flushed stays.
pub fn crash(world: &mut World, id: Id) {
    let machine = &mut world.machines[id];
    machine.up = false;
    if machine.running {
        machine.running = false;
        machine.clean = false;
    }
    machine.waiting = 0;
    forget(world, id);
}

/// PostgreSQL dies, and its keeper lives.
pub fn kill_postmaster(world: &mut World, id: Id) {
    let machine = &mut world.machines[id];
    (machine.running, machine.clean, machine.waiting) = (false, false, 0);
}

/// A primary that hears from nobody stops itself, at once.
pub fn fence(world: &mut World, id: Id) {
    let machine = &mut world.machines[id];
    machine.assigned = DemoteTimeout;
    machine.in_contact = false;
    machine.running = false;
    machine.clean = false;
    machine.waiting = 0;
    machine.state = DemoteTimeout;
    machine.seal = false;
}
