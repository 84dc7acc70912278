//! Functions that keepers call: registration, reports, identity.

use failover::command::{NodeActive, RegisterNode};
use failover::{Command, Generation, SyncState};

use super::*;
use crate::sql::function::{Handler, Returns};

pub(super) const REGISTERED: &[OutColumn] = &[
    out("assigned_node_id", PgType::Int8),
    out("assigned_group_id", PgType::Int4),
    out("assigned_group_state", PgType::ReplicationState),
    out("assigned_candidate_priority", PgType::Int4),
    out("assigned_replication_quorum", PgType::Bool),
    out("assigned_node_name", PgType::Text),
];

pub(super) const ACTIVE: &[OutColumn] = &[
    out("assigned_node_id", PgType::Int8),
    out("assigned_group_id", PgType::Int4),
    out("assigned_group_state", PgType::ReplicationState),
    out("assigned_candidate_priority", PgType::Int4),
    out("assigned_replication_quorum", PgType::Bool),
];

pub(super) const ADDRESS: &[OutColumn] = &[
    out("node_id", PgType::Int8),
    out("node_name", PgType::Text),
    out("node_host", PgType::Text),
    out("node_port", PgType::Int4),
];

const REGISTER_ARGS: &[Arg] = &[
    arg("formation_id", PgType::Text),
    arg("node_host", PgType::Text),
    arg("node_port", PgType::Int4),
    arg("dbname", PgType::Name),
    opt("node_name", PgType::Text, ""),
    opt("sysidentifier", PgType::Int8, "0"),
    opt("desired_node_id", PgType::Int8, "-1"),
    opt("desired_group_id", PgType::Int4, "-1"),
    opt("initial_group_role", PgType::ReplicationState, "init"),
    opt("node_kind", PgType::Text, "standalone"),
    opt("candidate_priority", PgType::Int4, "100"),
    opt("replication_quorum", PgType::Bool, "true"),
    opt("node_cluster", PgType::Text, "default"),
];

/// As 2.3 has it. The region has no default here: a call without it is the 13-argument function,
/// which is how the two generations of keepers are told apart.
pub(super) const REGISTER_ARGS_23: &[Arg] = &[
    arg("formation_id", PgType::Text),
    arg("node_host", PgType::Text),
    arg("node_port", PgType::Int4),
    arg("dbname", PgType::Name),
    opt("node_name", PgType::Text, ""),
    opt("sysidentifier", PgType::Int8, "0"),
    opt("desired_node_id", PgType::Int8, "-1"),
    opt("desired_group_id", PgType::Int4, "-1"),
    opt("initial_group_role", PgType::ReplicationState, "init"),
    opt("node_kind", PgType::Text, "standalone"),
    opt("candidate_priority", PgType::Int4, "100"),
    opt("replication_quorum", PgType::Bool, "true"),
    opt("node_cluster", PgType::Text, "default"),
    arg("node_region", PgType::Text),
];

pub(super) fn register(a: &[Datum]) -> Result<Command, SqlError> {
    Ok(Command::RegisterNode(RegisterNode {
        formation: text(a, 0)?,
        host: text(a, 1)?,
        port: int4(a, 2)?,
        dbname: text(a, 3)?,
        name: text(a, 4)?,
        system_identifier: int8(a, 5)?,
        desired_node_id: int8(a, 6)?,
        desired_group: int4(a, 7)?,
        initial_state: state(a, 8)?,
        kind: text(a, 9)?,
        candidate_priority: int4(a, 10)?,
        replication_quorum: boolean(a, 11)?,
        cluster: text(a, 12)?,
        region: if a.len() > 13 { text(a, 13)? } else { String::from("default") },
        generation: if a.len() > 13 { Generation::Stock23 } else { Generation::Stock20 },
    }))
}

pub(super) fn active(a: &[Datum]) -> Result<Command, SqlError> {
    let sync_state = text(a, 7)?;
    Ok(Command::NodeActive(NodeActive {
        formation: text(a, 0)?,
        id: int8(a, 1)?,
        group: int4(a, 2)?,
        state: state(a, 3)?,
        pg_is_running: boolean(a, 4)?,
        timeline: int4(a, 5)?,
        lsn: lsn(a, 6)?,
        sync_state: SyncState::from_name(&sync_state)
            .ok_or_else(|| SqlError::new("22023", format!("unknown pg_stat_replication.sync_state \"{sync_state}\"")))?,
        extended: None,
    }))
}

pub(super) fn entries() -> Vec<Function> {
    vec![
        Function {
            schema: SCHEMA,
            name: "register_node",
            args: REGISTER_ARGS,
            returns: Returns::Record(REGISTERED),
            strict: true,
            doc: "Registers a node in a formation and answers the state that it shall take. Inside BEGIN ... COMMIT \
                  nothing is visible to others before COMMIT.",
            handler: Handler::Write(register),
        },
        Function {
            schema: SCHEMA,
            name: "register_node",
            args: REGISTER_ARGS_23,
            returns: Returns::Record(REGISTERED),
            strict: true,
            doc: "As above, for keepers of release 2.3, which name the node's region.",
            handler: Handler::Write(register),
        },
        Function {
            schema: SCHEMA,
            name: "node_active",
            args: const { &[
                arg("formation_id", PgType::Text),
                arg("node_id", PgType::Int8),
                arg("group_id", PgType::Int4),
                opt("current_group_role", PgType::ReplicationState, "init"),
                opt("current_pg_is_running", PgType::Bool, "true"),
                opt("current_tli", PgType::Int4, "1"),
                opt("current_lsn", PgType::PgLsn, "0/0"),
                opt("current_rep_state", PgType::Text, ""),
            ] },
            returns: Returns::Record(ACTIVE),
            strict: true,
            doc: "A keeper's report: the state that its node has reached. The answer is the node's goal state. \
                  Repeating a report is harmless.",
            handler: Handler::Write(active),
        },
        Function {
            schema: SCHEMA,
            name: "set_node_system_identifier",
            args: const { &[arg("node_id", PgType::Int8), arg("node_sysidentifier", PgType::Int8)] },
            returns: Returns::Record(ADDRESS),
            strict: true,
            doc: "Records the system identifier of a node's PostgreSQL instance.",
            handler: Handler::Write(|a| {
                Ok(Command::SetNodeSystemIdentifier { id: int8(a, 0)?, system_identifier: int8(a, 1)? })
            }),
        },
        Function {
            schema: SCHEMA,
            name: "set_group_system_identifier",
            args: const { &[arg("group_id", PgType::Int8), arg("node_sysidentifier", PgType::Int8)] },
            returns: Returns::SetOf(ADDRESS),
            strict: true,
            doc: "Records the system identifier of those nodes of a group that have none yet.",
            handler: Handler::Write(|a| {
                Ok(Command::SetGroupSystemIdentifier { group: int8(a, 0)?, system_identifier: int8(a, 1)? })
            }),
        },
        Function {
            schema: SCHEMA,
            name: "update_node_metadata",
            args: const { &[
                arg("node_id", PgType::Int8),
                arg("node_name", PgType::Text),
                arg("node_host", PgType::Text),
                arg("node_port", PgType::Int4),
            ] },
            returns: Returns::Scalar(PgType::Bool),
            strict: false,
            doc: "Changes a node's name, host or port; NULL keeps what is there.",
            handler: Handler::Write(|a| {
                Ok(Command::UpdateNodeMetadata {
                    id: nullable(a, 0, int8)?,
                    name: nullable(a, 1, text)?,
                    host: nullable(a, 2, text)?,
                    port: nullable(a, 3, int4)?,
                })
            }),
        },
    ]
}
