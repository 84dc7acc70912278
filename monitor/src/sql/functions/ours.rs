//! The schema `pgquorum`: the extended twins of the keepers' calls, and what upstream has no word for.

use failover::command::NodeActive;
use failover::extended::{Extended, OpenTransactions, PostgresEnd, UpstreamView, parse_history};
use failover::{Command, queries};

use super::nodes::{active, register, ACTIVE, REGISTERED, REGISTER_ARGS_23};
use super::*;
use crate::sql::function::{Handler, Returns};

/// The schema of what upstream does not have.
const OURS: &str = "pgquorum";

/// As upstream's 2.3, with a default for the region.
const REGISTER_ARGS: &[Arg] = {
    const WIDTH: usize = REGISTER_ARGS_23.len();
    const LAST: Arg = opt("node_region", PgType::Text, "default");
    const fn with_region() -> [Arg; WIDTH] {
        let mut args = [LAST; WIDTH];
        let mut i = 0;
        while i + 1 < WIDTH {
            args[i] = REGISTER_ARGS_23[i];
            i += 1;
        }
        args
    }
    const { &with_region() }
};

const REGISTERED_OURS: &[OutColumn] = const {
    &[
        REGISTERED[0],
        REGISTERED[1],
        REGISTERED[2],
        REGISTERED[3],
        REGISTERED[4],
        REGISTERED[5],
        out("assigned_epoch", PgType::Int8),
    ]
};

const REPORT_ARGS: &[Arg] = &[
    arg("formation_id", PgType::Text),
    arg("node_id", PgType::Int8),
    arg("group_id", PgType::Int4),
    arg("current_group_role", PgType::ReplicationState),
    arg("current_pg_is_running", PgType::Bool),
    arg("current_tli", PgType::Int4),
    arg("current_lsn", PgType::PgLsn),
    arg("current_rep_state", PgType::Text),
    arg("current_epoch", PgType::Int8),
    opt("sync_version", PgType::Int8, "0"),
    opt("sealed", PgType::Bool, "false"),
    opt("upstream_view", PgType::Text, ""),
    opt("postgres_end", PgType::Text, ""),
    opt("timeline_history", PgType::Text, ""),
    opt("standbys_streaming", PgType::Int4, "-1"),
    opt("open_transactions", PgType::Int4, "-1"),
    opt("oldest_transaction_ms", PgType::Int8, "0"),
];

const REPORTED: &[OutColumn] = const {
    &[
        ACTIVE[0],
        ACTIVE[1],
        ACTIVE[2],
        ACTIVE[3],
        ACTIVE[4],
        out("assigned_epoch", PgType::Int8),
        out("sync_version", PgType::Int8),
        out("synchronous_standby_names", PgType::Text),
        out("lease_ms", PgType::Int4),
        out("primary_node_id", PgType::Int8),
        out("primary_host", PgType::Text),
        out("primary_port", PgType::Int4),
        out("checkpoint_now", PgType::Bool),
        out("want_history", PgType::Bool),
    ]
};

const GROUP: &[OutColumn] = &[
    out("formation_id", PgType::Text),
    out("group_id", PgType::Int4),
    out("path", PgType::Text),
    out("epoch", PgType::Int8),
    out("sync_version", PgType::Int8),
    out("configurations", PgType::Text),
];

const NODE: &[OutColumn] = &[
    out("node_id", PgType::Int8),
    out("group_id", PgType::Int4),
    out("generation", PgType::Text),
    out("epoch", PgType::Int8),
    out("sync_version", PgType::Int8),
    out("sealed", PgType::Bool),
    out("postgres_end", PgType::Text),
];

const TRANSACTIONS: &[OutColumn] = &[
    out("node_id", PgType::Int8),
    out("node_name", PgType::Text),
    out("open_transactions", PgType::Int4),
    out("oldest_transaction_ms", PgType::Int8),
    out("reported_ms_ago", PgType::Int8),
];

fn odd(argument: &str, value: &str, expected: &str) -> SqlError {
    SqlError::new("22023", format!("invalid value for {argument}: \"{value}\""))
        .hint(format!("Expected is {expected}."))
}

fn report(a: &[Datum]) -> Result<Command, SqlError> {
    let Command::NodeActive(report) = active(a)? else { return Err(internal(0)) };
    let (upstream, end, history) = (text(a, 11)?, text(a, 12)?, text(a, 13)?);
    let extended = Extended {
        epoch: int8(a, 8)?,
        sync_version: int8(a, 9)?,
        sealed: boolean(a, 10)?,
        upstream: UpstreamView::from_word(&upstream)
            .ok_or_else(|| odd("upstream_view", &upstream, "streaming, gone, silent or nothing"))?,
        postgres_end: PostgresEnd::from_word(&end)
            .ok_or_else(|| odd("postgres_end", &end, "clean, crashed or nothing"))?,
        timeline_history: parse_history(&history)
            .ok_or_else(|| odd("timeline_history", &history, "timeline:parent:lsn, separated by commas"))?,
        standbys_streaming: int4(a, 14)?,
        transactions: match int4(a, 15)? {
            ..0 => None,
            count => Some(OpenTransactions { count, oldest_ms: int8(a, 16)? }),
        },
    };
    Ok(Command::NodeActive(NodeActive { extended: Some(extended), ..report }))
}

fn generation(generation: failover::Generation) -> &'static str {
    match generation {
        failover::Generation::Stock20 => "pg_autoctl 2.0",
        failover::Generation::Stock23 => "pg_autoctl 2.3",
        failover::Generation::Pgquorum => "pgquorum",
    }
}

pub(super) fn entries() -> Vec<Function> {
    vec![
        Function {
            schema: OURS,
            name: "register_node",
            args: REGISTER_ARGS,
            returns: Returns::Record(REGISTERED_OURS),
            strict: true,
            doc: "As `pgautofailover.register_node`, for a node of our own keeper; tells the group's epoch.",
            handler: Handler::Write(|a| match register(a)? {
                Command::RegisterNode(call) => Ok(Command::RegisterNode(failover::command::RegisterNode {
                    generation: failover::Generation::Pgquorum,
                    ..call
                })),
                _ => Err(internal(0)),
            }),
        },
        Function {
            schema: OURS,
            name: "node_active",
            args: REPORT_ARGS,
            returns: Returns::Record(REPORTED),
            strict: true,
            doc: "The report of our own keeper: beyond upstream's, the epoch that it has persisted, the synchronous \
                  configuration that it has confirmed, whether the node is sealed, how it sees its upstream, whether \
                  PostgreSQL has ended for good, the timeline's history, the standbys that stream, and clients' open \
                  transactions (-1: unknown). The answer \
                  carries the group's epoch, the synchronous configuration, the read lease (counted from the sending \
                  of the report) and the node to follow.",
            handler: Handler::Write(report),
        },
        Function {
            schema: OURS,
            name: "group_state",
            args: const { &[opt("formation_id", PgType::Text, "default")] },
            returns: Returns::SetOf(GROUP),
            strict: true,
            doc: "Each group of a formation: the path that its failovers take (`quorum` when every node runs our \
                  keeper, else `upstream`), its epoch, and the synchronous configurations that its primary may have \
                  in effect; `WAL up to ...` before them while nobody but a new primary is sure to have that.",
            handler: Handler::Read(|v, a| {
                let rows = queries::group_state(&v.state, &v.observations, &text(a, 0)?);
                let row = |g: queries::GroupRow| {
                    vec![
                        Datum::Text(g.formation),
                        Datum::Int(g.group.into()),
                        Datum::Text(g.path.to_string()),
                        Datum::Int(g.epoch),
                        Datum::Int(g.sync_version),
                        Datum::Text(g.configurations),
                    ]
                };
                Ok(rows.into_iter().map(row).collect())
            }),
        },
        Function {
            schema: OURS,
            name: "data_loss_statement",
            args: const { &[opt("formation_id", PgType::Text, "default"), opt("group_id", PgType::Int4, "0")] },
            returns: Returns::SetOf(const { &[out("statement", PgType::Text)] }),
            strict: true,
            doc: "What a failover of this group still lacks to be sure that no acknowledged write is lost: the \
                  configurations that are not sealed off, the missing nodes with their last known LSN, and what \
                  `pgquorum perform failover --allow-data-loss` would promote, and risk. No rows: nothing is lacking, \
                  or the group takes upstream's path.",
            handler: Handler::Read(|v, a| {
                let lines =
                    queries::data_loss_statement(&v.state, &v.observations, v.now, &text(a, 0)?, int4(a, 1)?);
                Ok(lines.into_iter().map(|line| vec![Datum::Text(line)]).collect())
            }),
        },
        Function {
            schema: OURS,
            name: "open_transactions",
            args: const { &[opt("formation_id", PgType::Text, "default"), opt("group_id", PgType::Int4, "0")] },
            returns: Returns::SetOf(TRANSACTIONS),
            strict: true,
            doc: "Transactions that clients have open on the primary of a group, and the age of the oldest one, by the \
                  last report of its keeper, which looked at most reported_ms_ago before the answer. No row: there is no primary, its keeper does not tell (a stock one), or \
                  the present leader has not heard of it yet.",
            handler: Handler::Read(|v, a| {
                let rows = queries::open_transactions(&v.state, &v.observations, v.now, &text(a, 0)?, int4(a, 1)?);
                let row = |t: queries::TransactionsRow| {
                    vec![
                        Datum::Int(t.id),
                        Datum::Text(t.name),
                        Datum::Int(t.open.count.into()),
                        Datum::Int(t.open.oldest_ms),
                        Datum::Int(t.reported_ms_ago),
                    ]
                };
                Ok(rows.into_iter().map(row).collect())
            }),
        },
        Function {
            schema: OURS,
            name: "node_state",
            args: const { &[opt("formation_id", PgType::Text, "default")] },
            returns: Returns::SetOf(NODE),
            strict: true,
            doc: "What `current_state` has no column for: the keeper's generation, the epoch that it has persisted, \
                  the synchronous configuration that it has confirmed, whether the node is sealed.",
            handler: Handler::Read(|v, a| {
                let formation = text(a, 0)?;
                let mut nodes = queries::nodes(&v.state, &v.observations);
                nodes.retain(|n| n.formation == formation);
                nodes.sort_by_key(|n| (n.group, n.id));
                let row = |n: failover::Node| {
                    vec![
                        Datum::Int(n.id),
                        Datum::Int(n.group.into()),
                        Datum::Text(generation(n.generation).to_string()),
                        Datum::Int(n.epoch),
                        Datum::Int(n.sync_version),
                        Datum::Bool(n.sealed),
                        Datum::Text(n.postgres_end.word().to_string()),
                    ]
                };
                Ok(nodes.into_iter().map(row).collect())
            }),
        },
    ]
}
