//! Nodes without monitors: a primary and a standby that an operator leads by `inspect fsm` alone, and a node
//! that is given monitors and taken away from them again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/machine.rs"]
mod machine;

use std::process::{Command, Output};
use std::time::Duration;

use machine::{BINDIR, Machine, has_postgres, port, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

struct Node {
    pgdata: String,
    port: String,
    id: i64,
}

impl Node {
    fn create(machine: &Machine, id: i64) -> Node {
        let pgdata = machine.root.join(format!("n{id}")).to_str().unwrap().to_string();
        let node = Node { pgdata, port: port(), id };
        let mut args = vec!["create", "postgres", "--pgdata", &node.pgdata, "--pgport", &node.port, "--username", "app"];
        args.extend(["--hostname", "127.0.0.1", "--listen", "127.0.0.1", "--pgctl", "/usr/lib/postgresql/15/bin/pg_ctl"]);
        args.extend(["--no-ssl", "--disable-monitor"]);
        assert_eq!(machine.run(&args).status.code(), Some(1), "a node without monitors needs a number");
        let number = id.to_string();
        args.extend(["--node-id", &number]);
        succeeds(machine.run(&args));
        node
    }

    fn start(&self, machine: &mut Machine) {
        machine.spawn(&format!("n{}.log", self.id), &["run", "--pgdata", &self.pgdata]);
        machine.eventually("the keeper runs", || self.keeper(machine).is_some());
    }

    fn keeper(&self, machine: &Machine) -> Option<i32> {
        let status = text(&machine.run(&["status", "--pgdata", &self.pgdata, "--json"]));
        let status: serde_json::Value = serde_json::from_str(&status).ok()?;
        status["pg_autoctl"]["pid"].as_i64().map(|pid| pid as i32)
    }

    fn fsm(&self, machine: &Machine, args: &[&str]) -> Output {
        machine.run(&[&["do", "fsm"], args, &["--pgdata", &self.pgdata]].concat())
    }

    #[track_caller]
    fn assign(&self, machine: &Machine, goals: &[&str]) {
        for goal in goals {
            let output = self.fsm(machine, &["assign", goal]);
            if !output.status.success() {
                let log = std::fs::read_to_string(machine.root.join(format!("n{}.log", self.id))).unwrap_or_default();
                panic!("{goal}: {}\n{log}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }

    fn sql(&self, statement: &str) -> Output {
        Command::new(format!("{BINDIR}/psql"))
            .args(["-h", "127.0.0.1", "-p", &self.port, "-U", "app", "-d", "postgres", "-Atqc", statement])
            .output()
            .unwrap()
    }

    #[track_caller]
    fn value(&self, statement: &str) -> String {
        text(&succeeds(self.sql(statement))).trim().to_string()
    }
}

#[track_caller]
fn succeeds(output: Output) -> Output {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Tells both nodes of each other, and which of them is the primary.
fn introduce(machine: &Machine, nodes: [&Node; 2], primary: i64) {
    let rows: Vec<_> = nodes
        .iter()
        .map(|node| {
            json!({"node_id": node.id, "node_host": "127.0.0.1", "node_port": node.port.parse::<u16>().unwrap(),
                   "node_is_primary": node.id == primary})
        })
        .collect();
    let file = machine.root.join("group.json");
    std::fs::write(&file, serde_json::to_string(&rows).unwrap()).unwrap();
    for node in nodes {
        succeeds(node.fsm(machine, &["nodes", "set", file.to_str().unwrap()]));
        assert!(text(&node.fsm(machine, &["nodes", "get"])).contains(&node.port));
    }
}

#[test]
fn an_operator_leads_a_primary_and_a_standby() {
    if !has_postgres() {
        return;
    }
    let mut machine = Machine::new("alone");
    let one = Node::create(&machine, 1);
    one.start(&mut machine);
    assert_eq!(one.fsm(&machine, &["assign", "leader"]).status.code(), Some(1), "no such state");
    assert_eq!(one.fsm(&machine, &["assign", "secondary"]).status.code(), Some(3), "no way there");
    one.assign(&machine, &["single"]);
    one.value("create table t (id int)");

    // Without a keeper that runs, the command itself takes the steps.
    let two = Node::create(&machine, 2);
    introduce(&machine, [&one, &two], 1);
    one.assign(&machine, &["wait_primary"]);
    two.assign(&machine, &["wait_standby", "catchingup"]);
    assert_eq!(two.value("select pg_is_in_recovery()"), "t", "PostgreSQL runs on when the command has ended");
    two.start(&mut machine);
    two.assign(&machine, &["secondary"]);
    one.assign(&machine, &["primary"]);
    assert_eq!(one.value("show synchronous_standby_names"), "ANY 1 (pgautofailover_standby_2)");
    one.value("insert into t values (1)");
    machine.eventually("the row is on the standby", || text(&two.sql("select count(*) from t")).trim() == "1");

    // Nothing but the operator's goal stops this primary: not the end of its keeper either.
    succeeds(machine.run(&["config", "set", "timeout.guardian_timeout", "2", "--pgdata", &one.pgdata]));
    succeeds(machine.run(&["reload", "--pgdata", &one.pgdata]));
    std::thread::sleep(Duration::from_secs(1));
    kill(Pid::from_raw(one.keeper(&machine).unwrap()), Signal::SIGKILL).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    one.value("insert into t values (2)");
    one.start(&mut machine);

    // Promoted by hand; the old primary follows without a copy.
    one.assign(&machine, &["demoted"]);
    assert!(!one.sql("select 1").status.success(), "it was told to stop");
    two.assign(&machine, &["prepare_promotion", "stop_replication", "wait_primary"]);
    introduce(&machine, [&one, &two], 2);
    one.assign(&machine, &["catchingup", "secondary"]);
    two.assign(&machine, &["primary"]);
    two.value("insert into t values (3)");
    assert_eq!(two.value("select array_agg(id order by id) from t"), "{1,2,3}");
    machine.eventually("the row is on the former primary", || text(&one.sql("select count(*) from t")).trim() == "3");

    let dropped = machine.run(&["drop", "node", "--pgdata", &one.pgdata, "--destroy"]);
    succeeds(dropped);
    assert!(!std::path::Path::new(&one.pgdata).exists());
}

#[test]
fn a_node_is_given_monitors_and_taken_away_again() {
    if !has_postgres() {
        return;
    }
    let mut machine = Machine::new("given");
    let uri = machine.monitor();
    let state = |machine: &Machine| text(&machine.run(&["show", "state", "--monitor", &uri]));

    let node = Node::create(&machine, 7);
    node.assign(&machine, &["single"]);
    node.value("create table t (id int)");
    succeeds(machine.run(&["enable", "monitor", &uri, "--pgdata", &node.pgdata]));
    node.start(&mut machine);
    machine.eventually("the monitors know it as single", || state(&machine).contains("single |              single"));
    assert_eq!(node.fsm(&machine, &["assign", "demoted"]).status.code(), Some(3), "its monitors give the goals");

    let refused = machine.run(&["disable", "monitor", "--pgdata", &node.pgdata]);
    assert_eq!(refused.status.code(), Some(6), "{}", String::from_utf8_lossy(&refused.stderr));
    succeeds(machine.run(&["disable", "monitor", "--force", "--pgdata", &node.pgdata]));
    assert!(!state(&machine).contains("127.0.0.1"), "{}", state(&machine));
    std::thread::sleep(Duration::from_secs(3));
    node.value("insert into t values (1)");
    node.assign(&machine, &["wait_primary", "single"]);
    succeeds(machine.run(&["drop", "node", "--pgdata", &node.pgdata, "--destroy"]));
}
