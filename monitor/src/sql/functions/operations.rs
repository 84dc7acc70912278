//! Functions that operators call on nodes and groups.

use failover::Command;

use super::*;
use crate::sql::function::{Handler, Returns};

const GROUP_ARGS: &[Arg] = &[opt("formation_id", PgType::Text, "default"), opt("group_id", PgType::Int4, "0")];

pub(super) fn entries() -> Vec<Function> {
    vec![
        Function {
            schema: SCHEMA,
            name: "remove_node",
            args: const { &[arg("node_id", PgType::Int8), opt("force", PgType::Bool, "false")] },
            returns: Returns::Scalar(PgType::Bool),
            strict: true,
            doc: "Removes a node: it is assigned `dropped` and its row goes away once it has reported that, or at \
                  once with `force`.",
            handler: Handler::Write(|a| Ok(Command::RemoveNode { id: int8(a, 0)?, force: boolean(a, 1)? })),
        },
        Function {
            schema: SCHEMA,
            name: "remove_node",
            args: const { &[
                arg("node_host", PgType::Text),
                opt("node_port", PgType::Int4, "5432"),
                opt("force", PgType::Bool, "false"),
            ] },
            returns: Returns::Scalar(PgType::Bool),
            strict: true,
            doc: "As above, by address.",
            handler: Handler::Write(|a| {
                Ok(Command::RemoveNodeByAddress { host: text(a, 0)?, port: int4(a, 1)?, force: boolean(a, 2)? })
            }),
        },
        Function {
            schema: SCHEMA,
            name: "perform_failover",
            args: GROUP_ARGS,
            returns: Returns::Scalar(PgType::Void),
            strict: true,
            doc: "Fails over a group that is in good order: its primary is drained and the best standby promoted.",
            handler: Handler::Write(|a| Ok(Command::PerformFailover { formation: text(a, 0)?, group: int4(a, 1)? })),
        },
        Function {
            schema: SCHEMA,
            name: "perform_promotion",
            args: const { &[arg("formation_id", PgType::Text), arg("node_name", PgType::Text)] },
            returns: Returns::Scalar(PgType::Bool),
            strict: true,
            doc: "Fails over to the named node. False, with a notice, when it is the primary already.",
            handler: Handler::Write(|a| Ok(Command::PerformPromotion { formation: text(a, 0)?, name: text(a, 1)? })),
        },
        Function {
            schema: SCHEMA,
            name: "start_maintenance",
            args: const { &[arg("node_id", PgType::Int8)] },
            returns: Returns::Scalar(PgType::Bool),
            strict: true,
            doc: "Takes a node out of service; a primary is failed over first.",
            handler: Handler::Write(|a| Ok(Command::StartMaintenance { id: int8(a, 0)? })),
        },
        Function {
            schema: SCHEMA,
            name: "stop_maintenance",
            args: const { &[arg("node_id", PgType::Int8)] },
            returns: Returns::Scalar(PgType::Bool),
            strict: true,
            doc: "Takes a node back into service.",
            handler: Handler::Write(|a| Ok(Command::StopMaintenance { id: int8(a, 0)? })),
        },
        Function {
            schema: SCHEMA,
            name: "set_node_candidate_priority",
            args: const { &[
                arg("formation_id", PgType::Text),
                arg("node_name", PgType::Text),
                arg("candidate_priority", PgType::Int4),
            ] },
            returns: Returns::Scalar(PgType::Bool),
            strict: true,
            doc: "Sets a node's candidate priority, 0 (never promoted) to 100.",
            handler: Handler::Write(|a| {
                Ok(Command::SetNodeCandidatePriority { formation: text(a, 0)?, name: text(a, 1)?, priority: int4(a, 2)? })
            }),
        },
        Function {
            schema: SCHEMA,
            name: "set_node_replication_quorum",
            args: const { &[
                arg("formation_id", PgType::Text),
                arg("node_name", PgType::Text),
                arg("replication_quorum", PgType::Bool),
            ] },
            returns: Returns::Scalar(PgType::Bool),
            strict: true,
            doc: "Sets whether a node takes part in the replication quorum.",
            handler: Handler::Write(|a| {
                Ok(Command::SetNodeReplicationQuorum { formation: text(a, 0)?, name: text(a, 1)?, quorum: boolean(a, 2)? })
            }),
        },
        Function {
            schema: SCHEMA,
            name: "set_node_region",
            args: const { &[
                arg("formation_id", PgType::Text),
                arg("node_name", PgType::Text),
                arg("region", PgType::Text),
            ] },
            returns: Returns::Scalar(PgType::Bool),
            strict: true,
            doc: "Sets the label that says where a node is. Elections do not look at it.",
            handler: Handler::Write(|a| {
                Ok(Command::SetNodeRegion { formation: text(a, 0)?, name: text(a, 1)?, region: text(a, 2)? })
            }),
        },
        Function {
            schema: SCHEMA,
            name: crate::sql::test_mode::SET_NODE_HEALTH,
            args: const {
                &[
                    arg("node_id", PgType::Int8),
                    opt("health", PgType::Int4, "NULL"),
                    opt("report_time_ago", PgType::Interval, "NULL"),
                    opt("state_change_time_ago", PgType::Interval, "NULL"),
                    opt("health_check_time_ago", PgType::Interval, "NULL"),
                ]
            },
            returns: Returns::Scalar(PgType::Void),
            strict: false,
            doc: "Test mode only: sets a node's health and puts its times back.",
            // The executor builds the command itself: it needs the time.
            handler: Handler::Write(|_| Err(SqlError::new("42501", "permission denied"))),
        },
    ]
}

/// Functions of `pg_catalog` that write; they are no part of the API.
pub(super) fn builtins() -> Vec<Function> {
    vec![Function {
        schema: "pg_catalog",
        name: "pg_reload_conf",
        args: const { &[] },
        returns: Returns::Scalar(PgType::Bool),
        strict: true,
        doc: "Takes up what ALTER SYSTEM has set.",
        handler: Handler::Write(|_| Ok(Command::ReloadSettings)),
    }]
}
