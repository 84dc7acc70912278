//! Statements that the read tier answers, sent as clients send them.

use std::process::Command;

use crate::catalogue::two_nodes;
use crate::mock::Server;
use crate::raw::{Client, bind_message, describe_message, execute_message, parse_message, sync_message};

const STATE: &str = "  SELECT formation_kind, nodename, nodehost, nodeport,          group_id, node_id,          current_group_state, assigned_group_state,          candidate_priority, replication_quorum,          reported_tli, reported_lsn, health, nodecluster,          healthlag, reportlag    FROM pgautofailover.current_state($1) cs     JOIN (          select nodeid,                  extract(epoch from now() - healthchecktime),                  extract(epoch from now() - reporttime)             from pgautofailover.node          ) as n(nodeid, healthlag, reportlag)         on n.nodeid = cs.node_id ORDER BY group_id, node_id";

#[tokio::test]
async fn reports_of_stock_clients() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    two_nodes(&mut c).await;

    let answer = c.params(STATE, &[25], &["default"]).await;
    assert_eq!(answer.oids(), [25, 25, 25, 23, 23, 20, 17040, 17040, 23, 16, 23, 3220, 23, 25, 1700, 1700], "{answer:?}");
    assert_eq!(answer.kinds, "12TDDCZ");
    let answer = c
        .params("SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(state)), '[]'))FROM pgautofailover.current_state($1,$2) as state", &[25, 23], &["default", "0"])
        .await;
    assert_eq!(answer.names(), ["jsonb_pretty"]);
    assert!(answer.row()[0].starts_with("[\n    {\n        \"health\": -1,\n        \"node_id\": 1,"), "{answer:?}");
    let settings = "select context, group_id, node_id, nodename, setting, value  from pgautofailover.formation_settings($1) order by case context when 'formation' then 0  when 'primary' then 1  when 'node' then 2 else 3 end,  setting, group_id, node_id";
    let answer = c.params(settings, &[25], &["default"]).await;
    assert_eq!(answer.oids(), [25, 23, 20, 25, 25, 25]);
    assert_eq!(answer.rows.len(), 6, "{answer:?}");
    let uris = "SELECT 'monitor', 'monitor', $1  UNION ALL SELECT 'formation', formationid, formation_uri   FROM pgautofailover.formation,        pgautofailover.formation_uri(formation.formationid, 'default', $2, $3, $4)  UNION ALL SELECT 'read-replica', nodecluster, formation_uri   FROM pgautofailover.formation        JOIN pgautofailover.node using(formationid),        pgautofailover.formation_uri(formation.formationid, nodecluster, $2, $3, $4)  WHERE node.groupid = 0 and node.nodecluster <> 'default' ";
    let answer = c.params(uris, &[25; 4], &["postgres://m", "prefer", "", ""]).await;
    assert_eq!((answer.names(), answer.oids()), (vec!["?column?"; 3], vec![25; 3]));
    assert_eq!(answer.rows.len(), 2);
    let count = "SELECT count(distinct(groupid)) FROM pgautofailover.node WHERE formationid = $1";
    let answer = c.params(count, &[25], &["default"]).await;
    assert_eq!((answer.names(), answer.oids(), answer.row()), (vec!["count"], vec![20], vec!["1"]));
    let answer = c.params("SELECT number_sync_standbys FROM pgautofailover.formation WHERE formationid = $1", &[25], &["default"]).await;
    assert_eq!(answer.oids(), [23]);
    let answer = c.params("SELECT candidatepriority, replicationquorum FROM pgautofailover.node WHERE nodename = $1", &[25], &["node1"]).await;
    assert_eq!((answer.oids(), answer.row()), (vec![23, 16], vec!["50", "t"]));
    let answer = c.params("SELECT groupid FROM pgautofailover.node WHERE formationid = $1 and nodename = $2", &[25, 25], &["default", "node1"]).await;
    assert_eq!(answer.row(), ["0"]);
    let watch = "SELECT eventId, to_char(eventTime, 'YYYY-MM-DD HH24:MI:SS'),        formationId, nodeid, groupid,        nodename, nodehost, nodeport,        reportedstate, goalState,        reportedrepstate, reportedtli, reportedlsn,        candidatepriority, replicationquorum,        description   FROM pgautofailover.last_events($1, count => $2)";
    let answer = c.params(watch, &[25, 23], &["default", "2"]).await;
    assert_eq!(answer.oids(), [20, 25, 25, 20, 23, 25, 25, 23, 17040, 17040, 25, 23, 3220, 23, 16, 25]);
    assert_eq!(answer.names()[..2], ["eventid", "to_char"]);
}

#[tokio::test]
async fn a_writing_call_per_row() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    two_nodes(&mut c).await;
    let by_host = "SELECT nodeid, groupid, pgautofailover.remove_node($1, $2, $3)   FROM pgautofailover.node WHERE nodehost = $1 and nodeport = $2";
    let answer = c.params(by_host, &[25, 23, 16], &["127.0.0.1", "15999", "false"]).await;
    assert_eq!((answer.names(), answer.oids()), (vec!["nodeid", "groupid", "remove_node"], vec![20, 23, 16]));
    assert_eq!(answer.tags, ["SELECT 0"]);
    let by_name = "SELECT nodeid, groupid, pgautofailover.remove_node(nodeid::int, $3)   FROM pgautofailover.node WHERE formationid = $1 and nodename = $2";
    let answer = c.params(by_name, &[25, 25], &["default", "node2", "false"]).await;
    assert_eq!(answer.row(), ["2", "0", "t"]);
    assert_eq!(answer.kinds, "12TDCZ");
    assert_eq!(c.simple("SELECT goalstate FROM pgautofailover.node WHERE nodeid = 2").await.row(), ["dropped"]);
    let answer = c.params(by_host, &[25, 23, 16], &["127.0.0.1", "15002", "true"]).await;
    assert_eq!(answer.row(), ["2", "0", "t"]);
    assert_eq!(c.simple("SELECT count(*) FROM pgautofailover.node").await.row(), ["1"]);
    // A call in FROM under a query that needs the engine.
    let answer = c
        .simple("SELECT upper(assigned_node_name) AS n, count(*) FROM pgautofailover.register_node('default', 'h', 1, 'app', 'zz') r GROUP BY 1")
        .await;
    assert_eq!((answer.names(), answer.row()), (vec!["n", "count"], vec!["ZZ", "1"]));
    let answer = c.simple("SELECT *, pgautofailover.update_node_metadata(node_id, 'yy', node_host, node_port) FROM pgautofailover.get_nodes() WHERE node_name = 'zz'").await;
    assert_eq!(answer.row()[6], "t", "{answer:?}");
    // What fails after the call undoes it.
    let answer = c.simple("SELECT 1/0 FROM pgautofailover.register_node('default', 'h', 2, 'app', 'xx')").await;
    assert_eq!(answer.sqlstate(), "22012", "{answer:?}");
    assert_eq!(c.simple("SELECT nodename FROM pgautofailover.node WHERE nodeid > 1").await.row(), ["yy"]);
    assert_eq!(c.simple("SELECT nodeid FROM pgautofailover.node WHERE pgautofailover.remove_node(nodeid)").await.sqlstate(), "0A000");
    assert_eq!(c.simple("SELECT count(*) FROM pgautofailover.node").await.row(), ["2"]);
    // Inside a transaction the tables show what it did.
    c.simple("BEGIN; SELECT pgautofailover.remove_node(nodeid, true) FROM pgautofailover.node").await;
    assert_eq!(c.simple("SELECT count(*) FROM pgautofailover.node").await.row(), ["0"]);
    c.simple("ROLLBACK").await;
    assert_eq!(c.simple("TABLE pgautofailover.node").await.rows.len(), 2);
}

#[tokio::test]
async fn undeclared_parameters_get_types() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let mut all = parse_message("", "SELECT nodename FROM pgautofailover.node WHERE nodeid = $1 AND nodename = $2", &[]);
    all.extend(describe_message(b'S', ""));
    all.extend(bind_message("", "", 0, &[Some(b"7"), Some(b"x")], 0));
    all.extend(execute_message("", 0));
    all.extend(sync_message());
    c.send(&all).await;
    let mut oids = Vec::new();
    loop {
        let message = c.message().await.unwrap();
        assert_ne!(message.kind, b'E', "{}", String::from_utf8_lossy(&message.body));
        if message.kind == b't' {
            oids = message.body[2..].chunks(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect();
        }
        if message.kind == b'Z' {
            break;
        }
    }
    assert_eq!(oids, [20, 25]);
}

#[tokio::test]
async fn test_mode_updates() {
    let server = Server::test_mode().await;
    let mut c = Client::connect(server.address).await;
    two_nodes(&mut c).await;
    let answer = c.simple("UPDATE pgautofailover.node SET health = 0, reporttime = now() - interval '60 s' WHERE nodename = 'node1'").await;
    assert_eq!(answer.tags, ["UPDATE 1"], "{answer:?}");
    let lag = "SELECT health, extract(epoch from now() - reporttime) > 59 FROM pgautofailover.node WHERE nodeid = 1";
    assert_eq!(c.simple(lag).await.row(), ["0", "t"]);
    let answer = c
        .simple("update pgautofailover.node set goalstate = 'maintenance', reportedlsn = '0/77' where formationid = 'default' returning nodeid, goalstate")
        .await;
    assert_eq!((answer.tags[0].as_str(), answer.rows.len()), ("UPDATE 2", 2), "{answer:?}");
    assert_eq!(c.simple("UPDATE pgautofailover.node SET nonsense = 1").await.sqlstate(), "42703");
    let set = "UPDATE pgautofailover.node SET candidatepriority = $1 WHERE nodeid = $2";
    assert_eq!(c.params(set, &[23, 20], &["77", "1"]).await.tags, ["UPDATE 1"]);
    assert_eq!(c.simple("UPDATE pgautofailover.node SET health = 1 WHERE false").await.tags, ["UPDATE 0"]);
}

/// The deepest statements that are let through: an overflowing stack would end the process.
#[tokio::test]
async fn deep_statements() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let deep = [
        format!("SELECT 1{}", "+1".repeat(249)),
        format!("SELECT true{}", " AND true".repeat(249)),
        format!("SELECT 'x'{}", "::text".repeat(249)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(249)),
        format!("SELECT {}true", "NOT ".repeat(249)),
        format!("SELECT {}1{}", "(".repeat(45), ")".repeat(45)),
        format!("SELECT {}1{}", "coalesce(".repeat(45), ", 2)".repeat(45)),
        format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(40), " END".repeat(40)),
        format!("SELECT {}1{}", "(SELECT ".repeat(40), ")".repeat(40)),
        format!("SELECT * FROM pgautofailover.node WHERE nodeid IN ({}1)", "1,".repeat(20_000)),
    ];
    for sql in &deep {
        // Any answer will do; the session must live to give the next one.
        let simple = c.simple(sql).await;
        let extended = c.params(sql, &[], &[]).await;
        assert!(simple.status == b'I' && extended.status == b'I', "{}", &sql[..80.min(sql.len())]);
    }
    assert_eq!(c.simple("SELECT 1+1").await.row(), ["2"]);
}

/// psql, if it is installed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_works() {
    if Command::new("psql").arg("--version").output().is_err() {
        eprintln!("psql is not installed: nothing tested");
        return;
    }
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    two_nodes(&mut c).await;
    let psql = |args: &'static [&'static str]| {
        let uri = format!("postgres://autoctl_node@{}/pg_auto_failover", server.address);
        let output = Command::new("psql").arg("-X").arg(uri).args(args).env("PGCONNECT_TIMEOUT", "5").output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    tokio::task::block_in_place(|| {
        let (out, err) = psql(&["-c", "\\x", "-c", "TABLE pgautofailover.node"]);
        assert!(out.contains("-[ RECORD 1 ]-------+-"), "{out}{err}");
        let (out, err) = psql(&["-Atc", "SELECT nodename, goalstate FROM pgautofailover.node ORDER BY nodeid DESC"]);
        assert_eq!(out, "node2|catchingup\nnode1|wait_primary\n", "{err}");
        for meta in ["\\l", "\\dt pgautofailover.*", "\\d pgautofailover.node", "\\df pgautofailover.*", "\\du", "\\dx", "\\dn", "\\conninfo", "\\encoding"] {
            let uri = format!("postgres://autoctl_node@{}/pg_auto_failover", server.address);
            let output = Command::new("psql").args(["-X", &uri, "-c", meta]).output().unwrap();
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() && err.is_empty(), "{meta}: {out}{err}");
        }
        let script = std::env::temp_dir().join(format!("facade-{}.sql", std::process::id()));
        std::fs::write(&script, "SELECT 1 AS one, nodename FROM pgautofailover.node WHERE nodeid = 1 \\gdesc\n\\g\n").unwrap();
        let uri = format!("postgres://autoctl_node@{}/pg_auto_failover", server.address);
        let output = Command::new("psql").args(["-XAt", &uri, "-f"]).arg(&script).output().unwrap();
        let _ = std::fs::remove_file(&script);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "one|integer\nnodename|text\n1|node1\n");
        let (out, err) = psql(&["-v", "ON_ERROR_STOP=1", "-c", "BEGIN", "-c", "SELECT pgautofailover.set_node_candidate_priority('default', 'node1', 9)", "-c", "ROLLBACK"]);
        assert!(out.ends_with("ROLLBACK\n"), "{out}{err}");
    });
}
