//! Recovery after the last fault, coverage of the faults, and what logs must not say.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Report;

/// How a fault went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Installed {
    /// It was put in place, and its effect seen.
    Installed,
    /// This machine cannot, or its target was not in a state for it; with the reason.
    Skipped(String),
    /// It may be in place or not; with the reason.
    Indeterminate(String),
}

/// One fault of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    pub kind: String,
    pub target: String,
    /// Nanoseconds since the beginning of the run, before the fault began and after it was healed.
    pub from: u64,
    pub until: u64,
    pub installed: Installed,
}

/// The system came to rest within `bound` of the last heal.
pub fn recovery(took: Result<Duration, String>, bound: Duration) -> Report {
    match took {
        Ok(took) if took <= bound => Report::of(
            "recovery",
            Vec::new(),
            vec![format!("at rest {:.1} s after the last fault", took.as_secs_f64())],
        ),
        Ok(took) => Report::of(
            "recovery",
            vec![format!("it took {:.1} s, {} s are allowed", took.as_secs_f64(), bound.as_secs_f64())],
            Vec::new(),
        ),
        Err(why) => Report::of("recovery", vec![why], Vec::new()),
    }
}

/// Each wanted kind of fault took effect at least once, and each wanted state was visited. A fault
/// that was skipped leaves the verdict unknown: what was not tried was not survived.
pub fn coverage(wanted: &[&str], faults: &[FaultRecord], states: &[&str], visited: &[String]) -> Report {
    let mut missing = Vec::new();
    let mut facts = Vec::new();
    for kind in wanted {
        let of: Vec<&FaultRecord> = faults.iter().filter(|f| f.kind == *kind).collect();
        let done = of.iter().filter(|f| f.installed == Installed::Installed).count();
        facts.push(format!("{kind} {done}"));
        if done == 0 {
            let why = of.iter().find_map(|f| match &f.installed {
                Installed::Skipped(why) | Installed::Indeterminate(why) => Some(why.clone()),
                Installed::Installed => None,
            });
            missing.push(format!("no {kind}: {}", why.unwrap_or_else(|| "it was never its turn".to_owned())));
        }
    }
    for state in states.iter().filter(|state| !visited.iter().any(|v| v == *state)) {
        missing.push(format!("state {state} was never visited"));
    }
    if missing.is_empty() {
        Report::of("coverage", Vec::new(), facts)
    } else {
        Report::unknown("coverage", missing.join("; "), facts)
    }
}

/// Machines whose disk failed while PostgreSQL ran.
pub fn sick(faults: &[FaultRecord]) -> BTreeSet<String> {
    let of_disks = faults.iter().filter(|f| ["io-errors", "dead-disk"].contains(&f.kind.as_str()));
    of_disks.filter_map(|f| f.target.split(' ').next()).map(str::to_owned).collect()
}

/// No process may have panicked: a line of a log that says so is a violation. Where the disk failed, a PANIC
/// of PostgreSQL is what must happen.
pub fn logs<'a>(logs: impl IntoIterator<Item = (&'a str, &'a str)>, sick: &BTreeSet<String>) -> Report {
    const PANIC: &str = "PANIC:";
    const SIGNALS: [&str; 2] = ["was terminated by signal 11", "was terminated by signal 6"];
    let mut violations = Vec::new();
    let mut count = 0;
    for (name, text) in logs {
        count += 1;
        let sick = sick.contains(name.split('.').next().unwrap_or_default());
        for line in text.lines() {
            // Of a copied log directory, others quote it.
            let excused = sick || line.contains("Input/output error");
            let died = line.contains(PANIC) || SIGNALS.iter().any(|signal| line.contains(signal));
            if line.contains("panicked at") || died && !excused {
                violations.push(format!("{name}: {line}"));
            }
        }
    }
    if count == 0 {
        return Report::unknown("logs", "there is no log", Vec::new());
    }
    Report::of("logs", violations, vec![format!("{count} logs")])
}

#[cfg(test)]
#[expect(clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::check::Verdict;

    fn fault(kind: &str, installed: Installed) -> FaultRecord {
        FaultRecord { kind: kind.into(), target: "n1".into(), from: 0, until: 1, installed }
    }

    #[test]
    fn what_was_not_tried_was_not_survived() {
        let faults =
            [fault("kill", Installed::Installed), fault("clock", Installed::Skipped("no faketime".into()))];
        assert!(coverage(&["kill"], &faults, &[], &[]).valid());
        let Verdict::Unknown(why) = coverage(&["kill", "clock"], &faults, &[], &[]).verdict else {
            panic!("passed")
        };
        assert!(why.contains("no faketime"), "{why}");
        assert!(!coverage(&["pause"], &faults, &[], &[]).valid());
        assert!(!coverage(&[], &faults, &["draining"], &["primary".to_owned()]).valid());
        assert!(coverage(&[], &faults, &["primary"], &["primary".to_owned()]).valid());
    }

    #[test]
    fn a_late_recovery_and_none_fail() {
        let bound = Duration::from_secs(10);
        assert!(recovery(Ok(Duration::from_secs(9)), bound).valid());
        assert!(matches!(recovery(Ok(Duration::from_secs(11)), bound).verdict, Verdict::Invalid(_)));
        assert!(matches!(recovery(Err("stuck".into()), bound).verdict, Verdict::Invalid(_)));
    }

    #[test]
    fn a_panic_in_a_log_fails_the_run() {
        let none = BTreeSet::new();
        assert!(logs([("m1.log", "all is well\n")], &none).valid());
        assert!(!logs([("m1.log", "x\nthread 'main' panicked at src/x.rs:1\n")], &none).valid());
        assert!(!logs([("n1.log", "PANIC:  could not write to file")], &none).valid());
        assert!(!logs([], &none).valid());
        let sick = sick(&[FaultRecord { target: "n1 (All)".into(), ..fault("io-errors", Installed::Installed) }]);
        assert!(logs([("n1.log", "PANIC:  could not write to file")], &sick).valid());
        assert!(!logs([("n1.log", "panicked at src/x.rs:1")], &sick).valid());
        assert!(!logs([("n2.log", "PANIC:  could not write to file")], &sick).valid());
    }
}
