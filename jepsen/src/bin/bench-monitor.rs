//! Our monitors beside the stock one, in the same run on the same machine, as Markdown tables.

use std::time::{Duration, Instant};

use clap::Parser;
use jepsen::bench::load::{Measured, Pace, run};
use jepsen::bench::table::Table;
use jepsen::bench::usage::{Cpu, memory, syncs};
use jepsen::bench::{fleet, runtime};
use jepsen::own_nodes::Group;
use jepsen::{Cluster, Context, Kind, Lab, Monitors, Result, sql};

#[derive(Parser)]
#[command(about = "Measures monitors under load, at rest and after the loss of their leader")]
struct Args {
    /// Which monitors.
    #[arg(long, value_delimiter = ',', default_value = "stock,pgquorum")]
    systems: Vec<String>,
    /// Which measurements.
    #[arg(long, value_delimiter = ',', default_value = "calls,rest,leader,fleet")]
    measure: Vec<String>,
    /// Seconds for each measurement under load.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds for the measurement at rest.
    #[arg(long, default_value_t = 30)]
    rest_seconds: u64,
    /// Groups of two for the calls.
    #[arg(long, default_value_t = 200)]
    groups: usize,
    /// Groups of three that report once a second.
    #[arg(long, default_value_t = 1000)]
    fleet_groups: usize,
    /// How often the leader is killed.
    #[arg(long, default_value_t = 10)]
    losses: usize,
}

fn main() -> std::process::ExitCode {
    jepsen::bench::ended(measure(&Args::parse()))
}

fn measure(args: &Args) -> Result<()> {
    let mut kinds = Vec::new();
    for system in &args.systems {
        let kind = match system.as_str() {
            "stock" => Kind::Stock,
            "pgquorum" => Kind::Pgquorum,
            other => jepsen::bail!("unknown system {other}"),
        };
        kind.requirements()?;
        kinds.push(kind);
    }
    let wanted = |what: &str| args.measure.iter().any(|m| m == what);
    if wanted("calls") {
        let mut table = Table::new(&[
            "monitor",
            "load",
            "calls/s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "CPU ms/call, all monitors",
        ]);
        for &kind in &kinds {
            calls(args, kind, &mut table).context("calls")?;
        }
        table.print(&format!("node_active, {} groups of two simulated nodes", args.groups));
    }
    if wanted("fleet") {
        let mut table = Table::new(&[
            "monitor",
            "calls/s",
            "p50 ms",
            "p99 ms",
            "late calls",
            "CPU % of a core, by monitor",
        ]);
        for &kind in &kinds {
            big_fleet(args, kind, &mut table).context("fleet")?;
        }
        table.print(&format!(
            "{} groups of three simulated nodes, each reporting once a second",
            args.fleet_groups
        ));
    }
    if wanted("leader") && kinds.contains(&Kind::Pgquorum) {
        let mut table =
            Table::new(&["leader lost to first answer by a survivor", "min ms", "median ms", "max ms"]);
        leader_loss(args, &mut table).context("leader")?;
        table.print("Loss of the leader (kill -9)");
    }
    if wanted("rest") {
        let mut table =
            Table::new(&["monitor", "nodes", "CPU % of a core", "RSS MiB (sum)", "written kB/s", "syncs/s"]);
        for &kind in &kinds {
            rest(args, kind, &mut table).context("rest")?;
        }
        table.print("Three nodes at rest");
    }
    Ok(())
}

/// The processes to account to each monitor.
fn roots(monitors: &dyn Monitors) -> Vec<Vec<i32>> {
    (0..monitors.len()).filter_map(|i| Some(vec![monitors.pid(i)?])).collect()
}

/// Simulated nodes must not be declared dead between two measurements.
fn lenient(monitors: &dyn Monitors) -> Result<()> {
    monitors.set("pgautofailover.node_considered_unhealthy_timeout", "36000000")
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}

fn calls(args: &Args, kind: Kind, table: &mut Table) -> Result<()> {
    let lab = Lab::new("bench")?;
    let monitors = kind.start(&lab)?;
    lenient(monitors.as_ref())?;
    let leader = monitors.leader()?;
    let runtime = runtime()?;
    let node_port = lab.port()?;
    runtime.block_on(fleet::answer_health_checks(node_port))?;
    let leader_port = *monitors.ports().get(leader).context("no leader")?;
    let nodes = runtime.block_on(fleet::muster(leader_port, "f", args.groups, 2, node_port))?;
    let time = Duration::from_secs(args.seconds);
    let mut ports = vec![(leader_port, "leader")];
    if monitors.len() > 1 {
        let follower = monitors.follower()?;
        ports.push((*monitors.ports().get(follower).context("no follower")?, "follower"));
    }
    for (port, role) in ports {
        let mut add = |load: &str, connections: usize, pace: Pace| -> Result<Measured> {
            let pids: Vec<i32> = roots(monitors.as_ref()).concat();
            let cpu = Cpu::start(&pids);
            let measured = runtime.block_on(run(port, &nodes, connections, pace, time))?;
            let each = 1000.0 * cpu.seconds() / measured.calls as f64;
            table.row([
                format!("{kind:?} ({role})"),
                load.to_owned(),
                format!("{:.0}", measured.per_second),
                milliseconds(measured.p50),
                milliseconds(measured.p99),
                milliseconds(measured.max),
                format!("{each:.3}"),
            ]);
            Ok(measured)
        };
        let full = add("64 kept connections, full", 64, Pace::Closed)?;
        add("64 kept connections, half", 64, Pace::Open(full.per_second / 2.0))?;
        add("1 kept connection", 1, Pace::Closed)?;
        add("new connection per call, 16 at once, full", 16, Pace::Reconnecting)?;
    }
    Ok(())
}

fn big_fleet(args: &Args, kind: Kind, table: &mut Table) -> Result<()> {
    let lab = Lab::new("bench")?;
    let monitors = kind.start(&lab)?;
    lenient(monitors.as_ref())?;
    let leader = monitors.leader()?;
    let runtime = runtime()?;
    let node_port = lab.port()?;
    runtime.block_on(fleet::answer_health_checks(node_port))?;
    let port = *monitors.ports().get(leader).context("no leader")?;
    let nodes = runtime.block_on(fleet::muster(port, "g", args.fleet_groups, 3, node_port))?;
    let each: Vec<Cpu> = roots(monitors.as_ref()).iter().map(|pids| Cpu::start(pids)).collect();
    let time = Duration::from_secs(args.seconds.max(15));
    let measured = runtime.block_on(run(port, &nodes, 64, Pace::Open(nodes.len() as f64), time))?;
    let shares: Vec<String> = each
        .iter()
        .enumerate()
        .map(|(i, cpu)| format!("{:.1}{}", cpu.percent(), if i == leader { " (leader)" } else { "" }))
        .collect();
    table.row([
        format!("{kind:?}"),
        format!("{:.0}", measured.per_second),
        milliseconds(measured.p50),
        milliseconds(measured.p99),
        measured.late.to_string(),
        shares.join(", "),
    ]);
    Ok(())
}

fn leader_loss(args: &Args, table: &mut Table) -> Result<()> {
    let lab = Lab::new("bench")?;
    let mut monitors = Kind::Pgquorum.start(&lab)?;
    let mut times = Vec::new();
    for _ in 0..args.losses {
        let leader = monitors.leader()?;
        let survivors: Vec<String> =
            (0..monitors.len()).filter(|i| *i != leader).map(|i| monitors.uri(i)).collect();
        monitors.kill(leader)?;
        times.push(first_answer(&survivors)?);
        monitors.restart(leader)?;
        for i in 0..monitors.len() {
            monitors.serving(i)?;
        }
    }
    times.sort();
    let at = |i: usize| times.get(i).copied().map(milliseconds).context("no runs");
    table.row([format!("{} runs", times.len()), at(0)?, at(times.len() / 2)?, at(times.len() - 1)?]);
    Ok(())
}

/// The time until one of `monitors` answers a proved read; all are asked at the same time.
fn first_answer(monitors: &[String]) -> Result<Duration> {
    let started = Instant::now();
    let (sender, receiver) = std::sync::mpsc::channel();
    for uri in monitors {
        let (uri, sender) = (uri.clone(), sender.clone());
        std::thread::spawn(move || {
            let statement = "SELECT count(*) FROM pgautofailover.formation";
            while started.elapsed() < Duration::from_secs(60) {
                let deadline = Duration::from_secs(1);
                if matches!(sql::try_query(&uri, statement, deadline), Ok(Ok(_))) {
                    _ = sender.send(started.elapsed());
                    return;
                }
                // Between two questions to a monitor that refuses at once.
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }
    receiver.recv_timeout(Duration::from_secs(60)).context("no survivor answers for a minute")
}

fn rest(args: &Args, kind: Kind, table: &mut Table) -> Result<()> {
    {
        let lab = Lab::new("bench")?;
        let cluster = Cluster::start(&lab, kind, 3)?;
        cost_at_rest(args, kind, "stock pg_autoctl", cluster.monitors.as_ref(), table)?;
    }
    if kind == Kind::Pgquorum {
        let lab = Lab::new("bench")?;
        let group = Group::start(&lab, 3)?;
        cost_at_rest(args, kind, "pgquorum", &group.monitors, table)?;
    }
    Ok(())
}

/// What monitors with nodes that are at rest cost.
fn cost_at_rest(args: &Args, kind: Kind, nodes: &str, monitors: &dyn Monitors, table: &mut Table) -> Result<()> {
    let leader = monitors.leader()?;
    let roots = roots(monitors);
    let time = Duration::from_secs(args.rest_seconds);
    let each: Vec<Cpu> = roots.iter().map(|pids| Cpu::start(pids)).collect();
    // The measurement is the passing of this time.
    std::thread::sleep(time);
    let used: Vec<(f64, f64)> =
        each.iter().map(|cpu| (cpu.percent(), cpu.bytes_per_second() / 1000.0)).collect();
    for (i, (pids, (percent, bytes))) in roots.iter().zip(used).enumerate() {
        let name = match kind {
            Kind::Stock => "Stock".to_owned(),
            Kind::Pgquorum => format!("Pgquorum m{}{}", i + 1, if i == leader { " (leader)" } else { "" }),
        };
        let memory = memory(pids);
        let syncs = syncs(pids, time)?.map_or("no strace".to_owned(), |n| format!("{n:.2}"));
        let figures = [format!("{percent:.2}"), format!("{memory:.1}"), format!("{bytes:.1}"), syncs];
        table.row([name, nodes.to_owned()].into_iter().chain(figures));
    }
    Ok(())
}
