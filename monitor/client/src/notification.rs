//! State changes, as the monitors announce them.

use std::sync::Arc;
use std::time::Duration;

use failover::NodeState;
use serde_json::Value;
use tokio::time::Instant;

use crate::connect::Connector;
use crate::error::CallError;
use crate::session::Session;

/// The payload of channel `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateNotification {
    pub formation: String,
    pub group: i32,
    pub node: i64,
    pub name: String,
    pub host: String,
    pub port: u16,
    pub reported: NodeState,
    pub goal: NodeState,
    /// `unknown`, `bad` or `good`.
    pub health: String,
}

impl StateNotification {
    /// `None` for other kinds of message on the channel and for states of a newer release: both
    /// are passed over, the tables tell the truth anyway.
    pub fn parse(payload: &str) -> Option<StateNotification> {
        let value: Value = serde_json::from_str(payload).ok()?;
        let text = |key: &str| value.get(key)?.as_str().map(str::to_string);
        let number = |key: &str| value.get(key)?.as_i64();
        if value.get("type")?.as_str()? != "state" {
            return None;
        }
        Some(StateNotification {
            formation: text("formation")?,
            group: i32::try_from(number("groupId")?).ok()?,
            node: number("nodeId")?,
            name: text("name")?,
            host: text("host")?,
            port: u16::try_from(number("port")?).ok()?,
            reported: NodeState::from_name(&text("reportedState")?)?,
            goal: NodeState::from_name(&text("goalState")?)?,
            health: text("health").unwrap_or_else(|| "unknown".to_string()),
        })
    }
}

/// What a [`StateStream`] has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    State(StateNotification),
    /// The connection was lost and another one listens now: changes may have been missed, so read
    /// the tables.
    Reconnected,
}

/// LISTENs to state changes, at another monitor when the present one goes away.
pub struct StateStream {
    connector: Arc<Connector>,
    session: Option<Session>,
}

impl StateStream {
    /// Returns once a monitor has confirmed the LISTEN: nothing that happens from now on is missed
    /// silently.
    pub async fn open(connector: Arc<Connector>, deadline: Instant) -> Result<StateStream, CallError> {
        let mut stream = StateStream { connector, session: None };
        stream.reconnect(deadline).await?;
        Ok(stream)
    }

    /// The next change; `None` at the deadline. Fails only when no monitor can be reached until then.
    pub async fn next(&mut self, deadline: Instant) -> Result<Option<Heard>, CallError> {
        loop {
            let Some(session) = &self.session else {
                self.reconnect(deadline).await?;
                return Ok(Some(Heard::Reconnected));
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match session.listened(left).await {
                Ok(None) => return Ok(None),
                Ok(Some(message)) => {
                    if message.channel == "state"
                        && let Some(state) = StateNotification::parse(&message.payload)
                    {
                        return Ok(Some(Heard::State(state)));
                    }
                }
                Err(_) => {
                    self.connector.avoid(session.endpoint());
                    self.session = None;
                }
            }
        }
    }

    /// Leaves the present monitor: it was seen to be silent.
    pub fn leave(&mut self) {
        if let Some(session) = self.session.take() {
            self.connector.avoid(session.endpoint());
        }
    }

    async fn reconnect(&mut self, deadline: Instant) -> Result<(), CallError> {
        loop {
            let session = self.connector.connect(deadline).await?;
            let patience = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(2));
            match session.query("LISTEN \"state\"", patience).await {
                Ok(_) => {
                    self.session = Some(session);
                    return Ok(());
                }
                Err(error) if !error.is_transient() || Instant::now() >= deadline => return Err(error),
                Err(_) => self.connector.avoid(session.endpoint()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stock_payload() {
        let text = r#"{"type": "state", "formation": "default", "groupId": 0, "nodeId": 2, "name": "node2", "host": "127.0.0.1", "port": 15002, "reportedState": "wait_standby", "goalState": "catchingup", "health":"unknown"}"#;
        let n = StateNotification::parse(text).unwrap();
        assert_eq!((n.node, n.goal, n.port), (2, NodeState::Catchingup, 15002));
        assert_eq!(StateNotification::parse(&text.replace("\"state\"", "\"other\"")), None);
        assert_eq!(StateNotification::parse(&text.replace("catchingup", "newstate")), None);
        assert_eq!(StateNotification::parse("not json"), None);
    }
}
