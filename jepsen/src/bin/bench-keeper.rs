//! What our nodes cost at rest, and how soon a killed primary is back as a standby.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::Parser;
use jepsen::bench::table::Table;
use jepsen::process::{stat, ticks_per_second};
use jepsen::wait::wait_for;
use jepsen::{Context, Group, Lab, Monitors, Result};

#[derive(Parser)]
#[command(about = "Measures keepers: CPU, memory and connections at rest; a killed primary's way back")]
struct Args {
    /// Seconds at rest.
    #[arg(long, default_value_t = 60)]
    rest: u64,
    /// How often a primary is killed.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Nodes of the group.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
}

fn main() -> std::process::ExitCode {
    jepsen::bench::ended(measure(&Args::parse()))
}

/// Keeper and guardian, without PostgreSQL.
fn own_pids(group: &Group<'_>, at: usize) -> Result<[i32; 2]> {
    let node = group.nodes.get(at).context("no such node")?;
    let keeper = node.keeper().context("no keeper")?;
    let is_guardian = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"guardian")
    };
    Ok([keeper, node.pids().into_iter().find(is_guardian).context("no guardian")?])
}

fn ticks(pids: &[i32]) -> u64 {
    pids.iter().filter_map(|pid| stat(*pid)).map(|stat| stat.ticks).sum()
}

/// Megabytes, shared pages by their share.
fn memory(pids: &[i32]) -> f64 {
    let share = |pid: &i32| -> Option<f64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok())
    };
    pids.iter().filter_map(share).sum::<f64>() / 1024.0
}

/// Established connections of a process to one of these ports.
fn connections(pid: i32, ports: &[u16]) -> usize {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let own: BTreeSet<String> = links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| link.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let counts = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = words.get(2).and_then(|remote| u16::from_str_radix(remote.rsplit(':').next()?, 16).ok());
        words.get(3) == Some(&"01")
            && port.is_some_and(|port| ports.contains(&port))
            && words.get(9).is_some_and(|inode| own.contains(*inode))
    };
    table.lines().filter(counts).count()
}

fn measure(args: &Args) -> Result<()> {
    let lab = Lab::new("keeper")?;
    let mut group = Group::start(&lab, args.nodes)?;
    std::thread::sleep(Duration::from_secs(5));
    let primary = group.settle()?;
    let ports = group.monitors.ports();
    let mut table = Table::new(&["node", "CPU, % of a core", "memory, MB", "connections to monitors"]);
    let mut before = Vec::new();
    for at in 0..group.nodes.len() {
        before.push(ticks(&own_pids(&group, at)?));
    }
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(args.rest));
    let time = began.elapsed().as_secs_f64();
    for (at, before) in before.iter().enumerate() {
        let pids = own_pids(&group, at)?;
        let cpu = 100.0 * ticks(&pids).saturating_sub(*before) as f64 / ticks_per_second() / time;
        table.row([
            if at == primary { "primary" } else { "standby" }.to_owned(),
            format!("{cpu:.2}"),
            format!("{:.1}", memory(&pids)),
            connections(pids[0], &ports).to_string(),
        ]);
    }
    table.print(&format!("Keeper and guardian at rest, {} s", args.rest));

    let mut times = Vec::new();
    for _ in 0..args.runs {
        let old = group.settle()?;
        let name = group.nodes[old].name.clone();
        group.nodes[old].kill()?;
        wait_for("another primary", Duration::from_secs(60), || {
            let rows = group.rows()?;
            Ok(rows.iter().any(|row| row.name != name && (row.reported == "wait_primary" || row.is("primary"))).then_some(()))
        })?;
        std::thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        group.nodes[old].run(&lab)?;
        wait_for("the killed primary as a standby", Duration::from_secs(60), || {
            Ok(group.rows()?.iter().any(|row| row.name == name && row.is("secondary")).then_some(()))
        })?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let copies = group.nodes.iter().filter(|node| {
        std::fs::read_to_string(lab.log(&node.name)).is_ok_and(|log| log.contains("copying the primary instead"))
    });
    println!("A killed primary back as a standby after its start: {times:.2?}, {} of the nodes copied anew", copies.count());
    Ok(())
}
