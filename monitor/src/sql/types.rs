//! The SQL types that the facade speaks, and values of them.

use failover::{Lsn, NodeState, WallTime};
use serde::{Deserialize, Serialize};

/// A PostgreSQL type by the name that `format_type` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PgType {
    Bool,
    Int4,
    Int8,
    Float8,
    Numeric,
    Text,
    Name,
    PgLsn,
    Timestamptz,
    Interval,
    Json,
    Jsonb,
    Oid,
    Char,
    Void,
    Unknown,
    /// `pgautofailover.replication_state`.
    ReplicationState,
    /// Any other type, by its OID. Its values travel as text.
    Other(u32),
}

impl PgType {
    /// The OID in RowDescription. The enum's OID is dynamic in PostgreSQL; 17040 was seen on every
    /// stock 2.0 monitor looked at, and nothing in pg_autoctl depends on it.
    pub const fn oid(self) -> u32 {
        match self {
            PgType::Bool => 16,
            PgType::Char => 18,
            PgType::Name => 19,
            PgType::Int8 => 20,
            PgType::Int4 => 23,
            PgType::Text => 25,
            PgType::Oid => 26,
            PgType::Json => 114,
            PgType::Float8 => 701,
            PgType::Unknown => 705,
            PgType::Timestamptz => 1184,
            PgType::Interval => 1186,
            PgType::Numeric => 1700,
            PgType::Void => 2278,
            PgType::PgLsn => 3220,
            PgType::Jsonb => 3802,
            PgType::ReplicationState => 17040,
            PgType::Other(oid) => oid,
        }
    }

    /// What `format_type` prints.
    pub fn name(self) -> &'static str {
        match self {
            PgType::Bool => "boolean",
            PgType::Char => "\"char\"",
            PgType::Name => "name",
            PgType::Int8 => "bigint",
            PgType::Int4 => "integer",
            PgType::Text => "text",
            PgType::Oid => "oid",
            PgType::Json => "json",
            PgType::Float8 => "double precision",
            PgType::Unknown => "unknown",
            PgType::Timestamptz => "timestamp with time zone",
            PgType::Interval => "interval",
            PgType::Numeric => "numeric",
            PgType::Void => "void",
            PgType::PgLsn => "pg_lsn",
            PgType::Jsonb => "jsonb",
            PgType::ReplicationState => "pgautofailover.replication_state",
            PgType::Other(oid) => OTHERS.iter().find(|other| other.0 == oid).map_or("text", |other| other.1),
        }
    }
}

/// The types that [`PgType::Other`] may stand for.
const OTHERS: &[(u32, &str)] = &[
    (17, "bytea"),
    (21, "smallint"),
    (24, "regproc"),
    (28, "xid"),
    (199, "json[]"),
    (1000, "boolean[]"),
    (1001, "bytea[]"),
    (1002, "\"char\"[]"),
    (1003, "name[]"),
    (1005, "smallint[]"),
    (1007, "integer[]"),
    (1008, "regproc[]"),
    (1009, "text[]"),
    (1011, "xid[]"),
    (1015, "character varying[]"),
    (1016, "bigint[]"),
    (1022, "double precision[]"),
    (1028, "oid[]"),
    (1043, "character varying"),
    (1082, "date"),
    (1083, "time without time zone"),
    (1114, "timestamp without time zone"),
    (1115, "timestamp without time zone[]"),
    (1182, "date[]"),
    (1183, "time without time zone[]"),
    (1185, "timestamp with time zone[]"),
    (1187, "interval[]"),
    (1231, "numeric[]"),
    (2205, "regclass"),
    (2206, "regtype"),
    (2210, "regclass[]"),
    (2211, "regtype[]"),
    (3221, "pg_lsn[]"),
    (3807, "jsonb[]"),
    (4089, "regnamespace"),
    (4090, "regnamespace[]"),
    (4096, "regrole"),
    (4097, "regrole[]"),
    (17039, "pgautofailover.replication_state[]"),
];

/// One SQL value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Datum {
    Null,
    Bool(bool),
    /// Int4, Int8, Oid.
    Int(i64),
    Float(f64),
    /// Text, Name, Json, Jsonb, Numeric, Interval, Unknown: already in PostgreSQL's text form.
    Text(String),
    Lsn(Lsn),
    State(NodeState),
    /// Microseconds since the Unix epoch.
    Time(WallTime),
}

/// A result column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub ty: PgType,
}

/// Rows of a SELECT.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RowSet {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Datum>>,
}
