//! `pgquorum demo`, and what `simulate` says about its cluster beside what really happens there.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_pgquorum");

fn has_postgres() -> bool {
    support::has("PostgreSQL 15", Path::new("/usr/lib/postgresql/15/bin/pg_ctl").exists())
}

fn place(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("pgquorum-{name}-{}", std::process::id()))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn demo(directory: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["demo", "--directory", directory.to_str().unwrap()]).args(more).stdin(Stdio::null());
    command
}

/// Processes that work below a directory, are called with a path in it or have their data directory in it.
fn inhabitants(directory: &Path) -> Vec<Pid> {
    let below = |path: &[u8]| Path::new(&*String::from_utf8_lossy(path)).starts_with(directory);
    let of = |pid: &i32| {
        let works_there = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut entries = environment.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(b"PGDATA="));
        works_there || line.split(|byte| *byte == 0).any(below) || entries.any(below)
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(of).map(Pid::from_raw).collect()
}

/// Told to stop when the test ends, however it ends.
struct Kept(PathBuf);

impl Kept {
    fn monitors(&self) -> String {
        let env = fs::read_to_string(self.0.join("env")).unwrap();
        let line = env.lines().find_map(|line| line.strip_prefix("export PG_AUTOCTL_MONITOR=")).unwrap();
        line.trim_matches('\'').to_string()
    }

    #[track_caller]
    fn json(&self, words: &[&str]) -> Value {
        let output = Command::new(BINARY).args(words).args(["--json", "--monitor", &self.monitors()]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn rows(&self, words: &[&str]) -> Vec<Value> {
        self.json(words).as_array().cloned().unwrap()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = demo(&self.0, &["--stop"]).output();
    }
}

#[test]
fn what_simulate_says_is_what_happens() {
    if !has_postgres() {
        return;
    }
    let kept = Kept(place("demo"));
    let played = demo(&kept.0, &["--keep"]).output().unwrap();
    let told = text(&played);
    assert!(played.status.success() && told.contains(" 0 acknowledged rows lost"), "{told}");
    assert!(told.contains("pgquorum watch") && told.contains("--stop --directory"), "{told}");
    assert!(told.lines().all(|line| line.chars().count() <= 80 || line.contains("--stop")), "{told}");

    let state = |name: &str| kept.rows(&["show", "state"]).into_iter().find(|row| row["nodename"] == name).unwrap();
    let primary = kept.rows(&["show", "state"]).into_iter().find(|row| row["current_group_state"] == "primary").unwrap();
    let primary = primary["nodename"].as_str().unwrap().to_string();
    let decision = |row: &Value, node: &str, goal: &str| (row[node].as_str().unwrap().to_string(), row[goal].as_str().unwrap().to_string());
    let positions = || -> Vec<(Value, Value)> {
        let rows = kept.rows(&["show", "state"]);
        rows.iter().map(|row| (row["reported_tli"].clone(), row["reported_lsn"].clone())).collect()
    };
    let victims = inhabitants(&kept.0.join(&primary));
    assert!(victims.len() > 3, "{victims:?}");
    let tell = |signal: Signal| {
        for pid in &victims {
            let _ = kill(*pid, signal);
        }
    };
    let began = Instant::now();
    let (last, story, successor) = loop {
        assert!(began.elapsed() < Duration::from_secs(120), "the positions never rest: {:?}", positions());
        let before = positions();
        if before.iter().any(|position| *position != before[0]) {
            std::thread::sleep(Duration::from_millis(200));
            continue;
        }
        let last = kept.rows(&["show", "events", "--count", "1"])[0]["eventid"].as_i64().unwrap();
        let story = kept.json(&["simulate", "--kill", &primary]);
        let successor = kept.json(&["explain"])["if_the_primary_died"]["successor"].as_str().unwrap().to_string();
        // SIGSTOP first: nobody sees another one die and acts upon it. PostgreSQL writes a little WAL also at
        // rest; who has got it may be another successor than the one just named.
        tell(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(1200));
        if positions() == before {
            break (last, story, successor);
        }
        tell(Signal::SIGCONT);
        std::thread::sleep(Duration::from_secs(1));
    };
    tell(Signal::SIGKILL);
    let simulated: Vec<_> = story["events"].as_array().unwrap().iter().filter(|row| row["rule"].is_number()).collect();
    let simulated: Vec<_> = simulated.into_iter().map(|row| decision(row, "nodename", "assigned_state")).collect();

    let began = Instant::now();
    while state(&successor)["current_group_state"] != "primary" {
        assert!(began.elapsed() < Duration::from_secs(60), "{successor} is no primary: {:#?}", kept.rows(&["show", "state"]));
        std::thread::sleep(Duration::from_millis(200));
    }
    let events = kept.rows(&["show", "events", "--count", "50"]);
    let real = events.iter().filter(|row| {
        row["eventid"].as_i64().unwrap() > last && row["description"].as_str().unwrap().starts_with("Setting goal state")
    });
    let real: Vec<_> = real.map(|row| decision(row, "nodename", "goalstate")).collect();
    assert_eq!(simulated, real, "simulated on the left; {events:#?}");
}

/// Their keepers die with `kill -9`; what they had started has other names than they.
#[test]
fn stock_nodes_fail_over_and_leave_nothing_behind() {
    if !has_postgres() || !support::has("pg_autoctl 2.0", Path::new("/usr/bin/pg_autoctl").exists()) {
        return;
    }
    let directory = place("demo-stock");
    let told = text(&demo(&directory, &["--stock-nodes"]).output().unwrap());
    assert!(told.contains(" 0 acknowledged rows lost"), "{told}");
    assert!(!directory.exists() && inhabitants(&directory).is_empty(), "{:?}", inhabitants(&directory));
}

/// Each before anything is begun.
#[test]
fn what_a_demonstration_lacks_is_said_in_one_line() {
    if !has_postgres() {
        return;
    }
    let (port, _taken) = support::taken_port();
    let (place, base) = (place("demo-not"), (port - 1).to_string());
    let cases: [(&Path, &[&str], i32, &str); 4] = [
        (&place, &["--port", "80"], 1, "between 1024 and 50000"),
        (&place, &["--port", &base], 2, "taken"),
        (Path::new("/tmp"), &[], 2, "cannot make the directory /tmp"),
        (Path::new("/tmp"), &["--stop"], 1, "no directory of `pgquorum demo`"),
    ];
    for (directory, more, code, says) in cases {
        let output = demo(directory, more).output().unwrap();
        let told = text(&output);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {told}");
        let errors: Vec<&str> = told.lines().filter(|line| line.contains(" ERROR ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(says), "{more:?}: {told}");
    }
    assert!(!place.exists());
}

/// In the middle of the first act, and with another one beside it.
#[test]
fn an_interrupted_demonstration_leaves_nothing_behind() {
    if !has_postgres() {
        return;
    }
    let directories = [place("demo-a"), place("demo-b")];
    let start = |directory: &PathBuf| demo(directory, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let running: Vec<_> = directories.iter().map(start).collect();
    for directory in &directories {
        let began = Instant::now();
        while !directory.join("node1/postmaster.pid").exists() {
            assert!(began.elapsed() < Duration::from_secs(90), "no PostgreSQL in {directory:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    for (directory, child) in directories.iter().zip(running) {
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", text(&output));
        assert!(text(&output).contains("interrupted: everything is stopped and removed"), "{}", text(&output));
        assert!(!directory.exists() && inhabitants(directory).is_empty());
    }
}
