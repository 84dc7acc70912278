//! The read tier over time and sessions: freshness, parameters, releases, bounds, cost.

#![allow(clippy::expect_used)]

#[path = "engine/fixture.rs"]
mod fixture;

use std::sync::Arc;
use std::time::Instant;

use fixture::{engine, field, run, session, state, view_of};
use monitor::sql::engine::{Param, SettingView};
use monitor::sql::types::{Datum, PgType};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

fn text(value: &str) -> Param {
    Param { ty: PgType::Text, value: Datum::Text(value.into()) }
}

fn one(rows: monitor::sql::types::RowSet) -> String {
    rows.rows.iter().map(|r| r.iter().map(field).collect::<Vec<_>>().join("|")).collect::<Vec<_>>().join("\n")
}

#[test]
fn events_are_appended_dropped_and_undone() {
    let (engine, session) = (engine(), session());
    let count = "select count(*), min(eventid), max(eventid), max(description) from pgautofailover.event where eventid > 3";
    let mut s = state();
    let ask = |view: &_| one(run(&engine, view, &session, count, &[]).expect("query"));
    assert_eq!(ask(&view_of(s.clone(), 1)), "1|4|4|caf\u{e9} \\\\ \"quoted\"\\nline");
    // A tentative view: same numbers, one event more, which then comes to nothing.
    let mut tentative = s.clone();
    let mut ghost = (**tentative.events.back().expect("an event")).clone();
    ghost.id = 5;
    ghost.event.description = "ghost".into();
    tentative.events.push_back(Arc::new(ghost.clone()));
    assert_eq!(ask(&view_of(tentative, 1)), "2|4|5|ghost");
    assert_eq!(ask(&view_of(s.clone(), 1)), "1|4|4|caf\u{e9} \\\\ \"quoted\"\\nline");
    ghost.event.description = "real".into();
    s.events.push_back(Arc::new(ghost.clone()));
    s.events.pop_front();
    assert_eq!(ask(&view_of(s.clone(), 2)), "2|4|5|real");
    let all = one(run(&engine, &view_of(s.clone(), 2), &session, "select min(eventid) from pgautofailover.event", &[]).expect("query"));
    assert_eq!(all, "2");
}

#[test]
fn a_query_keeps_no_hold_on_the_state() {
    let (engine, session) = (engine(), session());
    let view = view_of(state(), 1);
    for sql in ["select * from pgautofailover.node", "select * from pgautofailover.current_state('default')"] {
        run(&engine, &view, &session, sql, &[]).expect("query");
    }
    assert_eq!(std::sync::Arc::strong_count(&view.state), 1);
}

#[test]
fn parameters_declared_and_not() {
    let (engine, session, view) = (engine(), session(), view_of(state(), 1));
    let ask = |sql: &str, params: &[Param]| run(&engine, &view, &session, sql, params).map(one);
    let unknown = |t: &str| Param { ty: PgType::Unknown, value: Datum::Text(t.into()) };
    let by_name = "select nodeid from pgautofailover.node where nodename = $1";
    assert_eq!(ask(by_name, &[text("n2")]).expect("text"), "2");
    assert_eq!(ask(by_name, &[unknown("n2")]).expect("unknown"), "2");
    let by_id = "select nodename from pgautofailover.node where nodeid = $1";
    assert_eq!(ask(by_id, &[unknown("3")]).expect("unknown"), "n3");
    assert_eq!(ask(by_id, &[Param { ty: PgType::Int8, value: Datum::Int(3) }]).expect("int8"), "n3");
    assert_eq!(ask(by_id, &[unknown("x")]).expect_err("no number").sqlstate, "22P02");
    assert_eq!(ask(by_id, &[]).expect_err("missing").sqlstate, "42P02");
    assert_eq!(ask("select $1::pgautofailover.replication_state", &[text("primary")]).expect("enum"), "primary");
    assert_eq!(ask("select $1::pgautofailover.replication_state", &[text("nope")]).expect_err("enum").sqlstate, "22P02");
    let state = "select node_id from pgautofailover.current_state($1, $2) order by 1 limit $3";
    let int = |i| Param { ty: PgType::Int4, value: Datum::Int(i) };
    assert_eq!(ask(state, &[text("default"), int(0), int(2)]).expect("call"), "1\n2");
    let statement = Parser::parse_sql(&PostgreSqlDialect {}, by_id).expect("parse").remove(0);
    let types = engine.parameter_types(&view, &session, &statement, &[]).expect("types");
    assert_eq!(types, [PgType::Int8]);
    let columns = engine.describe(&view, &session, &statement, &[]).expect("columns");
    assert_eq!((columns[0].name.as_str(), columns[0].ty), ("nodename", PgType::Text));
}

#[test]
fn newer_columns_show_for_newer_sessions() {
    let (engine, view) = (engine(), view_of(state(), 1));
    let mut session = session();
    let width = |session: &_, sql: &str| run(&engine, &view, session, sql, &[]).expect("query").columns.len();
    for _ in 0..2 {
        session.extension_version = "2.0".into();
        assert_eq!(width(&session, "select * from pgautofailover.event"), 16);
        assert_eq!(width(&session, "select *, rule_pos, rule_section from pgautofailover.event"), 18);
        assert_eq!(width(&session, "select * from pgautofailover.last_events(3)"), 16);
        assert_eq!(width(&session, "select * from pgautofailover.current_state('default')"), 14);
        assert_eq!(width(&session, "select nodename, noderegion from pgautofailover.current_state('default')"), 2);
        session.extension_version = "2.3".into();
        assert_eq!(width(&session, "select * from pgautofailover.event"), 18);
        assert_eq!(width(&session, "select * from pgautofailover.current_state('default')"), 15);
        let version = "select installed_version from pg_available_extensions where name = 'pgautofailover'";
        assert_eq!(one(run(&engine, &view, &session, version, &[]).expect("query")), "2.3");
    }
}

#[test]
fn the_search_path_counts() {
    let (engine, view) = (engine(), view_of(state(), 1));
    let mut session = session();
    assert_eq!(run(&engine, &view, &session, "select * from node", &[]).expect_err("no path").sqlstate, "42P01");
    session.settings.push(SettingView {
        name: "search_path".into(),
        setting: "pgautofailover, public".into(),
        ..SettingView::default()
    });
    assert_eq!(run(&engine, &view, &session, "select * from node", &[]).expect("path").rows.len(), 3);
    assert_eq!(run(&engine, &view, &session, "select * from get_nodes('default')", &[]).expect("path").rows.len(), 3);
}

#[test]
fn own_tables() {
    let (engine, session, view) = (engine(), session(), view_of(state(), 1));
    let ask = |sql: &str| one(run(&engine, &view, &session, sql, &[]).expect("query"));
    assert_eq!(ask("select name, role, term, version from pgquorum.replica"), "m1|leader|3|\\N");
    // Replicas change while the state does not.
    let mut changed = view.clone();
    changed.replicas = std::sync::Arc::new(Vec::new());
    let count = run(&engine, &changed, &session, "select count(*) from pgquorum.replica", &[]).expect("query");
    assert_eq!(one(count), "0");
    assert_eq!(ask("select count(*) > 20 from pgautofailover.fsm where summary <> ''"), "t");
    assert_eq!(ask("select now()"), "2026-11-21 02:12:00+00");
    assert_eq!(ask("select now() - reporttime from pgautofailover.node where nodeid = 3"), "00:00:29.5");
}

#[test]
fn one_query_cannot_take_everything() {
    let (engine, session, view) = (engine(), session(), view_of(state(), 1));
    let fails = |sql: &str| run(&engine, &view, &session, sql, &[]).expect_err(sql).sqlstate;
    assert_eq!(fails("select repeat('x', 1000000000)"), "54000");
    assert_eq!(fails("select * from generate_series(1, 1000000000)"), "54000");
    assert_eq!(fails("select * from generate_series(1, 1000) a, generate_series(1, 1000) b"), "54000");
    let long = "with recursive t(n) as (select 1 union all select n from t) select count(*) from t";
    assert_eq!(fails(long), "57014");
    let deep = format!("select {}1{}", "(".repeat(40), ")".repeat(40));
    run(&engine, &view, &session, &deep, &[]).expect("forty levels");
    let sum = vec!["1"; 480].join(" + ");
    assert_eq!(fails(&format!("select {sum}")), "54001");
    let many = vec!["nodeid = 1"; 250].join(" or ");
    run(&engine, &view, &session, &format!("select 1 from pgautofailover.node where {many}"), &[]).expect("a long chain");
    // The engine still answers.
    assert_eq!(one(run(&engine, &view, &session, "select 1", &[]).expect("query")), "1");
}

#[test]
fn writing_is_refused() {
    let (engine, session, view) = (engine(), session(), view_of(state(), 1));
    for sql in [
        "select pgautofailover.remove_node(1)",
        "select * from pgautofailover.perform_failover('default', 0)",
        "delete from pgautofailover.node",
        "insert into pgautofailover.formation values ('x')",
        "with gone as (delete from pgautofailover.node returning *) select * from gone",
        "select * into t from pgautofailover.node",
        "select * from pgautofailover.node for update",
    ] {
        let error = run(&engine, &view, &session, sql, &[]).expect_err(sql);
        assert!(matches!(error.sqlstate.as_str(), "0A000" | "25006" | "42601"), "{sql}: {error}");
    }
}

/// Prints figures; run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn a_steady_query() {
    let (engine, session, view) = (engine(), session(), view_of(state(), 1));
    let sql = "SELECT formation_kind, nodename, node_id, healthlag, reportlag FROM pgautofailover.current_state($1) cs \
               JOIN (select nodeid, extract(epoch from now() - healthchecktime), extract(epoch from now() - reporttime) \
               from pgautofailover.node) as n(nodeid, healthlag, reportlag) on n.nodeid = cs.node_id ORDER BY node_id";
    let statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).expect("parse").remove(0);
    let params = [text("default")];
    engine.query(&view, &session, &statement, &params).expect("query");
    let start = Instant::now();
    for _ in 0..200 {
        engine.query(&view, &session, &statement, &params).expect("query");
    }
    println!("current_state of three nodes: {:?}", start.elapsed() / 200);
}

/// Prints figures; run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn ten_thousand_events() {
    let (engine, session) = (engine(), session());
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().find(|l| l.starts_with("VmRSS")).map(str::to_string).unwrap_or_default()
    };
    let mut s = state();
    let last = s.events.back().map(|e| failover::Event::clone(e)).expect("an event");
    for id in 5..=10_000 {
        let mut event = last.clone();
        event.id = id;
        event.event.description = format!("New state is reported by node 1 \"n1\" (127.0.0.1:15121): {id}");
        s.events.push_back(event.into());
    }
    println!("before: {}", resident());
    let sql = "select count(*) from pgautofailover.event where description like '%9999'";
    let start = Instant::now();
    run(&engine, &view_of(s.clone(), 1), &session, sql, &[]).expect("query");
    println!("first query over 10,000 events: {:?}; {}", start.elapsed(), resident());
    let mut event = last.clone();
    event.id = 10_001;
    s.events.push_back(event.into());
    let view = view_of(s, 2);
    let start = Instant::now();
    run(&engine, &view, &session, sql, &[]).expect("query");
    println!("after one more event: {:?}; {}", start.elapsed(), resident());
    let start = Instant::now();
    run(&engine, &view, &session, "select c.relname, count(*) from pg_class c join pg_attribute a on a.attrelid = c.oid group by 1", &[]).expect("query");
    println!("first catalog query: {:?}; {}", start.elapsed(), resident());
    let start = Instant::now();
    for _ in 0..200 {
        run(&engine, &view, &session, "select installed_version from pg_available_extensions where name = 'pgautofailover'", &[]).expect("query");
    }
    println!("version query, parsed each time: {:?}; {}", start.elapsed() / 200, resident());
}
