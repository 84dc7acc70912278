//! Patroni on three servers, with three machines of etcd.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Site, System, Tempo, Which, make_role};
use crate::process::Process;
use crate::requirements::in_path;
use crate::{Context, Result, bail, command, ensure};

const ETCD: u16 = 2379;
const ETCD_PEER: u16 = 2380;
const REST: u16 = 8008;

/// `JEPSEN_PATRONI` names the program where it is not in PATH, e.g. in a virtual environment.
fn program() -> Result<PathBuf> {
    match std::env::var_os("JEPSEN_PATRONI") {
        Some(path) => Ok(path.into()),
        None => in_path("patroni")
            .context("patroni is missing (Debian: patroni, or PyPI: patroni[etcd3] psycopg2-binary)"),
    }
}

pub(super) fn requirements() -> Result<()> {
    program()?;
    ensure!(in_path("etcd").is_some(), "etcd is missing (Debian: etcd-server)");
    ensure!(in_path("curl").is_some(), "curl is missing (Debian: curl)");
    Ok(())
}

pub struct Patroni<'a> {
    site: Site<'a>,
    ports: Vec<(&'static str, u16)>,
}

impl<'a> Patroni<'a> {
    pub fn start(site: Site<'a>, tempo: Tempo) -> Result<Self> {
        let mut ports = Vec::new();
        for server in Which::Patroni.machines().1 {
            ports.push((server, site.lab.port()?));
        }
        let patroni = Self { site, ports };
        for monitor in patroni.monitors() {
            patroni.site.make_dir(monitor)?;
            patroni.start_member(monitor)?;
        }
        for server in patroni.servers() {
            let dir = patroni.site.make_dir(server)?;
            fs::write(dir.join("patroni.json"), patroni.settings(server, tempo)?.to_string())?;
            patroni.start_member(server)?;
        }
        let primary = patroni.settle(Duration::from_secs(120))?;
        make_role(&patroni, &primary)?;
        Ok(patroni)
    }

    fn settings(&self, server: &str, tempo: Tempo) -> Result<Value> {
        let (dir, address, port) = (self.site.dir(server), self.site.address(server)?, self.port(server)?);
        let mut hosts = Vec::new();
        for monitor in self.monitors() {
            hosts.push(format!("{}:{ETCD}", self.site.address(monitor)?));
        }
        // The lowest that it accepts: it lifts a ttl below 20 and a retry_timeout below 3.
        let (ttl, wait, retry) = if tempo == Tempo::Tight { (20, 1, 3) } else { (30, 10, 10) };
        let subnet = &self.site.network.subnet;
        Ok(json!({
            "scope": "lab", "namespace": "/service/", "name": server,
            "restapi": {"listen": format!("{address}:{REST}"), "connect_address": format!("{address}:{REST}")},
            "etcd3": {"hosts": hosts},
            "bootstrap": {
                "dcs": {
                    "ttl": ttl, "loop_wait": wait, "retry_timeout": retry, "maximum_lag_on_failover": 1_048_576,
                    "synchronous_mode": true,
                    "postgresql": {
                        "use_pg_rewind": true,
                        "parameters": {"shared_buffers": "64MB", "max_wal_size": "256MB", "wal_keep_size": "128MB"},
                        "pg_hba": [
                            "local all all trust",
                            format!("host all all {subnet} trust"),
                            format!("host replication all {subnet} trust"),
                        ],
                    },
                },
                "initdb": [{"encoding": "UTF8"}, "data-checksums"],
            },
            "postgresql": {
                "listen": format!("{address}:{port}"), "connect_address": format!("{address}:{port}"),
                "data_dir": dir.join("pg"), "bin_dir": self.site.lab.bindir(), "pgpass": dir.join("pgpass"),
                "authentication": {
                    "replication": {"username": "replicator", "password": "r"},
                    "superuser": {"username": "postgres", "password": "p"},
                },
                "parameters": {"unix_socket_directories": dir},
            },
            "watchdog": {"mode": "off"},
        }))
    }

    /// Asks an HTTP server of ours; curl, so that no HTTP client is compiled for this alone.
    fn get(&self, url: &str, more: &[&str]) -> Result<Value> {
        let mut curl = self.site.lab.command_as_us("curl");
        curl.args(["-sS", "-m", "2"]).args(more).arg(url);
        command::run(curl, Duration::from_secs(5))?.ok()?.json()
    }

    fn members(&self) -> Result<Vec<Value>> {
        let mut last = None;
        for server in self.servers() {
            match self.get(&format!("http://{}:{REST}/cluster", self.site.address(server)?), &[]) {
                Ok(cluster) => return Ok(cluster["members"].as_array().cloned().unwrap_or_default()),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error),
            None => bail!("there are no servers"),
        }
    }
}

impl System for Patroni<'_> {
    fn superuser(&self) -> Result<String> {
        Ok("postgres".to_owned())
    }

    fn which(&self) -> Which {
        Which::Patroni
    }

    fn site(&self) -> Site<'_> {
        self.site
    }

    fn start_member(&self, machine: &str) -> Result<()> {
        let (dir, here) = (self.site.dir(machine), self.site.network.machine(machine)?);
        let run = if self.monitors().contains(&machine) {
            let mut all = Vec::new();
            for monitor in self.monitors() {
                all.push(format!("{monitor}=http://{}:{ETCD_PEER}", self.site.address(monitor)?));
            }
            let (client, peer) =
                (format!("http://{}:{ETCD}", here.address), format!("http://{}:{ETCD_PEER}", here.address));
            let mut run = here.command(self.site.lab, "etcd")?;
            run.args(["--name", machine, "--data-dir"]).arg(dir.join("etcd"));
            run.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            run.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            run.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
            run
        } else {
            let mut run = here.command(self.site.lab, &program()?.to_string_lossy())?;
            run.arg(dir.join("patroni.json"));
            run
        };
        Process::spawn(machine, run, &self.site.lab.log(machine)).map(drop)
    }

    fn port(&self, server: &str) -> Result<u16> {
        let found = self.ports.iter().find(|(name, _)| *name == server);
        Ok(found.context(format!("there is no server {server}"))?.1)
    }

    fn leader(&self) -> Result<Option<String>> {
        for monitor in self.monitors() {
            let url = format!("http://{}:{ETCD}/v3/maintenance/status", self.site.address(monitor)?);
            if let Ok(status) = self.get(&url, &["-X", "POST", "-d", "{}"])
                && status["leader"].is_string()
                && status["leader"] == status["header"]["member_id"]
            {
                return Ok(Some(monitor.to_owned()));
            }
        }
        Ok(None)
    }

    fn states(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.members().unwrap_or_default().iter().map(|m| (text(&m["name"]), text(&m["role"]))).collect()
    }

    fn content(&self) -> Result<()> {
        let members = self.members()?;
        let fine = members.iter().filter(|m| matches!(m["state"].as_str(), Some("running" | "streaming")));
        ensure!(fine.count() == self.servers().len(), "patroni says {members:?}");
        let sync = members.iter().filter(|m| m["role"] == "sync_standby").count();
        ensure!(sync > 0, "no synchronous standby: {members:?}");
        Ok(())
    }

    fn switchover(&self) -> Result<()> {
        let members = self.members()?;
        let role = |role: &str| members.iter().find(|m| m["role"] == role).and_then(|m| m["name"].as_str());
        let (leader, candidate) =
            (role("leader").context("no leader")?, role("sync_standby").context("no candidate")?);
        let url = format!("http://{}:{REST}/switchover", self.site.address(leader)?);
        let body = json!({"leader": leader, "candidate": candidate}).to_string();
        let mut curl = self.site.lab.command_as_us("curl");
        curl.args(["-sS", "-m", "60", "-X", "POST", "-d", &body, &url]);
        command::run(curl, Duration::from_secs(70))?.ok().map(drop)
    }
}
