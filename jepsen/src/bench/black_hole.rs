//! A primary behind a black hole: every packet to and from its machine is dropped, and all its processes
//! live. Machines on a network of their own, with the default settings.

use std::time::{Duration, Instant};

use super::failover::{AFTER, BEFORE, Case, Run, outage};
use super::straggler::Verdict;
use crate::net::{HERE, Network};
use crate::system::{Ours, Site, System, Tempo, Which};
use crate::writer::Writer;
use crate::{Context, Lab, Result, ensure};

/// From the beginning of a run, and from its end, to the group's rest.
const REST: Duration = Duration::from_secs(120);

/// So many black holes, one after the other, in a group of two or three nodes.
pub fn measure(runs: usize, nodes: usize) -> Result<Vec<Run>> {
    let lab = &Lab::new("hole")?;
    let (monitors, mut servers) = Which::Pgquorum.machines();
    ensure!((2..=servers.len()).contains(&nodes), "a group behind a black hole has two or three nodes, not {nodes}");
    servers.truncate(nodes);
    let network = Network::start(lab, &[monitors, servers.clone()].concat(), 1)?;
    let system = Ours::start(Site { lab, network: &network, disks: None }, Tempo::Default, &servers)?;
    (0..runs).map(|i| one(&system, &network).context(format!("run {}", i + 1))).collect()
}

fn one(system: &dyn System, network: &Network) -> Result<Run> {
    let primary = system.settle(REST)?;
    let mut hosts = Vec::new();
    for server in system.servers() {
        hosts.push(format!("{}:{}", system.site().address(server)?, system.port(server)?));
    }
    let uri = format!("postgres://postgres@{}/postgres?target_session_attrs=read-write", hosts.join(","));
    let writer = Writer::start_at_once(&uri)?;
    std::thread::sleep(BEFORE);
    let others = [system.monitors(), system.servers(), vec![HERE]].concat();
    let others: Vec<&str> = others.into_iter().filter(|name| *name != primary).collect();
    let failed = Instant::now();
    let rules = network.cut(&[&primary], &others)?;
    let survived = writer.wait_moved(system.port(&primary)?, Duration::from_secs(90));
    for rule in rules {
        network.remove(rule);
    }
    survived.context(Case::BlackHoled.title())?;
    let now = system.settle(REST)?;
    let whole = failed.elapsed();
    std::thread::sleep(AFTER);
    let ops = writer.ops();
    let report = writer.finish(&system.admin_uri(&now)?)?;
    let (outage, lost) = (outage(&ops, failed), report.lost.len());
    // Nobody can ask it anything while it matters.
    let old_primary = Verdict::default();
    eprintln!("{}: {:.3} s; {report}", Case::BlackHoled.name(), outage.as_secs_f64());
    Ok(Run { outage, whole, lost, old_primary, report })
}
