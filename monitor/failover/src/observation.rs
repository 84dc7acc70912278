//! What the leader has seen itself and does not replicate: LSNs and times.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::extended::{OpenTransactions, UpstreamView};
use crate::values::{Lsn, NodeId, Now, WallTime};

/// A moment, on both clocks of the leader that witnessed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub wall: WallTime,
    /// CLOCK_BOOTTIME microseconds of this leader. May be negative in tests that set times back.
    pub mono_us: i64,
}

impl From<Now> for Stamp {
    fn from(now: Now) -> Stamp {
        Stamp { wall: now.wall, mono_us: now.mono_us }
    }
}

impl Stamp {
    /// The stamp of a wall-clock time that somebody wrote by hand, as seen from `now`: the distance
    /// between the two is measured on the wall clock and carried over to the monotonic one.
    pub fn from_wall(wall: WallTime, now: Now) -> Stamp {
        Stamp { wall, mono_us: now.mono_us.saturating_sub(now.wall.0.saturating_sub(wall.0)) }
    }
}

/// One node, as this leader has witnessed it. `None` means: not since this leader was elected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The newest reported position, once a report carried one.
    pub lsn: Option<Lsn>,
    /// The last call of `node_active`.
    pub report: Option<Stamp>,
    /// The call before that. What the last one tells was looked at later: a keeper looks when it has its answer.
    pub report_before: Option<Stamp>,
    /// The last report that carried an LSN.
    pub wal_report: Option<Stamp>,
    /// The last verdict of the health probe.
    pub health_check: Option<Stamp>,
    /// The last change of the reported state or of the goal.
    pub state_change: Option<Stamp>,
    /// How it sees its upstream, by its last report.
    pub upstream: UpstreamView,
    /// Synchronous standbys with fresh replies, by the primary's last report; negative: unknown.
    pub standbys_streaming: i32,
    /// Clients' open transactions, by the primary's last report.
    pub transactions: Option<OpenTransactions>,
    /// Its keeper's connection ended, here or at another monitor.
    pub session_lost: Option<Stamp>,
    /// A probe found nobody listening on its PostgreSQL's port.
    pub refused: Option<Stamp>,
    /// Since when its keeper has reported that PostgreSQL is down.
    pub down: Option<Stamp>,
    /// When it was last granted a read lease.
    pub lease: Option<Stamp>,
    /// It reported after it had been taken for dead: when that last happened, and how often.
    pub misjudged: Option<(Stamp, u32)>,
}

/// Everything that the present leader has witnessed. A new leader starts with none of it and with
/// `leader_since` set to the moment of its election, which is what silence is measured from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observations {
    /// CLOCK_BOOTTIME microseconds at which this leader's term began.
    pub leader_since_mono_us: i64,
    pub nodes: BTreeMap<NodeId, Observation>,
}

impl Observations {
    /// No observation yet: the view of a leader elected at `now`.
    pub fn starting(now: Now) -> Observations {
        Observations { leader_since_mono_us: now.mono_us, nodes: BTreeMap::new() }
    }

    /// What is known of a node; nothing, if it was never seen.
    pub fn of(&self, node: NodeId) -> Observation {
        self.nodes.get(&node).copied().unwrap_or_default()
    }
}
