//! One run: a system, clients, faults, and what the checkers say of it all.

pub mod judge;
pub mod timeline;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::check::recovery::FaultRecord;
use crate::check::{Report, Verdict};
use crate::disk::Disks;
use crate::faults::features::{Feature, Missing};
use crate::faults::{Entry, Kind, Nemesis, clock};
use crate::history::Recorder;
use crate::load::{Bench, Load, monitors, pinned, postgres};
use crate::net::Network;
use crate::system::{Site, System, Tempo, Which};
use crate::wait::wait_for;
use crate::{Context, Lab, Result};

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub which: Which,
    pub tempo: Tempo,
    pub seed: u64,
    pub schedule: Vec<Entry>,
    /// Kinds that must have taken effect, or the verdict is unknown.
    pub wanted: Vec<Kind>,
    /// How long the clients work at least.
    pub length: Duration,
    /// How soon after the last heal everything must be at rest.
    pub recovery: Duration,
    /// How long a deposed primary may show old data.
    pub stale: Duration,
    pub workloads: Workloads,
    /// Clients take a cancelled wait for an acknowledgement: a run with it must fail.
    pub ignore_notices: bool,
}

/// Which clients work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workloads {
    pub transactions: bool,
    pub monitors: bool,
    /// Clients of the monitors work as fast as they can: more entries than an idle log has.
    pub hurry: bool,
}

/// What came of it.
pub struct Outcome {
    pub reports: Vec<Report>,
    pub faults: Vec<FaultRecord>,
    /// Times without acknowledged writes, in nanoseconds since the beginning.
    pub outages: Vec<(u64, u64)>,
    /// CPU of all machines before the clients began, in per cent of one core.
    pub at_rest: f64,
    pub acknowledged: usize,
    pub lost: usize,
    pub deposed: u64,
    pub failovers: i64,
}

impl Outcome {
    pub fn passed(&self) -> bool {
        self.reports.iter().all(Report::valid)
    }

    /// An invalid verdict, as opposed to one that is merely not known.
    pub fn failed(&self) -> bool {
        self.reports.iter().any(|r| matches!(r.verdict, Verdict::Invalid(_)))
    }
}

/// How long a deposed primary of ours that is not frozen may show old data. It stops when its lease has
/// run out and too few standbys have replied within 2 s, which it looks at twice a second; 0.1 s for the
/// stop, 0.1 s for clocks that run apart (decision 0005).
pub const STALE: Duration = Duration::from_millis(2_700);

/// What others promise: nothing. The longest of their timeouts.
pub const STALE_OF_OTHERS: Duration = Duration::from_secs(40);

/// Set by Ctrl-C: runs end early, and heal.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Runs `plan` in a lab and leaves everything about it in `out`.
pub fn run(lab: &Lab, plan: &Plan, out: &Path) -> Result<Outcome> {
    run_with(lab, plan, out, |_, _| Ok(()))
}

/// Like [`run`], with faults of a script instead of a schedule.
pub fn run_with(
    lab: &Lab,
    plan: &Plan,
    out: &Path,
    script: impl FnOnce(&mut Nemesis, &Bench) -> Result<()>,
) -> Result<Outcome> {
    fs::create_dir_all(out).context(format!("create {}", out.display()))?;
    fs::write(out.join("schedule.json"), serde_json::to_string_pretty(&plan.schedule)?)?;
    let (monitors, servers) = plan.which.machines();
    let machines = [monitors, servers].concat();
    let network = Network::start(lab, &machines, plan.seed)?;
    let missing = Missing::probe(&plan.wanted);
    let disks = match missing.wants(&plan.wanted, Feature::Disks) {
        true => Some(Disks::start(lab, &machines)?),
        false => None,
    };
    if missing.wants(&plan.wanted, Feature::Clocks) {
        for machine in &machines {
            clock::enable(lab, machine, plan.wanted.contains(&Kind::ClockJump))?;
        }
    }
    let begun = Instant::now();
    let site = Site { lab, network: &network, disks: disks.as_ref() };
    let system = plan.which.start(site, plan.tempo)?;
    eprintln!("{} is up after {:.1} s", plan.which.name(), begun.elapsed().as_secs_f64());
    let outcome = drive(system.as_ref(), plan, missing, out, script);
    keep_logs(lab, out);
    // Nothing must hold a file when the disks go.
    for machine in network.machines() {
        if let Err(error) = machine.kill() {
            eprintln!("{error}");
        }
    }
    outcome
}

/// Logs of processes, and of PostgreSQL where it has its own.
fn keep_logs(lab: &Lab, out: &Path) {
    let to = out.join("log");
    // Those of an earlier run would be taken for ours.
    _ = fs::remove_dir_all(&to);
    _ = fs::create_dir_all(&to);
    let copy = |from: PathBuf, name: String| _ = fs::copy(from, to.join(name));
    for entry in fs::read_dir(lab.path("log")).into_iter().flatten().flatten() {
        copy(entry.path(), entry.file_name().to_string_lossy().into_owned());
    }
    for server in ["n1", "n2", "n3"] {
        let dir = lab.path(server).join("pg");
        copy(dir.join("startup.log"), format!("{server}-startup.log"));
        for entry in fs::read_dir(dir.join("log")).into_iter().flatten().flatten() {
            copy(entry.path(), format!("{server}-{}", entry.file_name().to_string_lossy()));
        }
    }
}

fn drive(
    system: &dyn System,
    plan: &Plan,
    missing: Missing,
    out: &Path,
    script: impl FnOnce(&mut Nemesis, &Bench) -> Result<()>,
) -> Result<Outcome> {
    let primary = system.settle(Duration::from_secs(60))?;
    postgres::make_tables(&system.app_uri(&primary)?)?;
    let at_rest = rest_cpu(system, Duration::from_secs(5));
    let recorder = Recorder::new();
    let mut bench = Bench::new(system, recorder.clone())?;
    bench.ignore_notices = plan.ignore_notices;
    let mut load = Load::start(bench.clone())?;
    let registers = start_clients(&mut load, system, plan)?;
    let begun = recorder.now();
    let mut nemesis = Nemesis::new(system, bench.clone(), missing);
    let go_on = || !INTERRUPTED.load(Ordering::Relaxed);
    let scripted = nemesis.run(&plan.schedule, go_on).and_then(|()| script(&mut nemesis, &bench));
    let healed = nemesis.heal_all();
    system.site().network.heal();
    nemesis.revive()?;
    let quiet = Instant::now();
    // Clients go on during the recovery: it must happen under load.
    let mut rested = system.settle(plan.recovery).map(|_| quiet.elapsed()).map_err(|error| error.to_string());
    if let Err(error) = scripted.and(healed) {
        rested = Err(error.to_string());
    }
    while recorder.now() < begun + plan.length && go_on() && rested.is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
    // The samplers must see the rest, too.
    std::thread::sleep(Duration::from_secs(2));
    load.stop();
    let mut evidence = judge::Evidence {
        faults: nemesis.records().to_vec(),
        recovered: rested,
        registers,
        logs: Vec::new(),
        samples: Vec::new(),
        read_logs: Vec::new(),
    };
    // What holds in the end is read when everybody is at rest; a system that does not come to rest is
    // asked all the same.
    if evidence.recovered.is_ok() {
        _ = system.settle(Duration::from_secs(30));
    }
    _ = wait_for("a last reading of the set", Duration::from_secs(20), || {
        load.block_on(postgres::read_set(&bench)).map_err(crate::Failure::new).map(Some)
    });
    for (name, uri) in bench.monitors.iter().filter(|_| plan.workloads.monitors) {
        if let Ok(log) = load.block_on(monitors::read_log(uri)) {
            evidence.read_logs.push((name.clone(), log));
        }
    }
    evidence.samples = bench.samples.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    for entry in fs::read_dir(system.site().lab.path("log"))?.flatten() {
        let text = String::from_utf8_lossy(&fs::read(entry.path())?).into_owned();
        evidence.logs.push((entry.file_name().to_string_lossy().into_owned(), text));
    }
    recorder.save(&out.join("history.jsonl"))?;
    let events = recorder.events();
    let mut outcome = judge::judge(plan, &events, &evidence);
    outcome.at_rest = at_rest;
    save(plan, out, &outcome, &evidence)?;
    let picture = timeline::draw(plan, &events, &evidence, &outcome);
    fs::write(out.join("timeline.svg"), picture)?;
    Ok(outcome)
}

/// CPU of all machines, in per cent of one core.
fn rest_cpu(system: &dyn System, time: Duration) -> f64 {
    let machines = system.site().network.machines();
    let pids: Vec<i32> = machines.iter().flat_map(crate::net::Machine::pids).collect();
    let cpu = crate::bench::usage::Cpu::start(&pids);
    std::thread::sleep(time);
    cpu.percent()
}

fn start_clients(
    load: &mut Load,
    system: &dyn System,
    plan: &Plan,
) -> Result<std::collections::BTreeMap<String, i64>> {
    let seed = plan.seed;
    for _ in 0..2 {
        load.spawn(|bench| postgres::add_to_set(bench, 15));
    }
    for (server, uri) in load.bench.servers.iter().cloned().collect::<Vec<_>>() {
        let again = (server.clone(), uri.clone());
        load.spawn(|bench| pinned::write(bench, server, uri, 60));
        load.spawn(|bench| pinned::read(bench, again.0, again.1, 60));
    }
    if plan.workloads.transactions {
        for i in 0..3 {
            load.spawn(|bench| postgres::append_to_lists(bench, 40, seed ^ (100 + i)));
        }
        for i in 0..2 {
            load.spawn(|bench| postgres::bank(bench, 60, seed ^ (200 + i)));
        }
    }
    let mut registers = std::collections::BTreeMap::new();
    if plan.workloads.monitors {
        let all: Arc<Vec<(String, String)>> = Arc::clone(&load.bench.monitors);
        let leader = system.leader()?.context("no monitor leads")?;
        let uri = system.monitor_uri(&leader).context("monitors speak no SQL")?;
        registers = monitors::make_registers(&uri)?;
        let values = monitors::Values::new();
        let (register, event) = if plan.workloads.hurry { (5, 10) } else { (80, 400) };
        for (turn, (monitor, uri)) in all.iter().cloned().enumerate() {
            let turn = turn as i64;
            for i in 0..2 {
                let (monitor, uri, values) = (monitor.clone(), uri.clone(), values.clone());
                let seed = seed ^ (300 + 10 * turn as u64 + i);
                load.spawn(|bench| monitors::registers(bench, monitor, uri, register, seed, values));
            }
            let (name, at) = (monitor.clone(), uri.clone());
            let of = all.len() as i64;
            load.spawn(move |bench| monitors::events(bench, name, at, event, turn, of));
            load.spawn(|bench| monitors::sample(bench, monitor, uri, 200));
        }
    }
    Ok(registers)
}

fn save(plan: &Plan, out: &Path, outcome: &Outcome, evidence: &judge::Evidence) -> Result<()> {
    let mut text = format!("system {}, seed {}\n", plan.which.name(), plan.seed);
    for report in &outcome.reports {
        text.push_str(&format!("{report}\n"));
    }
    fs::write(out.join("verdict.txt"), text)?;
    fs::write(out.join("faults.json"), serde_json::to_string_pretty(&evidence.faults)?)?;
    let samples: String =
        evidence.samples.iter().filter_map(|s| serde_json::to_string(s).ok()).map(|s| s + "\n").collect();
    fs::write(out.join("samples.jsonl"), samples).context("write samples")
}
