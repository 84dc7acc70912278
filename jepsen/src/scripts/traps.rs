//! Traps: each passes, and fails when one certain mistake is made.

use std::time::{Duration, Instant};

use super::{Cast, Script, Trap, seconds};
use crate::faults::{Kind, Nemesis};
use crate::load::Bench;
use crate::net::switch::Effect;
use crate::run::STALE;
use crate::{Context, Result, sql};

/// What clients of PostgreSQL can find.
const WRITES: &[&str] = &["set", "one primary", "list-append", "bank"];
const MONITORS: &[&str] = &["registers", "events", "event logs", "replicas", "recovery"];

const fn trap(
    name: &'static str,
    summary: &'static str,
    kinds: &'static [Kind],
    body: fn(&mut Nemesis, &Bench) -> Result<()>,
    mutant: &'static str,
    finders: &'static [&'static str],
) -> Script {
    Script { name, summary, kinds, stale: STALE, hurry: false, trap: Some(Trap { mutant, finders, unit: None }), body }
}

pub const ALL: &[Script] = &[
    trap("unwatched", "the primary is cut off from the monitors, not from its standbys", &[Kind::Halves], unwatched, "seal-skipped", WRITES),
    trap("one-follows", "the primary is cut off from monitors and one standby; the other one goes with it", &[Kind::Halves], one_follows, "n-k", WRITES),
    trap("alone", "the primary is cut off from its standbys, then from everybody but the clients", &[Kind::Halves], alone, "sync-dropped", WRITES),
    Script {
        hurry: true,
        ..trap("power-of-all", "all monitors lose power in the same instant, three times", &[Kind::PowerMonitors], power_of_all, "no-sync", MONITORS)
    },
    Script {
        trap: Some(Trap {
            mutant: "lease-from-receipt",
            finders: &["stale reads"],
            unit: Some(("keeper", "a_lease_counted_from_the_answers_receipt_outlives_what_the_monitors_assume")),
        }),
        stale: Duration::from_millis(60),
        ..trap("late-answers", "answers to the primary are late, then it is cut off; leases are long", &[Kind::Halves], late_answers, "", &[])
    },
    Script {
        hurry: true,
        ..trap("old-followers", "what the leading monitor sends comes late", &[Kind::SlowNetwork], old_followers, "local-reads", &["registers"])
    },
    trap("cancelled-waits", "commits that wait on a cut-off primary are cancelled there", &[Kind::Halves], cancelled_waits, "notice-ignored", WRITES),
];

/// One standby hears late from the monitors, and is no candidate: without a seal it would go on
/// acknowledging what the old primary writes while the other one is promoted.
fn unwatched(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    let cast = Cast::of(nemesis)?;
    let late = *cast.standbys().first().context("no standby")?;
    let uri = cast.system.monitor_uri(&cast.leader).context("monitors speak SQL")?;
    sql::query(&uri, &format!("SELECT pgautofailover.set_node_candidate_priority('default', '{late}', 0)"))?;
    nemesis.sleep(seconds(2))?;
    for monitor in cast.monitors() {
        // Less than what the monitors' health checks wait for an answer.
        cast.network().add(monitor, late, Effect { delay: LATE / 2, ..Effect::default() })?;
    }
    nemesis.sleep(seconds(2))?;
    nemesis.cut(&[&cast.primary], &cast.monitors())?;
    nemesis.sleep(seconds(10))?;
    nemesis.heal_all()?;
    cast.network().heal();
    Ok(())
}

/// With number_sync_standbys 0 one candidate is enough for an election: only the seals stand in its way.
fn one_follows(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    let cast = Cast::of(nemesis)?;
    let uri = cast.system.monitor_uri(&cast.leader).context("monitors speak SQL")?;
    sql::query(&uri, "SELECT pgautofailover.set_formation_number_sync_standbys('default', 0)")?;
    nemesis.sleep(seconds(3))?;
    let faithful = *cast.standbys().first().context("no standby")?;
    let pair = [cast.primary.as_str(), faithful];
    nemesis.cut(&pair, &cast.without(&pair))?;
    nemesis.sleep(seconds(12))?;
    nemesis.heal_all()
}

/// First without its standbys, for longer than its walsenders wait (5 s); then without the monitors. Cut off
/// from both at once it would stop itself before it could make the mistake, and so it would where monitors are
/// too busy to answer within a short lease.
fn alone(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    let cast = Cast::of(nemesis)?;
    long_leases(&cast)?;
    nemesis.cut(&[&cast.primary], &cast.standbys())?;
    nemesis.sleep(seconds(10))?;
    nemesis.cut(&[&cast.primary], &cast.monitors())?;
    nemesis.sleep(seconds(12))?;
    nemesis.heal_all()
}

fn power_of_all(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    for _ in 0..3 {
        let cast = Cast::of(nemesis)?;
        nemesis.sleep(seconds(2))?;
        nemesis.power(Kind::PowerMonitors, &cast.monitors())?;
        nemesis.sleep(seconds(1))?;
        nemesis.heal_all()?;
    }
    Ok(())
}

/// Long enough that what standbys have replied (2 s) does not matter.
const LEASE: &str = "5000";
/// Just within the time that a keeper waits for an answer.
const LATE: Duration = Duration::from_millis(600);

fn long_leases(cast: &Cast) -> Result<()> {
    let uri = cast.system.monitor_uri(&cast.leader).context("monitors speak SQL")?;
    sql::query(&uri, &format!("ALTER SYSTEM SET pgquorum.read_lease_ms TO {LEASE}"))?;
    sql::query(&uri, "SELECT pg_reload_conf()").map(drop)
}

fn late_answers(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    let cast = Cast::of(nemesis)?;
    long_leases(&cast)?;
    nemesis.sleep(seconds(2))?;
    for monitor in cast.monitors() {
        cast.network().add(monitor, &cast.primary, Effect { delay: LATE, ..Effect::default() })?;
    }
    nemesis.sleep(seconds(5))?;
    nemesis.cut(&[&cast.primary], &cast.without(&[&cast.primary]))?;
    nemesis.sleep(seconds(11))?;
    nemesis.heal_all()?;
    cast.network().heal();
    Ok(())
}

/// What the leader sends arrives late, and so does the news of what is committed.
fn old_followers(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    let cast = Cast::of(nemesis)?;
    for follower in cast.followers() {
        nemesis.note(Kind::SlowNetwork, follower);
        let slow = Effect { delay: Duration::from_millis(120), ..Effect::default() };
        let rule = cast.network().add(&cast.leader, follower, slow)?;
        nemesis.sleep(seconds(5))?;
        cast.network().remove(rule);
    }
    nemesis.heal_all()
}

fn cancelled_waits(nemesis: &mut Nemesis, _: &Bench) -> Result<()> {
    let cast = Cast::of(nemesis)?;
    let admin = cast.system.admin_uri(&cast.primary)?;
    nemesis.cut(&[&cast.primary], &cast.without(&[&cast.primary]))?;
    let until = Instant::now() + seconds(4);
    while Instant::now() < until {
        let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        // It stops itself soon: then nobody is left to be asked.
        let _ = sql::try_query(&admin, cancel, Duration::from_millis(500))?;
        nemesis.sleep(Duration::from_millis(100))?;
    }
    nemesis.sleep(seconds(5))?;
    nemesis.heal_all()
}
