//! Fast detection in groups of our keepers: keepers' connections that end, probes at once, deadlines.
//!
//! What is seen here is evidence; the rules weigh it (`failover`, `suspicion.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use failover::command::Witness;
use failover::{Call, Command, NodeId, queries};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::clock;
use crate::health::{self, Verdict};
use crate::monitor::Monitor;
use crate::sql::backend::{Backend, Role};

/// How often deadlines are looked for while there are any: leases, silences, groups that are failing over.
const PERIOD: Duration = Duration::from_millis(50);

/// How long a node that is suspected gets to answer a probe.
const PROBE_PATIENCE: Duration = Duration::from_millis(700);

/// A keeper that is killed may die a moment before its PostgreSQL: pauses between the probes after its
/// connection ended, in milliseconds.
const AFTER_LOSS_MS: [u64; 6] = [0, 30, 70, 150, 300, 600];

/// The longest time without a look, should one that was due have been missed.
const LONGEST: Duration = Duration::from_secs(1);

/// Looks after the groups while this replica leads: when time may bring something up, and when something
/// changes. Without groups of our keepers, and on followers, nothing wakes it.
pub async fn supervise(monitor: Arc<Monitor>) {
    let mut probes: BTreeMap<NodeId, JoinHandle<()>> = BTreeMap::new();
    let (mut role, mut changes) = (monitor.watch_role(), monitor.watch_state());
    while role.wait_for(|role| *role == Role::Leader).await.is_ok() {
        let looked = Instant::now();
        changes.mark_unchanged();
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
        let calm = attention.calm_us.map(|us| Duration::from_micros(us.unsigned_abs()).clamp(PERIOD, LONGEST));
        tokio::select! {
            () = sleep_until(looked + calm.unwrap_or_default()), if calm.is_some() => {}
            _ = changes.changed() => {}
            _ = role.changed() => {}
            () = monitor.witnessed.notified() => {}
        }
        if looked.elapsed() < PERIOD {
            sleep_until(looked + PERIOD).await;
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
    witness(&monitor, id, Witness::SessionLost).await;
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
    witness(monitor, id, what).await;
    verdict
}

async fn witness(monitor: &Monitor, id: NodeId, what: Witness) {
    tell_rules(monitor, Command::Witness { id, what }).await;
    monitor.witnessed.notify_one();
}

async fn tell_rules(monitor: &Monitor, command: Command) {
    if let Err(error) = monitor.decide_here(Call::from(command)).await {
        debug!("what was seen could not be decided upon: {error:?}");
    }
}
