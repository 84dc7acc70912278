//! The state that the golden files were captured with, and a session to read it.

// Each test crate uses a part of it.
#![allow(dead_code)]

use std::sync::Arc;

use failover::{
    Event, Formation, Generation, Health, Lsn, NewEvent, Node, NodeState, Now, Observations, State, SyncState, WallTime,
};
use monitor::sql::backend::{ReadView, ReplicaRow};
use monitor::sql::engine::{Engine, Param, SessionView, SettingView};
use monitor::sql::error::SqlError;
use monitor::sql::functions::registry;
use monitor::sql::types::{Datum, RowSet};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// 2026-11-21 00:00:00 UTC.
const MIDNIGHT: i64 = 1_795_219_200_000_000;

/// A time of that day in seconds.
fn at(hour: i64, minute: i64, us: i64) -> WallTime {
    WallTime(MIDNIGHT + (hour * 3600 + minute * 60) * 1_000_000 + us)
}

fn node(id: i64, goal: NodeState, reported: NodeState) -> Node {
    Node {
        formation: "default".into(),
        id,
        group: 0,
        name: format!("n{id}"),
        host: "127.0.0.1".into(),
        port: 15_120 + id as i32,
        system_identifier: Some(7_710_441_297_739_166_913),
        goal,
        reported,
        pg_is_running: true,
        sync_state: SyncState::Unknown,
        timeline: 1,
        lsn: Lsn(0x505_5010),
        health: Health::Good,
        candidate_priority: 50,
        replication_quorum: true,
        cluster: "default".into(),
        region: String::new(),
        generation: Generation::Stock20,
        report_time: at(2, 11, 31_038_117),
        wal_report_time: at(2, 11, 31_038_117),
        sync_sets: Default::default(),
        epoch: 0,
        goal_epoch: 0,
        sealed: false,
        sync_version: 0,
        postgres_end: failover::PostgresEnd::None,
        health_check_time: at(2, 11, 31_310_065),
        state_change_time: at(2, 10, 26_398_768),
    }
}

fn event(id: i64, time: WallTime, node: i64, states: [NodeState; 2], sync: SyncState, lsn: u64, text: &str) -> Event {
    let event = NewEvent {
        time,
        formation: "default".into(),
        node,
        group: 0,
        name: format!("n{node}"),
        host: "127.0.0.1".into(),
        port: 15_120 + node as i32,
        reported: states[0],
        goal: states[1],
        sync_state: sync,
        timeline: 1,
        lsn: Lsn(lsn),
        candidate_priority: 50,
        replication_quorum: true,
        health: Health::Good,
        description: text.into(),
        rule_pos: None,
        rule_section: None,
    };
    Event { id, event }
}

/// Three nodes, two formations, four events.
pub fn state() -> State {
    use NodeState::*;
    let mut state = State::default();
    if let Some(f) = state.formations.get_mut("default") {
        f.number_sync_standbys = 0;
    }
    state.formations.insert("f2".into(), Formation { dbname: "db2".into(), ..Formation::new("f2") });
    let n1 = Node { sync_state: SyncState::Quorum, ..node(1, Primary, Primary) };
    let n2 = Node {
        report_time: at(2, 11, 31_091_213),
        wal_report_time: at(2, 11, 31_091_213),
        health_check_time: at(2, 11, 31_303_650),
        state_change_time: at(2, 10, 25_000_000),
        ..node(2, Secondary, Secondary)
    };
    let n3 = Node {
        system_identifier: None,
        pg_is_running: false,
        lsn: Lsn(0),
        health: Health::Unknown,
        candidate_priority: 0,
        replication_quorum: false,
        cluster: "reader".into(),
        report_time: at(2, 11, 30_500_000),
        wal_report_time: at(2, 11, 30_500_000),
        health_check_time: at(2, 10, 0),
        state_change_time: at(2, 10, 25_100_000),
        ..node(3, Catchingup, WaitStandby)
    };
    for n in [n1, n2, n3] {
        state.nodes.insert(n.id, Arc::new(n));
    }
    let events = [
        event(
            1,
            at(2, 10, 9_845_515),
            1,
            [Init, Single],
            SyncState::Async,
            0,
            "Setting goal state of node 1 \"n1\" (127.0.0.1:15121) to single as there is no other node.",
        ),
        event(
            2,
            at(2, 10, 14_924_369),
            1,
            [Single, Single],
            SyncState::Unknown,
            0x193_A2E8,
            "New state is reported by node 1 \"n1\" (127.0.0.1:15121): \"single\"",
        ),
        event(
            3,
            at(2, 10, 17_200_000),
            1,
            [Single, WaitPrimary],
            SyncState::Unknown,
            0x193_D9F8,
            "Node node 1 \"n1\" (127.0.0.1:15121) is marked as healthy by the monitor",
        ),
        event(
            4,
            at(2, 10, 20_000_000),
            2,
            [WaitStandby, Catchingup],
            SyncState::Unknown,
            0,
            "caf\u{e9} \\ \"quoted\"\nline",
        ),
    ];
    state.events.extend(events.map(Arc::new));
    state.next_node_id = 4;
    state.next_event_id = 5;
    state
}

/// A view of a state.
pub fn view_of(state: State, applied_index: u64) -> ReadView {
    let now = Now { wall: at(2, 12, 0), mono_us: 1_000_000 };
    let replica = ReplicaRow {
        id: 1,
        name: "m1".into(),
        host: "127.0.0.1".into(),
        port: 6000,
        replica_port: 6001,
        role: "leader".into(),
        term: 3,
        applied_index: applied_index as i64,
        lag: Some(0),
        version: None,
    };
    ReadView {
        state: Arc::new(state),
        observations: Arc::new(Observations::default()),
        applied_index,
        observations_version: 1,
        now,
        replicas: Arc::new(vec![replica]),
    }
}

/// The session `postgres` in `pg_auto_failover`.
pub fn session() -> SessionView {
    let settings = failover::settings::DEFINITIONS.iter().map(|d| SettingView {
        name: d.name.into(),
        setting: d.default.to_string(),
        unit: (d.kind == failover::settings::Kind::Milliseconds).then(|| "ms".into()),
        short_desc: d.description.into(),
        context: d.context.into(),
        vartype: "integer".into(),
        min_val: Some(d.min.to_string()),
        max_val: Some(d.max.to_string()),
        boot_val: Some(d.default.to_string()),
        ..SettingView::default()
    });
    SessionView {
        user: "postgres".into(),
        database: "pg_auto_failover".into(),
        application_name: "psql".into(),
        time_zone: "UTC".into(),
        in_recovery: false,
        backend_pid: 4242,
        extension_version: "2.0".into(),
        server_version: "15.18".into(),
        started_at: at(1, 0, 0),
        server_started_at: at(0, 0, 0),
        client_addr: None,
        client_port: -1,
        server_addr: None,
        server_port: 5432,
        settings: settings.collect(),
    }
}

pub fn engine() -> Engine {
    Engine::new(registry())
}

/// Parses and runs one statement.
pub fn run(engine: &Engine, view: &ReadView, session: &SessionView, sql: &str, params: &[Param]) -> Result<RowSet, SqlError> {
    let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql)
        .map_err(|e| SqlError::new("42601", e.to_string()))?;
    let [statement] = statements.as_slice() else { return Err(SqlError::new("42601", "one statement, please")) };
    engine.query(view, session, statement, params)
}

/// A field as COPY prints it.
pub fn field(datum: &Datum) -> String {
    let text = match datum {
        Datum::Null => return "\\N".into(),
        Datum::Bool(b) => if *b { "t" } else { "f" }.to_string(),
        Datum::Int(i) => i.to_string(),
        Datum::Float(f) => {
            // As the wire encoder prints them, for the few magnitudes that the golden files hold.
            if f.abs() >= 1e15 || (*f != 0.0 && f.abs() < 1e-4) {
                let text = format!("{f:e}");
                let (m, e) = text.split_once('e').unwrap_or((&text, "0"));
                let e: i32 = e.parse().unwrap_or(0);
                format!("{m}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
            } else {
                f.to_string()
            }
        }
        Datum::Text(t) => t.clone(),
        Datum::Lsn(l) => l.to_string(),
        Datum::State(s) => s.name().to_string(),
        Datum::Time(WallTime(us)) => timestamptz(*us),
    };
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t")
}

fn timestamptz(us: i64) -> String {
    let stamp = jiff::Timestamp::from_microsecond(us).unwrap_or_default();
    let text = stamp.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let fraction = format!("{:06}", us.rem_euclid(1_000_000));
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{text}+00") } else { format!("{text}.{fraction}+00") }
}
