//! Fast detection in groups of our keepers: keepers' connections that end, probes at once, deadlines.
//!
//! What is seen here is evidence; the rules weigh it (`failover`, `suspicion.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use failover::command::Witness;
use failover::{Call, Command, NodeId, queries};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use crate::clock;
use crate::health::{self, Verdict};
use crate::monitor::Monitor;

/// How often deadlines are looked for: leases, silences, groups that are failing over.
const PERIOD: Duration = Duration::from_millis(50);

/// How long a node that is suspected gets to answer a probe.
const PROBE_PATIENCE: Duration = Duration::from_millis(700);

/// A keeper that is killed may die a moment before its PostgreSQL: pauses between the probes after its
/// connection ended, in milliseconds.
const AFTER_LOSS_MS: [u64; 6] = [0, 30, 70, 150, 300, 600];

/// Looks after the groups while this replica leads.
pub async fn supervise(monitor: Arc<Monitor>) {
    let mut probes: BTreeMap<NodeId, JoinHandle<()>> = BTreeMap::new();
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if !monitor.leads() {
            continue;
        }
        let attention = {
            let (state, observations) = (monitor.state(), monitor.observations());
            queries::attention(&state, &observations, clock::now())
        };
        probes.retain(|_, probe| !probe.is_finished());
        for id in attention.probe {
            let monitor = monitor.clone();
            probes.entry(id).or_insert_with(|| tokio::spawn(async move {
                let _ = probe_once(&monitor, id).await;
            }));
        }
        for (formation, group) in attention.review {
            tell_rules(&monitor, Command::Review { formation, group }).await;
        }
    }
}

/// The connection of a node's keeper ended, here or at a follower: the leader looks at once whether its
/// PostgreSQL is still there.
pub async fn session_lost(monitor: Arc<Monitor>, id: NodeId) {
    if !monitor.leads() || !monitor.state().nodes.contains_key(&id) {
        return;
    }
    let reported = monitor.observations().of(id).report;
    tell_rules(&monitor, Command::Witness { id, what: Witness::SessionLost }).await;
    for pause in AFTER_LOSS_MS {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // It is back, over another connection.
        if monitor.observations().of(id).report != reported {
            return;
        }
        if probe_once(&monitor, id).await == Verdict::Refused {
            return;
        }
    }
}

async fn probe_once(monitor: &Monitor, id: NodeId) -> Verdict {
    let Some(node) = monitor.state().nodes.get(&id).cloned() else { return Verdict::Answered };
    let Ok(port) = u16::try_from(node.port) else { return Verdict::Answered };
    let verdict = health::look(&node.host, port, PROBE_PATIENCE).await;
    let what = match verdict {
        Verdict::Answered => Witness::Answered,
        Verdict::Refused => Witness::Refused,
        Verdict::NoAnswer => Witness::NoAnswer,
    };
    tell_rules(monitor, Command::Witness { id, what }).await;
    verdict
}

async fn tell_rules(monitor: &Monitor, command: Command) {
    if let Err(error) = monitor.decide_here(Call::from(command)).await {
        debug!("what was seen could not be decided upon: {error:?}");
    }
}
