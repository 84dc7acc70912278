//! How long the linearizability checker takes: `cargo run --release -p jepsen --example bench-checker`.

use std::time::{Duration, Instant};

use jepsen::check::linear::{Action, Caps, check};
use jepsen::check::simulated;

fn main() {
    let caps = Caps { time: Duration::from_secs(600), ..Caps::default() };
    println!("| operations | answers lost | verdict | s |\n|---|---|---|---|");
    for (count, lost_every) in [(10_000, 0), (10_000, 1_000), (10_000, 200), (100_000, 0)] {
        let mut ops = simulated::register(count, lost_every);
        let lost = ops.iter().filter(|op| op.end.is_none()).count();
        for stale in [false, true] {
            if stale && let Some(op) = ops.iter_mut().skip(count / 2).find(|op| matches!(op.action, Action::Read(_))) {
                op.action = Action::Read(Some(-1));
            }
            let begun = Instant::now();
            let verdict = format!("{:?}", check(None, &ops, caps));
            let word = verdict.split('(').next().unwrap_or_default();
            println!("| {count} | {lost} | {word} | {:.2} |", begun.elapsed().as_secs_f64());
        }
    }
}
