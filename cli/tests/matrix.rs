//! Every command against monitors in every condition: it succeeds, or it says in clear words why not, with
//! its exit code, in time, and never by a panic.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/cluster.rs"]
mod cluster;
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster::{Monitors, NAMES, eventually, state_of, text, three_nodes};

/// The deadline that the commands are given for finding a monitor, in seconds.
const PATIENCE: &str = "4";

/// Beyond the deadline: the machine may be busy.
const SLACK: Duration = Duration::from_secs(10);

const READS: &[&str] = &[
    "show state", "show state --json", "show events", "show events --json", "show settings", "show settings --json",
    "show standby-names", "show uri", "show uri --json", "show uri --formation default", "show monitors",
    "show monitors --json", "show timeline", "get node candidate-priority --name node2",
    "get node replication-quorum --name node2 --json", "get formation number-sync-standbys", "get formation settings",
    "explain", "explain --json", "explain --event 1", "simulate --kill node2", "simulate --kill m1 --json",
    "show timeline --json", "show standby-names --json", "show uri --formation monitor --json", "get node region --name node2",
    "get node region --name node2 --json", "explain --name node1 --all", "explain --event 1 --json",
    "simulate --kill node1,m2 --json", "inspect monitor get primary --json", "inspect demo uri --json",
    "inspect monitor get primary", "inspect monitor get candidate-count", "inspect monitor version", "inspect demo uri",
];

/// They leave the cluster as it was: the next condition meets the same one.
const WRITES: &[&str] = &[
    "set node candidate-priority 50 --name node3 --no-wait", "set node replication-quorum true --name node3 --no-wait",
    "set formation number-sync-standbys 1 --no-wait", "enable secondary", "perform promotion --name node1 --no-wait",
    "set node region south --name node3", "set node region default --name node3 --json",
    // The last two go together: the one moves the primary away, and the other back.
    "perform switchover", "perform promotion --name node1 --json",
];

/// With an exit code each: refused, whatever the condition of the monitors.
const WRONG: &[(i32, &str)] = &[
    (6, "show settings --formation nope"),
    (6, "show uri --formation nope"),
    (3, "show standby-names --formation nope"),
    (3, "show timeline --formation nope"),
    (3, "explain --formation nope"),
    (3, "simulate --kill node2 --formation nope"),
    (3, "perform failover --formation nope"),
    (3, "perform switchover --formation nope"),
    (6, "perform promotion --name node1 --formation nope"),
    (6, "get node candidate-priority --name node1 --formation nope"),
    (6, "set node candidate-priority 50 --name node1 --formation nope"),
    (6, "get node region --name node1 --formation nope"),
    (6, "set node region north --name nope"),
    (1, "set node region"),
    (1, "perform switchover --drain soon"),
    // Stock keepers do not tell.
    (3, "perform switchover --drain 1"),
    (3, "perform switchover --drain 1 --formation nope"),
    (6, "set formation number-sync-standbys 0 --formation nope"),
    (6, "enable maintenance --name node1 --formation nope"),
    (1, "enable maintenance --name node1"),
    (6, "disable maintenance --name node2"),
    (6, "drop node --name nope"),
    (6, "drop formation --formation nope"),
    (6, "create formation --formation default"),
    (6, "explain --event 123456789"),
    // Nobody was promoted yet.
    (6, "explain --event last"),
    (1, "explain --event first"),
    (1, "simulate --kill nope"),
    (1, "explain --name nope --event 1"),
    (1, "get node candidate-priority"),
];

struct Case {
    what: String,
    words: Vec<String>,
    /// Exit codes that are right.
    codes: Vec<i32>,
}

fn case(condition: &str, line: &str, monitor: &str, codes: &[i32]) -> Case {
    let words = line.split(' ').map(str::to_string).chain(["--monitor".to_string(), monitor.to_string()]).collect();
    Case { what: format!("{condition}: {line}"), words, codes: codes.to_vec() }
}

fn pgquorum(words: &[String], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgquorum"));
    command.args(words).env_clear().env("PGCONNECT_TIMEOUT", PATIENCE).stdin(Stdio::null());
    command.envs(env.iter().copied()).output().unwrap()
}

/// What is wrong with what the command did.
fn judge(case: &Case, output: &Output, took: Duration) -> Option<String> {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let complain = |what: &str| Some(format!("{}: {what}\n{out}{err}", case.what));
    match output.status.code() {
        None => return complain("killed by a signal"),
        Some(code) if !case.codes.contains(&code) => return complain(&format!("exit code {code}, not {:?}", case.codes)),
        Some(0) if out.is_empty() && err.is_empty() => {}
        Some(0) if err.contains(" ERROR ") => return complain("an error, and success all the same"),
        Some(0) => {}
        Some(_) if !err.contains("ERROR") && !err.contains("error:") => return complain("no word about what failed"),
        Some(_) => {}
    }
    if err.contains("panicked") {
        return complain("a panic");
    }
    let limit = Duration::from_secs(PATIENCE.parse().unwrap()) + SLACK;
    (took > limit).then(|| format!("{}: it took {:.1} s", case.what, took.as_secs_f64()))
}

/// Runs all of them, some at a time; they mostly wait.
#[track_caller]
fn check(cases: Vec<Case>) {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let began = Instant::now();
                    let output = pgquorum(&case.words, &[]);
                    wrong.lock().unwrap().extend(judge(case, &output, began.elapsed()));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} went wrong:\n\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}

/// Accepts and never says a word.
fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Full: what is sent there is dropped, as by a firewall.
fn dropping() -> (socket2::Socket, Vec<TcpStream>, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let filling = (0..4).filter_map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()).collect();
    (socket, filling, address.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_conditions_of_the_monitors() {
    let mut monitors = Monitors::start();
    let _nodes = three_nodes(&monitors).await;
    let leader = monitors.leader();
    let at = |monitors: &Monitors, name: &str| -> String {
        let replica = monitors.replicas.split(',').find(|replica| replica.starts_with(name)).unwrap();
        replica.split('=').nth(1).unwrap().rsplit_once(':').unwrap().0.to_string()
    };
    let uri = |hosts: &str| format!("postgres://autoctl_node@{hosts}/pg_auto_failover?connect_timeout=1");
    let follower = NAMES.into_iter().find(|name| *name != leader).unwrap();
    let all: Vec<String> = NAMES.iter().map(|name| at(&monitors, name)).collect();
    let all = all.join(",");
    let ((_silent, silent_port), (_full, _filling, full_port)) = (silent(), dropping());
    let conditions = [
        ("the leader", uri(&at(&monitors, leader))),
        ("a follower", uri(&at(&monitors, follower))),
        ("a dead first host", uri(&format!("127.0.0.1:1,{all}"))),
        ("a silent first host", uri(&format!("127.0.0.1:{silent_port},{all}"))),
        ("a first host behind a firewall", uri(&format!("127.0.0.1:{full_port},{all}"))),
    ];
    let mut cases = Vec::new();
    for (condition, monitor) in &conditions {
        cases.extend(READS.iter().map(|line| case(condition, line, monitor, &[0])));
    }
    cases.extend(WRONG.iter().map(|(code, line)| case("wrong", line, &conditions[0].1, &[*code])));
    cases.push(case("nobody", "show state", &uri(&format!("127.0.0.1:1,127.0.0.1:{silent_port}")), &[6]));
    check(cases);
    // A primary that is busy with a setting takes no other one: these come one after another.
    for (condition, monitor) in &conditions {
        for line in WRITES {
            let idle = |name: &&str| state_of(&monitors, name).as_deref() == Some("primary");
            eventually("a primary is idle", || ["node1", "node2", "node3"].iter().any(idle));
            check(vec![case(condition, line, monitor, &[0])]);
        }
    }

    check(vec![case("after a switchover", "explain --event last", &conditions[0].1, &[0])]);
    // A stream does not end: its first line has to come.
    for (condition, monitor) in &conditions {
        let line = first_line(&["watch", "--json", "--monitor", monitor]);
        assert!(line.as_ref().is_some_and(|line| line.contains("\"change\":\"node\"")), "{condition}: {line:?}");
    }

    // One of three: reads may be answered for as long as it is certain of them, writes never are.
    for name in NAMES.into_iter().filter(|name| *name != leader) {
        monitors.kill(name);
    }
    eventually("the last one knows that it is alone", || {
        let words = ["create", "formation", "--formation", "alone", "--monitor", &conditions[0].1];
        pgquorum(&words.map(str::to_string), &[]).status.code() == Some(6)
    });
    let minority = uri(&all);
    let mut cases: Vec<Case> = READS.iter().map(|line| case("a minority", line, &minority, &[0, 6])).collect();
    cases.extend(WRITES.iter().map(|line| case("a minority", line, &minority, &[6])));
    check(cases);
    let line = first_line(&["watch", "--json", "--monitor", &uri("127.0.0.1:1")]);
    assert!(line.as_ref().is_some_and(|line| line.contains("\"change\":\"problem\"")), "{line:?}");
}

/// What a command that goes on prints first, within the time that it has to find a monitor.
fn first_line(words: &[&str]) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgquorum"));
    command.args(words).env_clear().env("PGCONNECT_TIMEOUT", PATIENCE).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || told.send(BufReader::new(out).lines().next()));
    let line = heard.recv_timeout(Duration::from_secs(PATIENCE.parse().unwrap()) + SLACK);
    child.kill().unwrap();
    child.wait().unwrap();
    line.ok().flatten().and_then(Result::ok)
}

#[test]
fn data_directories_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let home = dir.path().join("home");
    let node = dir.path().join("node");
    let cfg = home.join(".config/pg_autoctl").join(node.strip_prefix("/").unwrap());
    fs::create_dir_all(&cfg).unwrap();
    fs::write(cfg.join("pg_autoctl.cfg"), "[pg_autoctl\nnonsense").unwrap();
    let monitor = dir.path().join("monitor");
    fs::create_dir(&monitor).unwrap();
    fs::write(monitor.join("pgquorum.cfg"), "nonsense = 1\n").unwrap();
    let verbs = [
        "show state", "show uri", "show events --json", "status", "stop", "reload", "config get", "config check",
        "perform failover", "run",
    ];
    // Garbage, and then a file that only root may read; root itself reads it.
    for (pgdata, path) in [(&node, cfg.join("pg_autoctl.cfg")), (&monitor, monitor.join("pgquorum.cfg"))] {
        let judge_all = |mode: u32| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            for verb in verbs {
                let words: Vec<&str> = verb.split(' ').chain(["--pgdata", pgdata.to_str().unwrap()]).collect();
                let output = as_nobody(&words, &home);
                let err = text(&output.stderr);
                let code = output.status.code();
                // A service that does not run is said to, whatever its configuration looks like.
                let stopped = ["stop", "reload", "status"].contains(&verb) && [Some(3), Some(12)].contains(&code);
                let right = code == Some(2) || stopped;
                assert!(right && err.contains("ERROR") && !err.contains("panicked"), "{verb}, mode {mode:o}: {code:?}\n{err}");
            }
        };
        judge_all(0o644);
        judge_all(0o000);
    }
}

/// As a user without rights: root is stopped by no file mode.
fn as_nobody(words: &[&str], home: &Path) -> Output {
    let program = home.parent().unwrap().join("pgquorum");
    if !program.exists() {
        support::copy_program(&program);
    }
    let mut command = match nix::unistd::geteuid().is_root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program);
            command
        }
        false => Command::new(&program),
    };
    command.args(words).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).env("PGCONNECT_TIMEOUT", "1");
    command.stdin(Stdio::null()).output().unwrap()
}
