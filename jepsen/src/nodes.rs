//! A PostgreSQL node under a stock `pg_autoctl`.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::command::{self, Output};
use crate::monitors::{modest, postmaster};
use crate::process::{Process, kill_at_once, signal_all, tree};
use crate::{Context, Lab, Result, ensure, sql};

pub struct StockNode {
    pub name: String,
    pub port: u16,
    pub pgdata: PathBuf,
    process: Option<Process>,
}

impl StockNode {
    /// `pg_autoctl create postgres`, with `extra` options, then `pg_autoctl run` in the background.
    pub fn create(lab: &Lab, name: &str, monitor: &str, extra: &[&str]) -> Result<Self> {
        let mut node = Self::create_only(lab, name, monitor, extra)?;
        node.run(lab)?;
        Ok(node)
    }

    /// `pg_autoctl create postgres` alone.
    pub fn create_only(lab: &Lab, name: &str, monitor: &str, extra: &[&str]) -> Result<Self> {
        let node = Self { name: name.to_owned(), port: lab.port()?, pgdata: lab.path(name), process: None };
        let mut create = lab.command("pg_autoctl");
        create.args([
            "create",
            "postgres",
            "--hostname",
            "127.0.0.1",
            "--listen",
            "127.0.0.1",
            "--name",
            name,
        ]);
        create.args([
            "--auth",
            "trust",
            "--no-ssl",
            "--username",
            "app",
            "--dbname",
            "app",
            "--monitor",
            monitor,
        ]);
        create.arg("--pgdata").arg(&node.pgdata).args(["--pgport", &node.port.to_string()]).args(extra);
        command::run(create, Duration::from_secs(120))?.ok()?;
        modest(&node.pgdata)?;
        Ok(node)
    }

    /// Starts the keeper, which starts PostgreSQL.
    pub fn run(&mut self, lab: &Lab) -> Result<()> {
        ensure!(self.keeper().is_none(), "the keeper of {} runs already", self.name);
        let mut run = lab.command("pg_autoctl");
        run.args(["run", "--pgdata"]).arg(&self.pgdata);
        self.process =
            Some(Process::spawn(&format!("the keeper of {}", self.name), run, &lab.log(&self.name))?);
        Ok(())
    }

    /// A stock command about this node: `ctl(lab, &["show", "state"])` adds `--pgdata`.
    pub fn ctl(&self, lab: &Lab, args: &[&str]) -> Result<Output> {
        let mut command = lab.command("pg_autoctl");
        command.args(args).arg("--pgdata").arg(&self.pgdata);
        command::run(command, Duration::from_secs(90))
    }

    /// A URI of this node alone, whatever its role.
    pub fn uri(&self) -> String {
        format!("postgres://app@127.0.0.1:{}/app", self.port)
    }

    /// The keeper's pid, while it runs.
    pub fn keeper(&self) -> Option<i32> {
        self.process.as_ref().filter(|p| p.running()).map(Process::pid)
    }

    /// The keeper, to wait for its end.
    pub fn process(&self) -> Result<&Process> {
        self.process.as_ref().context(format!("{} was never run", self.name))
    }

    pub fn postmaster(&self) -> Option<i32> {
        postmaster(&self.pgdata)
    }

    /// Keeper, PostgreSQL and all their children.
    pub fn pids(&self) -> Vec<i32> {
        let roots: Vec<i32> = self.keeper().into_iter().chain(self.postmaster()).collect();
        let mut pids = tree(&roots);
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// As if the machine had lost power: keeper and PostgreSQL die in one instant.
    pub fn kill(&mut self) -> Result<()> {
        kill_at_once(|| self.pids())?;
        // Reaped, or the next pg_autoctl would take the zombie for a running one.
        match self.process.take() {
            Some(process) => process.wait(Duration::from_secs(10)).map(drop),
            None => Ok(()),
        }
    }

    /// As if the machine were frozen.
    pub fn pause(&self) -> Result<()> {
        signal_all(&self.pids(), Signal::SIGSTOP)
    }

    pub fn resume(&self) -> Result<()> {
        signal_all(&self.pids(), Signal::SIGCONT)
    }

    /// `pg_autoctl stop`, and waits for the keeper's end.
    pub fn stop(&mut self, lab: &Lab) -> Result<()> {
        self.ctl(lab, &["stop"])?.ok()?;
        self.process()?.wait(Duration::from_secs(60))?;
        self.process = None;
        Ok(())
    }

    /// Whether this node takes writes, as a client sees it.
    pub fn writable(&self) -> Result<bool> {
        Ok(sql::value(&self.uri(), "SHOW transaction_read_only")? == "off")
    }
}
