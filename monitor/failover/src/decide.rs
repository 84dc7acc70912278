//! Decides a call on the leader.

use crate::calls::{Ground, failover, formation, maintenance, node, register, remove, report, setting};
use crate::state::Formation;
use crate::{Call, Command, Decision, Now, Observations, Rejection, Settings, State};

/// Decides one call. Pure: the same arguments give the same decision.
///
/// # Errors
/// A [`Rejection`] when the call is refused; nothing has changed then, not even an observation.
pub fn decide(state: &State, observations: &Observations, call: &Call, now: Now) -> Result<Decision, Rejection> {
    let settings = Settings::effective(state, &call.session_settings);
    let ground = &Ground { state, observations, settings, now };
    match &call.command {
        Command::RegisterNode(call) => register::register(ground, call),
        Command::NodeActive(report) => report::node_active(ground, report),
        Command::RemoveNode { id, force } => remove::by_id(ground, *id, *force),
        Command::RemoveNodeByAddress { host, port, force } => remove::by_address(ground, host, *port, *force),
        Command::PerformFailover { formation, group } => failover::failover(ground, formation, *group),
        Command::PerformPromotion { formation, name } => failover::promotion(ground, formation, name),
        Command::StartMaintenance { id } => maintenance::start(ground, *id),
        Command::StopMaintenance { id } => maintenance::stop(ground, *id),
        Command::SetNodeCandidatePriority { formation, name, priority } => {
            node::candidate_priority(ground, formation, name, *priority)
        }
        Command::SetNodeReplicationQuorum { formation, name, quorum } => {
            node::replication_quorum(ground, formation, name, *quorum)
        }
        Command::SetNodeRegion { formation, name, region } => node::region(ground, formation, name, region),
        Command::UpdateNodeMetadata { id, name, host, port } => {
            node::metadata(ground, *id, name.as_deref(), host.as_deref(), *port)
        }
        Command::SetNodeSystemIdentifier { id, system_identifier } => {
            node::system_identifier(ground, *id, *system_identifier)
        }
        Command::SetGroupSystemIdentifier { group, system_identifier } => {
            node::group_system_identifier(ground, *group, *system_identifier)
        }
        Command::CreateFormation { id, kind, dbname, opt_secondary, number_sync_standbys } => {
            let new = Formation {
                id: id.clone(),
                kind: kind.clone(),
                dbname: dbname.clone(),
                opt_secondary: *opt_secondary,
                number_sync_standbys: *number_sync_standbys,
            };
            formation::create(ground, &new)
        }
        Command::DropFormation { id } => formation::drop(ground, id),
        Command::SetSecondary { formation, enabled } => formation::set_secondary(ground, formation, *enabled),
        Command::SetNumberSyncStandbys { formation, number } => {
            formation::set_number_sync_standbys(ground, formation, *number)
        }
        Command::HealthChecked { id, health } => Ok(report::health_checked(ground, *id, *health)),
        Command::Witness { id, what } => report::witness(ground, *id, *what),
        Command::Review { formation, group } => report::review_group(ground, formation, *group),
        Command::SetDatabaseSetting { name, value } => setting::database(ground, name, value.as_deref()),
        Command::SetSystemSetting { name, value } => setting::system(ground, name, value.as_deref()),
        Command::ResetSystemSettings => Ok(setting::reset_system(ground)),
        Command::ReloadSettings => Ok(setting::reload(ground)),
        Command::ForceNode { id, set } => report::force(ground, *id, set),
        Command::SetClusterVersion { version } => Ok(setting::cluster_version(ground, *version)),
    }
}
