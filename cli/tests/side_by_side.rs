//! Stock pg_autoctl 2.0 and ours ask the same monitors the same: what they print is compared cell by
//! cell, JSON value by value, and so are exit codes.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/cluster.rs"]
mod cluster;
mod support;

use std::process::{Command, Output, Stdio};

use cluster::{Monitors, eventually, state_of, text, three_nodes};
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    /// A table: titles and cells, without the blanks around them. Separators differ in length only.
    Table,
    Json,
    /// The same text.
    Text,
    /// Both refuse, with the same exit code and nothing on stdout.
    Refusal,
}

use Compare::*;

const CASES: &[(Compare, &str)] = &[
    (Table, "show state"),
    (Table, "show state --group 0"),
    (Table, "show state --formation nope"),
    (Table, "show state --group 7"),
    (Json, "show state --json"),
    (Json, "show state --formation nope --json"),
    (Table, "show events"),
    (Table, "show events --count 3"),
    (Table, "show events --group 0 --count 5"),
    (Table, "show events --formation nope"),
    (Json, "show events --json"),
    (Json, "show events --count 2 --json"),
    (Table, "show settings"),
    (Json, "show settings --json"),
    (Table, "get formation settings"),
    (Json, "get formation settings --json"),
    (Text, "show standby-names"),
    (Json, "show standby-names --json"),
    (Text, "show standby-names --group 0"),
    (Table, "show uri"),
    (Json, "show uri --json"),
    (Text, "show uri --formation default"),
    (Text, "show uri --formation monitor"),
    (Text, "get node candidate-priority --name node2"),
    (Json, "get node candidate-priority --name node2 --json"),
    (Text, "get node replication-quorum --name node3"),
    (Json, "get node replication-quorum --name node3 --json"),
    (Text, "get formation number-sync-standbys"),
    (Json, "get formation number-sync-standbys --json"),
    (Text, "set node candidate-priority 50 --name node2"),
    (Json, "set node candidate-priority 50 --name node2 --json"),
    (Text, "set node replication-quorum true --name node3"),
    (Text, "set formation number-sync-standbys 1"),
    (Json, "set formation number-sync-standbys 1 --json"),
    (Refusal, "show settings --formation nope"),
    (Refusal, "show standby-names --formation nope"),
    (Refusal, "show standby-names --group 7"),
    (Refusal, "show uri --formation nope"),
    (Refusal, "get formation number-sync-standbys --formation nope"),
    (Refusal, "get node candidate-priority --name nope"),
    (Refusal, "set node candidate-priority 101 --name node1"),
    (Refusal, "set node candidate-priority 50 --name nope"),
    (Refusal, "set node replication-quorum maybe --name node1"),
    (Refusal, "set formation number-sync-standbys 9"),
    (Refusal, "perform failover --formation nope"),
    (Refusal, "perform failover --group 7"),
    (Refusal, "perform switchover --formation nope"),
    (Refusal, "drop node --name nope"),
    (Refusal, "drop formation --formation nope"),
    (Refusal, "drop formation --formation default"),
];

/// Without a monitor: data directories that nobody made.
const LOCAL: &[&str] = &[
    "show state", "show events", "show uri", "show settings", "show state --local", "run", "status", "stop", "reload",
    "config get", "config check", "drop node", "drop monitor", "enable maintenance", "disable maintenance",
    "enable ssl --no-ssl", "set node metadata --name x", "disable monitor", "perform switchover", "perform failover",
    "get node candidate-priority", "show systemd", "show standby-names", "get formation settings",
    "set node candidate-priority 5", "set formation number-sync-standbys 1", "perform promotion",
    "create formation --formation f --kind pgsql", "drop formation --formation f", "disable secondary --formation f",
];

fn run(program: &str, words: &[&str], home: &std::path::Path) -> Output {
    let mut command = Command::new(program);
    command.args(words).env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
    command.stdin(Stdio::null()).output().unwrap()
}

fn cells(table: &str) -> Vec<Vec<String>> {
    let rule = |line: &&str| !line.is_empty() && !line.chars().all(|c| matches!(c, '-' | '+'));
    table.lines().filter(rule).map(|line| line.split('|').map(|cell| cell.trim().to_string()).collect()).collect()
}

/// What differs; nothing: they agree.
fn difference(compare: Compare, stock: &Output, ours: &Output) -> Option<String> {
    let (theirs, own) = (text(&stock.stdout), text(&ours.stdout));
    if stock.status.code() != ours.status.code() {
        return Some(format!(
            "exit codes: {:?} and {:?}\n{}{}",
            stock.status.code(),
            ours.status.code(),
            text(&stock.stderr),
            text(&ours.stderr)
        ));
    }
    let same = match compare {
        Table => cells(&theirs) == cells(&own) && !own.is_empty(),
        Json => {
            let parse = |text: &str| serde_json::from_str::<Value>(text);
            matches!((parse(&theirs), parse(&own)), (Ok(theirs), Ok(own)) if theirs == own)
        }
        Text => theirs.trim() == own.trim() && !own.is_empty(),
        Refusal => ours.status.code() != Some(0) && own.is_empty() && !ours.stderr.is_empty(),
    };
    (!same).then(|| format!("they print\n{theirs}\nand\n{own}{}", text(&ours.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_pg_autoctl_and_ours_say_the_same() {
    if !support::has("pg_autoctl 2.0", std::path::Path::new("/usr/bin/pg_autoctl").exists()) {
        return;
    }
    let monitors = Monitors::start();
    let _nodes = three_nodes(&monitors).await;
    eventually("all healthy", || {
        let rows: Vec<Value> = serde_json::from_str(&monitors.ask(&["show", "state", "--json"])).unwrap();
        rows.iter().all(|row| row["health"] == 1)
    });
    let own = env!("CARGO_BIN_EXE_pgquorum");
    let home = monitors.dir.path();
    let mut wrong = Vec::new();
    for (compare, line) in CASES {
        let words: Vec<&str> = line.split(' ').chain(["--monitor", &monitors.uri]).collect();
        // Events go on while nobody asks: then both are asked again.
        let ask = |program: &str| {
            // A primary that is busy with a setting takes no other one.
            if line.starts_with("set ") {
                eventually("node1 is idle", || state_of(&monitors, "node1").as_deref() == Some("primary"));
            }
            run(program, &words, home)
        };
        let differs = (0..3).map(|_| difference(*compare, &ask("pg_autoctl"), &ask(own)));
        let differs: Vec<String> = differs.map_while(|difference| difference).collect();
        if differs.len() == 3 {
            wrong.push(format!("{line}: {}", differs[2]));
        }
    }
    let nowhere = home.join("nowhere");
    for line in LOCAL {
        let words: Vec<&str> = line.split(' ').chain(["--pgdata", nowhere.to_str().unwrap()]).collect();
        wrong.extend(
            difference(Refusal, &run("pg_autoctl", &words, home), &run(own, &words, home)).map(|d| format!("{line}: {d}")),
        );
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n\n{}", wrong.len(), CASES.len() + LOCAL.len(), wrong.join("\n\n"));
}
