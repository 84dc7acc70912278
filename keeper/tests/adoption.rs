//! Clusters that exist already: adopted as the primary, running or stopped, and as a standby; or refused
//! before anything is changed, with what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;

use failover::NodeState;
use support::{World, append, as_postgres, bindir, has_stock_monitor, read};

fn tool(program: &str, args: &[&str]) {
    let out = as_postgres(bindir().join(program)).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn initdb(pgdata: &Path, port: u16) {
    tool("initdb", &["-A", "trust", "--pgdata", &pgdata.to_string_lossy()]);
    append(pgdata.join("postgresql.conf"), &format!("port = {port}\nwork_mem = '7MB' # mine\n"));
}

fn pg_ctl(world: &World, at: usize, what: &[&str]) {
    let (pgdata, log) = (world.nodes[at].pgdata.to_string_lossy().into_owned(), world.root.join("by-hand.log"));
    let mut args = vec!["-w", "-D", &pgdata, "-l", log.to_str().unwrap()];
    args.extend(what);
    tool("pg_ctl", &args);
}

/// `create` without `--run` is refused with this exit code and these words; nothing was registered.
fn refused(world: &mut World, at: usize, code: i32, words: &str) {
    let before = world.rows().len();
    world.start(at, &[]);
    assert_eq!(world.wait_exit(at), code, "{}", world.log(at));
    assert!(world.log(at).contains(words), "{}", world.log(at));
    assert_eq!(world.rows().len(), before);
}

#[test]
fn existing_clusters() {
    if !has_stock_monitor() {
        return;
    }
    let mut world = World::new("adopt");
    let a = world.plan();
    let (data, port) = (world.nodes[a].pgdata.clone(), world.nodes[a].port);
    initdb(&data, port);
    pg_ctl(&world, a, &["start"]);
    world.sql(a, "create table mine as select 42 as answer");
    let postmaster = world.postmaster_pid(a).unwrap();

    // Running, but as it runs pg_rewind could never work: nothing is done to it.
    refused(&mut world, a, 2, "wal_log_hints is off");
    assert_eq!(world.postmaster_pid(a), Some(postmaster));
    assert!(!read(data.join("postgresql.conf")).contains("include 'postgresql-auto"));
    world.sql(a, "alter system set wal_log_hints to on");
    pg_ctl(&world, a, &["restart"]);

    // Running: adopted as it is, without a restart.
    let postmaster = world.postmaster_pid(a).unwrap();
    world.start(a, &[]);
    world.settle(&[(a, NodeState::Single)]);
    assert_eq!(world.postmaster_pid(a), Some(postmaster));
    assert_eq!(world.sql(a, "select answer from mine; show work_mem"), "42\n7MB");

    // A copy that was made by hand becomes a standby without another copy.
    let b = world.plan();
    let copy = world.nodes[b].pgdata.to_string_lossy().into_owned();
    tool("pg_basebackup", &["-h", "127.0.0.1", "-p", &port.to_string(), "-D", &copy]);
    fs::write(world.nodes[b].pgdata.join("marker"), "made by hand\n").unwrap();
    world.start(b, &[]);
    assert_eq!(world.settle_all(2), a);
    assert!(world.nodes[b].pgdata.join("marker").exists(), "copied anew");
    world.sql(a, "insert into mine values (43)");
    world.eventually("it follows", || (world.sql(b, "select count(*) from mine") == "2").then_some(()));

    // So does one that was started on its own, wrote, and was stopped: same timeline, other WAL. It must
    // not go on from there.
    let f = world.plan();
    let fork = world.nodes[f].pgdata.to_string_lossy().into_owned();
    tool("pg_basebackup", &["-h", "127.0.0.1", "-p", &port.to_string(), "-D", &fork]);
    append(world.nodes[f].pgdata.join("postgresql.auto.conf"), &format!("port = {}\nsynchronous_standby_names = ''\n", world.nodes[f].port));
    pg_ctl(&world, f, &["start"]);
    world.sql(f, "insert into mine values (-1)");
    pg_ctl(&world, f, &["stop"]);
    world.sql(a, "create table more as select g from generate_series(1, 50000) g");
    world.start(f, &[]);
    assert_eq!(world.settle_all(3), a);
    assert!(world.log(f).contains("copying the primary instead"), "{}", world.log(f));
    assert_eq!(world.sql(f, "select count(*) from mine where answer < 0; select count(*) from more"), "0\n50000");

    // Somebody else's cluster is refused, and stays as it was.
    let c = world.plan();
    let (data, port) = (world.nodes[c].pgdata.clone(), world.nodes[c].port);
    initdb(&data, port);
    let conf = read(data.join("postgresql.conf"));
    refused(&mut world, c, 6, "belongs to another cluster");
    assert_eq!(read(data.join("postgresql.conf")), conf);

    // Debian keeps the configuration elsewhere.
    let etc = world.root.join("etc");
    fs::create_dir(&etc).unwrap();
    for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::rename(data.join(file), etc.join(file)).unwrap();
    }
    refused(&mut world, c, 2, "pg_createcluster");
    for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::rename(etc.join(file), data.join(file)).unwrap();
    }
    append(data.join("postgresql.conf"), &format!("hba_file = '{}/pg_hba.conf'\n", etc.display()));
    refused(&mut world, c, 2, "hba_file");

    // Stopped: adopted with all that is in it. The monitor has forgotten the others.
    for at in [f, b, a] {
        world.end_keeper(at, nix::sys::signal::Signal::SIGTERM);
        let name = world.nodes[at].name.clone();
        world.block_on(world.client().remove_node("default", &name, true)).unwrap();
    }
    fs::write(data.join("postgresql.conf"), conf).unwrap();
    pg_ctl(&world, c, &["start"]);
    world.sql(c, "create table theirs as select 1 as one");
    pg_ctl(&world, c, &["stop"]);
    world.start(c, &[]);
    world.settle(&[(c, NodeState::Single)]);
    assert_eq!(world.sql(c, "select one from theirs; show work_mem; show wal_log_hints"), "1\n7MB\non");
}
