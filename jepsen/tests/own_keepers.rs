//! Groups of our keepers on our monitors, with real PostgreSQL: failover by seals.

use std::time::Duration;

use jepsen::bench::failover::{Case, run};
use jepsen::{Group, Lab, Monitors, Result, Steps, ensure, requirements, sql};

/// Far above what `bench-failover` measures on a machine at rest, far below what waiting for timeouts
/// of upstream's path would take.
const OUTAGE: Duration = Duration::from_secs(12);

fn ready(test: &str) -> bool {
    let postgres = requirements::account().and_then(|_| requirements::postgres_bindir()).map(drop);
    requirements::met(test, postgres.and_then(|()| requirements::pgquorum_binary().map(drop)))
}

/// `path`, or the newest epoch, of the group.
fn of_group(group: &Group<'_>, column: &str) -> Result<String> {
    sql::value(&group.monitors.uri_all(), &format!("SELECT {column} FROM pgquorum.group_state('default')"))
}

fn survive(group: &mut Group<'_>, case: Case) -> Result<()> {
    let epoch: i64 = of_group(group, "epoch")?.parse()?;
    let run = run(group, case)?;
    eprintln!("    {}: {:.2} s without writes; {:?}", case.title(), run.outage.as_secs_f64(), run.old_primary);
    run.report.check()?;
    ensure!(run.old_primary.lost == 0, "the old primary acknowledged rows that are gone");
    ensure!(run.old_primary.acknowledged_late == 0, "the old primary acknowledged rows after the new one");
    ensure!(run.outage < OUTAGE, "{:.1} s without writes", run.outage.as_secs_f64());
    let now: i64 = of_group(group, "epoch")?.parse()?;
    let raised = !matches!(case, Case::PostmasterKilled | Case::LeaderKilled);
    ensure!(!raised || now > epoch, "a promotion without a new epoch: {epoch}, then {now}");
    Ok(())
}

fn story(name: &str, nodes: usize, cases: &[Case]) {
    if !ready(name) {
        return;
    }
    Lab::run(name, |lab| {
        let mut group = Group::start(lab, nodes)?;
        ensure!(of_group(&group, "path")? == "quorum", "the group is on upstream's path");
        let mut steps = Steps::new();
        for case in cases {
            steps.run(case.title(), || Ok(()), || survive(&mut group, *case))?;
        }
        steps.verdict()
    });
}

#[test]
fn three_nodes_fail_over_and_come_back() {
    story("own-three", 3, &[
        Case::Switchover,
        Case::NodeKilled,
        Case::NodeFrozen,
        Case::PostmasterKilled,
        Case::LeaderAndNodeKilled,
    ]);
}

#[test]
fn two_nodes_fail_over_and_come_back() {
    story("own-two", 2, &[Case::Switchover, Case::NodeKilled, Case::NodeFrozen]);
}
