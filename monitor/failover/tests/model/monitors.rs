//! The monitors' side: the real rules, called with times that say "just now" or "long ago".

use std::collections::BTreeMap;

use failover::command::{NodeActive, Witness};
use failover::state::Node;
use failover::*;

use crate::world::*;

/// The rules know durations; the model knows two moments, and tries both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Nothing that is waited for has been waited for long enough; leases are held.
    Soon,
    /// Everything has.
    Late,
}

const NOW: Now = Now { wall: WallTime(0), mono_us: 1_000_000_000_000 };
const LONG_AGO_US: i64 = 100_000_000_000;

fn stamp(ago_us: i64) -> Option<Stamp> {
    Some(Stamp { wall: WallTime(0), mono_us: NOW.mono_us - ago_us })
}

fn observation(seen: &Seen, time: Time) -> Observation {
    let report = match (seen.heard, seen.silent) {
        (true, false) => stamp(0),
        (_, true) => stamp(LONG_AGO_US),
        (false, false) => None,
    };
    let waited_us = if time == Time::Soon { 0 } else { LONG_AGO_US };
    Observation {
        lsn: seen.lsn,
        report,
        wal_report: report,
        health_check: if seen.silent { stamp(1) } else if seen.heard { stamp(2) } else { None },
        state_change: stamp(waited_us),
        standbys_streaming: -1,
        transactions: None,
        down: if seen.down { stamp(waited_us) } else { None },
        lease: stamp(waited_us),
        ..Observation::default()
    }
}

/// What one call did, for the story.
pub struct Told {
    pub reply: Reply,
    pub events: Vec<String>,
    pub changed: bool,
}

/// Decides a call by the real rules and applies the outcome. `None`: it was refused.
pub fn call(world: &mut World, command: Command, time: Time, accept_loss: bool) -> Option<Told> {
    let observations = Observations {
        leader_since_mono_us: 0,
        nodes: world.seen.iter().enumerate().map(|(id, seen)| (node_of(id), observation(seen, time))).collect(),
    };
    let mut session_settings = BTreeMap::new();
    if accept_loss {
        session_settings.insert("pgautofailover.guard_data_loss".to_string(), "off".to_string());
    }
    let call = Call { command, session_settings };
    let decision = decide(&world.core, &observations, &call, NOW).ok()?;
    let changed = !decision.outcome.is_empty();
    assert!(matches!(apply(&mut world.core, &decision.outcome), Applied::Written(_)), "{:?}", decision.outcome);
    for (node, seen) in decision.observed {
        world.seen[id_of(node)] = Seen {
            heard: seen.report.is_some(),
            silent: seen.report.is_some_and(|report| report.mono_us < NOW.mono_us),
            down: seen.down.is_some(),
            lsn: seen.lsn,
        };
    }
    check_goals(world);
    let told = decision.outcome.events.iter();
    let events = told.map(|event| match event.rule_pos {
        Some(pos) => format!("rule {pos}: {}", event.description),
        None => event.description.clone(),
    });
    Some(Told { reply: decision.reply, events: events.collect(), changed })
}

fn check_goals(world: &mut World) {
    let writable: Vec<NodeId> =
        world.core.nodes.values().filter(|node| node.goal.is_writable()).map(|node| node.id).collect();
    if writable.len() > 1 {
        world.breaks(format!("nodes {writable:?} are all meant to take writes"));
    }
}

/// A keeper's report as the monitors get it, and their answer.
pub fn report(world: &mut World, report: NodeActive, time: Time) -> Option<(Answer, Told)> {
    let node = report.id;
    let told = call(world, Command::NodeActive(report), time, false)?;
    let Reply::Reported(goal) = &told.reply else { panic!("{:?}", told.reply) };
    let answer = Answer {
        goal: goal.goal.goal,
        epoch: goal.epoch,
        orders: Orders {
            version: goal.sync_version,
            names: parse(&goal.synchronous_standby_names),
            primary: goal.primary.as_ref().map(|upstream| id_of(upstream.id)),
        },
    };
    if world.core.nodes[&node].health == Health::Bad {
        // The next probe finds it, too.
        call(world, Command::Witness { id: node, what: Witness::Answered }, time, false);
    }
    Some((answer, told))
}

/// The leader takes a node for dead, rightly or not. `None`: it refuses to look.
pub fn suspect(world: &mut World, id: Id, time: Time) -> Option<Told> {
    world.seen[id].silent = true;
    call(world, Command::Witness { id: node_of(id), what: Witness::NoAnswer }, time, false)
}

/// A deadline has passed.
pub fn review(world: &mut World) -> Option<Told> {
    let command = Command::Review { formation: "default".to_string(), group: 0 };
    call(world, command, Time::Late, false)
}

/// A new leader has witnessed nothing.
pub fn new_leader(world: &mut World) {
    world.seen.iter_mut().for_each(|seen| *seen = Seen::default());
}

/// Some node is not where it is meant to be, or is on its way: only then do deadlines matter.
pub fn unsettled(world: &World) -> bool {
    let settled = |node: &Node| node.goal == node.reported && matches!(node.goal, NodeState::Primary | NodeState::Secondary);
    !world.core.nodes.values().all(|node| settled(node)) || world.seen.iter().any(|seen| seen.down)
}

/// `ANY 1 (pgautofailover_standby_2, pgautofailover_standby_3)`; a name without a number is nobody's.
fn parse(names: &str) -> Names {
    let Some((count, list)) = names.strip_prefix("ANY ").and_then(|rest| rest.split_once(" (")) else {
        return Names::default();
    };
    let ids = list.trim_end_matches(')').split(", ").filter_map(|name| Some(id_of(name.rsplit('_').next()?.parse().ok()?)));
    Names { standbys: ids.fold(0, |set, id| set | 1 << id), required: count.parse().unwrap() }
}

/// What `get_most_advanced_standby` answers a keeper.
pub fn source_of_wal(world: &World, id: Id) -> Option<Id> {
    let observations = Observations {
        leader_since_mono_us: 0,
        nodes: world.seen.iter().enumerate().map(|(id, seen)| (node_of(id), observation(seen, Time::Soon))).collect(),
    };
    let row = queries::get_most_advanced_standby(&world.core, &observations, "default", 0, Some(node_of(id)));
    row.map(|row| id_of(row.id))
}
