//! The monitor's own relations.

use super::{ColumnDef, Described};
use crate::sql::engine::ty::Ty;

/// The schema `pgquorum`, which a stock monitor does not have.
pub const PGQUORUM_SCHEMA_OID: i64 = 16_990;

const NODE: &str = "formationid:text nodeid:int8 groupid:int4 nodename:text nodehost:text nodeport:int4 \
    sysidentifier:int8 goalstate:replication_state reportedstate:replication_state reportedpgisrunning:bool \
    reportedrepstate:text reporttime:timestamptz reportedtli:int4 reportedlsn:pg_lsn walreporttime:timestamptz \
    health:int4 healthchecktime:timestamptz statechangetime:timestamptz candidatepriority:int4 \
    replicationquorum:bool nodecluster:text +region:text";

const EVENT: &str = "eventid:int8 eventtime:timestamptz formationid:text nodeid:int8 groupid:int4 nodename:text \
    nodehost:text nodeport:int4 reportedstate:replication_state goalstate:replication_state reportedrepstate:text \
    reportedtli:int4 reportedlsn:pg_lsn candidatepriority:int4 replicationquorum:bool description:text \
    +rule_pos:int4 +rule_section:text";

const FORMATION: &str =
    "formationid:text kind:text dbname:name opt_secondary:bool number_sync_standbys:int4";

const FSM: &str = "pos:int4 section:text condition:text assignments:text summary:text";

const REPLICA: &str = "id:int8 name:text host:text port:int4 replica_port:int4 role:text term:int8 \
    applied_index:int8 lag:int8 version:text";

/// Name, kind, OID and columns of each; OIDs of the tables are those that a stock monitor shows.
pub fn relations() -> impl Iterator<Item = Described> {
    [
        ("pgautofailover", "formation", 'r', 17_085, FORMATION),
        ("pgautofailover", "node", 'r', 17_102, NODE),
        ("pgautofailover", "event", 'r', 17_139, EVENT),
        ("pgautofailover", "fsm", 'v', 16_991, FSM),
        ("pgquorum", "replica", 'v', 16_993, REPLICA),
    ]
    .into_iter()
    .map(|(schema, name, kind, oid, columns)| {
        let columns = columns.split_whitespace().map(|column| {
            let (column, newer) = match column.strip_prefix('+') {
                Some(rest) => (rest, true),
                None => (column, false),
            };
            let (name, ty) = column.split_once(':').unwrap_or((column, "text"));
            ColumnDef { name: name.to_string(), ty: Ty::from_name(ty).unwrap_or(Ty::Text), newer }
        });
        (schema.to_string(), name.to_string(), kind, oid, columns.collect())
    })
}
