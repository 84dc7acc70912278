//! Whatever parses is answered or refused, never with a panic or an internal error.

#[path = "engine/fixture.rs"]
mod fixture;

use fixture::{engine, run, session, state, view_of};
use monitor::sql::engine::{Engine, Param, SessionView, guard};
use monitor::sql::types::{Datum, PgType};
use proptest::prelude::*;

fn try_it(engine: &Engine, session: &SessionView, sql: &str) -> Result<(), TestCaseError> {
    if guard::check_text(sql).is_err() {
        return Ok(());
    }
    let params = [Param { ty: PgType::Unknown, value: Datum::Text("1".into()) }];
    if let Err(error) = run(engine, &view_of(state(), 1), session, sql, &params) {
        prop_assert!(error.sqlstate != "XX000", "{sql}\n{error}");
        prop_assert!(!error.message.contains("could not be translated"), "{sql}\n{error}");
    }
    Ok(())
}

/// Words that statements are made of.
fn word() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "select", "from", "where", "group by", "order by", "limit", "union all", "join", "left join", "using (nodeid)",
        "on true", "as x", "x", "n", "*", "(", ")", ",", "+", "-", "||", "=", "<", "and", "or", "not", "is null", "null",
        "1", "1.5", "'a'", "''", "$1", "true", "nodeid", "n.nodeid", "nodename", "reportedstate", "reporttime", "now()",
        "count(*)", "sum(nodeid)", "lateral", "pgautofailover.node n", "pgautofailover.event", "::int", "::text", "::jsonb",
        "array[1,2]", "any(", "case when", "then", "else", "end", "row_to_json(n)", "interval '1 d'", "generate_series(1,3)",
        "pgautofailover.get_nodes('default')", "distinct", "over ()", "filter (where true)", "exists", "in", "pg_class c",
    ];
    prop::sample::select(WORDS).prop_map(str::to_string)
}

/// Expressions that nest properly.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(&[
        "1", "-2.5", "null", "true", "'a'", "'{1,2}'", "'2026-11-21'", "nodeid", "n.nodename", "health", "reportedstate",
        "reportedlsn", "reporttime", "sysidentifier", "replicationquorum", "n", "now()", "$1", "interval '90 min'",
        "array[1,null]", "(1, 'x')",
    ][..])
    .prop_map(str::to_string);
    leaf.prop_recursive(3, 24, 3, |inner| {
        let operators = &["+", "-", "*", "/", "%", "||", "=", "<>", "<", "and", "or", "like", "~", "->", "is distinct from", "^"][..];
        let functions = &[
            "lower", "length", "coalesce", "to_json", "row_to_json", "abs", "round", "format", "to_char", "concat", "age",
            "max", "count", "array_agg", "jsonb_agg", "string_agg", "nullif", "greatest", "left", "unnest", "not",
            "extract(epoch from", "jsonb_build_object", "array_to_string", "date_trunc", "split_part", "pg_typeof",
        ][..];
        let types = &["int", "text", "bool", "jsonb", "numeric", "float8", "timestamptz", "interval", "pg_lsn", "text[]", "date",
            "pgautofailover.replication_state", "regclass", "name", "oid"][..];
        prop_oneof![
            (inner.clone(), prop::sample::select(operators), inner.clone()).prop_map(|(a, o, b)| format!("({a} {o} {b})")),
            (prop::sample::select(functions), prop::collection::vec(inner.clone(), 0..3)).prop_map(|(f, a)| {
                if f.contains('(') { format!("{f} {})", a.first().map_or("null", String::as_str)) } else { format!("{f}({})", a.join(", ")) }
            }),
            (inner.clone(), prop::sample::select(types)).prop_map(|(a, t)| format!("({a})::{t}")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("case when {a} then {b} else {c} end")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} in ({b}, {b})")),
            inner.clone().prop_map(|a| format!("(select {a} limit 1)")),
            inner.prop_map(|a| format!("({a} is null)")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn words_in_any_order(words in prop::collection::vec(word(), 1..14)) {
        let sql = format!("select {}", words.join(" "));
        ENGINE.with(|(engine, session)| try_it(engine, session, &sql))?;
    }

    #[test]
    fn expressions_of_any_type(e in expression(), filter in expression(), order in expression()) {
        let sql = format!("select {e} from pgautofailover.node n");
        ENGINE.with(|(engine, session)| try_it(engine, session, &sql))?;
        let sql = format!("select nodeid, {e} as x from pgautofailover.node n where {filter} order by {order}, x limit 2");
        ENGINE.with(|(engine, session)| try_it(engine, session, &sql))?;
    }

    #[test]
    fn any_text(text in "\\PC{0,60}") {
        ENGINE.with(|(engine, session)| try_it(engine, session, &text))?;
        let quoted = format!("select '{}'::jsonb, '{0}'::interval, '{0}'::timestamptz, '{0}'::int[]", text.replace('\'', "''"));
        ENGINE.with(|(engine, session)| try_it(engine, session, &quoted))?;
    }
}

thread_local! {
    static ENGINE: (Engine, SessionView) = (engine(), session());
}
