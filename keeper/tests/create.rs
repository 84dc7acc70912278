//! `create postgres` that is killed wherever it stands, and run again to the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::time::Duration;

use failover::NodeState;
use nix::sys::signal::Signal;
use support::relay::{Deaf, Relay};
use support::{World, free_port, has_stock_monitor};

/// Programs of a node's creation that still run.
fn programs_of(world: &World) -> Vec<String> {
    let root = world.root.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().parse::<i32>().is_ok())
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&root) && ["/initdb", "/pg_basebackup", "--single"].iter().any(|p| line.contains(p)))
        .collect()
}

fn kill_and_leave_nothing(world: &mut World, at: usize) {
    world.end_keeper(at, Signal::SIGKILL);
    world.eventually("nothing goes on without the keeper", || programs_of(world).is_empty().then_some(()));
}

/// Registration: the answer to COMMIT, or COMMIT itself, never arrives, and the keeper is killed.
fn killed_at_commit(world: &mut World, at: usize, deaf: Deaf, registered: bool, extra: &[&str]) -> Relay {
    let port = free_port();
    let relay = Relay::start(("127.0.0.1", port), ("127.0.0.1", world.monitor_port), deaf);
    let own = world.nodes[at].monitor.clone();
    world.nodes[at].monitor = own.replace(&format!(":{}/", world.monitor_port), &format!(":{port}/"));
    world.start(at, extra);
    world.eventually("the registration is about to be committed", || relay.is_reached().then_some(()));
    if registered {
        world.eventually("the monitor has the node", || world.row(at));
    }
    kill_and_leave_nothing(world, at);
    relay.cure();
    world.eventually("no transaction is left open", || (world.row(at).is_some() == registered).then_some(()));
    relay
}

#[test]
fn root_is_refused_before_anything_is_made() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let built = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("examples/keeper-dev");
    for verb in ["create", "run"] {
        let mut command = std::process::Command::new(&built);
        command.arg(verb).arg("--pgdata").arg(&data).args(["--monitor", "postgres://autoctl_node@127.0.0.1:1/m"]);
        let out = command.env("HOME", dir.path()).env_remove("XDG_DATA_HOME").output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.lines().count() == 1 && said.contains("sudo -u postgres"), "{said}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{verb} left something behind");
    }
}

#[test]
fn killed_at_every_point_and_run_again() {
    if !has_stock_monitor() {
        return;
    }
    let mut world = World::new("create");
    let a = world.plan();
    let working = world.root.join("backup");

    let _to_a = killed_at_commit(&mut world, a, Deaf::Before(b"COMMIT"), false, &[]);
    world.start(a, &[]);
    let _ = world.eventually("initdb works", || fs::read_dir(&working).ok()?.flatten().next());
    kill_and_leave_nothing(&mut world, a);
    assert!(!world.nodes[a].pgdata.exists(), "half a cluster is none");
    // Wherever it happens to be: a bit further each time.
    for pause in [100, 400, 800, 1200, 1600] {
        world.start(a, &[]);
        std::thread::sleep(Duration::from_millis(pause));
        kill_and_leave_nothing(&mut world, a);
    }
    world.start(a, &[]);
    world.settle(&[(a, NodeState::Single)]);
    world.sql(a, "create table t as select g from generate_series(1, 200000) g");

    let b = world.plan();
    let _to_b = killed_at_commit(&mut world, b, Deaf::After(b"COMMIT"), true, &["--maximum-backup-rate", "8M"]);
    world.start(b, &[]);
    world.eventually("pg_basebackup copies", || {
        working.join(format!("node_{}/base", world.row(b)?.id)).exists().then_some(())
    });
    kill_and_leave_nothing(&mut world, b);
    assert!(!world.nodes[b].pgdata.exists(), "half a copy is none");
    for pause in [200, 1500, 3000, 4000] {
        world.start(b, &[]);
        std::thread::sleep(Duration::from_millis(pause));
        kill_and_leave_nothing(&mut world, b);
    }
    world.start(b, &[]);
    assert_eq!(world.settle_all(2), a);
    assert_eq!(world.sql(b, "select count(*) from t"), "200000");
    assert_eq!(world.rows().len(), 2, "each was registered once");
    assert_eq!(fs::read_dir(&working).unwrap().count(), 0, "nothing is left beside the data directories");
}
