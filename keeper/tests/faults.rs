//! What people, disks and networks do to a node. Each time: a clear word in the log, no crash loop, no
//! lost acknowledged write, and the node is back by itself once the cause is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use failover::NodeState;
use nix::sys::signal::Signal;
use support::writer::Writer;
use support::{World, has_stock_monitor, read};

fn world_of_two(name: &str) -> World {
    let mut world = World::new(name);
    world.add(&[]);
    world.settle(&[(0, NodeState::Single)]);
    world.add(&[]);
    assert_eq!(world.settle_all(2), 0);
    world
}

fn says(world: &World, at: usize, words: &str) {
    world.eventually(&format!("the log says \"{words}\""), || world.log(at).contains(words).then_some(()));
}

fn streams(world: &World, at: usize) {
    world.eventually("the standby streams", || {
        let asked = world.try_sql(at, "select count(*) from pg_stat_wal_receiver where status = 'streaming'");
        (asked.as_deref() == Ok("1")).then_some(())
    });
}

#[test]
fn the_standbys_troubles() {
    if !has_stock_monitor() {
        return;
    }
    let mut world = world_of_two("faults-standby");
    let (a, b) = (0, 1);
    let data = world.nodes[b].pgdata.clone();
    let writer = Writer::start(&world);

    // Its slot is dropped on the primary: the primary's keeper makes it again.
    world.signal(world.postmaster_pid(b).unwrap(), Signal::SIGSTOP);
    let drop = "select pg_terminate_backend(active_pid) from pg_replication_slots where active; \
                select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active";
    world.eventually("the slot is dropped", || world.try_sql(a, drop).ok());
    world.signal(world.postmaster_pid(b).unwrap(), Signal::SIGCONT);
    streams(&world, b);
    writer.expect_more(&world, 20);

    // Wrong permissions: named, and no crash loop.
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    world.signal(world.postmaster_pid(b).unwrap(), Signal::SIGKILL);
    says(&world, b, "PostgreSQL wants 700 or 750");
    assert_eq!(world.postmaster_pid(b), None);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    streams(&world, b);

    // The port is taken while PostgreSQL is down.
    world.signal(world.keeper_pid(b), Signal::SIGSTOP);
    world.signal(world.postmaster_pid(b).unwrap(), Signal::SIGKILL);
    let port = world.nodes[b].port;
    let thief = world.eventually("the port is free", || TcpListener::bind(("127.0.0.1", port)).ok());
    world.signal(world.keeper_pid(b), Signal::SIGCONT);
    says(&world, b, "Address already in use");
    std::mem::drop(thief);
    streams(&world, b);

    // Somebody promotes it by hand: the fork is rewound.
    world.eventually("promoted by hand", || world.try_sql(b, "select pg_promote()").ok());
    says(&world, b, "cannot simply follow");
    streams(&world, b);
    assert_eq!(world.settle_all(2), a);

    // The data directory is removed under it: a new copy.
    world.signal(world.postmaster_pid(b).unwrap(), Signal::SIGSTOP);
    let old = world.postmaster_pid(b).unwrap();
    // Not the first one, and not always the second: a promotion that had not got to its checkpoint yet cannot be
    // rewound, and is copied over, too.
    let copies = || world.log(b).matches("the copy is in place").count();
    let before = copies();
    fs::rename(&data, data.with_extension("gone")).unwrap();
    world.signal(old, Signal::SIGKILL);
    world.eventually("a new copy is made", || (copies() > before).then_some(()));
    streams(&world, b);
    let _ = fs::remove_dir_all(data.with_extension("gone"));

    assert_eq!(world.settle_all(2), a);

    // The primary is given more connections: a standby with fewer pauses its replay, for ever.
    world.sql(a, "alter system set max_connections = 150");
    let old = world.postmaster_pid(a).unwrap();
    world.signal(old, Signal::SIGKILL);
    says(&world, b, "the primary has raised max_connections to 150");
    let seen = "select pg_is_wal_replay_paused() or current_setting('max_connections') <> '150'";
    world.eventually("it has as many", || (world.try_sql(b, seen).as_deref() == Ok("f")).then_some(()));
    // A person's pause is a person's.
    world.sql(b, "select pg_wal_replay_pause()");
    says(&world, b, "left to whoever did it");
    world.sql(b, "select pg_wal_replay_resume()");
    assert_eq!(world.settle_all(2), a);

    // WAL that it needs is recycled while it is away: rewinding cannot help, a new copy does.
    world.end_keeper(b, Signal::SIGTERM);
    world.settle(&[(a, NodeState::WaitPrimary)]);
    world.signal(world.keeper_pid(a), Signal::SIGSTOP);
    let recycle = "select pg_drop_replication_slot(slot_name) from pg_replication_slots; \
                   alter system set wal_keep_size = 0; select pg_reload_conf(); \
                   create table if not exists junk(t text); insert into junk values ('x'); select pg_switch_wal(); \
                   checkpoint; insert into junk values ('x'); select pg_switch_wal(); checkpoint; \
                   insert into junk values ('x'); select pg_switch_wal(); checkpoint";
    world.sql(a, recycle);
    world.signal(world.keeper_pid(a), Signal::SIGCONT);
    world.start(b, &[]);
    says(&world, b, "recycled WAL that this standby needs");
    streams(&world, b);
    assert_eq!(world.settle_all(2), a);

    // The same where its files are younger than the WAL beside them: it never lets anybody in.
    world.crash(b);
    world.settle(&[(a, NodeState::WaitPrimary)]);
    files_become_younger(&data);
    world.signal(world.keeper_pid(a), Signal::SIGSTOP);
    world.sql(a, recycle);
    world.signal(world.keeper_pid(a), Signal::SIGCONT);
    world.start(b, &[]);
    says(&world, b, "this standby needs WAL that is gone");
    streams(&world, b);
    assert_eq!(world.settle_all(2), a);

    // A rewind was cut short: what it leaves is not started.
    world.end_keeper(b, Signal::SIGTERM);
    fs::write(world.home_of(b).join("rewinding"), "").unwrap();
    world.start(b, &[]);
    says(&world, b, "pg_rewind was cut short");
    streams(&world, b);
    assert_eq!(world.settle_all(2), a);

    // A rewind that never began left the history of a timeline whose fork this node's WAL goes beyond.
    world.end_keeper(b, Signal::SIGTERM);
    let timeline: u32 = world.sql(a, "select timeline_id from pg_control_checkpoint()").parse().unwrap();
    let fork = place(&data, "Latest checkpoint location:") + 8;
    assert!(fork < place(&data, "Minimum recovery ending location:"));
    let line = format!("{timeline}\t{:X}/{:X}\tno recovery target specified\n", fork >> 32, fork & 0xFFFF_FFFF);
    fs::write(data.join(format!("pg_wal/{:08X}.history", timeline + 1)), line).unwrap();
    world.start(b, &[]);
    says(&world, b, "that timeline is not the primary's");
    streams(&world, b);
    assert_eq!(world.settle_all(2), a);

    // The machine is reinstalled: the same name, host and port, and nothing on its disk.
    world.end_keeper(b, Signal::SIGTERM);
    let id = world.row(b).unwrap().id;
    let home = world.home_of(b);
    for dir in [&data, &home] {
        fs::remove_dir_all(dir).unwrap();
    }
    // Refused while the old one has reported only just now; granted once it has been silent.
    world.start(b, &[]);
    assert_eq!(world.wait_exit(b), 3);
    says(&world, b, "run the command again in a few seconds");
    let client = world.client();
    world.eventually("the old registration is silent", || {
        let rows = world.block_on(client.current_state("default", None)).ok()?;
        rows.iter().find(|row| row.id == id)?.report_lag.filter(|lag| *lag > 10.5)
    });
    world.start(b, &[]);
    says(&world, b, "replacing it by a new node");
    world.eventually("the new node is registered", || world.row(b).filter(|row| row.id > id));
    assert_eq!(world.settle_all(2), a);

    // Its host name and its port change. A name that the monitor refuses changes nothing.
    world.end_keeper(b, Signal::SIGTERM);
    let taken = world.nodes[a].name.clone();
    let child = world.command(b, "run").args(["--name", &taken]).spawn().unwrap();
    world.adopt_keeper(b, child);
    assert_eq!(world.wait_exit(b), 6, "{}", world.log(b));
    says(&world, b, "nothing was changed");
    let port = support::free_port();
    let arguments = ["--hostname", "localhost", "--pgport", &port.to_string()];
    let child = world.command(b, "run").args(arguments).spawn().unwrap();
    world.adopt_keeper(b, child);
    world.nodes[b].port = port;
    world.eventually("the monitor has the new name", || world.row(b).filter(|r| r.host == "localhost" && r.port == port));
    streams(&world, b);
    assert_eq!(world.sql(b, "show port"), port.to_string());
    assert_eq!(world.settle_all(2), a);

    assert_eq!(writer.lost(&world, a), 0);
}

/// A position in the control file.
fn place(pgdata: &Path, label: &str) -> u64 {
    let said = support::as_postgres(support::bindir().join("pg_controldata")).arg(pgdata).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix(label)).unwrap();
    let (high, low) = line.trim().split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

/// As after a rewind whose source has lost the end of its WAL since: recovery must get much further than
/// before to be consistent.
fn files_become_younger(pgdata: &Path) {
    let place = place(pgdata, "Minimum recovery ending location:");
    assert!(place > 0);
    let path = pgdata.join("global/pg_control");
    let mut control = fs::read(&path).unwrap();
    // The checksum stands behind everything that it is of (pg_control.h).
    let is_sum = |at: &usize| control[*at..at + 4] == crc32c::crc32c(&control[..*at]).to_le_bytes();
    let sum = (200..600).step_by(4).find(is_sum).unwrap();
    let at = (0..sum).step_by(8).rfind(|at| control[*at..at + 8] == place.to_le_bytes()).unwrap();
    control[at..at + 8].copy_from_slice(&(place + (64 << 20)).to_le_bytes());
    let new = crc32c::crc32c(&control[..sum]).to_le_bytes();
    control[sum..sum + 4].copy_from_slice(&new);
    fs::write(&path, control).unwrap();
}

#[test]
fn the_primarys_troubles() {
    if !has_stock_monitor() {
        return;
    }
    let world = world_of_two("faults-primary");
    let (a, b) = (0, 1);
    let conf = world.nodes[a].pgdata.join("postgresql.conf");
    let writer = Writer::start(&world);

    // postgresql.conf is broken by hand; PostgreSQL does not survive its next start. After three
    // attempts the monitor hears the truth, and the other node takes over.
    let good = read(&conf);
    support::append(&conf, "this is no setting\n");
    world.signal(world.postmaster_pid(a).unwrap(), Signal::SIGKILL);
    says(&world, a, "syntax error");
    world.eventually("the other node takes over", || {
        world.row(b).filter(|r| r.reported.is_writable() && r.goal.is_writable())
    });
    writer.expect_more(&world, 20);
    let attempts = world.log(a).matches("starting it (attempt").count();
    assert!((3..8).contains(&attempts), "{attempts} attempts: neither too early nor a crash loop");
    fs::write(&conf, good).unwrap();
    assert_eq!(world.settle_all(2), b);

    // The data directory of the primary is gone. The standby has everything.
    let data = world.nodes[b].pgdata.clone();
    fs::rename(&data, data.with_extension("gone")).unwrap();
    world.eventually("the standby takes over", || Some(world.settle_all(2)).filter(|at| *at == a));
    assert!(world.log(b).contains("No such file or directory"), "{}", world.log(b));
    writer.expect_more(&world, 20);

    // What a person wrote survived all of that.
    assert!(read(&conf).starts_with("include 'postgresql-auto-failover.conf'"));
    assert_eq!(writer.lost(&world, a), 0);
}
