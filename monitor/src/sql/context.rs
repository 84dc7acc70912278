//! What a statement's execution may know of its session, wherever it is executed.

use failover::{Call, Reply, WallTime};
use serde::{Deserialize, Serialize};

use super::backend::{Consistency, ReadView, TransactionId};
use super::engine::{SessionView, zone};
use super::settings::{self, READ_CONSISTENCY, SERVER_VERSION, SessionSettings, Surroundings};

/// A session as the executor sees it. It travels to the leader with a forwarded statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatementContext {
    pub database: String,
    pub settings: SessionSettings,
    pub around: Surroundings,
    pub backend_pid: i32,
    pub client_addr: Option<String>,
    pub client_port: u16,
    pub server_addr: Option<String>,
    pub started_at: WallTime,
    pub server_started_at: WallTime,
    pub transaction: TransactionId,
    /// Writes are only decided, not replicated: COMMIT does that.
    pub in_transaction: bool,
    /// What the transaction has written so far, with the replies that the client was given.
    pub pending: Vec<(Call, Reply)>,
}

impl StatementContext {
    pub fn pending_calls(&self) -> Vec<Call> {
        self.pending.iter().map(|(call, _)| call.clone()).collect()
    }

    /// The consistency that this session asked for.
    pub fn consistency(&self) -> Consistency {
        match self.settings.client_value(READ_CONSISTENCY, &self.around).as_deref() {
            Some("local") => Consistency::Local,
            _ => Consistency::Linearizable,
        }
    }

    /// The zone that its timestamps are shown and read in.
    pub fn time_zone(&self) -> jiff::tz::TimeZone {
        zone::named(self.settings.own("TimeZone").unwrap_or("UTC"))
    }

    /// The extension release that this session is shown.
    pub fn extension_version(&self) -> String {
        self.settings
            .client_value(settings::EXTENSION_VERSION, &self.around)
            .unwrap_or_else(|| self.around.extension_version.clone())
    }

    /// The session as the read tier shows it.
    pub fn view(&self, view: &ReadView) -> SessionView {
        SessionView {
            user: self.around.user.clone(),
            database: self.database.clone(),
            application_name: self.settings.client_value("application_name", &self.around).unwrap_or_default(),
            time_zone: self.settings.client_value("TimeZone", &self.around).unwrap_or_default(),
            in_recovery: self.around.in_recovery,
            backend_pid: self.backend_pid,
            extension_version: self.extension_version(),
            server_version: SERVER_VERSION.to_string(),
            started_at: self.started_at,
            server_started_at: self.server_started_at,
            client_addr: self.client_addr.clone(),
            client_port: self.client_port.into(),
            server_addr: self.server_addr.clone(),
            server_port: self.around.port.into(),
            settings: self.settings.views(&view.state, &self.around),
        }
    }
}
