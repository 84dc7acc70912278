//! Stock pg_auto_failover: one monitor, three nodes, `pg_autoctl` on all.

use std::process::Command;
use std::time::Duration;

use super::ours::TIGHT;
use super::{Site, System, Tempo, Which, all_settled, goals, make_role};
use crate::monitors::modest;
use crate::process::Process;
use crate::wait::wait_for;
use crate::{Context, Result, command, sql};

pub struct Stock<'a> {
    site: Site<'a>,
    ports: Vec<(&'static str, u16)>,
}

impl<'a> Stock<'a> {
    pub fn start(site: Site<'a>, tempo: Tempo) -> Result<Self> {
        let mut ports = Vec::new();
        for machine in ["m1", "n1", "n2", "n3"] {
            // Sockets of all machines lie in one directory.
            ports.push((machine, site.lab.port()?));
        }
        let stock = Self { site, ports };
        stock.create("m1", &["monitor", "--auth", "trust", "--no-ssl"])?;
        let uri = stock.monitor_uri("m1").context("the monitor has a URI")?;
        wait_for("the monitor", Duration::from_secs(60), || sql::query(&uri, "SELECT 1").map(Some))?;
        if tempo == Tempo::Tight {
            let admin = stock.admin_uri("m1")?;
            for (name, value) in TIGHT {
                sql::query(&admin, &format!("ALTER SYSTEM SET pgautofailover.{name} TO {value}"))?;
            }
            sql::query(&admin, "SELECT pg_reload_conf()")?;
        }
        for server in stock.servers() {
            let more = [
                "postgres",
                "--name",
                server,
                "--auth",
                "trust",
                "--no-ssl",
                "--pg-hba-lan",
                "--monitor",
                &uri,
            ];
            stock.create(server, &more)?;
            if server == "n1" {
                wait_for("the first node to serve", Duration::from_secs(60), || {
                    sql::query(&stock.admin_uri(server)?, "SELECT 1").map(Some)
                })?;
            }
        }
        let primary = stock.settle(Duration::from_secs(180))?;
        make_role(&stock, &primary)?;
        Ok(stock)
    }

    fn command(&self, machine: &str) -> Result<Command> {
        self.site.network.machine(machine)?.command(self.site.lab, "pg_autoctl")
    }

    fn create(&self, machine: &str, what: &[&str]) -> Result<()> {
        let dir = self.site.make_dir(machine)?.join("pg");
        let mut create = self.command(machine)?;
        create.arg("create").args(what).args(["--hostname", &self.site.address(machine)?]);
        create.arg("--pgdata").arg(&dir).args(["--pgport", &self.port(machine)?.to_string()]);
        command::run(create, Duration::from_secs(120))?.ok()?;
        modest(&dir)?;
        // It lets in the nodes and one user alone, and we are others.
        let line = format!("host all all {} trust\n", self.site.network.subnet);
        let mut hba = std::fs::OpenOptions::new().append(true).open(dir.join("pg_hba.conf"))?;
        std::io::Write::write_all(&mut hba, line.as_bytes()).context("let clients in")?;
        self.start_member(machine)
    }
}

impl System for Stock<'_> {
    fn which(&self) -> Which {
        Which::Stock
    }

    fn site(&self) -> Site<'_> {
        self.site
    }

    fn start_member(&self, machine: &str) -> Result<()> {
        let mut run = self.command(machine)?;
        run.args(["run", "--pgdata"]).arg(self.site.dir(machine).join("pg"));
        Process::spawn(machine, run, &self.site.lab.log(machine)).map(drop)
    }

    fn port(&self, server: &str) -> Result<u16> {
        let found = self.ports.iter().find(|(name, _)| *name == server);
        Ok(found.context(format!("there is no machine {server}"))?.1)
    }

    fn monitor_uri(&self, monitor: &str) -> Option<String> {
        let (address, port) = (self.site.address(monitor).ok()?, self.port(monitor).ok()?);
        Some(format!("postgres://autoctl_node@{address}:{port}/pg_auto_failover"))
    }

    fn leader(&self) -> Result<Option<String>> {
        Ok(Some("m1".to_owned()))
    }

    fn states(&self) -> Vec<(String, String)> {
        let uri = self.monitor_uri("m1").unwrap_or_default();
        goals(&uri).unwrap_or_default().into_iter().map(|g| (g.name, g.goal)).collect()
    }

    fn content(&self) -> Result<()> {
        let uri = self.monitor_uri("m1").unwrap_or_default();
        all_settled(&goals(&uri)?, self.servers().len())
    }

    fn switchover(&self) -> Result<()> {
        let uri = self.monitor_uri("m1").unwrap_or_default();
        sql::query(&uri, "SELECT pgautofailover.perform_failover('default', 0)").map(drop)
    }
}
