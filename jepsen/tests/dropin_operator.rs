//! Everything an operator does with stock `pg_autoctl`, on one cluster of three stock nodes.

use std::time::Duration;

use jepsen::wait::wait_for;
use jepsen::{Cluster, Context, Kind, Lab, Result, Steps, bail, ensure, ensure_eq, requirements, sql};

/// Far below the 60 s after which `pg_autoctl` gives up waiting for notifications.
const PROMPT: Duration = Duration::from_secs(30);

#[test]
fn pgquorum() {
    run("op-pgquorum", Kind::Pgquorum);
}

#[test]
#[ignore = "the reference: shows what the stock monitor does"]
fn stock() {
    run("op-stock", Kind::Stock);
}

fn run(name: &str, kind: Kind) {
    if requirements::met(name, kind.requirements()) {
        Lab::run(name, |lab| body(lab, kind));
    }
}

type Check = fn(&Cluster) -> Result<()>;

fn body(lab: &Lab, kind: Kind) -> Result<()> {
    let mut cluster = Cluster::start(lab, kind, 3)?;
    let writer = cluster.writer()?;
    let mut steps = Steps::new();
    let checks: [(&str, Check); 11] = [
        ("configure a running node", configure),
        ("the version gate stands open", version_gate),
        ("candidate priority", candidate_priority),
        ("replication quorum", replication_quorum),
        ("number of sync standbys", number_sync_standbys),
        ("switchover", switchover),
        ("failover", failover),
        ("promotion", promotion),
        ("maintenance of a standby", standby_maintenance),
        ("maintenance of the primary", primary_maintenance),
        ("secondaries are in use", secondaries_in_use),
    ];
    for (what, check) in checks {
        steps.run(what, || cluster.settle().map(drop), || check(&cluster))?;
    }
    let report = writer.finish(&cluster.app_uri())?;
    eprintln!("  {report}");
    steps.run("no acknowledged row is lost", || Ok(()), || report.check())?;
    steps.run("formations", || Ok(()), || formations(&cluster))?;
    steps.run("what does not exist", || Ok(()), || nonexistent(&cluster))?;
    // These take nodes away.
    steps.run("drop a node", || Ok(()), || drop_node(&mut cluster))?;
    steps.run("drop a dead node by force", || Ok(()), || drop_forced(&mut cluster))?;
    steps.run("disable and enable secondaries", || Ok(()), || secondaries(&cluster))?;
    steps.verdict()
}

fn opt_secondary(cluster: &Cluster) -> Result<String> {
    sql::value(
        &cluster.monitors.uri_all(),
        "SELECT opt_secondary FROM pgautofailover.formation WHERE formationid = 'default'",
    )
}

/// Stock 2.0 takes no `--monitor` here: it asks the monitors of the node whose directory it is given.
fn secondaries_in_use(cluster: &Cluster) -> Result<()> {
    let node = cluster.node(&cluster.standby()?)?;
    let refused = node.ctl(cluster.lab, &["disable", "secondary", "--formation", "default"])?.exits(6)?;
    ensure!(refused.stderr.contains("not in SINGLE state"), "{refused}");
    node.ctl(cluster.lab, &["enable", "secondary", "--formation", "nope"])?.exits(6)?;
    ensure_eq!(opt_secondary(cluster)?, "t", "opt_secondary");
    Ok(())
}

/// With one node left.
fn secondaries(cluster: &Cluster) -> Result<()> {
    let node = cluster.node(&cluster.primary()?)?;
    for (verb, answer) in [("disable", "f"), ("enable", "t")] {
        node.ctl(cluster.lab, &[verb, "secondary", "--formation", "default"])?.ok()?.within(PROMPT)?;
        ensure_eq!(opt_secondary(cluster)?, answer, "opt_secondary after pg_autoctl {verb} secondary");
    }
    Ok(())
}

fn version_gate(cluster: &Cluster) -> Result<()> {
    let sql = "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'pgautofailover'";
    for i in 0..cluster.monitors.len() {
        let rows = sql::query(&cluster.monitors.uri(i), sql)?;
        ensure_eq!(rows, vec![vec![Some("2.0".to_owned()), Some("2.0".to_owned())]], "monitor {i}");
    }
    Ok(())
}

/// A running keeper is given its monitors in another order, and takes that up.
fn configure(cluster: &Cluster) -> Result<()> {
    let node = cluster.node("n1")?;
    let uri = cluster.monitors.uri_all();
    node.ctl(cluster.lab, &["config", "set", "pg_autoctl.monitor", &format!("{uri}&connect_timeout=2")])?
        .ok()?;
    node.ctl(cluster.lab, &["reload"])?.ok()?;
    let got = node.ctl(cluster.lab, &["config", "get", "pg_autoctl.monitor"])?.ok()?;
    ensure!(got.stdout.contains("connect_timeout=2"), "{got}");
    node.ctl(cluster.lab, &["show", "state"])?.ok()?;
    cluster.settle().map(drop)
}

/// Some node, by its place in the row of nodes, to vary the monitor asked.
fn monitor_uri(cluster: &Cluster, n: usize) -> String {
    cluster.monitors.uri(n % cluster.monitors.len())
}

fn candidate_priority(cluster: &Cluster) -> Result<()> {
    let standby = cluster.standby()?;
    let node = cluster.node(&standby)?;
    node.ctl(cluster.lab, &["set", "node", "candidate-priority", "60"])?.ok()?.within(PROMPT)?;
    let got = node.ctl(cluster.lab, &["get", "node", "candidate-priority"])?.ok()?;
    ensure_eq!(got.stdout.trim(), "60", "candidate priority of {standby}");
    let json = node.ctl(cluster.lab, &["get", "node", "candidate-priority", "--json"])?.ok()?.json()?;
    ensure_eq!(json.to_string(), format!("{{\"candidate-priority\":60,\"name\":\"{standby}\"}}"), "as JSON");
    // Checked by the client itself, without asking the monitor.
    node.ctl(cluster.lab, &["set", "node", "candidate-priority", "101"])?.exits(1)?;
    // By name and monitor, here a different one.
    let uri = monitor_uri(cluster, 1);
    let set = [
        "set",
        "node",
        "candidate-priority",
        "--formation",
        "default",
        "--name",
        &standby,
        "--monitor",
        &uri,
        "50",
    ];
    tool(cluster, &set)?.ok()?.within(PROMPT)?;
    cluster.settle()?;
    Ok(())
}

/// A stock command with its own `--monitor` or none.
fn tool(cluster: &Cluster, args: &[&str]) -> Result<jepsen::command::Output> {
    let mut command = cluster.lab.command("pg_autoctl");
    command.args(args);
    jepsen::command::run(command, Duration::from_secs(90))
}

fn replication_quorum(cluster: &Cluster) -> Result<()> {
    let standby = cluster.standby()?;
    let node = cluster.node(&standby)?;
    // With number_sync_standbys 1 both standbys are needed in the quorum.
    let refused = node.ctl(cluster.lab, &["set", "node", "replication-quorum", "false"])?;
    ensure!(refused.code == 6, "leaving the quorum must be refused: {refused}");
    node.ctl(cluster.lab, &["set", "formation", "number-sync-standbys", "0"])?.ok()?.within(PROMPT)?;
    cluster.settle()?;
    for wanted in ["false", "true"] {
        let set = node.ctl(cluster.lab, &["set", "node", "replication-quorum", wanted])?;
        // Stock 2.0 can miss a pair of notifications that arrive together: it then waits out its
        // 60 s and exits with 6, although the setting was applied.
        ensure!(set.code == 0 || set.code == 6, "set: {set}");
        if set.code == 6 {
            eprintln!("  (pg_autoctl missed a notification: {:.1} s)", set.took.as_secs_f64());
        }
        let got = node.ctl(cluster.lab, &["get", "node", "replication-quorum"])?.ok()?;
        ensure_eq!(got.stdout.trim(), wanted, "replication quorum of {standby}");
        cluster.settle()?;
    }
    node.ctl(cluster.lab, &["set", "formation", "number-sync-standbys", "1"])?.ok()?.within(PROMPT)?;
    cluster.settle()?;
    Ok(())
}

fn number_sync_standbys(cluster: &Cluster) -> Result<()> {
    let node = cluster.node("n1")?;
    let get = |args: &[&str]| node.ctl(cluster.lab, args);
    ensure_eq!(get(&["get", "formation", "number-sync-standbys"])?.ok()?.stdout.trim(), "1", "at first");
    let standby_names = |n: u32| -> Result<()> {
        let primary = cluster.primary()?;
        let uri = cluster.node(&primary)?.uri();
        wait_for("the primary's synchronous_standby_names", PROMPT, || {
            let names = sql::value(&uri, "SHOW synchronous_standby_names")?;
            let known = cluster.ctl(&["show", "standby-names"])?.ok()?.stdout;
            ensure_eq!(known.trim().trim_matches('\''), names, "the monitor's standby names");
            ensure!(names.starts_with(&format!("ANY {n} (pgautofailover_standby_")), "they are {names}");
            Ok(Some(()))
        })
    };
    standby_names(1)?;
    get(&["set", "formation", "number-sync-standbys", "0"])?.ok()?.within(PROMPT)?;
    cluster.settle()?;
    standby_names(1)?;
    let too_many = get(&["set", "formation", "number-sync-standbys", "5"])?;
    ensure!(too_many.code != 0, "five of two standbys: {too_many}");
    get(&["set", "formation", "number-sync-standbys", "1"])?.ok()?.within(PROMPT)?;
    let json = get(&["get", "formation", "number-sync-standbys", "--json"])?.ok()?.json()?;
    ensure_eq!(json.to_string(), "{\"number-sync-standbys\":1}", "as JSON");
    cluster.settle()?;
    Ok(())
}

fn switchover(cluster: &Cluster) -> Result<()> {
    let before = cluster.settle()?;
    // From a node, and through one monitor after another.
    cluster.node("n1")?.ctl(cluster.lab, &["perform", "switchover"])?.ok()?.within(PROMPT)?;
    let after = cluster.settle()?;
    ensure!(after != before, "{before} is still the primary");
    for i in 0..cluster.monitors.len() {
        let before = cluster.settle()?;
        cluster.ctl_at(&cluster.monitors.uri(i), &["perform", "switchover"])?.ok()?.within(PROMPT)?;
        let after = cluster.settle()?;
        ensure!(after != before, "{before} is still the primary, asked through monitor {i}");
    }
    Ok(())
}

fn failover(cluster: &Cluster) -> Result<()> {
    let before = cluster.settle()?;
    let done = cluster.ctl(&["perform", "failover", "--formation", "default"])?.ok()?.within(PROMPT)?;
    // The command prints the notifications that it waited for.
    ensure!(done.stdout.contains("prepare_promotion"), "it printed no states: {done}");
    let after = cluster.settle()?;
    ensure!(after != before, "{before} is still the primary");
    Ok(())
}

fn promotion(cluster: &Cluster) -> Result<()> {
    cluster.settle()?;
    let standby = cluster.standby()?;
    cluster.node(&standby)?.ctl(cluster.lab, &["perform", "promotion"])?.ok()?.within(PROMPT)?;
    ensure_eq!(cluster.settle()?, standby, "the primary");
    let other = cluster.standby()?;
    cluster
        .ctl(&["perform", "promotion", "--formation", "default", "--name", &other])?
        .ok()?
        .within(PROMPT)?;
    ensure_eq!(cluster.settle()?, other, "the primary");
    // Promoting the primary does nothing.
    cluster.ctl(&["perform", "promotion", "--name", &other])?.ok()?.within(PROMPT)?;
    ensure_eq!(cluster.settle()?, other, "the primary");
    Ok(())
}

fn standby_maintenance(cluster: &Cluster) -> Result<()> {
    let primary = cluster.settle()?;
    let standby = cluster.standby()?;
    // With one standby left, number_sync_standbys 1 would block writes: allow none.
    cluster.node(&primary)?.ctl(cluster.lab, &["set", "formation", "number-sync-standbys", "0"])?.ok()?;
    cluster.settle()?;
    let node = cluster.node(&standby)?;
    node.ctl(cluster.lab, &["enable", "maintenance"])?.ok()?.within(PROMPT)?;
    cluster.wait_state(&standby, "maintenance")?;
    node.ctl(cluster.lab, &["disable", "maintenance"])?.ok()?.within(PROMPT)?;
    ensure_eq!(cluster.settle()?, primary, "the primary");
    Ok(())
}

fn primary_maintenance(cluster: &Cluster) -> Result<()> {
    let primary = cluster.settle()?;
    let node = cluster.node(&primary)?;
    let refused = node.ctl(cluster.lab, &["enable", "maintenance"])?;
    ensure!(refused.code != 0, "a primary needs --allow-failover: {refused}");
    node.ctl(cluster.lab, &["enable", "maintenance", "--allow-failover"])?.ok()?.within(PROMPT)?;
    cluster.wait_state(&primary, "maintenance")?;
    let successor = wait_for("another primary", PROMPT, || {
        let now = cluster.primary()?;
        Ok((now != primary).then_some(now))
    })?;
    node.ctl(cluster.lab, &["disable", "maintenance"])?.ok()?.within(PROMPT)?;
    ensure_eq!(cluster.settle()?, successor, "the primary");
    cluster.node(&successor)?.ctl(cluster.lab, &["set", "formation", "number-sync-standbys", "1"])?.ok()?;
    cluster.settle()?;
    Ok(())
}

fn formations(cluster: &Cluster) -> Result<()> {
    let last = cluster.monitors.len() - 1;
    let (one, other) = (cluster.monitors.uri(0), cluster.monitors.uri(last));
    let create = ["create", "formation", "--formation", "f2", "--kind", "pgsql", "--dbname", "db2"];
    let create = [&create[..], &["--enable-secondary", "--number-sync-standbys", "0"]].concat();
    cluster.ctl_at(&other, &create)?.ok()?;
    let twice = cluster.ctl_at(&one, &create)?;
    ensure!(twice.code != 0, "a second formation f2: {twice}");
    let settings = cluster.ctl_at(&one, &["show", "settings", "--formation", "f2"])?.ok()?;
    ensure!(settings.stdout.contains("number_sync_standbys"), "{settings}");
    for (function, answer) in [("disable_secondary", "f"), ("enable_secondary", "t")] {
        sql::query(&other, &format!("SELECT * FROM pgautofailover.{function}('f2')"))?;
        let now =
            sql::value(&one, "SELECT opt_secondary FROM pgautofailover.formation WHERE formationid = 'f2'")?;
        ensure_eq!(now, answer, "opt_secondary after {function}");
    }
    cluster.ctl_at(&one, &["drop", "formation", "--formation", "f2"])?.ok()?;
    let gone =
        sql::query(&other, "SELECT formationid FROM pgautofailover.formation WHERE formationid = 'f2'")?;
    ensure!(gone.is_empty(), "f2 is still there");
    let in_use = cluster.ctl_at(&one, &["drop", "formation", "--formation", "default"])?;
    ensure!(in_use.code != 0, "a formation with nodes was dropped: {in_use}");
    Ok(())
}

fn nonexistent(cluster: &Cluster) -> Result<()> {
    for i in 0..cluster.monitors.len() {
        let uri = cluster.monitors.uri(i);
        cluster.ctl_at(&uri, &["show", "state", "--formation", "nope"])?.exits(0)?;
        cluster.ctl_at(&uri, &["perform", "switchover", "--formation", "nope"])?.exits(3)?;
        cluster.ctl_at(&uri, &["drop", "node", "--name", "nosuch"])?.exits(6)?;
        cluster.ctl_at(&uri, &["drop", "node", "--hostname", "127.0.0.1", "--pgport", "9"])?.exits(6)?;
    }
    Ok(())
}

fn drop_node(cluster: &mut Cluster) -> Result<()> {
    let primary = cluster.settle()?;
    let standby = cluster.standby()?;
    cluster.ctl(&["drop", "node", "--formation", "default", "--name", &standby])?.ok()?.within(PROMPT)?;
    let status = cluster.node(&standby)?.process()?.wait(Duration::from_secs(30))?;
    // Here 2.0 exits with 0; its sources promise 121 to whoever restarts it.
    ensure!(matches!(status.code(), Some(0 | 121)), "the dropped keeper ended with {status}");
    cluster.nodes.retain(|n| n.name != standby);
    ensure_eq!(cluster.settle()?, primary, "the primary");
    Ok(())
}

fn drop_forced(cluster: &mut Cluster) -> Result<()> {
    let primary = cluster.settle()?;
    let standby = cluster.standby()?;
    let id = cluster.row(&standby)?.id;
    cluster.node_mut(&standby)?.kill()?;
    let port = cluster.node(&standby)?.port.to_string();
    cluster
        .ctl(&["drop", "node", "--hostname", "127.0.0.1", "--pgport", &port, "--force"])?
        .ok()?
        .within(PROMPT)?;
    if cluster.rows()?.iter().any(|r| r.id == id) {
        bail!("node {id} is still there");
    }
    cluster.wait_state(&primary, "single")?;
    cluster.node(&primary)?.writable().context("the last node")?.then_some(()).context("it takes no writes")
}
