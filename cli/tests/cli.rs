//! The binary from the outside: what needs no monitor that runs.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn pgquorum(args: &[&str]) -> Output {
    pgquorum_with(args, &[])
}

fn pgquorum_with(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgquorum"));
    command.args(args).env_clear().env("PGCONNECT_TIMEOUT", "1");
    for (key, value) in env {
        command.env(key, value);
    }
    command.output().unwrap()
}

fn create(pgdata: &Path, more: &[&str]) -> Output {
    let mut args = vec!["create", "monitor", "--pgdata", pgdata.to_str().unwrap()];
    args.extend(["--hostname", "127.0.0.1", "--auth", "trust", "--no-ssl"]);
    args.extend(more);
    pgquorum(&args)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn refused(output: Output, code: i32, says: &[&str]) {
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in says {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(output.stdout.is_empty());
}

#[track_caller]
fn fine(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

const THREE: &str = "m1=127.0.0.1:6001,m2=127.0.0.1:6002,m3=127.0.0.1:6003";

#[test]
fn exit_codes_of_help_and_mistakes() {
    assert_eq!(pgquorum(&["--version"]).stdout, pgquorum(&["version"]).stdout);
    // pg_autoctl's internals, under its name for them: always there, shown when asked for.
    fine(&pgquorum(&["do", "fsm", "gv"]));
    let shown = pgquorum_with(&["help", "do", "fsm"], &[("PG_AUTOCTL_DEBUG", "1")]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("gv"), "{}", stderr(&shown));
    for internal in ["monitor active", "service node-active", "demo run", "standby promote", "pgctl off", "tmux session"] {
        let words: Vec<&str> = ["do"].into_iter().chain(internal.split(' ')).collect();
        refused(pgquorum(&words), 1, &["not provided"]);
    }
    fine(&pgquorum(&["version", "--json"]));
    fine(&pgquorum(&["help", "perform", "failover"]));
    assert_eq!(pgquorum(&[]).status.code(), Some(1));
    assert_eq!(pgquorum(&["show"]).status.code(), Some(1));
    assert_eq!(pgquorum(&["show", "state", "--bad"]).status.code(), Some(1));
    refused(pgquorum(&["show", "state"]), 1, &["no monitor is named", "--monitor URI"]);
    refused(pgquorum(&["run"]), 1, &["--pgdata DIR"]);
    refused(pgquorum(&["show", "state", "--monitor", "mysql://x"]), 1, &["mysql"]);
    refused(pgquorum(&["set", "node", "candidate-priority", "101", "--monitor", "x"]), 1, &["101"]);
}

#[test]
fn creation_can_be_repeated_and_says_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    let pgdata = dir.path().join("deep/m1");
    let options = ["--name", "m1", "--pgport", "6001", "--replicas", THREE];
    let first = create(&pgdata, &options);
    fine(&first);
    assert!(stderr(&first).contains("pgquorum run --pgdata"), "{}", stderr(&first));
    assert_eq!(fs::metadata(&pgdata).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(pgdata.join("pgquorum.cfg")).unwrap().permissions().mode() & 0o777, 0o600);
    fine(&create(&pgdata, &options));
    // The port follows from the list.
    fine(&create(&pgdata, &["--name", "m1", "--replicas", THREE]));
    let other = create(&pgdata, &["--name", "m2", "--replicas", THREE]);
    refused(other, 2, &["--name: is m1, asked for m2", "--pgport: is 6001, asked for 6002"]);
}

#[test]
fn creation_refuses_what_cannot_work() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new");
    refused(create(&new, &["--ssl-self-signed"]), 1, &["exclude each other"]);
    let pgdata = new.to_str().unwrap();
    let base = ["create", "monitor", "--pgdata", pgdata, "--hostname", "127.0.0.1"];
    let with = |more: &[&str]| pgquorum(&[&base, more].concat());
    refused(with(&["--auth", "trust"]), 1, &["choice about TLS", "--no-ssl"]);
    refused(with(&["--auth", "trust", "--server-cert", "x"]), 1, &["--server-key"]);
    refused(with(&["--auth", "trust", "--server-cert", "x", "--server-key", "y"]), 1, &["--ssl-ca-file"]);
    refused(with(&["--no-ssl"]), 1, &["choice of authentication"]);
    refused(with(&["--no-ssl", "--auth", "ident"]), 1, &["ident"]);
    refused(with(&["--no-ssl", "--auth", "scram-sha-256"]), 1, &["PG_AUTOCTL_NODE_PASSWORD"]);
    refused(create(&new, &["--replicas", THREE]), 1, &["which of the replicas", "m1, m2, m3"]);
    refused(create(&new, &["--replicas", THREE, "--name", "m9"]), 1, &["m9"]);
    refused(create(&new, &["--replicas", THREE, "--name", "m1", "--pgport", "7000"]), 1, &["7000", "6001"]);
    refused(create(&new, &["--replicas", "m1=h"]), 1, &["name=host:port"]);
    assert!(!new.exists(), "a refused creation leaves nothing behind");
    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("PG_VERSION"), "15").unwrap();
    refused(create(&foreign, &[]), 3, &["not empty", "PG_VERSION"]);
}

#[test]
fn a_single_monitor_says_so_and_keeps_its_password_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let pgdata = dir.path().join("m");
    let args = [
        "create", "monitor", "--pgdata", pgdata.to_str().unwrap(), "--hostname", "127.0.0.1", "--auth",
        "scram-sha-256", "--no-ssl",
    ];
    let output = pgquorum_with(&args, &[("PG_AUTOCTL_NODE_PASSWORD", "hunter2")]);
    fine(&output);
    assert!(stderr(&output).contains("one replica alone"), "{}", stderr(&output));
    let again = pgquorum_with(&args, &[("PG_AUTOCTL_NODE_PASSWORD", "other-secret")]);
    refused(again, 2, &["another password is stored"]);
    for output in [
        pgquorum_with(&args, &[("PG_AUTOCTL_NODE_PASSWORD", "other-secret")]),
        pgquorum(&["show", "uri", "--formation", "monitor", "--pgdata", pgdata.to_str().unwrap()]),
        pgquorum(&["show", "monitors", "--monitor", "postgres://u:hunter2@127.0.0.1:1/db"]),
    ] {
        let text = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("hunter2") && !text.contains("other-secret"), "{text}");
    }
}

#[test]
fn what_does_not_run_is_not_running() {
    let dir = tempfile::tempdir().unwrap();
    let pgdata = dir.path().join("m");
    let path = pgdata.to_str().unwrap();
    refused(pgquorum(&["status", "--pgdata", path]), 1, &["pgquorum create monitor"]);
    fine(&create(&pgdata, &[]));
    refused(pgquorum(&["status", "--pgdata", path]), 3, &["no monitor runs", "pgquorum run"]);
    refused(pgquorum(&["stop", "--pgdata", path]), 12, &["no monitor runs"]);
    // A number in a stale file may belong to another process by now: this one.
    fs::write(pgdata.join("pgquorum.pid"), format!("{}\n", std::process::id())).unwrap();
    let output = pgquorum(&["stop", "--pgdata", path]);
    refused(output, 12, &["no monitor runs"]);
    let json = pgquorum(&["status", "--json", "--pgdata", path]);
    assert_eq!(json.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&json.stdout).contains("\"not running\""));
}

#[test]
fn the_store_of_a_dropped_monitor_waits_for_the_same_monitor() {
    let dir = tempfile::tempdir().unwrap();
    let pgdata = dir.path().join("m1");
    let path = pgdata.to_str().unwrap();
    let same = ["--name", "m1", "--replicas", THREE];
    fine(&create(&pgdata, &same));
    fs::create_dir(pgdata.join("store")).unwrap();
    let dropped = pgquorum(&["drop", "monitor", "--pgdata", path]);
    fine(&dropped);
    assert!(stderr(&dropped).contains("its store stays") && stderr(&dropped).contains("one of 3: 2 must run"));
    refused(pgquorum(&["run", "--pgdata", path]), 12, &["no data directory of"]);
    refused(pgquorum(&["drop", "monitor", "--pgdata", path]), 1, &["no data directory of"]);
    let other = create(&pgdata, &["--name", "m2", "--replicas", THREE]);
    refused(other, 2, &["the dropped monitor \"m1\"", "another --pgdata"]);
    let again = create(&pgdata, &same);
    fine(&again);
    assert!(stderr(&again).contains("taking up the store"), "{}", stderr(&again));
    assert!(pgdata.join("store").exists() && !pgdata.join("dropped").exists());
    fine(&pgquorum(&["drop", "monitor", "--destroy", "--pgdata", path]));
    assert!(!pgdata.exists());
}

/// What pg_autoctl answers differs by command.
#[test]
fn a_data_directory_without_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let reading = [&["show", "state"][..], &["show", "uri"], &["show", "systemd"], &["perform", "failover"], &["run"]];
    for verb in reading {
        refused(pgquorum(&[verb, &["--pgdata", path]].concat()), 12, &["pgquorum.cfg", "pg_autoctl.cfg", "--pgdata"]);
    }
    let local = [&["status"][..], &["stop"], &["reload"], &["config", "get"], &["drop", "node"], &["drop", "monitor"]];
    for verb in local {
        refused(pgquorum(&[verb, &["--pgdata", path]].concat()), 1, &["no data directory of"]);
    }
    let metadata = ["set", "node", "metadata", "--name", "x", "--pgdata", path];
    refused(pgquorum(&metadata), 2, &["no data directory of"]);
    refused(pgquorum(&["disable", "monitor", "--pgdata", path]), 2, &["no data directory of"]);
}

#[test]
fn the_configuration_of_a_monitor() {
    let dir = tempfile::tempdir().unwrap();
    let pgdata = dir.path().join("m");
    let path = pgdata.to_str().unwrap();
    let args = [
        "create", "monitor", "--pgdata", path, "--hostname", "127.0.0.1", "--auth", "scram-sha-256", "--no-ssl",
        "--pgport", "6007",
    ];
    fine(&pgquorum_with(&args, &[("PG_AUTOCTL_NODE_PASSWORD", "hunter2")]));
    let all = pgquorum(&["config", "get", "--pgdata", path]);
    fine(&all);
    let text = String::from_utf8_lossy(&all.stdout).into_owned();
    assert!(text.contains("\nport = 6007\n") && text.contains("(set)") && !text.contains("hunter2"), "{text}");
    let json = pgquorum(&["config", "get", "--json", "--pgdata", path]);
    assert!(String::from_utf8_lossy(&json.stdout).contains("\"port\": \"6007\""));
    let files = pgquorum(&["show", "file", "--pgdata", path]);
    assert!(String::from_utf8_lossy(&files.stdout).contains(&format!(" Config | {path}/pgquorum.cfg")));
    let one = pgquorum(&["config", "get", "postgresql.port", "--pgdata", path]);
    assert_eq!(String::from_utf8_lossy(&one.stdout), "6007\n");
    fine(&pgquorum(&["config", "check", "--pgdata", path]));
    refused(pgquorum(&["config", "get", "postgresql.nope", "--pgdata", path]), 1, &["postgresql.nope"]);
    refused(pgquorum(&["config", "set", "postgresql.port", "1", "--pgdata", path]), 1, &["pgquorum.cfg"]);
    refused(pgquorum(&["enable", "ssl", "--no-ssl", "--pgdata", path]), 1, &["of a monitor", "PostgreSQL node"]);
}

#[test]
fn every_monitor_that_was_tried_is_listed() {
    let output = pgquorum(&["show", "state", "--monitor", "127.0.0.1:1,127.0.0.1:2"]);
    refused(output, 6, &["127.0.0.1:1: connection refused", "127.0.0.1:2: connection refused", "pgquorum status"]);
}

#[test]
fn monitors_are_found_in_data_directories() {
    let dir = tempfile::tempdir().unwrap();
    let pgdata = dir.path().join("m2");
    fine(&create(&pgdata, &["--name", "m2", "--replicas", THREE]));
    let show = ["show", "uri", "--formation", "monitor", "--pgdata"];
    let output = pgquorum(&[&show[..], &[pgdata.to_str().unwrap()]].concat());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "postgres://autoctl_node@127.0.0.1:6002,127.0.0.1:6001,127.0.0.1:6003/pg_auto_failover\n"
    );
    // A stock node's configuration lies elsewhere, below the configuration directory.
    let node = dir.path().join("node");
    let config = dir.path().join("config");
    let cfg = config.join("pg_autoctl").join(node.strip_prefix("/").unwrap());
    fs::create_dir_all(&cfg).unwrap();
    let text = "[pg_autoctl]\nrole = keeper\nmonitor = postgres://autoctl_node@h:7/pg_auto_failover\nformation = f\n";
    fs::write(cfg.join("pg_autoctl.cfg"), text).unwrap();
    let env = [("XDG_CONFIG_HOME", config.to_str().unwrap())];
    let args = [&show[..], &[node.to_str().unwrap()]].concat();
    let output = pgquorum_with(&args, &env);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "postgres://autoctl_node@h:7/pg_auto_failover\n");
    refused(pgquorum(&["show", "state", "--pgdata", node.to_str().unwrap()]), 12, &["no data directory of"]);
}

#[test]
fn the_reference_of_commands_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/commands.md");
    let output = pgquorum(&["help", "reference"]);
    fine(&output);
    let found = fs::read_to_string(&path).unwrap_or_default();
    let fresh = String::from_utf8_lossy(&output.stdout);
    assert!(found == fresh, "docs/reference/commands.md is stale: pgquorum help reference > docs/reference/commands.md");
}
