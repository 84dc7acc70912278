//! What may happen next, and what it does.

use failover::Command;
use failover::command::NodeActive;

use crate::keepers::{self, Step};
use crate::monitors::{self, Time};
use crate::world::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A node reports and hears the answer.
    Report(Id, Time),
    /// The monitors hear the report, and their answer is lost.
    Unanswered(Id, Time),
    /// The report is under way, and for long.
    Dispatch(Id),
    /// Such a report comes in; nobody waits for the answer any more.
    Arrive(usize, Time),
    /// The monitors hear the report, and their answer is under way.
    Delay(Id, Time),
    /// Such an answer comes in.
    Hear(Id),
    Step(Id, Step),
    Write(Id),
    Stream(Id),
    Crash(Id),
    KillKeeper(Id),
    KillPostmaster(Id),
    Restart(Id),
    Suspect(Id, Time),
    Deadline,
    NewLeader,
    Fence(Id),
    Switchover,
}

/// Everything that may happen in a world.
pub fn possible(world: &World, mutant: Mutant) -> Vec<Action> {
    let mut actions = Vec::new();
    let left = &world.left;
    let may = |kind: u8| left.total > 0 && kind > 0;
    let times: &[Time] = if monitors::unsettled(world) { &[Time::Soon, Time::Late] } else { &[Time::Soon] };
    for (id, machine) in world.machines.iter().enumerate() {
        if machine.up {
            if machine.pending.is_some() {
                actions.push(Action::Hear(id));
            } else {
                for time in times {
                    actions.push(Action::Report(id, *time));
                    if may(left.losses) {
                        actions.push(Action::Unanswered(id, *time));
                    }
                    if may(left.delays) {
                        actions.push(Action::Delay(id, *time));
                    }
                }
                if may(left.delays) {
                    actions.push(Action::Dispatch(id));
                }
            }
            actions.extend(keepers::steps(world, id, mutant).into_iter().map(|step| Action::Step(id, step)));
            if may(left.crashes) {
                actions.push(Action::Crash(id));
            }
            if may(left.keepers) {
                actions.push(Action::KillKeeper(id));
            }
            if may(left.postmasters) && machine.running {
                actions.push(Action::KillPostmaster(id));
            }
            let fences = machine.state.is_writable() && machine.state != failover::NodeState::WaitPrimary;
            if may(left.fences) && fences {
                actions.push(Action::Fence(id));
            }
        } else {
            actions.push(Action::Restart(id));
        }
        if machine.writable() && left.writes > 0 {
            actions.push(Action::Write(id));
        }
        if machine.upstream.is_some_and(|upstream| world.machines[upstream].log.len() > machine.log.len()) {
            actions.push(Action::Stream(id));
        }
        // A machine that is down is found out, sooner or later; one that lives may be misjudged.
        if !world.seen[id].silent && (!machine.up || may(left.suspicions)) {
            actions.push(Action::Suspect(id, Time::Soon));
        }
    }
    for index in 0..world.late.len() {
        actions.extend(times.iter().map(|time| Action::Arrive(index, *time)));
    }
    if times.len() > 1 {
        actions.push(Action::Deadline);
    }
    if may(left.leaders) {
        actions.push(Action::NewLeader);
    }
    if may(left.switchovers) {
        actions.push(Action::Switchover);
    }
    actions
}

/// Does it. `None`: it cannot be done, or is refused. `story` gets what the monitors said.
pub fn act(world: &World, action: Action, mutant: Mutant, story: &mut Vec<String>) -> Option<World> {
    let mut next = world.clone();
    let spend = |world: &mut World, kind: fn(&mut Faults) -> &mut u8| {
        world.left.total -= 1;
        *kind(&mut world.left) -= 1;
    };
    let world = &mut next;
    match action {
        Action::Report(id, time) => {
            let answer = exchange(world, keepers::report(world, id), time, story)?;
            keepers::take_answer(world, id, answer, mutant);
        }
        Action::Unanswered(id, time) => {
            spend(world, |left| &mut left.losses);
            exchange(world, keepers::report(world, id), time, story)?;
        }
        Action::Dispatch(id) => {
            spend(world, |left| &mut left.delays);
            let report = keepers::report(world, id);
            world.late.push(report);
        }
        Action::Arrive(index, time) => {
            let report = world.late.remove(index);
            exchange(world, report, time, story)?;
        }
        Action::Delay(id, time) => {
            spend(world, |left| &mut left.delays);
            let answer = exchange(world, keepers::report(world, id), time, story)?;
            world.machines[id].pending = Some(answer);
        }
        Action::Hear(id) => {
            let answer = world.machines[id].pending.take()?;
            keepers::take_answer(world, id, answer, mutant);
        }
        Action::Step(id, step) => keepers::take_step(world, id, step, mutant),
        Action::Write(id) => {
            world.left.writes -= 1;
            keepers::write(world, id);
        }
        Action::Stream(id) => {
            keepers::stream(world, id)?;
        }
        Action::Crash(id) => {
            spend(world, |left| &mut left.crashes);
            keepers::crash(world, id);
        }
        Action::KillKeeper(id) => {
            spend(world, |left| &mut left.keepers);
            keepers::forget(world, id);
        }
        Action::KillPostmaster(id) => {
            spend(world, |left| &mut left.postmasters);
            keepers::kill_postmaster(world, id);
        }
        Action::Restart(id) => world.machines[id].up = true,
        Action::Suspect(id, time) => {
            if world.machines[id].up {
                spend(world, |left| &mut left.suspicions);
            }
            let told = monitors::suspect(world, id, time)?;
            story.extend(told.events);
        }
        Action::Deadline => {
            let told = monitors::review(world).filter(|told| told.changed)?;
            story.extend(told.events);
        }
        Action::NewLeader => {
            spend(world, |left| &mut left.leaders);
            monitors::new_leader(world);
        }
        Action::Fence(id) => {
            spend(world, |left| &mut left.fences);
            keepers::fence(world, id);
        }
        Action::Switchover => {
            spend(world, |left| &mut left.switchovers);
            let command = Command::PerformFailover { formation: "default".to_string(), group: 0 };
            let told = monitors::call(world, command, Time::Soon, false)?;
            story.extend(told.events);
        }
    }
    next.normalise();
    Some(next)
}

fn exchange(
    world: &mut World,
    report: NodeActive,
    time: Time,
    story: &mut Vec<String>,
) -> Option<Answer> {
    let (answer, told) = monitors::report(world, report, time)?;
    story.extend(told.events);
    Some(answer)
}
