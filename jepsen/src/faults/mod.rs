//! Faults: each is put in place, is seen to have taken effect, and is healed, whatever happens.

mod apply;
pub mod clock;
pub mod features;
pub mod io;
pub mod schedule;
mod script;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

pub use apply::Target;
use features::Missing;
pub use schedule::{Entry, Kind};

use crate::check::recovery::{FaultRecord, Installed};
use crate::load::Bench;
use crate::net::switch::RuleId;
use crate::process::signal_all;
use crate::system::System;
use crate::{Context, Failure, Result};

/// How to undo a fault. Undoing twice is no error.
enum Heal {
    Nothing,
    Rules(Vec<RuleId>),
    /// Machines to be started again, with their disks mounted anew first if they lost power.
    Start(Vec<String>, bool),
    /// A machine to go on.
    Resume(String),
    /// Processes to go on.
    ResumePids(Vec<i32>),
    Delete(PathBuf),
    Thaw(String),
    Errors(io::Errors),
    Clock(String),
    /// The right clock, from a new start on.
    Reboot(String),
}

/// A fault in force.
struct Active {
    kind: Kind,
    machines: Vec<String>,
    target: String,
    from: Duration,
    until: Duration,
    installed: Installed,
    heal: Heal,
}

/// Runs a schedule against a system. Dropped early, it heals what is in force.
pub struct Nemesis<'a> {
    system: &'a dyn System,
    bench: Bench,
    missing: Missing,
    active: Vec<Active>,
    records: Vec<FaultRecord>,
}

/// How long a fault waits for somebody to be hit: there may be no primary at the moment.
const PATIENCE: Duration = Duration::from_secs(12);

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<'a> Nemesis<'a> {
    pub fn new(system: &'a dyn System, bench: Bench, missing: Missing) -> Self {
        Self { system, bench, missing, active: Vec::new(), records: Vec::new() }
    }

    /// Works through the schedule; `go_on` is asked all the while whether to.
    pub fn run(&mut self, schedule: &[Entry], go_on: impl Fn() -> bool) -> Result<()> {
        let begun = self.bench.recorder.now();
        let mut left = schedule.iter().peekable();
        let mut waiting: Vec<&Entry> = Vec::new();
        while go_on() && (left.peek().is_some() || !waiting.is_empty() || !self.active.is_empty()) {
            let now = self.bench.recorder.now();
            self.heal_due(now)?;
            waiting.extend(left.next_if(|entry| begun + entry.at <= now));
            let mut still = Vec::new();
            for entry in waiting {
                let patient = now < begun + entry.at + PATIENCE;
                if !self.begin(entry, patient) {
                    still.push(entry);
                }
            }
            waiting = still;
            std::thread::sleep(Duration::from_millis(20));
        }
        self.heal_due(Duration::MAX)
    }

    /// Puts one fault in place, for at least `entry.lasts`. False: there is nobody to be hit now, and
    /// as `patient` asks, that is not written down as skipped.
    pub fn begin(&mut self, entry: &Entry, patient: bool) -> bool {
        let from = self.bench.recorder.now();
        let busy: BTreeSet<String> = self.active.iter().flat_map(|a| a.machines.iter().cloned()).collect();
        let target = Target { system: self.system, busy, roll: entry.roll };
        let why = self.missing.why(entry.kind);
        let patient = patient && why.is_none();
        let done = match why {
            Some(why) => Err(Failure::new(why)),
            None => apply::install(&target, entry.kind),
        };
        let done = done.and_then(|done| match &done {
            Some((_, Heal::Reboot(machine))) => self.start(machine).map(|()| done),
            _ => Ok(done),
        });
        let (installed, machines, heal) = match done {
            Ok(Some((machines, heal))) => (Installed::Installed, machines, heal),
            Ok(None) | Err(_) if patient => return false,
            Ok(None) => {
                (Installed::Skipped("nobody was left to be hit".to_owned()), Vec::new(), Heal::Nothing)
            }
            Err(error) => (Installed::Skipped(error.to_string()), Vec::new(), Heal::Nothing),
        };
        let target = machines.join("+");
        eprintln!(
            "{:7.1} s  {} {target} {}",
            from.as_secs_f64(),
            entry.kind.name(),
            match &installed {
                Installed::Skipped(why) => format!("skipped: {why}"),
                _ => format!("for {:.1} s", entry.lasts.as_secs_f64()),
            }
        );
        let skipped = matches!(installed, Installed::Skipped(_));
        let active =
            Active { kind: entry.kind, machines, target, from, until: from + entry.lasts, installed, heal };
        if skipped {
            self.record(&active, from);
        } else {
            self.active.push(active);
        }
        true
    }

    fn record(&mut self, fault: &Active, until: Duration) {
        self.records.push(FaultRecord {
            kind: fault.kind.name(),
            target: fault.target.clone(),
            from: nanoseconds(fault.from),
            until: nanoseconds(until),
            installed: fault.installed.clone(),
        });
    }

    fn heal_due(&mut self, now: Duration) -> Result<()> {
        let mut outcome = Ok(());
        while let Some(i) = self.active.iter().position(|fault| fault.until <= now) {
            let mut fault = self.active.swap_remove(i);
            match self.heal(&fault) {
                Ok(None) => {}
                Ok(Some(doubt)) => fault.installed = Installed::Indeterminate(doubt),
                Err(error) => outcome = Err(error).context(format!("heal {}", fault.kind.name())),
            }
            let until = self.bench.recorder.now();
            eprintln!("{:7.1} s  {} {} healed", until.as_secs_f64(), fault.kind.name(), fault.target);
            self.record(&fault, until);
        }
        outcome
    }

    /// Heals everything now.
    pub fn heal_all(&mut self) -> Result<()> {
        self.heal_due(Duration::MAX)
    }

    /// Undoes a fault; a doubt about whether it had an effect comes back.
    fn heal(&self, fault: &Active) -> Result<Option<String>> {
        let site = self.system.site();
        match &fault.heal {
            Heal::Nothing => {}
            Heal::Rules(rules) => {
                let hits: u64 = rules.iter().map(|rule| site.network.remove(*rule)).sum();
                if hits == 0 {
                    return Ok(Some("no packet met it".to_owned()));
                }
            }
            Heal::Start(machines, powered) => {
                for machine in machines {
                    if *powered && let Some(disks) = site.disks {
                        // Whoever has outlived his disk.
                        site.network.machine(machine)?.kill()?;
                        disks.power_on(machine)?;
                    }
                    self.start(machine)?;
                }
            }
            Heal::Resume(machine) => site.network.machine(machine)?.resume()?,
            Heal::ResumePids(pids) => signal_all(pids, nix::sys::signal::Signal::SIGCONT)?,
            Heal::Delete(path) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => self.start_ended(&fault.machines)?,
            },
            Heal::Thaw(machine) => {
                if let Some(disks) = site.disks {
                    disks.thaw(machine)?;
                }
            }
            Heal::Errors(errors) => {
                let failed = errors.heal()?;
                self.start_ended(&fault.machines)?;
                if failed == 0 {
                    return Ok(Some("no call met it".to_owned()));
                }
            }
            Heal::Clock(machine) => clock::set(site.lab, machine, clock::RIGHT)?,
            Heal::Reboot(machine) => {
                clock::set(site.lab, machine, clock::RIGHT)?;
                site.network.machine(machine)?.kill()?;
                self.start(machine)?;
            }
        }
        Ok(None)
    }

    /// Starts what a machine runs, unless something of it still does.
    fn start(&self, machine: &str) -> Result<()> {
        {
            let mut all = self.bench.incarnations.lock().unwrap_or_else(PoisonError::into_inner);
            *all.entry(machine.to_owned()).or_default() += 1;
        }
        self.system.start_member(machine)
    }

    /// Starts those of these machines on which nothing runs any more, as their service manager would.
    fn start_ended(&self, machines: &[String]) -> Result<()> {
        for machine in machines {
            if self.system.site().network.machine(machine)?.pids().is_empty() {
                self.start(machine)?;
            }
        }
        Ok(())
    }

    /// Starts whatever has ended, on all machines: service managers do that.
    pub fn revive(&self) -> Result<()> {
        let names = [self.system.monitors(), self.system.servers()].concat();
        self.start_ended(&names.into_iter().map(str::to_owned).collect::<Vec<_>>())
    }

    pub fn records(&self) -> &[FaultRecord] {
        &self.records
    }
}

impl Drop for Nemesis<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.heal_all() {
            eprintln!("{error}");
        }
        self.system.site().network.heal();
    }
}
