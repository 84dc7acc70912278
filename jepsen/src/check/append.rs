//! Transactions that append to lists and read them, judged by the crate `adya` (Elle's method).

use adya::{History, Opts, Valid, Workload};
use serde_json::{Value, json};

use super::{Report, Verdict};
use crate::history::{Op, Outcome};

/// What PostgreSQL promises at its level SERIALIZABLE, on the server that takes writes.
///
/// That is not quite strict serializability: a transaction that began before another one ended may be
/// put behind a third one that began later (a chain of two read-write dependencies), on a healthy
/// server, too. Snapshots that miss what was acknowledged before they were taken do break this.
pub const POSTGRES: [&str; 2] = ["serializable", "strong-snapshot-isolation"];

/// Checks operations whose input is a list of `["append", key, number]` and `["r", key, null]` and
/// whose answer is that list with what was read. `models` are adya's: [`POSTGRES`] for PostgreSQL.
///
/// A lost append shows only where somebody had read it or under a real-time order, so the set checker
/// is needed beside this one.
pub fn check(name: &str, ops: &[Op], models: &[&str]) -> Report {
    let mut lines: Vec<(u64, bool, Value)> = Vec::new();
    let mut answered = 0;
    for op in ops {
        let line = |kind: &str, time: u64, value: &Value| json!({"type": kind, "process": op.process, "time": time, "f": "txn", "value": value});
        lines.push((op.start, false, line("invoke", op.start, &op.input)));
        let (kind, value) = match &op.outcome {
            Outcome::Ok(value) => ("ok", value),
            Outcome::Fail(_) => ("fail", &op.input),
            Outcome::Info(_) => ("info", &op.input),
        };
        answered += usize::from(kind == "ok");
        if op.end != u64::MAX {
            lines.push((op.end, true, line(kind, op.end, value)));
        }
    }
    // Completions after invocations of the same instant: such operations are concurrent.
    lines.sort_by_key(|(time, end, _)| (*time, *end));
    let facts = vec![format!("{answered} transactions of {}", ops.len()), models.join(" and ")];
    let text: String = lines.into_iter().map(|(_, _, line)| format!("{line}\n")).collect();
    let history = match History::from_json(&text) {
        Ok(history) => history,
        Err(error) => return Report::unknown(name, format!("adya: {error}"), facts),
    };
    let opts = Opts { models: models.iter().map(|m| (*m).to_owned()).collect(), ..Opts::default() };
    let found = adya::check(&history, Workload::ListAppend, &opts);
    let told: Vec<String> = found
        .anomalies
        .iter()
        .filter(|(kind, _)| found.anomaly_types.contains(kind))
        .map(|(kind, all)| {
            let first = all.first().map(|a| a.explanation.trim().to_owned()).unwrap_or_default();
            format!("{kind} ({} times): {first}", all.len())
        })
        .collect();
    match found.valid {
        Valid::True => Report::of(name, Vec::new(), facts),
        Valid::Unknown => Report::unknown(name, told.join("; "), facts),
        Valid::False => {
            let violations = if told.is_empty() { found.anomaly_types } else { told };
            Report { checker: name.to_owned(), verdict: Verdict::Invalid(violations), facts }
        }
    }
}

#[cfg(test)]
#[expect(clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn op(process: u32, start: u64, input: Value, outcome: Outcome) -> Op {
        Op { process, f: "txn".into(), input, start, end: start + 5, outcome, server: None }
    }

    fn append(process: u32, start: u64, element: i64) -> Op {
        let value = json!([["append", "x", element]]);
        op(process, start, value.clone(), Outcome::Ok(value))
    }

    fn read(process: u32, start: u64, seen: &[i64]) -> Op {
        op(process, start, json!([["r", "x", null]]), Outcome::Ok(json!([["r", "x", seen]])))
    }

    fn verdict(ops: &[Op], model: &str) -> Verdict {
        check("append", ops, &[model]).verdict
    }

    const STRICT: &str = "strict-serializable";

    #[test]
    fn a_plain_history_is_valid_and_an_unsure_append_may_be_seen() {
        let unsure = op(3, 20, json!([["append", "x", 2]]), Outcome::Info("deadline".into()));
        let ops = [append(0, 0, 1), read(1, 10, &[1]), unsure, read(1, 30, &[1, 2]), append(0, 40, 3)];
        assert_eq!(verdict(&ops, STRICT), Verdict::Valid);
    }

    #[test]
    fn a_stale_read_breaks_strict_serializability_and_nothing_weaker() {
        let ops = [append(0, 0, 1), append(0, 10, 2), read(1, 20, &[1, 2]), read(2, 30, &[1])];
        let Verdict::Invalid(why) = verdict(&ops, STRICT) else { panic!("not found") };
        assert!(why.join(" ").contains("realtime"), "{why:?}");
        assert_eq!(verdict(&ops, "serializable"), Verdict::Valid);
        assert!(matches!(check("append", &ops, &POSTGRES).verdict, Verdict::Invalid(_)));
    }

    #[test]
    fn what_a_healthy_postgresql_does_is_not_blamed_on_a_failover() {
        // The first reads x before the second writes it, and writes y after the third has read that.
        let slow = Op {
            end: 90,
            ..op(
                0,
                0,
                json!([["r", "x", null], ["append", "y", 1]]),
                Outcome::Ok(json!([["r", "x", []], ["append", "y", 1]])),
            )
        };
        let third = op(2, 40, json!([["r", "y", null]]), Outcome::Ok(json!([["r", "y", []]])));
        let after = op(
            3,
            100,
            json!([["r", "x", null], ["r", "y", null]]),
            Outcome::Ok(json!([["r", "x", [2]], ["r", "y", [1]]])),
        );
        let second = op(1, 20, json!([["append", "x", 2]]), Outcome::Ok(json!([["append", "x", 2]])));
        let ops = [slow, second, third, after];
        assert!(matches!(verdict(&ops, STRICT), Verdict::Invalid(_)));
        assert_eq!(check("append", &ops, &POSTGRES).verdict, Verdict::Valid);
    }

    #[test]
    fn a_lost_append_lists_that_diverged_and_rolled_back_rows_are_found() {
        let lost =
            [append(0, 0, 1), append(0, 10, 2), read(1, 20, &[1]), append(0, 30, 3), read(1, 40, &[1, 3])];
        assert!(matches!(verdict(&lost, STRICT), Verdict::Invalid(_)));
        assert!(matches!(check("append", &lost, &POSTGRES).verdict, Verdict::Invalid(_)));
        let diverged = [append(0, 0, 1), append(1, 0, 2), read(2, 10, &[1, 2]), read(3, 10, &[2, 1])];
        assert!(matches!(verdict(&diverged, STRICT), Verdict::Invalid(_)));
        let refused = op(0, 0, json!([["append", "x", 1]]), Outcome::Fail("40001".into()));
        assert!(matches!(verdict(&[refused, read(1, 20, &[1])], STRICT), Verdict::Invalid(_)));
    }

    #[test]
    fn write_skew_is_not_serializable() {
        let skew = |process: u32, key: &str, n: i64| {
            let asked = json!([["r", "x", null], ["r", "y", null], ["append", key, n]]);
            let told = json!([["r", "x", []], ["r", "y", []], ["append", key, n]]);
            op(process, 0, asked, Outcome::Ok(told))
        };
        let after = op(
            2,
            20,
            json!([["r", "x", null], ["r", "y", null]]),
            Outcome::Ok(json!([["r", "x", [1]], ["r", "y", [2]]])),
        );
        let ops = [skew(0, "x", 1), skew(1, "y", 2), after];
        assert!(matches!(verdict(&ops, STRICT), Verdict::Invalid(_)));
        assert_eq!(verdict(&ops, "snapshot-isolation"), Verdict::Valid);
    }

    #[test]
    fn a_history_that_says_nothing_is_unknown() {
        assert!(matches!(verdict(&[], STRICT), Verdict::Unknown(_)));
    }
}
