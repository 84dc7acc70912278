//! Sends the leader's heartbeats, and says when openraft is to tick.
//!
//! openraft ticks every 13/64 of its own `heartbeat_interval`, on followers too; at rest these ticks are
//! most of what a replica does. Heartbeats are therefore sent from here, and openraft ticks only while a
//! tick could find something: an election timeout that has passed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::config::Config;
use crate::core::Core;
use crate::status::{Role, Status, lease_left};

/// Milliseconds that openraft takes for its heartbeat interval: it demands that this and a tick
/// (13/64 of it) be less than the shortest election timeout.
pub fn openraft_interval_ms(cfg: &Config) -> u64 {
    (cfg.election_timeout_min_ms * 4 / 5).max(cfg.heartbeat_ms)
}

/// Lets openraft tick, or not. All that a tick does then is to look whether to ask for votes. A leader
/// does not, and a follower not before its leader's lease and an election timeout have passed without a
/// word; `leader_seen` ends with the lease, so ticks are back in time for the election.
pub fn tick(core: &Core, status: &Status) {
    core.raft.runtime_config().tick(!status.leader_seen && status.role != Role::Leader);
}

/// Runs for the life of a replica; sleeps without a timer while it does not lead. A read-index round is a
/// heartbeat, too: none follows it before its time. Also says when this leader's lease has run out; that is
/// what the status waits for, and a heartbeat is due before.
pub async fn send(core: Arc<Core>, mut status: watch::Receiver<Status>, mut stop: watch::Receiver<bool>) {
    let period = Duration::from_millis(core.cfg.heartbeat_ms);
    let work = async {
        let (mut sent, mut alarm, mut round) = (None, Alarm::new(), core.barrier.last_round());
        while status.wait_for(|status| status.role == Role::Leader).await.is_ok() {
            let now = Instant::now();
            let last: Option<Instant> = sent.max(*round.borrow_and_update());
            if let Some(due) = last.map(|last| last + period).filter(|due| *due > now) {
                let left = lease_left(&core, Role::Leader);
                tokio::select! {
                    () = alarm.until(if left.is_zero() { due } else { due.min(now + left) }) => {}
                    // A sender that is gone went with the replica.
                    _ = round.changed() => {}
                }
                if lease_left(&core, Role::Leader).is_zero() {
                    core.unheard.notify_one();
                }
                continue;
            }
            sent = Some(now);
            // An error: consensus has stopped, and its status will say so.
            if core.raft.trigger().heartbeat().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}
