//! Disks that are full or read-only: of the primary, of the standby, of the WAL, of the keeper's state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use failover::NodeState;
use nix::sys::signal::Signal;
use support::disk::Disk;
use support::writer::Writer;
use support::{World, has_stock_monitor, keeper_kill_rest, may_mount, own, postgres_of};

fn says(world: &World, at: usize, words: &str, times: usize) {
    world.eventually(&format!("the log says \"{words}\", {times}"), || {
        (world.log(at).matches(words).count() >= times).then_some(())
    });
}

fn takes_writes(world: &World, at: usize) {
    world.eventually("it takes over", || world.row(at).filter(|r| r.reported.is_writable() && r.goal.is_writable()));
}

/// The primary needs its next WAL segment now.
fn wants_wal(world: &World, at: usize) {
    let _ = world.try_sql(at, "select pg_switch_wal(); select txid_current(); select pg_switch_wal(); select txid_current(); \
                               select pg_switch_wal(); select txid_current(); select pg_switch_wal(); select txid_current(); \
                               select pg_switch_wal(); select txid_current()");
}

#[test]
fn full_and_read_only() {
    if !has_stock_monitor() || !may_mount() {
        return;
    }
    let mut world = World::new("disks");
    // Room for the cluster, a copy beside it, and WAL.
    let disk = Disk::mount(&world.root.join("disk"), 900);
    let wal = Disk::mount(&world.root.join("wal"), 400);
    let state = Disk::mount(&world.root.join("state"), 1);
    let a = world.plan();
    world.nodes[a].pgdata = disk.at.join("n1");
    world.start(a, &[]);
    world.settle(&[(a, NodeState::Single)]);
    let sparing = "alter system set wal_keep_size = '32MB'; alter system set max_wal_size = '64MB'; \
                   alter system set min_wal_size = '32MB'; select pg_reload_conf()";
    world.sql(a, sparing);
    let b = world.plan();
    world.nodes[b].env.push(("XDG_DATA_HOME".to_string(), state.at.to_string_lossy().into_owned()));
    world.start(b, &[]);
    assert_eq!(world.settle_all(2), a);
    // The second node has its WAL on a disk of its own, as administrators do it.
    world.end_keeper(b, Signal::SIGTERM);
    world.settle(&[(a, NodeState::WaitPrimary)]);
    let pg_wal = world.nodes[b].pgdata.join("pg_wal");
    let moved = wal.at.join("pg_wal");
    assert!(std::process::Command::new("cp").arg("-a").args([&pg_wal, &moved]).status().unwrap().success());
    std::fs::remove_dir_all(&pg_wal).unwrap();
    std::os::unix::fs::symlink(&moved, &pg_wal).unwrap();
    own(&moved);
    world.start(b, &[]);
    assert_eq!(world.settle_all(2), a);
    let writer = Writer::start(&world);

    // The primary's only disk: PostgreSQL ends, cannot be started, and the other node takes over.
    disk.fill();
    wants_wal(&world, a);
    says(&world, a, "is full", 1);
    takes_writes(&world, b);
    writer.expect_more(&world, 20);
    disk.empty();
    assert_eq!(world.settle_all(2), b);
    says(&world, a, "can be written again", 1);

    // The standby's: PostgreSQL runs on there without receiving, and commits wait, as nobody has decided that
    // they may do without it; or replay needs the room, and it ends. Either goes on by itself.
    disk.fill();
    wants_wal(&world, b);
    says(&world, a, "is full", 2);
    world.eventually("the log says what the disk does to the standby", || {
        let log = world.log(a);
        let since = log.rfind("told to be secondary").unwrap_or(0);
        let words = ["this standby does not stream", "PostgreSQL did not start"];
        words.iter().any(|words| log[since..].contains(words)).then_some(())
    });
    disk.empty();
    writer.expect_more(&world, 20);
    assert_eq!(world.settle_all(2), b);

    // The new primary's WAL.
    wal.fill();
    wants_wal(&world, b);
    says(&world, b, "is full", 1);
    takes_writes(&world, a);
    writer.expect_more(&world, 20);
    wal.empty();
    assert_eq!(world.settle_all(2), a);

    // Read-only, as the kernel makes a disk with errors.
    world.signal(world.keeper_pid(a), Signal::SIGSTOP);
    world.eventually("read-only", || {
        keeper_kill_rest(&world.nodes[a].pgdata);
        disk.read_only(true).then_some(())
    });
    world.signal(world.keeper_pid(a), Signal::SIGCONT);
    says(&world, a, "is mounted read-only", 1);
    takes_writes(&world, b);
    let attempts = world.log(a).matches("starting it (attempt").count();
    writer.expect_more(&world, 20);
    assert!(disk.read_only(false));
    assert_eq!(world.settle_all(2), b);
    assert!(attempts < 25, "{attempts} attempts: a crash loop");

    // The state file cannot be written: a primary that is replaced stops all the same. A new keeper, which
    // knows of nothing, starts nothing.
    state.fill();
    world.switchover();
    takes_writes(&world, a);
    says(&world, b, "PostgreSQL is stopped all the same", 1);
    world.eventually("it is asked to follow", || world.row(b).filter(|row| row.goal == NodeState::Catchingup));
    says(&world, b, "not acted on before it is on disk", 1);
    world.end_keeper(b, Signal::SIGKILL);
    world.start(b, &[]);
    writer.expect_more(&world, 200);
    assert!(postgres_of(&world.nodes[b].pgdata).is_empty());
    state.empty();
    assert_eq!(world.settle_all(2), a);
    says(&world, b, "the state file can be written again", 1);
    says(&world, b, "from primary to catchingup, which is no known way", 1);
    assert_eq!(writer.lost(&world, a), 0);
}
