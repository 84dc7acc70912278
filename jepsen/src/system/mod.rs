//! Systems under test: each on machines of one network, so that the same faults, clients and
//! checkers fit all of them.

mod ours;
mod patroni;
mod stock;

use std::path::PathBuf;
use std::time::Duration;

pub use ours::Ours;
pub use patroni::Patroni;
pub use stock::Stock;

use crate::check::replicas::Goal;
use crate::disk::Disks;
use crate::net::Network;
use crate::sql;
use crate::wait::wait_for;
use crate::{Context, Failure, Lab, Result, bail, ensure};

/// Who can be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Pgquorum,
    Stock,
    Patroni,
}

impl Which {
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "pgquorum" => Self::Pgquorum,
            "pg_auto_failover" => Self::Stock,
            "patroni" => Self::Patroni,
            other => bail!("no system {other}: there are pgquorum, pg_auto_failover and patroni"),
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Pgquorum => "pgquorum",
            Self::Stock => "pg_auto_failover",
            Self::Patroni => "patroni",
        }
    }

    /// Machines that decide, and machines with PostgreSQL.
    pub fn machines(self) -> (Vec<&'static str>, Vec<&'static str>) {
        let servers = vec!["n1", "n2", "n3"];
        match self {
            Self::Pgquorum | Self::Patroni => (vec!["m1", "m2", "m3"], servers),
            // There is just one stock monitor.
            Self::Stock => (vec!["m1"], servers),
        }
    }

    /// Whether everything is installed.
    pub fn requirements(self) -> Result<()> {
        crate::net::probe()?;
        crate::requirements::account()?;
        crate::requirements::postgres_bindir()?;
        match self {
            Self::Pgquorum => crate::requirements::pgquorum_binary().map(drop),
            Self::Stock => crate::requirements::stock(),
            Self::Patroni => patroni::requirements(),
        }
    }

    /// Brings the system up and waits until it is at rest.
    pub fn start<'a>(self, site: Site<'a>, tempo: Tempo) -> Result<Box<dyn System + 'a>> {
        Ok(match self {
            Self::Pgquorum => Box::new(Ours::start(site, tempo, &self.machines().1)?),
            Self::Stock => Box::new(Stock::start(site, tempo)?),
            Self::Patroni => Box::new(Patroni::start(site, tempo)?),
        })
    }
}

/// Settings for time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tempo {
    /// What the system comes with.
    Default,
    /// The fastest that it was made to work with.
    Tight,
}

/// Where a system lives.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub lab: &'a Lab,
    pub network: &'a Network,
    pub disks: Option<&'a Disks>,
}

impl Site<'_> {
    /// The directory of a machine: its own disk, where there is one.
    pub fn dir(&self, machine: &str) -> PathBuf {
        self.lab.path(machine)
    }

    pub fn address(&self, machine: &str) -> Result<String> {
        Ok(self.network.machine(machine)?.address.clone())
    }

    /// Makes the directory of a machine, for the account that nodes run as.
    pub fn make_dir(&self, machine: &str) -> Result<PathBuf> {
        use std::os::unix::fs::{PermissionsExt, chown};
        let dir = self.dir(machine);
        let account = crate::requirements::account()?;
        std::fs::create_dir_all(&dir).context(format!("create {}", dir.display()))?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))?;
        chown(&dir, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
        Ok(dir)
    }
}

/// A system under test. Machines are killed, frozen and cut off by way of the network; only starting
/// and asking differs from system to system.
pub trait System: Send + Sync {
    fn which(&self) -> Which;

    fn site(&self) -> Site<'_>;

    /// Starts what a machine runs, on the data that it has.
    fn start_member(&self, machine: &str) -> Result<()>;

    /// A monitor dies, loses what it has stored, and is started to be filled by the others.
    fn reinstall(&self, monitor: &str) -> Result<()> {
        bail!("{monitor} of {} cannot be filled by others", self.which().name())
    }

    /// PostgreSQL's port on a server.
    fn port(&self, server: &str) -> Result<u16>;

    /// A monitor's SQL port, where clients may speak SQL to monitors.
    fn monitor_uri(&self, _monitor: &str) -> Option<String> {
        None
    }

    /// The machine of the monitor that leads now.
    fn leader(&self) -> Result<Option<String>>;

    /// What the system says about its servers: name, and state or role. Empty when nobody answers.
    fn states(&self) -> Vec<(String, String)>;

    /// An error that says what is not as it should be, as far as only this system can know.
    fn content(&self) -> Result<()>;

    fn monitors(&self) -> Vec<&'static str> {
        self.which().machines().0
    }

    fn servers(&self) -> Vec<&'static str> {
        self.which().machines().1
    }

    /// The clusters' superuser: the account that made them, unless the system has its own idea.
    fn superuser(&self) -> Result<String> {
        crate::requirements::account()?.name()
    }

    /// A server's own URI, as superuser.
    fn admin_uri(&self, server: &str) -> Result<String> {
        let (user, address) = (self.superuser()?, self.site().address(server)?);
        Ok(format!("postgres://{user}@{address}:{}/postgres", self.port(server)?))
    }

    /// A server's own URI, as the application.
    fn app_uri(&self, server: &str) -> Result<String> {
        Ok(format!("postgres://{ROLE}@{}:{}/postgres", self.site().address(server)?, self.port(server)?))
    }

    /// Takes a planned switchover to another server.
    fn switchover(&self) -> Result<()>;

    /// The one server that takes writes, all others streaming from it and everybody content.
    fn at_rest(&self) -> Result<String> {
        let mut primary = None;
        for server in self.servers() {
            let answer = sql::try_query(
                &self.admin_uri(server)?,
                "SELECT current_setting('transaction_read_only'), \
                 (SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state <> 'async')",
                Duration::from_secs(2),
            )?
            .context(server)?;
            let row = answer.first().context(format!("{server} returns no row"))?;
            let writable = row.first().cloned().flatten().as_deref() == Some("off");
            let streaming = row.get(1).cloned().flatten();
            if writable && let Some((other, _)) = primary.replace((server, streaming)) {
                bail!("{other} and {server} both take writes");
            }
        }
        let (primary, streaming) = primary.context("no server takes writes")?;
        let streaming: usize = streaming.unwrap_or_default().parse()?;
        let wanted = match self.which() {
            // Patroni names one synchronous standby.
            Which::Patroni => 1,
            _ => self.servers().len() - 1,
        };
        ensure!(streaming >= wanted, "{primary} has {streaming} of {wanted} standbys");
        self.content()?;
        Ok(primary.to_owned())
    }

    /// Waits for rest and returns the primary.
    fn settle(&self, within: Duration) -> Result<String> {
        wait_for(&format!("{} to come to rest", self.which().name()), within, || self.at_rest().map(Some))
            .map_err(|error| {
                let states: Vec<String> =
                    self.states().into_iter().map(|(n, s)| format!("{n} {s}")).collect();
                Failure::new(format!("{error}; states: {}", states.join(", ")))
            })
    }
}

/// The application's role. Its number of connections is bounded, so that abandoned statements do not
/// take those that the keepers need.
pub const ROLE: &str = "client";

/// Makes the application's role on the primary.
pub fn make_role(system: &dyn System, primary: &str) -> Result<()> {
    let text = format!("CREATE ROLE {ROLE} LOGIN CONNECTION LIMIT 70; GRANT ALL ON SCHEMA public TO {ROLE}");
    sql::query(&system.admin_uri(primary)?, &text).map(drop)
}

/// What a monitor that speaks pg_auto_failover's SQL knows of the group under test.
pub fn goals(uri: &str) -> Result<Vec<Goal>> {
    let rows = sql::try_query(
        uri,
        "SELECT nodeid, nodename, reportedstate, goalstate FROM pgautofailover.node \
         WHERE formationid = 'default' ORDER BY nodeid",
        Duration::from_secs(1),
    )??;
    rows.into_iter()
        .map(|row| {
            let field = |i: usize| row.get(i).cloned().flatten().context(format!("column {i} is NULL"));
            Ok(Goal {
                formation: "default".to_owned(),
                group: 0,
                node: field(0)?.parse()?,
                name: field(1)?,
                reported: field(2)?,
                goal: field(3)?,
                epoch: None,
            })
        })
        .collect()
}

/// Every node has reached its goal, and the goals are those of a group at rest.
fn all_settled(goals: &[Goal], servers: usize) -> Result<()> {
    ensure!(goals.len() == servers, "the monitors know {} of {servers} nodes", goals.len());
    for goal in goals {
        let rest = goal.reported == goal.goal && ["primary", "secondary"].contains(&goal.goal.as_str());
        ensure!(rest, "{} is {} and shall be {}", goal.name, goal.reported, goal.goal);
    }
    Ok(())
}
