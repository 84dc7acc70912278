//! What our own keepers send and are told, in the schema `pgquorum`.

use crate::mock::Server;
use crate::raw::Client;

fn register(port: u16) -> String {
    format!(
        "SELECT * FROM pgquorum.register_node('default', '127.0.0.1', {port}, 'app', 'n{port}', 0, -1, -1, \
         'init'::pgautofailover.replication_state, 'standalone', 50, true, 'default')"
    )
}

fn report(id: i64, state: &str, rest: &str) -> String {
    format!(
        "SELECT * FROM pgquorum.node_active('default', {id}, 0, '{state}'::pgautofailover.replication_state, true, 1, \
         '0/3000000', ''{rest})"
    )
}

#[tokio::test]
async fn a_node_of_ours_is_told_its_epoch_and_for_whom_to_wait() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let answer = c.simple(&register(15001)).await;
    assert_eq!(answer.row(), ["1", "0", "single", "50", "t", "n15001", "0"]);
    assert_eq!(answer.names()[6], "assigned_epoch");
    assert_eq!(c.simple(&report(1, "single", ", 0")).await.row()[2], "single");
    c.simple(&register(15002)).await.row();
    c.simple(&report(2, "wait_standby", ", 0")).await.row();
    c.simple(&report(1, "single", ", 0")).await.row();
    let answer = c.simple(&report(1, "wait_primary", ", 0")).await;
    assert_eq!(answer.oids(), [20, 23, 17040, 23, 16, 20, 20, 25, 23, 20, 25, 23, 16, 16]);
    assert_eq!(
        answer.names()[5..],
        [
            "assigned_epoch",
            "sync_version",
            "synchronous_standby_names",
            "lease_ms",
            "primary_node_id",
            "primary_host",
            "primary_port",
            "checkpoint_now",
            "want_history"
        ]
    );
    let standby = c.simple(&report(2, "wait_standby", ", 0, 0, false, 'streaming', '', '', -1")).await;
    assert_eq!(standby.row()[9..12], ["1", "127.0.0.1", "15001"]);
    let path = "SELECT group_id, path FROM pgquorum.group_state('default')";
    assert_eq!(c.simple(path).await.row(), ["0", "quorum"]);
    let nodes = "SELECT generation, sealed FROM pgquorum.node_state() WHERE node_id = 2";
    assert_eq!(c.simple(nodes).await.row(), ["pgquorum", "f"]);

    // A stock report takes the whole group back to upstream's path.
    c.simple("SELECT * FROM pgautofailover.node_active('default', 2, 0, 'wait_standby', true, 1, '0/0', '')").await.row();
    assert_eq!(c.simple(path).await.row(), ["0", "upstream"]);
}

#[tokio::test]
async fn what_is_no_report_is_refused() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    c.simple(&register(15001)).await.row();
    for (rest, message) in [
        (", 0, 0, false, 'maybe'", "invalid value for upstream_view: \"maybe\""),
        (", 0, 0, false, '', 'dead'", "invalid value for postgres_end: \"dead\""),
        (", 0, 0, false, '', '', '2:1'", "invalid value for timeline_history: \"2:1\""),
        (", 0, 0, false, '', '', '1:2:0/1'", "invalid value for timeline_history: \"1:2:0/1\""),
    ] {
        let answer = c.simple(&report(1, "single", rest)).await;
        assert_eq!((answer.sqlstate(), answer.field(b'M')), ("22023", message));
    }
    let history = ", 0, 0, false, '', '', '2:1:0/3000000,3:2:0/4000000', -1";
    assert_eq!(c.simple(&report(1, "single", history)).await.row()[13], "f");
}
