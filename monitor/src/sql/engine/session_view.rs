//! What a query may know of the session that sent it.

use failover::WallTime;

/// The session as `pg_settings`, `pg_stat_activity`, `current_user` and their like show it.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionView {
    pub user: String,
    pub database: String,
    pub application_name: String,
    /// The value of `TimeZone`.
    pub time_zone: String,
    /// This monitor follows another one.
    pub in_recovery: bool,
    pub backend_pid: i32,
    /// The extension release that this session is shown: `2.0` to `2.3`.
    pub extension_version: String,
    /// As in `SHOW server_version`.
    pub server_version: String,
    /// When the session began.
    pub started_at: WallTime,
    /// When this monitor began (`pg_postmaster_start_time()`).
    pub server_started_at: WallTime,
    /// `None`: a Unix socket.
    pub client_addr: Option<String>,
    pub client_port: i32,
    pub server_addr: Option<String>,
    pub server_port: i32,
    /// Every setting that this session can `SHOW`, `search_path` among them.
    pub settings: Vec<SettingView>,
}

/// A row of `pg_settings`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingView {
    pub name: String,
    /// In `unit`: `5000` where `SHOW` prints `5s`.
    pub setting: String,
    /// What `SHOW` and `current_setting()` print; empty: same as `setting`.
    pub shown: String,
    pub unit: Option<String>,
    pub category: String,
    pub short_desc: String,
    pub context: String,
    pub vartype: String,
    pub source: String,
    pub min_val: Option<String>,
    pub max_val: Option<String>,
    pub boot_val: Option<String>,
    pub reset_val: Option<String>,
}
