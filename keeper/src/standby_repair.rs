//! What keeps a standby from starting or streaming, and what is done about it: WAL that is gone, files that
//! a rewind left half done, settings that are too low.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use crate::error::{KeeperError, Result};
use crate::postgres::standby::Upstream;
use crate::postgres::start::StartError;
use crate::postgres::{rewind, standby, start, upstream};
use crate::steps::{QUERY, Worker};

/// How long another node may take to send a rewound cluster the WAL that it lacks.
const WHOLE: Duration = Duration::from_secs(20);

impl Worker {
    /// The data directory of a standby is gone: a new copy takes its place.
    pub(crate) async fn restore_standby(&self) -> Result<()> {
        self.rejoin().await?;
        self.ensure_usable().await
    }

    /// Replay is paused. When the primary has raised one of the settings that a standby must not have less
    /// of, PostgreSQL (14 and later) pauses for ever; it is started again with as much. A pause that
    /// somebody asked for is left alone.
    pub(crate) async fn raise_limits(&self) -> Result<()> {
        let control = self.installation()?.control_data(&self.config.pgdata).await?;
        let sql = self.sql().await?;
        let mut lower = Vec::new();
        for (name, primary) in control.limits {
            let own = sql.value(&format!("select current_setting('{name}')"), QUERY).await?;
            if own.and_then(|own| own.parse::<u32>().ok()).is_some_and(|own| own < primary) {
                lower.push(format!("{name} to {primary}"));
            }
        }
        if lower.is_empty() {
            info!("replay is paused (pg_wal_replay_pause): left to whoever did it");
            return Ok(());
        }
        warn!("the primary has raised {}, and replay is paused here: restarting PostgreSQL", lower.join(", "));
        start::stop(&self.config, &self.guardian).await?;
        Ok(start::ensure_running(&self.config, &self.guardian).await?)
    }

    /// A standby that should stream and does not: finds out why, and mends what is this node's to mend.
    pub(crate) async fn repair(&self) -> Result<()> {
        let primary = self.primary().await?;
        let source = upstream::identify(&self.config, &primary, self.node_id).await?;
        if !upstream::has_slot(&self.config, &primary, self.node_id, &self.slot()).await? {
            return Err(KeeperError::postgres(format!(
                "the replication slot {} is missing on node {}, whose keeper should create it",
                self.slot(),
                primary.id
            )));
        }
        let words = start::last_words(&self.config);
        if words.contains(start::REMOVED) {
            warn!("the primary has recycled WAL that this standby needs: copying it anew");
            return self.start_copy_of(&primary).await;
        }
        info!("this standby does not stream from node {} (timeline {}): {words}", primary.id, source.timeline);
        self.follow().await
    }

    /// PostgreSQL runs and answers; a standby that never will is copied anew. It has acknowledged nothing
    /// since it was rewound, and nobody can read what it holds.
    pub(crate) async fn ensure_usable(&self) -> Result<()> {
        self.discard_unfinished().await?;
        match start::ensure_running(&self.config, &self.guardian).await {
            // A rewind that could not be made, and was not even begun, leaves the history of the timeline
            // that it was for. PostgreSQL does not start with that and WAL beyond its fork.
            Err(StartError::Died(text)) if text.contains(start::LEFT_BEHIND) && standby::is_standby(&self.config.pgdata) => {
                warn!("this standby has WAL that the newest timeline does not ({text})");
                self.rejoin().await?;
                standby::signal(&self.config.pgdata)?;
                match start::ensure_running(&self.config, &self.guardian).await {
                    Err(StartError::Died(text)) if text.contains(start::LEFT_BEHIND) => {}
                    other => return Ok(other?),
                }
                let primary = self.primary().await?;
                warn!("that timeline is not the primary's: copying node {} ({}:{})", primary.id, primary.host, primary.port);
                self.start_copy_of(&primary).await
            }
            Err(error @ StartError::Starved(_)) => {
                let primary = self.primary().await?;
                warn!("{error}: copying node {} ({}:{}) instead", primary.id, primary.host, primary.port);
                self.start_copy_of(&primary).await
            }
            other => Ok(other?),
        }
    }

    async fn start_copy_of(&self, primary: &Upstream) -> Result<()> {
        self.copy_from(primary, true).await?;
        Ok(start::ensure_running(&self.config, &self.guardian).await?)
    }

    /// Before a start: neither the old cluster nor the new one is started.
    pub(crate) async fn discard_unfinished(&self) -> Result<()> {
        match start::postmaster(&self.config, &self.guardian).await? {
            Some(_) => Ok(()),
            None => rewind::discard_unfinished(&self.config, &self.paths),
        }
    }

    /// A cluster that was rewound and has not yet replayed the WAL that belongs to it lets nobody in, and
    /// with nobody to follow it never would. It counts for no election: it has acknowledged nothing since.
    pub(crate) async fn make_whole(&self) -> Result<()> {
        self.discard_unfinished().await?;
        if !self.config.pgdata.join("PG_VERSION").exists() {
            return Ok(());
        }
        let control = self.installation()?.control_data(&self.config.pgdata).await?;
        if !control.lacks_wal(&self.config.pgdata) {
            return Ok(());
        }
        let from = self.most_complete().await?;
        warn!(
            "this cluster needs WAL up to {} before anybody can use it: fetching it from node {} ({}:{})",
            control.minimum_recovery, from.id, from.host, from.port
        );
        start::stop(&self.config, &self.guardian).await?;
        standby::signal(&self.config.pgdata)?;
        standby::clean_auto_conf(&self.config.pgdata)?;
        standby::follow(&self.config, Some(&from), self.node_id)?;
        match timeout(WHOLE, start::ensure_running(&self.config, &self.guardian)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => warn!("{error}: copying node {} instead", from.id),
            Err(_) => warn!("node {} did not send it within {} s: copying that node", from.id, WHOLE.as_secs()),
        }
        self.copy_from(&from, false).await
    }
}
