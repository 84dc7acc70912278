//! The calls of our own keeper: registration, and the extended report.

use crate::calls::{assignment, one};
use crate::client::{MonitorClient, Repeat};
use crate::error::CallError;
use crate::rows::*;
use crate::sql::literal;

impl MonitorClient {
    /// One extended report; harmless to repeat. A monitor without the schema `pgquorum` (a stock
    /// one) answers 3F000 or 42883.
    pub async fn report(&self, report: &Report) -> Result<Answer, CallError> {
        let (stock, ours) = (&report.report, &report.extended);
        let history: Vec<String> = ours
            .timeline_history
            .iter()
            .map(|line| format!("{}:{}:{}", line.timeline, line.parent, line.switchpoint))
            .collect();
        let sql = format!(
            "SELECT * FROM pgquorum.node_active({}, {}, {}, {}::pgautofailover.replication_state, {}, {}, '{}', {}, \
             {}, {}, {}, {}, {}, {}, {}, {}, {})",
            literal(&stock.formation),
            stock.id,
            stock.group,
            literal(stock.state.name()),
            stock.pg_is_running,
            stock.timeline,
            stock.lsn,
            literal(&stock.sync_state),
            ours.epoch,
            ours.sync_version,
            ours.sealed,
            literal(ours.upstream.word()),
            literal(ours.postgres_end.word()),
            literal(&history.join(",")),
            ours.standbys_streaming,
            ours.transactions.map_or(-1, |open| open.count),
            ours.transactions.map_or(0, |open| open.oldest_ms)
        );
        answer(&one(self.run(&sql, Repeat::Harmless).await?)?)
    }

    /// Registers a node in a transaction that the caller commits once it has written down who it is.
    pub async fn register_node(&self, request: &RegistrationRequest) -> Result<Registration, CallError> {
        self.register_in("pgautofailover", request).await
    }

    /// As [`MonitorClient::register_node`], announcing our own keeper.
    pub async fn register(&self, request: &RegistrationRequest) -> Result<Registration, CallError> {
        self.register_in("pgquorum", request).await
    }

    async fn register_in(&self, schema: &str, request: &RegistrationRequest) -> Result<Registration, CallError> {
        let session = self.session().await?;
        let patience = self.patience();
        session.query("BEGIN", patience).await?;
        let sql = format!(
            "SELECT * FROM {schema}.register_node({}, {}, {}, {}, {}, {}, {}, {}, {}::pgautofailover.replication_state, {}, {}, {}, {}{})",
            literal(&request.formation),
            literal(&request.host),
            request.port,
            literal(&request.dbname),
            literal(&request.name),
            request.system_identifier,
            request.desired_id.unwrap_or(-1),
            request.desired_group.unwrap_or(-1),
            literal(request.initial_state.name()),
            literal(&request.kind),
            request.candidate_priority,
            request.replication_quorum,
            literal(&request.cluster),
            // Releases before 2.3 have no argument for it.
            request.region.as_deref().map(|region| format!(", {}", literal(region))).unwrap_or_default()
        );
        let row = one(session.query(&sql, patience).await?)?;
        let epoch = if schema == "pgquorum" { row.parse(6)? } else { 0 };
        let registered = Registered { assignment: assignment(&row)?, name: row.string(5)?, epoch };
        Ok(Registration { session, registered })
    }

    /// The groups of a formation and the path that their failovers take. A stock monitor has no such
    /// function: `None`.
    pub async fn group_state(&self, formation: &str) -> Result<Option<Vec<GroupState>>, CallError> {
        let sql = format!(
            "SELECT group_id, path, epoch, sync_version, configurations FROM pgquorum.group_state({}) ORDER BY group_id",
            literal(formation)
        );
        let rows = match self.run(&sql, Repeat::Harmless).await {
            Ok(rows) => rows,
            Err(CallError::Server(error)) if matches!(error.code.as_str(), "42883" | "3F000") => return Ok(None),
            Err(error) => return Err(error),
        };
        let row = |row: &Row| {
            Ok(GroupState {
                group: row.parse(0)?,
                path: row.string(1)?,
                epoch: row.parse(2)?,
                sync_version: row.parse(3)?,
                configurations: row.text(4)?.unwrap_or("").to_string(),
            })
        };
        rows.iter().map(row).collect::<Result<_, _>>().map(Some)
    }
}

fn answer(row: &Row) -> Result<Answer, CallError> {
    let primary: i64 = row.parse(9)?;
    Ok(Answer {
        assignment: assignment(row)?,
        epoch: row.parse(5)?,
        sync_version: row.parse(6)?,
        synchronous_standby_names: row.text(7)?.unwrap_or("").to_string(),
        lease_ms: row.parse(8)?,
        primary: match primary {
            0 => None,
            id => Some(Upstream { id, host: row.string(10)?, port: row.parse(11)? }),
        },
        checkpoint_now: row.boolean(12)?,
        want_history: row.boolean(13)?,
    })
}
