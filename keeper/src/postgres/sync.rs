//! Changes of `synchronous_standby_names`, and the proof that one is in effect.
//!
//! The setting takes effect in three places, none of which shows it: the checkpointer tells backends
//! whether to wait at all, every walsender decides by its own copy which waiting commits to release,
//! and the postmaster hands its copy to whoever starts later.

use std::time::Duration;

use failover::Lsn;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::facts;
use super::sql::{Ask, LocalServer, Sql, literal};
use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::guardian::remains;

const PATIENCE: Duration = Duration::from_secs(10);
/// Signal handlers of an idle process run within microseconds; a checkpointer that is busy for longer
/// than this is asked by a checkpoint.
const IDLE: Duration = Duration::from_millis(200);

const NAMES: &str = "select setting from pg_settings where name = 'synchronous_standby_names'";

async fn value(sql: &impl Ask, question: &str) -> Result<Option<String>> {
    let rows = sql.ask(question, PATIENCE).await?;
    Ok(rows.first().and_then(|row| row.try_get(0).ok().flatten().map(str::to_string)))
}

/// ALTER SYSTEM, reload, and wait until the postmaster has told everybody. Works on standbys as well.
/// Where the names are there already, an attempt that was cut short may have left them, unless they were
/// seen to be `taken_up`. From then on commits wait for as many standbys as the
/// names say; which of them release a commit is certain after [`cover`] only.
pub async fn apply(config: &Config, sql: &impl Ask, names: &str, taken_up: bool) -> Result<()> {
    let now = value(sql, NAMES).await?;
    if now.as_deref() == Some(names) {
        return match names.is_empty() || taken_up {
            true => Ok(()),
            false => await_checkpointer(config).await,
        };
    }
    info!("synchronous_standby_names: '{}' -> '{names}'", now.as_deref().unwrap_or(""));
    sql.ask(&format!("alter system set synchronous_standby_names to {}", literal(names)), PATIENCE).await?;
    sql.ask("select pg_reload_conf()", PATIENCE).await?;
    let began = Instant::now();
    while value(sql, NAMES).await?.as_deref() != Some(names) {
        if began.elapsed() > Duration::from_secs(5) {
            return Err(KeeperError::postgres(
                "synchronous_standby_names does not take effect: is it also set in postgresql.conf, or does that file \
                 have an error? See pg_file_settings",
            ));
        }
        sleep(Duration::from_millis(2)).await;
    }
    if !names.is_empty() {
        await_checkpointer(config).await?;
    }
    Ok(())
}

/// A session that begins when the reload shows somewhere: by then the postmaster has sent its signal to
/// every process.
pub async fn after_reload(config: &Config) -> Result<Sql> {
    Ok(Sql::connect(&LocalServer::of(config), PATIENCE).await?)
}

/// Sleeping, after a signal was sent to it, means that a process has handled it: the signal makes it
/// runnable at once.
pub fn sleeps(pid: i32) -> bool {
    remains::stat(pid).is_some_and(|stat| stat.state == 'S')
}

/// The checkpointer has read the reloaded files: backends wait for standbys from now on.
async fn await_checkpointer(config: &Config) -> Result<()> {
    let sql = after_reload(config).await?;
    let idle = "select pid from pg_stat_activity where backend_type = 'checkpointer' and wait_event = 'CheckpointerMain'";
    let began = Instant::now();
    while began.elapsed() < IDLE {
        let pid = value(&sql, idle).await?.and_then(|pid| pid.parse().ok());
        if pid.is_some_and(sleeps) && value(&sql, idle).await?.is_some() {
            return Ok(());
        }
        sleep(Duration::from_millis(5)).await;
    }
    // Amid a checkpoint it reads files between writes only. A checkpoint that begins later is preceded
    // by reading them.
    sql.query("checkpoint", Duration::from_secs(3600)).await?;
    Ok(())
}

/// Everything that was written, and perhaps acknowledged under other names, until these were in effect
/// is flushed on as many of the standbys named as a commit waits for. Whoever asks enough of them from
/// now on finds all of it, so that the other names may be forgotten. Returns the end of that WAL.
///
/// A walsender reads the reloaded files before it handles the reply to anything that was written later.
/// A commit is written here first, so that those which reply with its position decide by these names.
pub async fn cover(sql: &impl Ask, names: &str, patience: Duration) -> Result<Lsn> {
    // Takes a transaction id, and thereby writes a commit record, and changes nothing.
    sql.ask("select pg_current_xact_id()", PATIENCE).await?;
    let end = value(sql, "select pg_current_wal_flush_lsn()").await?.unwrap_or_default();
    let needed = facts::required_sync(names);
    let named: Vec<String> = listed(names).iter().map(|name| literal(name)).collect();
    let covered = format!(
        "select count(*) from pg_stat_replication where state = 'streaming' and flush_lsn >= '{end}' and \
         application_name in ({})",
        named.join(", ")
    );
    let began = Instant::now();
    loop {
        let seen: u32 = match needed {
            0 => 0,
            _ => value(sql, &covered).await?.and_then(|n| n.parse().ok()).unwrap_or(0),
        };
        if seen >= needed {
            break;
        }
        if began.elapsed() > patience {
            return Err(KeeperError::postgres(format!(
                "commits wait for {needed} of \"{names}\", and {seen} of them have WAL up to {end} yet"
            )));
        }
        sleep(Duration::from_millis(10)).await;
    }
    end.parse().map_err(|()| KeeperError::postgres(format!("odd position \"{end}\"")))
}

/// The names in `ANY k (a, b)`.
fn listed(names: &str) -> Vec<&str> {
    let inner = names.split_once('(').map_or(names, |(_, rest)| rest.trim_end().trim_end_matches(')'));
    inner.split(',').map(|name| name.trim().trim_matches('"')).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn names() {
        assert_eq!(listed("ANY 1 (pgautofailover_standby_2, pgautofailover_standby_3)"), [
            "pgautofailover_standby_2",
            "pgautofailover_standby_3"
        ]);
        assert_eq!(listed("a, \"b\""), ["a", "b"]);
        assert!(listed("").is_empty());
    }
}
