//! A set that clients only add to: every acknowledged element must be in every later reading.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Report, Verdict, seconds};
use crate::history::{Op, Outcome};

/// Which readings the checker may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readings {
    /// Each reading must hold what was acknowledged before it began.
    Linearizable,
    /// Readings in between may be old; only the last one must hold everything.
    OnlyLast,
}

/// Checks operations `add` (input: the element, a number) and `read` (answer: a list of numbers). The
/// reading that began last counts as the final one.
pub fn check(name: &str, ops: &[Op], readings: Readings) -> Report {
    let mut adds: BTreeMap<i64, &Op> = BTreeMap::new();
    let mut reads: Vec<(&Op, BTreeMap<i64, u32>)> = Vec::new();
    let mut violations = Vec::new();
    for op in ops {
        if op.f == "add" {
            if let Some(element) = op.input.as_i64() {
                adds.insert(element, op);
            }
        } else if let Some(Value::Array(found)) = op.ok() {
            let mut counts: BTreeMap<i64, u32> = BTreeMap::new();
            for element in found.iter().filter_map(Value::as_i64) {
                *counts.entry(element).or_default() += 1;
            }
            reads.push((op, counts));
        }
    }
    let acknowledged = adds.values().filter(|op| op.ok().is_some()).count();
    let unsure = adds.values().filter(|op| matches!(op.outcome, Outcome::Info(_))).count();
    let mut facts = vec![
        format!("{acknowledged} acknowledged"),
        format!("{unsure} unsure"),
        format!("{} readings", reads.len()),
    ];
    let Some((last, end)) = reads.last() else {
        return Report::unknown(name, "there is no reading", facts);
    };
    let last_start = last.start;
    let lost: Vec<i64> = adds
        .iter()
        .filter(|(element, op)| op.ok().is_some() && op.end < last_start && !end.contains_key(element))
        .map(|(element, _)| *element)
        .collect();
    facts.push(format!("{} lost", lost.len()));
    for element in &lost {
        let op = adds.get(element);
        let (at, server) = op.map(|op| (op.end, op.server.clone().unwrap_or_default())).unwrap_or_default();
        violations.push(format!("{element} was acknowledged by {server} at {} and is lost", seconds(at)));
    }
    // Told in one reading and gone in a later one: it was shown before it was safe.
    let mut shown: BTreeMap<i64, u64> = BTreeMap::new();
    for (read, found) in &reads {
        let mut stale = BTreeSet::new();
        for (element, op) in &adds {
            let must = op.ok().is_some() && op.end < read.start && !lost.contains(element);
            if readings == Readings::Linearizable && must && !found.contains_key(element) {
                stale.insert(*element);
            }
        }
        if let Some(first) = stale.first() {
            violations.push(format!(
                "the reading at {} misses {} elements acknowledged before it, the first is {first}",
                seconds(read.start),
                stale.len()
            ));
        }
        for (element, count) in found {
            if *count > 1 {
                violations.push(format!("{element} is there {count} times at {}", seconds(read.start)));
            }
            match adds.get(element).map(|op| &op.outcome) {
                None => violations.push(format!("{element} is there and nobody added it")),
                Some(Outcome::Fail(why)) => {
                    violations.push(format!(
                        "{element} was refused ({why}) and is there at {}",
                        seconds(read.start)
                    ));
                }
                Some(_) => {}
            }
            shown.entry(*element).or_insert(read.end);
        }
    }
    for (element, at) in shown {
        if at < last_start && !end.contains_key(&element) && !lost.contains(&element) {
            violations.push(format!("{element} was read at {} and is gone at the end", seconds(at)));
        }
    }
    violations.dedup();
    let mut report = Report::of(name, violations, facts);
    if acknowledged == 0 && report.verdict == Verdict::Valid {
        report.verdict = Verdict::Unknown("nothing was acknowledged".to_owned());
    }
    report
}

/// What several copies of one log say: all hold the same entries in the same order, no entry twice,
/// numbers ascending. A copy that is behind holds a beginning of the others.
pub fn same_log(name: &str, copies: &[(String, Vec<(i64, String)>)]) -> Report {
    let mut violations = Vec::new();
    let longest = copies.iter().max_by_key(|(_, log)| log.len());
    for (who, log) in copies {
        for pair in log.windows(2) {
            if let [(a, _), (b, _)] = pair
                && a >= b
            {
                violations.push(format!("{who}: entry {b} comes after entry {a}"));
            }
        }
        let Some((other, reference)) = longest else {
            continue;
        };
        if let Some((a, b)) = log.iter().zip(reference).find(|(a, b)| a != b) {
            violations.push(format!("{who} has {} {:?} where {other} has {} {:?}", a.0, a.1, b.0, b.1));
        }
    }
    let lengths: Vec<String> = copies.iter().map(|(who, log)| format!("{who} {}", log.len())).collect();
    match longest {
        Some((_, log)) if !log.is_empty() => Report::of(name, violations, lengths),
        _ => Report::unknown(name, "no copy of the log was read", lengths),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn add(element: i64, start: u64, outcome: Outcome) -> Op {
        Op {
            process: 0,
            f: "add".into(),
            input: json!(element),
            start,
            end: start + 5,
            outcome,
            server: None,
        }
    }

    fn ok(element: i64, start: u64) -> Op {
        add(element, start, Outcome::Ok(Value::Null))
    }

    fn read(start: u64, found: &[i64]) -> Op {
        let outcome = Outcome::Ok(json!(found));
        Op { process: 1, f: "read".into(), input: Value::Null, start, end: start + 5, outcome, server: None }
    }

    fn violations(ops: &[Op], readings: Readings) -> Vec<String> {
        match check("set", ops, readings).verdict {
            Verdict::Valid => Vec::new(),
            Verdict::Invalid(violations) => violations,
            Verdict::Unknown(why) => vec![format!("unknown: {why}")],
        }
    }

    #[test]
    fn acknowledged_stays_refused_stays_out_and_unsure_may_do_either() {
        let ops = [
            ok(1, 0),
            add(2, 10, Outcome::Fail("25006".into())),
            add(3, 20, Outcome::Info("deadline".into())),
            add(4, 30, Outcome::Info("deadline".into())),
            read(40, &[1]),
            read(50, &[1, 3]),
        ];
        assert_eq!(violations(&ops, Readings::Linearizable), Vec::<String>::new());
    }

    #[test]
    fn each_way_to_go_wrong_is_told() {
        let both = |ops: &[Op]| violations(ops, Readings::Linearizable).join("\n");
        assert!(both(&[ok(1, 0), ok(2, 10), read(20, &[2])]).contains("1 was acknowledged"));
        assert!(both(&[ok(1, 0), read(20, &[]), read(30, &[1])]).contains("misses 1"));
        assert!(both(&[ok(1, 0), read(20, &[1, 1])]).contains("2 times"));
        assert!(both(&[ok(1, 0), read(20, &[1, 9])]).contains("nobody added"));
        let refused = [ok(1, 0), add(2, 10, Outcome::Fail("x".into())), read(20, &[1, 2])];
        assert!(both(&refused).contains("refused"));
        let vanished = [ok(1, 0), add(2, 10, Outcome::Info("x".into())), read(20, &[1, 2]), read(30, &[1])];
        assert!(both(&vanished).contains("gone at the end"));
        assert!(both(&[ok(1, 0)]).contains("unknown"));
        assert!(both(&[read(0, &[])]).contains("unknown"));
    }

    #[test]
    fn a_late_reading_alone_may_be_old() {
        assert_eq!(
            violations(&[ok(1, 0), read(20, &[]), read(30, &[1])], Readings::OnlyLast),
            Vec::<String>::new()
        );
    }

    #[test]
    fn logs_may_differ_in_length_and_in_nothing_else() {
        let log =
            |entries: &[(i64, &str)]| entries.iter().map(|(i, t)| (*i, (*t).to_owned())).collect::<Vec<_>>();
        let a = ("a".to_owned(), log(&[(1, "x"), (2, "y")]));
        let behind = ("b".to_owned(), log(&[(1, "x")]));
        assert!(same_log("log", &[a.clone(), behind]).valid());
        for wrong in [log(&[(1, "x"), (2, "z")]), log(&[(1, "x"), (1, "x")]), log(&[(2, "y"), (1, "x")])] {
            assert!(!same_log("log", &[a.clone(), ("b".to_owned(), wrong)]).valid());
        }
        assert!(!same_log("log", &[]).valid());
    }
}
