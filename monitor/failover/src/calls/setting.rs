//! Calls about settings, and the answers that change nothing.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Ground;
use crate::outcome::{Change, Decision, Outcome, Rejection, Reply, Scope};
use crate::reject::{self, reject};
use crate::settings;

/// A decision that changes nothing.
pub(crate) fn answer(reply: Reply) -> Decision {
    Decision {
        outcome: Outcome::default(),
        reply,
        observed: Vec::new(),
        messages: Vec::new(),
        notices: Vec::new(),
    }
}

/// As [`answer`], for calls without a result.
pub(crate) fn nothing() -> Decision {
    answer(Reply::Void)
}

fn change(ground: &Ground, change: Change) -> Decision {
    let mut decision = nothing();
    decision.outcome = Outcome {
        decided_on: alloc::vec![ground.state.version_of(Scope::Settings)],
        changes: alloc::vec![change],
        events: Vec::new(),
        decided_at: ground.now.wall,
    };
    decision
}

/// The setting's own spelling of its name.
fn validated(name: &str, value: Option<&str>) -> Result<String, Rejection> {
    let definition = settings::definition(name).ok_or_else(|| {
        reject(reject::UNDEFINED_OBJECT, alloc::format!("unrecognized configuration parameter \"{name}\""))
    })?;
    if let Some(value) = value {
        definition.parse(value).map_err(|text| reject(reject::INVALID_PARAMETER, text))?;
    }
    Ok(String::from(definition.name))
}

/// `ALTER DATABASE ... SET`
pub(crate) fn database(ground: &Ground, name: &str, value: Option<&str>) -> Result<Decision, Rejection> {
    let name = validated(name, value)?;
    Ok(change(ground, Change::SetDatabaseSetting { name, value: value.map(ToString::to_string) }))
}

/// `ALTER SYSTEM SET`
pub(crate) fn system(ground: &Ground, name: &str, value: Option<&str>) -> Result<Decision, Rejection> {
    let name = validated(name, value)?;
    Ok(change(ground, Change::SetSystemSetting { name, value: value.map(ToString::to_string) }))
}

/// `ALTER SYSTEM RESET ALL`
pub(crate) fn reset_system(ground: &Ground) -> Decision {
    change(ground, Change::ResetSystemSettings)
}

/// `pg_reload_conf()`
pub(crate) fn reload(ground: &Ground) -> Decision {
    let pending = ground.state.system_settings != ground.state.system_settings_pending;
    let mut decision = if pending { change(ground, Change::ReloadSettings) } else { nothing() };
    decision.reply = Reply::Bool(true);
    decision
}

/// The version of the replicated formats only ever grows.
pub(crate) fn cluster_version(ground: &Ground, version: u16) -> Decision {
    if version <= ground.state.cluster_version {
        return nothing();
    }
    change(ground, Change::SetClusterVersion(version))
}
