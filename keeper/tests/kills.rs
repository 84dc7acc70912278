//! kill -9 and SIGSTOP of postmaster, keeper, guardian, and of several at once. Whatever dies: PostgreSQL
//! serves under somebody's eyes or not at all, and no acknowledged write is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use failover::NodeState;
use nix::sys::signal::Signal;
use support::writer::Writer;
use support::{World, copy_program, has_stock_monitor, postgres_of};

/// Seconds that the guardian waits for the keeper in these stories.
const GUARDIAN: &str = "3";

fn world_of_two(name: &str) -> World {
    let mut world = World::new(name);
    world.add(&[]);
    world.settle(&[(0, NodeState::Single)]);
    world.add(&[]);
    world.settle_all(2);
    for at in 0..2 {
        let set = ["--key", "timeout.guardian_timeout", "--value", GUARDIAN];
        assert!(world.command(at, "config-set").args(set).status().unwrap().success());
        assert!(world.command(at, "reload").status().unwrap().success());
    }
    assert_eq!(world.settle_all(2), 0);
    world
}

fn no_postgres(world: &World, at: usize, within: Duration, what: &str) {
    let began = Instant::now();
    world.eventually(what, || postgres_of(&world.nodes[at].pgdata).is_empty().then_some(()));
    assert!(began.elapsed() < within, "{what} took {:?}", began.elapsed());
    eprintln!("FIGURE {what}: {:?}", began.elapsed());
}

#[test]
fn postmaster_and_guardian() {
    if !has_stock_monitor() {
        return;
    }
    let world = world_of_two("kills-pg");
    let writer = Writer::start(&world);

    // kill -9 of the postmaster: back at once, and commits too.
    let mut outages = Vec::new();
    for _ in 0..5 {
        let old = world.postmaster_pid(0).unwrap();
        let began = Instant::now();
        world.signal(old, Signal::SIGKILL);
        world.eventually("a new postmaster", || world.postmaster_pid(0).filter(|pid| *pid != old));
        writer.expect_more(&world, 30);
        outages.push(writer.outage_since(began));
    }
    outages.sort();
    eprintln!("FIGURE postmaster killed, first acknowledged write after: median {:?} of {outages:?}", outages[2]);
    assert_eq!(world.settle_all(2), 0, "no failover was needed");

    // A postmaster that hangs: its backends go on, nobody new comes in.
    let old = world.postmaster_pid(0).unwrap();
    world.signal(old, Signal::SIGSTOP);
    world.eventually("the hung postmaster is replaced", || world.postmaster_pid(0).filter(|pid| *pid != old));
    assert!(world.log(0).contains("gives no answer although its processes live"), "{}", world.log(0));
    writer.expect_more(&world, 20);

    // kill -9 of the guardian: PostgreSQL goes with it, and both come back.
    let (guardian, old) = (world.guardian_pid(0).unwrap(), world.postmaster_pid(0).unwrap());
    world.signal(guardian, Signal::SIGKILL);
    world.eventually("a new guardian and a new postmaster", || {
        let new = world.guardian_pid(0).is_some_and(|pid| pid != guardian);
        (new && world.postmaster_pid(0).is_some_and(|pid| pid != old)).then_some(())
    });
    writer.expect_more(&world, 20);

    // A guardian that hangs protects nobody: it is replaced.
    let guardian = world.guardian_pid(0).unwrap();
    world.signal(guardian, Signal::SIGSTOP);
    world.eventually("the hung guardian is replaced", || world.guardian_pid(0).filter(|pid| *pid != guardian));
    writer.expect_more(&world, 20);
    let primary = world.settle_all(2);
    assert_eq!(writer.lost(&world, primary), 0);
}

/// Neither the monitors nor a standby: whoever is left in the dark stops by itself, and serves again as
/// soon as the monitors say that it still is the primary.
#[test]
fn cut_off_from_everybody() {
    if !has_stock_monitor() {
        return;
    }
    let mut world = world_of_two("cut-off");
    let set = ["--key", "timeout.network_partition_timeout", "--value", "4"];
    assert!(world.command(0, "config-set").args(set).status().unwrap().success());
    assert!(world.command(0, "reload").status().unwrap().success());
    let writer = Writer::start(&world);

    // The monitor alone: nothing happens.
    let monitor = postgres_of(&world.root.join("monitor"));
    monitor.iter().for_each(|pid| world.signal(*pid, Signal::SIGSTOP));
    let postmaster = world.postmaster_pid(0);
    let cut = Instant::now();
    while cut.elapsed() < Duration::from_secs(7) {
        writer.expect_more(&world, 10);
    }
    assert_eq!(world.postmaster_pid(0), postmaster, "a primary with its standby needs no monitor");

    // The standby, too.
    world.crash(1);
    no_postgres(&world, 0, Duration::from_secs(12), "cut off for 4 s, PostgreSQL stopped");
    assert!(world.log(0).contains("this primary may have been replaced"), "{}", world.log(0));
    postgres_of(&world.root.join("monitor")).iter().for_each(|pid| world.signal(*pid, Signal::SIGCONT));
    world.eventually("it serves again", || world.postmaster_pid(0));
    world.start(1, &[]);
    writer.expect_more(&world, 20);
    let primary = world.settle_all(2);
    assert_eq!(writer.lost(&world, primary), 0);
}

#[test]
fn keeper_and_all_together() {
    if !has_stock_monitor() {
        return;
    }
    let mut world = world_of_two("kills-keeper");
    let writer = Writer::start(&world);

    // A keeper that is replaced at once: PostgreSQL does not notice.
    let postmaster = world.postmaster_pid(0).unwrap();
    world.end_keeper(0, Signal::SIGKILL);
    world.start(0, &[]);
    writer.expect_more(&world, 100);
    // A new release is put into place: the old guardian goes on, under the new keeper.
    let guardian = world.guardian_pid(0);
    let new = world.binary.with_extension("new");
    copy_program(&world.binary, &new);
    std::fs::rename(&new, &world.binary).unwrap();
    let status = world.command(0, "stop").arg("--leave-postgres").status().unwrap();
    assert!(status.success());
    assert_eq!(world.wait_exit(0), 0);
    world.start(0, &[]);
    writer.expect_more(&world, 100);
    assert_eq!(world.postmaster_pid(0), Some(postmaster), "an upgrade of the keeper is invisible");
    assert_eq!(world.guardian_pid(0), guardian);
    // It also starts PostgreSQL, by way of a program whose file is another one now.
    world.signal(postmaster, Signal::SIGKILL);
    writer.expect_more(&world, 100);
    assert_eq!((world.guardian_pid(0), world.settle_all(2)), (guardian, 0));

    // A keeper that stays dead: fenced within the lease. The monitor then finds another primary.
    world.end_keeper(0, Signal::SIGKILL);
    no_postgres(&world, 0, Duration::from_secs(15), "keeper killed, PostgreSQL fenced (lease of 3 s)");
    world.eventually("the other node takes over", || world.row(1).filter(|r| r.reported.is_writable() && r.goal.is_writable()));
    world.start(0, &[]);
    assert_eq!(world.settle_all(2), 1);
    assert!(world.log(0).contains("because no keeper gave a sign of life"), "{}", world.log(0));

    // A keeper that hangs (SIGSTOP) is as good as dead; when it wakes up it sees what happened.
    world.signal(world.keeper_pid(1), Signal::SIGSTOP);
    no_postgres(&world, 1, Duration::from_secs(15), "keeper stopped, PostgreSQL fenced (lease of 3 s)");
    world.signal(world.keeper_pid(1), Signal::SIGCONT);
    let primary = world.settle_all(2);
    writer.expect_more(&world, 20);

    // Keeper and guardian killed together: the kernel tells the postmaster.
    let guardian = world.guardian_pid(primary).unwrap();
    world.signal(guardian, Signal::SIGKILL);
    world.end_keeper(primary, Signal::SIGKILL);
    no_postgres(&world, primary, Duration::from_secs(15), "keeper and guardian killed, PostgreSQL gone");
    let other = 1 - primary;
    world.eventually("the other node takes over", || {
        world.row(other).filter(|r| r.reported.is_writable() && r.goal.is_writable())
    });
    // Postmaster and keeper killed: orphaned backends must not serve either.
    writer.expect_more(&world, 20);
    world.start(primary, &[]);
    let primary = world.settle_all(2);
    let postmaster = world.postmaster_pid(primary).unwrap();
    world.end_keeper(primary, Signal::SIGKILL);
    world.signal(postmaster, Signal::SIGKILL);
    no_postgres(&world, primary, Duration::from_secs(15), "keeper and postmaster killed, no orphan left");
    world.start(primary, &[]);
    writer.expect_more(&world, 20);
    let primary = world.settle_all(2);
    assert_eq!(writer.lost(&world, primary), 0);
}

/// What a walreceiver leaves that was killed on its way to a new timeline: the first file of that timeline,
/// without the older WAL with which it begins. PostgreSQL would look there, find nothing, and give up.
#[test]
fn a_receiver_on_its_way_to_a_new_timeline() {
    if !has_stock_monitor() {
        return;
    }
    let mut world = world_of_two("kills-fork");
    world.add(&[]);
    assert_eq!(world.settle_all(3), 0);
    let writer = Writer::start(&world);
    writer.expect_more(&world, 20);
    world.switchover();
    let primary = world.eventually("another primary", || Some(world.settle_all(3)).filter(|at| *at != 0));
    let other = 3 - primary;
    writer.expect_more(&world, 20);
    world.crash(other);

    let wal = world.nodes[other].pgdata.join("pg_wal");
    let history = std::fs::read_to_string(wal.join("00000002.history")).unwrap();
    let fork = history.lines().last().unwrap().split('\t').nth(1).unwrap();
    let (high, low) = fork.split_once('/').unwrap();
    let number = |hex: &str| u32::from_str_radix(hex, 16).unwrap();
    let first = wal.join(format!("00000002{:08X}{:08X}", number(high), number(low) >> 24));
    assert!(first.exists());
    std::fs::write(&first, vec![0; 16 << 20]).unwrap();
    world.start(other, &[]);
    world.eventually("the file is put in order", || {
        world.log(other).contains("was cut short before its timeline begins").then_some(())
    });
    world.eventually("it streams", || {
        let asked = world.try_sql(other, "select count(*) from pg_stat_wal_receiver where status = 'streaming'");
        (asked.as_deref() == Ok("1")).then_some(())
    });
    assert_eq!(world.settle_all(3), primary);
    assert_eq!(writer.lost(&world, primary), 0);
}
