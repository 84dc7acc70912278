//! PostgreSQL nodes under our own keeper, and a group of them on our monitors.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cluster::NodeRow;
use crate::command;
use crate::monitors::{PgquorumMonitors, modest, postmaster};
use crate::process::{Process, kill_at_once, living_in, signal_all, tree};
use crate::wait::{wait_for, wait_until};
use crate::writer::Writer;
use crate::{Context, Failure, Lab, Monitors, Result, ensure, requirements, sql};

/// A node: keeper, guardian and PostgreSQL.
pub struct OwnNode {
    pub name: String,
    pub port: u16,
    pub pgdata: PathBuf,
    /// The cluster's superuser: the account that it runs as.
    user: String,
    binary: PathBuf,
    process: Option<Process>,
}

impl OwnNode {
    /// `pgquorum create postgres`; the keeper does not run yet.
    pub fn create(lab: &Lab, name: &str, monitor: &str) -> Result<Self> {
        let (port, pgdata) = (lab.port()?, lab.path(name));
        let user = requirements::account()?.name()?;
        let node = Self { name: name.to_owned(), port, pgdata, user, binary: public_binary(lab)?, process: None };
        let mut create = lab.command(&node.binary);
        create.args(["create", "postgres", "--hostname", "127.0.0.1", "--listen", "127.0.0.1"]);
        create.args(["--name", name, "--auth", "trust", "--no-ssl"]);
        create.args(["--monitor", monitor, "--pgctl"]).arg(lab.bindir().join("pg_ctl"));
        create.arg("--pgdata").arg(&node.pgdata).args(["--pgport", &port.to_string()]);
        command::run(create, Duration::from_secs(120))?.ok()?;
        modest(&node.pgdata)?;
        Ok(node)
    }

    /// Starts the keeper, which starts the guardian and PostgreSQL.
    pub fn run(&mut self, lab: &Lab) -> Result<()> {
        ensure!(self.keeper().is_none(), "the keeper of {} runs already", self.name);
        let mut run = lab.command(&self.binary);
        run.args(["run", "--pgdata"]).arg(&self.pgdata);
        self.process =
            Some(Process::spawn(&format!("the keeper of {}", self.name), run, &lab.log(&self.name))?);
        Ok(())
    }

    /// The keeper's pid, while it runs.
    pub fn keeper(&self) -> Option<i32> {
        self.process.as_ref().filter(|p| p.running()).map(Process::pid)
    }

    pub fn postmaster(&self) -> Option<i32> {
        postmaster(&self.pgdata)
    }

    /// Keeper, guardian, PostgreSQL and all their children.
    pub fn pids(&self) -> Vec<i32> {
        // The guardian may have lost its parent; it names the data directory in its arguments.
        let named = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                line.split(|b| *b == 0).any(|arg| arg == self.pgdata.as_os_str().as_encoded_bytes())
            })
        };
        let mut pids: Vec<i32> = living_in(&self.pgdata, NO_MARKER).into_iter().chain(self.keeper()).collect();
        pids.extend(all_pids().into_iter().filter(named));
        let mut pids = tree(&pids);
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// As if the machine had lost power: everything dies in one instant.
    pub fn kill(&mut self) -> Result<()> {
        kill_at_once(|| self.pids())?;
        if let Some(process) = self.process.take() {
            process.wait(Duration::from_secs(10))?;
        }
        wait_until(&format!("the end of {}", self.name), Duration::from_secs(10), || {
            Ok(living_in(&self.pgdata, NO_MARKER).is_empty().then_some(()))
        })
    }

    /// kill -9 of the postmaster alone.
    pub fn kill_postmaster(&self) -> Result<()> {
        signal_all(&[self.postmaster().context("no postmaster")?], Signal::SIGKILL)
    }

    /// As if the machine were frozen. Returns who was stopped.
    pub fn pause(&self) -> Result<Vec<i32>> {
        let pids = self.pids();
        signal_all(&pids, Signal::SIGSTOP)?;
        Ok(pids)
    }

    /// A URI of this node alone, whatever its role.
    pub fn uri(&self) -> String {
        format!("postgres://{}@127.0.0.1:{}/postgres", self.user, self.port)
    }
}

/// PostgreSQL is found by the directory that it works in; nobody carries this variable.
const NO_MARKER: &str = "PGQUORUM_NO_SUCH_VARIABLE=1";

fn all_pids() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Our binary where the nodes' account may run it.
fn public_binary(lab: &Lab) -> Result<PathBuf> {
    let copy = lab.path("pgquorum");
    if !copy.exists() {
        requirements::public_copy(&copy)?;
    }
    Ok(copy)
}

/// Our monitors with our nodes on them.
pub struct Group<'lab> {
    pub lab: &'lab Lab,
    pub monitors: PgquorumMonitors,
    pub nodes: Vec<OwnNode>,
}

impl<'lab> Group<'lab> {
    /// Three monitors and `count` nodes n1.. at rest.
    pub fn start(lab: &'lab Lab, count: usize) -> Result<Self> {
        let mut group = Self { lab, monitors: PgquorumMonitors::start(lab, 3)?, nodes: Vec::new() };
        for i in 1..=count {
            let mut node = OwnNode::create(lab, &format!("n{i}"), &group.monitors.uri_all())?;
            node.run(lab)?;
            group.nodes.push(node);
        }
        group.settle()?;
        Ok(group)
    }

    /// The nodes of the formation `default` as the monitors see them.
    pub fn rows(&self) -> Result<Vec<NodeRow>> {
        let rows = sql::query(
            &self.monitors.uri_all(),
            "SELECT nodeid, nodename, nodeport, reportedstate, goalstate, health \
             FROM pgautofailover.node WHERE formationid = 'default' ORDER BY nodeid",
        )?;
        rows.iter().map(|row| NodeRow::read(row)).collect()
    }

    /// Waits for rest: one primary, the others secondary and streaming synchronously. Returns the
    /// primary's place in `nodes`.
    pub fn settle(&self) -> Result<usize> {
        let others = self.nodes.len() - 1;
        let outcome = wait_for("the group to come to rest", Duration::from_secs(120), || {
            let rows = self.rows()?;
            let seen = rows.iter().map(|r| format!("{}:{}>{}/{}", r.name, r.reported, r.goal, r.health));
            let seen = seen.collect::<Vec<_>>().join(" ");
            let secondaries = rows.iter().filter(|r| r.is("secondary") && r.health == 1).count();
            ensure!(rows.len() == self.nodes.len() && secondaries == others, "{seen}");
            let primary = rows.iter().find(|r| r.is("primary") && r.health == 1).context(seen)?;
            let at = self.nodes.iter().position(|n| n.name == primary.name).context("an unknown node")?;
            let uri = self.nodes.get(at).context("no such node")?.uri();
            let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' \
                             AND sync_state IN ('sync', 'quorum')";
            let streaming: usize = sql::value(&uri, streaming)?.parse()?;
            ensure!(streaming == others, "{streaming} of {others} standbys stream");
            Ok(Some(at))
        });
        outcome.map_err(|error| match sql::events(&self.monitors.uri_all()) {
            Ok(events) => Failure::new(format!("{error}\n{events}")),
            Err(other) => Failure::new(format!("{error} (and no monitor tells its events: {other})")),
        })
    }

    /// The URI of the application's database, wherever its primary is.
    pub fn app_uri(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|n| format!("127.0.0.1:{}", n.port)).collect();
        let user = self.nodes.first().map_or("postgres", |node| node.user.as_str());
        format!("postgres://{user}@{}/postgres?target_session_attrs=read-write", hosts.join(","))
    }

    /// A client that writes from now on, and asks all nodes at once for the primary.
    pub fn writer(&self) -> Result<Writer> {
        Writer::start_at_once(&self.app_uri())
    }

    /// Restarts keepers and monitors that were killed.
    pub fn revive(&mut self) -> Result<()> {
        self.monitors.revive()?;
        for node in &mut self.nodes {
            if node.keeper().is_none() {
                node.run(self.lab)?;
            }
        }
        Ok(())
    }

    /// A switchover, asked for; it is not over when this returns.
    pub fn switchover(&self) -> Result<()> {
        sql::query(&self.monitors.uri_all(), "SELECT pgautofailover.perform_failover('default', 0)").map(drop)
    }
}
