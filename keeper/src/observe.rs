//! What the keeper sees of its PostgreSQL, tick by tick.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{debug, error};

use crate::boottime::BootTime;
use crate::config::Config;
use crate::error::Result;
use crate::guardian::client::Guardian;
use crate::job::Told;
use crate::postgres::facts::Facts;
use crate::postgres::sql::{LocalServer, Sql, SqlError};

/// One look.
const LOOK: Duration = Duration::from_secs(1);
/// A kept connection goes on working when the postmaster hangs: a new one shows whether it does.
const FRESH: Duration = Duration::from_secs(3);
/// Unanswered for this long: it hangs.
const HUNG: Duration = Duration::from_secs(8);
/// How long the keeper waits for a new look before it goes on with the last one: a PostgreSQL that is
/// slow must not keep it from reporting, from judging and from renewing its lease.
const SLOW: Duration = Duration::from_millis(250);

/// PostgreSQL now.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When the look began; on a PostgreSQL that does not answer, some time ago.
    pub at: BootTime,
    pub postmaster: Option<i32>,
    /// The answers of a PostgreSQL that serves; the last ones while it is merely slow.
    pub facts: Option<Facts>,
    pub hung: bool,
}

/// Looks in a task of its own, whenever it is asked to.
pub struct Observer {
    seen: watch::Receiver<Option<Seen>>,
    wanted: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer {
    pub fn start(config: Arc<Config>, guardian: Arc<Guardian>) -> Observer {
        let (sender, seen) = watch::channel(None);
        let wanted = Arc::new(Notify::new());
        let asked = wanted.clone();
        let task = tokio::spawn(async move {
            let mut eye = Eye::default();
            let mut told = Told::default();
            loop {
                asked.notified().await;
                match eye.look(&config, &guardian).await {
                    Ok(seen) => drop(sender.send(Some(seen))),
                    // Without a guardian nothing can be started; the next look makes a new one.
                    Err(error) if told.is_news(&error.to_string()) => error!("{error}"),
                    Err(_) => {}
                }
            }
        });
        Observer { seen, wanted, task }
    }

    /// What is there now, or the last that was seen when that takes too long; `None` before the first
    /// look has ended.
    pub async fn look(&mut self) -> Option<Seen> {
        let now = BootTime::now();
        self.wanted.notify_one();
        let fresh = self.seen.wait_for(|seen| seen.as_ref().is_some_and(|seen| seen.at >= now));
        if let Ok(Ok(seen)) = timeout(SLOW, fresh).await {
            return seen.clone();
        }
        self.seen.borrow().clone()
    }
}

#[derive(Default)]
struct Eye {
    sql: Option<Sql>,
    connected: Option<Instant>,
    last: Option<(i32, Facts)>,
    silent_since: Option<Instant>,
}

impl Eye {
    async fn look(&mut self, config: &Config, guardian: &Guardian) -> Result<Seen> {
        let at = BootTime::now();
        let status = guardian.status().await?;
        let postmaster = match status.postmaster {
            Some(pid) => Some(pid),
            None => crate::postgres::start::postmaster(config, guardian).await?,
        };
        let Some(pid) = postmaster else {
            *self = Eye::default();
            return Ok(Seen { at, postmaster: None, facts: None, hung: false });
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
        Ok(Seen { at, postmaster, facts, hung })
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
