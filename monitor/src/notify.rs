//! Notifications: what listeners on this monitor are told.

use std::sync::Arc;

use failover::NewEvent;
use tokio::sync::broadcast;

use crate::sql::backend::Notification;

/// Messages that a slow listener may be behind before it misses some. Keepers listen anew every
/// second and read the state as well, so a missed message costs a second.
const BACKLOG: usize = 4_096;

/// Hands notifications to every session of this monitor that listens.
#[derive(Clone)]
pub struct Hub {
    sender: broadcast::Sender<Arc<Notification>>,
}

impl Default for Hub {
    fn default() -> Hub {
        Hub { sender: broadcast::channel(BACKLOG).0 }
    }
}

impl Hub {
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Notification>> {
        self.sender.subscribe()
    }

    /// One event: its text on `log`, its facts on `state`, as the stock monitor sends them.
    pub fn event(&self, event: &NewEvent) {
        self.send("log", event.description.clone());
        self.send("state", state_payload(event));
    }

    /// A message that is no event.
    pub fn log(&self, text: &str) {
        self.send("log", text.to_string());
    }

    fn send(&self, channel: &str, payload: String) {
        // An error means that nobody listens.
        let _ = self.sender.send(Arc::new(Notification { channel: channel.to_string(), payload }));
    }
}

/// The `state` payload. The missing space before the health is upstream's, and kept.
pub fn state_payload(event: &NewEvent) -> String {
    format!(
        "{{\"type\": \"state\", \"formation\": {}, \"groupId\": {}, \"nodeId\": {}, \"name\": {}, \"host\": {}, \
         \"port\": {}, \"reportedState\": \"{}\", \"goalState\": \"{}\", \"health\":\"{}\"}}",
        json(&event.formation),
        event.group,
        event.node,
        json(&event.name),
        json(&event.host),
        event.port,
        event.reported,
        event.goal,
        event.health.word()
    )
}

fn json(text: &str) -> String {
    serde_json::Value::String(text.to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use failover::{Health, Lsn, NodeState, SyncState, WallTime};

    #[test]
    fn the_payload_is_the_stock_monitors_byte_for_byte() {
        let event = NewEvent {
            time: WallTime(0),
            formation: "default".into(),
            node: 2,
            group: 0,
            name: "node2".into(),
            host: "127.0.0.1".into(),
            port: 15002,
            reported: NodeState::WaitStandby,
            goal: NodeState::Catchingup,
            sync_state: SyncState::Unknown,
            timeline: 1,
            lsn: Lsn::ZERO,
            candidate_priority: 50,
            replication_quorum: true,
            health: Health::Unknown,
            description: String::new(),
            rule_pos: None,
            rule_section: None,
        };
        assert_eq!(
            state_payload(&event),
            r#"{"type": "state", "formation": "default", "groupId": 0, "nodeId": 2, "name": "node2", "host": "127.0.0.1", "port": 15002, "reportedState": "wait_standby", "goalState": "catchingup", "health":"unknown"}"#
        );
    }
}
