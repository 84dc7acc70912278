//! Faults by hand, for scripts: aimed instead of drawn, and over when the script says so.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::io::{Calls, Errors};
use super::{Active, Entry, Heal, Kind, Nemesis, PATIENCE, apply};
use crate::check::recovery::Installed;
use crate::process::{kill_at_once, signal_all};
use crate::system::System;
use crate::{Context, Result, bail};

impl<'a> Nemesis<'a> {
    pub fn system(&self) -> &'a dyn System {
        self.system
    }

    /// Time passes; faults end when they are due.
    pub fn sleep(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.heal_due(self.bench.recorder.now())?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// A fault on whom it finds, waited for where there is nobody yet.
    pub fn hit(&mut self, kind: Kind, roll: u64, lasts: Duration) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let entry = Entry { at: Duration::ZERO, lasts, kind, roll };
        while !self.begin(&entry, Instant::now() < until) {
            self.sleep(Duration::from_millis(20))?;
        }
        match self.records.last() {
            Some(record) if record.kind == kind.name() && self.active.last().is_none_or(|a| a.kind != kind) => {
                bail!("{} did not take effect: {:?}", kind.name(), record.installed)
            }
            _ => Ok(()),
        }
    }

    /// In force until [`Nemesis::heal_all`].
    fn put(&mut self, kind: Kind, machines: Vec<String>, target: String, heal: Heal) {
        let from = self.bench.recorder.now();
        eprintln!("{:7.1} s  {} {target}", from.as_secs_f64(), kind.name());
        let until = Duration::MAX;
        self.active.push(Active { kind, machines, target, from, until, installed: Installed::Installed, heal });
    }

    /// Cuts both directions.
    pub fn cut(&mut self, left: &[&str], right: &[&str]) -> Result<()> {
        let rules = self.system.site().network.cut(left, right)?;
        self.put(Kind::Halves, Vec::new(), format!("{}|{}", left.join("+"), right.join("+")), Heal::Rules(rules));
        Ok(())
    }

    pub fn cut_one_way(&mut self, from: &[&str], to: &[&str]) -> Result<()> {
        let rules = self.system.site().network.cut_one_way(from, to)?;
        self.put(Kind::OneWay, Vec::new(), format!("{}>{}", from.join("+"), to.join("+")), Heal::Rules(rules));
        Ok(())
    }

    /// Everything on these machines dies in one instant; they are started again with the heal.
    pub fn kill(&mut self, names: &[&str]) -> Result<()> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut machines = Vec::new();
        for name in &names {
            machines.push(self.system.site().network.machine(name)?);
        }
        kill_at_once(|| machines.iter().flat_map(|machine| machine.pids()).collect())?;
        for machine in machines {
            machine.kill()?;
        }
        self.put(Kind::KillServer, names.clone(), names.join("+"), Heal::Start(names, false));
        Ok(())
    }

    /// These machines lose power in one instant.
    pub fn power(&mut self, kind: Kind, names: &[&str]) -> Result<()> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        match apply::power(self.system, names)? {
            Some((machines, heal)) => self.put(kind, machines.clone(), machines.join("+"), heal),
            None => bail!("nothing ran there"),
        }
        Ok(())
    }

    /// Heals what was done to one machine alone.
    pub fn heal_on(&mut self, machine: &str) -> Result<()> {
        for fault in self.active.iter_mut().filter(|fault| fault.machines == [machine.to_owned()]) {
            fault.until = Duration::ZERO;
        }
        self.heal_due(self.bench.recorder.now())
    }

    /// A fault that the script itself has put in place, and takes back.
    pub fn note(&mut self, kind: Kind, machine: &str) {
        self.put(kind, Vec::new(), machine.to_owned(), Heal::Nothing);
    }

    /// Every write to this machine's disk hangs.
    pub fn freeze(&mut self, machine: &str) -> Result<()> {
        self.system.site().disks.context("machines have no disks of their own")?.freeze(machine)?;
        self.put(Kind::HungDisk, vec![machine.to_owned()], machine.to_owned(), Heal::Thaw(machine.to_owned()));
        Ok(())
    }

    /// These calls of everything on this machine fail.
    pub fn fail_io(&mut self, machine: &str, calls: Calls) -> Result<()> {
        let site = self.system.site();
        let errors = Errors::install(site.lab, site.network.machine(machine)?, calls)?;
        let target = format!("{machine} ({calls:?})");
        self.put(Kind::IoErrors, vec![machine.to_owned()], target, Heal::Errors(errors));
        Ok(())
    }

    /// Everything on this machine's disk fails until the heal, which starts the machine anew.
    pub fn kill_disk(&mut self, machine: &str) -> Result<()> {
        apply::kill_disk(self.system, machine)?;
        let machines = vec![machine.to_owned()];
        self.put(Kind::DeadDisk, machines.clone(), machine.to_owned(), Heal::Start(machines, true));
        Ok(())
    }

    /// A program of our keeper on a machine is stopped until the heal.
    pub fn stop_ours(&mut self, kind: Kind, machine: &str, guardian: bool) -> Result<()> {
        let pids = apply::ours(self.system.site().network.machine(machine)?, guardian);
        pids.first().context(format!("nothing of ours runs on {machine}"))?;
        signal_all(&pids, Signal::SIGSTOP)?;
        self.put(kind, vec![machine.to_owned()], machine.to_owned(), Heal::ResumePids(pids));
        Ok(())
    }
}
