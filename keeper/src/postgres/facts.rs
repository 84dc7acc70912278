//! What PostgreSQL says about itself, in one query.

use std::time::Duration;

use failover::Lsn;
use failover::extended::OpenTransactions;

use super::sql::{Ask, SqlError};

/// Application names, and slots, of the nodes of a group: this and the node's id.
pub const STANDBY_PREFIX: &str = "pgautofailover_standby_";

/// A running PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub in_recovery: bool,
    pub timeline: u32,
    /// Standby: the end of what was received or replayed. Primary: the end of what was flushed.
    pub lsn: Lsn,
    pub system_identifier: u64,
    pub version: u32,
    /// The best `sync_state` among the group's standbys; empty when none streams.
    pub sync_state: String,
    /// Standbys of the group that stream.
    pub streaming: u32,
    /// Of these, those that a commit waits for (`sync` or `quorum`).
    pub streaming_sync: u32,
    pub synchronous_standby_names: String,
    /// Whom a standby streams from, as `host:port`.
    pub upstream: Option<String>,
    /// Its connection stands, and nothing has come for longer than an idle primary keeps still.
    pub upstream_silent: bool,
    /// The process that receives WAL, while there is one.
    pub walreceiver: Option<i32>,
    /// A standby that follows nobody: no upstream is set, no archive to restore from, nothing
    /// receives. Its position is final once [`Facts::drained`], too.
    pub alone: bool,
    /// WAL may come from an archive.
    pub restores: bool,
    /// The end of local WAL is reached: there is nothing left to replay.
    pub drained: bool,
    /// Replay stands still: somebody paused it, or the primary has more of a resource than this standby.
    pub paused: bool,
    /// Standbys of the group whose acknowledgements count, with when they sent their last reply (their
    /// clock: good for telling whether a new one has come, and for nothing else).
    pub replies: Vec<(String, String)>,
    /// Clients' open transactions; ours do not count. Only of a primary.
    pub transactions: Option<OpenTransactions>,
}

/// Asked twice a second: catalog functions and views of shared memory only, no table is read.
///
/// The control file learns of a new timeline with the next restart point only. A standby that
/// receives nothing any more tells its timeline by the WAL that it has: one that streamed from a
/// primary promoted a moment ago must not be taken for one that stayed behind.
const QUERY: &str = "\
select pg_is_in_recovery(), \
 case when pg_is_in_recovery() \
  then greatest((select received_tli from pg_stat_wal_receiver), c.timeline_id, r.min_recovery_end_timeline, \
   case when not exists (select from pg_stat_wal_receiver) then (select \
    max(('x' || substr(name, 1, 8))::bit(32)::int) from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$') end) \
  else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int end, \
 case when pg_is_in_recovery() then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
  else pg_current_wal_flush_lsn() end, \
 s.system_identifier, current_setting('server_version_num'), \
 coalesce((select sync_state from pg_stat_replication \
  where application_name like 'pgautofailover\\_standby\\_%' and state = 'streaming' \
  order by array_position(array['quorum','sync','potential','async'], sync_state) limit 1), ''), \
 (select count(*) from pg_stat_replication \
  where application_name like 'pgautofailover\\_standby\\_%' and state = 'streaming'), \
 (select count(*) from pg_stat_replication where application_name like 'pgautofailover\\_standby\\_%' \
  and state = 'streaming' and sync_state in ('sync', 'quorum')), \
 (select setting from pg_settings where name = 'synchronous_standby_names'), \
 (select sender_host || ':' || sender_port from pg_stat_wal_receiver where status = 'streaming'), \
 (select pid from pg_stat_wal_receiver), \
 current_setting('primary_conninfo') = '' and current_setting('restore_command') = '' \
  and not exists (select from pg_stat_wal_receiver), \
 exists (select from pg_stat_activity where backend_type = 'startup' \
  and wait_event in ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval')), \
 (select string_agg(application_name || '=' || reply_time::text, ',') from pg_stat_replication \
  where application_name like 'pgautofailover\\_standby\\_%' \
  and state = 'streaming' and sync_state in ('sync', 'quorum')), \
 current_setting('restore_command') <> '', \
 exists (select from pg_stat_wal_receiver where now() - last_msg_receipt_time > interval '3.5 s'), \
 case when pg_is_in_recovery() then pg_is_wal_replay_paused() end, \
 a.open, a.oldest_ms \
 from pg_control_system() s, pg_control_checkpoint() c, pg_control_recovery() r, \
 (select count(*) as open, coalesce(floor(extract(epoch from clock_timestamp() - min(xact_start)) * 1000)::bigint, 0) as oldest_ms \
  from pg_stat_activity where backend_type = 'client backend' and xact_start is not null \
  and application_name <> 'pgquorum' and pid <> pg_backend_pid()) a";

/// The connection's own options override `default_transaction_read_only`, so that the value is read
/// from the configuration files instead.
const READ_ONLY: &str = "select setting from pg_file_settings where name = 'default_transaction_read_only' and applied";

impl Facts {
    pub async fn ask(sql: &impl Ask, patience: Duration) -> Result<Facts, SqlError> {
        let rows = sql.ask(QUERY, patience).await?;
        let row = rows.first().ok_or_else(|| odd("no row"))?;
        let text = |at: usize| row.try_get(at).ok().flatten().unwrap_or("");
        Ok(Facts {
            in_recovery: text(0) == "t",
            timeline: text(1).parse().unwrap_or(0),
            lsn: text(2).parse().unwrap_or(Lsn::ZERO),
            system_identifier: text(3).parse().map_err(|_| odd("system identifier"))?,
            version: text(4).parse().unwrap_or(0),
            sync_state: text(5).to_string(),
            streaming: text(6).parse().unwrap_or(0),
            streaming_sync: text(7).parse().unwrap_or(0),
            synchronous_standby_names: text(8).to_string(),
            upstream: Some(text(9).to_string()).filter(|u| !u.is_empty()),
            walreceiver: text(10).parse().ok(),
            alone: text(11) == "t",
            drained: text(12) == "t",
            replies: text(13)
                .split(',')
                .filter_map(|reply| reply.split_once('='))
                .map(|(name, at)| (name.to_string(), at.to_string()))
                .collect(),
            restores: text(14) == "t",
            upstream_silent: text(15) == "t",
            paused: text(16) == "t",
            transactions: match (text(0), text(17).parse(), text(18).parse()) {
                ("f", Ok(count), Ok(oldest_ms)) => Some(OpenTransactions { count, oldest_ms }),
                _ => None,
            },
        })
    }

    /// How many standbys a commit waits for; 0 when it waits for none.
    pub fn required_sync(&self) -> u32 {
        required_sync(&self.synchronous_standby_names)
    }
}

fn odd(what: &str) -> SqlError {
    SqlError::Unreachable(format!("unexpected answer ({what})"))
}

/// Is `default_transaction_read_only` on in the files, as after a promotion that is not finished?
pub async fn is_read_only_by_default(sql: &impl Ask, patience: Duration) -> Result<bool, SqlError> {
    let rows = sql.ask(READ_ONLY, patience).await?;
    Ok(rows.first().is_some_and(|row| row.try_get(0).ok().flatten() == Some("on")))
}

/// The number in `ANY k (...)` or `FIRST k (...)`; a bare list or `k (...)` is FIRST as well.
pub fn required_sync(names: &str) -> u32 {
    let names = names.trim();
    if names.is_empty() {
        return 0;
    }
    let head = names.split('(').next().unwrap_or("");
    if !names.contains('(') {
        return 1;
    }
    head.split_whitespace().last().and_then(|word| word.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::required_sync;

    #[test]
    fn required() {
        for (names, k) in [
            ("", 0),
            ("ANY 1 (pgautofailover_standby_2)", 1),
            ("ANY 2 (a, b, c)", 2),
            ("FIRST 3 (a, b, c, d)", 3),
            ("2 (a, b)", 2),
            ("a, b", 1),
            ("*", 1),
        ] {
            assert_eq!(required_sync(names), k, "{names}");
        }
    }
}
