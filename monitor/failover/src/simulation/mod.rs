//! A cluster in memory: the rules on one side, simulated keepers that follow the edges on the other.
//!
//! The tests of the rules tell their stories with it, and `pgquorum simulate` plays on from the state of
//! a running cluster. Nothing of a monitor uses it.

mod live;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::command::{NodeActive, RegisterNode};
use crate::edges::has_edge;
use crate::outcome::Notice;
use crate::state::Generation;
use crate::{
    Extended, ExtendedGoal, UpstreamView,
    Applied, Call, Command, Event, GroupId, Lsn, NodeId, NodeState, Now, Observations, Outcome, Rejection, Reply, State,
    SyncState, WallTime, apply, decide, queries,
};

/// One simulated keeper with its PostgreSQL.
#[derive(Clone, Debug)]
pub struct Keeper {
    pub state: NodeState,
    pub goal: NodeState,
    pub generation: Generation,
    pub formation: String,
    pub group: GroupId,
    pub lsn: u64,
    pub timeline: i32,
    pub running: bool,
    /// Reports and follows goals.
    pub up: bool,
    pub sync_state: SyncState,
    /// Its PostgreSQL reaches the primary's.
    pub connected: bool,
    /// Commits in its WAL.
    pub log: Vec<u64>,
    /// What its synchronous_standby_names says: how many of whom.
    pub waits_for: (usize, Vec<NodeId>),
    /// The monitors' last answer to a keeper of ours.
    pub told: Option<ExtendedGoal>,
}

/// What a call did.
#[derive(Clone, Debug)]
pub struct Done {
    pub reply: Reply,
    pub events: Vec<Event>,
    pub messages: Vec<String>,
    pub notices: Vec<Notice>,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub struct Cluster {
    pub state: State,
    pub observations: Observations,
    pub now: Now,
    pub keepers: BTreeMap<NodeId, Keeper>,
    pub history: Vec<Outcome>,
    /// Commits that were acknowledged synchronously.
    pub acknowledged: Vec<u64>,
    pub next_commit: u64,
    /// Acknowledged commits that a node which began to take writes does not have.
    pub lost: Vec<(NodeId, u64)>,
}

pub fn registration(name: &str) -> RegisterNode {
    let port = 6000 + name.bytes().fold(0, |sum, byte| (sum * 31 + i32::from(byte)) % 10_000);
    RegisterNode {
        formation: "default".into(),
        host: "10.0.0.1".into(),
        port,
        dbname: "postgres".into(),
        name: name.into(),
        system_identifier: 0,
        desired_node_id: -1,
        desired_group: -1,
        initial_state: NodeState::Init,
        kind: "standalone".into(),
        candidate_priority: 50,
        replication_quorum: true,
        cluster: "default".into(),
        region: "default".into(),
        generation: Generation::Stock23,
    }
}

/// PostgreSQL is stopped in these states.
fn stopped(state: NodeState) -> bool {
    use NodeState::*;
    matches!(
        state,
        Draining
            | DemoteTimeout
            | Demoted
            | Maintenance
            | PrepareMaintenance
            | JoinSecondary
            | Dropped
            | Init
            | WaitStandby
    )
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster::new()
    }
}

impl Keeper {
    /// A primary of ours waits for whom it was told to, at once.
    fn take_up_configuration(&mut self) {
        if let Some(told) = self.told.as_ref().filter(|_| self.state.is_writable()) {
            self.waits_for = parse_names(&told.synchronous_standby_names);
        }
    }
}

impl Cluster {
    pub fn new() -> Cluster {
        let now = Now { wall: WallTime(1_700_000_000_000_000), mono_us: 1_000_000_000 };
        Cluster {
            state: State::default(),
            observations: Observations::starting(now),
            now,
            keepers: BTreeMap::new(),
            history: Vec::new(),
            acknowledged: Vec::new(),
            next_commit: 0,
            lost: Vec::new(),
        }
    }

    pub fn tick(&mut self, seconds: f64) {
        let us = (seconds * 1e6) as i64;
        self.now.wall.0 += us;
        self.now.mono_us += us;
    }

    /// A new leader: nothing observed.
    pub fn new_leader(&mut self) {
        self.observations = Observations::starting(self.now);
    }

    pub fn call(&mut self, call: impl Into<Call>) -> Result<Done, Rejection> {
        let call = call.into();
        let decision = decide(&self.state, &self.observations, &call, self.now)?;
        let mut events = Vec::new();
        if !decision.outcome.is_empty() {
            match apply(&mut self.state, &decision.outcome) {
                Applied::Written(written) => events = written.iter().map(|event| (**event).clone()).collect(),
                // Nobody else writes here: a decision that does not fit its own state is a bug of the rules.
                Applied::Conflict => {
                    return Err(crate::reject::reject("XX000", String::from("conflict without concurrency")));
                }
            }
            self.history.push(decision.outcome.clone());
        }
        for (id, seen) in &decision.observed {
            self.observations.nodes.insert(*id, *seen);
        }
        let nodes = &self.state.nodes;
        self.observations.nodes.retain(|id, _| nodes.contains_key(id));
        Ok(Done {
            reply: decision.reply,
            events,
            messages: decision.messages,
            notices: decision.notices,
            outcome: decision.outcome,
        })
    }

    pub fn register(&mut self, call: RegisterNode) -> Result<Done, Rejection> {
        let generation = call.generation;
        let formation = call.formation.clone();
        let initial = call.initial_state;
        let done = self.call(Command::RegisterNode(call))?;
        if let Reply::Registered { goal, .. } | Reply::RegisteredInEpoch { goal, .. } = &done.reply {
            self.keepers.entry(goal.node).or_insert(Keeper {
                state: initial,
                goal: goal.goal,
                generation,
                formation,
                group: goal.group,
                lsn: 0,
                timeline: 1,
                running: !stopped(initial),
                up: true,
                sync_state: SyncState::Unknown,
                connected: true,
                log: Vec::new(),
                waits_for: (0, Vec::new()),
                told: None,
            });
        }
        Ok(done)
    }

    pub fn id(&self, name: &str) -> NodeId {
        self.state
            .nodes
            .values()
            .find(|node| node.name == name)
            .map(|node| node.id)
            .unwrap_or_else(|| name.trim_start_matches('#').parse().unwrap_or(-1))
    }

    pub fn report_of(&self, id: NodeId) -> Option<NodeActive> {
        let keeper = self.keepers.get(&id)?;
        Some(NodeActive {
            formation: keeper.formation.clone(),
            id,
            group: keeper.group,
            state: keeper.state,
            pg_is_running: keeper.running,
            timeline: keeper.timeline,
            lsn: Lsn(keeper.lsn),
            sync_state: keeper.sync_state,
            extended: (keeper.generation == Generation::Pgquorum).then(|| self.extended_report(id, keeper)),
        })
    }

    /// What a keeper of ours says beyond that.
    fn extended_report(&self, id: NodeId, keeper: &Keeper) -> Extended {
        use NodeState::*;
        let told = keeper.told.as_ref();
        let writable = keeper.state.is_writable();
        let primary = self.keepers.iter().find(|(other, other_keeper)| **other != id && other_keeper.state.is_writable());
        Extended {
            epoch: told.map_or(0, |told| told.epoch),
            sync_version: told.filter(|_| writable).map_or(0, |told| told.sync_version),
            sealed: matches!(keeper.state, ReportLsn | Draining | DemoteTimeout | Demoted | PrepareMaintenance),
            upstream: match (keeper.state, primary) {
                (Secondary | Catchingup, Some((_, primary))) if primary.up && keeper.connected => UpstreamView::Streaming,
                (Secondary | Catchingup, _) => UpstreamView::Gone,
                _ => UpstreamView::Unknown,
            },
            ..Extended::default()
        }
    }

    /// One heartbeat: report, take the goal.
    pub fn report(&mut self, id: NodeId) -> Result<Option<Done>, Rejection> {
        self.write(id);
        let Some(report) = self.report_of(id) else { return Ok(None) };
        let result = self.call(Command::NodeActive(report));
        if let Ok(done) = &result {
            self.hear(id, &done.reply);
        }
        result.map(Some)
    }

    /// The keeper hears the answer to its report.
    pub fn hear(&mut self, id: NodeId, reply: &Reply) {
        let Some(keeper) = self.keepers.get_mut(&id) else { return };
        match reply {
            Reply::NodeActive(assigned) => keeper.goal = assigned.goal,
            Reply::Reported(answer) => {
                keeper.goal = answer.goal.goal;
                keeper.told = Some(answer.clone());
                keeper.take_up_configuration();
            }
            _ => {}
        }
    }

    /// The primary that a node would stream from.
    fn upstream(&self, id: NodeId) -> Option<Keeper> {
        let own = self.keepers.get(&id)?;
        self.keepers
            .iter()
            .filter(|(other, keeper)| {
                **other != id
                    && keeper.up
                    && keeper.running
                    && keeper.state.is_writable()
                    // No standby follows a primary whose timeline it has left behind.
                    && (keeper.timeline >= own.timeline || matches!(own.state, NodeState::Demoted | NodeState::Maintenance))
                    && keeper.formation == own.formation
                    && keeper.group == own.group
            })
            .map(|(_, keeper)| keeper)
            .max_by_key(|keeper| (keeper.timeline, keeper.lsn))
            .cloned()
    }

    /// PostgreSQL does some work: primaries write and wait for acknowledgements, standbys stream.
    pub fn write(&mut self, id: NodeId) {
        let upstream = self.upstream(id);
        let Some(keeper) = self.keepers.get_mut(&id) else { return };
        if !keeper.running {
            return;
        }
        if keeper.state.is_writable() {
            keeper.lsn += 0x100;
            self.next_commit += 1;
            let commit = self.next_commit;
            keeper.log.push(commit);
            let primary = keeper.clone();
            let (required, standbys) = primary.waits_for.clone();
            let mut acknowledgements = 0;
            for standby in standbys {
                let Some(standby) = self.keepers.get_mut(&standby) else { continue };
                // One that follows another primary is on that one's timeline.
                let streams = matches!(standby.state, NodeState::Secondary | NodeState::Catchingup)
                    && standby.timeline == primary.timeline;
                if standby.up && standby.running && standby.connected && streams {
                    (standby.lsn, standby.timeline, standby.log) = (primary.lsn, primary.timeline, primary.log.clone());
                    acknowledgements += 1;
                }
            }
            if required > 0 && acknowledgements >= required {
                self.acknowledged.push(commit);
            }
        } else if let (NodeState::Secondary | NodeState::Catchingup, Some(primary), true) =
            (keeper.state, upstream, keeper.connected)
        {
            (keeper.lsn, keeper.timeline, keeper.log) = (primary.lsn, primary.timeline, primary.log);
        }
    }

    /// The keeper runs the transition to its goal, if it knows it. True when it moved.
    pub fn follow(&mut self, id: NodeId) -> bool {
        use NodeState::*;
        let upstream = self.upstream(id);
        let source = self
            .keepers
            .iter()
            .filter(|(other, keeper)| **other != id && keeper.up && keeper.state == ReportLsn)
            .map(|(_, keeper)| keeper.clone())
            .max_by_key(|keeper| (keeper.timeline, keeper.lsn));
        let newest = self.keepers.values().map(|keeper| keeper.timeline).max().unwrap_or(1);
        let names = self
            .keepers
            .get(&id)
            .and_then(|keeper| queries::synchronous_standby_names(&self.state, &keeper.formation, keeper.group).ok());
        let Some(keeper) = self.keepers.get_mut(&id) else { return false };
        if keeper.state == keeper.goal || !has_edge(keeper.generation, keeper.state, keeper.goal) {
            return false;
        }
        let (from, to) = (keeper.state, keeper.goal);
        let standby = !from.belongs_to_primary() && !matches!(from, Demoted | Init | Dropped);
        match to {
            Catchingup | Secondary => match upstream {
                Some(primary) if keeper.connected => {
                    (keeper.lsn, keeper.timeline, keeper.log) = (primary.lsn, primary.timeline, primary.log);
                }
                _ => return false,
            },
            FastForward => match source {
                Some(other) if (other.timeline, other.lsn) >= (keeper.timeline, keeper.lsn) => {
                    (keeper.lsn, keeper.timeline, keeper.log) = (other.lsn, other.timeline, other.log);
                }
                _ => return false,
            },
            StopReplication => keeper.timeline = newest + 1,
            WaitPrimary if from == PreparePromotion => keeper.timeline = newest + 1,
            Single if standby => keeper.timeline = newest + 1,
            Primary => keeper.waits_for = parse_names(&names.unwrap_or_default()),
            _ => {}
        }
        if matches!(to, WaitPrimary | Single) {
            keeper.waits_for = (0, Vec::new());
            if !from.is_writable() {
                let lost = self.acknowledged.iter().filter(|commit| !keeper.log.contains(commit));
                self.lost.extend(lost.map(|commit| (id, *commit)));
            }
        }
        if from == Init && to == Single {
            keeper.lsn = 0x0160_0000;
        }
        keeper.state = to;
        keeper.take_up_configuration();
        keeper.running = !stopped(to);
        true
    }

    /// Every live keeper reports and follows, until nothing moves any more. Returns what happened.
    pub fn settle(&mut self, mut each: impl FnMut(&Cluster, NodeId, &Result<Option<Done>, Rejection>)) -> usize {
        for round in 0..60 {
            let mut moved = false;
            let ids: Vec<NodeId> = self.keepers.keys().copied().collect();
            for id in ids {
                if !self.keepers.get(&id).is_some_and(|keeper| keeper.up) {
                    continue;
                }
                self.tick(0.1);
                let result = self.report(id);
                moved |= result.as_ref().is_ok_and(|done| done.as_ref().is_some_and(|done| !done.events.is_empty()));
                each(self, id, &result);
                moved |= self.follow(id);
                if self.keepers.get(&id).is_some_and(|keeper| keeper.state == NodeState::Dropped)
                    && !self.state.nodes.contains_key(&id)
                {
                    self.keepers.remove(&id);
                }
            }
            if !moved {
                return round;
            }
        }
        60
    }
}

/// `ANY 1 (pgautofailover_standby_2, ...)`
fn parse_names(names: &str) -> (usize, Vec<NodeId>) {
    let Some((count, list)) = names.strip_prefix("ANY ").and_then(|rest| rest.split_once(" (")) else {
        return (0, Vec::new());
    };
    let ids = list.trim_end_matches(')').split(", ").filter_map(|name| name.rsplit('_').next()?.parse().ok());
    (count.parse().unwrap_or(0), ids.collect())
}
