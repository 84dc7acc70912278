//! Which fault when: the same seed gives the same schedule.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::features::Feature;
use crate::net::random::Random;
use crate::{Result, bail};

/// Every kind of fault. Whom it hits is decided when it begins, from the roll of its entry and from
/// who leads and who is primary then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    KillLeader,
    KillMonitor,
    KillPrimary,
    KillServer,
    /// Leader and primary in one instant.
    KillBoth,
    /// kill -9 of the primary's postmaster alone.
    KillPostgres,
    KillKeeper,
    PauseLeader,
    PausePrimary,
    PauseKeeper,
    PauseGuardian,
    /// From the other monitors; nodes and clients still reach it.
    IsolateLeader,
    /// From everybody but the clients.
    IsolatePrimary,
    /// The primary from the monitors alone.
    PrimaryUnwatched,
    /// The primary from its standbys alone.
    PrimaryUnfollowed,
    /// All machines in two halves.
    Halves,
    /// What goes from some machines to some others, and not what comes back.
    OneWay,
    /// Delay, jitter, loss and doubled packets everywhere.
    SlowNetwork,
    /// The power of the primary's machine.
    PowerPrimary,
    /// The power of two monitors.
    PowerMonitors,
    FullDisk,
    HungDisk,
    /// Syncs on a machine fail with EIO, or reads and writes as well, for a while.
    IoErrors,
    /// Everything on a machine's disk fails with EIO, and what was not synced is gone.
    DeadDisk,
    /// The clock of a machine jumps.
    ClockJump,
    /// The clocks of a machine, the monotonic one too, go at half or double speed.
    ClockRate,
    /// No fault: an operator asks for a switchover.
    Switchover,
}

use Kind::*;

/// Without disks or clocks of their own, for any system.
pub const BASIC: [Kind; 13] = [
    KillLeader,
    KillMonitor,
    KillPrimary,
    KillServer,
    KillBoth,
    KillPostgres,
    PauseLeader,
    PausePrimary,
    IsolateLeader,
    IsolatePrimary,
    Halves,
    OneWay,
    Switchover,
];

/// Those of the three-minute run.
pub const SMOKE: [Kind; 9] = [
    KillPrimary,
    IsolateLeader,
    KillKeeper,
    IsolatePrimary,
    PauseLeader,
    KillBoth,
    OneWay,
    PausePrimary,
    Halves,
];

/// Everything.
pub const ALL: [Kind; 27] = [
    KillLeader,
    KillMonitor,
    KillPrimary,
    KillServer,
    KillBoth,
    KillPostgres,
    KillKeeper,
    PauseLeader,
    PausePrimary,
    PauseKeeper,
    PauseGuardian,
    IsolateLeader,
    IsolatePrimary,
    PrimaryUnwatched,
    PrimaryUnfollowed,
    Halves,
    OneWay,
    SlowNetwork,
    PowerPrimary,
    PowerMonitors,
    FullDisk,
    HungDisk,
    IoErrors,
    DeadDisk,
    ClockJump,
    ClockRate,
    Switchover,
];

impl Kind {
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// What the machine must be able to, beyond networks and processes.
    pub fn needs(self) -> Option<Feature> {
        match self {
            PowerPrimary | PowerMonitors | FullDisk | HungDisk | DeadDisk => Some(Feature::Disks),
            ClockJump | ClockRate => Some(Feature::Clocks),
            IoErrors => Some(Feature::Calls),
            _ => None,
        }
    }
}

/// Kinds by name, or one of the lists `basic`, `smoke` and `all`.
pub fn parse(names: &str) -> Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name {
            "basic" => kinds.extend(BASIC),
            "smoke" => kinds.extend(SMOKE),
            "all" => kinds.extend(ALL),
            "none" => {}
            name => match ALL.into_iter().find(|kind| kind.name() == name) {
                Some(kind) => kinds.push(kind),
                None => bail!("no fault {name}: there are {}", ALL.map(Kind::name).join(", ")),
            },
        }
    }
    kinds.dedup();
    Ok(kinds)
}

/// One fault to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Duration,
    pub lasts: Duration,
    pub kind: Kind,
    /// Decides among possible targets.
    pub roll: u64,
}

/// How close faults follow each other, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub gap: (u64, u64),
    pub lasts: (u64, u64),
}

impl Default for Pace {
    fn default() -> Self {
        Self { gap: (4_000, 11_000), lasts: (3_000, 12_000) }
    }
}

/// Faults for a run of `length`, overlapping. All kinds come in turn, in an order that is shuffled for
/// each round.
pub fn random(kinds: &[Kind], length: Duration, seed: u64, pace: Pace) -> Vec<Entry> {
    let mut random = Random::new(seed);
    let mut entries = Vec::new();
    let mut round: Vec<Kind> = Vec::new();
    let mut at = Duration::from_secs(5);
    if kinds.is_empty() {
        return entries;
    }
    loop {
        if round.is_empty() {
            round = kinds.to_vec();
        }
        let next = usize::try_from(random.below(round.len() as u64)).unwrap_or(0);
        let kind = round.swap_remove(next);
        let lasts = Duration::from_millis(random.between(pace.lasts.0, pace.lasts.1));
        if at + lasts > length {
            return entries;
        }
        entries.push(Entry { at, lasts, kind, roll: random.number() });
        at += Duration::from_millis(random.between(pace.gap.0, pace.gap.1));
    }
}

/// Faults one after the other, `lasts` each with `gap` between them: for comparisons.
pub fn in_turn(kinds: &[Kind], times: usize, lasts: Duration, gap: Duration, seed: u64) -> Vec<Entry> {
    let mut random = Random::new(seed);
    let mut at = Duration::from_secs(5);
    let mut entries = Vec::new();
    for _ in 0..times {
        for kind in kinds {
            entries.push(Entry { at, lasts, kind: *kind, roll: random.number() });
            at += lasts + gap;
        }
    }
    entries
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_schedule_and_all_kinds_come() {
        let minutes = Duration::from_secs(600);
        let one = random(&ALL, minutes, 5, Pace::default());
        assert_eq!(one, random(&ALL, minutes, 5, Pace::default()));
        assert_ne!(one, random(&ALL, minutes, 6, Pace::default()));
        assert!(ALL.iter().all(|kind| one.iter().any(|entry| entry.kind == *kind)));
        assert!(one.iter().all(|entry| entry.at + entry.lasts <= minutes));
        assert!(one.windows(2).any(|pair| pair[0].at + pair[0].lasts > pair[1].at), "nothing overlaps");
    }

    #[test]
    fn names_are_understood_and_wrong_ones_told() {
        assert_eq!(parse("kill-leader,power-monitors").unwrap(), [KillLeader, PowerMonitors]);
        assert_eq!(parse("smoke").unwrap(), SMOKE);
        assert!(parse("kill-leaders").is_err());
    }
}
