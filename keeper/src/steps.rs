//! Carries out steps. What to do is in the table; how, here; nothing here chooses a goal.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use failover::NodeState;
use monitor_client::{GroupNode, MonitorClient};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::guardian::client::Guardian;
use crate::paths::Paths;
use crate::postgres::control::Installation;
use crate::postgres::facts::{self, Facts};
use crate::postgres::slots::{self, Sibling};
use crate::postgres::sql::{LocalServer, Sql, literal};
use crate::postgres::{certificate, conf, hba, roles, standby, start};
use crate::state_file::InitStage;
use crate::transitions::{self, Step, Wanted};

/// One local query.
pub(crate) const QUERY: Duration = Duration::from_secs(10);

/// Everything that steps need. Cheap to clone: a transition runs beside the heartbeat.
#[derive(Clone)]
pub struct Worker {
    pub config: Arc<Config>,
    pub paths: Arc<Paths>,
    pub guardian: Arc<Guardian>,
    pub monitor: Arc<MonitorClient>,
    pub node_id: i64,
    pub group: i32,
    /// The group's other nodes, as last heard.
    pub siblings: Arc<Mutex<Vec<GroupNode>>>,
}

impl Step {
    /// After this long the step counts as failed and the transition is tried again. Copying,
    /// rewinding, starting and fetching WAL last as long as they do, and find out by themselves
    /// whether they still move.
    fn deadline(self) -> Option<Duration> {
        match self {
            Step::PrepareCluster
            | Step::Start
            | Step::Copy
            | Step::CopyStandby
            | Step::Rejoin
            | Step::Follow
            | Step::FetchWal
            | Step::Seal
            | Step::Checkpoint => None,
            Step::Promote => Some(Duration::from_secs(120)),
            _ => Some(Duration::from_secs(60)),
        }
    }
}

impl Worker {
    /// The whole way from one state to another.
    pub async fn transition(&self, from: NodeState, to: NodeState) -> Result<()> {
        let steps = transitions::steps(from, to).ok_or_else(|| {
            KeeperError::state(format!(
                "the monitors ask to go from {from} to {to}, which this keeper does not know how to do; nothing is \
                 changed until they ask for something else"
            ))
        })?;
        self.run(steps, to).await
    }

    /// The steps, one after another.
    pub async fn run(&self, steps: &[Step], to: NodeState) -> Result<()> {
        for step in steps {
            let began = Instant::now();
            let work = self.step(*step, to);
            let done = match step.deadline() {
                Some(deadline) => timeout(deadline, work).await.unwrap_or_else(|_| {
                    Err(KeeperError::keeper(format!("not done within {} s", deadline.as_secs())))
                }),
                None => work.await,
            };
            done.map_err(|error| error.while_doing(format!("{step:?}")))?;
            tracing::debug!("{step:?} took {} ms", began.elapsed().as_millis());
        }
        Ok(())
    }

    async fn step(&self, step: Step, to: NodeState) -> Result<()> {
        let config = &*self.config;
        match step {
            Step::PrepareCluster => self.prepare_cluster().await,
            Step::Configure => self.configure(false).await,
            Step::CreateRoles => roles::ensure(config).await,
            Step::PublishIdentity => self.publish_identity().await,
            Step::FinishInit => crate::files::remove(&self.paths.init),
            Step::Start => {
                if transitions::wanted(to) == Wanted::Standby {
                    standby::signal(&config.pgdata)?;
                }
                Ok(start::ensure_running(config, &self.guardian).await?)
            }
            Step::Stop => start::stop(config, &self.guardian).await,
            Step::Fence => start::fence(config, &self.guardian).await,
            Step::Checkpoint => {
                if start::postmaster(config, &self.guardian).await?.is_some() {
                    self.sql().await?.query("checkpoint", Duration::from_secs(3600)).await?;
                }
                Ok(())
            }
            Step::Promote => self.promote().await,
            Step::ForgetUpstream => self.forget_upstream().await,
            Step::ClearSyncNames => self.set_sync_names("").await,
            Step::HoldCommits => {
                let mut siblings = self.known_siblings();
                if siblings.is_empty() {
                    siblings = self.monitor.get_other_nodes(self.node_id).await?;
                }
                let names: Vec<String> = siblings.iter().map(|node| slots::name_of(node.id)).collect();
                match names.is_empty() {
                    true => Ok(()),
                    false => self.set_sync_names(&format!("ANY 1 ({})", names.join(", "))).await,
                }
            }
            Step::TakeSyncNames => self.set_sync_names(&self.sync_names().await?).await,
            Step::AwaitSyncStandby => self.await_sync_standby().await,
            Step::ReadOnly => self.set_read_only(true).await,
            Step::ReadWrite => self.set_read_only(false).await,
            Step::Siblings => self.maintain_siblings().await,
            Step::DropSlots => slots::drop_all(&self.sql().await?).await,
            Step::Copy => self.copy().await,
            Step::CopyStandby => self.copy_standby().await,
            Step::Rejoin => self.rejoin().await,
            Step::Follow => self.follow().await,
            Step::Verify => self.verify().await,
            Step::Seal => self.seal().await,
            Step::FetchWal => self.fetch_wal().await,
            Step::BecomeStandby => self.become_standby().await,
            Step::Leave => crate::files::remove(&self.paths.init),
        }
    }

    pub(crate) async fn sql(&self) -> Result<Sql> {
        Ok(Sql::connect(&LocalServer::of(&self.config), QUERY).await?)
    }

    pub(crate) fn installation(&self) -> Result<Installation> {
        Installation::of(&self.config.pg_ctl)
    }

    /// initdb works beside the data directory as pg_basebackup does: killed in the middle, it leaves
    /// nothing that looks like a cluster.
    async fn prepare_cluster(&self) -> Result<()> {
        let config = &*self.config;
        crate::postgres::basebackup::finish_swap(config)?;
        if config.pgdata.join("PG_VERSION").exists() {
            return Ok(());
        }
        if InitStage::load(&self.paths.init)?.is_some_and(|stage| stage != InitStage::Empty) {
            return Err(KeeperError::state(format!(
                "the cluster that create found in {} is gone",
                config.pgdata.display()
            )));
        }
        crate::postgres::basebackup::by_initdb(config, &self.installation()?).await
    }

    /// `anew`: after a copy of the primary, which brought the primary's certificate.
    pub(crate) async fn configure(&self, anew: bool) -> Result<()> {
        let config = &*self.config;
        let major = self.installation()?.major_version().await?;
        conf::install(config, major)?;
        certificate::ensure(config, anew).await?;
        self.install_hba().map(drop)
    }

    fn install_hba(&self) -> Result<bool> {
        let peers: Vec<String> = self.known_siblings().into_iter().map(|node| node.host).collect();
        let monitors: Vec<String> =
            self.monitor.target().endpoints.iter().map(|e| e.host.clone()).filter(|h| !h.starts_with('/')).collect();
        hba::install(&self.config, &peers, &monitors)
    }

    pub fn known_siblings(&self) -> Vec<GroupNode> {
        // A poisoned lock means that a reader panicked; the list itself is only ever replaced whole.
        self.siblings.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    async fn publish_identity(&self) -> Result<()> {
        let control = self.installation()?.control_data(&self.config.pgdata).await?;
        Ok(self.monitor.set_node_system_identifier(self.node_id, control.system_identifier).await?)
    }

    /// Out of recovery. The checkpoint that tells pg_rewind of the new timeline runs beside: writes
    /// need not wait for it.
    async fn promote(&self) -> Result<()> {
        let sql = self.sql().await?;
        let before = Facts::ask(&sql, QUERY).await?;
        if !before.in_recovery {
            return Ok(());
        }
        info!("promoting PostgreSQL (timeline {}, {})", before.timeline, before.lsn);
        sql.query("select pg_promote(false)", QUERY).await?;
        while sql.value("select pg_is_in_recovery()", QUERY).await?.as_deref() != Some("f") {
            sleep(Duration::from_millis(10)).await;
        }
        let after = Facts::ask(&sql, QUERY).await?;
        if after.timeline <= before.timeline {
            return Err(KeeperError::postgres(format!(
                "PostgreSQL left recovery on timeline {} without a new one",
                before.timeline
            )));
        }
        info!("PostgreSQL is promoted: timeline {}, {}", after.timeline, after.lsn);
        tokio::spawn(async move {
            if let Err(error) = sql.query("checkpoint", Duration::from_secs(3600)).await {
                warn!("the checkpoint after the promotion: {error}");
            }
        });
        Ok(())
    }

    async fn forget_upstream(&self) -> Result<()> {
        let sql = self.sql().await?;
        if Facts::ask(&sql, QUERY).await?.in_recovery {
            return Err(KeeperError::postgres("PostgreSQL is still in recovery"));
        }
        if standby::auto_conf_has_upstream(&self.config.pgdata)? {
            for name in ["primary_conninfo", "primary_slot_name", "recovery_target_timeline"] {
                sql.query(&format!("alter system reset {name}"), QUERY).await?;
            }
        }
        standby::forget(&self.config.pgdata)?;
        sql.query("select pg_reload_conf()", QUERY).await?;
        Ok(())
    }

    /// ALTER SYSTEM, reload, and wait until a session sees it. Works on standbys as well.
    pub async fn set_sync_names(&self, names: &str) -> Result<()> {
        let sql = self.sql().await?;
        let now = sql.value("select setting from pg_settings where name = 'synchronous_standby_names'", QUERY).await?;
        if now.as_deref() == Some(names) {
            return Ok(());
        }
        info!("synchronous_standby_names: '{}' -> '{names}'", now.as_deref().unwrap_or(""));
        sql.query(&format!("alter system set synchronous_standby_names to {}", literal(names)), QUERY).await?;
        sql.query("select pg_reload_conf()", QUERY).await?;
        for _ in 0..500 {
            let seen = sql.value("select setting from pg_settings where name = 'synchronous_standby_names'", QUERY).await?;
            if seen.as_deref() == Some(names) {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(KeeperError::postgres(
            "synchronous_standby_names does not take effect: is it also set in postgresql.conf, or does that file have \
             an error? See pg_file_settings",
        ))
    }

    /// What the monitors say that commits wait for. Asked only while some node is meant to take writes:
    /// a stock 2.0 monitor crashes (SIGSEGV, all its connections lost) on this call when there is none.
    async fn sync_names(&self) -> Result<String> {
        let rows = self.monitor.current_state(&self.config.formation, Some(self.group)).await?;
        if !rows.iter().any(|row| row.goal.is_writable()) {
            return Err(KeeperError::monitor("no node of the group is meant to take writes"));
        }
        Ok(self.monitor.synchronous_standby_names(&self.config.formation, self.group).await?)
    }

    /// From "commits wait for nobody" to "commits wait": a standby must first have everything that was
    /// acknowledged before.
    async fn await_sync_standby(&self) -> Result<()> {
        let names = self.sync_names().await?;
        self.set_sync_names(&names).await?;
        if names.is_empty() {
            return Ok(());
        }
        let sql = self.sql().await?;
        let target = sql.value("select pg_current_wal_flush_lsn()", QUERY).await?.unwrap_or_default();
        let enough = format!(
            "select count(*) from pg_stat_replication where state = 'streaming' and sync_state in ('sync', 'quorum') \
             and flush_lsn >= '{target}'"
        );
        let needed = facts::required_sync(&names);
        let mut seen = 0;
        for _ in 0..200 {
            seen = sql.value(&enough, QUERY).await?.and_then(|n| n.parse().ok()).unwrap_or(0);
            if seen >= 1 {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(KeeperError::postgres(format!(
            "commits wait for {needed} of \"{names}\", and {seen} of them have WAL up to {target} yet"
        )))
    }

    async fn set_read_only(&self, on: bool) -> Result<()> {
        let sql = self.sql().await?;
        if facts::is_read_only_by_default(&sql, QUERY).await? == on {
            return Ok(());
        }
        let statement = match on {
            true => "alter system set default_transaction_read_only to on",
            false => "alter system reset default_transaction_read_only",
        };
        sql.query(statement, QUERY).await?;
        sql.query("select pg_reload_conf()", QUERY).await?;
        Ok(())
    }

    /// Asks for the group's other nodes and brings slots and HBA lines in line with them.
    pub async fn maintain_siblings(&self) -> Result<()> {
        let nodes = self.monitor.get_other_nodes(self.node_id).await?;
        if let Ok(mut known) = self.siblings.lock() {
            known.clone_from(&nodes);
        }
        let sql = self.sql().await?;
        let in_recovery = sql.value("select pg_is_in_recovery()", QUERY).await?.as_deref() != Some("f");
        if self.install_hba()? {
            info!("pg_hba.conf: the lines of the group's nodes have changed");
            sql.query("select pg_reload_conf()", QUERY).await?;
        }
        let siblings: Vec<Sibling> = nodes.iter().map(|n| Sibling { id: n.id, lsn: n.lsn }).collect();
        slots::maintain(&sql, &siblings, !in_recovery).await
    }
}
