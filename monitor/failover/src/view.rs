//! The working copy of one group on which a call is decided: durable rows with the leader's
//! observations on top, changed in memory, and compared with the originals in the end.

use alloc::string::String;
use alloc::vec::Vec;

use crate::observation::{Observation, Observations, Stamp};
use crate::outcome::{Change, Decision, NewEvent, Notice, Outcome, Reply, Scope};
use crate::rule::Rule;
use crate::settings::Settings;
use crate::state::{Formation, Generation, Group, Node, State};
use crate::values::{GroupId, NodeId, Now, WallTime};
use crate::{NodeState, edges, facts};

/// One node of the group, as the rules see it.
#[derive(Clone, Debug)]
pub(crate) struct Member<'a> {
    /// The row; LSN and times are the newest known.
    pub row: Node,
    /// What this leader has witnessed.
    pub seen: Observation,
    stored: Option<&'a Node>,
    gone: bool,
    /// It was given a goal that its keeper must have heard: that is so from the epoch of this decision.
    anew: bool,
}

/// The working copy. Everything that a call changes goes through it.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub state: &'a State,
    pub now: Now,
    pub settings: Settings,
    pub leader_since_us: i64,
    pub formation: Formation,
    pub group: GroupId,
    /// Epoch and versions of the group, as this decision leaves them.
    pub group_row: Group,
    members: Vec<Member<'a>>,
    stored_formation: Option<&'a Formation>,
    observed: Vec<NodeId>,
    pub events: Vec<NewEvent>,
    pub messages: Vec<String>,
    pub notices: Vec<Notice>,
    /// Changes beside rows of this group and its formation.
    pub extra: Vec<Change>,
    /// The call read node ids or addresses.
    pub reads_registry: bool,
    /// This decision is about who may write: it has an epoch of its own.
    new_epoch: bool,
}

/// The row with the leader's observations on top.
pub(crate) fn overlay(stored: &Node, seen: &Observation) -> Node {
    let mut row = stored.clone();
    let wall = |stamp: Option<Stamp>, stored: WallTime| stamp.map_or(stored, |stamp| stamp.wall);
    row.lsn = seen.lsn.unwrap_or(row.lsn);
    row.report_time = wall(seen.report, row.report_time);
    row.wal_report_time = wall(seen.wal_report, row.wal_report_time);
    row.health_check_time = wall(seen.health_check, row.health_check_time);
    row.state_change_time = wall(seen.state_change, row.state_change_time);
    row
}

/// Whether the rows differ in more than LSN and times.
fn differs_materially(a: &Node, b: &Node) -> bool {
    let Node {
        formation,
        id,
        group,
        name,
        host,
        port,
        system_identifier,
        goal,
        reported,
        pg_is_running,
        sync_state,
        timeline,
        lsn: _,
        health,
        candidate_priority,
        replication_quorum,
        cluster,
        region,
        generation,
        report_time: _,
        wal_report_time: _,
        health_check_time: _,
        state_change_time: _,
        sync_sets,
        epoch,
        goal_epoch,
        sealed,
        sync_version,
        postgres_end,
    } = a;
    *formation != b.formation
        || *id != b.id
        || *group != b.group
        || *name != b.name
        || *host != b.host
        || *port != b.port
        || *system_identifier != b.system_identifier
        || *goal != b.goal
        || *reported != b.reported
        || *pg_is_running != b.pg_is_running
        || *sync_state != b.sync_state
        || *timeline != b.timeline
        || *health != b.health
        || *candidate_priority != b.candidate_priority
        || *replication_quorum != b.replication_quorum
        || *cluster != b.cluster
        || *region != b.region
        || *generation != b.generation
        || *sync_sets != b.sync_sets
        || *epoch != b.epoch
        || *goal_epoch != b.goal_epoch
        || *sealed != b.sealed
        || *sync_version != b.sync_version
        || *postgres_end != b.postgres_end
}

impl Member<'_> {
    /// Goal and reported state before this call.
    pub fn stored_states(&self) -> (Option<NodeState>, Option<NodeState>) {
        (self.stored.map(|node| node.goal), self.stored.map(|node| node.reported))
    }
}

impl<'a> View<'a> {
    /// The group as it stands. The formation need not exist: its defaults are used then.
    pub fn open(
        state: &'a State,
        observations: &Observations,
        settings: Settings,
        now: Now,
        formation: &str,
        group: GroupId,
    ) -> View<'a> {
        let stored_formation = state.formations.get(formation);
        let members = state
            .nodes
            .values()
            .filter(|node| node.group == group && node.formation == formation)
            .map(|node| {
                let seen = observations.of(node.id);
                Member { row: overlay(node, &seen), seen, stored: Some(node), gone: false, anew: false }
            })
            .collect();
        View {
            state,
            now,
            settings,
            leader_since_us: observations.leader_since_mono_us,
            formation: stored_formation.cloned().unwrap_or_else(|| Formation::new(formation)),
            group,
            group_row: state.group(formation, group),
            members,
            stored_formation,
            observed: Vec::new(),
            events: Vec::new(),
            messages: Vec::new(),
            notices: Vec::new(),
            extra: Vec::new(),
            reads_registry: false,
            new_epoch: false,
        }
    }

    /// A member that is not deleted.
    pub fn member(&self, id: NodeId) -> Option<&Member<'a>> {
        self.members.iter().find(|member| member.row.id == id && !member.gone)
    }

    /// A member's row, for changes; the leader's observation of it is returned with the decision.
    pub fn change(&mut self, id: NodeId) -> Option<&mut Member<'a>> {
        if !self.observed.contains(&id) {
            self.observed.push(id);
        }
        self.members.iter_mut().find(|member| member.row.id == id && !member.gone)
    }

    /// The group: nodes that are not being dropped, by id.
    pub fn list(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|member| !member.gone && member.row.goal != NodeState::Dropped)
    }

    /// The group without one node.
    pub fn others(&self, id: NodeId) -> impl Iterator<Item = &Member<'a>> {
        self.list().filter(move |member| member.row.id != id)
    }

    /// Whether all nodes run our keeper: the group then fails over by quorum intersection. Any
    /// other group takes upstream's path.
    pub fn on_quorum_path(&self) -> bool {
        self.list().next().is_some() && self.list().all(|member| member.row.generation == Generation::Pgquorum)
    }

    /// The ids of the group, for loops that change it.
    pub fn ids(&self) -> Vec<NodeId> {
        self.list().map(|member| member.row.id).collect()
    }

    /// Every node of the group, those being dropped included.
    pub fn count_with_dropped(&self) -> usize {
        self.members.iter().filter(|member| !member.gone).count()
    }

    /// Adds a registered node.
    pub fn insert(&mut self, row: Node) {
        let stamp = Stamp::from(self.now);
        self.observed.push(row.id);
        let seen = Observation { state_change: Some(stamp), ..Observation::default() };
        self.members.push(Member { row, seen, stored: None, gone: false, anew: false });
        self.members.sort_by_key(|member| member.row.id);
    }

    /// Deletes a node's row.
    pub fn delete(&mut self, id: NodeId) {
        if let Some(member) = self.members.iter_mut().find(|member| member.row.id == id) {
            member.gone = true;
            let (node, formation, group) = (node_text(&member.row), member.row.formation.clone(), member.row.group);
            self.messages.push(alloc::format!("Removing {node} from formation \"{formation}\" and group {group}"));
        }
    }

    /// Whether the node's keeper can go to `goal`: from the state that it has reported and, as it
    /// may have got that far without having reported it, from the goal that it has now.
    pub fn keeper_can(&self, id: NodeId, goal: NodeState) -> bool {
        self.member(id).is_some_and(|member| {
            let can = |from| edges::has_edge(member.row.generation, from, goal);
            can(member.row.reported) && can(member.row.goal)
        })
    }

    /// Gives a node a goal and writes the event. A goal that it has already changes nothing; one
    /// that its keeper cannot reach is not given.
    pub fn assign(&mut self, id: NodeId, goal: NodeState, description: &str, rule: Option<&Rule>) -> bool {
        if self.member(id).is_none_or(|member| member.row.goal == goal) {
            return false;
        }
        let reachable = self
            .member(id)
            .is_some_and(|member| edges::has_edge(member.row.generation, member.row.reported, goal));
        if !reachable {
            let Some(row) = self.member(id).map(|member| &member.row) else { return false };
            let text = alloc::format!(
                "Not setting goal state of {} to {goal}: its keeper knows no transition to it from \"{}\"",
                node_text(row),
                row.reported
            );
            self.messages.push(text);
            return false;
        }
        let stamp = Stamp::from(self.now);
        if let Some(member) = self.change(id) {
            let before = member.row.goal;
            let of_ours = member.row.generation == Generation::Pgquorum;
            let keeps_seal = facts::keeps_seal(before, goal);
            member.row.sealed &= keeps_seal || !of_ours;
            member.anew |= of_ours && (!keeps_seal || goal == NodeState::ReportLsn);
            member.row.goal = goal;
            member.row.state_change_time = stamp.wall;
            member.seen.state_change = Some(stamp);
            self.new_epoch |= of_ours && facts::asks_for_epoch(before, goal);
        }
        self.event(id, description, rule);
        true
    }

    /// Writes an event about a node, with its row as it stands.
    pub fn event(&mut self, id: NodeId, description: &str, rule: Option<&Rule>) {
        let Some(row) = self.member(id).map(|member| &member.row) else { return };
        let event = NewEvent {
            time: self.now.wall,
            formation: row.formation.clone(),
            node: row.id,
            group: row.group,
            name: row.name.clone(),
            host: row.host.clone(),
            port: row.port,
            reported: row.reported,
            goal: row.goal,
            sync_state: row.sync_state,
            timeline: row.timeline,
            lsn: row.lsn,
            candidate_priority: row.candidate_priority,
            replication_quorum: row.replication_quorum,
            health: row.health,
            description: String::from(description),
            rule_pos: rule.map(|rule| rule.pos),
            rule_section: rule.map(|rule| String::from(rule.section.name())),
        };
        self.events.push(event);
    }

    /// As [`View::event`], unless the group's last event about the node says the same, durations aside; a
    /// message too.
    pub fn event_once(&mut self, id: NodeId, text: &str) {
        let said = |event: &NewEvent| event.node == id && alike(&event.description, text);
        let of_group = |event: &NewEvent| event.group == self.group && event.formation == self.formation.id;
        let last = self.state.events.iter().rev().map(|event| &event.event).filter(|event| of_group(event)).take(8);
        if self.events.iter().any(said) || last.into_iter().any(said) {
            return;
        }
        self.messages.push(String::from(text));
        self.event(id, text, None);
    }

    /// Closes the working copy: what changed becomes the outcome.
    pub fn finish(self, reply: Reply) -> Decision {
        self.finish_with(|_| reply)
    }

    /// As [`View::finish`], for a reply that depends on what closing decides.
    pub fn finish_with(mut self, reply: impl FnOnce(&View) -> Reply) -> Decision {
        if self.new_epoch {
            self.group_row.epoch = self.group_row.epoch.saturating_add(1);
        }
        let epoch = self.group_row.epoch;
        for member in self.members.iter_mut().filter(|member| member.anew) {
            member.row.goal_epoch = epoch;
        }
        crate::quorum::record(&mut self);
        let reply = reply(&self);
        let mut changes = self.extra;
        if self.stored_formation != Some(&self.formation) && self.stored_formation.is_some() {
            changes.push(Change::PutFormation(self.formation.clone()));
        }
        if self.state.group(&self.formation.id, self.group) != self.group_row {
            let formation = self.formation.id.clone();
            changes.push(Change::PutGroup { formation, group: self.group, row: self.group_row });
        }
        for member in &self.members {
            match member.stored {
                Some(stored) if member.gone => changes.push(Change::DropNode(stored.id)),
                Some(stored) if differs_materially(stored, &member.row) => {
                    changes.push(Change::PutNode(member.row.clone()));
                }
                None if !member.gone => changes.push(Change::PutNode(member.row.clone())),
                _ => {}
            }
        }
        if !changes.is_empty() || !self.events.is_empty() {
            // The LSNs that the decision rests on travel with it.
            for member in &self.members {
                let lsn_moved = member.stored.is_some_and(|stored| {
                    !member.gone && stored.lsn != member.row.lsn && !differs_materially(stored, &member.row)
                });
                if lsn_moved {
                    changes.push(Change::PutNode(member.row.clone()));
                }
            }
        }
        let mut outcome =
            Outcome { decided_on: Vec::new(), changes, events: self.events, decided_at: self.now.wall };
        if !outcome.is_empty() {
            let mut scopes = alloc::vec![
                Scope::Formation(self.formation.id.clone()),
                Scope::Group(self.formation.id.clone(), self.group),
                Scope::Settings,
            ];
            if self.reads_registry {
                scopes.insert(0, Scope::Registry);
            }
            outcome.decided_on = scopes.into_iter().map(|scope| self.state.version_of(scope)).collect();
        }
        let observed = self
            .members
            .iter()
            .filter(|member| !member.gone && self.observed.contains(&member.row.id))
            .map(|member| (member.row.id, member.seen))
            .collect();
        Decision { outcome, reply, observed, messages: self.messages, notices: self.notices }
    }
}

/// The same words, if durations (`5.1 s`) are left out: those of what lasts grow from report to report.
fn alike(one: &str, other: &str) -> bool {
    let number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let (one, other): (Vec<&str>, Vec<&str>) = (one.split(' ').collect(), other.split(' ').collect());
    let seconds = |at: usize| other.get(at + 1).is_some_and(|unit| matches!(unit.trim_end_matches([',', ';', ':']), "s"));
    one.len() == other.len()
        && one.iter().zip(&other).enumerate().all(|(at, (a, b))| a == b || (number(a) && number(b) && seconds(at)))
}

/// A node as every message names it: `node 1 "n1" (10.0.0.1:5432)`.
pub(crate) fn node_text(row: &Node) -> String {
    alloc::format!("node {} \"{}\" ({}:{})", row.id, row.name, row.host, row.port)
}
