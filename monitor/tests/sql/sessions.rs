//! Transactions, settings, notifications, prepared statements.

use std::time::Duration;

use monitor::sql::backend::Role;

use crate::basics::{REGISTER, REGISTER_OIDS, node};
use crate::mock::Server;
use crate::raw::*;

const NODES: &str = "SELECT * FROM pgautofailover.get_nodes()";

#[tokio::test]
async fn rollback_and_disconnect_undo() {
    let server = Server::leader().await;
    let mut watch = Client::connect(server.address).await;
    let mut c = Client::connect(server.address).await;
    c.simple("BEGIN").await;
    c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    let answer = c.simple("ROLLBACK").await;
    assert_eq!((answer.tags[0].as_str(), answer.status), ("ROLLBACK", b'I'));
    c.simple("BEGIN").await;
    c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    drop(c);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(watch.simple(NODES).await.rows.len(), 0);
}

#[tokio::test]
async fn failed_transactions_refuse_everything() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    c.simple("BEGIN").await;
    c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    let answer = c.simple("SELECT nonsense nonsense nonsense").await;
    assert_eq!((answer.sqlstate(), answer.status), ("42601", b'E'));
    assert_eq!(c.simple(NODES).await.sqlstate(), "25P02");
    assert_eq!(c.params(NODES, &[], &[]).await.sqlstate(), "25P02");
    let answer = c.simple("COMMIT").await;
    assert_eq!((answer.tags[0].as_str(), answer.status), ("ROLLBACK", b'I'));
    assert_eq!(c.simple(NODES).await.rows.len(), 0);
}

#[tokio::test]
async fn lost_commits_say_so() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    c.simple("BEGIN").await;
    c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    server.mock.cluster.inner.lock().unwrap().lose_commit = true;
    let answer = c.simple("COMMIT").await;
    assert_eq!((answer.sqlstate(), answer.status), ("40001", b'I'));
    assert_eq!(c.simple(NODES).await.rows.len(), 0);
}

#[tokio::test]
async fn savepoints() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    assert_eq!(c.simple("SAVEPOINT s").await.sqlstate(), "25P01");
    c.simple("BEGIN; SELECT pgautofailover.register_node('default', 'h', 1, 'd', 'a', 5); SAVEPOINT s").await;
    assert_eq!(c.simple("SELECT pgautofailover.node_active('default', 77, 0)").await.sqlstate(), "42704");
    assert_eq!(c.simple("ROLLBACK TO SAVEPOINT s").await.status, b'T');
    assert_eq!(c.simple("RELEASE s").await.tags, ["RELEASE"]);
    assert_eq!(c.simple("ROLLBACK TO nope").await.sqlstate(), "3B001");
    assert_eq!(c.simple("ROLLBACK").await.status, b'I');
    assert_eq!(c.simple(NODES).await.rows.len(), 0);
}

#[tokio::test]
async fn a_query_string_is_one_transaction() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let register = "SELECT pgautofailover.register_node('default', 'h', 1, 'd', 'a', 5)";
    let answer = c.simple(&format!("{register}; SELECT pgautofailover.node_active('default', 77, 0)")).await;
    assert_eq!((answer.sqlstate(), answer.tags.len(), answer.status), ("42704", 1, b'I'));
    assert_eq!(c.simple(NODES).await.rows.len(), 0);
    let answer = c.simple(&format!("{register}; {NODES}; ; SHOW server_version")).await;
    assert_eq!(answer.tags, ["SELECT 1", "SELECT 1", "SHOW"]);
    assert_eq!(c.simple(NODES).await.rows.len(), 1);
    assert_eq!(c.simple(" ; -- nothing\n").await.kinds, "IZ");
}

#[tokio::test]
async fn warnings_of_transactions() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    assert_eq!(c.simple("COMMIT").await.notices, ["there is no transaction in progress"]);
    c.simple("begin transaction isolation level serializable, read only").await;
    assert_eq!(c.simple("SHOW transaction_read_only").await.row(), ["on"]);
    assert_eq!(c.simple("BEGIN").await.notices, ["there is already a transaction in progress"]);
    let answer = c.simple("SELECT pgautofailover.register_node('default', 'h', 1, 'd', 'a', 5)").await;
    assert_eq!(answer.sqlstate(), "25006");
    c.simple("ABORT").await;
    assert_eq!(c.simple("SHOW transaction_read_only").await.row(), ["off"]);
}

#[tokio::test]
async fn notifications_reach_idle_sessions_at_once() {
    let server = Server::leader().await;
    let mut listener = Client::connect(server.address).await;
    assert_eq!(listener.simple("LISTEN \"state\"").await.tags, ["LISTEN"]);
    assert_eq!(listener.simple("LISTEN \"state\"").await.tags, ["LISTEN"]);
    let mut held = Client::connect(server.address).await;
    held.simple("LISTEN log; LISTEN state").await;
    held.simple("BEGIN").await;
    let mut c = Client::connect(server.address).await;
    c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    let message = listener.message().await.unwrap();
    assert_eq!(message.kind, b'A');
    assert!(String::from_utf8_lossy(&message.body).contains("state\0{\"type\": \"state\""));
    // Inside a transaction they wait for its end.
    assert_eq!(held.simple("SHOW server_version").await.notifications, []);
    // With the answer, or right after it: nothing is sent within some milliseconds after a LISTEN.
    let answer = held.simple("COMMIT").await;
    if answer.notifications.is_empty() {
        let message = held.message().await.unwrap();
        assert_eq!(message.kind, b'A', "{message:?}");
    } else {
        assert!(answer.notifications.iter().any(|(channel, _)| channel == "log"), "{answer:?}");
    }
    listener.simple("UNLISTEN *").await;
    c.params(REGISTER, REGISTER_OIDS, &node("b", "2")).await;
    assert_eq!(listener.simple("SHOW server_version").await.notifications, []);
}

#[tokio::test]
async fn settings() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let greeting: std::collections::BTreeMap<_, _> = c.greeting.parameters.iter().cloned().collect();
    for (name, value) in [
        ("application_name", ""),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("default_transaction_read_only", "off"),
        ("in_hot_standby", "off"),
        ("integer_datetimes", "on"),
        ("IntervalStyle", "postgres"),
        ("is_superuser", "off"),
        ("server_encoding", "UTF8"),
        ("session_authorization", "autoctl_node"),
        ("standard_conforming_strings", "on"),
        ("TimeZone", "UTC"),
    ] {
        assert_eq!(greeting.get(name).map(String::as_str), Some(value), "{name}");
    }
    let answer = c.simple("SET application_name TO 'me'").await;
    assert_eq!(answer.parameters, [("application_name".to_string(), "me".to_string())]);
    assert_eq!(c.simple("SHOW application_name").await.row(), ["me"]);
    assert_eq!(c.simple("BEGIN; SET LOCAL application_name = x; ROLLBACK; SHOW application_name").await.row(), ["me"]);
    assert_eq!(c.simple("RESET application_name; SHOW application_name").await.row(), [""]);
    assert_eq!(c.simple("SHOW pgautofailover.health_check_period").await.row(), ["5s"]);
    assert_eq!(c.simple("SHOW DATESTYLE").await.names(), ["DateStyle"]);
    let answer = c.simple("SET nonsense = 1").await;
    assert_eq!(answer.field(b'M'), "unrecognized configuration parameter \"nonsense\"");
    assert_eq!(answer.sqlstate(), "42704");
    assert_eq!(c.simple("SHOW pgautofailover.nonsense").await.sqlstate(), "42704");
    assert_eq!(c.simple("SET pgautofailover.health_check_period = '1s'").await.sqlstate(), "55P02");
    assert_eq!(c.simple("SET pgautofailover.guard_data_loss TO maybe").await.sqlstate(), "22023");
    assert_eq!(c.simple("SET pgautofailover.guard_data_loss TO false; SHOW pgautofailover.guard_data_loss").await.row(), ["off"]);
    assert_eq!(c.simple("SET server_version = 9").await.sqlstate(), "55P02");
    assert_eq!(c.simple("SET client_encoding TO 'LATIN1'").await.sqlstate(), "22023");
    assert_eq!(c.simple("SET extra_float_digits = 3; SET TIME ZONE 'UTC'; SET NAMES 'UTF8'; SET search_path TO a, b; SHOW search_path").await.row(), ["a, b"]);
    assert_eq!(c.simple("SELECT set_config('application_name', 'other', false)").await.row(), ["other"]);
    assert_eq!(c.simple("DISCARD ALL").await.tags, ["DISCARD ALL"]);
    assert_eq!(c.simple("SHOW search_path").await.row(), ["\"$user\", public"]);
    assert!(c.simple("SHOW ALL").await.rows.len() > 40);
    // Replicated ones.
    assert_eq!(c.simple("ALTER SYSTEM SET pgautofailover.health_check_period TO '7s'").await.tags, ["ALTER SYSTEM"]);
    assert_eq!(c.simple("SHOW pgautofailover.health_check_period").await.row(), ["5s"]);
    assert_eq!(c.simple("SELECT pg_reload_conf()").await.row(), ["t"]);
    assert_eq!(c.simple("SHOW pgautofailover.health_check_period").await.row(), ["7s"]);
    assert_eq!(c.simple("ALTER DATABASE pg_auto_failover SET pgautofailover.health_check_period = 100").await.tags, ["ALTER DATABASE"]);
    assert_eq!(c.simple("SHOW pgautofailover.health_check_period").await.row(), ["100ms"]);
    assert_eq!(c.simple("ALTER SYSTEM SET pgautofailover.health_check_period TO 'soon'").await.sqlstate(), "22023");
    assert_eq!(c.simple("ALTER SYSTEM SET work_mem TO '1MB'").await.sqlstate(), "0A000");
    assert_eq!(c.simple("ALTER SYSTEM SET nosuch TO '1MB'").await.sqlstate(), "42704");
}

#[tokio::test]
async fn extension_versions() {
    let server = Server::leader().await;
    let version = "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = $1";
    let user = ("user", "autoctl_node");
    for parameters in [
        vec![user, ("database", "pg_auto_failover_2.2")],
        vec![user, ("database", "pg_auto_failover"), ("options", "-c pgquorum.extension_version=2.2")],
        vec![user, ("database", "x"), ("options", "--pgquorum.extension-version=2.2 -capplication_name=a\\ b")],
    ] {
        let mut c = Client::connect_as(server.address, &parameters).await.unwrap();
        assert_eq!(c.params(version, &[25], &["pgautofailover"]).await.row(), ["2.2", "2.2"], "{parameters:?}");
    }
    let bad = Client::connect_as(server.address, &[user, ("options", "-c pgquorum.extension_version=9")]).await;
    assert_eq!(bad.err().unwrap().sqlstate(), "22023");
    let bad = Client::connect_as(server.address, &[user, ("options", "-x")]).await;
    assert_eq!(bad.err().unwrap().sqlstate(), "42601");
}

#[tokio::test]
async fn extensions_and_refusals() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let answer = c.simple("CREATE EXTENSION IF NOT EXISTS pgautofailover CASCADE").await;
    assert_eq!(answer.notices, ["extension \"pgautofailover\" already exists, skipping"]);
    assert_eq!(answer.tags, ["CREATE EXTENSION"]);
    assert_eq!(c.simple("CREATE EXTENSION pgautofailover").await.sqlstate(), "42710");
    for (sql, state) in [
        ("UPDATE pgautofailover.node SET health = 1", "42501"),
        ("DELETE FROM pgautofailover.node", "42501"),
        ("INSERT INTO pgautofailover.event VALUES (1)", "42501"),
        ("TRUNCATE pgautofailover.node", "42501"),
        ("CREATE TABLE x (a int)", "0A000"),
        ("NOTIFY state", "0A000"),
        ("EXPLAIN SELECT 1", "0A000"),
        ("PREPARE x AS SELECT 1", "0A000"),
        ("COPY pgautofailover.node FROM STDIN", "0A000"),
        ("FOO BAR", "42601"),
        ("SELECT 'unterminated", "42601"),
        ("SELECT /* unterminated", "42601"),
        ("SELECT (1", "42601"),
        (")", "42601"),
        ("SET", "42601"),
        ("SELECT pgautofailover.testing_set_node_health(1, 1)", "42501"),
        ("SELECT $1", "42P02"),
    ] {
        let answer = c.simple(sql).await;
        assert_eq!(answer.sqlstate(), state, "{sql}: {answer:?}");
        assert_eq!(answer.status, b'I');
    }
    let answer = c.simple("FOO BAR").await;
    assert_eq!((answer.field(b'M'), answer.field(b'P')), ("syntax error at or near \"FOO\"", "1"));
    assert_eq!(c.simple("SELECT (1").await.field(b'M'), "syntax error at end of input");
    assert_eq!(c.simple("SELECT (1;").await.field(b'M'), "syntax error at or near \";\"");
    // A chain as long as a frame allows must not exhaust the stack.
    let deep = format!("SELECT 1{}", "+1".repeat(200_000));
    assert_eq!(c.simple(&deep).await.sqlstate(), "54001");
    let deep = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(c.simple(&deep).await.sqlstate(), "54001");
}

#[tokio::test]
async fn named_statements_and_portals() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    let events = "SELECT eventid FROM pgautofailover.last_events($1::text, count => $2)";
    let mut all = parse_message("s", events, &[]);
    all.extend(describe_message(b'S', "s"));
    all.extend(sync_message());
    c.send(&all).await;
    assert_eq!(c.answer().await.kinds, "1tTZ");
    // Three rows, one at a time, in a transaction.
    for _ in 0..3 {
        c.params("SELECT pgautofailover.set_node_candidate_priority('default', 'a', 7)", &[], &[]).await;
    }
    let total = c.simple("SELECT * FROM pgautofailover.last_events(3)").await.rows.len();
    assert_eq!(total, 3);
    c.simple("BEGIN").await;
    let mut all = bind_message("p", "s", 0, &[Some(b"default"), Some(b"3")], 0);
    for _ in 0..3 {
        all.extend(execute_message("p", 1));
    }
    all.extend(execute_message("p", 1));
    all.extend(frame(b'C', b"Pp\0"));
    all.extend(frame(b'C', b"Snope\0"));
    all.extend(sync_message());
    c.send(&all).await;
    let answer = c.answer().await;
    assert_eq!(answer.kinds, "2DsDsDCC33Z", "{answer:?}");
    assert_eq!(answer.tags, ["SELECT 1", "SELECT 0"]);
    c.simple("COMMIT").await;
    // An error skips everything up to Sync.
    let mut all = bind_message("", "nope", 0, &[], 0);
    all.extend(execute_message("", 0));
    all.extend(describe_message(b'P', ""));
    all.extend(sync_message());
    c.send(&all).await;
    let answer = c.answer().await;
    assert_eq!((answer.kinds.as_str(), answer.sqlstate()), ("EZ", "26000"));
    let mut all = parse_message("s", "SELECT 1", &[]);
    all.extend(sync_message());
    c.send(&all).await;
    assert_eq!(c.answer().await.sqlstate(), "42P05");
    assert_eq!(c.simple("DEALLOCATE s").await.tags, ["DEALLOCATE"]);
    assert_eq!(c.simple("DEALLOCATE s").await.sqlstate(), "26000");
    let mut all = parse_message("", "BEGIN", &[]);
    all.extend(bind_message("", "", 0, &[], 0));
    all.extend(describe_message(b'P', ""));
    all.extend(execute_message("", 0));
    all.extend(sync_message());
    c.send(&all).await;
    let answer = c.answer().await;
    assert_eq!((answer.kinds.as_str(), answer.status), ("12nCZ", b'T'));
}

#[tokio::test]
async fn binary_formats() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    let active = "SELECT * FROM pgautofailover.node_active($1, $2, $3, 'single', $4, $5, $6)";
    let mut all = parse_message("", active, &[25, 20, 23, 16, 23, 3220]);
    let values: [Option<&[u8]>; 6] =
        [Some(b"default"), Some(&1_i64.to_be_bytes()), Some(&0_i32.to_be_bytes()), Some(&[1]), Some(&3_i32.to_be_bytes()), Some(&0x5000_0010_u64.to_be_bytes())];
    all.extend(bind_message("", "", 1, &values, 1));
    all.extend(execute_message("", 0));
    all.extend(sync_message());
    c.send(&all).await;
    let message = loop {
        let message = c.message().await.unwrap();
        assert_ne!(message.kind, b'E', "{}", String::from_utf8_lossy(&message.body));
        if message.kind == b'D' {
            break message.body;
        }
    };
    assert_eq!(message[..2], [0, 5]);
    assert_eq!(message[2..14], [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(message[14..22], [0, 0, 0, 4, 0, 0, 0, 0]);
    c.answer().await;
    let answer = c.simple("SELECT node_lsn FROM pgautofailover.get_nodes()").await;
    assert_eq!(answer.row(), ["0/50000010"]);
    let mut all = parse_message("", active, &[25, 20, 23, 16, 23, 3220]);
    let mut wrong = values;
    wrong[1] = Some(&[1, 2, 3]);
    all.extend(bind_message("", "", 1, &wrong, 1));
    all.extend(sync_message());
    c.send(&all).await;
    assert_eq!(c.answer().await.sqlstate(), "22P03");
}

#[tokio::test]
async fn tokio_postgres_works() {
    let server = Server::leader().await;
    let config = format!("host=127.0.0.1 port={} user=autoctl_node dbname=pg_auto_failover", server.address.port());
    let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client
        .query_one("SELECT assigned_node_id, assigned_node_name FROM pgautofailover.register_node($1, $2, $3, $4)", &[&"default", &"h", &5432_i32, &"d"])
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (1, "node_1"));
    let rows = client.query("SELECT * FROM pgautofailover.get_nodes($1, $2) WHERE node_id = $3", &[&"default", &0_i32, &1_i64]).await.unwrap();
    assert_eq!((rows.len(), rows[0].get::<_, i32>(3), rows[0].get::<_, bool>(5)), (1, 5432, false));
    let error = client.query("SELECT pgautofailover.get_primary('nope')", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "XX000");
}

#[tokio::test]
async fn role_changes_are_announced() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let _ = server.mock.role.send(Role::Follower { leader: 2 });
    let body = |m: Message| String::from_utf8(m.body).unwrap();
    let mut seen = [body(c.message().await.unwrap()), body(c.message().await.unwrap())];
    seen.sort();
    assert_eq!(seen, ["default_transaction_read_only\0on\0", "in_hot_standby\0on\0"]);
    assert_eq!(c.simple("SHOW transaction_read_only").await.row(), ["on"]);
    assert_eq!(c.simple("SHOW in_hot_standby").await.row(), ["on"]);
}

#[tokio::test]
async fn test_mode_writes_by_hand() {
    let server = Server::test_mode().await;
    let mut c = Client::connect(server.address).await;
    c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    let answer = c.simple("SELECT pgautofailover.testing_set_node_health(1, 0, report_time_ago => '60 s')").await;
    assert_eq!(answer.row(), [""]);
    assert_eq!(c.simple("SELECT health FROM pgautofailover.current_state()").await.row(), ["0"]);
    assert_eq!(c.simple("SET pgautofailover.health_check_period = '1s'").await.tags, ["SET"]);
}

#[tokio::test]
async fn times_are_shown_and_read_in_the_zone_of_the_session() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let noon = "SELECT timestamptz '2026-07-01 12:00:00+00', '2026-07-01 12:00'::timestamptz AT TIME ZONE 'UTC'";
    for (set, shown, first, second) in [
        ("SET TimeZone = 'europe/berlin'", "Europe/Berlin", "2026-07-01 14:00:00+02", "2026-07-01 10:00:00"),
        ("SET TIME ZONE -3.5", "<-03:30>+03:30", "2026-07-01 08:30:00-03:30", "2026-07-01 15:30:00"),
        ("SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE", "<+02>-02", "2026-07-01 14:00:00+02", "2026-07-01 10:00:00"),
        ("SET TIME ZONE LOCAL", "UTC", "2026-07-01 12:00:00+00", "2026-07-01 12:00:00"),
        ("SELECT set_config('timezone', 'America/New_York', false)", "America/New_York", "2026-07-01 08:00:00-04", "2026-07-01 16:00:00"),
    ] {
        let answer = c.simple(set).await;
        assert_eq!(answer.error, None, "{set}");
        assert_eq!(c.simple("SHOW timezone").await.row(), [shown]);
        assert_eq!(c.simple(noon).await.row(), [first, second], "{set}");
    }
    // In the typed tier and in parameters, too.
    let at = c.params("SELECT $1::timestamptz, $1::timestamptz::date", &[1184], &["2026-01-01 23:00"]).await;
    assert_eq!(at.row(), ["2026-01-01 23:00:00-05", "2026-01-01"]);
    assert_eq!(c.simple("SELECT to_json(timestamptz '2026-01-02 04:00+00')").await.row(), ["\"2026-01-01T23:00:00-05:00\""]);
    assert_eq!(c.simple("SELECT extract(hour from timestamptz '2026-01-02 04:00+00')").await.row(), ["23"]);
    assert_eq!(c.simple("SELECT timestamptz '2026-03-07 12:00' + interval '1 day'").await.row(), ["2026-03-08 12:00:00-04"]);
    let refused = c.simple("SET TimeZone = 'Nowhere/Land'").await;
    assert_eq!(refused.sqlstate(), "22023");
    assert_eq!(c.simple("SHOW timezone").await.row(), ["America/New_York"]);
    c.simple("BEGIN; SET LOCAL timezone = 'UTC'").await;
    assert_eq!(c.simple(noon).await.row()[0], "2026-07-01 12:00:00+00");
    c.simple("ROLLBACK").await;
    assert_eq!(c.simple(noon).await.row()[0], "2026-07-01 08:00:00-04");
}

#[tokio::test]
async fn styles_that_are_not_written_are_refused() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    for (set, shown) in [
        ("SET DateStyle = 'DMY'", "ISO, DMY"),
        ("SET datestyle TO iso", "ISO, DMY"),
        ("SET datestyle TO ISO, us", "ISO, MDY"),
        ("SET DateStyle = DEFAULT", "ISO, MDY"),
    ] {
        assert_eq!(c.simple(set).await.error, None, "{set}");
        assert_eq!(c.simple("SHOW DateStyle").await.row(), [shown], "{set}");
    }
    assert_eq!(c.simple("SET DateStyle = 'German'").await.sqlstate(), "0A000");
    assert_eq!(c.simple("SET DateStyle = 'nonsense'").await.sqlstate(), "22023");
    assert_eq!(c.simple("SET IntervalStyle = 'iso_8601'").await.sqlstate(), "0A000");
    assert_eq!(c.simple("SET ROLE NONE").await.tags, ["SET"]);
    assert_eq!(c.simple("SET SESSION AUTHORIZATION DEFAULT").await.tags, ["SET"]);
    assert_eq!(c.simple("SET ROLE somebody").await.sqlstate(), "22023");
    assert_eq!(c.simple("SET ROLE autoctl").await.sqlstate(), "0A000");
}

#[tokio::test]
async fn constants_name_their_types() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    // As on a stock monitor.
    let answer = c.simple("select pg_lsn '0/10', pg_lsn '0/20' - pg_lsn '0/10', pg_lsn '0/10' + 16, pg_lsn '0/10' < '0/20'").await;
    assert_eq!(answer.row(), ["0/10", "16", "0/20", "t"]);
    assert_eq!(answer.columns[0], ("pg_lsn".to_string(), 3220));
    let answer = c.simple("select name 'z', oid '10', regtype 'int4', regnamespace 'pg_catalog', regclass 'pg_class'").await;
    assert_eq!(answer.row(), ["z", "10", "integer", "pg_catalog", "pg_class"]);
    let answer = c.simple("select pgautofailover.replication_state 'primary', pg_catalog.int4 '5', pg_catalog.text 'x'").await;
    assert_eq!(answer.row(), ["primary", "5", "x"]);
    let names: Vec<&str> = answer.columns.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["replication_state", "int4", "text"]);
    assert_eq!(c.simple("select count(*) from pgautofailover.node where reportedlsn > pg_lsn '0/0'").await.row(), ["0"]);
    assert_eq!(c.simple("select pg_lsn 'nonsense'").await.sqlstate(), "22P02");
    assert_eq!(c.simple("select pgautofailover.replication_state 'nonsense'").await.sqlstate(), "22P02");
}

#[tokio::test]
async fn settings_are_read_as_postgresql_reads_them() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    for (set, name, shown) in [
        ("SET statement_timeout = '1.5s'", "statement_timeout", "1500ms"),
        ("SET idle_in_transaction_session_timeout = 60000", "idle_in_transaction_session_timeout", "1min"),
        ("SET lock_timeout TO 0", "lock_timeout", "0"),
        ("SET work_mem = '8MB'", "work_mem", "8MB"),
        ("SET search_path = \"$user\", Public", "search_path", "\"$user\", public"),
        ("SET search_path = ''", "search_path", "\"\""),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "transaction_isolation", "serializable"),
    ] {
        assert_eq!(c.simple(set).await.error, None, "{set}");
        let answer = c.simple(&format!("SHOW {name}")).await;
        assert_eq!(answer.row(), [shown], "{set}");
        assert_eq!(answer.tags, ["SHOW"], "{set}");
    }
    assert_eq!(c.simple("COMMIT; SHOW transaction_isolation").await.row(), ["read committed"]);
    for set in [
        "SET statement_timeout = 'soon'",
        "SET statement_timeout = -1",
        "SET statement_timeout = '5 parsecs'",
        "SET work_mem = '1kB'",
        "SET synchronous_commit = 'bogus'",
        "SET enable_seqscan = 'x'",
        "SET random_page_cost = -1",
        "SET extra_float_digits = 4",
    ] {
        assert_eq!(c.simple(set).await.sqlstate(), "22023", "{set}");
    }
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_cancelled() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    assert_eq!(c.simple("SET statement_timeout = '50ms'").await.error, None);
    assert_eq!(c.simple("SELECT pg_sleep(30)").await.sqlstate(), "57014");
    assert_eq!(c.simple("SELECT 1").await.row(), ["1"]);
}

#[tokio::test]
async fn extensions_are_as_they_are() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    assert_eq!(c.simple("ALTER EXTENSION pgautofailover UPDATE").await.tags, ["ALTER EXTENSION"]);
    assert_eq!(c.simple("ALTER EXTENSION pgautofailover UPDATE TO '2.0'").await.tags, ["ALTER EXTENSION"]);
    assert_eq!(c.simple("ALTER EXTENSION pgautofailover UPDATE TO '2.2'").await.sqlstate(), "0A000");
    assert_eq!(c.simple("ALTER EXTENSION pgautofailover UPDATE TO '9.9'").await.sqlstate(), "22023");
    assert_eq!(c.simple("ALTER EXTENSION nosuch UPDATE").await.sqlstate(), "42704");
    assert_eq!(c.simple("DROP EXTENSION pgautofailover CASCADE").await.sqlstate(), "0A000");
    assert_eq!(c.simple("DROP EXTENSION nosuch").await.sqlstate(), "42704");
    assert_eq!(c.simple("DROP EXTENSION IF EXISTS nosuch").await.tags, ["DROP EXTENSION"]);
    assert_eq!(c.simple("DROP TABLE pgautofailover.node").await.sqlstate(), "42501");
    assert_eq!(c.simple("DROP ROLE autoctl_node").await.sqlstate(), "0A000");
}
