//! The statements of stock clients that are answered without the read tier: result columns, types,
//! values and errors as the stock monitor gives them.

use crate::basics::{ACTIVE, ACTIVE_OIDS, REGISTER, REGISTER_OIDS, node};
use crate::mock::Server;
use crate::raw::{Answer, Client};

/// A primary and a standby, both converged.
pub async fn two_nodes(c: &mut Client) {
    c.params(REGISTER, REGISTER_OIDS, &node("node1", "15001")).await.row();
    let report = |id: &'static str, state: &'static str, rep: &'static str| {
        ["default", id, "0", state, "true", "1", "0/3000000", rep]
    };
    c.params(ACTIVE, ACTIVE_OIDS, &report("1", "single", "")).await.row();
    let set = "SELECT * FROM pgautofailover.set_node_system_identifier($1, $2)";
    let answer = c.params(set, &[20, 20], &["1", "7710436105327879054"]).await;
    assert_eq!(answer.row(), ["1", "node1", "127.0.0.1", "15001"]);
    assert_eq!(answer.oids(), [20, 25, 25, 23]);
    assert_eq!(answer.names(), ["node_id", "node_name", "node_host", "node_port"]);
    let second = c.params(REGISTER, REGISTER_OIDS, &node("node2", "15002")).await;
    assert_eq!(second.row(), ["2", "0", "wait_standby", "50", "t", "node2"]);
    let goal = |a: Answer| a.row()[2].to_string();
    assert_eq!(goal(c.params(ACTIVE, ACTIVE_OIDS, &report("2", "wait_standby", "")).await), "wait_standby");
    assert_eq!(goal(c.params(ACTIVE, ACTIVE_OIDS, &report("1", "single", "")).await), "wait_primary");
    assert_eq!(goal(c.params(ACTIVE, ACTIVE_OIDS, &report("1", "wait_primary", "")).await), "wait_primary");
    assert_eq!(goal(c.params(ACTIVE, ACTIVE_OIDS, &report("2", "wait_standby", "")).await), "catchingup");
    c.params(set, &[20, 20], &["2", "7710436105327879054"]).await.row();
}

#[tokio::test]
async fn keeper_statements() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    two_nodes(&mut c).await;

    let node_columns = ["node_id", "node_name", "node_host", "node_port", "node_lsn", "node_is_primary"];
    let answer = c
        .params("SELECT * FROM pgautofailover.get_nodes($1, $2) WHERE node_id = $3", &[25, 23, 20], &["default", "0", "1"])
        .await;
    assert_eq!(answer.row(), ["1", "node1", "127.0.0.1", "15001", "0/3000000", "t"]);
    assert_eq!(answer.names(), node_columns);
    assert_eq!(answer.oids(), [20, 25, 25, 23, 3220, 16]);
    assert_eq!(answer.tags, ["SELECT 1"]);

    let version = "SELECT default_version, installed_version  FROM pg_available_extensions WHERE name = $1";
    let answer = c.params(version, &[25], &["pgautofailover"]).await;
    assert_eq!(answer.row(), ["2.0", "2.0"]);
    assert_eq!((answer.names(), answer.oids()), (vec!["default_version", "installed_version"], vec![25, 25]));
    assert_eq!(c.params(version, &[25], &["postgis"]).await.rows.len(), 0);

    let answer = c
        .params("SELECT * FROM pgautofailover.set_group_system_identifier($1, $2)", &[20, 20], &["0", "7710436105327879054"])
        .await;
    assert_eq!((answer.tags, answer.rows.len()), (vec!["SELECT 0".to_string()], 0));

    let answer = c.params("SELECT * FROM pgautofailover.get_other_nodes($1) ORDER BY node_id", &[20], &["1"]).await;
    assert_eq!(answer.row()[..4], ["2", "node2", "127.0.0.1", "15002"]);
    assert_eq!(answer.names(), node_columns);
    let other = "SELECT * FROM pgautofailover.get_other_nodes($1, $2::pgautofailover.replication_state) ORDER BY node_id";
    assert_eq!(c.params(other, &[20, 25], &["1", "catchingup"]).await.rows.len(), 1);
    assert_eq!(c.params(other, &[20, 25], &["1", "secondary"]).await.rows.len(), 0);
    assert_eq!(c.params(other, &[20, 25], &["1", "nonsense"]).await.sqlstate(), "22P02");

    let answer = c.params("SELECT * FROM pgautofailover.get_primary($1, $2)", &[25, 23], &["default", "0"]).await;
    assert_eq!(answer.row(), ["1", "node1", "127.0.0.1", "15001"]);
    assert_eq!(answer.names(), ["primary_node_id", "primary_name", "primary_host", "primary_port"]);

    let answer = c.params("select pgautofailover.synchronous_standby_names($1, $2)", &[25, 23], &["default", "0"]).await;
    assert_eq!(answer.names(), ["synchronous_standby_names"]);
    assert_eq!(answer.oids(), [25]);
    assert_eq!(answer.rows.len(), 1);

    let unknown = ["default", "9", "0", "secondary", "true", "9", "0/7002750", ""];
    let answer = c.params(ACTIVE, ACTIVE_OIDS, &unknown).await;
    assert_eq!((answer.sqlstate(), answer.field(b'M')), ("42704", "couldn't find node with nodeid 9"));

    // The stock client's uninitialised parameter: warned about there, harmless here.
    let nodes = "SELECT * FROM pgautofailover.get_nodes($1, $2) ORDER BY node_id";
    let answer = c.params(nodes, &[25, 23], &["default", ""]).await;
    assert_eq!((answer.sqlstate(), answer.field(b'M')), ("22P02", "invalid input syntax for type integer: \"\""));
    let garbage = b"\x10\xc9\x11\xab";
    let answer = c.bytes(nodes, &[25, 23], &[Some(b"default"), Some(garbage)]).await;
    assert_eq!(answer.sqlstate(), "22021");
    assert_eq!(answer.field(b'M'), "invalid byte sequence for encoding \"UTF8\": 0xc9 0x11");
    assert_eq!(c.params(nodes, &[25, 23], &["default", "0"]).await.rows.len(), 2);
}

#[tokio::test]
async fn operator_statements() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    two_nodes(&mut c).await;

    let answer = c.params("SELECT pgautofailover.set_node_candidate_priority($1, $2, $3)", &[25, 25, 23], &["default", "node2", "60"]).await;
    assert_eq!((answer.names(), answer.oids(), answer.row()), (vec!["set_node_candidate_priority"], vec![16], vec!["t"]));

    let set_region = "SELECT pgautofailover.set_node_region($1, $2, $3)";
    let answer = c.params(set_region, &[25, 25, 25], &["default", "node2", "north"]).await;
    assert_eq!((answer.oids(), answer.row()), (vec![16], vec!["t"]));
    assert_eq!(c.params(set_region, &[25, 25, 25], &["default", "node2", " "]).await.sqlstate(), "22023");
    assert_eq!(c.params(set_region, &[25, 25, 25], &["default", "node9", "north"]).await.sqlstate(), "42704");
    let answer = c.params("SELECT region FROM pgautofailover.node WHERE nodename = 'node2'", &[], &[]).await;
    assert_eq!(answer.row(), ["north"]);
    let answer = c.params("SELECT * FROM pgautofailover.current_state($1)", &[25], &["default"]).await;
    assert_eq!(answer.names().last(), Some(&"nodecluster"));

    let answer = c.params("SELECT pgautofailover.set_formation_number_sync_standbys($1, $2)", &[25, 23], &["default", "5"]).await;
    // Its primary has not settled yet.
    assert_eq!(answer.sqlstate(), "55000");

    let answer = c
        .params("SELECT * FROM pgautofailover.update_node_metadata($1, $2, $3, $4)", &[20, 25, 25, 23], &["2", "node2b", "127.0.0.1", "15002"])
        .await;
    assert_eq!((answer.names(), answer.oids(), answer.row()), (vec!["update_node_metadata"], vec![16], vec!["t"]));
    let answer = c
        .bytes("SELECT * FROM pgautofailover.update_node_metadata($1, $2, $3, $4)", &[20, 25, 25, 23], &[Some(b"2"), Some(b"node2"), None, None])
        .await;
    assert_eq!(answer.row(), ["t"]);

    let answer = c
        .params("SELECT * FROM pgautofailover.create_formation($1, $2, $3, $4, $5)", &[25, 25, 25, 16, 23], &["f2", "pgsql", "db2", "true", "0"])
        .await;
    assert_eq!(answer.row(), ["f2", "pgsql", "db2", "t", "0"]);
    assert_eq!(answer.names(), ["formation_id", "kind", "dbname", "opt_secondary", "number_sync_standbys"]);
    assert_eq!(answer.oids(), [25, 25, 19, 16, 23]);
    let drop = "SELECT * FROM pgautofailover.drop_formation($1)";
    let answer = c.params(drop, &[25], &["f2"]).await;
    assert_eq!((answer.names(), answer.oids(), answer.row()), (vec!["drop_formation"], vec![2278], vec![""]));
    let answer = c.params(drop, &[25], &["f2"]).await;
    assert_eq!((answer.sqlstate(), answer.field(b'M')), ("XX000", "couldn't find formation \"f2\""));
    let answer = c.params(drop, &[25], &["default"]).await;
    assert_eq!(answer.sqlstate(), "23503");
    assert_eq!(answer.field(b'D'), "Key (formationid)=(default) is still referenced from table \"node\".");

    let answer = c
        .params(
            "SELECT eventTime, nodeid, groupid,        reportedstate, goalState, description   FROM pgautofailover.last_events($1, count => $2)",
            &[25, 23],
            &["default", "3"],
        )
        .await;
    assert_eq!(answer.names(), ["eventtime", "nodeid", "groupid", "reportedstate", "goalstate", "description"]);
    assert_eq!(answer.oids(), [1184, 20, 23, 17040, 17040, 25]);
    assert_eq!(answer.tags, ["SELECT 3"]);
    let time = answer.rows[0][0].clone().unwrap();
    assert!(time.ends_with("+00") && time.as_bytes()[10] == b' ', "{time}");

    let answer = c
        .params("SELECT formation_uri FROM pgautofailover.formation_uri($1, $2, $3, $4, $5)", &[25; 5], &["default", "default", "prefer", "", ""])
        .await;
    assert_eq!(
        answer.row(),
        ["postgres://127.0.0.1:15001,127.0.0.1:15002/app?target_session_attrs=read-write&sslmode=prefer"]
    );
    assert_eq!(answer.names(), ["formation_uri"]);

    assert_eq!(c.params("SELECT pgautofailover.stop_maintenance($1)", &[20], &["99"]).await.row(), ["f"]);
    let answer = c.params("SELECT pgautofailover.perform_failover($1, $2)", &[25, 23], &["nope", "0"]).await;
    assert_eq!(answer.sqlstate(), "XX000");

    // The deliberately broken one.
    let answer = c
        .params(
            "SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(event)), '[]')) FROM * FROM pgautofailover.last_events($1,$2,$3) as event",
            &[25, 23, 23],
            &["default", "0", "10"],
        )
        .await;
    assert_eq!((answer.sqlstate(), answer.field(b'M')), ("42601", "syntax error at or near \"*\""));
    assert_eq!(answer.kinds, "EZ");
}

#[tokio::test]
async fn calls_as_people_write_them() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let answer = c
        .simple("select * from pgautofailover.register_node('default', 'localhost', 9876, dbname => 'postgres', sysidentifier := 6862008014275870855)")
        .await;
    assert_eq!(answer.row(), ["1", "0", "single", "100", "t", "node_1"]);
    let answer = c.simple("SELECT pgautofailover.node_active('default', 1, 0, current_group_role => 'single')").await;
    assert_eq!(answer.row(), ["(1,0,single,100,t)"]);
    assert_eq!(answer.names(), ["node_active"]);
    let answer = c
        .simple("select assigned_group_state as s, n.assigned_node_id from pgautofailover.node_active('default', 1, 0, 'single', current_tli => 1, current_lsn => '0/10'::pg_lsn) n")
        .await;
    assert_eq!((answer.names(), answer.row()), (vec!["s", "assigned_node_id"], vec!["single", "1"]));
    let answer = c.simple("SELECT * FROM pgautofailover.get_nodes() AS x(a, b)").await;
    assert_eq!(answer.names(), ["a", "b", "node_host", "node_port", "node_lsn", "node_is_primary"]);
    assert_eq!(answer.row()[4], "0/10");
    let answer = c.simple("SELECT * FROM pgautofailover.formation_uri('nope') u").await;
    assert_eq!((answer.names(), answer.row()), (vec!["u"], vec!["NULL"]));
    // A strict function with a NULL.
    assert_eq!(c.simple("SELECT pgautofailover.remove_node(NULL::bigint)").await.row(), ["NULL"]);
    assert_eq!(c.simple("SELECT * FROM pgautofailover.current_state(NULL::text)").await.rows.len(), 0);
    assert_eq!(c.simple("SELECT node_name FROM pgautofailover.get_nodes() ORDER BY node_id DESC LIMIT 1").await.row(), ["node_1"]);

    let answer = c.simple("SELECT pgautofailover.remove_node('x'::text, 'y'::text)").await;
    assert_eq!(answer.sqlstate(), "42883");
    assert_eq!(answer.field(b'M'), "function pgautofailover.remove_node(text, text) does not exist");
    assert_eq!(
        answer.field(b'H'),
        "No function matches the given name and argument types. You might need to add explicit type casts."
    );
    let answer = c.simple("SELECT * FROM pgautofailover.nonsense(1, 'a')").await;
    assert_eq!(answer.field(b'M'), "function pgautofailover.nonsense(integer, unknown) does not exist");
    assert_eq!(c.simple("SELECT pgautofailover.node_active('default', 1, 0, 'bogus')").await.sqlstate(), "22P02");
    assert_eq!(c.simple("SELECT pgautofailover.remove_node(1, true)").await.row(), ["t"]);
    assert_eq!(c.simple("SELECT pgautofailover.last_events()").await.sqlstate(), "42725");
}

#[tokio::test]
async fn two_calls_in_one_statement_are_one() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    // The second one fails, so the first one must not have happened.
    let register = |name: &str, port: &str| format!("pgautofailover.register_node('default', 'h', {port}, 'd', '{name}', 5)");
    let sql = format!("SELECT {}, {}", register("a", "1"), register("a", "2"));
    assert_ne!(c.simple(&sql).await.sqlstate(), "");
    assert_eq!(c.simple("SELECT * FROM pgautofailover.get_nodes()").await.rows.len(), 0);
}
