//! Scripted regressions: faults aimed at what once went wrong, or would if a rule were broken. Those that
//! are a mutant's trap must fail when that mistake is made, and pass otherwise.

mod stories;
mod traps;

use std::path::Path;
use std::time::Duration;

use crate::faults::features::Missing;
use crate::faults::{Kind, Nemesis};
use crate::load::Bench;
use crate::net::Network;
use crate::run::{self, Outcome, Plan, STALE, Workloads};
use crate::system::{System, Tempo, Which};
use crate::{Context, Lab, Result};

/// A mistake that a script must find, and the checkers that may say so.
#[derive(Clone, Copy, Debug)]
pub struct Trap {
    /// `PGQUORUM_MUTANT`; `notice-ignored` is a mistake of the client instead.
    pub mutant: &'static str,
    pub finders: &'static [&'static str],
    /// A unit test that shows it where no script can: the package and the test's name.
    pub unit: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Copy)]
pub struct Script {
    pub name: &'static str,
    pub summary: &'static str,
    /// Kinds of faults in it: what must be prepared, and must have taken effect.
    pub kinds: &'static [Kind],
    pub stale: Duration,
    /// The monitors' clients hurry.
    pub hurry: bool,
    pub trap: Option<Trap>,
    body: fn(&mut Nemesis, &Bench) -> Result<()>,
}

/// All scripts.
pub fn all() -> Vec<Script> {
    [stories::ALL, traps::ALL].concat()
}

/// Scripts by name; all of them without names.
pub fn named(names: &[String]) -> Result<Vec<Script>> {
    let all = all();
    if names.is_empty() {
        return Ok(all);
    }
    let known = || all.iter().map(|script| script.name).collect::<Vec<_>>().join(", ");
    names
        .iter()
        .map(|name| {
            let found = all.iter().find(|script| script.name == name).copied();
            found.context(format!("no script {name}: there are {}", known()))
        })
        .collect()
}

impl Script {
    /// Why this script cannot run here, if so.
    pub fn missing(&self) -> Option<String> {
        let missing = Missing::probe(self.kinds);
        self.kinds.iter().find_map(|kind| missing.why(*kind).map(str::to_owned))
    }

    /// Runs it against our monitors and nodes; everything about it goes to `out`.
    pub fn run(&self, lab: &Lab, out: &Path, ignore_notices: bool) -> Result<Outcome> {
        let plan = Plan {
            which: Which::Pgquorum,
            tempo: Tempo::Tight,
            seed: 7,
            schedule: Vec::new(),
            wanted: self.kinds.to_vec(),
            length: Duration::from_secs(5),
            recovery: Duration::from_secs(60),
            stale: self.stale,
            workloads: Workloads { transactions: true, monitors: true, hurry: self.hurry },
            ignore_notices,
        };
        plan.which.requirements()?;
        run::run_with(lab, &plan, out, self.body)
    }
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A script without peculiarities.
const fn story(
    name: &'static str,
    summary: &'static str,
    kinds: &'static [Kind],
    body: fn(&mut Nemesis, &Bench) -> Result<()>,
) -> Script {
    Script { name, summary, kinds, stale: STALE, hurry: false, trap: None, body }
}

/// Who is who at this moment, the group being at rest.
struct Cast<'a> {
    system: &'a dyn System,
    primary: String,
    leader: String,
}

impl<'a> Cast<'a> {
    fn of(nemesis: &Nemesis<'a>) -> Result<Self> {
        let system = nemesis.system();
        let primary = system.settle(seconds(60))?;
        Ok(Self { system, primary, leader: system.leader()?.context("no monitor leads")? })
    }

    fn network(&self) -> &'a Network {
        self.system.site().network
    }

    fn monitors(&self) -> Vec<&'static str> {
        self.system.monitors()
    }

    fn followers(&self) -> Vec<&'static str> {
        self.monitors().into_iter().filter(|name| *name != self.leader).collect()
    }

    fn standbys(&self) -> Vec<&'static str> {
        self.system.servers().into_iter().filter(|name| *name != self.primary).collect()
    }

    /// Everybody but these.
    fn without(&self, names: &[&str]) -> Vec<&'static str> {
        let all = [self.monitors(), self.system.servers()].concat();
        all.into_iter().filter(|name| !names.contains(name)).collect()
    }
}
