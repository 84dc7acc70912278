//! The read tier against what a stock monitor on PostgreSQL 15 answers.

#[path = "engine/fixture.rs"]
mod fixture;

use fixture::{engine, field, run, session, state, view_of};
use monitor::sql::types::PgType;

/// Types that PostgreSQL has and the wire enum has not: they travel as text, or as the next wider.
fn wire_name(declared: &str) -> &str {
    match declared {
        d if d.starts_with("character varying") => "character varying",
        "real" => "double precision",
        "record" | "inet" => "text",
        "aclitem[]" => "text[]",
        "information_schema.sql_identifier" => "name",
        "information_schema.character_data" | "information_schema.yes_or_no" => "character varying",
        other => other,
    }
}

struct Case {
    sql: String,
    columns: Vec<(String, String)>,
    rows: Vec<String>,
    error: Option<String>,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for block in text.split("### ").skip(1) {
        let mut lines = block.lines();
        let mut case = Case {
            sql: lines.next().unwrap_or("").to_string(),
            columns: Vec::new(),
            rows: Vec::new(),
            error: None,
        };
        for line in lines {
            if let Some(column) = line.strip_prefix("-- ") {
                let (name, ty) = column.rsplit_once('|').unwrap_or((column, ""));
                case.columns.push((name.to_string(), ty.to_string()));
            } else if let Some(row) = line.strip_prefix("= ") {
                case.rows.push(row.to_string());
            } else if let Some(error) = line.strip_prefix("!! ") {
                case.error = Some(error.to_string());
            }
        }
        cases.push(case);
    }
    cases
}

/// Compares one case; the differences, if any.
fn check(case: &Case) -> Option<String> {
    let (engine, view, session) = ENGINE.get_or_init(|| (engine(), view_of(state(), 7), session()));
    let answer = run(engine, view, session, &case.sql, &[]);
    let (expected, got) = match (&case.error, answer) {
        (Some(error), Err(e)) => (error.clone(), format!("{} {}", e.sqlstate, e.message)),
        (Some(error), Ok(rows)) => (error.clone(), format!("{} rows", rows.rows.len())),
        (None, Err(e)) => ("rows".to_string(), format!("{} {} {:?}", e.sqlstate, e.message, e.detail)),
        (None, Ok(rows)) => {
            let columns: Vec<String> = case.columns.iter().map(|(n, t)| format!("{n}|{}", wire_name(t))).collect();
            let got: Vec<String> = rows
                .columns
                .iter()
                .map(|c| format!("{}|{}", c.name, if c.ty == PgType::Unknown { "text" } else { c.ty.name() }))
                .collect();
            let mut lines: Vec<String> =
                rows.rows.iter().map(|r| r.iter().map(field).collect::<Vec<_>>().join("\t")).collect();
            // The one relation in the schema that a 2.0 monitor does not list.
            lines.retain(|l| !l.starts_with("pgautofailover\tfsm\tview"));
            (
                format!("{}\n{}", columns.join(", "), case.rows.join("\n")),
                format!("{}\n{}", got.join(", "), lines.join("\n")),
            )
        }
    };
    (expected != got).then(|| format!("{}\n  expected: {expected}\n  got:      {got}\n", case.sql))
}

static ENGINE: std::sync::OnceLock<(
    monitor::sql::engine::Engine,
    monitor::sql::backend::ReadView,
    monitor::sql::engine::SessionView,
)> = std::sync::OnceLock::new();

#[test]
fn statements_answer_as_a_stock_monitor_does() {
    let wrong: Vec<String> = cases(include_str!("engine/corpus.golden")).iter().filter_map(check).collect();
    assert!(wrong.is_empty(), "{} statements differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn psql_describes_as_on_a_stock_monitor() {
    let wrong: Vec<String> = cases(include_str!("engine/psql.golden")).iter().filter_map(check).collect();
    assert!(wrong.is_empty(), "{} statements differ:\n{}", wrong.len(), wrong.join("\n"));
}
