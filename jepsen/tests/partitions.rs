//! Our monitors and nodes on machines of their own, cut off from each other in every way that matters.

use std::time::{Duration, Instant};

use jepsen::net::Network;
use jepsen::system::{Ours, Site, System, Tempo, Which};
use jepsen::wait::wait_for;
use jepsen::{Lab, Result, Steps, bail, ensure, ensure_eq, requirements, sql};

/// For an election, with a machine that others share.
const ELECTION: Duration = Duration::from_secs(60);
const FAILOVER: &str = "SELECT pgautofailover.perform_failover('default', 0)";
const NODES: &str =
    "SELECT nodeid, goalstate FROM pgautofailover.node WHERE formationid = 'default' ORDER BY nodeid";

#[test]
fn monitors_and_nodes_cut_off_from_each_other() {
    let name = "partitions";
    if !requirements::met_with_network(name, Which::Pgquorum.requirements()) {
        return;
    }
    Lab::run(name, |lab| {
        let (monitors, servers) = Which::Pgquorum.machines();
        let network = Network::start(lab, &[monitors, servers.clone()].concat(), 1)?;
        let ours = Ours::start(Site { lab, network: &network, disks: None }, Tempo::Tight, &servers)?;
        let mut steps = Steps::new();
        let mut check = |what: &str, body: fn(&Ours, &Network) -> Result<()>| {
            let healed = || {
                network.heal();
                ours.settle(Duration::from_secs(60)).map(drop)
            };
            steps.run(what, healed, || {
                body(&ours, &network)?;
                healed()
            })
        };
        check("leader cut off from the other monitors", leader_alone)?;
        check("nothing of the leader reaches the others", leader_unheard)?;
        check("nothing of the others reaches the leader", leader_deaf)?;
        check("the monitors' own port alone is cut", replica_port)?;
        check("leader and primary together in the minority", leader_with_primary)?;
        steps.verdict()
    });
}

fn others<'a>(ours: &Ours, leader: &str) -> Vec<&'a str> {
    ours.monitors().into_iter().filter(|m| *m != leader).collect()
}

fn leader(ours: &Ours) -> Result<String> {
    wait_for("a leading monitor", ELECTION, || ours.leader())
}

fn uri(ours: &Ours, monitor: &str) -> String {
    ours.monitor_uri(monitor).unwrap_or_default()
}

/// One of `monitors` leads and decides: it starts a failover and the group comes to rest elsewhere.
fn majority_decides(ours: &Ours, monitors: &[&str]) -> Result<String> {
    let begun = Instant::now();
    let leads = wait_for("a leader of the majority", ELECTION, || {
        for monitor in monitors {
            let answer =
                sql::try_query(&uri(ours, monitor), "SHOW transaction_read_only", Duration::from_secs(1))?;
            if answer.is_ok_and(|rows| rows == [[Some("off".to_owned())]]) {
                return Ok(Some((*monitor).to_owned()));
            }
        }
        Ok(None)
    })?;
    eprintln!("    {leads} leads after {:.1} s", begun.elapsed().as_secs_f64());
    sql::query(&uri(ours, &leads), FAILOVER)?;
    Ok(leads)
}

/// A monitor that cannot prove that it leads takes no decision and shows no state as the present one.
fn refuses(ours: &Ours, monitor: &str) -> Result<()> {
    for text in [FAILOVER, NODES] {
        match sql::try_query(&uri(ours, monitor), text, Duration::from_secs(20))? {
            Err(error) => {
                let known =
                    error.code().is_some_and(|code| ["57P03", "40001", "08006", "25006"].contains(&code));
                ensure!(known, "{monitor} answered `{text}` with {error}");
                eprintln!("    {monitor}: {error}");
            }
            Ok(rows) => bail!("{monitor} is alone and answered `{text}` with {rows:?}"),
        }
    }
    Ok(())
}

/// After the heal all monitors know the same nodes with the same goals.
fn agree(ours: &Ours, network: &Network) -> Result<()> {
    network.heal();
    ours.settle(Duration::from_secs(60))?;
    let mut known = Vec::new();
    for monitor in ours.monitors() {
        known.push(sql::query(&uri(ours, monitor), NODES)?);
    }
    ensure_eq!(known.first(), known.get(1), "two monitors' nodes");
    ensure_eq!(known.first(), known.get(2), "two monitors' nodes");
    Ok(())
}

fn leader_alone(ours: &Ours, network: &Network) -> Result<()> {
    let old = leader(ours)?;
    let before = ours.at_rest()?;
    network.cut(&[&old], &others(ours, &old))?;
    majority_decides(ours, &others(ours, &old))?;
    refuses(ours, &old)?;
    agree(ours, network)?;
    ensure!(ours.at_rest()? != before, "{before} is still the primary");
    Ok(())
}

fn leader_unheard(ours: &Ours, network: &Network) -> Result<()> {
    let old = leader(ours)?;
    network.cut_one_way(&[&old], &others(ours, &old))?;
    majority_decides(ours, &others(ours, &old))?;
    refuses(ours, &old)?;
    agree(ours, network)
}

fn leader_deaf(ours: &Ours, network: &Network) -> Result<()> {
    let old = leader(ours)?;
    network.cut_one_way(&others(ours, &old), &[&old])?;
    majority_decides(ours, &others(ours, &old))?;
    refuses(ours, &old)?;
    agree(ours, network)
}

fn replica_port(ours: &Ours, network: &Network) -> Result<()> {
    let old = leader(ours)?;
    let effect = jepsen::net::switch::Effect { cut_ports: vec![15_000], ..Default::default() };
    for other in others(ours, &old) {
        network.add(&old, other, effect.clone())?;
        network.add(other, &old, effect.clone())?;
    }
    majority_decides(ours, &others(ours, &old))?;
    refuses(ours, &old)?;
    agree(ours, network)
}

fn leader_with_primary(ours: &Ours, network: &Network) -> Result<()> {
    let (old, primary) = (leader(ours)?, ours.at_rest()?);
    let servers: Vec<&str> = ours.servers().into_iter().filter(|s| *s != primary).collect();
    let rest = [others(ours, &old), servers.clone()].concat();
    network.cut(&[&old, &primary], &rest)?;
    // The others elect a leader, which finds the primary silent, seals the standbys and promotes one.
    let begun = Instant::now();
    let new = wait_for("another primary", Duration::from_secs(60), || {
        for server in &servers {
            let answer = sql::try_query(
                &ours.admin_uri(server)?,
                "SHOW transaction_read_only",
                Duration::from_secs(1),
            )?;
            if answer.is_ok_and(|rows| rows == [[Some("off".to_owned())]]) {
                return Ok(Some((*server).to_owned()));
            }
        }
        Ok(None)
    })?;
    eprintln!("    {new} is primary after {:.1} s", begun.elapsed().as_secs_f64());
    agree(ours, network)?;
    ensure_eq!(ours.at_rest()?, new, "the primary after the heal");
    Ok(())
}
