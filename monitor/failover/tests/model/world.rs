//! One state of the model: the monitors' real state, abstract machines, and what is on the wire.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use failover::command::NodeActive;
use failover::state::{Node, SyncSet};
use failover::{Lsn, NodeId, NodeState, State};

/// A machine, and its node's id less one.
pub type Id = usize;

/// The place before the first record that the model writes.
const BASE: u64 = 0x1000;

/// Which mistake is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    None,
    /// A keeper reports its position as sealed and leaves the walreceiver as it is.
    SealSkipped,
    /// A primary whose standbys are away goes on alone, by itself.
    DropsSync,
    /// The monitors count n-k seals as enough.
    CountsOneLess,
    /// The monitors compare positions without timelines.
    RawLsn,
    ForgetsBeginning,
    /// A keeper acts on an answer of an older epoch.
    ForgetsEpochs,
    /// A promoted node has its synchronous_standby_names only when it reports.
    NamesAfterPromotion,
    /// A primary confirms a configuration that its standbys have not reached yet.
    ConfirmsAtOnce,
    /// A primary that is told to go to wait_primary waits for nobody, whatever else it was told.
    ClearsNames,
}

impl Mutant {
    /// The mistakes that the rules make themselves.
    #[cfg(feature = "mutants")]
    pub fn of_the_rules(self) -> Option<failover::mutant::Mutant> {
        match self {
            Mutant::CountsOneLess => Some(failover::mutant::Mutant::CountsNMinusK),
            Mutant::RawLsn => Some(failover::mutant::Mutant::ComparesRawLsn),
            Mutant::ForgetsBeginning => Some(failover::mutant::Mutant::ForgetsTheBeginning),
            _ => None,
        }
    }
}

/// How much may go wrong on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// All of the following together.
    pub total: u8,
    /// A machine loses power: keeper and PostgreSQL are gone; disks stay.
    pub crashes: u8,
    /// A keeper is killed, PostgreSQL runs on.
    pub keepers: u8,
    /// PostgreSQL is killed, its keeper runs on.
    pub postmasters: u8,
    /// An answer is lost on its way.
    pub losses: u8,
    /// A report, or an answer, is overtaken by what happens later.
    pub delays: u8,
    /// A live node is taken for dead.
    pub suspicions: u8,
    /// The monitors' leader changes.
    pub leaders: u8,
    /// A primary stops itself because it hears from nobody.
    pub fences: u8,
    /// The operator asks for a switchover: no fault, but counted.
    pub switchovers: u8,
    /// Writes of clients; not part of `total`.
    pub writes: u8,
}

/// A record in WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    Write(u8),
    /// The beginning of a timeline, by the node that was promoted.
    Switch { timeline: i32, by: u8 },
}

/// What `synchronous_standby_names` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Names {
    /// As a set of machines: bit by bit.
    pub standbys: u8,
    pub required: u8,
}

/// The part of an answer that a keeper remembers beside its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Orders {
    pub version: i64,
    pub names: Names,
    pub primary: Option<Id>,
}

/// The monitors' answer to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    pub goal: NodeState,
    pub epoch: i64,
    pub orders: Orders,
}

/// A node's keeper, PostgreSQL and disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    pub up: bool,
    // On disk.
    pub state: NodeState,
    pub assigned: NodeState,
    pub epoch: i64,
    pub log: Vec<Record>,
    /// Starts as a standby.
    pub recovery: bool,
    /// primary_conninfo.
    pub upstream: Option<Id>,
    pub names: Names,
    /// PostgreSQL ended with a shutdown checkpoint.
    pub clean: bool,
    /// The epoch in which it was promoted last; -1: never.
    pub promoted: i64,
    // In memory.
    pub running: bool,
    pub in_contact: bool,
    pub orders: Option<Orders>,
    pub confirmed: i64,
    pub seal: bool,
    /// Writes whose clients wait, bit by bit.
    pub waiting: u8,
    /// An answer on its way.
    pub pending: Option<Answer>,
}

/// What the leader has witnessed of a node, without clocks: fresh, or long ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    pub heard: bool,
    pub silent: bool,
    pub down: bool,
    pub lsn: Option<Lsn>,
}

#[derive(Clone, Debug)]
pub struct World {
    pub core: State,
    pub seen: Vec<Seen>,
    pub machines: Vec<Machine>,
    /// Reports that are late.
    pub late: Vec<NodeActive>,
    /// Acknowledged writes, bit by bit.
    pub acked: u8,
    pub written: u8,
    pub left: Faults,
    /// What was broken on the way here.
    pub broken: Option<String>,
}

pub fn id_of(node: NodeId) -> Id {
    usize::try_from(node - 1).unwrap()
}

pub fn node_of(id: Id) -> NodeId {
    NodeId::try_from(id).unwrap() + 1
}

impl Machine {
    pub fn timeline(&self) -> i32 {
        let switch = |record: &Record| match record {
            Record::Switch { timeline, .. } => Some(*timeline),
            Record::Write(_) => None,
        };
        self.log.iter().rev().find_map(switch).unwrap_or(1)
    }

    pub fn has(&self, write: u8) -> bool {
        self.log.contains(&Record::Write(write))
    }

    /// Runs, and takes writes from whoever connects.
    pub fn writable(&self) -> bool {
        self.running && !self.recovery
    }
}

/// The first write of a story is large, so that little of it outweighs much of a later timeline.
pub fn size(record: &Record) -> u64 {
    match record {
        Record::Write(0) => 64,
        _ => 8,
    }
}

pub fn lsn_of(log: &[Record]) -> Lsn {
    Lsn(BASE + log.iter().map(size).sum::<u64>())
}

impl World {
    /// PostgreSQL of `standby` is connected to that of `upstream` and fits its history.
    pub fn streams(&self, standby: Id, upstream: Id) -> bool {
        let (to, from) = (&self.machines[standby], &self.machines[upstream]);
        to.running && to.recovery && to.upstream == Some(upstream) && from.running && from.log.starts_with(&to.log)
    }

    /// How many of `names` stream from `primary` and have its first `records` records.
    pub fn holders(&self, primary: Id, names: Names, records: usize) -> usize {
        let holds = |id: &Id| {
            names.standbys & (1 << id) != 0 && self.streams(*id, primary) && self.machines[*id].log.len() >= records
        };
        (0..self.machines.len()).filter(holds).count()
    }

    /// Commits of `primary` that as many standbys have as its names ask for are acknowledged.
    pub fn acknowledge(&mut self, primary: Id) {
        let machine = &self.machines[primary];
        if !machine.writable() {
            return;
        }
        let names = machine.names;
        let mut now = Vec::new();
        for (at, record) in machine.log.iter().enumerate() {
            if let Record::Write(write) = record
                && machine.waiting & (1 << write) != 0
                && self.holders(primary, names, at + 1) >= usize::from(names.required)
            {
                now.push(*write);
            }
        }
        for write in now {
            self.machines[primary].waiting &= !(1 << write);
            self.acked |= 1 << write;
            self.check_acknowledged(primary, write);
        }
    }

    fn check_acknowledged(&mut self, primary: Id, write: u8) {
        let epoch = self.machines[primary].promoted;
        if let Some(newer) = (0..self.machines.len()).find(|id| self.machines[*id].promoted > epoch) {
            self.breaks(format!(
                "node {} acknowledges write {write} although node {} was promoted in a later epoch",
                primary + 1,
                newer + 1
            ));
        }
        self.check_complete(primary);
    }

    /// The newest primary has every write that was acknowledged.
    pub fn check_complete(&mut self, primary: Id) {
        let machine = &self.machines[primary];
        if self.machines.iter().any(|other| other.promoted > machine.promoted) {
            return;
        }
        let lost = (0..8).find(|write| self.acked & (1 << write) != 0 && !machine.has(*write));
        if let Some(write) = lost {
            self.breaks(format!("write {write} was acknowledged, and node {}, the primary, does not have it", primary + 1));
        }
    }

    pub fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Brings what only ever grows back to small numbers that compare alike, and drops what no rule
    /// looks at: without this no two paths would meet.
    pub fn normalise(&mut self) {
        self.core.events.clear();
        self.core.versions.clear();
        self.core.next_event_id = 1;
        self.forget_what_no_rule_compares();
        let (mut epochs, mut versions) = self.numbers();
        for list in [&mut epochs, &mut versions] {
            list.extend([-1, 0]);
            list.sort_unstable();
            list.dedup();
        }
        let dense = |list: &[i64]| list.iter().zip(-1..).all(|(number, rank)| *number == rank);
        if dense(&epochs) && dense(&versions) {
            return;
        }
        let rank = |list: &[i64], number: i64| i64::try_from(list.binary_search(&number).unwrap()).unwrap() - 1;
        self.renumber(&|epoch| rank(&epochs, epoch), &|version| rank(&versions, version));
    }

    /// Differences between states that make none for the rules.
    fn forget_what_no_rule_compares(&mut self) {
        let nobody = lsn_of(&[]);
        let comparing = self.core.nodes.values().any(|row| {
            row.sync_sets.len() > 1 || matches!(row.goal, NodeState::Draining | NodeState::PrepareMaintenance)
        });
        for row in self.core.nodes.values_mut() {
            let seen = &mut self.seen[id_of(row.id)];
            if !comparing && !row.sealed {
                // The next report brings it anew before a rule asks for it.
                seen.lsn = seen.lsn.map(|_| nobody);
            }
            // Only a new leader would look at the stored one.
            let stored = self.left.leaders > 0 && (comparing || row.sealed);
            let lsn = if stored { row.lsn } else { seen.lsn.unwrap_or(nobody) };
            // Which of the configurations that are open has been confirmed?
            let confirmed = row.sync_sets.iter().map(|set| set.version).filter(|version| *version <= row.sync_version);
            let confirmed = confirmed.max().unwrap_or(0);
            // Only a report that comes late would be compared with the newest epoch.
            let epoch = if self.left.delays > 0 || !self.late.is_empty() || row.goal == NodeState::ReportLsn { row.epoch } else { 0 };
            // Where a new primary began is compared.
            let first = row.sync_sets.first().filter(|set| set.standbys != [row.id]).map_or(nobody, |set| set.confirmed);
            if (row.lsn, row.sync_version, row.epoch, first) != (lsn, confirmed, epoch, nobody) {
                let row = Arc::make_mut(row);
                (row.lsn, row.sync_version, row.epoch) = (lsn, confirmed, epoch);
                let id = row.id;
                if let Some(set) = row.sync_sets.first_mut().filter(|set| set.standbys != [id]) {
                    set.confirmed = nobody;
                }
            }
        }
    }

    /// Every epoch, and every version of a synchronous configuration.
    fn numbers(&self) -> (Vec<i64>, Vec<i64>) {
        let (mut epochs, mut versions) = (Vec::new(), Vec::new());
        for group in self.core.groups.values().flat_map(|groups| groups.values()) {
            epochs.push(group.epoch);
            versions.push(group.sync_version);
        }
        for row in self.core.nodes.values() {
            epochs.extend([row.epoch, row.goal_epoch]);
            versions.push(row.sync_version);
            versions.extend(row.sync_sets.iter().map(|set| set.version));
        }
        for machine in &self.machines {
            epochs.extend([machine.epoch, machine.promoted]);
            versions.push(machine.confirmed);
            versions.extend(machine.orders.iter().map(|orders| orders.version));
            epochs.extend(machine.pending.iter().map(|answer| answer.epoch));
            versions.extend(machine.pending.iter().map(|answer| answer.orders.version));
        }
        for extended in self.late.iter().filter_map(|report| report.extended.as_ref()) {
            epochs.push(extended.epoch);
            versions.push(extended.sync_version);
        }
        (epochs, versions)
    }

    fn renumber(&mut self, epoch: &dyn Fn(i64) -> i64, version: &dyn Fn(i64) -> i64) {
        for group in self.core.groups.values_mut().flat_map(|groups| groups.values_mut()) {
            group.epoch = epoch(group.epoch);
            group.sync_version = version(group.sync_version);
        }
        for row in self.core.nodes.values_mut() {
            let row = Arc::make_mut(row);
            (row.epoch, row.goal_epoch) = (epoch(row.epoch), epoch(row.goal_epoch));
            row.sync_version = version(row.sync_version);
            row.sync_sets.iter_mut().for_each(|set| set.version = version(set.version));
        }
        for machine in &mut self.machines {
            (machine.epoch, machine.promoted) = (epoch(machine.epoch), epoch(machine.promoted));
            machine.confirmed = version(machine.confirmed);
            if let Some(orders) = &mut machine.orders {
                orders.version = version(orders.version);
            }
            if let Some(answer) = &mut machine.pending {
                answer.epoch = epoch(answer.epoch);
                answer.orders.version = version(answer.orders.version);
            }
        }
        for extended in self.late.iter_mut().filter_map(|report| report.extended.as_mut()) {
            extended.epoch = epoch(extended.epoch);
            extended.sync_version = version(extended.sync_version);
        }
    }

    /// A fingerprint of everything that decides about the future.
    pub fn fingerprint(&self) -> u128 {
        let mut hasher = Wide::default();
        self.core.groups.values().flat_map(|groups| groups.values()).for_each(|group| {
            (group.epoch, group.sync_version).hash(&mut hasher);
        });
        self.core.nodes.values().for_each(|row| hash_row(row, &mut hasher));
        for fork in &self.core.timeline_history {
            (fork.node, fork.timeline, fork.parent, fork.switchpoint).hash(&mut hasher);
        }
        (&self.seen, &self.machines, self.acked, self.written, self.left).hash(&mut hasher);
        for report in &self.late {
            (report.id, report.state, report.pg_is_running, report.timeline, report.lsn).hash(&mut hasher);
            if let Some(extended) = &report.extended {
                (extended.epoch, extended.sync_version, extended.sealed).hash(&mut hasher);
                (extended.postgres_end as u8, extended.timeline_history.len()).hash(&mut hasher);
            }
        }
        hasher.value()
    }
}

/// Two independent 64-bit hashes at once: with some millions of states, one alone would come close to
/// taking two for the same.
struct Wide(u64, u64);

impl Default for Wide {
    fn default() -> Wide {
        Wide(0x9E37_79B9_7F4A_7C15, 0xD1B5_4A32_D192_ED03)
    }
}

impl Hasher for Wide {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        self.1 = (self.1.rotate_left(23) ^ word).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        self.0 ^= self.0 >> 29;
        self.1 ^= self.1 >> 32;
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Wide {
    fn value(&self) -> u128 {
        u128::from(self.0) << 64 | u128::from(self.1)
    }
}

/// Every column that a rule may read and the model may change. One that is added to the row does not
/// compile here until somebody has thought about it.
fn hash_row(row: &Node, hasher: &mut Wide) {
    let Node {
        formation: _,
        id,
        group: _,
        name: _,
        host: _,
        port: _,
        system_identifier: _,
        goal,
        reported,
        pg_is_running,
        sync_state: _,
        timeline,
        lsn,
        health,
        candidate_priority,
        replication_quorum: _,
        cluster: _,
        region: _,
        generation: _,
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
    } = row;
    (id, *goal as u8, *reported as u8, pg_is_running, timeline, lsn, *health as u8, candidate_priority).hash(hasher);
    (epoch, goal_epoch, sealed, sync_version, *postgres_end as u8).hash(hasher);
    for SyncSet { standbys, required, offered, version, confirmed } in sync_sets {
        (standbys, required, offered, version, confirmed).hash(hasher);
    }
    sync_sets.len().hash(hasher);
}
