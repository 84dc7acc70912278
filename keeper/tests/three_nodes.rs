//! Three nodes: the election, the seal, fetching WAL, maintenance, removal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Instant;

use failover::NodeState;
use nix::sys::signal::Signal;
use support::writer::Writer;
use support::{World, has_stock_monitor};

fn slots(world: &World, at: usize) -> String {
    world.sql(at, "select slot_name || ' ' || (xmin is not null) from pg_replication_slots order by 1")
}

#[test]
fn elections_maintenance_and_removal() {
    if !has_stock_monitor() {
        return;
    }
    let mut world = World::new("three");
    world.add(&[]);
    world.settle(&[(0, NodeState::Single)]);
    world.add(&[]);
    world.settle_all(2);
    world.add(&[]);
    assert_eq!(world.settle_all(3), 0);

    // A switchover with an election: everybody is sealed, the best is promoted, the others follow.
    let writer = Writer::start(&world);
    let began = Instant::now();
    world.switchover();
    let first = world.eventually("another primary", || Some(world.settle_all(3)).filter(|at| *at != 0));
    writer.expect_more(&world, 20);
    eprintln!("FIGURE switchover, three nodes: {:?} without writes", writer.outage_since(began));
    assert_eq!(writer.lost(&world, first), 0);
    assert!(world.log(first).contains("told to be report_lsn"), "{}", world.log(first));

    // WAL for the siblings is kept on every node, and nothing that pins xmin on a standby.
    for at in 0..3 {
        let slots = world.eventually("a slot per sibling", || Some(slots(&world, at)).filter(|s| s.lines().count() == 2));
        assert!(at == first || !slots.contains("true"), "node {at}: {slots}");
    }

    // A standby lags when the primary's machine dies. With a higher priority it is promoted all the
    // same, after it fetched what the other one has.
    let lagging = (0..3).find(|at| *at != first).unwrap();
    let other = (0..3).find(|at| *at != first && *at != lagging).unwrap();
    world.block_on(world.client().set_candidate_priority("default", &world.nodes[lagging].name, 90)).unwrap();
    assert_eq!(world.settle_all(3), first);
    world.sql(lagging, "alter system set primary_conninfo = ''; select pg_reload_conf()");
    world.eventually("the walreceiver ends", || {
        (world.sql(lagging, "select count(*) from pg_stat_wal_receiver") == "0").then_some(())
    });
    let writer = Writer::start(&world);
    writer.expect_more(&world, 50);
    world.crash(first);
    world.eventually("the lagging standby is promoted", || {
        (world.row(lagging)?.goal.is_writable() && world.row(lagging)?.reported.is_writable()).then_some(())
    });
    writer.expect_more(&world, 20);
    assert!(world.log(lagging).contains("fetching WAL up to"), "{}", world.log(lagging));
    world.start(first, &[]);
    assert_eq!(world.settle_all(3), lagging);
    assert_eq!(writer.lost(&world, lagging), 0);
    assert!(world.rows().iter().find(|r| r.id == 1).is_some());

    // Maintenance of a standby: PostgreSQL is the administrator's.
    let id = world.row(other).unwrap().id;
    assert!(world.block_on(world.client().start_maintenance(id)).unwrap());
    world.settle(&[(other, NodeState::Maintenance)]);
    assert_eq!(world.postmaster_pid(other), None);
    assert!(world.block_on(world.client().stop_maintenance(id)).unwrap());
    assert_eq!(world.settle_all(3), lagging);

    // The keeper of a dropped node stops PostgreSQL, ends with 121, and its slot goes.
    let writer = Writer::start(&world);
    let name = world.nodes[other].name.clone();
    assert!(world.block_on(world.client().remove_node("default", &name, false)).unwrap());
    assert_eq!(world.wait_exit(other), 121);
    assert_eq!(world.postmaster_pid(other), None);
    world.settle_all(2);
    world.eventually("its slot is gone", || (slots(&world, lagging).lines().count() == 1).then_some(()));
    assert_eq!(writer.lost(&world, lagging), 0);

    // A keeper is stopped in order: PostgreSQL and the guardian go with it.
    let guardian = world.guardian_pid(first).expect("a guardian");
    world.end_keeper(first, Signal::SIGTERM);
    assert_eq!(world.postmaster_pid(first), None);
    world.eventually("the guardian ends", || (world.guardian_pid(first) != Some(guardian)).then_some(()));
}
