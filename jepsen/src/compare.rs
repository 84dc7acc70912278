//! Several systems under the same faults, clients and checkers: a table and a picture.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::table::Table;
use crate::faults::{Kind, Nemesis};
use crate::run::{self, Outcome, Plan, STALE, STALE_OF_OTHERS, Workloads};
use crate::system::{System, Tempo, Which};
use crate::{Lab, Result, bail, sql};

/// What every system goes through, each as often as asked.
pub const KINDS: [Kind; 3] = [Kind::Switchover, Kind::KillPrimary, Kind::PausePrimary];

/// How long a system may take to have another primary, and to be whole again.
const FAILOVER: Duration = Duration::from_secs(120);
const WHOLE: Duration = Duration::from_secs(240);

/// One system and kind of fault.
pub struct Line {
    pub system: &'static str,
    pub fault: String,
    /// The longest time without an acknowledged write of each run, in seconds, sorted.
    pub outages: Vec<f64>,
}

/// One system.
pub struct Found {
    pub system: &'static str,
    pub lines: Vec<Line>,
    pub acknowledged: usize,
    pub lost: usize,
    pub deposed: u64,
    pub at_rest: f64,
    /// Checkers that found a violation.
    pub violated: Vec<String>,
}

/// Runs the faults against one system.
pub fn measure(which: Which, tempo: Tempo, runs: usize, out: &Path) -> Result<Found> {
    which.requirements()?;
    let plan = Plan {
        which,
        tempo,
        seed: 1,
        schedule: Vec::new(),
        wanted: KINDS.to_vec(),
        length: Duration::from_secs(5),
        recovery: WHOLE,
        stale: if which == Which::Pgquorum { STALE } else { STALE_OF_OTHERS },
        workloads: Workloads { transactions: false, monitors: false, hurry: false },
        ignore_notices: false,
    };
    let lab = Lab::new("compare")?;
    let outcome = run::run_with(&lab, &plan, &out.join(which.name()), |nemesis, _| {
        for kind in KINDS {
            for _ in 0..runs {
                one(nemesis, kind)?;
            }
        }
        Ok(())
    })?;
    Ok(found(which, &outcome))
}

/// A fault that is healed when another server has taken over, and rest before the next one.
fn one(nemesis: &mut Nemesis, kind: Kind) -> Result<()> {
    let before = nemesis.system().settle(WHOLE)?;
    nemesis.sleep(Duration::from_secs(2))?;
    nemesis.hit(kind, 0, WHOLE)?;
    let until = Instant::now() + FAILOVER;
    while !another_writes(nemesis.system(), &before)? {
        if Instant::now() > until {
            bail!("nobody has taken over from {before} within {} s after {}", FAILOVER.as_secs(), kind.name());
        }
        nemesis.sleep(Duration::from_millis(100))?;
    }
    nemesis.sleep(Duration::from_secs(4))?;
    nemesis.heal_all()
}

fn another_writes(system: &dyn System, before: &str) -> Result<bool> {
    for server in system.servers().into_iter().filter(|server| *server != before) {
        let uri = system.admin_uri(server)?;
        let answer = sql::try_query(&uri, "SHOW transaction_read_only", Duration::from_millis(500))?;
        if answer.is_ok_and(|rows| rows == [[Some("off".to_owned())]]) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn found(which: Which, outcome: &Outcome) -> Found {
    let mut faults = outcome.faults.clone();
    faults.sort_by_key(|fault| fault.from);
    let mut lines = Vec::new();
    for kind in KINDS {
        let mut outages = Vec::new();
        for (i, fault) in faults.iter().enumerate().filter(|(_, fault)| fault.kind == kind.name()) {
            let next = faults.get(i + 1).map_or(u64::MAX, |next| next.from);
            let gaps = outcome.outages.iter().filter(|(_, until)| *until > fault.from && *until <= next);
            outages.push(gaps.map(|(from, until)| until - from).max().unwrap_or(0) as f64 / 1e9);
        }
        outages.sort_by(f64::total_cmp);
        lines.push(Line { system: which.name(), fault: kind.name(), outages });
    }
    let violated = outcome.reports.iter().filter(|report| matches!(report.verdict, crate::check::Verdict::Invalid(_)));
    Found {
        system: which.name(),
        lines,
        acknowledged: outcome.acknowledged,
        lost: outcome.lost,
        deposed: outcome.deposed,
        at_rest: outcome.at_rest,
        violated: violated.map(|report| report.checker.clone()).collect(),
    }
}

fn spread(outages: &[f64]) -> String {
    let at = |i: usize| outages.get(i).map_or("-".to_owned(), |s| format!("{s:.1}"));
    format!("{} / {} / {} ({})", at(0), at(outages.len() / 2), at(outages.len().saturating_sub(1)), outages.len())
}

/// One line per system.
pub fn table(all: &[Found]) -> Table {
    let mut head = vec!["system".to_owned()];
    head.extend(KINDS.iter().map(|kind| format!("{}: s without writes (min / median / max, runs)", kind.name())));
    for title in ["acknowledged rows", "of these lost", "acknowledged by a deposed primary", "CPU at rest", "violations"] {
        head.push(title.to_owned());
    }
    let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
    for found in all {
        let mut row = vec![found.system.to_owned()];
        row.extend(found.lines.iter().map(|line| spread(&line.outages)));
        row.push(found.acknowledged.to_string());
        row.push(found.lost.to_string());
        row.push(found.deposed.to_string());
        row.push(format!("{:.1} %", found.at_rest));
        row.push(if found.violated.is_empty() { "none".to_owned() } else { found.violated.join(", ") });
        table.row(row);
    }
    table
}

/// A bar from the shortest to the longest outage, with a mark at the median, on a logarithmic axis.
pub fn picture(all: &[Found]) -> String {
    const LEFT: f64 = 250.0;
    const DECADE: f64 = 190.0;
    let x = |seconds: f64| LEFT + DECADE * (seconds.max(0.05).log10() - 0.05_f64.log10());
    let mut body = String::new();
    let mut y = 34.0;
    for kind in 0..KINDS.len() {
        for found in all {
            let Some(line) = found.lines.get(kind) else { continue };
            let colour = if found.system == Which::Pgquorum.name() { "#1f6f43" } else { "#8a8a8a" };
            _ = writeln!(body, "<text x='8' y='{:.0}'>{}, {}</text>", y + 9.0, line.fault, line.system);
            if let (Some(least), Some(most)) = (line.outages.first(), line.outages.last()) {
                let median = line.outages.get(line.outages.len() / 2).copied().unwrap_or(*most);
                let (from, to) = (x(*least), x(*most));
                _ = writeln!(body, "<rect x='{from:.1}' y='{y:.0}' width='{:.1}' height='11' fill='{colour}'/>", (to - from).max(3.0));
                _ = writeln!(body, "<text x='{:.1}' y='{:.0}'>{median:.1} s</text>", to + 6.0, y + 9.0);
            }
            y += 17.0;
        }
        y += 9.0;
    }
    let mut axis = String::new();
    for seconds in [0.1, 1.0, 10.0, 100.0] {
        let at = x(seconds);
        _ = writeln!(axis, "<line x1='{at:.1}' y1='24' x2='{at:.1}' y2='{y:.0}' stroke='#00000022'/>");
        _ = writeln!(axis, "<text x='{at:.1}' y='18' text-anchor='middle' fill='#555'>{seconds} s</text>");
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='980' height='{:.0}' font-family='sans-serif' font-size='11'>\n\
         <rect width='100%' height='100%' fill='white'/>\n{axis}{body}</svg>\n",
        y + 8.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::recovery::{FaultRecord, Installed};

    fn fault(kind: Kind, from: u64) -> FaultRecord {
        FaultRecord { kind: kind.name(), target: String::new(), from, until: from + 1, installed: Installed::Installed }
    }

    #[test]
    fn an_outage_belongs_to_the_fault_before_it() {
        const S: u64 = 1_000_000_000;
        let outcome = Outcome {
            reports: Vec::new(),
            faults: vec![fault(Kind::KillPrimary, 30 * S), fault(Kind::Switchover, 10 * S)],
            outages: vec![(2 * S, 3 * S), (10 * S, 11 * S), (29 * S, 36 * S)],
            at_rest: 1.0,
            acknowledged: 3,
            lost: 0,
            deposed: 0,
            failovers: 2,
        };
        let found = found(Which::Pgquorum, &outcome);
        let of = |kind: Kind| found.lines.iter().find(|line| line.fault == kind.name()).map(|line| line.outages.clone());
        assert_eq!(of(Kind::Switchover), Some(vec![1.0]));
        assert_eq!(of(Kind::KillPrimary), Some(vec![7.0]));
        assert_eq!(of(Kind::PausePrimary), Some(Vec::new()));
        assert_eq!(spread(&[1.0, 2.0, 7.0]), "1.0 / 2.0 / 7.0 (3)");
        assert!(picture(&[found]).contains("kill-primary, pgquorum"));
    }
}
