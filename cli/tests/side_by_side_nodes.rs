//! A stock keeper and ours, each with a PostgreSQL of its own under the same monitor: what their command
//! lines say about their own node is compared, and so are exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/machine.rs"]
mod machine;
mod support;

use std::path::Path;
use std::process::Output;

use machine::{BINDIR, Machine, has_postgres, port, text};
use serde_json::Value;

const STOCK: &str = "/usr/bin/pg_autoctl";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    /// The same text, but for what differs between two nodes.
    Text,
    /// Every key of pg_autoctl's document, with a value of the same type.
    Shape,
    /// Every `label:` or `key =` of pg_autoctl's, in its order.
    Labels,
    /// Both refuse, with the same exit code and nothing on stdout.
    Refusal,
}

use Compare::*;

const RUNNING: &[(Compare, &str)] = &[
    (Text, "config get pg_autoctl.name"),
    (Text, "config get pg_autoctl.name --json"),
    (Text, "config get postgresql.port --json"),
    (Text, "config get postgresql.host"),
    (Text, "config get postgresql.proxyport"),
    (Text, "config set replication.maximum_backup_rate 99M"),
    (Text, "config set timeout.network_partition_timeout 20 --json"),
    (Labels, "config get"),
    (Shape, "config get --json"),
    (Labels, "config check"),
    (Shape, "config check --json"),
    (Shape, "status --json"),
    (Text, "show file"),
    (Text, "show file --all"),
    (Text, "show file --contents"),
    (Text, "show file --config"),
    (Text, "show file --config --json"),
    (Text, "show file --state"),
    (Text, "show file --init"),
    (Text, "show file --pid"),
    (Shape, "show file --json"),
    (Labels, "show file --state --contents"),
    (Shape, "show file --state --contents --json"),
    (Labels, "show systemd"),
    (Shape, "show state --local --json"),
    (Text, "show standby-names"),
    (Text, "show standby-names --json"),
    (Text, "get node candidate-priority"),
    (Shape, "get node candidate-priority --json"),
    (Text, "get node replication-quorum"),
    (Text, "get formation number-sync-standbys"),
    (Shape, "version --json"),
    (Text, "do monitor get primary"),
    (Text, "do monitor get candidate-count"),
    (Shape, "do monitor get primary --json"),
    (Shape, "do monitor get candidate-count --json"),
    (Labels, "do pgsetup discover"),
    (Shape, "do fsm state"),
    (Text, "do show cidr"),
    (Text, "do show lookup localhost"),
    (Refusal, "config get nope.nope"),
    (Refusal, "config get nope"),
    (Refusal, "config set nope.nope 3"),
    (Refusal, "config set timeout.network_partition_timeout abc"),
    (Refusal, "config set replication.maximum_backup_rate"),
    (Refusal, "config set"),
    (Refusal, "show file --init --contents"),
    (Refusal, "run"),
];

const STOPPED: &[(Compare, &str)] = &[
    (Text, "config get pg_autoctl.name"),
    (Refusal, "config check"),
    (Refusal, "status"),
    (Refusal, "stop"),
    (Refusal, "do pgsetup ready"),
    (Refusal, "do service getpid postgres"),
    (Refusal, "do service getpid node-active"),
    (Labels, "show file --state --contents"),
    (Shape, "show state --local --json"),
];

/// Of what ours does not have: Citus, a process that listens, and pg_autoctl's semaphore.
const NOT_OURS: [&str; 8] = [
    "listen_notifications_timeout", "citus_master_update_node_lock_cooldown", "citus_coordinator_wait_max_retries",
    "citus_coordinator_wait_timeout", "citus", "[citus]", "semId", "services",
];

struct Side {
    pgdata: String,
    port: String,
    formation: &'static str,
    name: &'static str,
}

impl Side {
    /// A text without what is this node's own.
    fn common(&self, text: &str) -> String {
        let escaped = self.pgdata.replace('/', "\\/");
        let text = text.replace(&escaped, "PGDATA").replace(&self.pgdata, "PGDATA");
        let text = text.replace(&self.port, "PORT").replace(self.formation, "FORMATION");
        text.replace(self.name, "NAME").trim().to_string()
    }
}

/// What ours lacks of pg_autoctl's document.
fn lacking(stock: &Value, ours: &Value, path: &str) -> Vec<String> {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let Some(keys) = stock.as_object() else {
        return match kind(stock) == kind(ours) {
            true => Vec::new(),
            false => vec![format!("{path} is {}, not {}", kind(ours), kind(stock))],
        };
    };
    let known = keys.iter().filter(|(key, _)| !NOT_OURS.contains(&key.as_str()));
    known.flat_map(|(key, value)| lacking(value, &ours[key], &format!("{path}.{key}"))).collect()
}

/// The words before `:` or `=` of each line, and sections.
fn labels(text: &str) -> Vec<String> {
    let label = |line: &str| line.split(['=', ':']).next().unwrap_or_default().trim().to_string();
    let labels = text.lines().map(label).filter(|label| !label.is_empty() && !NOT_OURS.contains(&label.as_str()));
    // What follows a section that is not ours: its `role` is the first one's, too.
    labels.scan(Vec::new(), |seen: &mut Vec<String>, label| {
        seen.push(label.clone());
        Some((seen.iter().filter(|other| **other == label).count() == 1).then_some(label))
    })
    .flatten()
    .collect()
}

fn difference(compare: Compare, (stock, theirs): (&Side, &Output), (own, ours): (&Side, &Output)) -> Option<String> {
    let said = || {
        let err = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
        format!("\n{}{}--- and\n{}{}", text(theirs), err(theirs), text(ours), err(ours))
    };
    if theirs.status.code() != ours.status.code() {
        return Some(format!("exit codes: {:?} and {:?}{}", theirs.status.code(), ours.status.code(), said()));
    }
    let wrong = match compare {
        Text => {
            let (theirs, ours) = (stock.common(&text(theirs)), own.common(&text(ours)));
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            (squeezed(&theirs) != squeezed(&ours)).then(String::new)
        }
        Shape => match (serde_json::from_slice(&theirs.stdout), serde_json::from_slice(&ours.stdout)) {
            (Ok(theirs), Ok(ours)) => {
                let lacking = lacking(&theirs, &ours, "");
                (!lacking.is_empty()).then(|| lacking.join(", "))
            }
            _ => Some("no JSON".to_string()),
        },
        Labels => {
            let ours = labels(&text(ours));
            let mut rest = ours.iter();
            let missing: Vec<String> = labels(&text(theirs)).into_iter().filter(|label| !rest.any(|own| own == label)).collect();
            (!missing.is_empty()).then(|| format!("missing, or elsewhere: {}", missing.join(", ")))
        }
        Refusal => (ours.status.success() || !ours.stdout.is_empty() || ours.stderr.is_empty()).then(String::new),
    };
    wrong.map(|wrong| format!("{wrong}{}", said()))
}

#[test]
fn nodes_of_both_kinds_are_told_about_alike() {
    if !has_postgres() || !support::has("pg_autoctl 2.0", Path::new(STOCK).exists()) {
        return;
    }
    let mut machine = Machine::new("both");
    let uri = machine.monitor();
    let place = |name: &str| machine.root.join(name).to_str().unwrap().to_string();
    let stock = Side { pgdata: place("theirs"), port: port(), formation: "stocks", name: "north" };
    let ours = Side { pgdata: place("ours"), port: port(), formation: "owners", name: "south" };
    let own = machine.binary.clone();
    let pg_ctl = format!("{BINDIR}/pg_ctl");
    for (program, side, log) in [(Path::new(STOCK), &stock, "stock.log"), (&own, &ours, "ours.log")] {
        let formation = ["create", "formation", "--formation", side.formation, "--kind", "pgsql", "--monitor", &uri];
        assert!(machine.run(&formation).status.success());
        let mut create = vec!["create", "postgres", "--pgdata", &side.pgdata, "--pgport", &side.port, "--name", side.name];
        create.extend(["--hostname", "127.0.0.1", "--listen", "127.0.0.1", "--formation", side.formation, "--run"]);
        create.extend(["--monitor", &uri, "--auth", "trust", "--no-ssl", "--pgctl", &pg_ctl]);
        machine.spawn_program(log, program, &create);
        machine.eventually("the node is single", || {
            let state = machine.run(&["show", "state", "--monitor", &uri, "--formation", side.formation]);
            text(&state).contains("single |              single")
        });
    }

    let ask = |program: &Path, side: &Side, line: &str| {
        let words: Vec<&str> = line.split(' ').chain(["--pgdata", &side.pgdata]).collect();
        machine.program(program, &words).env("PG_AUTOCTL_DEBUG", "1").output().unwrap()
    };
    let compare = |cases: &[(Compare, &str)]| -> Vec<String> {
        let one = |(compare, line): &(Compare, &str)| {
            // These know no data directory.
            let about_us = line.starts_with("version") || line.starts_with("do show");
            let ask = |program: &Path, side: &Side| match about_us {
                true => machine.program(program, &line.split(' ').collect::<Vec<_>>()).env("PG_AUTOCTL_DEBUG", "1").output().unwrap(),
                false => ask(program, side, line),
            };
            let (theirs, own) = (ask(Path::new(STOCK), &stock), ask(&own, &ours));
            difference(*compare, (&stock, &theirs), (&ours, &own)).map(|wrong| format!("{line}: {wrong}"))
        };
        cases.iter().filter_map(one).collect()
    };
    let mut wrong = compare(RUNNING);
    for (program, side) in [(Path::new(STOCK), &stock), (&own, &ours)] {
        assert!(ask(program, side, "stop").status.success());
        machine.eventually("it has stopped", || ask(program, side, "status").status.code() == Some(3));
    }
    wrong.extend(compare(STOPPED));
    // Gone from the monitor, and with it the data directory and the state.
    let destroyed = |program: &Path, side: &Side| {
        let dropped = ask(program, side, "drop node --destroy");
        let config = machine.root.join(".config/pg_autoctl").join(side.pgdata.trim_start_matches('/'));
        let left = [Path::new(&side.pgdata).exists(), config.join("pg_autoctl.cfg").exists()];
        let state = text(&machine.run(&["show", "state", "--monitor", &uri, "--formation", side.formation]));
        (dropped.status.code(), left, state.contains(side.name))
    };
    let (theirs, ours) = (destroyed(Path::new(STOCK), &stock), destroyed(&own, &ours));
    if theirs != ours {
        wrong.push(format!("drop node --destroy: {theirs:?} and {ours:?}"));
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n\n{}", wrong.len(), RUNNING.len() + STOPPED.len(), wrong.join("\n\n"));
}
