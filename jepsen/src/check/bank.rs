//! Transfers between accounts: money is neither made nor lost, and no account is overdrawn.

use serde_json::Value;

use super::{Report, seconds};
use crate::history::Op;

/// Checks operations `read`, whose answer is the list of all balances.
pub fn check(ops: &[Op], accounts: usize, total: i64) -> Report {
    let mut violations = Vec::new();
    let mut reads = 0;
    for op in ops.iter().filter(|op| op.f == "read") {
        let Some(Value::Array(balances)) = op.ok() else {
            continue;
        };
        reads += 1;
        let at = seconds(op.start);
        let balances: Vec<i64> = balances.iter().filter_map(Value::as_i64).collect();
        let sum: i64 = balances.iter().sum();
        if balances.len() != accounts {
            violations.push(format!("{} of {accounts} accounts at {at}", balances.len()));
        } else if sum != total {
            violations.push(format!("{sum} instead of {total} at {at}: {balances:?}"));
        } else if balances.iter().any(|balance| *balance < 0) {
            violations.push(format!("overdrawn at {at}: {balances:?}"));
        }
    }
    let transfers = ops.iter().filter(|op| op.f == "transfer" && op.ok().is_some()).count();
    let facts = vec![format!("{transfers} transfers"), format!("{reads} readings")];
    if reads == 0 || transfers == 0 {
        return Report::unknown("bank", "nothing was transferred and read", facts);
    }
    Report::of("bank", violations, facts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::Verdict;
    use crate::history::Outcome;

    fn op(f: &str, answer: Value) -> Op {
        let outcome = Outcome::Ok(answer);
        Op { process: 0, f: f.into(), input: Value::Null, start: 0, end: 1, outcome, server: None }
    }

    #[test]
    fn money_made_lost_or_owed_is_found() {
        let with =
            |balances: Value| check(&[op("transfer", Value::Null), op("read", balances)], 2, 20).verdict;
        assert_eq!(with(json!([5, 15])), Verdict::Valid);
        for wrong in [json!([5, 16]), json!([5, 14]), json!([20]), json!([-1, 21]), json!([])] {
            assert!(matches!(with(wrong), Verdict::Invalid(_)));
        }
        assert!(matches!(check(&[op("read", json!([20, 0]))], 2, 20).verdict, Verdict::Unknown(_)));
        assert!(matches!(check(&[op("transfer", Value::Null)], 2, 20).verdict, Verdict::Unknown(_)));
    }
}
