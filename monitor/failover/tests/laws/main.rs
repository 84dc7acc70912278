//! Laws that hold whatever happens: random stories of operators, keepers and failures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use failover::command::ForceNode;
use failover::edges::has_edge;
use failover::state::Generation;
use failover::*;
use proptest::prelude::*;
use failover::simulation::{Cluster, registration};
use steps::*;

struct World {
    cluster: Cluster,
    ids: BTreeSet<NodeId>,
    forced: bool,
    /// Something has failed since the group was last at rest.
    disturbed: bool,
}

/// What the checks compare with.
struct Before {
    nodes: BTreeMap<NodeId, Arc<Node>>,
    next_node_id: NodeId,
    group: state::Group,
}

impl World {
    fn before(&self) -> Before {
        let state = &self.cluster.state;
        let group = state.group("default", 0);
        Before { nodes: state.nodes.clone(), next_node_id: state.next_node_id, group }
    }

    fn new() -> World {
        World { cluster: Cluster::new(), ids: BTreeSet::new(), forced: false, disturbed: false }
    }

    fn settled(nodes: usize, keeper: Generation) -> World {
        let mut world = World::new();
        for name in NAMES.iter().take(nodes) {
            let mut call = registration(name);
            call.generation = keeper;
            world.cluster.register(call).unwrap();
            world.cluster.settle(|_, _, _| {});
        }
        world
    }

    fn id(&self, index: usize) -> NodeId {
        self.cluster.id(NAMES[index % NAMES.len()])
    }

    fn call(&mut self, call: impl Into<Call>) {
        let call = call.into();
        let cluster = &self.cluster;
        // The same arguments, the same decision.
        let again = decide(&cluster.state, &cluster.observations, &call, cluster.now);
        let now = decide(&cluster.state, &cluster.observations, &call, cluster.now);
        assert_eq!(now, again);
        let before = self.before();
        let (state, observations) = (self.cluster.state.clone(), self.cluster.observations.clone());
        if self.cluster.call(call.clone()).is_err() {
            assert_eq!(self.cluster.state, state, "{call:?} was refused and changed something");
            assert_eq!(self.cluster.observations, observations, "{call:?} was refused and observed");
        }
        self.check(&before, &call);
    }

    fn report(&mut self, id: NodeId) {
        let before = self.before();
        self.cluster.write(id);
        let Some(report) = self.cluster.report_of(id) else { return };
        let call = Call::from(Command::NodeActive(report.clone()));
        let result = self.cluster.call(call.clone());
        self.check(&before, &call);
        let Ok(done) = result else { return };
        self.cluster.hear(id, &done.reply);
        if done.outcome.is_empty() {
            return;
        }
        // Goals that test mode has forced may contradict each other, two candidates at once for instance.
        let contradictory = self.forced && report.extended.is_some();
        // Reporting again changes nothing more, but for a step that the first report has opened.
        if self.cluster.state.nodes.contains_key(&id) && !contradictory {
            for _ in 0..3 {
                let _ = self.cluster.call(call.clone());
            }
            let still = self.cluster.call(call).unwrap();
            assert!(still.outcome.is_empty(), "{report:?} goes on changing: {:?}", still.outcome);
            self.report_late(report);
        }
    }

    /// A report of an earlier epoch, overtaken by the one before it, changes nothing and sees nothing.
    fn report_late(&mut self, mut report: failover::command::NodeActive) {
        let known = self.cluster.state.nodes[&report.id].epoch;
        let Some(extended) = &mut report.extended else { return };
        extended.epoch = known - 1;
        report.state = NodeState::Primary;
        let before = self.cluster.observations.clone();
        let late = self.cluster.call(Command::NodeActive(report)).unwrap();
        assert!(late.outcome.is_empty(), "{:?}", late.outcome);
        assert_eq!(self.cluster.observations, before);
    }

    fn rounds(&mut self, rounds: u8) {
        for _ in 0..rounds {
            let ids: Vec<NodeId> = self.cluster.keepers.keys().copied().collect();
            for id in ids {
                if self.cluster.keepers.get(&id).is_some_and(|keeper| keeper.up) {
                    self.cluster.tick(0.2);
                    self.report(id);
                    self.cluster.follow(id);
                }
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Register { name, priority, quorum, keeper } => {
                let mut call = registration(NAMES[*name]);
                // A node that was dropped comes back under a new address.
                call.port += 100 * self.ids.len() as i32;
                call.candidate_priority = *priority;
                call.replication_quorum = *quorum;
                call.generation = *keeper;
                let before = self.before();
                let command = Call::from(Command::RegisterNode(call.clone()));
                let done = self.cluster.register(call);
                let reply = done.map(|done| done.reply);
                if let Ok(Reply::Registered { goal, .. } | Reply::RegisteredInEpoch { goal, .. }) = reply {
                    assert!(self.ids.insert(goal.node), "id {} handed out twice", goal.node);
                }
                self.check(&before, &command);
            }
            Step::Report(node) => self.report(self.id(*node)),
            Step::Follow(node) => {
                self.cluster.follow(self.id(*node));
            }
            Step::Rounds(rounds) => self.rounds(*rounds),
            Step::Clock(seconds) => self.cluster.tick(f64::from(*seconds)),
            Step::Leader => self.cluster.new_leader(),
            Step::Silence(node) | Step::Return(node) => {
                let id = self.id(*node);
                if let Some(keeper) = self.cluster.keepers.get_mut(&id) {
                    keeper.up = matches!(step, Step::Return(_));
                }
            }
            Step::PostgresDown(node) => {
                let id = self.id(*node);
                if let Some(keeper) = self.cluster.keepers.get_mut(&id) {
                    keeper.running = false;
                }
            }
            Step::PostgresUp(node) => {
                let id = self.id(*node);
                if let Some(keeper) = self.cluster.keepers.get_mut(&id) {
                    use NodeState::*;
                    keeper.running |= matches!(
                        keeper.state,
                        Single | Primary | WaitPrimary | ApplySettings | Secondary | Catchingup | ReportLsn
                    );
                }
            }
            Step::Health(node, good) => {
                let health = if *good { Health::Good } else { Health::Bad };
                self.call(Command::HealthChecked { id: self.id(*node), health });
            }
            Step::Cut(node, on) => {
                let id = self.id(*node);
                if let Some(keeper) = self.cluster.keepers.get_mut(&id) {
                    keeper.connected = *on;
                }
            }
            Step::Failover { accept_loss } => {
                let mut call = Call::from(Command::PerformFailover { formation: "default".into(), group: 0 });
                if *accept_loss {
                    call.session_settings.insert("pgautofailover.guard_data_loss".into(), "off".into());
                }
                self.call(call);
            }
            Step::Promote(node) => {
                self.call(Command::PerformPromotion { formation: "default".into(), name: NAMES[*node].into() });
            }
            Step::Maintenance(node, true) => self.call(Command::StartMaintenance { id: self.id(*node) }),
            Step::Maintenance(node, false) => self.call(Command::StopMaintenance { id: self.id(*node) }),
            Step::Drop(node, force) => self.call(Command::RemoveNode { id: self.id(*node), force: *force }),
            Step::Priority(node, priority) => self.call(Command::SetNodeCandidatePriority {
                formation: "default".into(),
                name: NAMES[*node].into(),
                priority: *priority,
            }),
            Step::Quorum(node, quorum) => self.call(Command::SetNodeReplicationQuorum {
                formation: "default".into(),
                name: NAMES[*node].into(),
                quorum: *quorum,
            }),
            Step::Number(number) => {
                self.call(Command::SetNumberSyncStandbys { formation: "default".into(), number: *number });
            }
            Step::Force(node, forced) => {
                self.forced = true;
                let set = ForceNode {
                    goal: forced.goal.map(state),
                    reported: forced.reported.map(state),
                    pg_is_running: forced.running,
                    lsn: forced.lsn.map(Lsn),
                    timeline: forced.timeline,
                    ..ForceNode::default()
                };
                self.call(Command::ForceNode { id: self.id(*node), set });
            }
            Step::Garbage(node, reported) => {
                let id = self.id(*node);
                if let Some(keeper) = self.cluster.keepers.get_mut(&id) {
                    self.forced = true;
                    keeper.state = state(*reported);
                    self.report(id);
                }
                self.call(Command::RemoveNode { id: id.wrapping_mul(-77), force: true });
            }
            Step::Claims(node, claims) => {
                self.forced = true;
                self.claim(self.id(*node), claims);
            }
            Step::Witness(node, what) => {
                use failover::command::Witness::*;
                let what = [SessionLost, Refused, NoAnswer, Answered][usize::from(*what)];
                self.call(Command::Witness { id: self.id(*node), what });
            }
            Step::Review => self.call(Command::Review { formation: "default".into(), group: 0 }),
        }
        let keepers = &mut self.cluster.keepers;
        let nodes = &self.cluster.state.nodes;
        keepers.retain(|id, keeper| nodes.contains_key(id) || keeper.state != NodeState::Dropped);
        self.check_calm();
    }

    /// A leader that sleeps as long as it may misses nothing: time alone brings nothing up until then.
    fn check_calm(&self) {
        let look = |after_us: i64| {
            let now = Now { mono_us: self.cluster.now.mono_us + after_us, ..self.cluster.now };
            queries::attention(&self.cluster.state, &self.cluster.observations, now)
        };
        let present = look(0);
        let calm_us = present.calm_us.unwrap_or(3_600_000_000);
        for then in [look(calm_us / 2), look(calm_us)] {
            assert!(then.probe.iter().all(|id| present.probe.contains(id)), "{present:?}, but {then:?}");
            assert!(then.review.iter().all(|group| present.review.contains(group)), "{present:?}, but {then:?}");
        }
    }

    fn claim(&mut self, id: NodeId, claims: &Claims) {
        let (timeline, parent, switchpoint) = claims.fork;
        let report = failover::command::NodeActive {
            formation: "default".into(),
            id,
            group: 0,
            state: state(claims.state),
            pg_is_running: claims.end == 0,
            timeline: claims.timeline,
            lsn: Lsn(claims.lsn),
            sync_state: SyncState::Unknown,
            extended: Some(Extended {
                epoch: claims.epoch,
                sync_version: claims.sync_version,
                sealed: claims.sealed,
                postgres_end: [PostgresEnd::None, PostgresEnd::Clean, PostgresEnd::Crashed][usize::from(claims.end)],
                timeline_history: vec![extended::HistoryLine { timeline, parent, switchpoint: Lsn(switchpoint) }],
                ..Extended::default()
            }),
        };
        self.call(Command::NodeActive(report));
    }

    /// What holds after every call.
    fn check(&mut self, before: &Before, call: &Call) {
        let state = &self.cluster.state;
        for node in state.nodes.values() {
            let old = before.nodes.get(&node.id);
            let test_mode = matches!(call.command, Command::ForceNode { .. });
            if !test_mode && old.is_some_and(|old| old.goal != node.goal) {
                assert!(
                    has_edge(node.generation, node.reported, node.goal),
                    "{:?} {} -> {} has no edge, by {call:?}",
                    node.generation,
                    node.reported,
                    node.goal
                );
            }
        }
        assert!(state.next_node_id >= before.next_node_id);
        let (group, old) = (state.group("default", 0), before.group);
        assert!(group.epoch >= old.epoch && group.sync_version >= old.sync_version, "{old:?} -> {group:?} by {call:?}");
        if self.forced {
            return;
        }
        let alive = || state.nodes.values().filter(|node| node.goal != NodeState::Dropped);
        let writable: Vec<_> = alive().filter(|node| node.goal.is_writable()).map(|node| node.id).collect();
        assert!(writable.len() <= 1, "two writable goals {writable:?} by {call:?}");
        use NodeState::*;
        let promoted: Vec<_> = alive()
            .filter(|node| {
                matches!(node.goal, PreparePromotion | StopReplication | FastForward)
                    || (node.goal == WaitPrimary && matches!(node.reported, PreparePromotion | StopReplication))
            })
            .map(|node| (node.id, node.reported, node.goal))
            .collect();
        assert!(promoted.len() <= 1, "two candidates {promoted:?} by {call:?}");
        // While a candidate takes over, nobody else has a writable goal.
        assert!(
            promoted.is_empty()
                || writable.iter().all(|id| promoted.iter().any(|(promoted, ..)| promoted == id)
                    || state.nodes[id].reported == WaitPrimary
                    || state.nodes[id].reported == Primary
                    || state.nodes[id].reported == ApplySettings),
            "{promoted:?} {writable:?}"
        );
    }

    /// The log says all there is: replaying it gives the same state, and a snapshot restores it.
    fn finish(&self) {
        let mut replayed = State::default();
        for outcome in &self.cluster.history {
            assert!(matches!(apply(&mut replayed, outcome), Applied::Written(_)));
        }
        assert_eq!(replayed, self.cluster.state);
        let snapshot = bincode::serialize(&replayed).unwrap();
        let restored: State = bincode::deserialize(&snapshot).unwrap();
        assert_eq!(restored, replayed);
        let _ = failover::explain(&restored, &self.cluster.observations, 1, self.cluster.now);
        for node in restored.nodes.keys() {
            let _ = failover::explain(&restored, &self.cluster.observations, *node, self.cluster.now);
            let _ = queries::get_other_nodes(&restored, &self.cluster.observations, *node, None);
        }
        let _ = queries::get_primary(&restored, &self.cluster.observations, "default", 0);
        let _ = queries::formation_settings(&restored, &self.cluster.observations, "default");
    }
}

/// `LAWS_TIMES=20` runs that many times as many cases.
fn config(cases: u32) -> ProptestConfig {
    let times = std::env::var("LAWS_TIMES").ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(1);
    let cases = cases.saturating_mul(times);
    ProptestConfig { cases, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(250))]

    #[test]
    fn any_story(nodes in 1..4usize, keeper in generation(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::settled(nodes, keeper);
        world.ids = world.cluster.state.nodes.keys().copied().collect();
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }

    #[test]
    fn any_garbage(keeper in generation(), steps in prop::collection::vec(wild_step(), 1..60)) {
        let mut world = World::settled(3, keeper);
        world.ids = world.cluster.state.nodes.keys().copied().collect();
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }

    #[test]
    fn an_outcome_decided_on_old_state_is_refused(keeper in generation(), steps in prop::collection::vec(step(), 1..20)) {
        let mut world = World::settled(3, keeper);
        world.ids = world.cluster.state.nodes.keys().copied().collect();
        for step in &steps {
            let length = world.cluster.history.len();
            world.step(step);
            for outcome in &world.cluster.history[length..] {
                // The state has moved on: the same outcome does not apply twice.
                let mut copy = world.cluster.state.clone();
                let untouched = copy.clone();
                if outcome.changes.is_empty() {
                    continue;
                }
                prop_assert_eq!(apply(&mut copy, outcome), Applied::Conflict);
                prop_assert_eq!(copy, untouched);
            }
        }
    }
}

/// Failures at any moment, one disturbance at a time, whatever operators do meanwhile.
#[derive(Clone, Debug)]
enum Calm {
    Rounds(u8),
    Clock(u8),
    Switchover,
    Promote(usize),
    Maintenance(usize, bool),
    Number(i32),
    Write(u8),
    Fail(usize, u8),
    /// Two nodes at once.
    FailTwo(usize, usize, u8),
    CutOff(usize),
    Heal,
    Leader,
}

fn calm() -> impl Strategy<Value = Calm> {
    let node = 0..5usize;
    prop_oneof![
        4 => (1..6u8).prop_map(Calm::Rounds),
        1 => (1..10u8).prop_map(Calm::Clock),
        1 => Just(Calm::Switchover),
        1 => node.clone().prop_map(Calm::Promote),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, start)| Calm::Maintenance(node, start)),
        1 => (0..3i32).prop_map(Calm::Number),
        3 => (1..5u8).prop_map(Calm::Write),
        2 => (node.clone(), 0..3u8).prop_map(|(node, how)| Calm::Fail(node, how)),
        2 => (node.clone(), node.clone(), 0..3u8).prop_map(|(a, b, how)| Calm::FailTwo(a, b, how)),
        1 => node.prop_map(Calm::CutOff),
        1 => Just(Calm::Leader),
        1 => Just(Calm::Heal),
    ]
}

impl World {
    /// Everything has come to rest, with a primary and all others its secondaries.
    fn at_rest(&self) -> bool {
        let nodes = || self.cluster.state.nodes.values();
        self.cluster.keepers.values().all(|keeper| keeper.up && keeper.connected)
            && nodes().all(|node| node.goal == node.reported)
            && nodes().all(|node| matches!(node.goal, NodeState::Primary | NodeState::Secondary))
    }

    /// Brings back what was cut or down, and waits.
    fn heal(&mut self) {
        for keeper in self.cluster.keepers.values_mut() {
            keeper.up = true;
            keeper.connected = true;
        }
        let ids: Vec<NodeId> = self.cluster.keepers.keys().copied().collect();
        for id in &ids {
            let _ = self.cluster.call(Command::HealthChecked { id: *id, health: Health::Good });
        }
        for _ in 0..40 {
            if self.at_rest() {
                return;
            }
            self.rounds(2);
            self.cluster.tick(7.0);
        }
    }

    fn calm(&mut self, step: &Calm) {
        self.disturbed &= !self.at_rest();
        match step {
            Calm::Rounds(rounds) => self.rounds(*rounds),
            Calm::Clock(seconds) => self.cluster.tick(f64::from(*seconds)),
            Calm::Switchover => self.step(&Step::Failover { accept_loss: false }),
            Calm::Promote(node) => self.step(&Step::Promote(*node)),
            Calm::Maintenance(node, start) => self.step(&Step::Maintenance(*node, *start)),
            Calm::Number(number) => self.step(&Step::Number(*number)),
            Calm::Write(commits) => {
                let primary = self.cluster.keepers.iter().find(|(_, keeper)| keeper.up && keeper.state.is_writable());
                let primary = primary.map(|(id, _)| *id);
                for _ in 0..*commits {
                    if let Some(id) = primary {
                        self.cluster.write(id);
                    }
                }
            }
            Calm::CutOff(node) => {
                let id = self.id(*node);
                if !self.disturbed
                    && let Some(keeper) = self.cluster.keepers.get_mut(&id)
                {
                    keeper.connected = false;
                    self.disturbed = true;
                }
            }
            Calm::Heal => self.heal(),
            Calm::Leader => self.cluster.new_leader(),
            Calm::Fail(node, how) => self.fail(&[*node], *how),
            Calm::FailTwo(a, b, how) => self.fail(&[*a, *b], *how),
        }
    }

    /// Nodes fail, at once or not, and the monitor finds out.
    fn fail(&mut self, nodes: &[usize], how: u8) {
        if self.disturbed {
            return;
        }
        self.disturbed = true;
        let ids: Vec<NodeId> = nodes.iter().map(|node| self.id(*node)).collect();
        for id in &ids {
            if let Some(keeper) = self.cluster.keepers.get_mut(id) {
                keeper.up = false;
            }
        }
        match how {
            0 => self.rounds(3),
            1 => self.cluster.tick(11.0),
            _ => {}
        }
        self.cluster.tick(21.0);
        for id in ids {
            let _ = self.cluster.call(Command::HealthChecked { id, health: Health::Bad });
        }
        self.rounds(10);
        self.cluster.tick(31.0);
        self.rounds(10);
    }
}

proptest! {
    #![proptest_config(config(150))]

    /// No acknowledged write is lost when one or two nodes fail at any moment, and the group is whole
    /// again once everything is back.
    #[test]
    fn failures_lose_nothing(
        nodes in 2..6usize,
        keeper in prop_oneof![Just(Generation::Stock20), Just(Generation::Stock23)],
        steps in prop::collection::vec(calm(), 1..30),
    ) {
        survive(nodes, keeper, &steps)?;
    }

    /// The same of groups that fail over by quorum.
    #[test]
    fn failures_of_our_groups_lose_nothing(nodes in 2..6usize, steps in prop::collection::vec(calm(), 1..30)) {
        survive(nodes, Generation::Pgquorum, &steps)?;
    }
}

fn survive(nodes: usize, keeper: Generation, steps: &[Calm]) -> Result<(), TestCaseError> {
        let mut world = World::settled(nodes, keeper);
        for step in steps {
            world.calm(step);
            prop_assert!(world.cluster.lost.is_empty(), "{:?}", world.cluster.lost);
        }
        for index in 0..nodes {
            let id = world.id(index);
            let _ = world.cluster.call(Command::StopMaintenance { id });
        }
        world.heal();
        for index in 0..nodes {
            let id = world.id(index);
            let _ = world.cluster.call(Command::StopMaintenance { id });
        }
        world.heal();
        prop_assert!(world.cluster.lost.is_empty(), "{:?}", world.cluster.lost);
        let states: Vec<String> =
            world.cluster.state.nodes.values().map(|node| format!("{} {}/{}", node.name, node.reported, node.goal)).collect();
        prop_assert!(world.at_rest(), "not whole again: {:?}", states);
        world.finish();
        Ok(())
}
