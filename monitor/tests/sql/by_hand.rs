//! Tools for people: a server to talk to, and figures. Run with `--ignored`.

use std::time::{Duration, Instant};

use monitor::sql::FacadeConfig;
use monitor::sql::backend::Role;

use crate::basics::{ACTIVE, ACTIVE_OIDS, REGISTER, REGISTER_OIDS, node};
use crate::mock::{Cluster, Server};
use crate::raw::Client;

/// Serves for `SERVE_SECONDS` and prints its port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "for people"]
async fn serve_by_hand() {
    let seconds = std::env::var("SERVE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    let config = FacadeConfig { test_mode: std::env::var("TEST_MODE").is_ok(), ..FacadeConfig::default() };
    let server = Server::with(Cluster::new(), Role::Leader, 1, config).await;
    println!("port {}", server.address.port());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// `node_active` per second on kept connections, then with a new connection for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn node_active_per_second() {
    let server = Server::leader().await;
    let mut c = Client::connect(server.address).await;
    c.params(REGISTER, REGISTER_OIDS, &node("a", "1")).await.row();
    let report = ["default", "1", "0", "single", "true", "1", "0/193A2E8", ""];
    c.params(ACTIVE, ACTIVE_OIDS, &report).await.row();
    let window = Duration::from_secs(3);
    for clients in [1, 8, 32] {
        let start = Instant::now();
        let tasks: Vec<_> = (0..clients)
            .map(|_| {
                let address = server.address;
                tokio::spawn(async move {
                    let mut c = Client::connect(address).await;
                    let mut n = 0_u64;
                    while start.elapsed() < window {
                        c.params(ACTIVE, ACTIVE_OIDS, &report).await.row();
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        let mut total = 0;
        for task in tasks {
            total += task.await.unwrap();
        }
        println!("{clients} kept connections: {:.0}/s", total as f64 / start.elapsed().as_secs_f64());
    }
    for clients in [1, 8] {
        let start = Instant::now();
        let tasks: Vec<_> = (0..clients)
            .map(|_| {
                let address = server.address;
                tokio::spawn(async move {
                    let mut n = 0_u64;
                    while start.elapsed() < window {
                        let mut c = Client::connect(address).await;
                        c.params(ACTIVE, ACTIVE_OIDS, &report).await.row();
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        let mut total = 0;
        for task in tasks {
            total += task.await.unwrap();
        }
        println!("{clients} clients, a connection each call: {:.0}/s", total as f64 / start.elapsed().as_secs_f64());
    }
}
