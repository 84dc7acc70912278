//! Two minutes of kills, pauses and partitions under all clients, judged by all checkers.

use std::path::PathBuf;
use std::time::Duration;

use jepsen::faults::schedule::{self, Pace, SMOKE};
use jepsen::run::{self, Plan, STALE, Workloads};
use jepsen::system::{Tempo, Which};
use jepsen::{Lab, Result, ensure, requirements};

#[test]
fn a_cluster_keeps_its_promises_under_kills_pauses_and_partitions() {
    let name = "smoke";
    if requirements::met_with_network(name, Which::Pgquorum.requirements()) {
        Lab::run(name, smoke);
    }
}

fn smoke(lab: &Lab) -> Result<()> {
    let length = Duration::from_secs(95);
    let pace = Pace { gap: (6_500, 9_500), lasts: (4_000, 9_000) };
    let plan = Plan {
        which: Which::Pgquorum,
        tempo: Tempo::Tight,
        seed: 3,
        schedule: schedule::random(&SMOKE, length, 3, pace),
        wanted: SMOKE.to_vec(),
        length,
        recovery: Duration::from_secs(60),
        stale: STALE,
        workloads: Workloads { transactions: true, monitors: true, hurry: false },
        ignore_notices: false,
    };
    let missing = SMOKE.iter().find(|kind| !plan.schedule.iter().any(|entry| entry.kind == **kind));
    ensure!(missing.is_none(), "the seed leaves {missing:?} out");
    let out: PathBuf = lab.path("evidence");
    let outcome = run::run(lab, &plan, &out)?;
    let told: Vec<String> = outcome.reports.iter().map(ToString::to_string).collect();
    eprintln!("{}", told.join("\n"));
    ensure!(outcome.passed(), "not passed, see {}:\n{}", out.display(), told.join("\n"));
    Ok(())
}
