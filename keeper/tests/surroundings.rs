//! What a node cannot help: clocks that jump, and a link that fails between two nodes only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use failover::NodeState;
use nix::sys::signal::Signal;
use support::relay::{Deaf, Relay};
use support::writer::Writer;
use support::{World, has_stock_monitor, postgres_of, skip};

const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// The wall clock of a node's machine: keeper, guardian and PostgreSQL.
struct Clock(PathBuf);

impl Clock {
    fn of(world: &mut World, at: usize, library: &str) -> Clock {
        let clock = Clock(world.root.join(format!("clock{at}")));
        clock.set(0);
        // Nobody sets the monotonic clocks. The preload begins after the change of user: the library's
        // semaphore belongs to whoever loads it first.
        world.nodes[at].inner = vec![
            "/usr/bin/env".to_string(),
            format!("LD_PRELOAD={library}"),
            format!("FAKETIME_TIMESTAMP_FILE={}", clock.0.display()),
            "FAKETIME_NO_CACHE=1".to_string(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_string(),
        ];
        clock
    }

    fn set(&self, seconds: i64) {
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(&new, &self.0).unwrap();
    }
}

/// Seconds that PostgreSQL's clock is ahead.
fn ahead(world: &World, at: usize) -> i64 {
    let theirs: f64 = world.sql(at, "select extract(epoch from clock_timestamp())").parse().unwrap();
    theirs as i64 - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

#[test]
fn clocks_that_jump_and_a_link_that_fails() {
    if !has_stock_monitor() {
        return;
    }
    let Some(library) = LIBRARIES.into_iter().find(|path| Path::new(path).exists()) else {
        return skip("no libfaketime (Debian: libfaketime)");
    };
    let mut world = World::new("surroundings");
    let (a, b) = (world.plan(), world.plan());
    let clocks = [Clock::of(&mut world, a, library), Clock::of(&mut world, b, library)];
    // The first node is reached by way of a relay.
    let port = world.nodes[a].port;
    world.nodes[a].host = "127.0.0.2".to_string();
    let relay = Relay::start(("127.0.0.2", port), ("127.0.0.1", port), Deaf::WhileCut(b"pgautofailover_standby_2"));
    world.start(a, &[]);
    world.settle(&[(a, NodeState::Single)]);
    world.start(b, &[]);
    assert_eq!(world.settle_all(2), a);
    for at in [a, b] {
        let set = ["--key", "timeout.guardian_timeout", "--value", "4"];
        assert!(world.command(at, "config-set").args(set).status().unwrap().success());
        assert!(world.command(at, "reload").status().unwrap().success());
    }
    let writer = Writer::start(&world);
    let postmaster = world.postmaster_pid(a);

    // An hour forth, two hours back: of the primary's machine, then of the standby's. A walsender or a
    // walreceiver may take the other side for silent and connect anew; nothing else happens.
    for (at, seconds) in [(a, 3600), (a, -3600), (a, 0), (b, 3600), (b, -3600), (b, 0)] {
        clocks[at].set(seconds);
        let began = Instant::now();
        assert!((ahead(&world, at) - seconds).abs() < 60, "the clock of node {at} did not jump");
        while began.elapsed() < Duration::from_secs(3) {
            writer.expect_more(&world, 10);
        }
        assert_eq!(world.settle_all(2), a);
    }
    assert_eq!(world.postmaster_pid(a), postmaster);
    assert_eq!(world.row(a).unwrap().timeline, 1, "nobody was promoted");

    // The standby is cut from the primary; the monitor reaches both and both reach the monitor. Commits
    // wait, because nobody has decided otherwise, and go on when the link is mended.
    relay.cut(true);
    world.eventually("the standby's keeper tells", || {
        let log = world.log(b);
        (log.contains("does not stream from node 1") || log.contains("repair: ")).then_some(())
    });
    assert!(world.row(a).unwrap().reported.is_writable() && !world.row(b).unwrap().reported.is_writable());
    let mended = Instant::now();
    relay.cut(false);
    writer.expect_more(&world, 20);
    eprintln!("FIGURE a standby that was cut off streams again after {:?}", mended.elapsed());
    assert_eq!(world.settle_all(2), a);
    assert_eq!(world.row(a).unwrap().timeline, 1);
    assert_eq!(world.postmaster_pid(a), postmaster);

    // A keeper that hangs while the clock goes back by an hour: the lease is no wall clock's.
    world.signal(world.keeper_pid(a), Signal::SIGSTOP);
    clocks[a].set(-3600);
    let began = Instant::now();
    world.eventually("fenced", || postgres_of(&world.nodes[a].pgdata).is_empty().then_some(()));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    world.signal(world.keeper_pid(a), Signal::SIGCONT);
    writer.expect_more(&world, 20);
    let primary = world.settle_all(2);
    assert_eq!(writer.lost(&world, primary), 0);
}
