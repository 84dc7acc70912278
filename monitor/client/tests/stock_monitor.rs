//! The calls against a real monitor: `PGQUORUM_TEST_MONITOR` names one with at least one node (the
//! acceptance scripts set it). Without it there is nothing to test against and the test passes.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use monitor_client::{ConnectOptions, MonitorClient, Target};

#[tokio::test]
async fn reads_of_a_real_monitor() {
    let Ok(uri) = std::env::var("PGQUORUM_TEST_MONITOR") else {
        eprintln!("PGQUORUM_TEST_MONITOR is not set: skipped");
        return;
    };
    let target = Target::parse(&uri).unwrap();
    let client = MonitorClient::new(target, ConnectOptions::default(), Duration::from_secs(10));
    let nodes = client.current_state("default", None).await.unwrap();
    assert!(!nodes.is_empty());
    assert_eq!(client.current_state("default", Some(0)).await.unwrap().len(), nodes.len());
    assert_eq!(client.get_nodes("default", Some(0)).await.unwrap().len(), nodes.len());
    assert_eq!(client.get_other_nodes(nodes[0].id).await.unwrap().len(), nodes.len() - 1);
    assert!(client.current_state_json("default", Some(0)).await.unwrap().contains(&nodes[0].name));
    assert_eq!(client.last_events("default", None, 2).await.unwrap().len(), 2);
    assert_eq!(client.last_events("default", Some(0), 1).await.unwrap().len(), 1);
    assert!(client.last_events_json("default", Some(0), 1).await.unwrap().starts_with('['));
    assert_eq!(client.formation_settings("default").await.unwrap()[0].setting, "number_sync_standbys");
    assert!(client.formation_settings_json("default").await.unwrap().contains("candidate priority"));
    assert!(client.formation_uri("default", "prefer").await.unwrap().unwrap().starts_with("postgres://"));
    assert_eq!(client.all_uris(&uri, "prefer").await.unwrap()[0].name, "monitor");
    assert!(client.all_uris_json(&uri, "prefer").await.unwrap().contains("formation"));
    assert_eq!(client.count_groups("default").await.unwrap(), 1);
    assert!(client.number_sync_standbys("default").await.unwrap().is_some());
    assert_eq!(client.number_sync_standbys("nope").await.unwrap(), None);
    assert_eq!(client.extension_version().await.unwrap().as_deref(), Some("2.0"));
    client.replicas().await.unwrap();
    client.synchronous_standby_names("default", 0).await.unwrap();
    assert!(!client.remove_node("default", "no'such\\node", false).await.unwrap());
    let error = client.perform_promotion("default", "no such node").await.unwrap_err();
    assert!(error.code().is_some(), "{error}");
    drop(client.listen().await.unwrap());
}
