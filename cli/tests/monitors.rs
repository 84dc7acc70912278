//! Three monitors as real processes, driven by the command line; nodes are played by the test.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/cluster.rs"]
mod cluster;
mod support;

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use cluster::{Monitors, NAMES, eventually, state_of, text, three_nodes};

#[test]
fn the_life_of_three_monitors() {
    let mut monitors = Monitors::start();
    let table = monitors.ask(&["show", "monitors"]);
    assert_eq!(table.lines().count(), 6, "{table}");
    assert_eq!(table.matches("follower").count(), 2, "{table}");

    // What one replica is told, every one knows.
    monitors.ask(&["create", "formation", "--formation", "f2", "--number-sync-standbys", "0"]);
    for name in NAMES {
        let pgdata = monitors.pgdata(name);
        let output = monitors.local(&["show", "uri", "--json", "--pgdata", pgdata.to_str().unwrap()]);
        assert!(text(&output.stdout).contains("\"f2\""), "{}", text(&output.stderr));
    }
    let again = monitors.local(&["create", "formation", "--formation", "f2", "--monitor", &monitors.uri]);
    assert_eq!(again.status.code(), Some(6), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("SQLSTATE 23505"), "{}", text(&again.stderr));

    // A monitor does not run twice, and says where the other one is.
    let m1 = monitors.pgdata("m1");
    let m1 = m1.to_str().unwrap();
    let twice = monitors.local(&["run", "--pgdata", m1]);
    assert_eq!(twice.status.code(), Some(12), "{}", text(&twice.stderr));
    assert!(text(&twice.stderr).contains("pgquorum stop"), "{}", text(&twice.stderr));
    assert!(monitors.local(&["status", "--pgdata", m1]).status.success());
    assert!(monitors.local(&["reload", "--pgdata", m1]).status.success());

    // The leader dies: the other two go on with everything that was said.
    let dead = monitors.leader();
    monitors.kill(dead);
    // Until the others have noticed, a call may come back with an unknown outcome.
    eventually("a new leader", || {
        monitors.roles().is_some_and(|roles| roles.iter().any(|(name, role)| role == "leader" && name != dead))
    });
    monitors.ask(&["drop", "formation", "--formation", "f2"]);
    eventually("the dead one shown as unreachable", || {
        monitors.roles().is_some_and(|roles| roles.get(dead).is_some_and(|role| role == "unreachable"))
    });
    monitors.run(dead);
    eventually("it is back", || {
        monitors.ask(&["create", "formation", "--formation", "f3"]);
        monitors.ask(&["drop", "formation", "--formation", "f3"]);
        monitors.roles().is_some_and(|roles| roles.get(dead).is_some_and(|role| role == "follower"))
    });

    // Stopping is orderly and waits.
    for name in NAMES {
        let pgdata = monitors.pgdata(name);
        let pgdata = pgdata.to_str().unwrap();
        let stopped = monitors.local(&["stop", "--pgdata", pgdata]);
        assert!(stopped.status.success(), "{}", text(&stopped.stderr));
        let mut child = monitors.running.remove(name).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(monitors.local(&["status", "--pgdata", pgdata]).status.code(), Some(3));
    }
    let nobody = monitors.local(&["show", "monitors", "--monitor", &format!("{}?connect_timeout=1", monitors.uri)]);
    assert_eq!(nobody.status.code(), Some(6));
    assert_eq!(text(&nobody.stdout).matches("refused").count(), 3, "{}", text(&nobody.stdout));

    // All stopped and started again: nothing is forgotten.
    for name in NAMES {
        monitors.run(name);
    }
    monitors.leader();
    assert!(!monitors.ask(&["show", "uri"]).contains("f2"));
}

/// The monitor's read tier keeps the rows of `pgquorum.replica` until the applied index or a report
/// moves, so that without nodes a dead monitor is shown as it was.
#[test]
fn a_dead_follower_is_seen_while_nothing_else_happens() {
    let mut monitors = Monitors::start();
    let leader = monitors.leader();
    let follower = NAMES.into_iter().find(|name| *name != leader).unwrap();
    monitors.kill(follower);
    eventually("the dead one shown as unreachable", || {
        monitors.roles().is_some_and(|roles| roles.get(follower).is_some_and(|role| role == "unreachable"))
    });
}

/// One of three may go. With a second one the majority would go, too: that needs to be meant.
/// Times that each thread of the store has slept by itself.
fn sleeps_of_the_store(pid: u32) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    let of_store = tasks.filter(|task| fs::read_to_string(task.join("comm")).unwrap().starts_with("sled-"));
    let status = of_store.map(|task| fs::read_to_string(task.join("status")).unwrap());
    let times = |s: String| s.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok());
    status.map(|status| times(status).unwrap()).collect()
}

/// sled's own threads would look for work once a second.
#[test]
fn threads_that_have_nothing_to_do_sleep() {
    let mut monitors = Monitors::start();
    // What a new store, and one that was there, starts with.
    monitors.kill("m1");
    monitors.run("m1");
    monitors.leader();
    sleep(Duration::from_secs(2));
    let all = || NAMES.map(|name| sleeps_of_the_store(monitors.running[name].id()));
    let before = all();
    sleep(Duration::from_millis(3_500));
    let looked: Vec<u64> = before.iter().flatten().zip(all().iter().flatten()).map(|(before, after)| after - before).collect();
    assert!(looked.len() >= 3 * 7, "{} threads", looked.len());
    // One may have had something to write.
    assert!(looked.iter().all(|times| *times < 3), "{looked:?}");
}

#[test]
fn a_monitor_is_dropped_and_made_again() {
    let mut monitors = Monitors::start();
    monitors.ask(&["create", "formation", "--formation", "kept"]);
    let leader = monitors.leader();
    let path = |monitors: &Monitors, name: &str| monitors.pgdata(name).to_str().unwrap().to_string();
    let drop = |monitors: &mut Monitors, name: &str, more: &[&str]| {
        let output = monitors.local(&[&["drop", "monitor", "--pgdata", &path(monitors, name)], more].concat());
        if output.status.success() {
            assert_eq!(monitors.running.remove(name).unwrap().wait().unwrap().code(), Some(0));
        }
        output
    };
    let dropped = drop(&mut monitors, leader, &[]);
    assert!(dropped.status.success(), "{}", text(&dropped.stderr));
    let next = monitors.leader();
    assert_ne!(next, leader);
    assert!(monitors.ask(&["show", "uri"]).contains("kept"));

    let last = NAMES.into_iter().find(|name| ![leader, next].contains(name)).unwrap();
    let refused = drop(&mut monitors, last, &["--destroy"]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("1 of 3 monitors would run, and 2 are needed"), "{}", text(&refused.stderr));
    assert!(monitors.local(&["status", "--pgdata", &path(&monitors, last)]).status.success());

    // Made again with the same words, it goes on with its store.
    let words = ["create", "monitor", "--name", leader, "--hostname", "127.0.0.1", "--auth", "trust", "--no-ssl"];
    let (pgdata, replicas) = (path(&monitors, leader), monitors.replicas.clone());
    let made = monitors.local(&[&words[..], &["--pgdata", &pgdata, "--replicas", &replicas]].concat());
    assert!(made.status.success(), "{}", text(&made.stderr));
    monitors.run(leader);
    eventually("it is back", || {
        monitors.roles().is_some_and(|roles| roles.values().filter(|role| *role == "follower").count() == 2)
    });
    let forced = drop(&mut monitors, last, &["--destroy", "--force"]);
    assert!(forced.status.success() && !monitors.pgdata(last).exists(), "{}", text(&forced.stderr));
}

/// On a terminal the screen is all there is: a monitor that is gone is no line across it.
#[test]
fn watch_moves_on_from_a_dead_monitor_without_a_word_across_the_screen() {
    let monitors = Monitors::start();
    let uri = monitors.uri.replace("autoctl_node@", "autoctl_node@127.0.0.1:1,");
    // A process group of its own, as timeout takes it, is in the background here and would be stopped.
    let binary = env!("CARGO_BIN_EXE_pgquorum");
    let command = format!("stty cols 80 rows 24; timeout --foreground 6 {binary} watch --monitor {uri}");
    let output = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let drawn = text(&output.stdout);
    assert!(drawn.contains("Formation:") && drawn.contains("leader"), "{drawn}");
    assert!(!drawn.contains("INFO") && !drawn.contains("going on with"), "{drawn}");
}

/// A terminal that goes away, as a broken ssh does, takes the screen with it.
#[test]
fn watch_ends_with_its_terminal() {
    let watching = || {
        let lines = fs::read_dir("/proc").unwrap().flatten().map(|entry| fs::read(entry.path().join("cmdline")));
        let ours = format!("127.0.0.1:1,127.0.0.1:2/gone{}", std::process::id());
        let is_watch = |line: &Vec<u8>| {
            let words: Vec<String> = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into()).collect();
            words.get(1).is_some_and(|word| word == "watch") && words.iter().any(|word| word.contains(&ours))
        };
        lines.flatten().filter(is_watch).count()
    };
    let uri = format!("postgres://autoctl_node@127.0.0.1:1,127.0.0.1:2/gone{}", std::process::id());
    let command = format!("exec {} watch --monitor {uri}", env!("CARGO_BIN_EXE_pgquorum"));
    let mut terminal = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("it is watching", || watching() == 1);
    sleep(Duration::from_millis(500));
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    eventually("it has ended", || watching() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_commands_over_three_monitors() {
    let mut monitors = Monitors::start();
    let nodes = three_nodes(&monitors).await;
    let primary = |monitors: &Monitors| {
        nodes.iter().map(|node| node.name.clone()).find(|name| state_of(monitors, name).as_deref() == Some("primary"))
    };

    let table = monitors.ask(&["perform", "switchover"]);
    assert!(table.lines().next().unwrap().ends_with("Assigned State"), "{table}");
    assert!(table.lines().last().unwrap().ends_with("primary"), "{table}");
    assert_ne!(primary(&monitors).unwrap(), "node1");

    monitors.ask(&["perform", "promotion", "--name", "node1"]);
    assert_eq!(primary(&monitors).unwrap(), "node1");
    eventually("all settled", || state_of(&monitors, "node2").as_deref() == Some("secondary"));

    // The leader dies, and the operator asks the next monitor for the same.
    let dead = monitors.leader();
    monitors.kill(dead);
    eventually("a new leader", || {
        monitors.roles().is_some_and(|roles| roles.iter().any(|(name, role)| role == "leader" && name != dead))
    });
    monitors.ask(&["perform", "failover"]);
    assert_ne!(primary(&monitors).unwrap(), "node1");
    monitors.run(dead);

    assert_eq!(monitors.ask(&["set", "node", "candidate-priority", "70", "--name", "node2"]), "70\n");
    assert_eq!(monitors.ask(&["get", "node", "candidate-priority", "--name", "node2"]), "70\n");
    assert_eq!(monitors.ask(&["get", "formation", "number-sync-standbys"]), "1\n");
    assert_eq!(monitors.ask(&["set", "formation", "number-sync-standbys", "0"]), "0\n");
    assert!(monitors.ask(&["show", "settings"]).contains("synchronous_standby_names"));
    assert!(monitors.ask(&["show", "standby-names"]).starts_with("'"));
    assert!(monitors.ask(&["show", "uri", "--formation", "default"]).starts_with("postgres://"));
    assert!(monitors.ask(&["show", "events", "--count", "3"]).lines().count() >= 5);

    let standby = ["node1", "node2", "node3"].into_iter().find(|n| Some(n.to_string()) != primary(&monitors)).unwrap();
    eventually("the standby is settled", || state_of(&monitors, standby).as_deref() == Some("secondary"));
    monitors.ask(&["enable", "maintenance", "--name", standby]);
    assert_eq!(state_of(&monitors, standby).as_deref(), Some("maintenance"));
    monitors.ask(&["disable", "maintenance", "--name", standby]);
    assert_eq!(state_of(&monitors, standby).as_deref(), Some("secondary"));

    monitors.ask(&["drop", "node", "--name", standby]);
    assert_eq!(state_of(&monitors, standby), None);
}
