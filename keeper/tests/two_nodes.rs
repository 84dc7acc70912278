//! A primary and a standby: made from nothing, changing roles in order and by force.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Instant;

use failover::NodeState;
use support::writer::Writer;
use support::{World, has_stock_monitor};

#[test]
fn from_nothing_through_switchover_and_crash_and_back() {
    if !has_stock_monitor() {
        return;
    }
    let mut world = World::new("two");
    let a = world.add(&[]);
    world.settle(&[(a, NodeState::Single)]);
    let b = world.add(&[]);
    assert_eq!(world.settle_all(2), a);
    assert_eq!(world.sql(a, "show synchronous_standby_names"), "ANY 1 (pgautofailover_standby_2)");
    assert_eq!(world.sql(b, "show wal_retrieve_retry_interval"), "200ms");

    // In order.
    let writer = Writer::start(&world);
    let began = Instant::now();
    world.switchover();
    assert_eq!(world.settle_all(2), b);
    writer.expect_more(&world, 20);
    eprintln!("FIGURE switchover, two nodes: {:?} without writes", writer.outage_since(began));
    assert_eq!(world.sql(b, "show default_transaction_read_only"), "off");
    assert_eq!(writer.lost(&world, b), 0);
    assert!(world.log(a).contains("this node can follow") || world.log(a).contains("pg_rewind"), "no copy was needed");

    // By force: the machine of the primary is gone; later it comes back and follows.
    let writer = Writer::start(&world);
    world.crash(b);
    let began = Instant::now();
    world.settle(&[(a, NodeState::WaitPrimary)]);
    writer.expect_more(&world, 20);
    eprintln!("FIGURE primary node killed, stock monitor with tight settings: {:?}", writer.outage_since(began));
    let restarted = Instant::now();
    world.start(b, &[]);
    assert_eq!(world.settle_all(2), a);
    eprintln!("FIGURE killed primary back as secondary after {:?}", restarted.elapsed());
    assert_eq!(writer.lost(&world, a), 0);
    assert!(!world.log(b).contains("copying the primary instead"), "pg_rewind was enough");
    let same = "select count(*) from acks";
    let there = world.sql(a, same);
    world.eventually("the old primary has everything", || (world.sql(b, same) == there).then_some(()));
}
