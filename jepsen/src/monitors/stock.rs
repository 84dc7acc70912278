//! The stock monitor: one PostgreSQL with the stock extension, run by `pg_autoctl`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Kind, Monitors};
use crate::process::{Process, kill_at_once, signal_all, tree};
use crate::{Context, Lab, Result, command, ensure};

pub struct StockMonitor {
    pgdata: PathBuf,
    port: u16,
    admin: String,
    run: Box<dyn Fn() -> Command + Send>,
    log: PathBuf,
    process: Option<Process>,
}

impl StockMonitor {
    pub fn start(lab: &Lab) -> Result<Self> {
        Self::start_as(lab, "mon")
    }

    /// Starts a stock monitor in the directory `name` of the lab.
    pub fn start_as(lab: &Lab, name: &str) -> Result<Self> {
        let port = lab.port()?;
        let pgdata = lab.path(name);
        let mut create = lab.command("pg_autoctl");
        create.args(["create", "monitor", "--hostname", "127.0.0.1", "--auth", "trust", "--no-ssl"]);
        create.arg("--pgdata").arg(&pgdata).args(["--pgport", &port.to_string()]);
        command::run(create, Duration::from_secs(60))?.ok()?;
        modest(&pgdata)?;
        // A plain description of `pg_autoctl run`, to start it anew without the lab at hand.
        let run = lab.command("pg_autoctl");
        let (program, dir) = (run.get_program().to_owned(), pgdata.clone());
        let environment: Vec<_> =
            run.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
        let account = crate::requirements::account()?;
        let run = move || {
            use std::os::unix::process::CommandExt;
            let mut command = Command::new(&program);
            command.env_clear().envs(environment.clone()).current_dir("/").process_group(0);
            command.arg("run").arg("--pgdata").arg(&dir);
            if account.switch {
                command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
            }
            command
        };
        let admin = nix::unistd::User::from_uid(account.uid)?.context("the account has no name")?.name;
        let mut monitor = Self { pgdata, port, admin, run: Box::new(run), log: lab.log(name), process: None };
        monitor.restart(0)?;
        monitor.serving(0)?;
        lab.remember_monitor(monitor.uri(0));
        Ok(monitor)
    }

    /// Everything that runs for this monitor.
    fn pids(&self) -> Vec<i32> {
        let mut roots: Vec<i32> = self.process.iter().map(Process::pid).collect();
        roots.extend(postmaster(&self.pgdata));
        let mut pids = tree(&roots);
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    fn only(i: usize) -> Result<()> {
        ensure!(i == 0, "there is just one stock monitor");
        Ok(())
    }
}

impl Monitors for StockMonitor {
    fn kind(&self) -> Kind {
        Kind::Stock
    }

    fn ports(&self) -> Vec<u16> {
        vec![self.port]
    }

    fn pid(&self, i: usize) -> Option<i32> {
        (i == 0).then(|| self.process.as_ref().map(Process::pid))?
    }

    fn kill(&mut self, i: usize) -> Result<()> {
        Self::only(i)?;
        kill_at_once(|| self.pids())?;
        // Reaped, or the next pg_autoctl would take the zombie for a running one.
        match self.process.take() {
            Some(process) => process.wait(Duration::from_secs(10)).map(drop),
            None => Ok(()),
        }
    }

    fn pause(&mut self, i: usize) -> Result<()> {
        Self::only(i)?;
        signal_all(&self.pids(), Signal::SIGSTOP)
    }

    fn resume(&mut self, i: usize) -> Result<()> {
        Self::only(i)?;
        signal_all(&self.pids(), Signal::SIGCONT)
    }

    fn stop(&mut self, i: usize) -> Result<()> {
        Self::only(i)?;
        if let Some(process) = self.process.take() {
            process.signal(Signal::SIGTERM)?;
            process.wait(Duration::from_secs(60))?;
        }
        Ok(())
    }

    fn restart(&mut self, i: usize) -> Result<()> {
        Self::only(i)?;
        self.process = Some(Process::spawn("the stock monitor", (self.run)(), &self.log)?);
        Ok(())
    }

    fn admin(&self) -> String {
        self.admin.clone()
    }
}

/// The pid of the postmaster of a data directory, if it left one.
pub fn postmaster(pgdata: &std::path::Path) -> Option<i32> {
    fs::read_to_string(pgdata.join("postmaster.pid")).ok()?.lines().next()?.parse().ok()
}

/// `pg_autoctl` gives a quarter of the machine's memory to each instance; several share this one.
pub fn modest(pgdata: &std::path::Path) -> Result<()> {
    let path = pgdata.join("postgresql.conf");
    let mut conf =
        fs::OpenOptions::new().append(true).open(&path).context(format!("open {}", path.display()))?;
    conf.write_all(b"\nshared_buffers = '64MB'\nmax_wal_size = '256MB'\nhuge_pages = off\n")?;
    // Its power may go a moment later.
    conf.sync_all().context(format!("sync {}", path.display()))
}
