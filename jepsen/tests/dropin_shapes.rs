//! What stock `pg_autoctl` shows of our monitors, compared in shape with what it shows of the stock
//! one; then live nodes are moved from the stock monitor to ours.

use std::process::Command;
use std::time::Duration;

use jepsen::command::{Output, run};
use jepsen::wait::wait_for;
use jepsen::{Cluster, Kind, Lab, Monitors, Result, Steps, ensure, ensure_eq, requirements, shape, sql};

#[test]
fn pgquorum() {
    let name = "shapes";
    if requirements::met(name, Kind::Pgquorum.requirements()) {
        Lab::run(name, |lab| body(lab, Kind::Pgquorum));
    }
}

#[test]
#[ignore = "the reference: a stock monitor compared with another stock monitor"]
fn stock() {
    let name = "shapes-stock";
    if requirements::met(name, Kind::Stock.requirements()) {
        Lab::run(name, |lab| body(lab, Kind::Stock));
    }
}

/// The commands whose output is compared; a formation and a group are added by some.
const SHOWN: [&[&str]; 14] = [
    &["show", "state"],
    &["show", "state", "--json"],
    &["show", "state", "--formation", "default", "--group", "0"],
    &["show", "events", "--count", "12"],
    &["show", "events", "--count", "12", "--json"],
    &["show", "events", "--group", "0", "--count", "5"],
    &["show", "settings"],
    &["show", "settings", "--json"],
    &["show", "uri"],
    &["show", "uri", "--json"],
    &["show", "standby-names"],
    &["show", "standby-names", "--json"],
    &["get", "formation", "settings", "--json"],
    &["get", "formation", "number-sync-standbys", "--json"],
];

fn body(lab: &Lab, kind: Kind) -> Result<()> {
    let mut cluster = Cluster::start(lab, Kind::Stock, 3)?;
    let stock = take_all(|args| cluster.ctl_at(&cluster.monitors.uri(0), args))?;
    let writer = cluster.writer()?;
    let mut steps = Steps::new();

    // The new monitors start beside the old one, which goes on running.
    let mut new: Box<dyn Monitors> = match kind {
        Kind::Pgquorum => kind.start(lab)?,
        Kind::Stock => second_stock(lab)?,
    };
    let old_rows = cluster.rows()?;
    steps.run(
        "move live nodes to other monitors",
        || Ok(()),
        || {
            let primary = cluster.primary()?;
            move_node(&cluster, new.as_ref(), &primary)?;
            wait_on(new.as_ref(), &primary, &["single"])?;
            for node in cluster.nodes.iter().filter(|n| n.name != primary) {
                move_node(&cluster, new.as_ref(), &node.name)?;
                wait_on(new.as_ref(), &node.name, &["secondary"])?;
            }
            Ok(())
        },
    )?;
    std::mem::swap(&mut cluster.monitors, &mut new);
    let old = new;
    cluster.settle()?;
    steps.run(
        "the nodes keep their ids, and no system identifier is new",
        || Ok(()),
        || {
            let ids = |rows: &[jepsen::cluster::NodeRow]| -> Vec<_> {
                rows.iter().map(|r| (r.id, r.name.clone(), r.port)).collect()
            };
            ensure_eq!(ids(&cluster.rows()?), ids(&old_rows), "the nodes");
            let sql = "SELECT DISTINCT sysidentifier FROM pgautofailover.node";
            let (a, b) = (sql::query(&cluster.monitors.uri(0), sql)?, sql::query(&old.uri(0), sql)?);
            ensure_eq!(a, b, "system identifiers");
            ensure!(a.len() == 1, "{} system identifiers", a.len());
            Ok(())
        },
    )?;
    steps.run(
        "the moved cluster switches over",
        || cluster.settle().map(drop),
        || {
            let before = cluster.settle()?;
            cluster.ctl(&["perform", "switchover"])?.ok()?;
            ensure!(cluster.settle()? != before, "{before} is still the primary");
            Ok(())
        },
    )?;
    let report = writer.finish(&cluster.app_uri())?;
    eprintln!("  {report}");
    steps.run("no acknowledged row is lost", || Ok(()), || report.check())?;

    // Both clusters have had a switchover's worth of events; now they are shown alike.
    let ours = take_all(|args| cluster.ctl_at(&cluster.monitors.uri(0), args))?;
    for ((args, ours), stock) in SHOWN.iter().zip(&ours).zip(&stock) {
        let what = args.join(" ");
        steps.run(
            &what,
            || Ok(()),
            || match what.as_str() {
                _ if args.contains(&"--json") => shape::same_json(&what, &ours.stdout, &stock.stdout),
                // Which events there are differs; the table's head does not, nor the columns.
                _ if what.contains("events") => same_table(&what, &ours.stdout, &stock.stdout),
                // Rows come in the order of the nodes, and the primary is another one.
                _ => same_lines(&what, &ours.stdout, &stock.stdout),
            },
        )?;
    }
    if kind == Kind::Pgquorum {
        for (args, theirs) in SHOWN.iter().zip(&ours) {
            let what = format!("pgquorum {}", args.join(" "));
            let shown = cluster.pgquorum_at(&cluster.monitors.uri(0), args);
            steps.run(
                &what,
                || Ok(()),
                || {
                    let shown = shown?.ok()?.stdout;
                    match args.contains(&"--json") {
                        true => shape::same_json(&what, &shown, &theirs.stdout),
                        false if args.contains(&"events") => same_table(&what, &shown, &theirs.stdout),
                        false => same_lines(&what, &shown, &theirs.stdout),
                    }
                },
            )?;
        }
    }
    steps.run("show events --group --json fails as ever", || Ok(()), || broken_events(&cluster))?;
    steps.run("watching", || Ok(()), || watching(&cluster))?;
    steps.verdict()
}

/// A second stock monitor needs a lab directory of its own.
fn second_stock(lab: &Lab) -> Result<Box<dyn Monitors>> {
    Ok(Box::new(jepsen::monitors::StockMonitor::start_as(lab, "mon2")?))
}

fn take_all(ctl: impl Fn(&[&str]) -> Result<Output>) -> Result<Vec<Output>> {
    SHOWN.iter().map(|args| ctl(args)?.ok()).collect()
}

/// `disable monitor --force`, then `enable monitor`, with the keeper running all the time.
fn move_node(cluster: &Cluster, to: &dyn Monitors, name: &str) -> Result<()> {
    let node = cluster.node(name)?;
    // Without --force 2.0 always fails here: it sends garbage and needs an answer to it.
    node.ctl(cluster.lab, &["disable", "monitor"])?.exits(6)?;
    let disabled = || -> Result<usize> {
        Ok(std::fs::read_to_string(cluster.lab.log(name))?.matches("monitor has been disabled").count())
    };
    let before = disabled()?;
    node.ctl(cluster.lab, &["disable", "monitor", "--force"])?.ok()?;
    // 2.0 misses a reload that comes while it does one, and would go on without a monitor. It says that it
    // begins and not that it is done, which it is well within two of its rounds.
    wait_for(&format!("{name} to go on without a monitor"), Duration::from_secs(30), || {
        Ok((disabled()? > before).then_some(()))
    })?;
    std::thread::sleep(Duration::from_secs(2));
    node.ctl(cluster.lab, &["enable", "monitor", &to.uri(0)])?.ok()?;
    Ok(())
}

fn wait_on(monitors: &dyn Monitors, name: &str, states: &[&str]) -> Result<()> {
    let sql = format!("SELECT reportedstate, goalstate FROM pgautofailover.node WHERE nodename = '{name}'");
    wait_for(&format!("{name} to be one of {states:?} on the new monitors"), Duration::from_secs(90), || {
        let rows = sql::query(&monitors.uri(0), &sql)?;
        let settled = rows.iter().any(|row| {
            row.first() == row.get(1)
                && row.first().and_then(|s| s.as_deref()).is_some_and(|s| states.contains(&s))
        });
        ensure!(settled, "{rows:?}");
        Ok(Some(()))
    })
}

fn same_lines(what: &str, ours: &str, stock: &str) -> Result<()> {
    // Names differ by one digit, and who is primary differs: compare the set of line shapes.
    let set = |text: &str| {
        let mut lines = shape::of_text(text);
        lines.sort();
        lines.dedup();
        lines
    };
    let (a, b) = (set(ours), set(stock));
    ensure!(a == b, "{what}:\n{ours}\ninstead of\n{stock}");
    Ok(())
}

fn same_table(what: &str, ours: &str, stock: &str) -> Result<()> {
    let head = |text: &str| shape::of_text(text).into_iter().take(2).collect::<Vec<_>>();
    ensure_eq!(head(ours), head(stock), "{what}: the head");
    let columns = |text: &str| {
        let mut counts: Vec<usize> = text.lines().skip(2).map(|line| line.matches(" | ").count()).collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    };
    ensure_eq!(columns(ours), columns(stock), "{what}: columns:\n{ours}\ninstead of\n{stock}");
    Ok(())
}

/// 2.0 sends a statement with two FROMs; the answer is a syntax error, and the connection lives.
fn broken_events(cluster: &Cluster) -> Result<()> {
    let shown = cluster.ctl(&["show", "events", "--group", "0", "--json"])?;
    ensure!(shown.code != 0, "it must fail: {shown}");
    ensure!(shown.stderr.contains("syntax error"), "it must name a syntax error: {shown}");
    Ok(())
}

/// `watch` keeps asking and draws on a terminal, here one made by `script`.
fn watching(cluster: &Cluster) -> Result<()> {
    let uri = cluster.monitors.uri_all();
    let watch = format!("stty rows 40 cols 200; timeout --foreground 4 pg_autoctl watch --monitor '{uri}'");
    let mut command: Command = cluster.lab.command("script");
    command.env("TERM", "xterm").args(["-qec", &watch, "/dev/null"]);
    let shown = run(command, Duration::from_secs(30))?;
    for word in ["Formation:", "default", "n1", "n2", "n3", "read-write", "primary", "secondary"] {
        ensure!(shown.stdout.contains(word), "{word} is not shown: {shown}");
    }
    Ok(())
}
