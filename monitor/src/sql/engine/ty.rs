//! The types that the read tier reasons with: PostgreSQL's own, more than the wire needs.

use crate::sql::types::PgType;

/// A type as the translator knows it. What SQLite holds for a value of it:
///
/// | types | stored as |
/// |---|---|
/// | `Bool` | 0, 1 |
/// | integers, `Oid`, `reg*` | integer |
/// | `Float8` | real |
/// | `Numeric` | decimal text, compared with collation `PGNUM` |
/// | `Timestamptz`, `Timestamp`, `Time` | microseconds (since 1970, since midnight) |
/// | `Date` | days since 1970 |
/// | `Interval` | blob whose bytes sort as the interval does |
/// | `PgLsn` | integer with its sign bit flipped, so that it sorts unsigned |
/// | `State` | position in the enum |
/// | arrays | PostgreSQL's array text |
/// | everything else | text |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ty {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Xid,
    Float8,
    Numeric,
    Text,
    Varchar,
    Name,
    Char,
    Bytea,
    PgLsn,
    Timestamptz,
    Timestamp,
    Date,
    Time,
    Interval,
    Json,
    Jsonb,
    State,
    Regclass,
    Regtype,
    Regproc,
    Regnamespace,
    Regrole,
    Void,
    /// A literal, NULL or parameter whose type the context decides.
    Unknown,
    Array(&'static Ty),
}

/// Every scalar type with its internal name (`pg_type.typname`), OID and the name that
/// `format_type` prints.
const SCALARS: &[(Ty, &str, i64, &str)] = &[
    (Ty::Bool, "bool", 16, "boolean"),
    (Ty::Int2, "int2", 21, "smallint"),
    (Ty::Int4, "int4", 23, "integer"),
    (Ty::Int8, "int8", 20, "bigint"),
    (Ty::Oid, "oid", 26, "oid"),
    (Ty::Xid, "xid", 28, "xid"),
    (Ty::Float8, "float8", 701, "double precision"),
    (Ty::Numeric, "numeric", 1700, "numeric"),
    (Ty::Text, "text", 25, "text"),
    (Ty::Varchar, "varchar", 1043, "character varying"),
    (Ty::Name, "name", 19, "name"),
    (Ty::Char, "char", 18, "\"char\""),
    (Ty::Bytea, "bytea", 17, "bytea"),
    (Ty::PgLsn, "pg_lsn", 3220, "pg_lsn"),
    (Ty::Timestamptz, "timestamptz", 1184, "timestamp with time zone"),
    (Ty::Timestamp, "timestamp", 1114, "timestamp without time zone"),
    (Ty::Date, "date", 1082, "date"),
    (Ty::Time, "time", 1083, "time without time zone"),
    (Ty::Interval, "interval", 1186, "interval"),
    (Ty::Json, "json", 114, "json"),
    (Ty::Jsonb, "jsonb", 3802, "jsonb"),
    (Ty::State, "replication_state", 17040, "pgautofailover.replication_state"),
    (Ty::Regclass, "regclass", 2205, "regclass"),
    (Ty::Regtype, "regtype", 2206, "regtype"),
    (Ty::Regproc, "regproc", 24, "regproc"),
    (Ty::Regnamespace, "regnamespace", 4089, "regnamespace"),
    (Ty::Regrole, "regrole", 4096, "regrole"),
    (Ty::Void, "void", 2278, "void"),
    (Ty::Unknown, "unknown", 705, "unknown"),
];

/// OIDs of array types, by that of their elements.
const ARRAYS: &[(i64, i64)] = &[
    (16, 1000), (17, 1001), (18, 1002), (19, 1003), (20, 1016), (21, 1005), (23, 1007), (24, 1008), (25, 1009),
    (26, 1028), (28, 1011), (114, 199), (701, 1022), (1043, 1015), (1082, 1182), (1083, 1183), (1114, 1115),
    (1184, 1185), (1186, 1187), (1700, 1231), (2205, 2210), (2206, 2211), (3220, 3221), (3802, 3807), (4089, 4090),
    (4096, 4097), (17040, 17039),
];

/// Types that are spelled otherwise in statements or in the catalog.
const ALIASES: &[(&str, Ty)] = &[
    ("boolean", Ty::Bool),
    ("smallint", Ty::Int2),
    ("int", Ty::Int4),
    ("integer", Ty::Int4),
    ("bigint", Ty::Int8),
    ("double precision", Ty::Float8),
    ("double", Ty::Float8),
    ("real", Ty::Float8),
    ("float", Ty::Float8),
    ("float4", Ty::Float8),
    ("decimal", Ty::Numeric),
    ("character varying", Ty::Varchar),
    ("character", Ty::Varchar),
    ("bpchar", Ty::Varchar),
    ("\"char\"", Ty::Char),
    ("timestamp with time zone", Ty::Timestamptz),
    ("timestamp without time zone", Ty::Timestamp),
    ("time without time zone", Ty::Time),
    ("timetz", Ty::Time),
    ("pg_node_tree", Ty::Text),
    ("inet", Ty::Text),
    ("cidr", Ty::Text),
    ("uuid", Ty::Text),
    ("citext", Ty::Text),
    ("cstring", Ty::Text),
    ("cid", Ty::Xid),
    ("int2vector", Ty::Array(&Ty::Int2)),
    ("oidvector", Ty::Array(&Ty::Oid)),
    ("aclitem", Ty::Text),
    ("anyarray", Ty::Array(&Ty::Text)),
    ("pgautofailover.replication_state", Ty::State),
    ("regprocedure", Ty::Regproc),
    ("sql_identifier", Ty::Name),
    ("character_data", Ty::Varchar),
    ("cardinal_number", Ty::Int4),
    ("yes_or_no", Ty::Varchar),
    ("time_stamp", Ty::Timestamptz),
];

impl Ty {
    /// The internal name: `int4`, `_text`.
    pub fn code(self) -> String {
        match self {
            Ty::Array(elem) => format!("_{}", elem.code()),
            scalar => SCALARS.iter().find(|s| s.0 == scalar).map(|s| s.1).unwrap_or("text").to_string(),
        }
    }

    /// The inverse of [`Ty::code`]; takes the other spellings as well.
    pub fn from_name(name: &str) -> Option<Ty> {
        let name = name.trim();
        let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
        let name = name.strip_prefix("information_schema.").unwrap_or(name);
        if let Some(s) = SCALARS.iter().find(|s| s.1 == name) {
            return Some(s.0);
        }
        if let Some(a) = ALIASES.iter().find(|a| a.0 == name) {
            return Some(a.1);
        }
        let elem = name.strip_suffix("[]").or_else(|| name.strip_prefix('_'))?;
        Some(Ty::from_name(elem)?.array())
    }

    /// The array of this type. Arrays of arrays are the same type, as in PostgreSQL.
    pub fn array(self) -> Ty {
        match self {
            Ty::Array(_) => self,
            scalar => SCALARS.iter().find(|s| s.0 == scalar).map(|s| Ty::Array(&s.0)).unwrap_or(Ty::Array(&Ty::Text)),
        }
    }

    /// What `format_type` and error messages call it.
    pub fn display(self) -> String {
        match self {
            Ty::Array(elem) => format!("{}[]", elem.display()),
            scalar => SCALARS.iter().find(|s| s.0 == scalar).map(|s| s.3).unwrap_or("text").to_string(),
        }
    }

    /// `pg_type.oid`.
    pub fn oid(self) -> i64 {
        match self {
            Ty::Array(elem) => ARRAYS.iter().find(|a| a.0 == elem.oid()).map_or(1009, |a| a.1),
            scalar => SCALARS.iter().find(|s| s.0 == scalar).map_or(25, |s| s.2),
        }
    }

    /// The inverse of [`Ty::oid`].
    pub fn from_oid(oid: i64) -> Option<Ty> {
        let scalar = |oid: i64| SCALARS.iter().find(|s| s.2 == oid).map(|s| s.0);
        scalar(oid).or_else(|| Some(scalar(ARRAYS.iter().find(|a| a.1 == oid)?.0)?.array()))
    }

    /// The type in a row description.
    pub fn wire(self) -> PgType {
        match self {
            Ty::Bool => PgType::Bool,
            Ty::Int4 => PgType::Int4,
            Ty::Int8 => PgType::Int8,
            Ty::Oid => PgType::Oid,
            Ty::Float8 => PgType::Float8,
            Ty::Numeric => PgType::Numeric,
            Ty::Name => PgType::Name,
            Ty::Char => PgType::Char,
            Ty::PgLsn => PgType::PgLsn,
            Ty::Timestamptz => PgType::Timestamptz,
            Ty::Interval => PgType::Interval,
            Ty::Json => PgType::Json,
            Ty::Jsonb => PgType::Jsonb,
            Ty::State => PgType::ReplicationState,
            Ty::Void => PgType::Void,
            Ty::Text | Ty::Unknown => PgType::Text,
            // Below 2^32: both come from the tables above.
            other => PgType::Other(other.oid() as u32),
        }
    }

    /// The type of a declared parameter or of a function's column.
    pub fn from_wire(ty: PgType) -> Ty {
        match ty {
            PgType::Bool => Ty::Bool,
            PgType::Int4 => Ty::Int4,
            PgType::Int8 => Ty::Int8,
            PgType::Float8 => Ty::Float8,
            PgType::Numeric => Ty::Numeric,
            PgType::Text => Ty::Text,
            PgType::Name => Ty::Name,
            PgType::PgLsn => Ty::PgLsn,
            PgType::Timestamptz => Ty::Timestamptz,
            PgType::Interval => Ty::Interval,
            PgType::Json => Ty::Json,
            PgType::Jsonb => Ty::Jsonb,
            PgType::Oid => Ty::Oid,
            PgType::Char => Ty::Char,
            PgType::Void => Ty::Void,
            PgType::Unknown => Ty::Unknown,
            PgType::ReplicationState => Ty::State,
            PgType::Other(oid) => Ty::from_oid(i64::from(oid)).unwrap_or(Ty::Text),
        }
    }

    pub fn is_int(self) -> bool {
        matches!(self, Ty::Int2 | Ty::Int4 | Ty::Int8)
    }

    pub fn is_number(self) -> bool {
        self.is_int() || matches!(self, Ty::Numeric | Ty::Float8)
    }

    /// Object identifiers: integers that are compared as such.
    pub fn is_oid(self) -> bool {
        use Ty::*;
        matches!(self, Oid | Xid | Regclass | Regtype | Regproc | Regnamespace | Regrole)
    }

    /// PostgreSQL's string category.
    pub fn is_string(self) -> bool {
        matches!(self, Ty::Text | Ty::Varchar | Ty::Name | Ty::Char)
    }

    /// How far an implicit numeric conversion goes: a lower one becomes a higher one.
    fn number_rank(self) -> u8 {
        match self {
            Ty::Int2 => 1,
            Ty::Int4 => 2,
            Ty::Int8 => 3,
            Ty::Numeric => 4,
            Ty::Float8 => 5,
            _ => 0,
        }
    }

    /// The type that two operands or two branches of a query meet in.
    pub fn common(a: Ty, b: Ty) -> Option<Ty> {
        if a == b {
            return Some(a);
        }
        match (a, b) {
            (Ty::Unknown, other) | (other, Ty::Unknown) => Some(other),
            _ if a.is_number() && b.is_number() => Some(if a.number_rank() > b.number_rank() { a } else { b }),
            _ if a.is_string() && b.is_string() => Some(Ty::Text),
            _ if (a.is_oid() || a.is_int()) && (b.is_oid() || b.is_int()) => Some(Ty::Oid),
            (Ty::Timestamptz, Ty::Date | Ty::Timestamp) | (Ty::Date | Ty::Timestamp, Ty::Timestamptz) => {
                Some(Ty::Timestamptz)
            }
            (Ty::Timestamp, Ty::Date) | (Ty::Date, Ty::Timestamp) => Some(Ty::Timestamp),
            (Ty::Array(x), Ty::Array(y)) => Ty::common(*x, *y).map(Ty::array),
            _ => None,
        }
    }

    /// Whether a value converts without being asked to.
    pub fn implicit(from: Ty, to: Ty) -> bool {
        from == to || from == Ty::Unknown || Ty::common(from, to) == Some(to)
            || (from.is_string() && to.is_string())
            || (from.is_int() && to.is_int())
    }
}
