//! Every command of the reference where it cannot succeed: a data directory that is missing, that holds
//! garbage, that nobody may read; monitors that are not there, or that never answer. It says why, with an
//! exit code of its kind, in time, and never by a panic.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/reference.rs"]
mod reference;
mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a command needs beside --pgdata or --monitor to be complete.
const MORE: &[(&str, &str)] = &[
    ("create formation", "--formation f"),
    ("drop formation", "--formation f"),
    ("drop node", "--name n"),
    ("config set", "pg_autoctl.name x"),
    ("enable ssl", "--no-ssl"),
    ("enable monitor", "postgres://m/x"),
    ("enable maintenance", "--name n"),
    ("disable maintenance", "--name n"),
    ("get node replication-quorum", "--name n"),
    ("get node candidate-priority", "--name n"),
    ("get node region", "--name n"),
    ("set node metadata", "--name n"),
    ("set node replication-quorum", "true --name n"),
    ("set node candidate-priority", "50 --name n"),
    ("set node region", "north --name n"),
    ("set formation number-sync-standbys", "1"),
    ("perform promotion", "--name n"),
    ("explain", "--event 1"),
    ("simulate", "--kill n"),
    ("watch", "--json"),
    ("show state", "--json"),
    ("inspect fsm assign", "single"),
    ("inspect fsm nodes set", "/nowhere"),
    ("inspect primary slot create", "s"),
    ("inspect primary slot drop", "s"),
    ("inspect service getpid", "postgres"),
];

/// They make what is not there.
const MAKING: &[&str] = &["create monitor", "create postgres"];

/// It finds the program without any data directory.
const NOT_ABOUT_A_NODE: &[&str] = &["inspect pgsetup pg_ctl"];

/// They print where files are, or would be, and look into none.
const NAMES_ONLY: &[&str] = &["show file", "show systemd"];

fn words(name: &str) -> Vec<String> {
    let more = MORE.iter().find(|(known, _)| *known == name).map_or("", |(_, more)| more);
    name.split(' ').chain(more.split_whitespace()).map(str::to_string).collect()
}

struct Case {
    what: String,
    words: Vec<String>,
    codes: &'static [i32],
}

/// As a user without rights: root is stopped by no file mode.
fn as_nobody(program: &Path, home: &Path, words: &[String]) -> Output {
    let mut command = match nix::unistd::geteuid().is_root() {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
            command
        }
        false => Command::new(program),
    };
    command.args(words).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).env("PGCONNECT_TIMEOUT", "2");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(25) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    child.wait_with_output().unwrap()
}

fn judge(case: &Case, output: &Output) -> Option<String> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let complain = |what: String| Some(format!("{}: {what}\n{out}{err}", case.what));
    match output.status.code() {
        Some(0) if NAMES_ONLY.iter().any(|name| case.what.ends_with(name)) => return None,
        None => return complain("it goes on and on".to_string()),
        Some(code) if !case.codes.contains(&code) => return complain(format!("exit code {code}, not {:?}", case.codes)),
        Some(_) => {}
    }
    if err.contains("panicked") || !(err.contains(" ERROR ") || err.contains("error:")) {
        return complain("no word about what failed".to_string());
    }
    (!out.is_empty() && !case.what.contains("show monitors") && !case.what.contains("watch")).then(|| format!("{}: output all the same\n{out}", case.what))
}

#[track_caller]
fn check(program: &Path, home: &Path, cases: &[Case]) {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    wrong.lock().unwrap().extend(judge(case, &as_nobody(program, home, &case.words)));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} went wrong:\n\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}

/// A place with a copy of the program that everybody may run.
fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (program, home) = (dir.path().join("pgquorum"), dir.path().join("home"));
    support::copy_program(&program);
    fs::create_dir(&home).unwrap();
    (dir, program, home)
}

#[test]
fn data_directories_that_are_missing_or_cannot_be_read() {
    let (dir, program, home) = place();
    let (node, monitor) = (dir.path().join("node"), dir.path().join("monitor"));
    let of_node = home.join(".config/pg_autoctl").join(node.strip_prefix("/").unwrap());
    fs::create_dir_all(&of_node).unwrap();
    fs::create_dir(&monitor).unwrap();
    let files = [of_node.join("pg_autoctl.cfg"), monitor.join("pgquorum.cfg")];
    fs::write(&files[0], "[pg_autoctl\nnonsense").unwrap();
    fs::write(&files[1], "nonsense = 1\n").unwrap();
    let cases = |condition: &str, pgdata: &Path, codes: &'static [i32]| -> Vec<Case> {
        let about = |name: &str| !MAKING.contains(&name) && !NOT_ABOUT_A_NODE.contains(&name);
        let all = reference::commands().into_iter().filter(|command| command.takes("--pgdata DIR") && about(&command.name));
        let case = |command: reference::Command| {
            let mut words = words(&command.name);
            words.extend(["--pgdata".to_string(), pgdata.display().to_string()]);
            Case { what: format!("{condition}: {}", command.name), words, codes }
        };
        all.map(case).collect()
    };
    let missing = cases("no such directory", &dir.path().join("nowhere"), &[1, 2, 3, 12]);
    assert!(missing.len() > 50);
    check(&program, &home, &missing);
    for mode in [0o644, 0o000] {
        for file in &files {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let condition = if mode == 0 { "no permission" } else { "garbage" };
        // What is about the other kind says so (1); what does not run is said to (3, 12).
        check(&program, &home, &cases(&format!("node, {condition}"), &node, &[1, 2, 3, 12]));
        check(&program, &home, &cases(&format!("monitor, {condition}"), &monitor, &[1, 2, 3, 12]));
    }
    assert!(!dir.path().join("nowhere").exists() && !node.exists(), "something was half done");
}

#[test]
fn monitors_that_are_not_there_or_never_answer() {
    let (_dir, program, home) = place();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("127.0.0.1:{}", silent.local_addr().unwrap().port());
    let mut cases = Vec::new();
    for (condition, hosts) in [("nobody", "127.0.0.1:1".to_string()), ("silent", silent)] {
        for command in reference::commands().into_iter().filter(|command| command.takes("--monitor URI")) {
            // It makes a data directory first, and watching goes on until somebody answers.
            if MAKING.contains(&command.name.as_str()) || command.name == "watch" {
                continue;
            }
            let mut words = words(&command.name);
            words.extend(["--monitor".to_string(), format!("postgres://autoctl_node@{hosts}/pg_auto_failover")]);
            cases.push(Case { what: format!("{condition}: {}", command.name), words, codes: &[6] });
        }
    }
    assert!(cases.len() > 50);
    check(&program, &home, &cases);
}
