//! Putting faults in place.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::io::{Calls, Errors};
use super::{Heal, Kind, clock};
use crate::net::Machine;
use crate::net::random::Random;
use crate::net::switch::Effect;
use crate::process::{kill_at_once, signal_all, stat};
use crate::system::System;
use crate::wait::wait_until;
use crate::{Context, Result, ensure, sql};

/// Whom a fault can hit.
pub struct Target<'a> {
    pub system: &'a dyn System,
    /// Machines that another fault has in its grip.
    pub busy: BTreeSet<String>,
    pub roll: u64,
}

/// Machines that were hit, and how to heal them. `None`: nobody could be hit.
type Done = Result<Option<(Vec<String>, Heal)>>;

impl Target<'_> {
    fn random(&self) -> Random {
        Random::new(self.roll)
    }

    fn machine(&self, name: &str) -> Result<&Machine> {
        self.system.site().network.machine(name)
    }

    fn free(&self, name: &str) -> bool {
        !self.busy.contains(name)
    }

    fn monitor(&self) -> Option<String> {
        let free: Vec<&str> = self.system.monitors().into_iter().filter(|m| self.free(m)).collect();
        self.random().pick(&free).map(|name| (*name).to_owned())
    }

    fn server(&self) -> Option<String> {
        let free: Vec<&str> = self.system.servers().into_iter().filter(|m| self.free(m)).collect();
        self.random().pick(&free).map(|name| (*name).to_owned())
    }

    /// A monitor, the primary or any server.
    fn anybody(&self, random: &mut Random) -> Result<Option<String>> {
        if let Some(monitor) = random.chance(0.4).then(|| self.monitor()).flatten() {
            return Ok(Some(monitor));
        }
        let primary = if random.chance(0.6) { self.primary()? } else { None };
        Ok(primary.or_else(|| self.server()))
    }

    fn leader(&self) -> Result<Option<String>> {
        Ok(self.system.leader()?.filter(|leader| self.free(leader)))
    }

    /// The first server that takes writes.
    fn primary(&self) -> Result<Option<String>> {
        for server in self.system.servers() {
            let uri = self.system.admin_uri(server)?;
            let answer = sql::try_query(&uri, "SHOW transaction_read_only", Duration::from_millis(500))?;
            if answer.is_ok_and(|rows| rows == [[Some("off".to_owned())]]) {
                return Ok(Some(server.to_owned()).filter(|name| self.free(name)));
            }
        }
        Ok(None)
    }

    fn everyone(&self) -> Vec<&'static str> {
        [self.system.monitors(), self.system.servers()].concat()
    }
}

pub(super) fn install(target: &Target, kind: Kind) -> Done {
    match kind {
        Kind::KillLeader => kill(target, target.leader()?.into_iter().collect()),
        Kind::KillMonitor => kill(target, target.monitor().into_iter().collect()),
        Kind::KillPrimary => kill(target, target.primary()?.into_iter().collect()),
        Kind::KillServer => kill(target, target.server().into_iter().collect()),
        Kind::KillBoth => match (target.leader()?, target.primary()?) {
            (Some(leader), Some(primary)) => kill(target, vec![leader, primary]),
            _ => Ok(None),
        },
        Kind::KillPostgres => kill_postgres(target),
        Kind::KillKeeper => keeper(target, Signal::SIGKILL),
        Kind::PauseLeader => pause(target, target.leader()?),
        Kind::PausePrimary => pause(target, target.primary()?),
        Kind::PauseKeeper => keeper(target, Signal::SIGSTOP),
        Kind::PauseGuardian => guardian(target),
        Kind::PowerPrimary => power(target.system, target.primary()?.into_iter().collect()),
        Kind::PowerMonitors => {
            let mut free: Vec<String> =
                target.system.monitors().into_iter().filter(|m| target.free(m)).map(str::to_owned).collect();
            free.truncate(2);
            power(target.system, free)
        }
        Kind::FullDisk => fill(target),
        Kind::HungDisk => hang(target),
        Kind::IoErrors => io_errors(target),
        Kind::DeadDisk => dead_disk(target),
        Kind::ClockJump | Kind::ClockRate => clocks(target, kind),
        Kind::Switchover => {
            target.system.switchover()?;
            Ok(Some((Vec::new(), Heal::Nothing)))
        }
        Kind::IsolateLeader
        | Kind::IsolatePrimary
        | Kind::PrimaryUnwatched
        | Kind::PrimaryUnfollowed
        | Kind::Halves
        | Kind::OneWay
        | Kind::SlowNetwork => network(target, kind),
    }
}

/// Everything on these machines dies in one instant.
fn kill(target: &Target, names: Vec<String>) -> Done {
    let mut machines = Vec::new();
    for name in &names {
        let machine = target.machine(name)?;
        ensure!(!machine.pids().is_empty(), "nothing runs on {name}");
        machines.push(machine);
    }
    kill_at_once(|| machines.iter().flat_map(|machine| machine.pids()).collect())?;
    for name in &names {
        target.machine(name)?.kill()?;
    }
    Ok((!names.is_empty()).then(|| (names.clone(), Heal::Start(names, false))))
}

fn kill_postgres(target: &Target) -> Done {
    let Some(primary) = target.primary()? else {
        return Ok(None);
    };
    let pids = target.machine(&primary)?.pids_of("postgres");
    // The postmaster is the one whose parent is no postgres.
    let postmaster = pids.iter().find(|pid| stat(**pid).is_some_and(|s| !pids.contains(&s.parent)));
    signal_all(&[*postmaster.context("no postmaster")?], Signal::SIGKILL)?;
    Ok(Some((vec![primary], Heal::Nothing)))
}

fn pause(target: &Target, name: Option<String>) -> Done {
    let Some(name) = name else {
        return Ok(None);
    };
    let machine = target.machine(&name)?;
    machine.pause()?;
    let stopped = |pid: &i32| stat(*pid).is_none_or(|s| matches!(s.state, 'T' | 't' | 'Z'));
    wait_until(&format!("everything on {name} to stop"), Duration::from_secs(5), || {
        Ok(machine.pids().iter().all(stopped).then_some(()))
    })
    .inspect_err(|_| _ = machine.resume())?;
    Ok(Some((vec![name.clone()], Heal::Resume(name))))
}

/// Our own processes on a server, told by their first argument.
pub(super) fn ours(machine: &Machine, guardian: bool) -> Vec<i32> {
    let is = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        (line.split(|b| *b == 0).nth(1) == Some(b"guardian")) == guardian
    };
    machine.pids_of("pgquorum").into_iter().filter(is).collect()
}

fn keeper(target: &Target, signal: Signal) -> Done {
    let Some(name) = target.primary()?.or(target.server()) else {
        return Ok(None);
    };
    let pids = ours(target.machine(&name)?, false);
    ensure!(!pids.is_empty(), "no keeper of ours runs on {name}");
    signal_all(&pids, signal)?;
    let heal = match signal {
        Signal::SIGKILL => Heal::Start(vec![name.clone()], false),
        _ => Heal::ResumePids(pids),
    };
    Ok(Some((vec![name], heal)))
}

fn guardian(target: &Target) -> Done {
    let Some(name) = target.primary()?.or(target.server()) else {
        return Ok(None);
    };
    let pids = ours(target.machine(&name)?, true);
    ensure!(!pids.is_empty(), "no guardian of ours runs on {name}");
    signal_all(&pids, Signal::SIGSTOP)?;
    Ok(Some((vec![name], Heal::ResumePids(pids))))
}

/// Stopped first, so that nobody sees the disk go away before dying, as with real power.
pub(super) fn power(system: &dyn System, names: Vec<String>) -> Done {
    let site = system.site();
    let disks = site.disks.context("machines have no disks of their own")?;
    let mut pids = Vec::new();
    for name in &names {
        pids.extend(site.network.machine(name)?.pids());
    }
    if names.is_empty() || pids.is_empty() {
        return Ok(None);
    }
    signal_all(&pids, Signal::SIGSTOP)?;
    for name in &names {
        disks.power_off(name)?;
    }
    for name in &names {
        site.network.machine(name)?.kill()?;
    }
    Ok(Some((names.clone(), Heal::Start(names, true))))
}

fn fill(target: &Target) -> Done {
    let disks = target.system.site().disks.context("machines have no disks of their own")?;
    let Some(name) = target.random().chance(0.5).then(|| target.monitor()).flatten().or(target.server())
    else {
        return Ok(None);
    };
    let path = disks.fill(&name)?;
    Ok(Some((vec![name], Heal::Delete(path))))
}

fn hang(target: &Target) -> Done {
    let disks = target.system.site().disks.context("machines have no disks of their own")?;
    let Some(name) = target.random().chance(0.5).then(|| target.monitor()).flatten().or(target.primary()?)
    else {
        return Ok(None);
    };
    disks.freeze(&name)?;
    Ok(Some((vec![name.clone()], Heal::Thaw(name))))
}

fn io_errors(target: &Target) -> Done {
    let mut random = target.random();
    let Some(name) = target.anybody(&mut random)? else {
        return Ok(None);
    };
    let calls = if random.chance(0.5) { Calls::Syncs } else { Calls::All };
    let errors = Errors::install(target.system.site().lab, target.machine(&name)?, calls)?;
    Ok(Some((vec![name], Heal::Errors(errors))))
}

fn dead_disk(target: &Target) -> Done {
    let Some(name) = target.anybody(&mut target.random())? else {
        return Ok(None);
    };
    kill_disk(target.system, &name)?;
    Ok(Some((vec![name.clone()], Heal::Start(vec![name], true))))
}

/// The disk alone: who works on it lives, and sees every call fail.
pub(super) fn kill_disk(system: &dyn System, machine: &str) -> Result<()> {
    let disks = system.site().disks.context("machines have no disks of their own")?;
    disks.power_off(machine)?;
    let probe = fs::write(system.site().dir(machine).join("probe"), "x");
    let dead = probe.is_err_and(|error| error.raw_os_error() == Some(nix::errno::Errno::EIO as i32));
    ensure!(dead, "the disk of {machine} still takes writes");
    Ok(())
}

fn clocks(target: &Target, kind: Kind) -> Done {
    let mut random = target.random();
    let Some(name) = random.chance(0.5).then(|| target.monitor()).flatten().or(target.server()) else {
        return Ok(None);
    };
    let lab = target.system.site().lab;
    ensure!(clock::enabled(lab, &name), "the clock of {name} cannot be changed");
    let what: &[&str] =
        if kind == Kind::ClockJump { &["+500", "-500", "-20", "+20"] } else { &["+0 x2", "+0 x0.5"] };
    clock::set(lab, &name, random.pick(what).copied().unwrap_or(clock::RIGHT))?;
    if kind == Kind::ClockRate && clock::jumps(lab, &name) {
        // It boots with this clock, and once more with the right one.
        target.machine(&name)?.kill()?;
        return Ok(Some((vec![name.clone()], Heal::Reboot(name))));
    }
    Ok(Some((vec![name.clone()], Heal::Clock(name))))
}

fn network(target: &Target, kind: Kind) -> Done {
    let network = target.system.site().network;
    let all = target.everyone();
    let without =
        |names: &[&str]| -> Vec<&str> { all.iter().copied().filter(|m| !names.contains(m)).collect() };
    let mut random = target.random();
    let (rules, told) = match kind {
        Kind::IsolateLeader => {
            let Some(leader) = target.system.leader()? else {
                return Ok(None);
            };
            let others: Vec<&str> = target.system.monitors().into_iter().filter(|m| *m != leader).collect();
            // Where there is one monitor alone, it is cut off from the servers.
            let from = if others.is_empty() { target.system.servers() } else { others };
            (network.cut(&[&leader], &from)?, leader)
        }
        Kind::IsolatePrimary | Kind::PrimaryUnwatched | Kind::PrimaryUnfollowed => {
            let Some(primary) = target.primary()? else {
                return Ok(None);
            };
            let from = match kind {
                Kind::IsolatePrimary => without(&[&primary]),
                Kind::PrimaryUnwatched => target.system.monitors(),
                _ => target.system.servers().into_iter().filter(|s| *s != primary).collect(),
            };
            (network.cut(&[&primary], &from)?, primary)
        }
        Kind::Halves => {
            let left: Vec<&str> = all.iter().copied().filter(|_| random.chance(0.5)).collect();
            if left.is_empty() || left.len() == all.len() {
                let alone = [*random.pick(&all).context("no machine")?];
                (network.cut(&alone, &without(&alone))?, alone.join("+"))
            } else {
                (network.cut(&left, &without(&left))?, left.join("+"))
            }
        }
        Kind::OneWay => {
            let from = [*random.pick(&all).context("no machine")?];
            let to: Vec<&str> = without(&from).into_iter().filter(|_| random.chance(0.6)).collect();
            let to = if to.is_empty() { without(&from) } else { to };
            (network.cut_one_way(&from, &to)?, format!("{}>{}", from.join("+"), to.join("+")))
        }
        _ => {
            let effect = Effect {
                delay: Duration::from_millis(random.between(1, 20)),
                jitter: Duration::from_millis(random.between(1, 30)),
                loss: random.below(3) as f64 / 100.0,
                duplicate: random.below(5) as f64 / 100.0,
                ..Effect::default()
            };
            let mut rules = Vec::new();
            for from in &all {
                for to in without(&[from]) {
                    rules.push(network.add(from, to, effect.clone())?);
                }
            }
            let told = format!(
                "{}+{} ms, {} lost",
                effect.delay.as_millis(),
                effect.jitter.as_millis(),
                effect.loss
            );
            (rules, told)
        }
    };
    // A cut machine can still be killed, so it is not busy; the name is for the reader.
    Ok(Some((vec![told], Heal::Rules(rules))))
}
