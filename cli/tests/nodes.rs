//! A PostgreSQL node from our own command line under our own monitor: made, looked at, changed, dropped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/machine.rs"]
mod machine;
mod support;

use std::path::Path;
use std::process::Command;

use machine::{BINDIR, Machine, has_postgres, port, text};

#[test]
fn a_node_from_creation_to_removal() {
    if !has_postgres() {
        return;
    }
    let mut machine = Machine::new("nodes");
    let uri = machine.monitor();
    let (node, pg_port) = (machine.root.join("node").to_str().unwrap().to_string(), port());

    let mut create = vec!["create", "postgres", "--pgdata", &node, "--pgport", &pg_port, "--hostname", "127.0.0.1"];
    create.extend(["--listen", "127.0.0.1", "--name", "n", "--monitor", &uri, "--pgctl", "/usr/lib/postgresql/15/bin/pg_ctl"]);
    assert_eq!(machine.run(&create).status.code(), Some(1), "a choice about TLS is required");
    // A role that initdb does not make.
    create.extend(["--username", "app", "--dbname", "shop", "--no-ssl", "--run"]);
    machine.spawn("node.log", &create);
    machine.eventually("the node is single", || {
        text(&machine.run(&["show", "state", "--monitor", &uri])).contains("single |              single")
    });

    let psql = Command::new(format!("{BINDIR}/psql"))
        .args(["-h", "127.0.0.1", "-p", &pg_port, "-U", "app", "-d", "shop", "-Atc", "select current_user, current_database()"])
        .output();
    assert_eq!(text(&psql.unwrap()).trim(), "app|shop");

    let status = machine.run(&["status", "--pgdata", &node, "--json"]);
    assert!(status.status.success() && text(&status).contains("\"name\": \"guardian\""), "{}", text(&status));
    let local = text(&machine.run(&["show", "state", "--local", "--pgdata", &node]));
    assert!(local.contains("read-write") && local.contains("single"), "{local}");
    let file = text(&machine.run(&["show", "file", "--state", "--contents", "--pgdata", &node]));
    assert!(file.contains("Current Role:             single"), "{file}");
    let set = ["config", "set", "timeout.guardian_timeout", "7", "--pgdata", &node];
    assert_eq!(text(&machine.run(&set)).trim(), "7");
    assert!(machine.run(&["reload", "--pgdata", &node]).status.success());
    assert_eq!(machine.run(&["config", "set", "postgresql.port", "1", "--pgdata", &node]).status.code(), Some(2));
    assert!(machine.run(&["config", "check", "--pgdata", &node]).status.success());

    assert!(machine.run(&["stop", "--pgdata", &node]).status.success());
    assert_eq!(machine.run(&["status", "--pgdata", &node]).status.code(), Some(3));
    assert_eq!(machine.running.pop().unwrap().wait().unwrap().code(), Some(0));
    machine.spawn("node.log", &["run", "--pgdata", &node]);
    machine.eventually("it runs again", || machine.run(&["status", "--pgdata", &node]).status.success());

    let dropped = machine.run(&["drop", "node", "--pgdata", &node, "--destroy"]);
    assert!(dropped.status.success(), "{}", String::from_utf8_lossy(&dropped.stderr));
    assert_eq!(machine.running.pop().unwrap().wait().unwrap().code(), Some(121));
    assert!(!Path::new(&node).exists());
    assert!(!text(&machine.run(&["show", "state", "--monitor", &uri])).contains("127.0.0.1"));
}
