use super::*;
use crate::check::simulated;

fn op(process: u32, action: Action, start: u64, end: u64) -> RegisterOp {
    RegisterOp { process, action, start, end: (end != 0).then_some(end) }
}

fn run(ops: &[RegisterOp]) -> Linear {
    check(None, ops, Caps::default())
}

use Action::{Cas, Read, Write};

#[test]
fn reads_see_the_last_write_or_one_that_runs_beside_them() {
    let beside = [op(1, Write(1), 0, 10), op(2, Write(2), 20, 60), op(3, Read(Some(1)), 30, 40)];
    assert_eq!(run(&beside), Linear::Yes);
    let mut seen = beside.to_vec();
    seen.push(op(3, Read(Some(2)), 45, 50));
    assert_eq!(run(&seen), Linear::Yes);
    // Once it was seen, nobody sees the old value any more.
    seen.push(op(4, Read(Some(1)), 51, 55));
    assert!(matches!(run(&seen), Linear::No(_)));
}

#[test]
fn a_stale_read_a_lost_write_and_a_value_from_nowhere_are_found() {
    let stale = [op(1, Write(1), 0, 10), op(1, Write(2), 20, 30), op(2, Read(Some(1)), 40, 50)];
    let Linear::No(why) = run(&stale) else { panic!("{:?}", run(&stale)) };
    assert!(why.contains("process 2") && why.contains("could be 2"), "{why}");
    assert!(matches!(run(&[op(1, Write(1), 0, 10), op(2, Read(None), 20, 30)]), Linear::No(_)));
    assert!(matches!(run(&[op(1, Read(Some(7)), 0, 10)]), Linear::No(_)));
}

#[test]
fn comparing_and_setting_excludes_others() {
    let start = op(1, Write(1), 0, 10);
    let both = [start.clone(), op(2, Cas(1, 2, true), 20, 40), op(3, Cas(1, 3, true), 20, 40)];
    assert!(matches!(run(&both), Linear::No(_)));
    let one = [start.clone(), op(2, Cas(1, 2, true), 20, 40), op(3, Cas(1, 3, false), 20, 40)];
    assert_eq!(run(&one), Linear::Yes);
    // Refused, although nobody could have changed the value.
    assert!(matches!(run(&[start, op(3, Cas(1, 3, false), 20, 40)]), Linear::No(_)));
}

#[test]
fn what_nobody_answered_may_happen_late_or_never_but_once() {
    let lost = op(1, Write(1), 0, 0);
    let late = [lost.clone(), op(2, Read(None), 10, 20), op(2, Read(Some(1)), 1000, 1010)];
    assert_eq!(run(&late), Linear::Yes);
    assert_eq!(run(&[lost.clone(), op(2, Write(2), 10, 20), op(2, Read(Some(2)), 30, 40)]), Linear::Yes);
    let twice = [
        lost,
        op(2, Read(Some(1)), 10, 20),
        op(2, Write(2), 30, 40),
        op(2, Read(Some(2)), 50, 60),
        op(2, Read(Some(1)), 70, 80),
    ];
    assert!(matches!(run(&twice), Linear::No(_)));
}

#[test]
fn out_of_memory_time_or_slots_is_unknown_and_never_yes() {
    // Writes of unknown outcome, and a read of what none of them wrote: all orders must be tried.
    let mut ops: Vec<RegisterOp> = (0..20).map(|i| op(i, Write(i64::from(i)), 0, 0)).collect();
    ops.push(op(90, Read(Some(99)), 10, 20));
    let small = Caps { configurations: 10, ..Caps::default() };
    assert!(matches!(check(None, &ops, small), Linear::Unknown(_)));
    let hasty = Caps { time: Duration::ZERO, ..Caps::default() };
    assert!(matches!(check(None, &ops, hasty), Linear::Unknown(_)));
    let many: Vec<RegisterOp> = (0..200).map(|i| op(i, Write(i64::from(i)), 0, 0)).collect();
    assert!(matches!(run(&many), Linear::Unknown(_)));
}

#[test]
fn one_stale_read_among_ten_thousand_operations_is_found() {
    // How long that takes depends on who else works here; the benchmark tells.
    let patient = Caps { time: Duration::MAX, ..Caps::default() };
    let mut ops = simulated::register(10_000, 1_000);
    assert_eq!(check(None, &ops, patient), Linear::Yes);
    let wrong = ops[9_000..].iter_mut().find(|o| matches!(o.action, Read(_))).unwrap();
    wrong.action = Read(Some(3));
    let wrong = wrong.start;
    let Linear::No(why) = check(None, &ops, patient) else { panic!("not found") };
    assert!(why.contains("Read(Some(3))") && why.contains(&seconds(wrong)), "{why}");
}
