//! Monitors with stock nodes on them: the usual subject of a test.

use std::time::Duration;

use crate::command::{self, Output};
use crate::monitors::{Kind, Monitors};
use crate::nodes::StockNode;
use crate::wait::wait_for;
use crate::writer::Writer;
use crate::{Context, Failure, Lab, Result, ensure, requirements, sql};

/// A node as the monitors see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    pub id: i64,
    pub name: String,
    pub port: u16,
    pub reported: String,
    pub goal: String,
    pub health: i32,
}

impl NodeRow {
    /// From a row of these columns in this order.
    pub fn read(row: &[Option<String>]) -> Result<Self> {
        let field = |i: usize| row.get(i).cloned().flatten().context(format!("column {i} is NULL"));
        Ok(Self {
            id: field(0)?.parse()?,
            name: field(1)?,
            port: field(2)?.parse()?,
            reported: field(3)?,
            goal: field(4)?,
            health: field(5)?.parse()?,
        })
    }

    pub fn is(&self, state: &str) -> bool {
        self.reported == state && self.goal == state
    }
}

pub struct Cluster<'lab> {
    pub lab: &'lab Lab,
    pub monitors: Box<dyn Monitors>,
    pub nodes: Vec<StockNode>,
}

impl<'lab> Cluster<'lab> {
    /// Monitors and `count` nodes n1.. at rest: n1 is the primary. The nodes are registered
    /// through different monitors, and know all of them from then on.
    pub fn start(lab: &'lab Lab, kind: Kind, count: usize) -> Result<Self> {
        let mut cluster = Self::monitors(lab, kind)?;
        cluster.add_nodes(count)?;
        Ok(cluster)
    }

    /// Monitors alone.
    pub fn monitors(lab: &'lab Lab, kind: Kind) -> Result<Self> {
        Ok(Self { lab, monitors: kind.start(lab)?, nodes: Vec::new() })
    }

    pub fn add_nodes(&mut self, count: usize) -> Result<()> {
        let several = self.monitors.len() > 1;
        for i in 1..=count {
            // The first node must be given one address: its HBA line names the host of the URI.
            // The others come through a follower, and through all.
            let uri = match i {
                1 => self.monitors.uri(self.monitors.leader()?),
                2 if several => self.monitors.uri(self.monitors.follower()?),
                _ if several => self.monitors.uri_all(),
                _ => self.monitors.uri(0),
            };
            let mut node = StockNode::create_only(self.lab, &format!("n{i}"), &uri, &[])?;
            if several {
                // Before the keeper runs: one that is told to reload before it has started PostgreSQL
                // sends SIGHUP to the process -1, that is to everything of its user.
                let all = self.monitors.uri_all();
                node.ctl(self.lab, &["config", "set", "pg_autoctl.monitor", &all])?.ok()?;
            }
            node.run(self.lab)?;
            self.nodes.push(node);
            if i == 1 {
                self.wait_state("n1", "single")?;
            }
        }
        self.settle()?;
        Ok(())
    }

    /// Monitors with a fast detection, for tests that wait for a failover.
    pub fn tighten(&self) -> Result<()> {
        self.monitors.tighten()
    }

    pub fn node(&self, name: &str) -> Result<&StockNode> {
        self.nodes.iter().find(|n| n.name == name).context(format!("there is no node {name}"))
    }

    pub fn node_mut(&mut self, name: &str) -> Result<&mut StockNode> {
        self.nodes.iter_mut().find(|n| n.name == name).context(format!("there is no node {name}"))
    }

    /// The nodes as the monitors see them.
    pub fn rows(&self) -> Result<Vec<NodeRow>> {
        let rows = sql::query(
            &self.monitors.uri_all(),
            "SELECT nodeid, nodename, nodeport, reportedstate, goalstate, health \
             FROM pgautofailover.node ORDER BY nodeid",
        )?;
        rows.iter().map(|row| NodeRow::read(row)).collect()
    }

    pub fn row(&self, name: &str) -> Result<NodeRow> {
        self.rows()?.into_iter().find(|r| r.name == name).context(format!("no monitor knows {name}"))
    }

    /// Waits until a node is, and is meant to be, in `state`.
    pub fn wait_state(&self, name: &str, state: &str) -> Result<()> {
        self.explained(wait_for(&format!("{name} to be {state}"), Duration::from_secs(60), || {
            let row = self.row(name)?;
            ensure!(row.is(state), "it is {} and shall be {}", row.reported, row.goal);
            Ok(Some(()))
        }))
    }

    /// Waits for rest: one primary, the others secondary, all healthy, and the primary writable.
    /// Returns the primary's name.
    pub fn settle(&self) -> Result<String> {
        self.settle_within(Duration::from_secs(120))
    }

    pub fn settle_within(&self, deadline: Duration) -> Result<String> {
        let expected = self.nodes.iter().filter(|n| n.keeper().is_some()).count();
        self.explained(wait_for("the cluster to come to rest", deadline, || {
            let rows = self.rows()?;
            let at_rest = |r: &NodeRow| r.health == 1 && (r.is("primary") || r.is("secondary"));
            ensure!(
                rows.len() == expected && rows.iter().all(at_rest),
                "{expected} nodes run: {}",
                rows.iter()
                    .map(|r| format!("{}:{}>{}/{}", r.name, r.reported, r.goal, r.health))
                    .collect::<Vec<_>>()
                    .join(" ")
            );
            let primaries: Vec<&NodeRow> = rows.iter().filter(|r| r.is("primary")).collect();
            let [primary] = primaries.as_slice() else {
                crate::bail!("{} primaries", primaries.len());
            };
            ensure!(self.node(&primary.name)?.writable()?, "{} takes no writes", primary.name);
            Ok(Some(primary.name.clone()))
        }))
    }

    /// Adds what the monitors know to an error.
    pub fn explained<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| match sql::events(&self.monitors.uri_all()) {
            Ok(events) => Failure::new(format!("{error}\n{events}")),
            Err(other) => Failure::new(format!("{error} (and no monitor tells its events: {other})")),
        })
    }

    /// The primary's name, by what the monitors assigned and the node reported.
    pub fn primary(&self) -> Result<String> {
        let row =
            self.rows()?.into_iter().find(|r| r.is("primary") || r.is("single") || r.is("wait_primary"));
        Ok(row.context("no node is primary")?.name)
    }

    /// A standby's name.
    pub fn standby(&self) -> Result<String> {
        Ok(self.rows()?.into_iter().find(|r| r.is("secondary")).context("no node is secondary")?.name)
    }

    /// A stock command given the URI of all monitors.
    pub fn ctl(&self, args: &[&str]) -> Result<Output> {
        self.ctl_at(&self.monitors.uri_all(), args)
    }

    /// A stock command given a monitor URI.
    pub fn ctl_at(&self, uri: &str, args: &[&str]) -> Result<Output> {
        let mut command = self.lab.command("pg_autoctl");
        command.args(args).args(["--monitor", uri]);
        command::run(command, Duration::from_secs(90))
    }

    /// Our own command line, given a monitor URI.
    pub fn pgquorum_at(&self, uri: &str, args: &[&str]) -> Result<Output> {
        let mut command = self.lab.command(requirements::pgquorum_binary()?);
        command.args(args).args(["--monitor", uri]);
        command::run(command, Duration::from_secs(90))
    }

    /// The URI of the application's database, wherever its primary is.
    pub fn app_uri(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|n| format!("127.0.0.1:{}", n.port)).collect();
        format!("postgres://app@{}/app?target_session_attrs=read-write", hosts.join(","))
    }

    /// A client that writes from now on.
    pub fn writer(&self) -> Result<Writer> {
        Writer::start(&self.app_uri())
    }

    /// Restarts killed keepers and monitors, for the next check.
    pub fn revive(&mut self) -> Result<()> {
        self.monitors.revive()?;
        for node in &mut self.nodes {
            if node.keeper().is_none() {
                node.run(self.lab)?;
            }
        }
        Ok(())
    }
}
