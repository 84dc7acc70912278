//! The steps of a standby: copying, rejoining, following, sealing, fetching.

use std::time::Duration;

use failover::Lsn;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::error::{Exit, KeeperError, Result};
use crate::orders::Seal;
use crate::postgres::facts::{Facts, STANDBY_PREFIX};
use crate::postgres::sql::Kept;
use crate::postgres::standby::{self, Upstream};
use crate::postgres::upstream::{self, Identity};
use crate::postgres::{basebackup, fork, kept, rewind, slots, start, sync};
use crate::state_file::InitStage;
use crate::steps::{QUERY, Worker};

/// How long a standby may take to begin streaming before the transition counts as failed.
const STREAM: Duration = Duration::from_secs(15);

/// How long a walreceiver may outlive the upstream that was taken from it.
const RECEIVER: Duration = Duration::from_secs(10);

/// How long an upstream that was never compared may take to let a standby stream.
const ATTEMPT: Duration = Duration::from_secs(3);

fn streams_from(facts: &Facts, upstream: &Upstream) -> bool {
    // PostgreSQL tells the host as it was given.
    facts.in_recovery && facts.upstream.as_deref() == Some(format!("{}:{}", upstream.host, upstream.port).as_str())
}

impl Worker {
    /// Whom to follow: our monitors said it with the goal, a stock one is asked.
    pub(crate) async fn primary(&self) -> Result<Upstream> {
        if let Some(orders) = self.orders() {
            return orders.primary.ok_or_else(|| KeeperError::monitor("no node of the group is primary now"));
        }
        let node = self.source.primary(&self.config, self.group).await?;
        if node.id == self.node_id {
            return Err(KeeperError::monitor("this node itself is named as the primary to follow"));
        }
        Ok(Upstream::from(node))
    }

    pub(crate) fn slot(&self) -> String {
        slots::name_of(self.node_id)
    }

    /// A new standby.
    pub(crate) async fn copy(&self) -> Result<()> {
        let primary = self.primary().await?;
        let source = upstream::identify(&self.config, &primary, self.node_id).await?;
        if !upstream::has_slot(&self.config, &primary, self.node_id, &self.slot()).await? {
            return Err(KeeperError::postgres(format!(
                "node {} has not created the replication slot {} yet",
                primary.id,
                self.slot()
            )));
        }
        basebackup::finish_swap(&self.config)?;
        if self.config.pgdata.join("PG_VERSION").exists() {
            let control = self.installation()?.control_data(&self.config.pgdata).await?;
            if control.system_identifier != source.system_identifier {
                return Err(KeeperError::fatal(format!(
                    "{} belongs to another cluster: its system identifier is {}, that of the group's primary is {}. \
                     Move it away, or drop this node and create it with another --pgdata",
                    self.config.pgdata.display(),
                    control.system_identifier,
                    source.system_identifier
                )));
            }
            if InitStage::load(&self.paths.init)? == Some(InitStage::Empty) && standby::is_standby(&self.config.pgdata) {
                info!("the copy of the primary is in place already");
                return self.become_follower(&primary, false).await;
            }
            info!("{} belongs to this group: using it", self.config.pgdata.display());
            return self.rejoin_from(&primary, &source).await;
        }
        self.copy_from(&primary, true).await
    }

    pub(crate) async fn copy_standby(&self) -> Result<()> {
        basebackup::finish_swap(&self.config)?;
        if self.config.pgdata.join("PG_VERSION").exists() {
            return Ok(());
        }
        let from = self.most_complete().await?;
        self.copy_from(&from, false).await
    }

    /// Whom to take data from during an election, or right after it.
    pub(crate) async fn most_complete(&self) -> Result<Upstream> {
        let node = self.source.most_advanced_standby(&self.config, self.group).await?;
        // The election may be over already: then the primary is there, and has all that was acknowledged.
        let from = match node.filter(|node| node.id != self.node_id) {
            Some(node) => Upstream::from(node),
            None => self.primary().await.map_err(|error| {
                KeeperError::monitor(format!("no standby has reported its LSN yet, and there is no primary: {error}"))
            })?,
        };
        upstream::identify(&self.config, &from, self.node_id).await?;
        Ok(from)
    }

    pub(crate) async fn copy_from(&self, from: &Upstream, with_slot: bool) -> Result<()> {
        start::stop(&self.config, &self.guardian).await?;
        let slot = self.slot();
        basebackup::run(&self.config, &self.paths, from, self.node_id, with_slot.then_some(slot.as_str())).await?;
        self.become_follower(from, true).await
    }

    /// The files of a stopped standby of `from`.
    async fn become_follower(&self, from: &Upstream, anew: bool) -> Result<()> {
        standby::signal(&self.config.pgdata)?;
        standby::clean_auto_conf(&self.config.pgdata)?;
        self.configure(anew).await?;
        standby::follow(&self.config, Some(from), self.node_id).map(drop)
    }

    /// A node that was somebody else comes back.
    pub(crate) async fn rejoin(&self) -> Result<()> {
        let primary = self.primary().await?;
        let source = upstream::identify(&self.config, &primary, self.node_id).await?;
        self.rejoin_from(&primary, &source).await
    }

    async fn rejoin_from(&self, primary: &Upstream, source: &Identity) -> Result<()> {
        start::stop(&self.config, &self.guardian).await?;
        basebackup::finish_swap(&self.config)?;
        rewind::discard_unfinished(&self.config, &self.paths)?;
        if !self.config.pgdata.join("PG_VERSION").exists() {
            warn!("there is no cluster in {}: copying the primary", self.config.pgdata.display());
            return self.copy_from(primary, true).await;
        }
        self.await_checkpoint(primary, source).await?;
        match rewind::run(&self.config, &self.paths, primary, self.node_id).await {
            Ok(_) => {}
            // Another cluster's data is nobody's to overwrite; a broken file waits for its author.
            Err(error) if matches!(error.exit, Exit::BadState | Exit::BadConfig) => return Err(error),
            Err(error) => {
                warn!("{error}: copying the primary instead");
                rewind::discard_unfinished(&self.config, &self.paths)?;
                return self.copy_from(primary, true).await;
            }
        }
        kept::restore(&self.config, &self.paths)?;
        self.become_follower(primary, false).await
    }

    /// pg_rewind reads the source's timeline from its control file, which a promotion changes only with
    /// its first checkpoint.
    async fn await_checkpoint(&self, primary: &Upstream, source: &Identity) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let on_disk = upstream::checkpoint_timeline(&self.config, primary, self.node_id).await?;
            if on_disk >= source.timeline {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(KeeperError::postgres(format!(
                    "node {} has made no checkpoint on timeline {} yet",
                    primary.id, source.timeline
                )));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Follows the primary, by a reload when possible: `primary_conninfo` takes no restart since 13.
    ///
    /// Histories are compared before PostgreSQL hears of its new upstream. It refuses to stream into one
    /// that is not its own, but only after its walreceiver has reported the end of its own WAL as flushed:
    /// commits of the new primary that lie before that position would count as replicated, and are not.
    pub(crate) async fn follow(&self) -> Result<()> {
        let primary = self.primary().await?;
        if self.orders().is_some() && self.try_to_follow(&primary).await? {
            return Ok(());
        }
        let source = upstream::identify(&self.config, &primary, self.node_id).await?;
        self.discard_unfinished().await?;
        if !self.config.pgdata.join("PG_VERSION").exists() {
            self.rejoin_from(&primary, &source).await?;
        }
        if start::postmaster(&self.config, &self.guardian).await?.is_none() {
            standby::signal(&self.config.pgdata)?;
            self.ensure_usable().await?;
        }
        let facts = self.facts(&self.sql().await?).await?;
        // WAL that came in between the two questions is not ahead of the primary.
        let source = match facts.timeline == source.timeline && facts.lsn > source.lsn {
            true => upstream::identify(&self.config, &primary, self.node_id).await?,
            false => source,
        };
        if source.system_identifier != facts.system_identifier {
            return Err(KeeperError::fatal(format!(
                "node {} ({}:{}) belongs to another cluster (system identifier {}, ours is {})",
                primary.id, primary.host, primary.port, source.system_identifier, facts.system_identifier
            )));
        }
        let history = upstream::history(&self.config, &primary, self.node_id, source.timeline).await?;
        if !facts.in_recovery || !upstream::can_follow(facts.timeline, facts.lsn, &source, &history) {
            warn!(
                "this node (timeline {}, {}{}) cannot simply follow node {} (timeline {}, {})",
                facts.timeline,
                facts.lsn,
                if facts.in_recovery { "" } else { ", out of recovery" },
                primary.id,
                source.timeline,
                source.lsn
            );
            self.rejoin_from(&primary, &source).await?;
            standby::signal(&self.config.pgdata)?;
            return self.ensure_usable().await;
        }
        standby::signal(&self.config.pgdata)?;
        self.drop_foreign_upstream(&self.sql().await?).await?;
        if standby::follow(&self.config, Some(&primary), self.node_id)? {
            info!("following node {} ({}:{})", primary.id, primary.host, primary.port);
        }
        start::reload(&self.config).await
    }

    /// The short way of a sealed standby after an election. `false`: it is not for this one.
    async fn try_to_follow(&self, primary: &Upstream) -> Result<bool> {
        if start::postmaster(&self.config, &self.guardian).await?.is_none() {
            return Ok(false);
        }
        let sql = self.sql().await?;
        let facts = self.facts(&sql).await?;
        if !facts.in_recovery {
            return Ok(false);
        }
        // A promotion adds one to the timeline, so that its history need not wait for its number.
        let next = facts.timeline + 1;
        let (source, history) = tokio::join!(
            upstream::identify(&self.config, primary, self.node_id),
            upstream::history(&self.config, primary, self.node_id, next)
        );
        let source = source?;
        let history = match (source.timeline == facts.timeline, source.timeline == next) {
            (true, _) => Vec::new(),
            (_, true) => history?,
            _ => upstream::history(&self.config, primary, self.node_id, source.timeline).await?,
        };
        if source.system_identifier != facts.system_identifier
            || !upstream::can_follow(facts.timeline, facts.lsn, &source, &history)
        {
            return Ok(false);
        }
        standby::signal(&self.config.pgdata)?;
        self.drop_foreign_upstream(&sql).await?;
        if standby::follow(&self.config, Some(primary), self.node_id)? {
            info!("following node {} ({}:{})", primary.id, primary.host, primary.port);
        }
        sql.query("select pg_reload_conf()", QUERY).await?;
        let began = Instant::now();
        while began.elapsed() < ATTEMPT {
            if streams_from(&Facts::ask(&sql, QUERY).await?, primary) {
                return Ok(true);
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(false)
    }

    /// An upstream in `postgresql.auto.conf` would win over our file.
    async fn drop_foreign_upstream(&self, sql: &Kept<'_>) -> Result<()> {
        if standby::auto_conf_has_upstream(&self.config.pgdata)? {
            for name in ["primary_conninfo", "primary_slot_name", "recovery_target_timeline"] {
                sql.query(&format!("alter system reset {name}"), QUERY).await?;
            }
        }
        Ok(())
    }

    /// On the primary's timeline, and streaming.
    pub(crate) async fn verify(&self) -> Result<()> {
        let primary = self.primary().await?;
        // What streams is on the primary's history: its walsender has compared them. (To compare
        // positions instead, both would have to be read in the same instant.)
        if streams_from(&Facts::ask(&self.sql().await?, QUERY).await?, &primary) {
            return Ok(());
        }
        let source = upstream::identify(&self.config, &primary, self.node_id).await?;
        let history = upstream::history(&self.config, &primary, self.node_id, source.timeline).await?;
        let facts = self.facts(&self.sql().await?).await?;
        if !facts.in_recovery || !upstream::can_follow(facts.timeline, facts.lsn, &source, &history) {
            // Promoted by hand, for one.
            self.follow().await?;
        }
        let sql = self.sql().await?;
        let deadline = Instant::now() + STREAM;
        loop {
            let facts = Facts::ask(&sql, QUERY).await?;
            if facts.upstream.is_some() && facts.timeline == source.timeline {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.repair().await?;
                return Err(KeeperError::postgres(format!(
                    "this standby (timeline {}, {}) did not stream from node {} (timeline {}): {}",
                    facts.timeline,
                    facts.lsn,
                    primary.id,
                    source.timeline,
                    start::last_words(&self.config)
                )));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// THE SEAL (the monitors read the LSN only after it). The file makes it hold through restarts; it
    /// is complete when no walreceiver is left and local WAL is replayed to its end.
    pub(crate) async fn seal(&self) -> Result<()> {
        self.shared().seal = None;
        #[cfg(feature = "mutants")]
        if failover::mutant::is(failover::mutant::Mutant::SealSkipped) && self.keep.answers().await {
            let facts = Facts::ask(&self.sql().await?, QUERY).await?;
            self.shared().seal = Some(Seal { timeline: facts.timeline, lsn: facts.lsn });
            return Ok(());
        }
        self.make_whole().await?;
        let mut running = start::postmaster(&self.config, &self.guardian).await?.is_some();
        if running {
            self.ensure_running().await?;
            if !Facts::ask(&self.sql().await?, QUERY).await?.in_recovery {
                // Promoted already, and now the monitors want an election after all.
                start::stop(&self.config, &self.guardian).await?;
                running = false;
            }
        }
        standby::signal(&self.config.pgdata)?;
        standby::follow(&self.config, None, self.node_id)?;
        if running {
            let sql = self.sql().await?;
            self.drop_foreign_upstream(&sql).await?;
            sql.query("select pg_reload_conf()", QUERY).await?;
        } else {
            standby::clean_auto_conf(&self.config.pgdata)?;
            self.ensure_running().await?;
        }
        let seal = self.await_sealed().await?;
        info!("sealed at {} on timeline {}", seal.lsn, seal.timeline);
        self.shared().seal = Some(seal);
        Ok(())
    }

    /// Waits until nothing can move this standby any more, then reads where it stands.
    ///
    /// That no walreceiver runs proves nothing while the startup process has not read the reloaded
    /// files: it could start one for the old upstream. So a session shows the new setting first; one
    /// that begins after that finds a startup process that was signalled; and that one sleeping, in
    /// one of the two waits for more WAL, has read them.
    async fn await_sealed(&self) -> Result<Seal> {
        let sql = self.sql().await?;
        let reload = Instant::now() + Duration::from_secs(20);
        let mut last = (Lsn::ZERO, Instant::now());
        while sql.value("select current_setting('primary_conninfo') = ''", QUERY).await?.as_deref() != Some("t") {
            if Instant::now() > reload {
                return Err(KeeperError::postgres(
                    "PostgreSQL still follows an upstream after a reload: is primary_conninfo set in postgresql.conf? \
                     The keeper owns it; remove it there",
                ));
            }
            sleep(Duration::from_millis(2)).await;
        }
        let sql = sync::after_reload(&self.config).await?;
        let startup = "select pid from pg_stat_activity where backend_type = 'startup'";
        loop {
            let process = sql.value(startup, QUERY).await?.and_then(|pid| pid.parse().ok());
            let facts = Facts::ask(&sql, QUERY).await?;
            if facts.alone && facts.drained && process.is_some_and(sync::sleeps) {
                // Once more, as this is what counts.
                let facts = Facts::ask(&sql, QUERY).await?;
                if facts.alone && facts.drained {
                    return self.sealed_at(&facts).await;
                }
            }
            if facts.lsn != last.0 {
                last = (facts.lsn, Instant::now());
            }
            if facts.walreceiver.is_some() && last.1.elapsed() > RECEIVER {
                // Seen once: a walreceiver that waits for another timeline outlived its upstream's removal.
                warn!("the walreceiver does not end: stopping PostgreSQL, which starts without one");
                start::stop(&self.config, &self.guardian).await?;
                return Err(KeeperError::postgres("PostgreSQL was stopped to be rid of its walreceiver"));
            }
            if facts.restores {
                return Err(KeeperError::postgres(
                    "restore_command is set: WAL from an archive could still move this standby. Remove it from \
                     postgresql.conf",
                ));
            }
            if last.1.elapsed() > Duration::from_secs(60) {
                return Err(KeeperError::postgres(format!("replay of local WAL stands still at {}", facts.lsn)));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// That there is a file of a timeline does not mean that WAL of it has arrived.
    async fn sealed_at(&self, facts: &Facts) -> Result<Seal> {
        if fork::cut_short(&self.config.pgdata, facts.lsn)?.is_some() {
            // A promotion would look into that file for the last record, fail, and come back with less.
            start::stop(&self.config, &self.guardian).await?;
            return Err(KeeperError::postgres(format!(
                "PostgreSQL was stopped to put a file of timeline {} in order that was cut short",
                facts.timeline
            )));
        }
        Ok(Seal { timeline: fork::timeline_at(&self.config.pgdata, facts.timeline, facts.lsn), lsn: facts.lsn })
    }

    /// What this PostgreSQL says, with the timeline of the WAL that it has.
    async fn facts(&self, sql: &Kept<'_>) -> Result<Facts> {
        let mut facts = Facts::ask(sql, QUERY).await?;
        if facts.in_recovery {
            facts.timeline = fork::timeline_at(&self.config.pgdata, facts.timeline, facts.lsn);
        }
        Ok(facts)
    }

    /// What the most advanced standby has, and no more.
    pub(crate) async fn fetch_wal(&self) -> Result<()> {
        self.shared().seal = None;
        let node = self.source.most_advanced_standby(&self.config, self.group).await?;
        let Some(node) = node.filter(|node| node.id != self.node_id) else {
            info!("no other standby has more WAL than this node");
            return Ok(());
        };
        let from = Upstream { id: node.id, host: node.host, port: node.port };
        upstream::identify(&self.config, &from, self.node_id).await?;
        let target = node.lsn;
        info!("fetching WAL up to {target} from node {} ({}:{})", from.id, from.host, from.port);
        standby::signal(&self.config.pgdata)?;
        standby::follow(&self.config, Some(&from), self.node_id)?;
        start::ensure_running(&self.config, &self.guardian).await?;
        start::reload(&self.config).await?;
        let sql = self.sql().await?;
        let mut last = (Lsn::ZERO, Instant::now());
        loop {
            let text = sql.value("select pg_last_wal_replay_lsn()", QUERY).await?.unwrap_or_default();
            let replayed = text.parse().unwrap_or(Lsn::ZERO);
            if replayed >= target {
                break;
            }
            if replayed != last.0 {
                last = (replayed, Instant::now());
            }
            if last.1.elapsed() > self.config.timeouts.prepare_promotion_catchup {
                return Err(KeeperError::postgres(format!(
                    "no WAL has come from node {} for {} s; {replayed} of {target} is replayed ({})",
                    from.id,
                    last.1.elapsed().as_secs(),
                    start::last_words(&self.config)
                )));
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.seal().await
    }

    /// The position that the next report may call final, found again after the keeper was restarted.
    pub(crate) async fn renew_seal(&self) -> Result<()> {
        if start::postmaster(&self.config, &self.guardian).await?.is_some() {
            return self.seal().await;
        }
        self.find_end().await
    }

    pub(crate) async fn become_standby(&self) -> Result<()> {
        start::stop(&self.config, &self.guardian).await?;
        rewind::discard_unfinished(&self.config, &self.paths)?;
        // A rejoin that was cut short left nothing to stand by with: another standby has it.
        self.copy_standby().await?;
        standby::follow(&self.config, None, self.node_id)?;
        standby::clean_auto_conf(&self.config.pgdata)?;
        standby::signal(&self.config.pgdata)
    }

    /// The application name that this node streams under.
    pub fn application_name(&self) -> String {
        format!("{STANDBY_PREFIX}{}", self.node_id)
    }
}
