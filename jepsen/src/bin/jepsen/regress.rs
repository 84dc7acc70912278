//! Scripts, and mistakes that they must find.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Instant;

use jepsen::run::INTERRUPTED;
use jepsen::scripts::{self, Script, Trap};
use jepsen::{Context, Lab, Result, bail, ensure};

pub fn regress(names: &[String], ignore_notices: bool, out: &Path) -> Result<bool> {
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    for script in scripts::named(names)? {
        if INTERRUPTED.load(Ordering::Relaxed) {
            break;
        }
        println!("== {}: {}", script.name, script.summary);
        if let Some(why) = script.missing() {
            println!("{}: skipped: {why}", script.name);
            skipped.push(script.name);
            continue;
        }
        let outcome = Lab::new("script").and_then(|lab| script.run(&lab, &out.join(script.name), ignore_notices));
        match outcome {
            Ok(outcome) => {
                for report in &outcome.reports {
                    println!("{report}");
                }
                if !outcome.passed() {
                    failed.push(script.name);
                }
            }
            Err(error) => {
                println!("{error}");
                failed.push(script.name);
            }
        }
        println!("{}: {}", script.name, if failed.contains(&script.name) { "NOT passed" } else { "passed" });
    }
    println!("not passed: {failed:?}, skipped: {skipped:?}");
    // What was not tried was not survived.
    Ok(failed.is_empty() && skipped.is_empty())
}

/// How often a mistake is made before it counts as missed: a busy machine may fence a primary before it can
/// do wrong.
const TRIES: usize = 3;

/// A process of its own for each mistake: the environment decides about it. With `control`, each script must
/// pass without the mistake first.
pub fn mutants(names: &[String], binary: Option<PathBuf>, control: bool, out: &Path) -> Result<bool> {
    let mut traps: Vec<(Script, Trap)> =
        scripts::all().into_iter().filter_map(|script| Some((script, script.trap?))).collect();
    for name in names {
        ensure!(traps.iter().any(|(_, trap)| trap.mutant == name), "there is no mutant {name}");
    }
    traps.retain(|(_, trap)| names.is_empty() || names.iter().any(|name| name == trap.mutant));
    let binary = match binary {
        Some(binary) => binary,
        None => build(out)?,
    };
    let mut missed = Vec::new();
    for (script, trap) in traps {
        if INTERRUPTED.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        let (found, told) = match (trap.unit, script.missing()) {
            (Some((package, test)), _) => (unit(package, test)?, format!("by a unit test of {package}: {test}")),
            (None, Some(why)) => (false, format!("{} cannot run here: {why}", script.name)),
            (None, None) if control && !regress(&[script.name.to_owned()], false, &out.join("control"))? => {
                (false, format!("{} does not pass without it", script.name))
            }
            (None, None) => caught(&script, trap, &binary, &out.join(format!("mutant-{}", trap.mutant)))?,
        };
        let word = if found { "found" } else { "NOT FOUND" };
        println!("{:<20} {word} {told}, {} s", trap.mutant, begun.elapsed().as_secs());
        if !found {
            missed.push(trap.mutant);
        }
    }
    println!("not found: {missed:?}");
    Ok(missed.is_empty())
}

/// Whether a script finds a mistake, and who says so.
fn caught(script: &Script, trap: Trap, binary: &Path, to: &Path) -> Result<(bool, String)> {
    let mut told = String::new();
    for attempt in 1..=TRIES {
        let mut run = Command::new(std::env::current_exe()?);
        run.args(["regress", script.name, "--out"]).arg(to);
        match trap.mutant {
            "notice-ignored" => run.arg("--ignore-notices"),
            mutant => run.env("PGQUORUM_MUTANT", mutant).env("PGQUORUM_BIN", binary),
        };
        let done = run.output().context("run a script")?;
        told = format!(
            "by {}, attempt {attempt}, exit {:?}\n{}{}",
            script.name,
            done.status.code(),
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
        let logs = to.join(script.name).join("log");
        if trap.mutant != "notice-ignored" && !made(&logs, trap.mutant) {
            return Ok((false, format!("{told}no process made this mistake, see {}", logs.display())));
        }
        let verdict = std::fs::read_to_string(to.join(script.name).join("verdict.txt")).unwrap_or_default();
        let wrong: Vec<&str> = verdict.lines().filter_map(|line| line.strip_prefix("INVALID").map(str::trim_start)).collect();
        let found = |finder: &&&str| wrong.iter().any(|line| line.starts_with(**finder));
        let by: Vec<&str> = trap.finders.iter().filter(found).copied().collect();
        if !by.is_empty() {
            return Ok((true, format!("by {} ({}, attempt {attempt})", by.join(", "), script.name)));
        }
    }
    Ok((false, told))
}

/// Whether a unit test that makes its mistake itself has run and passed.
fn unit(package: &str, test: &str) -> Result<bool> {
    let mut run = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    run.args(["test", "--quiet", "-p", package, "--features", "mutants", "--lib", test]);
    let done = run.current_dir(env!("CARGO_MANIFEST_DIR")).output().context("cargo")?;
    Ok(done.status.success() && String::from_utf8_lossy(&done.stdout).contains("1 passed"))
}

/// Whether a process has said that it makes this mistake.
fn made(logs: &Path, mutant: &str) -> bool {
    let says = format!("MISTAKES ON PURPOSE: {mutant}");
    let entries = std::fs::read_dir(logs).into_iter().flatten().flatten();
    entries.map(|entry| std::fs::read(entry.path()).unwrap_or_default()).any(|log| String::from_utf8_lossy(&log).contains(&says))
}

/// Our binary with the mistakes in it, put aside; the usual one comes back to its place.
fn build(out: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(out)?;
    let kept = std::fs::canonicalize(out)?.join("pgquorum-mutants");
    let cargo = |more: &[&str]| -> Result<()> {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "-p", "pgquorum"]).args(more).current_dir(env!("CARGO_MANIFEST_DIR"));
        match build.status().context("cargo")?.success() {
            true => Ok(()),
            false => bail!("cargo build -p pgquorum {more:?} failed"),
        }
    };
    let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    cargo(&[profile, &["--features", "mutants"]].concat())?;
    let exe = std::env::current_exe()?;
    let built = exe.with_file_name("pgquorum");
    std::fs::copy(&built, &kept).context(format!("copy {}", built.display()))?;
    cargo(profile)?;
    Ok(kept)
}
