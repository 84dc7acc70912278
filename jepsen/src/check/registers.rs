//! Linearizability per key: a history is linearizable if that of each key is.

use std::collections::BTreeMap;

use serde_json::Value;

use super::linear::{self, Action, Caps, Linear, RegisterOp};
use super::{Report, Verdict};
use crate::history::{Op, Outcome};

/// Checks operations `read`, `write` and `cas` with inputs `[key]`, `[key, value]` and
/// `[key, from, to]`; a read answers a number or null, a cas answers whether it was done.
pub fn check(ops: &[Op], initial: &BTreeMap<String, i64>, caps: Caps) -> Report {
    let mut keys: BTreeMap<String, Vec<RegisterOp>> = BTreeMap::new();
    let (mut violations, mut unknown) = (Vec::new(), None);
    let mut count = 0;
    for op in ops {
        let key = op.input.get(0).map(text).unwrap_or_default();
        match action(op) {
            Ok(None) => {}
            Ok(Some(action)) => {
                count += 1;
                let end = matches!(op.outcome, Outcome::Ok(_)).then_some(op.end);
                keys.entry(key).or_default().push(RegisterOp {
                    process: op.process,
                    action,
                    start: op.start,
                    end,
                });
            }
            Err(why) => violations.push(format!("key {key}: {why}")),
        }
    }
    let facts = vec![format!("{count} operations on {} registers", keys.len())];
    for (key, ops) in &keys {
        match linear::check(initial.get(key).copied(), ops, caps) {
            Linear::Yes => {}
            Linear::No(why) => violations.push(format!("key {key}: {why}")),
            Linear::Unknown(why) => unknown = Some(format!("key {key}: {why}")),
        }
    }
    let mut report = Report::of("registers", violations, facts);
    if let (Some(why), Verdict::Valid) = (unknown, &report.verdict) {
        report.verdict = Verdict::Unknown(why);
    }
    if count == 0 {
        report.verdict = Verdict::Unknown("no operation was answered".to_owned());
    }
    report
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `None`: it says nothing about the register.
fn action(op: &Op) -> Result<Option<Action>, String> {
    let number = |i: usize| op.input.get(i).and_then(Value::as_i64);
    let malformed = || format!("operation {} {} makes no sense", op.f, op.input);
    let done = match &op.outcome {
        Outcome::Fail(_) => return Ok(None),
        Outcome::Info(_) if op.f == "read" => return Ok(None),
        Outcome::Info(_) => None,
        Outcome::Ok(value) => Some(value),
    };
    match op.f.as_str() {
        "read" => match done {
            Some(Value::Null) => Ok(Some(Action::Read(None))),
            Some(value) => Ok(Some(Action::Read(Some(value.as_i64().ok_or_else(malformed)?)))),
            None => Ok(None),
        },
        "write" => Ok(Some(Action::Write(number(1).ok_or_else(malformed)?))),
        "cas" => {
            let (from, to) = (number(1).ok_or_else(malformed)?, number(2).ok_or_else(malformed)?);
            let swapped = done.map_or(Some(true), Value::as_bool).ok_or_else(malformed)?;
            Ok(Some(Action::Cas(from, to, swapped)))
        }
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn op(f: &str, input: Value, start: u64, outcome: Outcome) -> Op {
        Op { process: 0, f: f.to_owned(), input, start, end: start + 5, outcome, server: None }
    }

    fn verdict(ops: &[Op]) -> Verdict {
        check(ops, &BTreeMap::from([("a".to_owned(), 50)]), Caps::default()).verdict
    }

    #[test]
    fn keys_do_not_disturb_each_other_and_each_has_its_first_value() {
        let mut ops = vec![
            op("read", json!(["a"]), 0, Outcome::Ok(json!(50))),
            op("write", json!(["a", 1]), 10, Outcome::Ok(Value::Null)),
            op("read", json!(["b"]), 20, Outcome::Ok(Value::Null)),
            op("write", json!(["a", 2]), 30, Outcome::Fail("refused".into())),
            op("write", json!(["a", 3]), 40, Outcome::Info("lost".into())),
            op("read", json!(["a"]), 50, Outcome::Ok(json!(1))),
            op("read", json!(["a"]), 60, Outcome::Ok(json!(3))),
        ];
        assert_eq!(verdict(&ops), Verdict::Valid);
        // What was refused must not appear.
        ops.push(op("read", json!(["a"]), 70, Outcome::Ok(json!(2))));
        assert!(matches!(verdict(&ops), Verdict::Invalid(_)));
    }

    #[test]
    fn a_history_without_answers_proves_nothing() {
        assert!(matches!(verdict(&[]), Verdict::Unknown(_)));
        assert!(matches!(
            verdict(&[op("read", json!(["a"]), 0, Outcome::Info("x".into()))]),
            Verdict::Unknown(_)
        ));
    }
}
