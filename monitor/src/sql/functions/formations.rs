//! Functions that write formations.

use failover::Command;

use super::*;
use crate::sql::function::{Handler, Returns};

pub(super) const FORMATION: &[OutColumn] = &[
    out("formation_id", PgType::Text),
    out("kind", PgType::Text),
    out("dbname", PgType::Name),
    out("opt_secondary", PgType::Bool),
    out("number_sync_standbys", PgType::Int4),
];

pub(super) fn entries() -> Vec<Function> {
    vec![
        Function {
            schema: SCHEMA,
            name: "create_formation",
            args: const { &[
                arg("formation_id", PgType::Text),
                arg("kind", PgType::Text),
                arg("dbname", PgType::Name),
                arg("opt_secondary", PgType::Bool),
                arg("number_sync_standbys", PgType::Int4),
            ] },
            returns: Returns::Record(FORMATION),
            strict: true,
            doc: "Creates a formation.",
            handler: Handler::Write(|a| {
                Ok(Command::CreateFormation {
                    id: text(a, 0)?,
                    kind: text(a, 1)?,
                    dbname: text(a, 2)?,
                    opt_secondary: boolean(a, 3)?,
                    number_sync_standbys: int4(a, 4)?,
                })
            }),
        },
        Function {
            schema: SCHEMA,
            name: "drop_formation",
            args: const { &[arg("formation_id", PgType::Text)] },
            returns: Returns::Scalar(PgType::Void),
            strict: true,
            doc: "Drops a formation that has no nodes.",
            handler: Handler::Write(|a| Ok(Command::DropFormation { id: text(a, 0)? })),
        },
        Function {
            schema: SCHEMA,
            name: "enable_secondary",
            args: const { &[arg("formation_id", PgType::Text)] },
            returns: Returns::Scalar(PgType::Bool),
            strict: true,
            doc: "Allows standbys in a formation.",
            handler: Handler::Write(|a| Ok(Command::SetSecondary { formation: text(a, 0)?, enabled: true })),
        },
        Function {
            schema: SCHEMA,
            name: "disable_secondary",
            args: const { &[arg("formation_id", PgType::Text)] },
            returns: Returns::Scalar(PgType::Bool),
            strict: true,
            doc: "Forbids standbys in a formation that has none.",
            handler: Handler::Write(|a| Ok(Command::SetSecondary { formation: text(a, 0)?, enabled: false })),
        },
        Function {
            schema: SCHEMA,
            name: "set_formation_number_sync_standbys",
            args: const { &[arg("formation_id", PgType::Text), arg("number_sync_standbys", PgType::Int4)] },
            returns: Returns::Scalar(PgType::Bool),
            strict: true,
            doc: "Sets how many standbys must acknowledge a transaction.",
            handler: Handler::Write(|a| {
                Ok(Command::SetNumberSyncStandbys { formation: text(a, 0)?, number: int4(a, 1)? })
            }),
        },
    ]
}
