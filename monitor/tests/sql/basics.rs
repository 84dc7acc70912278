//! The statements that no cluster lives without.

use crate::mock::Server;
use crate::raw::Client;

pub const REGISTER: &str = "SELECT * FROM pgautofailover.register_node($1, $2, $3, $4, $5, $6, $7, $8, $9::pgautofailover.replication_state, $10, $11, $12, $13)";
pub const REGISTER_OIDS: &[u32] = &[25, 25, 23, 19, 25, 20, 20, 23, 25, 25, 23, 16, 25];
pub const ACTIVE: &str = "SELECT * FROM pgautofailover.node_active($1, $2, $3, $4::pgautofailover.replication_state, $5, $6, $7, $8)";
pub const ACTIVE_OIDS: &[u32] = &[25, 20, 23, 25, 16, 23, 3220, 25];

pub fn node<'a>(name: &'a str, port: &'a str) -> [&'a str; 13] {
    ["default", "127.0.0.1", port, "app", name, "0", "-1", "-1", "init", "standalone", "50", "true", "default"]
}

#[tokio::test]
async fn registers_and_reports() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    assert_eq!(c.simple("BEGIN").await.tags, ["BEGIN"]);
    let answer = c.params(REGISTER, REGISTER_OIDS, &node("node1", "15001")).await;
    assert_eq!(answer.row(), ["1", "0", "single", "50", "t", "node1"]);
    assert_eq!(
        answer.names(),
        [
            "assigned_node_id",
            "assigned_group_id",
            "assigned_group_state",
            "assigned_candidate_priority",
            "assigned_replication_quorum",
            "assigned_node_name"
        ]
    );
    assert_eq!(answer.oids(), [20, 23, 17040, 23, 16, 25]);
    assert_eq!(answer.kinds, "12TDCZ");
    assert_eq!(answer.status, b'T');
    // Nobody else sees it before COMMIT; the session itself does.
    let mut other = Client::connect(server.address).await;
    let nodes = "SELECT * FROM pgautofailover.get_nodes('default') ORDER BY node_id";
    assert_eq!(other.simple(nodes).await.rows.len(), 0);
    assert_eq!(c.simple(nodes).await.rows.len(), 1);
    assert_eq!(c.simple("COMMIT").await.tags, ["COMMIT"]);
    assert_eq!(other.simple(nodes).await.rows.len(), 1);

    let report = ["default", "1", "0", "single", "true", "1", "0/193A2E8", ""];
    let answer = c.params(ACTIVE, ACTIVE_OIDS, &report).await;
    assert_eq!(answer.row(), ["1", "0", "single", "50", "t"]);
    assert_eq!(answer.oids(), [20, 23, 17040, 23, 16]);
}
