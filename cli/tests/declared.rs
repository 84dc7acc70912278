//! A monitor and a node as files describe them: created, run, changed, waited for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/machine.rs"]
mod machine;
mod support;

use std::fs;

use machine::{Machine, has_postgres, port, text};

#[test]
fn a_monitor_and_a_node_from_files() {
    if !has_postgres() {
        return;
    }
    let mut machine = Machine::new("declared");
    let root = machine.root.to_str().unwrap().to_string();
    let (sql_port, pg_port) = (port(), port());
    let uri = format!("postgres://autoctl_node@127.0.0.1:{sql_port}/pg_auto_failover");
    let (monitor, node) = (format!("{root}/monitor.ini"), format!("{root}/node.ini"));
    let options = "[options]\nssl = off\nauth = trust\npg_hba_lan = false\n";
    let write = |file: &str, text: &str| {
        fs::write(file, text).unwrap();
        // As somebody else's editor leaves it, for the one who runs the node.
        fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    };
    let of_monitor = format!(
        "[node]\nkind = monitor\nname = m\nhostname = 127.0.0.1\nport = {sql_port}\n[postgresql]\npgdata = {root}/monitor\n\
         {options}[formation shop]\nsecondary = false\n"
    );
    write(&monitor, &of_monitor);
    let of_node = format!(
        "# node n\n[node]\nname = n\nhostname = 127.0.0.1\nport = {pg_port}\n[postgresql]\npgdata = {root}/node\n\
         pg_ctl = /usr/lib/postgresql/15/bin/pg_ctl\n[monitor]\npguri = {uri}\n[settings]\ncandidate_priority = 60\n\
         region = north\n{options}"
    );
    write(&node, &format!("{of_node}[launch]\nrun = deferred\n"));

    assert!(machine.run(&["node", "check", &monitor]).status.success());
    assert_eq!(machine.run(&["node", "apply", &node]).status.code(), Some(3), "nothing exists yet");
    machine.spawn("node.log", &["node", "run", &node]);
    // Created first and run then, and the formations as a step of their own.
    assert!(machine.run(&["node", "init", &monitor]).status.success());
    assert!(machine.run(&["node", "init", &monitor]).status.success(), "it may be repeated");
    machine.spawn("monitor.log", &["node", "run", &monitor]);
    let init = machine.run(&["node", "post-init", &monitor]);
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    assert!(text(&machine.run(&["show", "uri", "--monitor", &uri])).contains(" shop |"));
    assert!(!std::path::Path::new(&format!("{root}/node")).exists(), "the node waits for its start");

    assert!(machine.run(&["node", "start", &node]).status.success());
    assert!(machine.run(&["node", "start", &node]).status.success(), "it may be repeated");
    assert_eq!(fs::read_to_string(&node).unwrap(), format!("{of_node}[launch]\nrun = immediate\n"));
    let get = |machine: &Machine, what: &str| {
        text(&machine.run(&["get", "node", what, "--name", "n", "--monitor", &uri])).trim().to_string()
    };
    let both = |machine: &Machine| (get(machine, "candidate-priority"), get(machine, "region"));
    machine.eventually("the node is there", || {
        text(&machine.run(&["show", "state", "--monitor", &uri])).contains("single |              single")
    });
    assert_eq!(both(&machine), ("60".into(), "north".into()));

    // What changes in the file is taken up by the node that runs; what is broken is not.
    write(&node, &of_node.replace("= 60", "= many"));
    machine.eventually("the broken file is said to be", || {
        fs::read_to_string(format!("{root}/node.log")).unwrap().contains("candidate_priority = many: not a number")
    });
    write(&node, &of_node.replace("= 60", "= 80").replace("north", "south").replace("pg_hba_lan = false", "pg_hba_lan = true"));
    machine.eventually("the new settings are in force", || both(&machine) == ("80".into(), "south".into()));
    let log = fs::read_to_string(format!("{root}/node.log")).unwrap();
    assert!(log.contains("[options] takes effect when the node is started again"), "{log}");
    let shown = text(&machine.run(&["node", "show", "--pgdata", &format!("{root}/node")]));
    for line in ["kind = postgres", "candidate_priority = 80", "region = south", &format!("pguri = {uri}"), "ssl = off"] {
        assert!(shown.lines().any(|other| other == line), "no {line:?} in\n{shown}");
    }
    // What it prints is a file, and one that has nothing to change.
    let copy = format!("{root}/copy.ini");
    write(&copy, &shown);
    assert_eq!(text(&machine.run(&["node", "apply", &copy, "--json"])).trim(), "[]");

    // Started again, with another port and another priority in the file than the one it had.
    assert!(machine.run(&["stop", "--pgdata", &format!("{root}/node")]).status.success());
    let new_port = port();
    write(&node, &of_node.replace(&pg_port, &new_port).replace("= 60", "= 70"));
    machine.spawn("node-again.log", &["node", "run", &node]);
    machine.eventually("it runs at the new port", || {
        let state = text(&machine.run(&["show", "state", "--monitor", &uri]));
        state.contains(&format!(":{new_port}")) && state.contains("single |              single")
    });
    machine.eventually("the priority is that of the file", || get(&machine, "candidate-priority") == "70");
}
