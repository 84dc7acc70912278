//! Linearizability of one register, by just-in-time linearization (Lowe, "Testing for
//! linearizability", 2017).
//!
//! The history is walked once. A configuration is a value of the register and the set of those open
//! operations that have taken effect already. Operations are applied only when one of them must have
//! been: at its `ok`. Of configurations that differ in operations with unknown outcome only, those
//! that have used up more of them than another are dropped: whatever they can do, the other can.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::seconds;

/// An operation on a register. Values are unique numbers, `None` is "no value yet".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Read(Option<i64>),
    Write(i64),
    /// Compared with the first, and replaced by the second if equal; with the answer.
    Cas(i64, i64, bool),
}

#[derive(Clone, Debug)]
pub struct RegisterOp {
    pub process: u32,
    pub action: Action,
    /// Nanoseconds.
    pub start: u64,
    /// `None`: the outcome is unknown, it may take effect at any time after `start`.
    pub end: Option<u64>,
}

/// Bounds of one check.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    pub time: Duration,
    /// Configurations held at once; each takes about 50 bytes.
    pub configurations: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { time: Duration::from_secs(60), configurations: 2_000_000 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linear {
    Yes,
    /// The operation that fits nowhere, and what was open beside it.
    No(String),
    Unknown(String),
}

/// Open operations have one of so many slots each.
const SLOTS: usize = 128;

/// A configuration without its operations of unknown outcome.
type Known = (Option<i64>, u128);
/// All configurations: for each known part, the sets of unknown operations used, none holding another.
type Configurations = HashMap<Known, Vec<u128>>;

struct Walk<'a> {
    ops: &'a [RegisterOp],
    slots: [Option<usize>; SLOTS],
    /// Slots of operations whose outcome is unknown.
    unknown: u128,
    configurations: Configurations,
    /// None is never.
    deadline: Option<Instant>,
    caps: Caps,
}

/// Checks one register that held `initial` before the first operation. Failed operations and reads
/// without an answer do not belong into `ops`.
pub fn check(initial: Option<i64>, ops: &[RegisterOp], caps: Caps) -> Linear {
    let mut walk = Walk {
        ops,
        slots: [None; SLOTS],
        unknown: 0,
        configurations: HashMap::from([((initial, 0), vec![0])]),
        deadline: Instant::now().checked_add(caps.time),
        caps,
    };
    // (time, is an end, operation): at one instant operations begin before others end.
    let mut steps: Vec<(u64, bool, usize)> = Vec::with_capacity(ops.len() * 2);
    for (i, op) in ops.iter().enumerate() {
        steps.push((op.start, false, i));
        steps.extend(op.end.map(|end| (end, true, i)));
    }
    steps.sort_unstable();
    for (_, end, i) in steps {
        let outcome = if end { walk.end(i) } else { walk.begin(i) };
        if let Some(verdict) = outcome {
            return verdict;
        }
    }
    Linear::Yes
}

fn bit(slot: usize) -> u128 {
    1 << slot
}

pub(super) fn apply(state: Option<i64>, action: Action) -> Option<Option<i64>> {
    match action {
        Action::Read(value) => (value == state).then_some(state),
        Action::Write(value) => Some(Some(value)),
        Action::Cas(from, to, true) => (state == Some(from)).then_some(Some(to)),
        Action::Cas(from, _, false) => (state != Some(from)).then_some(state),
    }
}

/// Adds a set of used unknown operations unless one that used fewer is there. True when it is new.
fn insert(configurations: &mut Configurations, known: Known, used: u128) -> bool {
    let sets = configurations.entry(known).or_default();
    if sets.iter().any(|set| set & !used == 0) {
        return false;
    }
    sets.retain(|set| used & !set != 0);
    sets.push(used);
    true
}

impl Walk<'_> {
    fn begin(&mut self, i: usize) -> Option<Linear> {
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            return Some(Linear::Unknown(format!("more than {SLOTS} operations are open at once")));
        };
        if let Some(free) = self.slots.get_mut(slot) {
            *free = Some(i);
        }
        if self.ops.get(i).is_some_and(|op| op.end.is_none()) {
            self.unknown |= bit(slot);
        }
        None
    }

    /// Keeps the configurations in which operation `i` has taken effect, applying others first where
    /// that is needed.
    fn end(&mut self, i: usize) -> Option<Linear> {
        let slot = self.slots.iter().position(|s| *s == Some(i))?;
        let mut done = Configurations::new();
        let mut seen: Configurations = HashMap::new();
        let mut todo: Vec<(Known, u128)> = Vec::new();
        for (known, sets) in std::mem::take(&mut self.configurations) {
            for used in sets {
                if known.1 & bit(slot) != 0 {
                    insert(&mut done, (known.0, known.1 & !bit(slot)), used);
                } else if insert(&mut seen, known, used) {
                    todo.push((known, used));
                }
            }
        }
        let mut before: HashSet<Option<i64>> = HashSet::new();
        let mut count = todo.len();
        while let Some(((state, applied), used)) = todo.pop() {
            before.insert(state);
            for (at, open) in self.slots.iter().enumerate() {
                let Some(op) = open.and_then(|o| self.ops.get(o)) else {
                    continue;
                };
                if (applied | used) & bit(at) != 0 {
                    continue;
                }
                let Some(next) = apply(state, op.action) else {
                    continue;
                };
                let used = if self.unknown & bit(at) != 0 { used | bit(at) } else { used };
                if at == slot {
                    insert(&mut done, (next, applied), used);
                    continue;
                }
                let applied = if self.unknown & bit(at) != 0 { applied } else { applied | bit(at) };
                if insert(&mut seen, (next, applied), used) {
                    todo.push(((next, applied), used));
                    count += 1;
                }
            }
            if count > self.caps.configurations {
                return Some(Linear::Unknown(format!("more than {count} configurations")));
            }
            if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Some(Linear::Unknown(format!("not within {} s", self.caps.time.as_secs_f64())));
            }
        }
        if done.is_empty() {
            return Some(Linear::No(self.explain(i, &before)));
        }
        self.configurations = done;
        if let Some(free) = self.slots.get_mut(slot) {
            *free = None;
        }
        None
    }

    fn explain(&self, i: usize, before: &HashSet<Option<i64>>) -> String {
        let tell = |op: &RegisterOp| {
            let end = op.end.unwrap_or(u64::MAX);
            format!("process {} {:?} from {} to {}", op.process, op.action, seconds(op.start), seconds(end))
        };
        let mut open: Vec<String> = self
            .slots
            .iter()
            .flatten()
            .filter(|o| **o != i)
            .filter_map(|o| self.ops.get(*o))
            .map(tell)
            .collect();
        open.truncate(12);
        let mut states: Vec<String> =
            before.iter().map(|s| s.map_or("none".to_owned(), |v| v.to_string())).collect();
        states.sort_unstable();
        states.truncate(12);
        let what = self.ops.get(i).map(tell).unwrap_or_default();
        format!("{what} fits nowhere: the value could be {}; open: [{}]", states.join(", "), open.join("; "))
    }
}

#[cfg(test)]
#[expect(clippy::panic, clippy::unwrap_used, reason = "tests")]
#[path = "linear_tests.rs"]
mod tests;
