//! Small value types: LSN, health, replication sync state, time.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// Node ids are never reused, not even after a drop.
pub type NodeId = i64;
/// Group number inside a formation; group 0 is the only group of a `pgsql` formation.
pub type GroupId = i32;

/// Microseconds since the Unix epoch on the clock of the leader that decided. For display and for
/// the tables' timestamp columns only: no rule ever compares two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WallTime(pub i64);

/// The two times of a decision, both read by the leader when it stamps the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// Wall clock, for rows and events.
    pub wall: WallTime,
    /// Microseconds on the leader's own CLOCK_BOOTTIME: the only clock that rules measure with.
    pub mono_us: i64,
}

/// A WAL position, shown as PostgreSQL shows it (`16/B374D848`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lsn(pub u64);

impl Lsn {
    /// `0/0`: "not known".
    pub const ZERO: Lsn = Lsn(0);
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = ();

    /// Accepts what PostgreSQL's `pg_lsn` input accepts: one to eight hex digits on each side.
    fn from_str(text: &str) -> Result<Lsn, ()> {
        let (high, low) = text.split_once('/').ok_or(())?;
        let part = |digits: &str| {
            let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if plain { u64::from_str_radix(digits, 16).map_err(|_| ()) } else { Err(()) }
        };
        Ok(Lsn(part(high)? << 32 | part(low)?))
    }
}

/// The verdict of the leader's health probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Health {
    /// Not probed yet.
    #[default]
    Unknown,
    Bad,
    Good,
}

impl Health {
    /// The `health` column: -1, 0, 1.
    pub const fn as_i32(self) -> i32 {
        match self {
            Health::Unknown => -1,
            Health::Bad => 0,
            Health::Good => 1,
        }
    }

    /// The inverse of [`Health::as_i32`].
    pub const fn from_i32(value: i32) -> Option<Health> {
        match value {
            -1 => Some(Health::Unknown),
            0 => Some(Health::Bad),
            1 => Some(Health::Good),
            _ => None,
        }
    }

    /// The word in the `state` notification.
    pub const fn word(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Bad => "bad",
            Health::Good => "good",
        }
    }
}

/// `pg_stat_replication.sync_state` as the keeper reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SyncState {
    #[default]
    Unknown,
    Sync,
    Async,
    Quorum,
    Potential,
}

impl SyncState {
    /// Text of the `reportedrepstate` column.
    pub const fn name(self) -> &'static str {
        match self {
            SyncState::Unknown => "unknown",
            SyncState::Sync => "sync",
            SyncState::Async => "async",
            SyncState::Quorum => "quorum",
            SyncState::Potential => "potential",
        }
    }

    /// What `node_active` accepts; the empty string counts as unknown, as upstream stores it.
    pub fn from_name(name: &str) -> Option<SyncState> {
        Some(match name {
            "" | "unknown" => SyncState::Unknown,
            "sync" => SyncState::Sync,
            "async" => SyncState::Async,
            "quorum" => SyncState::Quorum,
            "potential" => SyncState::Potential,
            _ => return None,
        })
    }
}
