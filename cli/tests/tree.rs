//! The command tree of pg_autoctl 2.0 as its own help lists it: each command is one of ours or says why it
//! is none, and each option of a public one is taken.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

const STOCK: &str = "/usr/bin/pg_autoctl";

fn run(program: &str, words: &[&str]) -> Output {
    let home = std::env::temp_dir();
    let mut command = Command::new(program);
    command.args(words).env_clear().env("HOME", &home).env("PATH", "/usr/bin:/bin").env("PG_AUTOCTL_DEBUG", "1");
    command.stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Commands without others below them. Blocks begin with the path and go on with names, those that have
/// a block of their own marked by `+`.
fn leaves(help: &str) -> Vec<String> {
    let (mut path, mut found) = (String::new(), Vec::new());
    for line in help.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["pg_autoctl", rest @ ..] if line.starts_with("  pg_autoctl") => path = rest.join(" "),
            [name, ..] if line.starts_with("    ") => found.push(format!("{path} {name}").trim().to_string()),
            _ => {}
        }
    }
    found
}

fn options(help: &str) -> BTreeSet<String> {
    let words = help.split(|c: char| c.is_whitespace() || "[]()|,=".contains(c));
    let named = words.filter(|word| word.starts_with("--") && word.len() > 3);
    named.map(str::to_string).filter(|option| option != "--help" && option != "--version").collect()
}

#[test]
fn every_command_and_option_of_pg_autoctl_is_known() {
    if !support::has("pg_autoctl 2.0", std::path::Path::new(STOCK).exists()) {
        return;
    }
    let own = env!("CARGO_BIN_EXE_pgquorum");
    let leaves = leaves(&said(&run(STOCK, &["help"])));
    assert!(leaves.len() > 100, "{leaves:?}");
    let mut unknown = Vec::new();
    for leaf in &leaves {
        let words: Vec<&str> = leaf.split(' ').collect();
        let answer = run(own, &[&words[..], &["--help"]].concat());
        let text = said(&answer);
        if text.contains("unrecognized subcommand") || text.contains("there is no command") {
            unknown.push(leaf.clone());
            continue;
        }
        // What answers with a reason takes whatever follows; internals find their node by --pgdata.
        if !answer.status.success() || words[0] == "do" {
            continue;
        }
        for option in options(&said(&run(STOCK, &[&words[..], &["--help"]].concat()))) {
            let named = format!("{leaf} {option}");
            // No data directory and no monitor: nothing is done.
            let text = said(&run(own, &[&words[..], &[&option]].concat()));
            if text.contains("unexpected argument") {
                unknown.push(named);
            }
        }
    }
    assert!(unknown.is_empty(), "not known: {unknown:#?}");
}
