//! What the keeper sees of its PostgreSQL, tick by tick.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use crate::config::Config;
use crate::error::Result;
use crate::guardian::client::Guardian;
use crate::postgres::facts::Facts;
use crate::postgres::sql::{LocalServer, Sql, SqlError};

/// One look.
const LOOK: Duration = Duration::from_secs(1);
/// A kept connection goes on working when the postmaster hangs: a new one shows whether it does.
const FRESH: Duration = Duration::from_secs(3);
/// Unanswered for this long: it hangs.
const HUNG: Duration = Duration::from_secs(8);

/// PostgreSQL now.
#[derive(Clone, Debug)]
pub struct Seen {
    pub postmaster: Option<i32>,
    /// The answers of a PostgreSQL that serves; the last ones while it is merely slow.
    pub facts: Option<Facts>,
    pub hung: bool,
}

#[derive(Default)]
pub struct Observer {
    sql: Option<Sql>,
    connected: Option<Instant>,
    last: Option<(i32, Facts)>,
    silent_since: Option<Instant>,
}

impl Observer {
    pub async fn look(&mut self, config: &Arc<Config>, guardian: &Guardian) -> Result<Seen> {
        let status = guardian.status().await?;
        let postmaster = match status.postmaster {
            Some(pid) => Some(pid),
            None => crate::postgres::start::postmaster(config, guardian).await?,
        };
        let Some(pid) = postmaster else {
            *self = Observer::default();
            return Ok(Seen { postmaster: None, facts: None, hung: false });
        };
        let (facts, hung) = match self.ask(config).await {
            Ok(facts) => {
                self.silent_since = None;
                self.last = Some((pid, facts.clone()));
                (Some(facts), false)
            }
            Err(SqlError::Silent(_)) => {
                let since = *self.silent_since.get_or_insert_with(Instant::now);
                let hung = since.elapsed() > HUNG;
                // Slow is not down.
                (self.last.clone().filter(|(of, _)| *of == pid && !hung).map(|(_, facts)| facts), hung)
            }
            Err(error) => {
                debug!("{error}");
                self.silent_since = None;
                (None, false)
            }
        };
        Ok(Seen { postmaster, facts, hung })
    }

    async fn ask(&mut self, config: &Config) -> std::result::Result<Facts, SqlError> {
        let stale = self.connected.is_none_or(|at| at.elapsed() > FRESH);
        let kept = self.sql.take().filter(|sql| !sql.is_closed() && !stale);
        let sql = match kept {
            Some(sql) => sql,
            None => {
                let sql = Sql::connect(&LocalServer::of(config), LOOK).await?;
                self.connected = Some(Instant::now());
                sql
            }
        };
        let facts = Facts::ask(&sql, LOOK).await?;
        self.sql = Some(sql);
        Ok(facts)
    }
}
