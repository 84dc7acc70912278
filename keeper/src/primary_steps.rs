//! The steps of a primary: promotion, and whom commits wait for.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::error::{KeeperError, Result};
use crate::orders::Orders;
use crate::postgres::facts::{self, Facts};
use crate::postgres::slots::{self, Sibling};
use crate::postgres::{standby, start, sync, tablespaces};
use crate::source::any_of;
use crate::steps::{QUERY, Worker};

/// How long standbys that stream take to have everything, on a bad day.
const SOON: Duration = Duration::from_secs(1);

/// How long standbys may take to have everything before the attempt counts as failed.
const COVER: Duration = Duration::from_secs(4);

/// Less than the monitors wait for a primary to stop (`primary_demote_timeout`, 30 s).
const AHEAD: Duration = Duration::from_secs(10);

impl Worker {
    /// Out of recovery. The checkpoint that tells pg_rewind of the new timeline comes later: writes
    /// need not wait for it.
    pub(crate) async fn promote(&self) -> Result<()> {
        let sql = self.sql().await?;
        let before = Facts::ask(&sql, QUERY).await?;
        if !before.in_recovery {
            return Ok(());
        }
        // What was reported decided about this promotion.
        if let Some(seal) = self.shared().seal
            && before.lsn < seal.lsn
        {
            return Err(KeeperError::postgres(format!(
                "this standby was sealed at {} and has WAL up to {} only: it is not promoted",
                seal.lsn, before.lsn
            )));
        }
        info!("promoting PostgreSQL (timeline {}, {})", before.timeline, before.lsn);
        sql.query("select pg_promote(false)", QUERY).await?;
        while sql.value("select pg_is_in_recovery()", QUERY).await?.as_deref() != Some("f") {
            sleep(Duration::from_millis(5)).await;
        }
        let after = Facts::ask(&sql, QUERY).await?;
        if after.timeline <= before.timeline {
            return Err(KeeperError::postgres(format!(
                "PostgreSQL left recovery on timeline {} without a new one",
                before.timeline
            )));
        }
        info!("PostgreSQL is promoted: timeline {}, {}", after.timeline, after.lsn);
        Ok(())
    }

    /// Clients go on writing meanwhile; what they write then is all that the shutdown checkpoint has to
    /// do. One that takes long is left running: a stop with more to do is better than none.
    pub(crate) async fn checkpoint_ahead(&self) -> Result<()> {
        if !self.orders().is_some_and(|orders| orders.checkpoint_now)
            || start::postmaster(&self.config, &self.guardian).await?.is_none()
        {
            return Ok(());
        }
        let sql = self.sql().await?.take();
        if let Some(Err(error)) = match &sql {
            Some(sql) => Some(sql.query("checkpoint", AHEAD).await),
            None => None,
        } {
            warn!("the checkpoint ahead of the switchover: {error}");
        }
        Ok(())
    }

    /// Beside everything else: pg_rewind on the other nodes waits for it.
    pub(crate) async fn checkpoint_beside(&self) -> Result<()> {
        let Some(sql) = self.sql().await?.take() else { return Ok(()) };
        tokio::spawn(async move {
            if let Err(error) = sql.query("checkpoint", Duration::from_secs(3600)).await {
                warn!("the checkpoint after the promotion: {error}");
            }
        });
        Ok(())
    }

    pub(crate) async fn forget_upstream(&self) -> Result<()> {
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

    /// Before a promotion: commits wait for whom our monitors say, or else for any sibling.
    pub(crate) async fn hold_commits(&self) -> Result<()> {
        if let Some(orders) = self.orders().filter(|orders| orders.sync_version != 0) {
            return self.set_sync_names(&orders.sync_names).await;
        }
        let mut siblings = self.known_siblings();
        if siblings.is_empty() {
            siblings = self.source.other_nodes(self.node_id).await?;
        }
        match siblings.is_empty() {
            true => Ok(()),
            false => self.set_sync_names(&any_of(&siblings)).await,
        }
    }

    /// Nobody, unless our monitors say otherwise: what they have not recorded is never in effect.
    pub(crate) async fn clear_sync_names(&self) -> Result<()> {
        let ordered = self.orders().filter(|orders| orders.sync_version != 0);
        self.set_sync_names(&ordered.map_or_else(String::new, |orders| orders.sync_names)).await
    }

    /// Commits wait for as many as the names say when this returns.
    pub(crate) async fn set_sync_names(&self, names: &str) -> Result<()> {
        let taken_up = self.shared().in_effect.take().as_deref() == Some(names);
        sync::apply(&self.config, &self.sql().await?, names, taken_up).await?;
        self.shared().in_effect = Some(names.to_string());
        Ok(())
    }

    /// What our monitors said with their last answer, or what a stock monitor or an operator says when asked.
    async fn sync_names(&self) -> Result<(i64, String)> {
        if let Some(Orders { sync_version, sync_names, .. }) = self.orders().filter(|orders| orders.sync_version != 0) {
            return Ok((sync_version, sync_names));
        }
        Ok((0, self.source.sync_names(&self.config, self.group, self.node_id).await?))
    }

    pub(crate) async fn take_sync_names(&self) -> Result<()> {
        let (_, names) = self.sync_names().await?;
        self.set_sync_names(&names).await
    }

    /// The names that our monitors ordered are in effect, and cover all that was written before: the
    /// next report confirms them.
    pub(crate) async fn confirm_sync_names(&self) -> Result<()> {
        while let Some(orders) = self.orders().filter(|orders| orders.sync_version != 0) {
            self.set_sync_names(&orders.sync_names).await?;
            tokio::select! {
                covered = self.covered(&orders.sync_names) => {
                    covered?;
                    let mut shared = self.shared();
                    shared.confirmed = shared.confirmed.max(orders.sync_version);
                    return Ok(());
                }
                // Whoever is missing under these names may not come, and others be there.
                () = self.newer_names(orders.sync_version) => {}
            }
        }
        Ok(())
    }

    async fn newer_names(&self, version: i64) {
        while self.orders().is_none_or(|orders| orders.sync_version <= version) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// From "commits wait for nobody" to "commits wait": the standbys must first have everything that
    /// was acknowledged before.
    pub(crate) async fn await_sync_standby(&self) -> Result<()> {
        let (version, names) = self.sync_names().await?;
        if version != 0 {
            return self.confirm_sync_names().await;
        }
        self.set_sync_names(&names).await?;
        // A stock monitor wants the state as soon as one standby is there.
        let needed = facts::required_sync(&names).min(1);
        let one = names.replacen(&format!(" {} (", facts::required_sync(&names)), &format!(" {needed} ("), 1);
        self.covered(&one).await
    }

    /// The standbys named have everything, as far as a commit waits for them. Those that do not come may
    /// lack their slots: a node that was a copy a moment ago had no time to make any.
    async fn covered(&self, names: &str) -> Result<()> {
        if sync::cover(&self.sql().await?, names, SOON).await.is_ok() {
            return Ok(());
        }
        self.maintain_siblings().await?;
        sync::cover(&self.sql().await?, names, COVER).await.map(drop)
    }

    pub(crate) async fn set_read_only(&self, on: bool) -> Result<()> {
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
    pub(crate) async fn maintain_siblings(&self) -> Result<()> {
        let nodes = self.source.other_nodes(self.node_id).await?;
        self.shared().siblings.clone_from(&nodes);
        tablespaces::remember(&self.paths)?;
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
