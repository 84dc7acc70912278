//! From any state: everything is back, and is given time.

use std::collections::HashSet;

use failover::NodeState;

use crate::actions::{Action, act};
use crate::keepers::{self, Step};
use crate::monitors::{self, Time};
use crate::world::*;

/// The write that proves it.
const PROOF: u8 = 7;
/// Rounds in which everybody reports, acts and streams.
const PATIENCE: usize = 60;

/// One round without a fault: machines are up, all messages come in, all wait for what they wait for.
/// Those that are `absent` stay as they are.
pub fn fair_round(world: &mut World, absent: &[Id], mutant: Mutant, story: &mut Vec<String>) {
    world.left = Faults::default();
    world.late.clear();
    let ids: Vec<Id> = (0..world.machines.len()).filter(|id| !absent.contains(id)).collect();
    for id in ids.clone() {
        world.machines[id].up = true;
        if let Some(answer) = world.machines[id].pending.take() {
            keepers::take_answer(world, id, answer, mutant);
        }
    }
    for id in ids.clone() {
        let mut do_it = |world: &mut World, action| {
            if let Some(next) = act(world, action, mutant, story) {
                *world = next;
            }
        };
        do_it(world, Action::Report(id, Time::Late));
        for _ in 0..4 {
            for standby in &ids {
                while keepers::stream(world, *standby).is_some() {}
            }
            let step = keepers::steps(world, id, mutant).into_iter().find(|step| *step != Step::DropSync);
            let Some(step) = step else { break };
            do_it(world, Action::Step(id, step));
        }
    }
    if let Some(told) = monitors::review(world) {
        story.extend(told.events);
    }
    world.normalise();
}

/// One primary, all others its synchronous standbys, and a write is acknowledged.
pub fn whole(world: &World) -> bool {
    let mut primaries = (0..world.machines.len()).filter(|id| world.machines[*id].state == NodeState::Primary);
    let (Some(primary), None) = (primaries.next(), primaries.next()) else { return false };
    let there = world.machines.iter().all(|machine| {
        machine.running && machine.state == machine.assigned && matches!(machine.state, NodeState::Primary | NodeState::Secondary)
    });
    let agreed = world.core.nodes.values().all(|node| {
        let machine = &world.machines[id_of(node.id)];
        node.goal == machine.state && node.reported == machine.state
    });
    if !there || !agreed || world.machines[primary].names.required == 0 {
        return false;
    }
    let mut world = world.clone();
    world.written = PROOF;
    keepers::write(&mut world, primary);
    for id in 0..world.machines.len() {
        while keepers::stream(&mut world, id).is_some() {}
    }
    world.broken.is_none() && world.acked & (1 << PROOF) != 0
}

/// States that are known to recover.
#[derive(Default)]
pub struct Recovery {
    good: HashSet<u128>,
    pub rounds: usize,
}

impl Recovery {
    /// Why a world does not recover; `None`: it does.
    pub fn fails(&mut self, world: &World, mutant: Mutant) -> Option<String> {
        let mut world = world.clone();
        let mut path = Vec::new();
        for _ in 0..PATIENCE {
            fair_round(&mut world, &[], mutant, &mut Vec::new());
            self.rounds += 1;
            if let Some(broken) = world.broken {
                return Some(format!("{broken}, while the group recovers"));
            }
            let print = world.fingerprint();
            if self.good.contains(&print) || whole(&world) {
                path.push(print);
                self.good.extend(path);
                return None;
            }
            if path.contains(&print) {
                break;
            }
            path.push(print);
        }
        Some(format!("with all nodes back, the group does not become whole: {}", states(&world)))
    }
}

/// The way that ends nowhere, in words.
pub fn tell(world: &World, mutant: Mutant) -> String {
    let mut world = world.clone();
    let mut text = String::new();
    for round in 1..=12 {
        let mut story = Vec::new();
        fair_round(&mut world, &[], mutant, &mut story);
        text.push_str(&format!("  after round {round} without faults: {}\n", states(&world)));
        story.iter().for_each(|line| text.push_str(&format!("      {line}\n")));
        if story.is_empty() {
            break;
        }
    }
    text
}

/// `1 primary/primary, 2 secondary/catchingup`: each as its keeper is, and is meant to be.
pub fn states(world: &World) -> String {
    let each = world.core.nodes.values().map(|node| {
        let machine = &world.machines[id_of(node.id)];
        let down = if machine.up { "" } else { " (down)" };
        let goal = if machine.assigned == node.goal { String::new() } else { format!(", meant to be {}", node.goal) };
        format!("{} {}/{}{goal}{down}", node.id, machine.state, machine.assigned)
    });
    each.collect::<Vec<_>>().join("; ")
}
