//! What many runs have shown together: a line for each, kept in a file that machines read, and a table.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::bench::table::Table;
use crate::check::Verdict;
use crate::check::recovery::Installed;
use crate::run::Outcome;
use crate::{Context, Result};

/// The file in the directory of the evidence; each run adds a line.
pub const FILE: &str = "soak.jsonl";

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub seed: u64,
    /// As given to `--faults`.
    pub faults: String,
    pub seconds: u64,
    pub failovers: i64,
    pub acknowledged: usize,
    pub lost: usize,
    /// Writes that a deposed primary acknowledged.
    pub deposed: u64,
    /// By kind: installed, skipped, indeterminate.
    pub kinds: BTreeMap<String, [u32; 3]>,
    /// Checkers that found a promise broken.
    pub broken: Vec<String>,
    /// Checkers that could not tell. Coverage is not among them: it is asked of all runs together.
    pub unknown: Vec<String>,
    /// The harness itself failed.
    pub error: Option<String>,
    /// The machine's, over the last minute.
    pub load: String,
}

/// What one checker has to say of a whole soak instead of a run.
const COVERAGE: &str = "coverage";

impl Line {
    pub fn new(seed: u64, faults: &str, seconds: u64, outcome: &Result<Outcome>) -> Self {
        let mut line = Self {
            seed,
            faults: faults.to_owned(),
            seconds,
            failovers: 0,
            acknowledged: 0,
            lost: 0,
            deposed: 0,
            kinds: BTreeMap::new(),
            broken: Vec::new(),
            unknown: Vec::new(),
            error: None,
            load: load(),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                line.error = Some(error.to_string());
                return line;
            }
        };
        (line.failovers, line.acknowledged) = (outcome.failovers, outcome.acknowledged);
        (line.lost, line.deposed) = (outcome.lost, outcome.deposed);
        for fault in &outcome.faults {
            let [installed, skipped, unsure] = line.kinds.entry(fault.kind.clone()).or_default();
            match fault.installed {
                Installed::Installed => *installed += 1,
                Installed::Skipped(_) => *skipped += 1,
                Installed::Indeterminate(_) => *unsure += 1,
            }
        }
        for report in &outcome.reports {
            match report.verdict {
                Verdict::Invalid(_) => line.broken.push(report.checker.clone()),
                Verdict::Unknown(_) if report.checker != COVERAGE => line.unknown.push(report.checker.clone()),
                _ => {}
            }
        }
        line
    }

    /// Every promise was kept, as far as this run tried.
    pub fn passed(&self) -> bool {
        self.broken.is_empty() && self.unknown.is_empty() && self.error.is_none()
    }

    /// In a few words.
    pub fn verdict(&self) -> String {
        match (&self.error, self.passed()) {
            (Some(error), _) => format!("harness: {}", error.lines().next().unwrap_or_default()),
            (None, true) => "passed".to_owned(),
            (None, false) if self.broken.is_empty() => format!("UNKNOWN: {}", self.unknown.join(", ")),
            (None, false) => format!("INVALID: {}", self.broken.join(", ")),
        }
    }

    fn faults(&self) -> [u32; 3] {
        self.kinds.values().fold([0; 3], |sum, one| [sum[0] + one[0], sum[1] + one[1], sum[2] + one[2]])
    }

    /// Adds this line to the file in `out`.
    pub fn append(&self, out: &Path) -> Result<()> {
        fs::create_dir_all(out)?;
        let path = out.join(FILE);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).context(format!("open {}", path.display()))?;
        writeln!(file, "{}", serde_json::to_string(self)?).context(format!("write {}", path.display()))
    }
}

/// All lines in `out`, of earlier calls as well; none where there is no file.
pub fn read(out: &Path) -> Result<Vec<Line>> {
    let text = fs::read_to_string(out.join(FILE)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).context(format!("read {FILE}"))).collect()
}

/// A table of these runs, and a sentence about all of them. True if all have passed and every kind of
/// fault in `wanted` took effect in at least one.
pub fn summary(lines: &[Line], wanted: &[String]) -> (String, bool) {
    let mut table = Table::new(&[
        "seed", "faults", "s", "failovers", "acknowledged rows", "lost", "by a deposed primary",
        "installed / skipped / unsure", "load", "verdict",
    ]);
    let mut kinds: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    for line in lines {
        let [installed, skipped, unsure] = line.faults();
        table.row([
            line.seed.to_string(),
            line.faults.clone(),
            line.seconds.to_string(),
            line.failovers.to_string(),
            line.acknowledged.to_string(),
            line.lost.to_string(),
            line.deposed.to_string(),
            format!("{installed} / {skipped} / {unsure}"),
            line.load.clone(),
            line.verdict(),
        ]);
        for (kind, counts) in &line.kinds {
            let sum = kinds.entry(kind).or_default();
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }
    let mut text = table.text("Runs");
    let told: Vec<String> = kinds.iter().map(|(kind, [i, s, u])| format!("{kind} {i}/{s}/{u}")).collect();
    text.push_str(&format!("\nFaults, installed/skipped/unsure: {}\n", told.join(", ")));
    let missing: Vec<&str> =
        wanted.iter().map(String::as_str).filter(|kind| kinds.get(kind).is_none_or(|[installed, ..]| *installed == 0)).collect();
    if !missing.is_empty() {
        text.push_str(&format!("Never took effect: {}\n", missing.join(", ")));
    }
    let seeds: std::collections::BTreeSet<u64> = lines.iter().map(|line| line.seed).collect();
    let failed: Vec<u64> = lines.iter().filter(|line| !line.passed()).map(|line| line.seed).collect();
    let (failovers, acknowledged) = (lines.iter().map(|l| l.failovers).sum::<i64>(), lines.iter().map(|l| l.acknowledged).sum::<usize>());
    let lost: usize = lines.iter().map(|line| line.lost).sum();
    text.push_str(&format!(
        "\n{} runs over {} seeds, {failovers} failovers, {acknowledged} rows acknowledged, {lost} lost; not passed: {failed:?}\n",
        lines.len(),
        seeds.len()
    ));
    (text, failed.is_empty() && missing.is_empty() && !lines.is_empty())
}

/// The first figure of /proc/loadavg.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seed: u64, kinds: &[(&str, [u32; 3])], broken: &[&str]) -> Line {
        Line {
            failovers: 4,
            acknowledged: 100,
            lost: broken.len(),
            kinds: kinds.iter().map(|(kind, counts)| ((*kind).to_owned(), *counts)).collect(),
            broken: broken.iter().map(|name| (*name).to_owned()).collect(),
            error: None,
            ..Line::new(seed, "basic", 60, &Err(crate::Failure::new("none")))
        }
    }

    #[test]
    fn runs_add_up_and_what_was_never_tried_is_no_pass() {
        let wanted = ["halves".to_owned(), "clock-rate".to_owned()];
        let runs = [line(1, &[("halves", [2, 1, 0])], &[]), line(2, &[("clock-rate", [1, 0, 0])], &[])];
        let (text, passed) = summary(&runs, &wanted);
        assert!(passed && text.contains("2 runs over 2 seeds, 8 failovers, 200 rows acknowledged, 0 lost"), "{text}");
        let (text, passed) = summary(&runs[..1], &wanted);
        assert!(!passed && text.contains("Never took effect: clock-rate"), "{text}");
        let (text, passed) = summary(&[runs[0].clone(), runs[1].clone(), line(3, &[], &["set"])], &wanted);
        assert!(!passed && text.contains("INVALID: set") && text.contains("not passed: [3]"), "{text}");
        assert!(!summary(&[Line::new(4, "basic", 1, &Err(crate::Failure::new("no lab")))], &[]).1);
        assert!(!summary(&[], &[]).1);
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let dir = std::env::temp_dir().join(format!("soak-{}", std::process::id()));
        let lines = [line(7, &[("halves", [1, 0, 2])], &["set"]), line(8, &[], &[])];
        let kept = lines.iter().try_for_each(|line| line.append(&dir)).and_then(|()| read(&dir));
        _ = fs::remove_dir_all(&dir);
        assert!(kept.is_ok_and(|kept| kept == lines));
    }
}
