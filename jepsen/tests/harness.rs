//! The harness itself: a lab leaves nothing behind, however its test ends.

use std::path::PathBuf;
use std::time::Duration;

use jepsen::command;
use jepsen::process::{Process, living_in, tree};
use jepsen::requirements::{account, met};
use jepsen::wait::wait_until;
use jepsen::{Lab, Result, ensure};

const SOON: Duration = Duration::from_secs(30);

fn lab(test: &str) -> Option<Lab> {
    met(test, account().map(drop)).then(|| Lab::new(test).ok())?
}

/// Starts a shell with a child in its group and one that left group and session.
fn start_some(lab: &Lab) -> Result<Vec<i32>> {
    let mut command = lab.command("sh");
    command.args(["-c", "sleep 1000 & setsid sleep 1001 & sleep 1002"]);
    let shell = Process::spawn("some", command, &lab.log("some"))?;
    wait_until("the children", SOON, || {
        let pids = tree(&[shell.pid()]);
        Ok((pids.len() == 4).then_some(pids))
    })
}

fn alive(pids: &[i32]) -> Vec<i32> {
    pids.iter().copied().filter(|pid| jepsen::process::stat(*pid).is_some_and(|s| s.state != 'Z')).collect()
}

#[test]
fn a_lab_ends_its_processes_and_removes_its_directory() -> Result<()> {
    let Some(lab) = lab("drop") else {
        return Ok(());
    };
    let dir = lab.path("");
    let pids = start_some(&lab)?;
    drop(lab);
    ensure!(alive(&pids).is_empty(), "alive: {:?}", alive(&pids));
    ensure!(!dir.exists(), "{} is still there", dir.display());
    Ok(())
}

#[test]
fn after_a_panic_the_logs_stay_and_the_processes_do_not() -> Result<()> {
    if lab("panic").is_none() {
        return Ok(());
    }
    let (mut pids, mut dir) = (Vec::new(), PathBuf::new());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Lab::run("panic", |lab| {
            dir = lab.path("");
            pids = start_some(lab)?;
            jepsen::bail!("on purpose")
        });
    }));
    ensure!(outcome.is_err(), "a failed test passed");
    ensure!(pids.len() == 4 && alive(&pids).is_empty(), "alive: {:?}", alive(&pids));
    ensure!(dir.join("log/some.log").exists(), "the log is gone");
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

#[test]
fn two_labs_share_no_port() -> Result<()> {
    let (Some(one), Some(two)) = (lab("ports"), lab("ports")) else {
        return Ok(());
    };
    let ports = |lab: &Lab| (0..10).map(|_| lab.port()).collect::<Result<Vec<u16>>>();
    let (one, two) = (ports(&one)?, ports(&two)?);
    ensure!(!one.iter().any(|p| two.contains(p)), "{one:?} and {two:?}");
    Ok(())
}

#[test]
fn a_command_that_hangs_is_killed_with_its_children() -> Result<()> {
    let Some(lab) = lab("deadline") else {
        return Ok(());
    };
    let mut command = lab.command("sh");
    command.args(["-c", "echo begun; sleep 1000 & sleep 1001"]);
    let error =
        command::run(command, Duration::from_millis(500)).err().map(|e| e.to_string()).unwrap_or_default();
    ensure!(error.contains("in vain") && error.contains("begun"), "{error}");
    wait_until("the end of the children", SOON, || {
        Ok(living_in(&lab.path(""), "none").is_empty().then_some(()))
    })
}
