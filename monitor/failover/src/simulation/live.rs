//! A simulation that starts where a running cluster stands, and goes on by itself.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Cluster, Keeper, parse_names, stopped};
use crate::command::Witness;
use crate::settings::Settings;
use crate::state::Generation;
use crate::{Command, Event, Health, NodeId, Rejection, Snapshot, SyncState, queries};

/// The simulated time between two looks at everybody.
const STEP_S: f64 = 0.5;

/// The longest play: everything that the rules wait for is over by then.
const LONGEST_S: f64 = 600.0;

impl Cluster {
    /// The group of a snapshot: nodes are as they last reported, and those that have not reported
    /// lately are dead.
    pub fn of(snapshot: &Snapshot) -> Cluster {
        let mut cluster = Cluster::new();
        cluster.state = snapshot.state.clone();
        cluster.observations = snapshot.observations();
        cluster.now = snapshot.now;
        let settings = Settings::effective(&cluster.state, &BTreeMap::new());
        let patience_us = settings.node_considered_unhealthy_timeout_ms.saturating_mul(1000);
        for node in snapshot.state.nodes.values() {
            let seen = cluster.observations.of(node.id);
            let names = queries::synchronous_standby_names(&cluster.state, &node.formation, node.group);
            let keeper = Keeper {
                state: node.reported,
                goal: node.goal,
                generation: node.generation,
                formation: node.formation.clone(),
                group: node.group,
                lsn: seen.lsn.unwrap_or(node.lsn).0,
                timeline: node.timeline,
                running: node.pg_is_running && !stopped(node.reported),
                up: seen
                    .report
                    .is_some_and(|report| cluster.now.mono_us.saturating_sub(report.mono_us) < patience_us),
                sync_state: node.sync_state,
                connected: true,
                log: Vec::new(),
                waits_for: match node.reported.is_writable() {
                    true => parse_names(&names.unwrap_or_default()),
                    false => Default::default(),
                },
                told: None,
            };
            cluster.keepers.insert(node.id, keeper);
        }
        cluster
    }

    /// Keeper and PostgreSQL of a node are gone at once.
    pub fn kill(&mut self, id: NodeId) {
        if let Some(keeper) = self.keepers.get_mut(&id) {
            keeper.up = false;
            keeper.running = false;
            keeper.sync_state = SyncState::Unknown;
        }
    }

    /// What the leader sees of nodes of our keepers whose processes are gone: connections end, ports are
    /// closed.
    fn witness_the_dead(&mut self) -> Result<Vec<Event>, Rejection> {
        let nodes = &self.state.nodes;
        let ours = |id: &NodeId, keeper: &Keeper| {
            !keeper.up && keeper.generation == Generation::Pgquorum && nodes.contains_key(id)
        };
        let dead: Vec<NodeId> = self.keepers.iter().filter(|(id, keeper)| ours(id, keeper)).map(|(id, _)| *id).collect();
        let mut events = Vec::new();
        for id in dead {
            for what in [Witness::SessionLost, Witness::Refused] {
                events.extend(self.call(Command::Witness { id, what })?.events);
            }
        }
        Ok(events)
    }

    /// Lets time pass until nothing happens any more. `told` hears of every event, with the seconds since
    /// the beginning. Returns the seconds that it took until the last one.
    ///
    /// # Errors
    /// A refusal that a keeper's report met: a bug of the rules, or a group that has no primary at all.
    pub fn play(&mut self, mut told: impl FnMut(f64, &Event)) -> Result<f64, Rejection> {
        let settings = Settings::effective(&self.state, &BTreeMap::new());
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let probe_every = seconds(settings.health_check_period_ms).max(STEP_S);
        // The first probe after the death, and its repetitions.
        let bad_after =
            probe_every + settings.health_check_max_retries as f64 * seconds(settings.health_check_retry_delay_ms);
        let quiet = seconds(settings.node_considered_unhealthy_timeout_ms)
            + seconds(settings.primary_demote_timeout_ms)
            + seconds(settings.startup_grace_period_ms)
            + bad_after;
        let (mut passed, mut last, mut probed) = (0.0, 0.0, 0.0);
        while passed < LONGEST_S && passed - last < quiet {
            self.tick(STEP_S);
            passed += STEP_S;
            let ids: Vec<NodeId> = self.keepers.keys().copied().collect();
            let probing = passed - probed >= probe_every;
            if passed <= STEP_S {
                for event in self.witness_the_dead()? {
                    last = passed;
                    told(passed, &event);
                }
            }
            for id in ids {
                let alive = self.keepers.get(&id).is_some_and(|keeper| keeper.up);
                if probing && self.state.nodes.contains_key(&id) && (alive || passed >= bad_after) {
                    let running = self.keepers.get(&id).is_some_and(|keeper| keeper.running);
                    let health = if running { Health::Good } else { Health::Bad };
                    for event in self.call(Command::HealthChecked { id, health })?.events {
                        last = passed;
                        told(passed, &event);
                    }
                }
                if !alive {
                    continue;
                }
                if let Some(done) = self.report(id)? {
                    for event in done.events {
                        last = passed;
                        told(passed, &event);
                    }
                }
                self.follow(id);
                let left = self.keepers.get(&id).is_some_and(|keeper| keeper.state == crate::NodeState::Dropped);
                if left && !self.state.nodes.contains_key(&id) {
                    self.keepers.remove(&id);
                }
            }
            if probing {
                probed = passed;
            }
        }
        Ok(last)
    }
}
