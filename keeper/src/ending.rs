//! How a keeper ends, and what becomes of its PostgreSQL.

use tracing::info;

use crate::boottime::BootTime;
use crate::error::{Exit, KeeperError, Result};
use crate::fence;
use crate::guardian::protocol::Request;
use crate::keeper::{Keeper, TICK};
use crate::postgres::start;
use crate::signals::Wish;

impl Keeper {
    /// Orderly end: PostgreSQL goes with the keeper, except for an upgrade.
    pub(crate) async fn shut_down(mut self, wish: Wish) -> Result<()> {
        self.job = None;
        let guardian = &self.worker.guardian;
        match wish {
            Wish::Leave => {
                // The next keeper gets as long as a partition may last.
                let patience = self.worker.config.timeouts.network_partition;
                let until = fence::lease(self.role(), self.contacts, None, patience, patience, BootTime::now());
                guardian.lease(until).await?;
                info!("the keeper ends; PostgreSQL runs on under the guardian until the next keeper comes");
                return Ok(());
            }
            Wish::Immediate => start::fence(&self.worker.config, guardian).await?,
            _ => {
                info!("stopping PostgreSQL");
                start::stop(&self.worker.config, guardian).await?;
            }
        }
        let _ = guardian.ask(&Request::Quit).await;
        info!("the keeper ends");
        Ok(())
    }

    /// The goal of an operator is reached: whatever runs runs on, and nothing else does.
    pub(crate) async fn leave_alone(self) -> Result<()> {
        match start::postmaster(&self.worker.config, &self.worker.guardian).await? {
            Some(_) => self.shut_down(Wish::Leave).await,
            None => self.worker.guardian.ask(&Request::Quit).await.map(drop),
        }
    }

    /// The node was dropped: PostgreSQL is stopped; tells the monitors, which then forget it.
    pub(crate) async fn leave(mut self) -> Result<()> {
        self.job = None;
        for _ in 0..20 {
            let Some(seen) = self.look().await else { continue };
            self.report(&seen).await?;
            if self.in_contact {
                break;
            }
            tokio::time::sleep(TICK).await;
        }
        let _ = self.worker.guardian.ask(&Request::Quit).await;
        Err(KeeperError {
            exit: Exit::Dropped,
            message: format!("node {} was dropped from the monitors; its data directory stays", self.state.node_id),
        })
    }
}
