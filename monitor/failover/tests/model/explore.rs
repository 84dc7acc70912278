//! Breadth first through everything that may happen.

use std::collections::HashSet;
use std::time::Instant;

use crate::actions::{Action, act, possible};
use crate::recovery::{self, Recovery, states};
use crate::world::*;

/// What to look at, and where to stop.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    pub mutant: Mutant,
    /// Steps from the first state; paths end there.
    pub depth: usize,
    /// Every how many states the recovery is tried; 0: never.
    pub recover: usize,
    /// The search fails when it has seen that many states.
    pub states: usize,
}

pub struct Found {
    pub states: usize,
    pub steps: usize,
    pub depth: usize,
    /// Nothing was left to be looked at.
    pub complete: bool,
    pub recovered: usize,
    pub story: Option<Story>,
}

/// The shortest way to something that must not be.
pub struct Story {
    pub broken: String,
    pub length: usize,
    pub text: String,
}

/// Looks at every state that can be reached, until one is broken.
pub fn explore(first: &World, search: Search) -> Found {
    let began = Instant::now();
    let mut seen = HashSet::from([first.fingerprint()]);
    let mut parents: Vec<(u32, Action)> = vec![(0, Action::Deadline)];
    let mut frontier = vec![(0_u32, first.clone())];
    let mut recovery = Recovery::default();
    let mut found =
        Found { states: 1, steps: 0, depth: 0, complete: false, recovered: 0, story: None };
    let mut quiet = Vec::new();
    while !frontier.is_empty() && found.depth < search.depth {
        found.depth += 1;
        let mut next = Vec::new();
        for (at, world) in frontier {
            for action in possible(&world, search.mutant) {
                quiet.clear();
                let Some(reached) = act(&world, action, search.mutant, &mut quiet) else { continue };
                found.steps += 1;
                if !seen.insert(reached.fingerprint()) {
                    continue;
                }
                let index = parents.len();
                parents.push((at, action));
                let mut broken = reached.broken.clone();
                if broken.is_none() && search.recover > 0 && index.is_multiple_of(search.recover) {
                    found.recovered += 1;
                    broken = recovery.fails(&reached, search.mutant);
                }
                if let Some(broken) = broken {
                    found.states = parents.len();
                    found.story = Some(tell(first, &path(&parents, index), search.mutant, broken));
                    return found;
                }
                next.push((index as u32, reached));
            }
        }
        frontier = next;
        if std::env::var_os("MODEL_PROGRESS").is_some() {
            println!("depth {}: {} states, {:.1} s", found.depth, parents.len(), began.elapsed().as_secs_f32());
        }
        assert!(parents.len() < search.states, "more than {} states at depth {}", search.states, found.depth);
    }
    found.states = parents.len();
    found.complete = frontier.is_empty();
    found
}

fn path(parents: &[(u32, Action)], mut at: usize) -> Vec<Action> {
    let mut actions = Vec::new();
    while at != 0 {
        let (before, action) = parents[at];
        actions.push(action);
        at = before as usize;
    }
    actions.reverse();
    actions
}

/// Walks the way again and writes down what happens.
pub fn tell(first: &World, actions: &[Action], mutant: Mutant, broken: String) -> Story {
    let mut world = first.clone();
    let mut text = format!("    {}\n", states(&world));
    for action in actions {
        let mut events = Vec::new();
        let Some(next) = act(&world, *action, mutant, &mut events) else { break };
        world = next;
        text.push_str(&format!("{action:?}\n"));
        for event in events {
            text.push_str(&format!("      {event}\n"));
        }
        text.push_str(&format!("    {}\n", states(&world)));
    }
    text.push_str(&format!("=> {broken}\n{}", details(&world)));
    if world.broken.is_none() {
        text.push_str(&recovery::tell(&world, mutant));
    }
    Story { broken, length: actions.len(), text }
}

fn details(world: &World) -> String {
    let mut text = String::new();
    for (id, machine) in world.machines.iter().enumerate() {
        let node = &world.core.nodes[&node_of(id)];
        text.push_str(&format!(
            "   node {}: log {:?}, upstream {:?}, names {:?}, confirmed {}, epoch {}, promoted {}, seal {}, running {}, recovery {}, orders {:?}\n      \
             monitors: {}/{} epoch {} (goal {}), sealed {}, {}:{}, sets {:?}, confirmed {}, {:?}\n",
            id + 1,
            machine.log,
            machine.upstream,
            machine.names,
            machine.confirmed,
            machine.epoch,
            machine.promoted,
            machine.seal,
            machine.running,
            machine.recovery,
            machine.orders,
            node.reported,
            node.goal,
            node.epoch,
            node.goal_epoch,
            node.sealed,
            node.timeline,
            node.lsn,
            node.sync_sets.iter().map(|set| (set.version, &set.standbys, set.required)).collect::<Vec<_>>(),
            node.sync_version,
            world.seen[id],
        ));
    }
    text
}
