//! Statements on a monitor that does not lead.

use std::time::Duration;

use monitor::sql::FacadeConfig;
use monitor::sql::backend::Role;

use crate::basics::{ACTIVE, ACTIVE_OIDS, REGISTER, REGISTER_OIDS, node};
use crate::mock::{Cluster, Server};
use crate::raw::Client;

const NODES: &str = "SELECT * FROM pgautofailover.get_nodes()";

#[tokio::test]
async fn followers_forward() {
    let (leader, follower) = Server::pair().await;
    let mut f = Client::connect(follower.address).await;
    let parameters = &f.greeting.parameters;
    assert!(parameters.contains(&("in_hot_standby".to_string(), "on".to_string())));
    assert!(parameters.contains(&("default_transaction_read_only".to_string(), "on".to_string())));
    f.simple("LISTEN state").await;
    f.simple("BEGIN").await;
    f.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    assert_eq!(f.simple(NODES).await.rows.len(), 1);
    let mut l = Client::connect(leader.address).await;
    assert_eq!(l.simple(NODES).await.rows.len(), 0);
    let answer = f.simple("COMMIT").await;
    assert_eq!(answer.error, None);
    assert_eq!(l.simple(NODES).await.rows.len(), 1);
    let report = ["default", "1", "0", "single", "true", "1", "0/193A2E8", ""];
    assert_eq!(f.params(ACTIVE, ACTIVE_OIDS, &report).await.row(), ["1", "0", "single", "50", "t"]);
    let unknown = ["default", "7", "0", "single", "true", "1", "0/193A2E8", ""];
    assert_eq!(f.params(ACTIVE, ACTIVE_OIDS, &unknown).await.sqlstate(), "42704");
    f.simple("BEGIN").await;
    f.params(REGISTER, REGISTER_OIDS, &node("b", "2")).await;
    f.simple("ROLLBACK").await;
    assert_eq!(l.simple(NODES).await.rows.len(), 1);
    // Session settings travel with the statement.
    f.simple("SET pgautofailover.guard_data_loss TO off").await;
    assert_eq!(f.simple("SHOW pgautofailover.guard_data_loss").await.row(), ["off"]);
    f.simple("SET pgquorum.read_consistency TO local").await;
    assert_eq!(f.simple(NODES).await.rows.len(), 1);
}

#[tokio::test]
async fn no_leader_is_said_at_startup() {
    let server = Server::with(Cluster::new(), Role::NoLeader, 1, FacadeConfig::default()).await;
    let user = ("user", "autoctl_node");
    let refused = Client::connect_as(server.address, &[user]).await.err().unwrap();
    assert_eq!((refused.sqlstate(), refused.field(b'S')), ("57P03", "FATAL"));
    assert_eq!(refused.field(b'M'), "the monitors have no leader at the moment");
    // Whoever asks for local reads gets them.
    let local = ("options", "-c pgquorum.read_consistency=local");
    let mut c = Client::connect_as(server.address, &[user, local]).await.unwrap();
    assert_eq!(c.simple(NODES).await.rows.len(), 0);
}

#[tokio::test]
async fn calls_wait_for_a_leader() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    let _ = server.mock.role.send(Role::NoLeader);
    let mock = server.mock.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let _ = mock.role.send(Role::Leader);
    });
    let answer = c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await;
    assert_eq!(answer.row()[0], "1");
    let _ = server.mock.role.send(Role::NoLeader);
    let start = std::time::Instant::now();
    let answer = c.params(REGISTER, REGISTER_OIDS, &node("b", "2")).await;
    assert_eq!((answer.sqlstate(), answer.field(b'M')), ("57P03", "no leader among the monitors"));
    assert!((2..5).contains(&start.elapsed().as_secs()));
    assert_eq!(answer.status, b'I');
    // The version check needs no leader.
    let version = "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = $1";
    assert_eq!(c.params(version, &[25], &["pgautofailover"]).await.row(), ["2.0", "2.0"]);
}

#[tokio::test]
async fn unknown_outcomes() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    server.mock.cluster.inner.lock().unwrap().lose_call = true;
    let answer = c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await;
    assert_eq!(answer.sqlstate(), "40001");
    // A report is simply repeated.
    server.mock.cluster.inner.lock().unwrap().lose_call = true;
    let report = ["default", "1", "0", "single", "true", "1", "0/193A2E8", ""];
    assert_eq!(c.params(ACTIVE, ACTIVE_OIDS, &report).await.row(), ["1", "0", "single", "50", "t"]);
}

#[tokio::test]
async fn garbage_from_other_monitors_is_an_error() {
    let server = Server::leader().await;
    for bytes in [vec![], vec![0], vec![1], vec![2], vec![2, 255, 255, 255, 255], vec![9, 0, 0, 0, 0], vec![2; 200]] {
        let reply = server.facade.execute_forwarded(bytes).await;
        assert_eq!(reply.first(), Some(&2));
    }
}
