//! What our monitors say beyond a goal, and what the steps found out for the next report.

use failover::Lsn;
use monitor_client::{Answer, GroupNode};

use crate::postgres::standby::Upstream;

/// The last answer of monitors of ours. Against a stock monitor there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// The synchronous configuration that this node must have in effect as a primary; 0: none.
    pub sync_version: i64,
    pub sync_names: String,
    /// Whom to follow; `None`: nobody is primary now.
    pub primary: Option<Upstream>,
    /// A switchover is coming: a checkpoint now makes the stop short.
    pub checkpoint_now: bool,
}

impl Orders {
    pub fn of(answer: &Answer) -> Orders {
        Orders {
            sync_version: answer.sync_version,
            sync_names: answer.synchronous_standby_names.clone(),
            primary: answer
                .primary
                .as_ref()
                .map(|node| Upstream { id: node.id, host: node.host.clone(), port: node.port }),
            checkpoint_now: answer.checkpoint_now,
        }
    }
}

/// A position that no primary can move any more: of a sealed standby, or of a primary that was stopped
/// in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    pub timeline: u32,
    pub lsn: Lsn,
}

/// Shared between the keeper and the steps.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// The group's other nodes, as last heard.
    pub siblings: Vec<GroupNode>,
    pub orders: Option<Orders>,
    pub seal: Option<Seal>,
    /// The newest synchronous configuration that is in effect and covers everything written before.
    pub confirmed: i64,
    /// The synchronous names that this keeper has seen taken up.
    pub in_effect: Option<String>,
}
