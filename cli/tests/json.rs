//! Every command of the reference: it takes --json and prints JSON, or it prints no data and is named here
//! with the reason. Run against a real monitor and two real nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/machine.rs"]
mod machine;
#[path = "support/reference.rs"]
mod reference;
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use machine::{Machine, has_postgres, port, text};
use serde_json::Value;

/// They tell in log lines what they did, and have no result.
const NO_DATA: &[&str] = &[
    "create monitor", "create postgres", "create formation", "create coordinator", "create worker", "drop monitor",
    "drop formation", "enable secondary", "disable secondary", "enable monitor", "disable monitor", "run", "stop",
    "node run", "node init", "node start", "node post-init", "inspect fsm init", "inspect primary slot create",
    "inspect primary slot drop",
    // A play to look at, and text for a shell, for man and for the reference.
    "demo", "help",
];

/// Taken for pg_autoctl's sake, which prints nothing either.
const SILENT: &[&str] = &["reload"];

/// Of nodes without monitors; tests/alone.rs reads their JSON.
const ALONE: &[&str] = &["inspect fsm nodes get", "inspect fsm nodes set", "inspect fsm assign", "inspect fsm step"];

const NOTIFICATION: &str = "{\"type\": \"state\", \"formation\": \"default\", \"groupId\": 0, \"nodeId\": 1, \"name\": \"a\", \
    \"host\": \"h\", \"port\": 5432, \"reportedState\": \"single\", \"goalState\": \"single\", \"health\": 1}";

/// The commands that need more than --pgdata, in an order that leaves two healthy nodes to the next one.
const MORE: &[(&str, &[&str])] = &[
    ("config get", &[]),
    ("config set", &["timeout.guardian_timeout", "7"]),
    ("set node candidate-priority", &["50"]),
    ("set node replication-quorum", &["true"]),
    ("set node region", &["north"]),
    ("set node metadata", &["--name", "a"]),
    ("set formation number-sync-standbys", &["0"]),
    ("enable ssl", &["--no-ssl"]),
    ("simulate", &["--kill", "b"]),
    ("inspect monitor parse-notification", &[NOTIFICATION]),
    ("inspect show lookup", &["localhost"]),
    ("inspect show reverse", &["localhost"]),
    ("inspect show ipaddr", &["{uri}"]),
    ("inspect show cidr", &["{uri}"]),
    ("inspect show hostname", &[]),
    ("inspect show version", &[]),
    ("inspect fsm gv", &[]),
    ("inspect fsm rules", &[]),
    ("inspect service getpid", &["node-active"]),
    ("node check", &["{file}"]),
    ("node apply", &["{file}"]),
    ("version", &[]),
    ("perform switchover", &[]),
    ("perform failover", &[]),
    ("perform promotion", &["--name", "b"]),
    ("perform promotion", &["--name", "a"]),
    ("enable maintenance", &["--name", "b"]),
    ("disable maintenance", &["--name", "b"]),
];

/// These find nothing by a data directory.
const WITHOUT_PGDATA: &[&str] = &[
    "inspect monitor parse-notification", "inspect show lookup", "inspect show reverse", "inspect show ipaddr",
    "inspect show cidr", "inspect show hostname", "inspect show version", "inspect fsm gv", "inspect fsm rules",
    "node check", "node apply", "version",
];

#[test]
fn every_command_that_prints_data_prints_json() {
    if !has_postgres() {
        return;
    }
    let mut machine = Machine::new("json");
    let uri = machine.monitor();
    let dir = |name: &str| machine.root.join(name).to_str().unwrap().to_string();
    let (a, b, file) = (dir("a"), dir("b"), dir("a.ini"));
    for (name, pgdata) in [("a", &a), ("b", &b)] {
        let pg_port = port();
        let mut create = vec!["create", "postgres", "--pgdata", pgdata, "--pgport", &pg_port, "--hostname", "127.0.0.1"];
        create.extend(["--listen", "127.0.0.1", "--name", name, "--monitor", &uri, "--no-ssl", "--run"]);
        create.extend(["--pgctl", "/usr/lib/postgresql/15/bin/pg_ctl"]);
        machine.spawn(&format!("{name}.log"), &create);
        machine.eventually("the node is there", || {
            let state = text(&machine.run(&["show", "state", "--monitor", &uri]));
            if name == "a" { state.contains("single |              single") } else { state.contains("secondary |           secondary") }
        });
    }
    std::fs::write(&file, text(&machine.run(&["node", "show", "--pgdata", &a]))).unwrap();

    let all = reference::commands();
    let all: Vec<(&str, bool)> = all.iter().map(|command| (command.name.as_str(), command.takes("--json"))).collect();
    let names: BTreeSet<&str> = all.iter().map(|(name, _)| *name).collect();
    let listed = [NO_DATA, SILENT, ALONE, WITHOUT_PGDATA].concat();
    assert!(listed.iter().all(|name| names.contains(name)), "a list here names what is no command");
    let without: Vec<_> = all.iter().filter(|(name, json)| !json && !NO_DATA.contains(name)).collect();
    assert!(without.is_empty(), "no --json: {without:?}");

    let mut lines: Vec<(&str, &[&str])> = Vec::new();
    let special = ["watch", "drop node"];
    for (name, json) in &all {
        let elsewhere = ALONE.contains(name) || special.contains(name);
        if *json && !elsewhere && !MORE.iter().any(|(more, _)| more == name) {
            lines.push((name, &[]));
        }
    }
    lines.extend(MORE);
    lines.push(("drop node", &[]));
    let mut wrong = Vec::new();
    for (name, more) in lines {
        let more: Vec<String> = more.iter().map(|word| word.replace("{uri}", &uri).replace("{file}", &file)).collect();
        let mut words: Vec<&str> = name.split(' ').chain(more.iter().map(String::as_str)).chain(["--json"]).collect();
        if !WITHOUT_PGDATA.contains(&name) {
            words.extend(["--pgdata", if name == "drop node" { &b } else { &a }]);
        }
        let began = Instant::now();
        let output = machine.run(&words);
        if began.elapsed() > Duration::from_secs(60) {
            wrong.push(format!("{words:?} took {:.0} s", began.elapsed().as_secs_f64()));
        }
        let out = text(&output);
        let parsed: Result<Value, _> = serde_json::from_str(&out);
        let silent = SILENT.contains(&name) && out.is_empty();
        if !output.status.success() || (parsed.is_err() && !silent) {
            wrong.push(format!("{words:?}\n{:?}\n{out}{}", output.status.code(), String::from_utf8_lossy(&output.stderr)));
        }
        if name.starts_with("perform") || name.ends_with("maintenance") {
            let parsed = parsed.unwrap_or_default();
            let changed = parsed["changes"].as_array().is_some_and(|changes| !changes.is_empty());
            if !changed || parsed["done"] != true {
                wrong.push(format!("{words:?} tells no changes: {out}"));
            }
            machine.eventually("both nodes are in order", || {
                let state = text(&machine.run(&["show", "state", "--json", "--monitor", &uri]));
                let nodes: Vec<Value> = serde_json::from_str(&state).unwrap_or_default();
                let at_rest = |node: &Value| {
                    let state = node["current_group_state"].as_str().unwrap();
                    state == node["assigned_group_state"] && ["primary", "wait_primary", "secondary", "maintenance"].contains(&state)
                };
                let away = nodes.iter().any(|node| node["current_group_state"] == "maintenance");
                let primary = if away { "wait_primary" } else { "primary" };
                nodes.len() == 2 && nodes.iter().all(at_rest) && nodes.iter().any(|node| node["current_group_state"] == primary)
            });
        }
    }
    assert!(wrong.is_empty(), "{} went wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));

    // A stream: everything as it is, and then what changes.
    let mut watch = machine.command(&["watch", "--json", "--monitor", &uri]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["node"]["nodename"], "a");
    assert_eq!(next()["monitor"]["role"], "leader");
    assert!(machine.run(&["set", "node", "candidate-priority", "80", "--pgdata", &a]).status.success());
    let seen = (0..4).map(|_| next()).any(|line| line["node"]["candidate_priority"] == 80);
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(seen);
}
