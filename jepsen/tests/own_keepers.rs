//! Groups of our keepers on our monitors, with real PostgreSQL: failover by seals.

use std::time::Duration;

use jepsen::bench::failover::{Case, run};
use jepsen::command::{self, Output};
use jepsen::wait::wait_for;
use jepsen::{Context, Group, Lab, Monitors, Result, Steps, bail, ensure, ensure_eq, requirements, sql};

/// Far above what `bench-failover` measures, on a busy machine too, and below what waiting for timeouts
/// of upstream's path would take.
const OUTAGE: Duration = Duration::from_secs(30);

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

/// `pgquorum perform switchover` with these options.
fn switchover(group: &Group<'_>, options: &[&str]) -> Result<impl FnOnce() -> Result<Output> + Send + use<>> {
    let mut command = group.lab.command(requirements::pgquorum_binary()?);
    command.args(["perform", "switchover", "--monitor", &group.monitors.uri_all()]).args(options);
    Ok(|| command::run(command, Duration::from_secs(90)))
}

/// Does the present primary have a transaction of this session open, as its keeper tells the monitors?
fn told(group: &Group<'_>, open: &str) -> Result<Option<()>> {
    let seen = of_primary(group, "open_transactions")?;
    ensure!(seen == open, "{seen} open transactions are told, and {open} awaited");
    Ok(Some(()))
}

fn of_primary(group: &Group<'_>, column: &str) -> Result<String> {
    sql::value(&group.monitors.uri_all(), &format!("SELECT {column} FROM pgquorum.open_transactions('default', 0)"))
}

/// Runs `during` while a session at the primary has written a row and not committed; tells how its commit
/// ends.
fn amid_a_transaction<T>(group: &Group<'_>, row: i32, during: impl FnOnce() -> Result<T>) -> Result<(T, bool)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let session = runtime.block_on(sql::connect_at_once(&group.app_uri(), Duration::from_secs(5)))?;
    let begin = format!("CREATE TABLE IF NOT EXISTS drained (i int); BEGIN; INSERT INTO drained VALUES ({row})");
    runtime.block_on(session.client.batch_execute(&begin))?;
    wait_for("the open transaction to be told", Duration::from_secs(10), || told(group, "1"))?;
    let result = during()?;
    Ok((result, runtime.block_on(session.client.batch_execute("COMMIT")).is_ok()))
}

/// Whoever asks for it lets transactions end first; the primary serves on meanwhile, and nothing has been
/// changed when they do not end.
#[test]
fn a_switchover_may_wait_for_transactions() {
    let name = "own-drain";
    if !ready(name) {
        return;
    }
    Lab::run(name, |lab| {
        let group = Group::start(lab, 2)?;
        let mut steps = Steps::new();
        let primary = || group.settle().and_then(|at| group.nodes.get(at).map(|n| n.name.clone()).context("no node"));
        steps.run("they do not end: nothing is changed", || Ok(()), || {
            let (before, epoch) = (primary()?, of_group(&group, "epoch")?);
            let (output, committed) = amid_a_transaction(&group, 1, switchover(&group, &["--drain", "1"])?)?;
            let output = output.exits(6)?;
            ensure!(output.stderr.contains("1 transaction is open on") && output.stderr.contains("nothing was changed"), "{output}");
            ensure!(committed, "the transaction was cut");
            ensure_eq!(primary()?, before, "the primary");
            ensure_eq!(of_group(&group, "epoch")?, epoch, "the epoch");
            Ok(())
        })?;
        steps.run("they end: the switchover follows", || Ok(()), || {
            let before = primary()?;
            let waiting = std::thread::scope(|scope| {
                let (waiting, committed) = amid_a_transaction(&group, 2, || {
                    let waiting = scope.spawn(switchover(&group, &["--drain", "60"])?);
                    std::thread::sleep(Duration::from_secs(2));
                    ensure!(!waiting.is_finished(), "it did not wait: {:?}", waiting.join());
                    Ok(waiting)
                })?;
                ensure!(committed, "the transaction was cut");
                match waiting.join() {
                    Ok(output) => output,
                    Err(_) => bail!("the switchover panicked"),
                }
            })?;
            waiting.ok()?;
            ensure!(primary()? != before, "\"{before}\" is still the primary");
            Ok(())
        })?;
        steps.run("they do not end, and are cut", || Ok(()), || {
            let before = primary()?;
            let cutting = switchover(&group, &["--drain", "1", "--force"])?;
            let (output, committed) = amid_a_transaction(&group, 3, cutting)?;
            output.ok()?;
            ensure!(!committed, "the transaction was not cut");
            ensure!(primary()? != before, "\"{before}\" is still the primary");
            ensure_eq!(sql::value(&group.app_uri(), "SELECT string_agg(i::text, ',' ORDER BY i) FROM drained")?, "1,2", "rows");
            Ok(())
        })?;
        steps.verdict()
    });
}
