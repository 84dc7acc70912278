//! The monitors under test: three of ours, or the stock one, behind one trait.

mod pgquorum;
mod stock;

use std::time::Duration;

pub use pgquorum::PgquorumMonitors;
pub use stock::{StockMonitor, modest, postmaster};

use crate::wait::wait_for;
use crate::{Context, Lab, Result, ensure, requirements, sql};

/// Which monitors a test runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Stock,
    Pgquorum,
}

impl Kind {
    /// Starts monitors of this kind and waits until they serve.
    pub fn start(self, lab: &Lab) -> Result<Box<dyn Monitors>> {
        Ok(match self {
            Kind::Stock => Box::new(StockMonitor::start(lab)?),
            Kind::Pgquorum => Box::new(PgquorumMonitors::start(lab, 3)?),
        })
    }

    /// Whether this machine has what a cluster of stock nodes on such monitors needs.
    pub fn requirements(self) -> Result<()> {
        requirements::stock()?;
        if self == Kind::Pgquorum {
            requirements::pgquorum_binary()?;
        }
        Ok(())
    }
}

pub trait Monitors {
    fn kind(&self) -> Kind;

    /// SQL ports, one for each monitor, all on 127.0.0.1.
    fn ports(&self) -> Vec<u16>;

    /// The pid of monitor `i`, when it runs.
    fn pid(&self, i: usize) -> Option<i32>;

    /// kill -9 of monitor `i` and everything below it.
    fn kill(&mut self, i: usize) -> Result<()>;

    /// SIGSTOP of monitor `i`: its sockets stay open and silent.
    fn pause(&mut self, i: usize) -> Result<()>;

    /// SIGCONT of monitor `i`.
    fn resume(&mut self, i: usize) -> Result<()>;

    /// Asks monitor `i` to stop and waits for it.
    fn stop(&mut self, i: usize) -> Result<()>;

    /// Starts monitor `i` again on its old data. Does not wait until it serves.
    fn restart(&mut self, i: usize) -> Result<()>;

    /// Starts those that do not run, and waits until all serve.
    fn revive(&mut self) -> Result<()> {
        for i in 0..self.len() {
            if self.pid(i).is_none() {
                self.restart(i)?;
            }
        }
        (0..self.len()).try_for_each(|i| self.serving(i))
    }

    /// A user who may change the monitor's settings.
    fn admin(&self) -> String;

    fn len(&self) -> usize {
        self.ports().len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The URI of monitor `i`, as a node is given it.
    fn uri(&self, i: usize) -> String {
        let port = self.ports().get(i).copied().unwrap_or_default();
        format!("postgres://autoctl_node@127.0.0.1:{port}/pg_auto_failover")
    }

    /// The URI of all monitors.
    fn uri_all(&self) -> String {
        let hosts: Vec<String> = self.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!(
            "postgres://autoctl_node@{}/pg_auto_failover?target_session_attrs=read-write",
            hosts.join(",")
        )
    }

    /// The monitor that leads now, if one says so.
    fn leads(&self) -> Result<Option<usize>> {
        for i in 0..self.len() {
            let answer =
                sql::try_query(&self.uri(i), "SHOW transaction_read_only", Duration::from_millis(700))?;
            if answer.ok().and_then(|rows| rows.first()?.first()?.clone()).as_deref() == Some("off") {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    /// Waits for a leader.
    fn leader(&self) -> Result<usize> {
        wait_for("a leading monitor", Duration::from_secs(30), || self.leads())
    }

    /// One that runs and does not lead.
    fn follower(&self) -> Result<usize> {
        let leader = self.leader()?;
        (0..self.len()).find(|&i| i != leader && self.pid(i).is_some()).context("no follower runs")
    }

    /// Waits until monitor `i` answers statements.
    fn serving(&self, i: usize) -> Result<()> {
        wait_for(&format!("monitor {i} to answer"), Duration::from_secs(30), || {
            sql::try_query(&self.uri(i), "SELECT nodeid FROM pgautofailover.node", Duration::from_secs(2))??;
            Ok(Some(()))
        })
    }

    /// Changes a setting of the monitor for good, e.g. `pgautofailover.health_check_period`.
    fn set(&self, name: &str, value: &str) -> Result<()> {
        let leader = self.uri(self.leader()?).replace("autoctl_node", &self.admin());
        sql::query(&leader, &format!("ALTER SYSTEM SET {name} TO {value}"))?;
        sql::query(&leader, "SELECT pg_reload_conf()")?;
        wait_for(&format!("{name} = {value}"), Duration::from_secs(10), || {
            let milliseconds =
                sql::value(&leader, &format!("SELECT setting FROM pg_settings WHERE name = '{name}'"))?;
            ensure!(milliseconds == value, "it is {milliseconds}");
            Ok(Some(()))
        })
    }

    /// The tightest settings at which the stock monitor was measured.
    fn tighten(&self) -> Result<()> {
        for (name, value) in [
            ("health_check_period", "250"),
            ("health_check_timeout", "500"),
            ("health_check_retry_delay", "100"),
            ("health_check_max_retries", "1"),
            ("node_considered_unhealthy_timeout", "2000"),
            ("primary_demote_timeout", "1000"),
            ("startup_grace_period", "1000"),
        ] {
            self.set(&format!("pgautofailover.{name}"), value)?;
        }
        Ok(())
    }
}
