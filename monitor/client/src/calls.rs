//! The calls of the API. Statements are those that stock clients send, with literals in place.

use std::time::Duration;

use crate::client::{MonitorClient, Repeat};
use crate::error::{CallError, ServerError};
use crate::rows::*;
use crate::sql::{literal, quoted_or_null};

const STATE_COLUMNS: &str = "SELECT formation_kind, nodename, nodehost, nodeport, group_id, node_id, \
     current_group_state, assigned_group_state, candidate_priority, replication_quorum, \
     reported_tli, reported_lsn, health, nodecluster, healthlag, reportlag \
     FROM pgautofailover.current_state";

const STATE_LAGS: &str = " cs JOIN (select nodeid, extract(epoch from now() - healthchecktime), \
     extract(epoch from now() - reporttime) from pgautofailover.node) \
     as n(nodeid, healthlag, reportlag) on n.nodeid = cs.node_id ORDER BY group_id, node_id";

const URI_BRANCHES: &str = "SELECT 'formation', formationid, formation_uri FROM pgautofailover.formation, \
     pgautofailover.formation_uri(formation.formationid, 'default', $2, $3, $4) UNION ALL \
     SELECT 'read-replica', nodecluster, formation_uri FROM pgautofailover.formation \
     JOIN pgautofailover.node using(formationid), \
     pgautofailover.formation_uri(formation.formationid, nodecluster, $2, $3, $4) \
     WHERE node.groupid = 0 and node.nodecluster <> 'default'";

const SETTINGS_JSON: &str = "with settings as (select * from pgautofailover.formation_settings($1)), \
     f(json) as (select jsonb_agg(row_to_json(settings)) from settings where context = 'formation'), \
     p(json) as (select jsonb_agg(row_to_json(settings)) from settings where context = 'primary'), \
     n(json) as (select jsonb_agg(row_to_json(settings)) from settings where context = 'node') \
     select jsonb_pretty(jsonb_build_object('formation', f.json, 'primary', p.json, 'nodes', n.json)) \
     from f, p, n";

/// `('default')` or `('default', 0)`.
fn scope(formation: &str, group: Option<i32>) -> String {
    match group {
        Some(group) => format!("({}, {group})", literal(formation)),
        None => format!("({})", literal(formation)),
    }
}

/// Arguments of `last_events`.
fn events_scope(formation: &str, group: Option<i32>, count: u32) -> String {
    match group {
        Some(group) => format!("({}, {group}, {count})", literal(formation)),
        None => format!("({}, count => {count})", literal(formation)),
    }
}

/// The connection's security, as `formation_uri` wants it.
fn uri_arguments(statement: &str, sslmode: &str) -> String {
    statement.replace("$2", &literal(sslmode)).replace("$3", "''").replace("$4", "''")
}

pub(crate) fn one(rows: Vec<Row>) -> Result<Row, CallError> {
    rows.into_iter().next().ok_or_else(|| CallError::Answer("no row".to_string()))
}

impl MonitorClient {
    pub(crate) async fn read(&self, sql: &str) -> Result<Vec<Row>, CallError> {
        self.run(sql, Repeat::Harmless).await
    }

    pub(crate) async fn read_text(&self, sql: &str) -> Result<String, CallError> {
        one(self.read(sql).await?)?.string(0)
    }

    /// A write that must not be sent twice; the value of its only column.
    async fn write(&self, sql: &str) -> Result<Option<String>, CallError> {
        let rows = self.run(sql, Repeat::Careful).await?;
        match rows.first() {
            Some(row) => Ok(row.text(0)?.map(str::to_string)),
            None => Ok(None),
        }
    }

    async fn write_bool(&self, sql: &str) -> Result<bool, CallError> {
        Ok(self.write(sql).await?.as_deref() == Some("t"))
    }

    // Reports

    pub async fn current_state(&self, formation: &str, group: Option<i32>) -> Result<Vec<NodeRow>, CallError> {
        let sql = format!("{STATE_COLUMNS}{}{STATE_LAGS}", scope(formation, group));
        self.read(&sql).await?.iter().map(node_row).collect()
    }

    pub async fn current_state_json(&self, formation: &str, group: Option<i32>) -> Result<String, CallError> {
        self.read_text(&format!(
            "SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(state)), '[]')) FROM pgautofailover.current_state{} as state",
            scope(formation, group)
        ))
        .await
    }

    /// The last events, oldest first.
    pub async fn last_events(
        &self,
        formation: &str,
        group: Option<i32>,
        count: u32,
    ) -> Result<Vec<EventRow>, CallError> {
        let sql = format!(
            "SELECT eventTime, nodeid, groupid, reportedstate, goalState, description FROM pgautofailover.last_events{}",
            events_scope(formation, group, count)
        );
        let rows = self.read(&sql).await?;
        rows.iter()
            .map(|row| {
                Ok(EventRow {
                    time: row.string(0)?,
                    node: row.parse(1)?,
                    group: row.parse(2)?,
                    reported: row.string(3)?,
                    goal: row.string(4)?,
                    description: row.text(5)?.unwrap_or("").to_string(),
                })
            })
            .collect()
    }

    pub async fn last_events_json(
        &self,
        formation: &str,
        group: Option<i32>,
        count: u32,
    ) -> Result<String, CallError> {
        self.read_text(&format!(
            "SELECT jsonb_pretty(coalesce(jsonb_agg(row_to_json(event)), '[]')) FROM pgautofailover.last_events{} as event",
            events_scope(formation, group, count)
        ))
        .await
    }

    pub async fn formation_settings(&self, formation: &str) -> Result<Vec<SettingRow>, CallError> {
        let sql = format!(
            "select context, group_id, node_id, nodename, setting, value from pgautofailover.formation_settings({}) \
             order by case context when 'formation' then 0 when 'primary' then 1 when 'node' then 2 else 3 end, \
             setting, group_id, node_id",
            literal(formation)
        );
        let rows = self.read(&sql).await?;
        rows.iter()
            .map(|row| {
                Ok(SettingRow {
                    context: row.string(0)?,
                    group: row.optional(1)?,
                    node: row.optional(2)?,
                    name: row.string(3)?,
                    setting: row.string(4)?,
                    value: row.text(5)?.unwrap_or("").to_string(),
                })
            })
            .collect()
    }

    pub async fn formation_settings_json(&self, formation: &str) -> Result<String, CallError> {
        self.read_text(&SETTINGS_JSON.replace("$1", &literal(formation))).await
    }

    /// The connection strings of everything, the monitor's own first.
    pub async fn all_uris(&self, monitor_uri: &str, sslmode: &str) -> Result<Vec<FormationUri>, CallError> {
        let sql = format!(
            "SELECT 'monitor', 'monitor', {} UNION ALL {}",
            literal(monitor_uri),
            uri_arguments(URI_BRANCHES, sslmode)
        );
        let rows = self.read(&sql).await?;
        rows.iter()
            .map(|row| {
                Ok(FormationUri { kind: row.string(0)?, name: row.string(1)?, uri: row.text(2)?.map(str::to_string) })
            })
            .collect()
    }

    pub async fn all_uris_json(&self, monitor_uri: &str, sslmode: &str) -> Result<String, CallError> {
        self.read_text(&format!(
            "WITH formation(type, name, uri) AS (SELECT 'monitor', 'monitor', {} UNION ALL {}) \
             SELECT jsonb_pretty(jsonb_agg(row_to_json(formation))) FROM formation",
            literal(monitor_uri),
            uri_arguments(URI_BRANCHES, sslmode)
        ))
        .await
    }

    /// The connection string of one formation; `None` while it has no nodes.
    pub async fn formation_uri(&self, formation: &str, sslmode: &str) -> Result<Option<String>, CallError> {
        let sql = format!(
            "SELECT formation_uri FROM pgautofailover.formation_uri({}, 'default', {}, '', '')",
            literal(formation),
            literal(sslmode)
        );
        match self.read(&sql).await?.first() {
            Some(row) => Ok(row.text(0)?.map(str::to_string)),
            None => Ok(None),
        }
    }

    pub async fn synchronous_standby_names(&self, formation: &str, group: i32) -> Result<String, CallError> {
        self.read_text(&format!("select pgautofailover.synchronous_standby_names({}, {group})", literal(formation)))
            .await
    }

    /// The monitors themselves. A stock monitor has no such table: `None`.
    pub async fn replicas(&self) -> Result<Option<Vec<ReplicaRow>>, CallError> {
        let sql = "SELECT name, host, port, replica_port, role, term, applied_index, lag, version \
                   FROM pgquorum.replica ORDER BY id";
        let rows = match self.read(sql).await {
            Ok(rows) => rows,
            Err(CallError::Server(error)) if matches!(error.code.as_str(), "42P01" | "3F000") => return Ok(None),
            Err(error) => return Err(error),
        };
        rows.iter().map(replica_row).collect::<Result<_, _>>().map(Some)
    }

    /// The API version that the monitor speaks.
    pub async fn extension_version(&self) -> Result<Option<String>, CallError> {
        let sql = "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'pgautofailover'";
        match self.read(sql).await?.first() {
            Some(row) => Ok(row.text(1)?.map(str::to_string)),
            None => Ok(None),
        }
    }

    pub async fn get_nodes(&self, formation: &str, group: Option<i32>) -> Result<Vec<GroupNode>, CallError> {
        let sql = format!("SELECT * FROM pgautofailover.get_nodes{} ORDER BY node_id", scope(formation, group));
        self.read(&sql).await?.iter().map(group_node).collect()
    }

    pub async fn get_other_nodes(&self, id: i64) -> Result<Vec<GroupNode>, CallError> {
        let sql = format!("SELECT * FROM pgautofailover.get_other_nodes({id}) ORDER BY node_id");
        self.read(&sql).await?.iter().map(group_node).collect()
    }

    /// How many groups have nodes in a formation.
    pub async fn count_groups(&self, formation: &str) -> Result<i64, CallError> {
        let sql =
            format!("SELECT count(distinct(groupid)) FROM pgautofailover.node WHERE formationid = {}", literal(formation));
        one(self.read(&sql).await?)?.parse(0)
    }

    pub async fn number_sync_standbys(&self, formation: &str) -> Result<Option<i32>, CallError> {
        let sql = format!(
            "SELECT number_sync_standbys FROM pgautofailover.formation WHERE formationid = {}",
            literal(formation)
        );
        self.read(&sql).await?.first().map(|row| row.parse(0)).transpose()
    }

    // Keepers

    /// One report; harmless to repeat by design of the monitor.
    pub async fn node_active(&self, report: &NodeActiveReport) -> Result<NodeAssignment, CallError> {
        let sql = format!(
            "SELECT * FROM pgautofailover.node_active({}, {}, {}, {}::pgautofailover.replication_state, {}, {}, '{}', {})",
            literal(&report.formation),
            report.id,
            report.group,
            literal(report.state.name()),
            report.pg_is_running,
            report.timeline,
            report.lsn,
            literal(&report.sync_state)
        );
        assignment(&one(self.run(&sql, Repeat::Harmless).await?)?)
    }

    /// The node that writes go to. While a failover is under way there may be none: an error.
    pub async fn get_primary(&self, formation: &str, group: i32) -> Result<GroupNode, CallError> {
        let sql = format!("SELECT * FROM pgautofailover.get_primary({}, {group})", literal(formation));
        let row = one(self.read(&sql).await?)?;
        Ok(GroupNode {
            id: row.parse(0)?,
            name: row.string(1)?,
            host: row.string(2)?,
            port: row.parse(3)?,
            lsn: failover::Lsn::ZERO,
            is_primary: true,
        })
    }

    /// The standby that reported most WAL for an election; `None` outside of one.
    pub async fn get_most_advanced_standby(&self, formation: &str, group: i32) -> Result<Option<GroupNode>, CallError> {
        let sql = format!("SELECT * FROM pgautofailover.get_most_advanced_standby({}, {group})", literal(formation));
        self.read(&sql).await?.first().map(group_node).transpose()
    }

    pub async fn set_node_system_identifier(&self, id: i64, identifier: u64) -> Result<(), CallError> {
        let sql = format!("SELECT * FROM pgautofailover.set_node_system_identifier({id}, {identifier})");
        self.run(&sql, Repeat::Harmless).await.map(drop)
    }

    pub async fn update_node_metadata(
        &self,
        id: i64,
        name: Option<&str>,
        host: Option<&str>,
        port: Option<u16>,
    ) -> Result<bool, CallError> {
        let port = port.map_or_else(|| "NULL".to_string(), |port| port.to_string());
        let sql = format!(
            "SELECT * FROM pgautofailover.update_node_metadata({id}, {}, {}, {port})",
            quoted_or_null(name),
            quoted_or_null(host)
        );
        self.write_bool(&sql).await
    }

    // Operators

    pub async fn perform_failover(&self, formation: &str, group: i32) -> Result<(), CallError> {
        self.write(&format!("SELECT pgautofailover.perform_failover({}, {group})", literal(formation))).await.map(drop)
    }

    /// A failover that may promote a node which lacks writes that clients were told are safe. The
    /// permission holds for this call alone.
    pub async fn perform_failover_allowing_data_loss(
        &self,
        formation: &str,
        group: i32,
    ) -> Result<Vec<ServerError>, CallError> {
        let session = self.session().await?;
        let patience = self.patience();
        session.query("BEGIN", patience).await?;
        session.query("SET LOCAL pgautofailover.guard_data_loss TO false", patience).await?;
        session
            .query(&format!("SELECT pgautofailover.perform_failover({}, {group})", literal(formation)), patience)
            .await?;
        session.query("COMMIT", patience).await?;
        Ok(session.take_notices())
    }

    pub async fn perform_promotion(&self, formation: &str, name: &str) -> Result<bool, CallError> {
        self.write_bool(&format!("SELECT pgautofailover.perform_promotion({}, {})", literal(formation), literal(name)))
            .await
    }

    pub async fn start_maintenance(&self, id: i64) -> Result<bool, CallError> {
        self.write_bool(&format!("SELECT pgautofailover.start_maintenance({id})")).await
    }

    pub async fn stop_maintenance(&self, id: i64) -> Result<bool, CallError> {
        self.write_bool(&format!("SELECT pgautofailover.stop_maintenance({id})")).await
    }

    pub async fn set_candidate_priority(&self, formation: &str, name: &str, value: i32) -> Result<bool, CallError> {
        self.write_bool(&format!(
            "SELECT pgautofailover.set_node_candidate_priority({}, {}, {value})",
            literal(formation),
            literal(name)
        ))
        .await
    }

    /// `None`: there is no such formation.
    pub async fn formation(&self, formation: &str) -> Result<Option<FormationRow>, CallError> {
        let sql = format!(
            "SELECT kind, dbname, opt_secondary, number_sync_standbys FROM pgautofailover.formation \
             WHERE formationid = {}",
            literal(formation)
        );
        let row = |row: &Row| {
            Ok(FormationRow {
                kind: row.string(0)?,
                dbname: row.string(1)?,
                secondary: row.boolean(2)?,
                number_sync_standbys: row.parse(3)?,
            })
        };
        self.read(&sql).await?.first().map(row).transpose()
    }

    /// Where a node is; `None`: there is no such node.
    pub async fn region(&self, formation: &str, name: &str) -> Result<Option<String>, CallError> {
        let rows = self
            .read(&format!(
                "SELECT region FROM pgautofailover.node WHERE formationid = {} AND nodename = {}",
                literal(formation),
                literal(name)
            ))
            .await?;
        rows.first().map(|row| row.string(0)).transpose()
    }

    pub async fn set_region(&self, formation: &str, name: &str, region: &str) -> Result<bool, CallError> {
        self.write_bool(&format!(
            "SELECT pgautofailover.set_node_region({}, {}, {})",
            literal(formation),
            literal(name),
            literal(region)
        ))
        .await
    }

    pub async fn set_replication_quorum(&self, formation: &str, name: &str, value: bool) -> Result<bool, CallError> {
        self.write_bool(&format!(
            "SELECT pgautofailover.set_node_replication_quorum({}, {}, {value})",
            literal(formation),
            literal(name)
        ))
        .await
    }

    pub async fn set_number_sync_standbys(&self, formation: &str, value: i32) -> Result<bool, CallError> {
        self.write_bool(&format!(
            "SELECT pgautofailover.set_formation_number_sync_standbys({}, {value})",
            literal(formation)
        ))
        .await
    }

    pub async fn create_formation(
        &self,
        formation: &str,
        kind: &str,
        dbname: &str,
        secondary: bool,
        number_sync_standbys: i32,
    ) -> Result<(), CallError> {
        let sql = format!(
            "SELECT * FROM pgautofailover.create_formation({}, {}, {}, {secondary}, {number_sync_standbys})",
            literal(formation),
            literal(kind),
            literal(dbname)
        );
        self.write(&sql).await.map(drop)
    }

    pub async fn drop_formation(&self, formation: &str) -> Result<(), CallError> {
        self.write(&format!("SELECT * FROM pgautofailover.drop_formation({})", literal(formation))).await.map(drop)
    }

    pub async fn set_secondary(&self, formation: &str, enabled: bool) -> Result<(), CallError> {
        let function = if enabled { "enable_secondary" } else { "disable_secondary" };
        self.write(&format!("SELECT * FROM pgautofailover.{function}({})", literal(formation))).await.map(drop)
    }

    /// Starts the removal of a node; `false` when the monitor knows no such node.
    pub async fn remove_node(&self, formation: &str, name: &str, force: bool) -> Result<bool, CallError> {
        let sql = format!(
            "SELECT nodeid, groupid, pgautofailover.remove_node(nodeid::int, {force}) FROM pgautofailover.node \
             WHERE formationid = {} and nodename = {}",
            literal(formation),
            literal(name)
        );
        Ok(!self.run(&sql, Repeat::Careful).await?.is_empty())
    }

    pub async fn remove_node_by_address(&self, host: &str, port: u16, force: bool) -> Result<bool, CallError> {
        let host = literal(host);
        let sql = format!(
            "SELECT nodeid, groupid, pgautofailover.remove_node({host}, {port}, {force}) FROM pgautofailover.node \
             WHERE nodehost = {host} and nodeport = {port}"
        );
        Ok(!self.run(&sql, Repeat::Careful).await?.is_empty())
    }
}

impl Registration {
    /// Makes the registration durable. An error here may mean either outcome: ask `get_nodes`.
    pub async fn commit(self, patience: Duration) -> Result<Registered, CallError> {
        self.session.query("COMMIT", patience).await?;
        Ok(self.registered)
    }

    /// Takes the registration back.
    pub async fn rollback(self, patience: Duration) -> Result<(), CallError> {
        self.session.query("ROLLBACK", patience).await.map(drop)
    }
}

pub(crate) fn assignment(row: &Row) -> Result<NodeAssignment, CallError> {
    Ok(NodeAssignment {
        id: row.parse(0)?,
        group: row.parse(1)?,
        state: row.state(2)?,
        candidate_priority: row.parse(3)?,
        replication_quorum: row.boolean(4)?,
    })
}

fn lsn(row: &Row, at: usize) -> Result<failover::Lsn, CallError> {
    Ok(row.optional(at)?.unwrap_or(failover::Lsn::ZERO))
}

fn node_row(row: &Row) -> Result<NodeRow, CallError> {
    Ok(NodeRow {
        formation_kind: row.string(0)?,
        name: row.string(1)?,
        host: row.string(2)?,
        port: row.parse(3)?,
        group: row.parse(4)?,
        id: row.parse(5)?,
        reported: row.state(6)?,
        goal: row.state(7)?,
        candidate_priority: row.parse(8)?,
        replication_quorum: row.boolean(9)?,
        timeline: row.parse(10)?,
        lsn: lsn(row, 11)?,
        health: row.parse(12)?,
        cluster: row.string(13)?,
        health_lag: row.optional(14)?,
        report_lag: row.optional(15)?,
    })
}

fn group_node(row: &Row) -> Result<GroupNode, CallError> {
    Ok(GroupNode {
        id: row.parse(0)?,
        name: row.string(1)?,
        host: row.string(2)?,
        port: row.parse(3)?,
        lsn: lsn(row, 4)?,
        is_primary: row.boolean(5)?,
    })
}

fn replica_row(row: &Row) -> Result<ReplicaRow, CallError> {
    Ok(ReplicaRow {
        name: row.string(0)?,
        host: row.string(1)?,
        port: row.parse(2)?,
        replica_port: row.parse(3)?,
        role: row.string(4)?,
        term: row.optional(5)?,
        applied_index: row.optional(6)?,
        lag: row.optional(7)?,
        version: row.text(8)?.map(str::to_string),
    })
}
