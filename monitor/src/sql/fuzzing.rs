//! Entry points of the SQL facade for fuzzing: see [`crate::fuzzing`].

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use sqlparser::ast::Statement;

use super::deep::deep;
use super::forward::{self, ForwardReply, ForwardRequest};
use super::plan::{self, Plan};
use super::types::{Datum, PgType};
use super::values;
use super::wire::frontend::{self, FirstPacket, Frontend};
use super::wire::scram::{Conversation, Verifiers};
use super::wire::startup;

/// The longest message that a session takes: `FacadeConfig::frame_limit`.
const FRAME_LIMIT: usize = 1024 * 1024;

/// The first packet of a connection, length word included.
pub fn first_packet(data: &[u8]) -> Result<(), String> {
    let Some((head, body)) = data.split_first_chunk::<4>() else { return Ok(()) };
    let Ok(length) = frontend::first_packet_length(*head) else { return Ok(()) };
    let body = body.get(..length - 4).unwrap_or(body);
    if let Ok(FirstPacket::Startup { parameters, .. }) = frontend::first_packet(Bytes::copy_from_slice(body)) {
        for (name, value) in &parameters {
            if name == "options" {
                let _ = startup::options(value);
            }
        }
    }
    Ok(())
}

/// The messages of an established session. Statements are planned, parameters decoded.
pub fn frontend(data: &[u8]) -> Result<(), String> {
    let mut buffer = BytesMut::from(data);
    let mut types = Vec::new();
    loop {
        let before = buffer.len();
        match frontend::decode(&mut buffer, FRAME_LIMIT) {
            Ok(None) | Err((_, None)) => return Ok(()),
            Ok(Some(_)) | Err((_, Some(_))) if buffer.len() >= before => {
                return Err("a message was taken without a byte".to_string());
            }
            Err((_, Some(_))) => {}
            Ok(Some(Frontend::Query(text))) => planned(&text, &[])?,
            Ok(Some(Frontend::Parse { text, types: declared, .. })) => {
                planned(&text, &declared)?;
                types = declared;
            }
            Ok(Some(Frontend::Bind(bind))) => {
                for (i, bytes) in bind.values.iter().enumerate() {
                    let binary = bind.formats.get(i).or(bind.formats.first()) == Some(&1);
                    let oid = types.get(i).copied().unwrap_or(25);
                    value(oid, binary, bytes.as_deref().unwrap_or(&[]))?;
                }
            }
            Ok(Some(_)) => {}
        }
    }
}

const OIDS: [u32; 24] = [
    0, 16, 18, 19, 20, 21, 23, 24, 25, 26, 114, 700, 701, 705, 1042, 1043, 1114, 1184, 1186, 1700, 2205, 3220, 3802, 17040,
];

const TYPES: [PgType; 17] = [
    PgType::Bool,
    PgType::Int4,
    PgType::Int8,
    PgType::Float8,
    PgType::Numeric,
    PgType::Text,
    PgType::Name,
    PgType::PgLsn,
    PgType::Timestamptz,
    PgType::Interval,
    PgType::Json,
    PgType::Jsonb,
    PgType::Oid,
    PgType::Char,
    PgType::Void,
    PgType::Unknown,
    PgType::ReplicationState,
];

/// One parameter of Bind; the first byte chooses type and format.
pub fn bind_values(data: &[u8]) -> Result<(), String> {
    let Some((which, bytes)) = data.split_first() else { return Ok(()) };
    let oid = OIDS.get(usize::from(which >> 1) % OIDS.len()).copied().unwrap_or(0);
    value(oid, which % 2 == 1, bytes)
}

fn value(oid: u32, binary: bool, bytes: &[u8]) -> Result<(), String> {
    let ty = values::type_of_oid(oid).unwrap_or(PgType::Text);
    let read = match binary {
        true => values::parse_binary(oid, bytes),
        false => values::utf8(bytes).and_then(|text| values::parse(ty, text)),
    };
    let Ok(datum) = read else { return Ok(()) };
    for to in TYPES {
        let _ = values::cast(datum.clone(), ty, to);
    }
    let mut text = BytesMut::new();
    values::write_text(&mut text, &datum);
    let _ = values::record_text(&[Datum::Null, datum.clone()]);
    let mut written = BytesMut::new();
    values::write_binary(&mut written, &datum, ty);
    // Integers, booleans, positions and times that were read are sent back unchanged.
    if matches!(ty, PgType::Bool | PgType::Int4 | PgType::Int8 | PgType::Oid | PgType::PgLsn | PgType::Timestamptz)
        && !matches!(oid, 21 | 24 | 2205)
    {
        match values::parse_binary(oid, &written) {
            Ok(back) if back == datum => {}
            other => return Err(format!("{datum:?} of OID {oid} was sent as {other:?}")),
        }
    }
    Ok(())
}

fn planned(text: &[u8], oids: &[u32]) -> Result<(), String> {
    let Ok(text) = values::utf8(text) else { return Ok(()) };
    let characters = text.chars().count() as u64;
    let check = |error: &super::error::SqlError| match error.position {
        Some(at) if at == 0 || u64::from(at) > characters + 1 => {
            Err(format!("an error at position {at} of {characters}: {error}"))
        }
        _ if error.sqlstate == "XX000" => Err(format!("an internal error: {error}")),
        _ => Ok(()),
    };
    let pieces = match plan::split(text) {
        Ok(pieces) => pieces,
        Err(error) => return check(&error),
    };
    for piece in &pieces {
        match plan::plan(text, piece, oids, true) {
            // Dropped here, on the stack of whoever planned: only walks are given a larger one.
            Ok(planned) => deep(|| walk(&planned.plan)),
            // PostgreSQL plans none of the statements when it cannot parse one.
            Err(error) => return check(&error),
        }
    }
    Ok(())
}

/// Does to the statement what the read tier does: copies and writes it out.
fn walk(plan: &Plan) {
    let write = |statement: &Statement| drop(statement.clone().to_string());
    match plan {
        Plan::Query(statement) | Plan::CallInQuery { query: statement, .. } => write(statement),
        Plan::CallList(list) => {
            if let Some(base) = &list.base {
                write(base);
            }
        }
        Plan::UpdateNode(update) => write(&update.base),
        _ => {}
    }
}

/// The text of a query, planned as by the simple protocol.
pub fn sql(data: &[u8]) -> Result<(), String> {
    planned(data, &[])
}

/// Stack of a worker thread of the runtime.
const WORKER_STACK: usize = 2 * 1024 * 1024;

/// Long and deep texts made from few bytes: five lines `head`, `left`, `middle`, `right`, `tail`
/// become `head left* middle right* tail`. The first byte says how many repetitions. Planned on a
/// stack as small as a worker's.
pub fn sql_repeated(data: &[u8]) -> Result<(), String> {
    let Some((times, parts)) = data.split_first() else { return Ok(()) };
    let Ok(parts) = std::str::from_utf8(parts) else { return Ok(()) };
    let mut parts = parts.splitn(5, '\n');
    let mut part = || parts.next().unwrap_or("");
    let (head, left, middle, right, tail) = (part(), part(), part(), part(), part());
    let unit = left.len() + right.len();
    if unit == 0 {
        return Ok(());
    }
    let times = (1_usize << (times % 20)).min(FRAME_LIMIT / 4 / unit);
    let text = [head, &left.repeat(times), middle, &right.repeat(times), tail].concat();
    on_worker_stack(move || sql(text.as_bytes()))
}

fn on_worker_stack(work: impl FnOnce() -> Result<(), String> + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().stack_size(WORKER_STACK).spawn(work).map_err(|e| e.to_string())?;
    thread.join().map_err(|_| "planning panicked".to_string())?
}

/// What monitors send each other about statements. Even first byte: as it is; odd: with a valid head.
pub fn forwarded(data: &[u8]) -> Result<(), String> {
    let Some((which, body)) = data.split_first() else { return Ok(()) };
    let bytes = match which % 2 {
        0 => body.to_vec(),
        _ => [&[1], body].concat(),
    };
    let failed = |e: super::error::SqlError| e.to_string();
    if let Ok(request) = forward::decode::<ForwardRequest>(&bytes) {
        let written = forward::encode(&request).map_err(failed)?;
        let back: ForwardRequest = forward::decode(&written).map_err(failed)?;
        if forward::encode(&back).map_err(failed)? != written {
            return Err("a request came back changed".to_string());
        }
        if let ForwardRequest::Statement { text, oids, params, .. } = request {
            planned(text.as_bytes(), &oids)?;
            for (from, datum) in params {
                for to in TYPES {
                    let _ = values::cast(datum.clone(), from, to);
                }
                values::write_binary(&mut BytesMut::new(), &datum, from);
            }
        }
    }
    if let Ok(reply) = forward::decode::<ForwardReply>(&bytes) {
        let written = forward::encode(&reply).map_err(failed)?;
        let back: ForwardReply = forward::decode(&written).map_err(failed)?;
        if forward::encode(&back).map_err(failed)? != written {
            return Err("a reply came back changed".to_string());
        }
    }
    Ok(())
}

/// The password messages of a SCRAM conversation, one a line; an odd first byte makes the first of
/// them a well-formed SASLInitialResponse. The last line is tried as a stored verifier too.
pub fn scram(data: &[u8]) -> Result<(), String> {
    static VERIFIERS: LazyLock<Verifiers> = LazyLock::new(|| {
        let mut verifiers = Verifiers::new();
        verifiers.add_password("autoctl_node", "secret");
        verifiers
    });
    let Some((which, body)) = data.split_first() else { return Ok(()) };
    let mut conversation = Conversation::new("autoctl_node", &VERIFIERS);
    for (i, line) in body.split(|b| *b == b'\n').enumerate() {
        let mut message = Vec::new();
        if i == 0 && which % 2 == 1 {
            message.extend_from_slice(b"SCRAM-SHA-256\0");
            message.extend_from_slice(&u32::try_from(line.len()).unwrap_or(0).to_be_bytes());
        }
        message.extend_from_slice(line);
        if conversation.take(Frontend::Password(message.into())).is_err() {
            break;
        }
    }
    if let Some(text) = body.rsplit(|b| *b == b'\n').next().and_then(|line| std::str::from_utf8(line).ok()) {
        let mut verifiers = Verifiers::new();
        if verifiers.add("u", text) {
            let _ = Conversation::new("u", &verifiers);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    /// head, left, middle, right, tail: `left` and `right` are repeated until the text has a megabyte.
    const DEEP: &[[&str; 5]] = &[
        ["SELECT ", "(", "1", ")", ""],
        ["", "(", "SELECT 1", ")", ""],
        ["", "(", "", "", ""],
        ["SELECT 1", ")", "", "", ""],
        ["SELECT ", "(SELECT ", "1", ")", ""],
        ["SELECT * FROM ", "(SELECT * FROM ", "t", ") x", ""],
        ["SELECT * FROM ", "(", "t", ")", ""],
        ["SELECT * FROM ", "(a JOIN ", "b", " ON true)", ""],
        ["SELECT * FROM a", " JOIN b", "", " ON true", ""],
        ["SELECT * FROM a", " JOIN b ON true", "", "", ""],
        ["SELECT * FROM a", ", LATERAL (SELECT 1) b", "", "", ""],
        ["SELECT ", "CASE WHEN true THEN ", "1", " END", ""],
        ["SELECT ", "CASE ", "1", " WHEN 1 THEN 1 END", ""],
        ["SELECT CASE", " WHEN true THEN 1", "", "", " END"],
        ["SELECT 1 IN (", "1,", "1", "", ")"],
        ["SELECT ", "1 IN (", "1", ")", ""],
        ["SELECT 1", " IN (1)", "", "", ""],
        ["SELECT ", "NOT ", "true", "", ""],
        ["SELECT ", "- ", "1", "", ""],
        ["SELECT ", "+", "1", "", ""],
        ["SELECT ", "~ ", "1", "", ""],
        ["SELECT ", "@ ", "1", "", ""],
        ["SELECT 1", "+1", "", "", ""],
        ["SELECT 1", "||1", "", "", ""],
        ["SELECT true", " AND true", "", "", ""],
        ["SELECT true", " OR true", "", "", ""],
        ["SELECT 1", "::int", "", "", ""],
        ["SELECT 1", " ISNULL", "", "", ""],
        ["SELECT 1", " NOTNULL", "", "", ""],
        ["SELECT 1", " IS NULL", "", "", ""],
        ["SELECT 1", " XOR 1", "", "", ""],
        ["SELECT 1", " OVERLAPS 1", "", "", ""],
        ["SELECT 1", " RLIKE 1", "", "", ""],
        ["SELECT 1", " REGEXP 1", "", "", ""],
        ["SELECT 1", " NOT REGEXP 1", "", "", ""],
        ["SELECT 1", " MEMBER OF (1)", "", "", ""],
        ["SELECT 1", " DIV 1", "", "", ""],
        ["SELECT 1", " LIKE 1", "", "", ""],
        ["SELECT 1", " COLLATE x", "", "", ""],
        ["SELECT 1", " AT TIME ZONE 'x'", "", "", ""],
        ["SELECT 1", " BETWEEN 1 AND 1", "", "", ""],
        ["SELECT ", "1 BETWEEN ", "1", " AND 1", ""],
        ["SELECT 1", " UNION SELECT 1", "", "", ""],
        ["SELECT 1", " UNION (SELECT 1", "", ")", ""],
        ["VALUES (1)", ",(1)", "", "", ""],
        ["SELECT ", "f(", "1", ")", ""],
        ["SELECT f", "()", "", "", ""],
        ["SELECT f(", "1,", "1", "", ")"],
        ["SELECT a", ".a", "", "", ""],
        ["SELECT a", "[1]", "", "", ""],
        ["SELECT a", "->1", "", "", ""],
        ["SELECT ", "ARRAY[", "1", "]", ""],
        ["SELECT ", "ROW(", "1", ")", ""],
        ["SELECT ", "EXISTS (SELECT ", "1", ")", ""],
        ["SELECT ", "CAST(", "1", " AS int)", ""],
        ["SELECT CAST(1 AS int", "[]", "", "", ")"],
        ["SELECT CAST(1 AS ", "TABLE(a ", "int", ")", ")"],
        ["SELECT CAST(1 AS ", "SETOF ", "int", "", ")"],
        ["SELECT CAST(1 AS ", "ARRAY<", "int", ">", ")"],
        ["SELECT CAST(1 AS ", "NULLABLE(", "int", ")", ")"],
        ["SELECT ", "INTERVAL ", "'1'", "", ""],
        ["SELECT ", "INTERVAL (", "'1'", ")", ""],
        ["SELECT ", "PRIOR ", "1", "", ""],
        ["SELECT ", "EXTRACT(year FROM ", "1", ")", ""],
        ["SELECT ", "POSITION(1 IN ", "1", ")", ""],
        ["SELECT ", "POSITION(", "1", ")", ""],
        ["SELECT ", "SUBSTRING(", "1", " FROM 1)", ""],
        ["SELECT ", "COALESCE(", "1", ",1)", ""],
        ["SELECT ", "GROUPING SETS (", "1", ")", ""],
        ["SELECT 1 GROUP BY ", "ROLLUP(", "1", ")", ""],
        ["SELECT 1 GROUP BY ", "1,", "1", "", ""],
        ["SELECT 1 ORDER BY ", "1,", "1", "", ""],
        ["SELECT sum(1) OVER (", "PARTITION BY sum(1) OVER (", "", ")", ")"],
        ["", "WITH a AS (", "SELECT 1", ") SELECT 1", ""],
        ["WITH ", "a AS (SELECT 1),", "a AS (SELECT 1)", "", " SELECT 1"],
        ["SELECT * FROM t", " PIVOT(sum(a) FOR b IN (1))", "", "", ""],
        ["SELECT * FROM t", " UNPIVOT(a FOR b IN (c))", "", "", ""],
        ["SELECT * FROM t", " AS t", "", "", ""],
        ["SELECT * FROM t", " TABLESAMPLE x(1)", "", "", ""],
        ["", "EXPLAIN ", "SELECT 1", "", ""],
        ["", "SELECT 1;", "", "", ""],
        ["", "END;", "", "", ""],
        ["", ";", "", "", ""],
        ["", "END\n;", "", "", ""],
        ["", "\n", "SELECT", "", " SELECT"],
        ["SELECT ", "/*", "", "*/", "1"],
        ["", "--\n", "SELECT 1", "", ""],
        ["SELECT ", "'a' ", "", "", ""],
        ["SELECT '", "''", "", "", "'"],
        ["SELECT ", "$1,", "$1", "", ""],
        ["SELECT ", "a,", "a", "", ""],
        ["SELECT ", "*,", "*", "", " FROM pgautofailover.get_nodes()"],
        ["SELECT ", "nodeid,", "nodeid", "", " FROM pgautofailover.node"],
        ["SELECT pgautofailover.get_nodes(", "a => 1,", "b => 1", "", ")"],
        ["SELECT pgautofailover.get_nodes(", "1,", "1", "", ")"],
        ["SELECT ", "pgautofailover.get_nodes(),", "1", "", ""],
        ["UPDATE pgautofailover.node SET ", "nodeid=1,", "nodeid=1", "", ""],
        ["UPDATE pgautofailover.node SET nodeid=1 WHERE ", "(", "true", ")", ""],
        ["SELECT * FROM pgautofailover.get_nodes() WHERE ", "(", "true", ")", ""],
        ["SELECT * FROM pgautofailover.get_nodes() WHERE true", " AND node_id=1", "", "", ""],
        ["SET x TO ", "1,", "1", "", ""],
        ["SET x", ".x", "", "", " TO 1"],
        ["BEGIN ", "READ ONLY,", "READ ONLY", "", ""],
        ["CREATE TABLE a (", "b int,", "b int", "", ")"],
        ["CREATE TABLE a (b ", "TABLE(b ", "int", ")", ")"],
        ["INSERT INTO a ", "SELECT ", "1", "", ""],
        ["INSERT INTO a VALUES ", "(1),", "(1)", "", ""],
        ["MERGE INTO a USING b ON true ", "WHEN MATCHED THEN DELETE ", "", "", ""],
        ["DELETE FROM ", "a,", "a", "", ""],
        ["SELECT ", "\"a\"\"", "\"", "", ""],
        ["SELECT ", "{fn f(", "1", ")}", ""],
        ["SELECT ", "{'a': ", "1", "}", ""],
        ["SELECT ", "LISTAGG(", "1", ")", ""],
        ["SELECT ", "a -> ", "1", "", ""],
        ["SELECT f(", "(a) -> ", "1", "", ")"],
        ["SELECT 1 WHERE ", "a = ANY(", "1", ")", ""],
        ["SELECT ", "TRIM(BOTH FROM ", "1", ")", ""],
        ["SELECT ", "OVERLAY(1 PLACING ", "1", " FROM 1)", ""],
        ["SELECT ", "U&'\\0041'", "", "", ""],
        ["SELECT E'", "\\n", "", "", "'"],
        ["SELECT ", "$a$ ", "", "", "$a$"],
        ["SELECT * FROM JSON_TABLE('', '' COLUMNS (", "NESTED PATH '' COLUMNS (", "a int PATH ''", ")", "))"],
        ["SELECT * FROM XMLTABLE('' PASSING ", "(", "1", ")", " COLUMNS a int)"],
        ["SELECT * FROM MATCH_RECOGNIZE(PATTERN(", "(", "a", ")", "))"],
        ["SELECT * FROM t MATCH_RECOGNIZE(PATTERN (", "(", "a", ")", ") DEFINE a AS true)"],
        ["SELECT * FROM t MATCH_RECOGNIZE(PATTERN (a", "+", "", "", ") DEFINE a AS true)"],
        ["SELECT * FROM t MATCH_RECOGNIZE(PATTERN (a", "|a", "", "", ") DEFINE a AS true)"],
        ["", "BEGIN ", "", "END ", ""],
        ["", "IF true THEN ", "SELECT 1;", "END IF;", ""],
        ["CREATE FUNCTION f() RETURNS ", "TABLE(a ", "int", ")", ""],
        ["", "PREPARE a AS ", "SELECT 1", "", ""],
        ["", "DESCRIBE ", "a", "", ""],
        ["", "FROM a ", "", "", ""],
        ["TABLE ", "a.", "a", "", ""],
        ["SELECT ", "é", "", "", ""],
        ["SELECT ", "\u{a0}", "1", "", ""],
    ];

    const WHOLE: &[&str] = &["(", "1,", "CASE WHEN true THEN ", "END;", " JOIN b", "+1"];

    /// Seconds of computing: other processes on the machine do not count.
    const PATIENCE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

    fn computed() -> Duration {
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
    }

    #[test]
    fn long_and_deep_texts_are_answered_soon_and_on_a_small_stack() {
        for [head, left, middle, right, tail] in DEEP {
            // As long as a message may be; unoptimised that takes minutes, so that only some are.
            let whole = !cfg!(debug_assertions) || WHOLE.contains(left);
            let most = (if whole { FRAME_LIMIT - 200 } else { 50_000 }) / (left.len() + right.len());
            // Just below the limits, and beyond all of them.
            for times in [24, 47, 99, 124, 249, most] {
                let name = format!("{head}{left}{middle}{right}{tail}, {times} times");
                let text = [*head, &left.repeat(times), middle, &right.repeat(times), tail].concat();
                let checked = on_worker_stack(move || {
                    let begun = computed();
                    sql(text.as_bytes())?;
                    let took = computed() - begun;
                    if took < PATIENCE { Ok(()) } else { Err(format!("took {took:?}")) }
                });
                assert_eq!(checked, Ok(()), "{name}");
            }
        }
    }

    #[test]
    fn what_people_write_is_not_too_complex() {
        let list = (0..5_000).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let deep = format!("SELECT {}1{}", "(".repeat(40), ")".repeat(40));
        let sum = format!("SELECT 1{}", " + 1".repeat(150));
        let long = format!("SELECT '{}'", "x".repeat(1_000_000));
        let many = "SELECT 1;\n".repeat(2_000);
        for text in [format!("SELECT 1 IN ({list})"), deep, sum, long, many] {
            for piece in plan::split(&text).unwrap() {
                plan::plan(&text, &piece, &[], false).unwrap();
            }
        }
    }

    #[test]
    fn statements_of_a_query_keep_their_texts() {
        let query = "SELECT 'é;'; -- c\n\nSELECT\n 2 ; ;é; ";
        let pieces = plan::split(query).unwrap();
        let texts: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(texts, ["SELECT 'é;'", "SELECT\n 2", "é"]);
    }
}
