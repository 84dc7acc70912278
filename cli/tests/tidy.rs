//! What prose cannot guard: the layout of the repository and the directions of its dependencies.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every file that belongs to the repository: tracked, or new and not ignored.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let mut found: Vec<String> = match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_string).collect()
        }
        // An unpacked archive has no git.
        _ => {
            let mut found = Vec::new();
            walk(&root(), "", &mut found);
            found
        }
    };
    found.retain(|file| root().join(file).is_file());
    found.sort();
    found
}

fn walk(dir: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "target" || name == ".git" {
            continue;
        }
        let path = format!("{prefix}{name}");
        match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path(), &format!("{path}/"), found),
            false => found.push(path),
        }
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_default()
}

fn fail_with(what: &str, wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{what}:\n  {}", wrong.join("\n  "));
}

#[test]
fn only_the_agreed_entries_at_the_top() {
    let allowed = [
        ".ci", ".gitignore", ".github", "CHANGELOG.md", "Cargo.lock", "Cargo.toml", "LICENSE", "Makefile", "README.md",
        "cli", "deploy", "docs", "jepsen", "keeper", "monitor", "raft-store",
    ];
    let present: BTreeSet<String> =
        files().iter().map(|file| file.split('/').next().unwrap().to_string()).collect();
    let wrong = present.into_iter().filter(|entry| !allowed.contains(&entry.as_str())).collect();
    fail_with("not agreed at the top of the repository", wrong);
}

/// The crates of ours that a manifest names in a section and its kin.
fn our_dependencies(manifest: &str, development: bool) -> BTreeSet<String> {
    let ours = ["raft-store", "failover", "monitor-client", "monitor", "keeper", "pgquorum", "jepsen"];
    let mut found = BTreeSet::new();
    let mut counts = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            counts = match development {
                true => section == "dev-dependencies",
                false => matches!(section, "dependencies" | "build-dependencies"),
            };
        } else if counts {
            let name = line.split(['.', '=', ' ']).next().unwrap_or("");
            if ours.contains(&name) {
                found.insert(name.to_string());
            }
        }
    }
    found
}

#[test]
fn dependencies_point_one_way() {
    let allowed: [(&str, &[&str]); 9] = [
        ("monitor/failover", &[]),
        ("raft-store", &[]),
        ("raft-store/fuzz", &["raft-store"]),
        ("monitor/fuzz", &["monitor", "monitor-client"]),
        ("monitor/client", &["failover"]),
        ("monitor", &["failover", "raft-store"]),
        ("keeper", &["failover", "monitor-client"]),
        ("cli", &["failover", "monitor-client", "monitor", "keeper"]),
        ("jepsen", &["failover", "raft-store", "monitor-client", "monitor", "keeper", "pgquorum"]),
    ];
    let mut wrong = Vec::new();
    let manifests: Vec<String> =
        files().into_iter().filter(|file| file.ends_with("/Cargo.toml")).collect();
    assert!(!manifests.is_empty());
    for manifest in manifests {
        let member = manifest.trim_end_matches("/Cargo.toml");
        let Some((_, may)) = allowed.iter().find(|(name, _)| *name == member) else {
            wrong.push(format!("{manifest}: a crate that the table of directions does not know"));
            continue;
        };
        for development in [false, true] {
            for dependency in our_dependencies(&read(&manifest), development) {
                if !may.contains(&dependency.as_str()) {
                    wrong.push(format!("{manifest}: must not depend on {dependency}"));
                }
            }
        }
    }
    fail_with("dependencies in a forbidden direction", wrong);
}

#[test]
fn the_rules_stay_pure() {
    let mut wrong = Vec::new();
    let lib = read("monitor/failover/src/lib.rs");
    if !lib.contains("#![no_std]") {
        wrong.push("monitor/failover/src/lib.rs: #![no_std] is missing".to_string());
    }
    for file in files().into_iter().filter(|file| file.starts_with("monitor/failover/src/") && file.ends_with(".rs")) {
        for (at, line) in read(&file).lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            for word in ["HashMap", "HashSet", "extern crate std", "std::", "SystemTime", "Instant", "async fn"] {
                if code.contains(word) {
                    wrong.push(format!("{file}:{}: {word}", at + 1));
                }
            }
        }
    }
    fail_with("monitor/failover is pure: no std, no hash order, no clock", wrong);
}

#[test]
fn files_keep_a_readable_size() {
    /// Lines of a source file at most. The rule tables grow by a line with every rule.
    const ALARM: usize = 600;
    let tables = ["monitor/failover/src/rules.rs", "monitor/failover/src/edges.rs", "keeper/src/transitions.rs"];
    let wrong = files()
        .into_iter()
        .filter(|file| file.ends_with(".rs") || file.ends_with(".sh"))
        .filter(|file| !tables.contains(&file.as_str()) && !file.contains("/generated/"))
        .filter_map(|file| {
            let lines = read(&file).lines().count();
            (lines > ALARM).then(|| format!("{file}: {lines} lines"))
        })
        .collect();
    fail_with("files above 600 lines", wrong);
}

#[test]
fn nothing_of_a_developer_machine() {
    let mut wrong = Vec::new();
    // Put together here so that this file does not find itself.
    let paths = [["/home", "/"].concat(), ["/Users", "/"].concat(), ["/work", "/"].concat(), ["/root", "/"].concat()];
    for file in files() {
        for (at, line) in read(&file).lines().enumerate() {
            for path in &paths {
                let mut from = 0;
                while let Some(found) = line[from..].find(path.as_str()) {
                    let start = from + found;
                    from = start + path.len();
                    // `a/home/b` and `$HOME/work/` are other things.
                    let before = line[..start].chars().next_back();
                    let inside = before.is_some_and(|c| c.is_alphanumeric() || "}._-~*".contains(c));
                    if !inside {
                        wrong.push(format!("{file}:{}: {}", at + 1, line.trim()));
                    }
                }
            }
        }
    }
    fail_with("paths of a developer's machine", wrong);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for file in files().into_iter().filter(|file| file.ends_with(".md")) {
        let here = root().join(&file).parent().unwrap().to_path_buf();
        let text = read(&file);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or("");
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !here.join(target).exists() {
                wrong.push(format!("{file}: {link}"));
            }
        }
    }
    fail_with("links that lead nowhere", wrong);
}

#[test]
fn scripts_are_plain_posix_and_executable() {
    use std::os::unix::fs::PermissionsExt;
    let mut wrong = Vec::new();
    let scripts = files().into_iter().filter(|file| file.ends_with(".sh") || file == ".ci/run");
    for file in scripts {
        if fs::metadata(root().join(&file)).unwrap().permissions().mode() & 0o111 == 0 {
            wrong.push(format!("{file}: not executable"));
        }
        let text = read(&file);
        if text.starts_with("#!/bin/sh") {
            let checked = Command::new("sh").arg("-n").arg(root().join(&file)).output().unwrap();
            if !checked.status.success() {
                wrong.push(format!("{file}: {}", String::from_utf8_lossy(&checked.stderr)));
            }
        } else {
            wrong.push(format!("{file}: does not begin with #!/bin/sh"));
        }
    }
    fail_with("scripts", wrong);
}
