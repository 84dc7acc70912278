//! Replies of the failover rules as rows.

use failover::{ExtendedGoal, Reply};
use failover::outcome::{AssignedGoal, NodeAddress};

use super::rows_of_null;
use crate::sql::error::SqlError;
use crate::sql::function::{Function, Returns};
use crate::sql::types::Datum;

/// The rows that a writing function's reply stands for.
///
/// # Errors
/// XX000 when the reply is not of the kind that the function promises.
pub fn rows_of_reply(function: &Function, reply: &Reply) -> Result<Vec<Vec<Datum>>, SqlError> {
    let rows = match reply {
        Reply::Void => vec![vec![Datum::Text(String::new())]],
        Reply::Bool(value) => vec![vec![Datum::Bool(*value)]],
        Reply::NodeActive(goal) => vec![assigned(goal)],
        Reply::Registered { goal, name } => {
            let mut row = assigned(goal);
            row.push(Datum::Text(name.clone()));
            vec![row]
        }
        Reply::RegisteredInEpoch { goal, name, epoch } => {
            let mut row = assigned(goal);
            row.extend([Datum::Text(name.clone()), Datum::Int(*epoch)]);
            vec![row]
        }
        Reply::Reported(answer) => vec![reported(answer)],
        Reply::Formation(f) => vec![vec![
            Datum::Text(f.id.clone()),
            Datum::Text(f.kind.clone()),
            Datum::Text(f.dbname.clone()),
            Datum::Bool(f.opt_secondary),
            Datum::Int(f.number_sync_standbys.into()),
        ]],
        Reply::Nodes(nodes) => nodes.iter().map(address).collect(),
    };
    let width = match &function.returns {
        Returns::Scalar(_) => 1,
        Returns::Record(out) | Returns::SetOf(out) => out.len(),
    };
    if rows.iter().any(|row| row.len() != width) {
        return Err(SqlError::new("XX000", format!("unexpected reply to {}", function.name)));
    }
    if rows.is_empty() {
        // A record function that found nothing gives one row of NULLs.
        return Ok(rows_of_null(function));
    }
    Ok(rows)
}

fn assigned(goal: &AssignedGoal) -> Vec<Datum> {
    vec![
        Datum::Int(goal.node),
        Datum::Int(goal.group.into()),
        Datum::State(goal.goal),
        Datum::Int(goal.candidate_priority.into()),
        Datum::Bool(goal.replication_quorum),
    ]
}

fn reported(answer: &ExtendedGoal) -> Vec<Datum> {
    let mut row = assigned(&answer.goal);
    let primary = answer.primary.as_ref();
    row.extend([
        Datum::Int(answer.epoch),
        Datum::Int(answer.sync_version),
        Datum::Text(answer.synchronous_standby_names.clone()),
        Datum::Int(answer.lease_ms.into()),
        Datum::Int(primary.map_or(0, |primary| primary.id)),
        Datum::Text(primary.map_or_else(String::new, |primary| primary.host.clone())),
        Datum::Int(primary.map_or(0, |primary| primary.port.into())),
        Datum::Bool(answer.checkpoint_now),
        Datum::Bool(answer.want_history),
    ]);
    row
}

fn address(node: &NodeAddress) -> Vec<Datum> {
    vec![
        Datum::Int(node.id),
        Datum::Text(node.name.clone()),
        Datum::Text(node.host.clone()),
        Datum::Int(node.port.into()),
    ]
}
