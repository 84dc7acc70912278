//! Nodes as they should be run: TLS, passwords, and table spaces outside of the data directory. No password
//! is ever seen in a log, in `ps` or in a file that others may read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use failover::NodeState;
use nix::sys::signal::Signal;
use support::writer::Writer;
use support::{World, has_stock_monitor, keeper_kill_rest, may_mount, own};

/// With what connection strings, password files and SQL must escape.
const REPLICATION: &str = "repl:Se'cr\\et";
/// As written in the monitor's URI.
const MONITOR: &str = "m0nitorS3cret";
/// What would give them away.
const TRACES: &[&str] = &["repl:Se", "repl\\:Se", "cr\\et", MONITOR];

fn tells(bytes: &[u8]) -> bool {
    TRACES.iter().any(|trace| bytes.windows(trace.len()).any(|window| window == trace.as_bytes()))
}

/// Looks at all command lines, as `ps` does, all the time.
struct Spy {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Spy {
    fn start() -> Spy {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    if tells(&line) && !(young(&entry.path()) || line.starts_with(b"cargo")) {
                        seen.push(String::from_utf8_lossy(&line).replace('\0', " "));
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            seen
        });
        Spy { stop, thread }
    }

    fn seen(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A keeper reads its arguments before it overwrites them.
fn young(process: &Path) -> bool {
    let up: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let started = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse::<f64>().ok());
    started.is_none_or(|ticks| up - ticks / 100.0 < 1.0)
}

/// All files below, with whether others may read them.
fn files_below(dir: &Path, open: bool, found: &mut Vec<(PathBuf, bool)>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            files_below(&entry.path(), open && meta.mode() & 0o001 != 0, found);
        } else if meta.is_file() {
            found.push((entry.path(), open && meta.mode() & 0o004 != 0));
        }
    }
}

fn openssl(args: &[&str]) {
    assert!(Command::new("openssl").args(args).output().unwrap().status.success(), "openssl {args:?}");
}

/// An authority, and a certificate of its making for 127.0.0.1 which both nodes use.
fn certificates(dir: &Path) -> [PathBuf; 3] {
    fs::create_dir(dir).unwrap();
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (ca, ca_key) = (path("ca.crt"), path("ca.key"));
    openssl(&["req", "-new", "-x509", "-nodes", "-days", "2", "-subj", "/CN=authority", "-keyout", &ca_key, "-out", &ca]);
    let (key, request, certificate) = (path("node.key"), path("node.csr"), path("node.crt"));
    openssl(&["req", "-new", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", &key, "-out", &request]);
    openssl(&["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "2", "-out", &certificate]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    own(Path::new(&key));
    [ca.into(), certificate.into(), key.into()]
}

fn set(world: &World, at: usize, settings: &[(&str, &str)]) {
    for (key, value) in settings {
        assert!(world.command(at, "config-set").args(["--key", key, "--value", value]).status().unwrap().success());
    }
    assert!(world.command(at, "reload").status().unwrap().success());
}

#[test]
fn tls_passwords_and_table_spaces() {
    if !has_stock_monitor() || !may_mount() {
        return;
    }
    let spy = Spy::start();
    let mut world = World::new("secured");
    let space = world.root.join("space");
    fs::create_dir(&space).unwrap();
    for _ in 0..2 {
        let at = world.plan();
        // Each node's machine has a disk of its own at the same place.
        let own_space = world.root.join(format!("space{at}"));
        fs::create_dir(&own_space).unwrap();
        own(&own_space);
        let mount = format!("mount --bind {} {} && exec \"$@\"", own_space.display(), space.display());
        world.nodes[at].wrap = ["unshare", "--mount", "sh", "-c", &mount, "sh"].map(str::to_string).to_vec();
        world.nodes[at].env.push(("PG_AUTOCTL_REPLICATION_PASSWORD".to_string(), REPLICATION.to_string()));
        world.nodes[at].monitor = world.monitor_uri().replace("autoctl_node@", &format!("autoctl_node:{MONITOR}@"));
    }
    let (a, b) = (0, 1);
    let secured = ["--auth", "scram-sha-256", "--ssl-self-signed"];
    world.start(a, &secured);
    world.settle(&[(a, NodeState::Single)]);
    // The story's writer runs as somebody else.
    let rules = world.nodes[a].pgdata.join("pg_hba.conf");
    let text = support::read(&rules);
    fs::write(&rules, format!("local all postgres trust\n{text}")).unwrap();
    world.sql(a, "select pg_reload_conf()");
    world.start(b, &secured);
    assert_eq!(world.settle_all(2), a);
    let streams = "select s.ssl, a.backend_type from pg_stat_ssl s join pg_stat_activity a using (pid) \
                   where a.backend_type = 'walsender'";
    assert_eq!(world.sql(a, streams), "t|walsender");
    let rules = support::read(&rules);
    assert!(rules.contains("hostssl") && !rules.contains("pgautofailover_replicator 127.0.0.1/32 trust"), "{rules}");

    // A table space, which the standby's base backup knows nothing of yet.
    world.sql(a, &format!("create tablespace away location '{}'; create table far(v int) tablespace away", space.display()));
    let writer = Writer::start(&world);
    world.sql(a, "insert into far select generate_series(1, 1000)");
    let far = |world: &World, at: usize, count: &str| {
        world.eventually("the table space is there", || {
            (world.try_sql(at, "select count(*) from far").as_deref() == Ok(count)).then_some(())
        });
    };
    far(&world, b, "1000");

    // The primary crashes with WAL that nobody else has, in the table space too: it is rewound.
    world.signal(world.keeper_pid(b), Signal::SIGSTOP);
    keeper_kill_rest(&world.nodes[b].pgdata);
    let left_behind = world.try_sql(a, "set synchronous_commit = local; insert into far values (-1); checkpoint");
    left_behind.unwrap();
    world.crash(a);
    world.signal(world.keeper_pid(b), Signal::SIGCONT);
    world.settle(&[(b, NodeState::WaitPrimary)]);
    world.sql(b, "insert into far values (1001)");
    world.start(a, &secured);
    assert_eq!(world.settle_all(2), b);
    assert!(world.log(a).contains("pg_rewind: Done!"), "{}", world.log(a));
    far(&world, a, "1001");
    assert_eq!(world.sql(a, "select count(*) from far where v < 0"), "0");

    // It is copied anew: what the old copy had in the table space makes room.
    world.end_keeper(a, Signal::SIGTERM);
    world.settle(&[(b, NodeState::WaitPrimary)]);
    world.signal(world.keeper_pid(b), Signal::SIGSTOP);
    world.sql(
        b,
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots; alter system set wal_keep_size = 0; \
         select pg_reload_conf(); insert into far values (1002); select pg_switch_wal(); checkpoint; \
         insert into far values (1003); select pg_switch_wal(); checkpoint; insert into far values (1004); \
         select pg_switch_wal(); checkpoint",
    );
    world.signal(world.keeper_pid(b), Signal::SIGCONT);
    world.start(a, &secured);
    assert_eq!(world.settle_all(2), b);
    far(&world, a, "1004");
    assert!(world.log(a).contains("emptying 1 table space(s)"), "{}", world.log(a));
    assert!(support::read(world.nodes[a].pgdata.join("server.crt")) != support::read(world.nodes[b].pgdata.join("server.crt")));

    // From self-signed certificates to an authority's, without a restart; peers are verified from now on.
    let files = certificates(&world.root.join("certificates"));
    let [ca, certificate, key] = files.each_ref().map(|path| path.to_str().unwrap());
    let settings = [
        ("ssl.self_signed", "false"), ("ssl.ca_file", ca), ("ssl.cert_file", certificate), ("ssl.key_file", key),
    ];
    let postmasters = [world.postmaster_pid(a), world.postmaster_pid(b)];
    for at in [b, a] {
        set(&world, at, &settings);
    }
    for at in [b, a] {
        set(&world, at, &[("ssl.sslmode", "verify-full")]);
    }
    let info = "select conninfo like '%sslmode=verify-full%' from pg_stat_wal_receiver where status = 'streaming'";
    world.eventually("the primary is verified", || (world.try_sql(a, info).as_deref() == Ok("t")).then_some(()));
    assert_eq!(world.sql(b, streams), "t|walsender");
    writer.expect_more(&world, 20);
    assert_eq!([world.postmaster_pid(a), world.postmaster_pid(b)], postmasters);
    world.switchover();
    assert_eq!(world.eventually("roles change", || Some(world.settle_all(2)).filter(|at| *at == a)), a);
    far(&world, b, "1004");
    assert_eq!(writer.lost(&world, a), 0);

    // Who has seen a password?
    assert_eq!(spy.seen(), Vec::<String>::new(), "in ps");
    let mut files = Vec::new();
    files_below(&world.root, true, &mut files);
    assert!(files.len() > 1000);
    for (path, readable) in files {
        let name = path.to_string_lossy();
        let is_log = name.ends_with(".log") || name.contains("/log/");
        if readable || is_log {
            assert!(!tells(&fs::read(&path).unwrap()), "{name} tells a password");
        }
    }
}
