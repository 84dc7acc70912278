//! Reads that look behind the tables: facts of the rules, single events, what may be lost. A stock monitor
//! has none of them.

use std::time::Duration;

use crate::client::MonitorClient;
use crate::error::CallError;
use crate::rows::{EventDetail, PrimaryTransactions};
use crate::sql::literal;

/// No such function, column, table or schema there.
fn is_unknown(error: &CallError) -> bool {
    matches!(error.code(), Some("42883" | "42703" | "42P01" | "3F000"))
}

const EVENT: &str = "SELECT eventid, to_char(eventtime, 'YYYY-MM-DD HH24:MI:SS'), formationid, nodeid, groupid, nodename, \
     reportedstate, goalstate, reportedtli, reportedlsn, candidatepriority, replicationquorum, description, \
     extract(epoch from eventtime)";

impl MonitorClient {
    /// Everything that the rules look at in a group, as JSON (a `failover::Snapshot`). A stock monitor
    /// has no such function: `None`.
    pub async fn group_facts(&self, formation: &str, group: i32) -> Result<Option<String>, CallError> {
        match self.read_text(&format!("SELECT pgquorum.group_facts({}, {group})", literal(formation))).await {
            Ok(json) => Ok(Some(json)),
            Err(error) if is_unknown(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What stands in the way of a failover that surely loses nothing, and what one that accepts losses
    /// would risk: a sentence each, in the monitor's words. `None` from a monitor that cannot tell.
    pub async fn data_loss_statement(&self, formation: &str, group: i32) -> Result<Option<Vec<String>>, CallError> {
        let sql = format!("SELECT statement FROM pgquorum.data_loss_statement({}, {group})", literal(formation));
        match self.read(&sql).await {
            Ok(rows) => rows.iter().map(|row| row.string(0)).collect::<Result<_, _>>().map(Some),
            Err(error) if is_unknown(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Clients' open transactions on the primary of a group, as its keeper has reported them last. `None`
    /// from a monitor that cannot tell, or about a primary whose keeper does not.
    pub async fn open_transactions(&self, formation: &str, group: i32) -> Result<Option<PrimaryTransactions>, CallError> {
        let sql = format!(
            "SELECT node_name, open_transactions, oldest_transaction_ms, reported_ms_ago \
             FROM pgquorum.open_transactions({}, {group})",
            literal(formation)
        );
        let rows = match self.read(&sql).await {
            Ok(rows) => rows,
            Err(error) if is_unknown(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(row) = rows.first() else { return Ok(None) };
        let ms = |at| row.parse(at).map(|ms: i64| Duration::from_millis(ms.max(0).unsigned_abs()));
        Ok(Some(PrimaryTransactions { node: row.string(0)?, count: row.parse(1)?, oldest: ms(2)?, reported_ago: ms(3)? }))
    }

    /// An event by its number, with so many before and behind it. Oldest first.
    pub async fn events_around(&self, number: i64, before: i64, behind: i64) -> Result<Vec<EventDetail>, CallError> {
        let (from, to) = (number.saturating_sub(before), number.saturating_add(behind));
        self.events(&format!("FROM pgautofailover.event WHERE eventid BETWEEN {from} AND {to} ORDER BY eventid")).await
    }

    /// The newest events of a formation, oldest first.
    pub async fn newest_events(&self, formation: &str, group: Option<i32>, count: u32) -> Result<Vec<EventDetail>, CallError> {
        let group = group.map_or_else(String::new, |group| format!(" AND groupid = {group}"));
        let mut events = self
            .events(&format!(
                "FROM pgautofailover.event WHERE formationid = {}{group} ORDER BY eventid DESC LIMIT {count}",
                literal(formation)
            ))
            .await?;
        events.reverse();
        Ok(events)
    }

    async fn events(&self, rest: &str) -> Result<Vec<EventDetail>, CallError> {
        let rows = match self.read(&format!("{EVENT}, rule_pos {rest}")).await {
            Err(error) if is_unknown(&error) => self.read(&format!("{EVENT}, NULL {rest}")).await?,
            other => other?,
        };
        rows.iter()
            .map(|row| {
                Ok(EventDetail {
                    id: row.parse(0)?,
                    time: row.string(1)?,
                    formation: row.string(2)?,
                    node: row.parse(3)?,
                    group: row.parse(4)?,
                    name: row.string(5)?,
                    reported: row.string(6)?,
                    goal: row.string(7)?,
                    timeline: row.parse(8)?,
                    lsn: row.string(9)?,
                    priority: row.parse(10)?,
                    quorum: row.boolean(11)?,
                    description: row.text(12)?.unwrap_or("").to_string(),
                    milliseconds: row.optional(13)?.map_or(0, |seconds: f64| (seconds * 1000.0).round() as i64),
                    rule: row.optional(14)?,
                })
            })
            .collect()
    }
}
