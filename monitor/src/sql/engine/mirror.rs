//! The replicated state as SQLite tables: filled on first use, kept up as the view moves on.

use std::sync::{Arc, Weak};

use failover::{Event, Node, Observations, State, WallTime};
use rusqlite::types::Value;
use rusqlite::{Connection, Result, params_from_iter};

use super::catalog::Relation;
use super::value::input::{lsn_to_i64, state_to_i64};
use crate::sql::backend::{ReadView, ReplicaRow};

/// Which view a table was filled from.
///
/// The numbers identify a view; the pointers tell apart a tentative view that happens to bear the
/// numbers of the state it was derived from. They are weak, so that the mirror neither keeps an old
/// state alive nor makes its owner copy it before a change.
#[derive(Default)]
pub struct Stamp {
    applied_index: u64,
    observations_version: u64,
    state: Weak<State>,
    observations: Weak<Observations>,
}

impl Stamp {
    pub fn of(view: &ReadView) -> Stamp {
        Stamp {
            applied_index: view.applied_index,
            observations_version: view.observations_version,
            state: Arc::downgrade(&view.state),
            observations: Arc::downgrade(&view.observations),
        }
    }

    /// Whether `view` is the one that this stamp was taken of.
    pub fn is(&self, view: &ReadView) -> bool {
        self.applied_index == view.applied_index
            && self.observations_version == view.observations_version
            && std::ptr::eq(self.state.as_ptr(), Arc::as_ptr(&view.state))
            && std::ptr::eq(self.observations.as_ptr(), Arc::as_ptr(&view.observations))
    }
}

/// The newest and the oldest event in the table, to go on from.
#[derive(Default)]
pub struct EventsSeen {
    first: i64,
    last: Option<Arc<Event>>,
}

/// `INSERT` with as many values as the relation has columns.
fn insert_sql(relation: &Relation) -> String {
    let marks = vec!["?"; relation.columns.len()].join(", ");
    format!("INSERT INTO {} VALUES ({marks})", relation.sql_name)
}

/// Creates the table of a relation. Columns have no declared types: values are stored as given.
pub fn create(connection: &Connection, relation: &Relation) -> Result<()> {
    let columns: Vec<String> = relation.columns.iter().map(|c| format!("\"{}\"", c.name)).collect();
    connection.execute_batch(&format!("CREATE TABLE {} ({})", relation.sql_name, columns.join(", ")))
}

/// Replaces all rows of a relation.
pub fn replace(connection: &Connection, relation: &Relation, rows: &[Vec<Value>]) -> Result<()> {
    connection.prepare_cached(&format!("DELETE FROM {}", relation.sql_name))?.execute([])?;
    let mut insert = connection.prepare_cached(&insert_sql(relation))?;
    for row in rows {
        insert.execute(params_from_iter(row))?;
    }
    Ok(())
}

/// The rows of a mirrored relation other than `event`.
pub fn rows(relation: &Relation, view: &ReadView) -> Vec<Vec<Value>> {
    match relation.name.as_str() {
        "node" => failover::queries::nodes(&view.state, &view.observations).iter().map(node_row).collect(),
        "formation" => {
            let row = |f: &failover::Formation| {
                vec![text(&f.id), text(&f.kind), text(&f.dbname), flag(f.opt_secondary), int(f.number_sync_standbys)]
            };
            view.state.formations.values().map(row).collect()
        }
        _ => view.replicas.iter().map(replica_row).collect(),
    }
}

/// Brings the event table up to the view: appends what is new, drops what the state has dropped.
pub fn events(connection: &Connection, relation: &Relation, seen: &mut EventsSeen, view: &ReadView) -> Result<()> {
    let events = &view.state.events;
    let known = seen.last.as_ref().and_then(|last| {
        let at = events.binary_search_by_key(&last.id, |e| e.id).ok()?;
        // The same id with other content: that was a tentative view which came to nothing.
        (events.get(at) == Some(last)).then_some(at + 1)
    });
    let from = match known {
        Some(from) => from,
        None => {
            connection.prepare_cached(&format!("DELETE FROM {}", relation.sql_name))?.execute([])?;
            0
        }
    };
    let mut insert = connection.prepare_cached(&insert_sql(relation))?;
    for event in events.range(from..) {
        insert.execute(params_from_iter(event_row(event)))?;
    }
    let first = events.front().map(|e| e.id).unwrap_or(0);
    if known.is_some() && first > seen.first {
        let sql = format!("DELETE FROM {} WHERE eventid < ?", relation.sql_name);
        connection.prepare_cached(&sql)?.execute([first])?;
    }
    *seen = EventsSeen { first, last: events.back().cloned() };
    Ok(())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_string())
}

fn int(n: impl Into<i64>) -> Value {
    Value::Integer(n.into())
}

fn flag(b: bool) -> Value {
    Value::Integer(i64::from(b))
}

fn time(WallTime(us): WallTime) -> Value {
    Value::Integer(us)
}

fn node_row(n: &Node) -> Vec<Value> {
    vec![
        text(&n.formation),
        int(n.id),
        int(n.group),
        text(&n.name),
        text(&n.host),
        int(n.port),
        n.system_identifier.map(Value::Integer).unwrap_or(Value::Null),
        int(state_to_i64(n.goal)),
        int(state_to_i64(n.reported)),
        flag(n.pg_is_running),
        text(n.sync_state.name()),
        time(n.report_time),
        int(n.timeline),
        int(lsn_to_i64(n.lsn)),
        time(n.wal_report_time),
        int(n.health.as_i32()),
        time(n.health_check_time),
        time(n.state_change_time),
        int(n.candidate_priority),
        flag(n.replication_quorum),
        text(&n.cluster),
        text(&n.region),
    ]
}

fn event_row(event: &Event) -> Vec<Value> {
    let e = &event.event;
    vec![
        int(event.id),
        time(e.time),
        text(&e.formation),
        int(e.node),
        int(e.group),
        text(&e.name),
        text(&e.host),
        int(e.port),
        int(state_to_i64(e.reported)),
        int(state_to_i64(e.goal)),
        text(e.sync_state.name()),
        int(e.timeline),
        int(lsn_to_i64(e.lsn)),
        int(e.candidate_priority),
        flag(e.replication_quorum),
        text(&e.description),
        e.rule_pos.map(int).unwrap_or(Value::Null),
        e.rule_section.as_deref().map(text).unwrap_or(Value::Null),
    ]
}

fn replica_row(r: &ReplicaRow) -> Vec<Value> {
    vec![
        int(r.id),
        text(&r.name),
        text(&r.host),
        int(r.port),
        int(r.replica_port),
        text(&r.role),
        int(r.term),
        int(r.applied_index),
        r.lag.map(Value::Integer).unwrap_or(Value::Null),
        r.version.as_deref().map(text).unwrap_or(Value::Null),
    ]
}

/// The rows of `pgautofailover.fsm`.
pub fn fsm_rows() -> Vec<Vec<Value>> {
    let row = |r: failover::render::FsmRow| {
        vec![int(r.pos), text(r.section), text(&r.condition), text(&r.assignments), text(r.summary)]
    };
    failover::render::fsm_rows().into_iter().map(row).collect()
}
