//! Three monitors of ours and nodes with our keeper.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Site, System, Tempo, Which, all_settled, goals, make_role};
use crate::monitors::modest;
use crate::process::Process;
use crate::wait::wait_for;
use crate::{Context, Result, command, requirements, sql};

const SQL_PORT: u16 = 5000;

pub struct Ours<'a> {
    site: Site<'a>,
    binary: PathBuf,
    ports: Vec<(&'static str, u16)>,
}

impl<'a> Ours<'a> {
    /// With these nodes; the first one begins as the primary.
    pub fn start(site: Site<'a>, tempo: Tempo, servers: &[&'static str]) -> Result<Self> {
        let binary = site.lab.path("pgquorum");
        requirements::public_copy(&binary)?;
        let mut ports = Vec::new();
        for server in servers {
            // Sockets of all machines lie in one directory.
            ports.push((*server, site.lab.port()?));
        }
        let ours = Self { site, binary, ports };
        ours.start_monitors(tempo)?;
        for server in ours.servers() {
            ours.create_node(server)?;
        }
        let primary = ours.settle(Duration::from_secs(120))?;
        make_role(&ours, &primary)?;
        Ok(ours)
    }

    /// Monitors alone.
    pub fn only_monitors(site: Site<'a>, tempo: Tempo) -> Result<Self> {
        let binary = site.lab.path("pgquorum");
        requirements::public_copy(&binary)?;
        let ours = Self { site, binary, ports: Vec::new() };
        ours.start_monitors(tempo)?;
        Ok(ours)
    }

    /// What our programs keep outside the data directory lies on the machine's own disk, too.
    fn command(&self, machine: &str) -> Result<Command> {
        let mut command = self.site.network.machine(machine)?.command(self.site.lab, &self.binary.to_string_lossy())?;
        let dir = self.site.dir(machine);
        command.env("XDG_CONFIG_HOME", dir.join("config")).env("XDG_DATA_HOME", dir.join("share"));
        Ok(command)
    }

    fn start_monitors(&self, tempo: Tempo) -> Result<()> {
        let mut members = Vec::new();
        for monitor in self.monitors() {
            members.push(format!("{monitor}={}:{SQL_PORT}", self.site.address(monitor)?));
        }
        let members = members.join(",");
        for monitor in self.monitors() {
            let dir = self.site.make_dir(monitor)?.join("monitor");
            let mut create = self.command(monitor)?;
            create.args(["create", "monitor", "--name", monitor, "--hostname", &self.site.address(monitor)?]);
            create.arg("--pgdata").arg(dir).args(["--pgport", &SQL_PORT.to_string()]);
            create.args(["--replicas", &members, "--auth", "trust", "--no-ssl"]);
            command::run(create, Duration::from_secs(30))?.ok()?;
            self.start_member(monitor)?;
        }
        let leader = wait_for("a leading monitor", Duration::from_secs(30), || self.leader())?;
        if tempo == Tempo::Tight {
            let uri = self.monitor_uri(&leader).unwrap_or_default();
            for (name, value) in TIGHT {
                sql::query(&uri, &format!("ALTER SYSTEM SET pgautofailover.{name} TO {value}"))?;
            }
            sql::query(&uri, "SELECT pg_reload_conf()")?;
        }
        Ok(())
    }

    fn create_node(&self, server: &str) -> Result<()> {
        let dir = self.site.make_dir(server)?.join("pg");
        let mut create = self.command(server)?;
        create.args(["create", "postgres", "--name", server, "--hostname", &self.site.address(server)?]);
        create.arg("--pgdata").arg(&dir).args(["--pgport", &self.port(server)?.to_string()]);
        create.arg("--pgctl").arg(self.site.lab.bindir().join("pg_ctl"));
        // The usual directory of sockets is for user postgres.
        create.arg("--pghost").arg(self.site.lab.path("run"));
        create.args(["--auth", "trust", "--no-ssl", "--pg-hba-lan", "--monitor", &self.uri_all()?]);
        command::run(create, Duration::from_secs(120))?.ok()?;
        modest(&dir)?;
        self.start_member(server)?;
        if server == "n1" {
            wait_for("the first node to serve", Duration::from_secs(60), || {
                sql::query(&self.admin_uri(server)?, "SELECT 1").map(Some)
            })?;
        }
        Ok(())
    }

    pub fn uri_all(&self) -> Result<String> {
        let mut hosts = Vec::new();
        for monitor in self.monitors() {
            hosts.push(format!("{}:{SQL_PORT}", self.site.address(monitor)?));
        }
        Ok(format!(
            "postgres://autoctl_node@{}/pg_auto_failover?target_session_attrs=read-write",
            hosts.join(",")
        ))
    }
}

/// The tightest settings that the stock monitor was measured with, in milliseconds.
pub const TIGHT: [(&str, &str); 7] = [
    ("health_check_period", "250"),
    ("health_check_timeout", "500"),
    ("health_check_retry_delay", "100"),
    ("health_check_max_retries", "1"),
    ("node_considered_unhealthy_timeout", "2000"),
    ("primary_demote_timeout", "1000"),
    ("startup_grace_period", "1000"),
];

impl System for Ours<'_> {
    fn which(&self) -> Which {
        Which::Pgquorum
    }

    fn site(&self) -> Site<'_> {
        self.site
    }

    fn servers(&self) -> Vec<&'static str> {
        self.ports.iter().map(|(server, _)| *server).collect()
    }

    fn start_member(&self, machine: &str) -> Result<()> {
        let of = if self.monitors().contains(&machine) { "monitor" } else { "pg" };
        let mut run = self.command(machine)?;
        run.args(["run", "--pgdata"]).arg(self.site.dir(machine).join(of));
        Process::spawn(machine, run, &self.site.lab.log(machine)).map(drop)
    }

    fn reinstall(&self, monitor: &str) -> Result<()> {
        self.site.network.machine(monitor)?.kill()?;
        let dir = self.site.dir(monitor).join("monitor");
        fs::remove_dir_all(dir.join("store")).context("remove the store")?;
        let mut run = self.command(monitor)?;
        run.args(["run", "--rejoin", "--pgdata"]).arg(dir);
        Process::spawn(monitor, run, &self.site.lab.log(monitor)).map(drop)
    }

    fn port(&self, server: &str) -> Result<u16> {
        let found = self.ports.iter().find(|(name, _)| *name == server);
        Ok(found.context(format!("there is no server {server}"))?.1)
    }

    fn monitor_uri(&self, monitor: &str) -> Option<String> {
        let address = self.site.address(monitor).ok()?;
        Some(format!("postgres://autoctl_node@{address}:{SQL_PORT}/pg_auto_failover"))
    }

    fn leader(&self) -> Result<Option<String>> {
        for monitor in self.monitors() {
            let uri = self.monitor_uri(monitor).unwrap_or_default();
            let answer = sql::try_query(&uri, "SHOW transaction_read_only", Duration::from_millis(700))?;
            if answer.ok().and_then(|rows| rows.first()?.first()?.clone()).as_deref() == Some("off") {
                return Ok(Some(monitor.to_owned()));
            }
        }
        Ok(None)
    }

    fn states(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for monitor in self.monitors() {
            let uri = self.monitor_uri(monitor).unwrap_or_default();
            if let Ok(goals) = goals(&uri) {
                found = goals.into_iter().map(|g| (g.name, g.goal)).collect();
                break;
            }
        }
        found
    }

    fn content(&self) -> Result<()> {
        for monitor in self.monitors() {
            let uri = self.monitor_uri(monitor).unwrap_or_default();
            all_settled(&goals(&uri).context(monitor)?, self.servers().len())?;
        }
        Ok(())
    }

    fn switchover(&self) -> Result<()> {
        sql::query(&self.uri_all()?, "SELECT pgautofailover.perform_failover('default', 0)").map(drop)
    }
}
