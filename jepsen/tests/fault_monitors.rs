//! Stock nodes on our monitors while monitors die, hang and return. A client writes all the while,
//! and none of its acknowledged rows may be lost.

use std::thread::{scope, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jepsen::wait::wait_for;
use jepsen::{Cluster, Kind, Lab, Monitors, Result, Steps, bail, ensure, ensure_eq, requirements, sql};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn pgquorum() {
    run("faults", Kind::Pgquorum);
}

#[test]
#[ignore = "the reference: what of this a stock monitor survives"]
fn stock() {
    run("faults-stock", Kind::Stock);
}

fn run(name: &str, kind: Kind) {
    if requirements::met(name, kind.requirements()) {
        Lab::run(name, |lab| body(lab, kind));
    }
}

fn body(lab: &Lab, kind: Kind) -> Result<()> {
    let mut cluster = Cluster::start(lab, kind, 3)?;
    let mut steps = Steps::new();
    if kind == Kind::Pgquorum {
        for offset in [0, 100, 300, 700, 1500] {
            let what = format!("leader killed {offset} ms into a switchover");
            check(&mut steps, &mut cluster, &what, |cluster| {
                leader_killed_in_switchover(cluster, Duration::from_millis(offset))
            })?;
        }
        check(&mut steps, &mut cluster, "leader hangs", leader_hangs)?;
        check(&mut steps, &mut cluster, "rolling restart", rolling_restart)?;
        check(&mut steps, &mut cluster, "two of three killed", two_killed)?;
    }
    check(&mut steps, &mut cluster, "all monitors killed and restarted", all_killed)?;
    cluster.tighten()?;
    check(&mut steps, &mut cluster, "primary killed", primary_killed)?;
    if kind == Kind::Pgquorum {
        check(
            &mut steps,
            &mut cluster,
            "leader and primary killed in one instant",
            leader_and_primary_killed,
        )?;
    }
    steps.verdict()
}

/// Runs one check under a writer, brings everything back and verifies the writer's rows.
fn check(
    steps: &mut Steps,
    cluster: &mut Cluster,
    what: &str,
    fault: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<()> {
    let mut broken = None;
    steps.run(
        what,
        || Ok(()),
        || {
            cluster.settle()?;
            let writer = cluster.writer()?;
            let fault = fault(cluster);
            let revived = cluster.revive();
            let settled = cluster.settle();
            let report = writer.finish(&cluster.app_uri())?;
            eprintln!("    {report}");
            if settled.is_err() {
                broken = Some(());
            }
            fault?;
            revived?;
            settled?;
            report.check()
        },
    )?;
    if broken.is_some() {
        steps.verdict()?;
    }
    Ok(())
}

fn leader_killed_in_switchover(cluster: &mut Cluster, offset: Duration) -> Result<()> {
    let before = cluster.primary()?;
    let leader = cluster.monitors.leader()?;
    let (lab, uri) = (cluster.lab, cluster.monitors.uri_all());
    let done = scope(|scope| {
        let switchover = scope.spawn(move || {
            let mut command = lab.command("pg_autoctl");
            command.args(["perform", "switchover", "--monitor", &uri]);
            jepsen::command::run(command, Duration::from_secs(90))
        });
        // Not synchronisation: this is the point in time that the fault is to hit.
        sleep(offset);
        cluster.monitors.kill(leader)?;
        match switchover.join() {
            Ok(done) => done,
            Err(_) => bail!("the thread panicked"),
        }
    })?;
    let after = cluster.settle()?;
    eprintln!(
        "    {before} -> {after}, pg_autoctl exited {} after {:.1} s",
        done.code,
        done.took.as_secs_f64()
    );
    // Told that it is done, it must be done; told otherwise, either is right.
    ensure!(done.code != 0 || after != before, "{before} is still the primary: {done}");
    Ok(())
}

fn leader_hangs(cluster: &mut Cluster) -> Result<()> {
    let old = hang_leader(cluster)?;
    let outcome = (|| {
        let new = cluster.monitors.leader()?;
        ensure!(new != old, "monitor {old} hangs and leads");
        let before = cluster.settle()?;
        // Each of a stock keeper's connections first waits 2 s for the monitor that hangs, if that one stands
        // before the leader in its URI: a switchover may take longer than the 60 s that pg_autoctl waits.
        let done = cluster.ctl_at(&cluster.monitors.uri(new), &["perform", "switchover"])?;
        eprintln!("    pg_autoctl exited {} after {:.1} s", done.code, done.took.as_secs_f64());
        ensure!(cluster.settle()? != before, "{before} is still the primary");
        Ok(())
    })();
    let last_event = sql::value(&cluster.monitors.uri_all(), "SELECT max(eventid) FROM pgautofailover.event");
    cluster.monitors.resume(old)?;
    outcome?;
    // It must not go on where it stopped: it follows, and knows what happened meanwhile.
    cluster.monitors.serving(old)?;
    let known = sql::value(&cluster.monitors.uri(old), "SELECT max(eventid) FROM pgautofailover.event")?;
    ensure!(known.parse::<i64>()? >= last_event?.parse::<i64>()?, "monitor {old} forgot events");
    ensure_eq!(leaders(cluster.monitors.as_ref())?, 1, "monitors that lead");
    Ok(())
}

/// Stops the leader at a moment when no keeper has asked it something: 2.0 waits for an answer for ever,
/// and a monitor cannot mend that from the outside.
fn hang_leader(cluster: &mut Cluster) -> Result<usize> {
    for _ in 0..5 {
        let old = cluster.monitors.leader()?;
        cluster.monitors.pause(old)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let reported = wait_for("every keeper to report to another monitor", Duration::from_secs(15), || {
            let sql = format!(
                "SELECT count(*) FROM pgautofailover.node WHERE extract(epoch FROM reporttime) < {}",
                since.as_secs() + 1
            );
            Ok((sql::value(&cluster.monitors.uri(cluster.monitors.leader()?), &sql)? == "0").then_some(()))
        });
        if reported.is_ok() {
            return Ok(old);
        }
        eprintln!("    a keeper waits for the answer of monitor {old}: again");
        cluster.monitors.resume(old)?;
        cluster.settle()?;
    }
    bail!("five times a keeper was waiting for the answer of the monitor that was stopped")
}

/// How many monitors say that they take writes.
fn leaders(monitors: &dyn Monitors) -> Result<usize> {
    let mut count = 0;
    for i in 0..monitors.len() {
        if sql::value(&monitors.uri(i), "SHOW transaction_read_only")? == "off" {
            count += 1;
        }
    }
    Ok(count)
}

fn rolling_restart(cluster: &mut Cluster) -> Result<()> {
    for i in 0..cluster.monitors.len() {
        cluster.monitors.stop(i)?;
        cluster.monitors.leader()?;
        cluster.monitors.restart(i)?;
        cluster.monitors.serving(i)?;
    }
    let before = cluster.settle()?;
    cluster.ctl(&["perform", "switchover"])?.ok()?;
    ensure!(cluster.settle()? != before, "{before} is still the primary");
    Ok(())
}

fn two_killed(cluster: &mut Cluster) -> Result<()> {
    let before = cluster.rows()?;
    let events = "SELECT max(eventid) FROM pgautofailover.event";
    let last = sql::value(&cluster.monitors.uri_all(), events)?;
    let leader = cluster.monitors.leader()?;
    let survivor = cluster.monitors.follower()?;
    let other = 3 - leader - survivor;
    cluster.monitors.kill(leader)?;
    cluster.monitors.kill(other)?;
    // It refuses sessions as soon as it knows that nobody leads.
    let uri = cluster.monitors.uri(survivor);
    let refused = jepsen::wait::wait_for("the last monitor to refuse", PATIENCE, || {
        match sql::try_query(&uri, "SELECT pgautofailover.perform_failover('default', 0)", PATIENCE)? {
            Err(error) => Ok(Some(error)),
            Ok(_) => bail!("it took a decision alone"),
        }
    })?;
    eprintln!("    the last monitor: {refused}");
    let code = refused.code();
    ensure!(matches!(code, Some("57P03" | "40001" | "08006" | "25006")), "it answered {refused}");
    // PostgreSQL serves on, longer than a keeper's network_partition_timeout of 20 s.
    let writer = cluster.writer()?;
    let until = Instant::now() + Duration::from_secs(25);
    while Instant::now() < until {
        writer.wait_acknowledged(100, Duration::from_secs(10))?;
    }
    let report = writer.finish(&cluster.app_uri())?;
    report.check()?;
    ensure!(report.servers.len() == 1, "the primary changed without a majority: {report}");
    // One returns, and everything goes on.
    cluster.monitors.restart(other)?;
    cluster.monitors.serving(survivor)?;
    let after = cluster.rows()?;
    let goals = |rows: &[jepsen::cluster::NodeRow]| -> Vec<_> {
        rows.iter().map(|r| (r.id, r.goal.clone())).collect()
    };
    ensure_eq!(goals(&after), goals(&before), "goals after the time without a majority");
    let now = sql::value(&cluster.monitors.uri_all(), events)?;
    ensure!(now.parse::<i64>()? >= last.parse::<i64>()?, "events are forgotten");
    let primary = cluster.settle()?;
    cluster.ctl(&["perform", "switchover"])?.ok()?;
    ensure!(cluster.settle()? != primary, "{primary} is still the primary");
    Ok(())
}

fn all_killed(cluster: &mut Cluster) -> Result<()> {
    let before = cluster.rows()?;
    let settings = cluster.ctl(&["show", "settings", "--json"])?.ok()?.json()?;
    for i in 0..cluster.monitors.len() {
        cluster.monitors.kill(i)?;
    }
    let writer = cluster.writer()?;
    writer.wait_acknowledged(300, PATIENCE)?;
    cluster.monitors.revive()?;
    let ids = |rows: &[jepsen::cluster::NodeRow]| -> Vec<_> {
        rows.iter().map(|r| (r.id, r.name.clone())).collect()
    };
    ensure_eq!(ids(&cluster.rows()?), ids(&before), "nodes");
    ensure_eq!(cluster.ctl(&["show", "settings", "--json"])?.ok()?.json()?, settings, "settings");
    cluster.settle()?;
    let report = writer.finish(&cluster.app_uri())?;
    report.check()?;
    ensure!(report.servers.len() == 1, "monitors came back and the primary changed: {report}");
    Ok(())
}

fn primary_killed(cluster: &mut Cluster) -> Result<()> {
    failover(cluster, |cluster, primary| cluster.node_mut(primary)?.kill())
}

fn leader_and_primary_killed(cluster: &mut Cluster) -> Result<()> {
    let leader = cluster.monitors.leader()?;
    failover(cluster, |cluster, primary| {
        // One after the other, milliseconds apart: nothing else can happen in between.
        cluster.monitors.kill(leader)?;
        cluster.node_mut(primary)?.kill()
    })
}

/// Kills with `fault`, and measures the time to writes elsewhere.
fn failover(cluster: &mut Cluster, fault: impl FnOnce(&mut Cluster, &str) -> Result<()>) -> Result<()> {
    let primary = cluster.settle()?;
    let port = cluster.node(&primary)?.port;
    let writer = cluster.writer()?;
    fault(cluster, &primary)?;
    let moved = cluster.explained(writer.wait_moved(port, PATIENCE));
    let report = writer.finish(&cluster.app_uri())?;
    eprintln!("    {report}");
    moved?;
    report.check()
}
