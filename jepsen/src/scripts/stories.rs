//! Combinations that random schedules meet too rarely.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Cast, Script, seconds, story};
use crate::faults::io::Calls;
use crate::faults::{Kind, Nemesis, clock};
use crate::load::Bench;
use crate::system::goals;
use crate::{Context, Result, bail};

pub const ALL: &[Script] = &[
    story("leader-and-primary", "the leading monitor and the primary's machine die together, three times", &[Kind::KillBoth], leader_and_primary),
    story("rolling-monitors", "all monitors are killed in turn while a failover is under way", &[Kind::KillServer], rolling_monitors),
    story("one-way", "one-way cuts between primary, standbys and monitors in all combinations", &[Kind::OneWay], one_way),
    story("power-after-decision", "two monitors lose power right after they have decided on a promotion", &[Kind::PowerMonitors], power_after_decision),
    story("paused-keeper", "the primary's keeper hangs for 15 s", &[Kind::PauseKeeper], paused_keeper),
    story("paused-guardian", "the primary's guardian hangs for 8 s, then is cut off with it", &[Kind::PauseGuardian], paused_guardian),
    story("clocks", "the primary's clocks at half and double speed while it is cut off", &[Kind::ClockRate], clocks),
    story("frozen-disk", "the primary's disk hangs, then the leading monitor's", &[Kind::HungDisk], frozen_disk),
    story("io-errors", "syncs of the primary fail, then all its I/O; the same of the leading monitor", &[Kind::IoErrors], io_errors),
    story("dead-disk", "the primary's disk dies under it, then the leading monitor's", &[Kind::DeadDisk], dead_disk),
    story("new-monitor", "a monitor loses its disk and comes back empty, one after the other, under load", &[Kind::KillServer], new_monitor),
];

fn leader_and_primary(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    for _ in 0..3 {
        Cast::of(nemesis)?;
        nemesis.hit(Kind::KillBoth, 0, seconds(5))?;
        nemesis.sleep(seconds(8))?;
    }
    Ok(())
}

fn rolling_monitors(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    for _ in 0..2 {
        let cast = Cast::of(nemesis)?;
        nemesis.kill(&[&cast.primary])?;
        let mut order = vec![cast.leader.as_str()];
        order.extend(cast.followers());
        for monitor in order {
            // The next one goes when this one is hardly back.
            nemesis.kill(&[monitor])?;
            nemesis.sleep(Duration::from_millis(600))?;
            nemesis.heal_on(monitor)?;
            nemesis.sleep(Duration::from_millis(600))?;
        }
        nemesis.sleep(seconds(3))?;
        nemesis.heal_on(&cast.primary)?;
    }
    Ok(())
}

/// Who does not get through to whom: each of the three kinds, any two of them, and one standby of the two.
fn one_way(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    const WAYS: [(&str, &str); 16] = [
        ("p", "s"), ("s", "p"), ("p", "m"), ("m", "p"), ("s", "m"), ("m", "s"),
        ("p", "sm"), ("sm", "p"), ("s", "pm"), ("pm", "s"), ("m", "ps"), ("ps", "m"),
        ("p", "1"), ("1", "p"), ("1", "m"), ("m", "1"),
    ];
    for (from, to) in WAYS {
        let cast = Cast::of(nemesis)?;
        let who = |kinds: &str| -> Vec<&str> {
            kinds
                .chars()
                .flat_map(|kind| match kind {
                    'p' => vec![cast.primary.as_str()],
                    's' => cast.standbys(),
                    'm' => cast.monitors(),
                    _ => cast.standbys().into_iter().take(1).collect(),
                })
                .collect()
        };
        nemesis.cut_one_way(&who(from), &who(to))?;
        nemesis.sleep(seconds(6))?;
        nemesis.heal_all()?;
    }
    Ok(())
}

/// Waits until the monitors have told a node to be promoted.
fn decided(nemesis: &Nemesis) -> Result<()> {
    let until = Instant::now() + seconds(20);
    while Instant::now() < until {
        for monitor in nemesis.system().monitors() {
            let uri = nemesis.system().monitor_uri(monitor).unwrap_or_default();
            let chosen = ["prepare_promotion", "fast_forward", "wait_primary"];
            if goals(&uri).is_ok_and(|goals| goals.iter().any(|g| chosen.contains(&g.goal.as_str()))) {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("no promotion was decided")
}

fn power_after_decision(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    for _ in 0..2 {
        let cast = Cast::of(nemesis)?;
        nemesis.cut(&[&cast.primary], &cast.without(&[&cast.primary]))?;
        decided(nemesis)?;
        let follower = *cast.followers().first().context("no follower")?;
        nemesis.power(Kind::PowerMonitors, &[&cast.leader, follower])?;
        nemesis.sleep(seconds(3))?;
        nemesis.heal_all()?;
    }
    Ok(())
}

fn paused_keeper(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    let cast = Cast::of(nemesis)?;
    nemesis.stop_ours(Kind::PauseKeeper, &cast.primary, false)?;
    nemesis.sleep(seconds(15))?;
    nemesis.heal_all()
}

fn paused_guardian(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    let cast = Cast::of(nemesis)?;
    nemesis.stop_ours(Kind::PauseGuardian, &cast.primary, true)?;
    nemesis.sleep(seconds(4))?;
    // It has been replaced by now, and the one that was stopped must not matter.
    nemesis.cut(&[&cast.primary], &cast.without(&[&cast.primary]))?;
    nemesis.sleep(seconds(6))?;
    nemesis.heal_all()
}

fn clocks(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    for rate in ["+0 x0.5", "+0 x2"] {
        let cast = Cast::of(nemesis)?;
        let lab = cast.system.site().lab;
        clock::set(lab, &cast.primary, rate)?;
        nemesis.note(Kind::ClockRate, &cast.primary);
        nemesis.sleep(seconds(2))?;
        nemesis.cut(&[&cast.primary], &cast.without(&[&cast.primary]))?;
        nemesis.sleep(seconds(9))?;
        nemesis.heal_all()?;
        clock::set(lab, &cast.primary, clock::RIGHT)?;
    }
    Ok(())
}

fn frozen_disk(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    for of_leader in [false, true] {
        let cast = Cast::of(nemesis)?;
        let machine = if of_leader { &cast.leader } else { &cast.primary };
        nemesis.freeze(machine)?;
        nemesis.sleep(seconds(8))?;
        nemesis.heal_all()?;
    }
    Ok(())
}

fn io_errors(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    for (of_leader, calls) in [(false, Calls::Syncs), (true, Calls::Syncs), (false, Calls::All), (true, Calls::All)] {
        let cast = Cast::of(nemesis)?;
        nemesis.fail_io(if of_leader { &cast.leader } else { &cast.primary }, calls)?;
        nemesis.sleep(seconds(8))?;
        nemesis.heal_all()?;
    }
    Ok(())
}

fn dead_disk(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    for of_leader in [false, true] {
        let cast = Cast::of(nemesis)?;
        nemesis.kill_disk(if of_leader { &cast.leader } else { &cast.primary })?;
        nemesis.sleep(seconds(8))?;
        nemesis.heal_all()?;
    }
    Ok(())
}

fn new_monitor(nemesis: &mut Nemesis, bench: &Bench) -> Result<()> {
    for monitor in nemesis.system().monitors() {
        Cast::of(nemesis)?;
        nemesis.note(Kind::KillServer, monitor);
        // What it has applied begins anew.
        *bench.incarnations.lock().unwrap_or_else(PoisonError::into_inner).entry(monitor.to_owned()).or_default() += 1;
        nemesis.system().reinstall(monitor)?;
        nemesis.sleep(seconds(4))?;
        nemesis.heal_all()?;
    }
    Ok(())
}
