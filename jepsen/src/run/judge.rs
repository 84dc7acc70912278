//! All checkers over everything that a run has left.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Outcome, Plan};
use crate::check::recovery::FaultRecord;
use crate::check::replicas::Sample;
use crate::check::set::Readings;
use crate::check::{append, bank, linear, primaries, recovery, registers, replicas, set};
use crate::faults::Kind;
use crate::history::{self, Event, Op};
use crate::load::{monitors, pinned, postgres};

/// What is known beside the history.
pub struct Evidence {
    pub faults: Vec<FaultRecord>,
    pub recovered: Result<Duration, String>,
    /// What registers held in the beginning.
    pub registers: BTreeMap<String, i64>,
    pub logs: Vec<(String, String)>,
    pub samples: Vec<Sample>,
    /// The event log of each monitor at the end.
    pub read_logs: Vec<(String, Vec<(i64, String)>)>,
}

pub fn judge(plan: &Plan, events: &[Event], evidence: &Evidence) -> Outcome {
    let of = |workload: &str| history::operations(events, workload);
    let (elements, probes) = (of(postgres::SET), of(pinned::PINNED));
    let mut reports = vec![
        set::check("set", &elements, Readings::OnlyLast),
        primaries::one_primary(&probes),
        primaries::stale_window(&probes, stale_bound(plan, &evidence.faults)),
    ];
    if plan.workloads.transactions {
        reports.push(append::check("list-append", &of(postgres::APPEND), &append::POSTGRES));
        let total = postgres::BALANCE * postgres::ACCOUNTS as i64;
        reports.push(bank::check(&of(postgres::BANK), postgres::ACCOUNTS, total));
    }
    if plan.workloads.monitors {
        reports.push(registers::check(
            &of(monitors::REGISTERS),
            &evidence.registers,
            linear::Caps::default(),
        ));
        reports.push(set::same_log("event logs", &evidence.read_logs));
        reports.push(event_set(of(monitors::EVENTS), evidence));
        reports.push(replicas::check(&evidence.samples));
        reports.push(replicas::same_at_rest(&at_rest(&evidence.samples)));
    }
    reports.push(recovery::recovery(evidence.recovered.clone(), plan.recovery));
    let wanted: Vec<String> = plan.wanted.iter().map(|kind| kind.name()).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let visited: Vec<String> =
        evidence.samples.iter().flat_map(|s| s.goals.iter().map(|goal| goal.goal.clone())).collect();
    // A run that is to make failovers must have made one.
    let states: &[&str] = if plan.workloads.monitors && changes_primary(plan) {
        &["primary", "secondary", "wait_primary", "report_lsn"]
    } else {
        &[]
    };
    reports.push(recovery::coverage(&wanted, &evidence.faults, states, &visited));
    let logs = evidence.logs.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    reports.push(recovery::logs(logs, &recovery::sick(&evidence.faults)));
    let timelines: Vec<i64> = probes
        .iter()
        .filter(|op| op.f == "write")
        .filter_map(|op| op.ok()?.get(0).and_then(Value::as_i64))
        .collect();
    let failovers = timelines.iter().max().unwrap_or(&0) - timelines.iter().min().unwrap_or(&0);
    Outcome {
        outages: primaries::outages(&elements, Duration::from_millis(100)),
        acknowledged: elements.iter().filter(|op| op.f == "add" && op.ok().is_some()).count(),
        lost: lost(&elements).len(),
        deposed: primaries::deposed(&probes).0,
        failovers,
        at_rest: 0.0,
        faults: evidence.faults.clone(),
        reports,
    }
}

fn changes_primary(plan: &Plan) -> bool {
    use Kind::*;
    plan.wanted
        .iter()
        .any(|k| matches!(k, KillPrimary | KillBoth | IsolatePrimary | PausePrimary | PowerPrimary))
}

/// A machine that was frozen as a whole can show old data when it goes on, however old; and where clocks
/// run at half speed, what is counted lasts twice as long.
fn stale_bound(plan: &Plan, faults: &[FaultRecord]) -> Duration {
    let pauses = faults.iter().filter(|f| f.kind == "pause-primary" || f.kind == "hung-disk");
    let pause = Duration::from_nanos(pauses.map(|f| f.until - f.from).max().unwrap_or(0));
    let slow = if faults.iter().any(|f| f.kind == "clock-rate") { 2 } else { 1 };
    plan.stale * slow + pause
}

/// Elements of the set that were acknowledged and that the last reading does not have.
pub fn lost(ops: &[Op]) -> HashSet<i64> {
    let Some(Value::Array(last)) = ops.iter().filter(|op| op.f == "read").filter_map(Op::ok).next_back()
    else {
        return HashSet::new();
    };
    let there: HashSet<i64> = last.iter().filter_map(Value::as_i64).collect();
    let acknowledged = ops.iter().filter(|op| op.f == "add" && op.ok().is_some());
    acknowledged.filter_map(|op| op.input.as_i64()).filter(|n| !there.contains(n)).collect()
}

/// Each monitor's log at the end is a reading of the set of events.
fn event_set(mut ops: Vec<Op>, evidence: &Evidence) -> crate::check::Report {
    for (monitor, log) in &evidence.read_logs {
        ops.push(Op {
            process: u32::MAX,
            f: "read".to_owned(),
            input: Value::Null,
            start: u64::MAX - 1,
            end: u64::MAX,
            outcome: history::Outcome::Ok(json!(monitors::elements(log))),
            server: Some(monitor.clone()),
        });
    }
    set::check("events", &ops, Readings::Linearizable)
}

/// The last sample of each replica.
fn at_rest(samples: &[Sample]) -> Vec<Sample> {
    let mut last: BTreeMap<&str, &Sample> = BTreeMap::new();
    for sample in samples {
        last.insert(&sample.replica, sample);
    }
    last.into_values().cloned().collect()
}
