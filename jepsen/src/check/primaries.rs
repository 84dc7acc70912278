//! Clients pinned to each server, whatever its role: who acknowledges writes beside whom, and how
//! long an old primary shows old data.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{Report, seconds};
use crate::history::Op;

/// An acknowledged write by a server: its answer is `[timeline]`.
struct Ack<'a> {
    server: &'a str,
    timeline: i64,
    start: u64,
    end: u64,
}

fn acks(ops: &[Op]) -> Vec<Ack<'_>> {
    let mut acks: Vec<Ack> = ops
        .iter()
        .filter(|op| op.f == "write")
        .filter_map(|op| {
            let timeline = op.ok()?.get(0).and_then(Value::as_i64)?;
            Some(Ack { server: op.server.as_deref()?, timeline, start: op.start, end: op.end })
        })
        .collect();
    acks.sort_by_key(|ack| ack.end);
    acks
}

/// Writes that a deposed primary acknowledged: begun after another server had acknowledged one on a
/// later timeline. Counted, and told per server.
pub fn deposed(ops: &[Op]) -> (u64, Vec<String>) {
    let acks = acks(ops);
    // The first acknowledgement of each timeline.
    let mut first: BTreeMap<i64, &Ack> = BTreeMap::new();
    for ack in &acks {
        first.entry(ack.timeline).or_insert(ack);
    }
    let mut by_server: BTreeMap<(&str, i64), (u64, u64, u64)> = BTreeMap::new();
    for ack in &acks {
        let newer = first
            .range(ack.timeline + 1..)
            .map(|(_, f)| *f)
            .find(|f| f.end < ack.start && f.server != ack.server);
        if let Some(newer) = newer {
            let found = by_server.entry((ack.server, ack.timeline)).or_insert((0, newer.end, ack.end));
            found.0 += 1;
            found.2 = found.2.max(ack.end);
        }
    }
    let count = by_server.values().map(|(n, ..)| n).sum();
    let told = by_server.into_iter().map(|((server, timeline), (n, since, until))| {
        format!(
            "{server} acknowledged {n} writes on timeline {timeline} until {}, although a later timeline took writes from {}",
            seconds(until),
            seconds(since)
        )
    });
    (count, told.collect())
}

/// No write is acknowledged by a deposed primary.
pub fn one_primary(ops: &[Op]) -> Report {
    let acks = acks(ops);
    let (count, violations) = deposed(ops);
    let mut servers: Vec<&str> = acks.iter().map(|a| a.server).collect();
    servers.sort_unstable();
    servers.dedup();
    let timelines =
        acks.iter().map(|a| a.timeline).max().unwrap_or(0) - acks.first().map_or(0, |a| a.timeline);
    let facts = vec![
        format!("{} pinned writes by {}", acks.len(), servers.join(" ")),
        format!("{timelines} later timelines"),
        format!("{count} by a deposed primary"),
    ];
    if acks.is_empty() {
        return Report::unknown("one primary", "no pinned write was acknowledged", facts);
    }
    Report::of("one primary", violations, facts)
}

/// The longest time for which a server that does not say that it is a standby went on answering
/// without a row that another one had acknowledged before; against `bound`. Reads answer
/// `[is a standby, greatest number seen]`, writes have increasing numbers as their input.
pub fn stale_window(ops: &[Op], bound: Duration) -> Report {
    let mut written: Vec<(u64, i64)> = ops
        .iter()
        .filter(|op| op.f == "write" && op.ok().is_some())
        .filter_map(|op| Some((op.end, op.input.as_i64()?)))
        .collect();
    written.sort_unstable();
    let (mut reads, mut longest, mut worst) = (0, 0, String::new());
    for op in ops.iter().filter(|op| op.f == "read") {
        let Some(answer) = op.ok() else {
            continue;
        };
        let (standby, seen) = (answer.get(0).and_then(Value::as_bool), answer.get(1).and_then(Value::as_i64));
        if standby != Some(false) {
            continue;
        }
        reads += 1;
        // The oldest acknowledgement that this answer should have known.
        let missed =
            written.iter().take_while(|(end, _)| *end < op.start).find(|(_, n)| seen.is_none_or(|s| s < *n));
        if let Some((end, n)) = missed {
            let window = op.end - end;
            if window > longest {
                longest = window;
                worst = format!(
                    "{} answered at {} without {n}, acknowledged at {}",
                    op.server.as_deref().unwrap_or("?"),
                    seconds(op.end),
                    seconds(*end)
                );
            }
        }
    }
    let facts = vec![
        format!("{reads} pinned reads"),
        format!("longest stale window {} of {:.3} s allowed", seconds(longest), bound.as_secs_f64()),
    ];
    if reads == 0 {
        return Report::unknown("stale reads", "no pinned read was answered by a primary", facts);
    }
    let late = u128::from(longest) > bound.as_nanos();
    Report::of("stale reads", if late { vec![worst] } else { Vec::new() }, facts)
}

/// Times without acknowledged writes that last longer than `least`: (from, until), in nanoseconds.
pub fn outages(ops: &[Op], least: Duration) -> Vec<(u64, u64)> {
    let mut ends: Vec<u64> =
        ops.iter().filter(|op| op.f != "read" && op.ok().is_some()).map(|op| op.end).collect();
    ends.sort_unstable();
    ends.windows(2)
        .filter_map(|pair| match pair {
            [a, b] if u128::from(b - a) > least.as_nanos() => Some((*a, *b)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::panic, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::Verdict;
    use crate::history::Outcome;

    const S: u64 = 1_000_000_000;

    fn op(f: &str, server: &str, start: u64, input: Value, answer: Value) -> Op {
        let server = Some(server.to_owned());
        Op {
            process: 0,
            f: f.into(),
            input,
            start,
            end: start + S / 100,
            outcome: Outcome::Ok(answer),
            server,
        }
    }

    fn write(server: &str, timeline: i64, start: u64, n: i64) -> Op {
        op("write", server, start, json!(n), json!([timeline]))
    }

    fn read(server: &str, start: u64, seen: i64) -> Op {
        op("read", server, start, Value::Null, json!([false, seen]))
    }

    #[test]
    fn a_deposed_primary_that_acknowledges_is_found_and_a_failover_is_not() {
        let failover = [write("n1", 1, 0, 1), write("n2", 2, 5 * S, 2), write("n1", 3, 9 * S, 3)];
        assert!(one_primary(&failover).valid());
        let mut split = failover.to_vec();
        split.push(write("n1", 1, 6 * S, 4));
        assert_eq!(deposed(&split).0, 1);
        let Verdict::Invalid(why) = one_primary(&split).verdict else { panic!("not found") };
        assert!(why[0].contains("n1 acknowledged 1"), "{why:?}");
        assert!(matches!(one_primary(&[]).verdict, Verdict::Unknown(_)));
    }

    #[test]
    fn the_stale_window_is_measured_against_its_bound() {
        let ops =
            [write("n1", 1, 0, 1), write("n2", 2, S, 2), read("n1", S + S / 2, 1), read("n2", 2 * S, 2)];
        assert!(stale_window(&ops, Duration::from_secs(1)).valid());
        assert!(matches!(stale_window(&ops, Duration::from_millis(100)).verdict, Verdict::Invalid(_)));
        // A standby says that it is one, and may be behind.
        let standby = op("read", "n3", 5 * S, Value::Null, json!([true, 1]));
        let with = [ops[0].clone(), ops[1].clone(), ops[3].clone(), standby];
        assert!(stale_window(&with, Duration::from_millis(100)).valid());
        assert!(matches!(stale_window(&[write("n1", 1, 0, 1)], Duration::ZERO).verdict, Verdict::Unknown(_)));
    }

    #[test]
    fn outages_are_gaps_between_acknowledgements() {
        let ops = [write("n1", 1, 0, 1), write("n1", 1, S / 10, 2), write("n2", 2, 5 * S, 3)];
        let found = outages(&ops, Duration::from_secs(1));
        assert_eq!(found, [(S / 10 + S / 100, 5 * S + S / 100)]);
    }
}
