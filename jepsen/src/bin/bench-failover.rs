//! Failures of a group of our nodes on our monitors: how long writes fail, and what is lost.

use std::time::Duration;

use clap::Parser;
use jepsen::bench::failover::{Case, Run, run_amid};
use jepsen::bench::table::Table;
use jepsen::bench::{black_hole, fleet, runtime};
use jepsen::net::probe;
use jepsen::run::STALE;
use jepsen::{Context, Group, Lab, Monitors, Result, bail, ensure, sql};

#[derive(Parser)]
#[command(about = "Measures failures of a group: write outage, lost rows, stale reads")]
struct Args {
    /// Which cases: switchover, postmaster, node, frozen, leader+node, leader, black-holed
    #[arg(long, value_delimiter = ',', default_value = "all")]
    cases: Vec<String>,
    /// How often each.
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Nodes of the group.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Simulated groups of two registered beside it, reporting once a second.
    #[arg(long, default_value_t = 0)]
    groups: usize,
    /// As many of the simulated groups are failed over in the very moment of each failure.
    #[arg(long, default_value_t = 0)]
    storm: usize,
}

fn main() -> std::process::ExitCode {
    jepsen::bench::ended(measure(&Args::parse()))
}

fn measure(args: &Args) -> Result<()> {
    let mut cases = Vec::new();
    for name in &args.cases {
        match Case::ALL.into_iter().find(|case| case.name() == name) {
            Some(case) => cases.push(case),
            None if name == "all" => cases.extend(Case::ALL),
            None => bail!("unknown case {name}: there are all, {}", Case::ALL.map(Case::name).join(", ")),
        }
    }
    ensure!(args.storm <= args.groups, "--storm takes some of the --groups");
    let mut table = Table::new(&[
        "case",
        "runs",
        "min s",
        "median s",
        "max s",
        "acknowledged rows",
        "lost",
        "stale reads until s",
        "acknowledged by the old primary afterwards",
        "whole again, median s",
    ]);
    let (holes, others): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(|case| *case == Case::BlackHoled);
    if !others.is_empty() {
        on_loopback(args, &others, &mut table)?;
    }
    if !holes.is_empty() {
        match probe() {
            Ok(()) if args.nodes <= 3 && args.groups == 0 => {
                table.row(row(Case::BlackHoled, &black_hole::measure(args.runs, args.nodes)?));
            }
            Ok(()) => eprintln!(
                "{} is left out: it is measured with two or three nodes and nothing beside",
                Case::BlackHoled.name()
            ),
            Err(error) => eprintln!("{} is left out: {error}", Case::BlackHoled.name()),
        }
    }
    let beside = match (args.groups, args.storm) {
        (0, _) => String::new(),
        (groups, 0) => format!(", {groups} simulated groups beside it"),
        (groups, storm) => format!(", {groups} simulated groups beside it, {storm} of which fail over at the same time"),
    };
    table.print(&format!("Write outage of a group of {} nodes, a row every 10 ms{beside}", args.nodes));
    println!(
        "\nStale reads are documented to end {:.1} s after the new primary's first acknowledgement; a frozen node may give \
         one old answer when it is resumed. Load of the machine during the last minutes: {}",
        STALE.as_secs_f64(),
        load()
    );
    Ok(())
}

/// A group with its monitors on loopback; a row of the table for each case.
fn on_loopback(args: &Args, cases: &[Case], table: &mut Table) -> Result<()> {
    let lab = Lab::new("failover")?;
    let mut group = Group::start(&lab, args.nodes)?;
    let _others = (args.groups > 0).then(|| Others::start(&lab, &group, args.groups)).transpose()?;
    for case in cases.iter().copied() {
        let mut runs = Vec::new();
        for i in 0..args.runs {
            let uri = group.monitors.uri_all();
            let one = run_amid(&mut group, case, &|| storm(&uri, args.storm)).context(format!("{}, run {}", case.title(), i + 1))?;
            eprintln!("{} {}: {:.3} s; {}; {:?}", case.name(), i + 1, one.outage.as_secs_f64(), one.report, one.old_primary);
            runs.push(one);
        }
        table.row(row(case, &runs));
    }
    Ok(())
}

/// Begins failovers of simulated groups, and does not wait for them.
fn storm(uri: &str, groups: usize) {
    for hand in 0..groups.min(8) {
        let uri = uri.to_owned();
        std::thread::spawn(move || {
            for group in (hand..groups).step_by(8) {
                // One that is still busy with the last storm refuses.
                _ = sql::query(&uri, &format!("SELECT pgautofailover.perform_failover('other{group}', 0)"));
            }
        });
    }
}

/// What /proc/loadavg says: 1, 5 and 15 minutes.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn row(case: Case, runs: &[Run]) -> Vec<String> {
    let seconds = |d: Duration| format!("{:.2}", d.as_secs_f64());
    let spread = |of: &dyn Fn(&Run) -> Duration| {
        let mut times: Vec<Duration> = runs.iter().map(of).collect();
        times.sort_unstable();
        let at = |i: usize| times.get(i).copied().map_or("-".to_owned(), seconds);
        [at(0), at(times.len() / 2), at(times.len().saturating_sub(1))]
    };
    let [min, median, max] = spread(&|run| run.outage);
    let [_, whole, _] = spread(&|run| run.whole);
    let stale = runs.iter().filter_map(|run| run.old_primary.stale_until).max();
    let sum = |of: &dyn Fn(&Run) -> usize| runs.iter().map(of).sum::<usize>().to_string();
    vec![
        case.title().to_owned(),
        runs.len().to_string(),
        min,
        median,
        max,
        sum(&|run| run.report.acknowledged),
        sum(&|run| run.lost + run.old_primary.lost),
        stale.map_or("none".to_owned(), seconds),
        sum(&|run| run.old_primary.acknowledged_late),
        whole,
    ]
}

/// Simulated groups that report while the measurements run.
struct Others {
    _runtime: tokio::runtime::Runtime,
}

impl Others {
    fn start(lab: &Lab, group: &Group<'_>, groups: usize) -> Result<Self> {
        let runtime = runtime()?;
        let ports = group.monitors.ports();
        let leader = *ports.get(group.monitors.leader()?).context("no leader")?;
        let node_port = lab.port()?;
        let fakes = runtime.block_on(async {
            fleet::answer_health_checks(node_port).await?;
            fleet::muster(leader, "other", groups, 2, node_port).await
        })?;
        runtime.spawn(fleet::keep_reporting(ports, fakes, Duration::from_secs(1)));
        Ok(Self { _runtime: runtime })
    }
}
