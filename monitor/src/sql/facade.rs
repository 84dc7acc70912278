//! The facade itself: configuration, shared parts, and the way of a statement to the leader.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use failover::{Call, Reply, WallTime};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::backend::{Backend, Consistency, Role, TransactionId};
use super::context::StatementContext;
use super::deep::{aside, deep};
use super::engine::{Engine, Param};
use super::error::SqlError;
use super::execute::{Done, Fail, Run, list_columns};
use super::forward::{self, ForwardReply, ForwardRequest};
use super::function::Handler;
use super::plan::{Item, Plan, PlanCache, Planned};
use super::settings::SessionSettings;
use super::types::{Column, PgType};
use super::wire::scram::Authentication;
use super::{functions, rows_as_sql, shape, values};
use crate::client_tls::ClientAcceptor;

/// How the facade serves its clients.
#[derive(Clone, Debug)]
pub struct FacadeConfig {
    pub auth: Authentication,
    /// TLS for clients. With it, whoever is not on a loopback address must use it.
    pub tls: Option<Arc<ClientAcceptor>>,
    /// The pgautofailover release shown to sessions that do not ask for one.
    pub extension_version: String,
    /// Permits what upstream's regression scripts do: writing the node table by hand, setting
    /// any `pgautofailover.*` parameter in a session.
    pub test_mode: bool,
    pub max_connections: u32,
    /// Longest message that a client may send.
    pub frame_limit: usize,
    /// From accept to the end of authentication.
    pub startup_deadline: Duration,
    /// How long a call waits for a leader.
    pub leader_deadline: Duration,
}

impl Default for FacadeConfig {
    fn default() -> FacadeConfig {
        FacadeConfig {
            auth: Authentication::Trust,
            tls: None,
            extension_version: "2.0".to_string(),
            test_mode: false,
            max_connections: 2000,
            frame_limit: 1024 * 1024,
            startup_deadline: Duration::from_secs(10),
            leader_deadline: Duration::from_secs(3),
        }
    }
}

/// What a cancel request finds of a session.
pub(super) struct Cancel {
    pub secret: [u8; 4],
    pub signal: Arc<Notify>,
}

/// The SQL facade of one monitor.
pub struct Facade {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) engine: Arc<Engine>,
    pub(super) config: FacadeConfig,
    pub(super) plans: PlanCache,
    pub(super) started_at: WallTime,
    pub(super) sessions: AtomicUsize,
    pub(super) next_pid: AtomicI32,
    pub(super) next_session: AtomicU64,
    pub(super) cancels: Mutex<HashMap<i32, Cancel>>,
}

/// The wall clock, for display.
pub(super) fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// How long a statement wants to sleep: the sum of its `pg_sleep(<constant>)`.
fn asleep(text: &str) -> Option<Duration> {
    const NAME: &str = "pg_sleep";
    let lower = text.to_ascii_lowercase();
    let calls = lower.match_indices(NAME).filter_map(|(at, _)| {
        let rest = lower.get(at + NAME.len()..)?.trim_start().strip_prefix('(')?;
        rest.split_once(')')?.0.trim().parse::<f64>().ok()
    });
    let seconds: f64 = calls.filter(|s| s.is_finite() && *s > 0.0).sum();
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(86_400.0)))
}

/// Longest wait for one forwarded request: beyond it the answer is lost.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);

impl Facade {
    pub fn new(backend: Arc<dyn Backend>, config: FacadeConfig) -> Facade {
        // Session numbers must not repeat after a restart: another monitor may still hold a
        // reservation of the last life.
        let started_at = wall_now();
        Facade {
            backend,
            engine: Arc::new(Engine::new(functions::registry())),
            config,
            plans: PlanCache::default(),
            started_at,
            sessions: AtomicUsize::new(0),
            next_pid: AtomicI32::new(1),
            next_session: AtomicU64::new(started_at.0 as u64),
            cancels: Mutex::new(HashMap::new()),
        }
    }

    /// Executes a statement, here or at the leader. What writes runs in a task of its own: a
    /// client that goes away cannot cut it in half.
    pub(super) async fn execute(
        self: &Arc<Self>,
        ctx: Arc<StatementContext>,
        planned: Arc<Planned>,
        oids: Vec<u32>,
        params: Vec<Param>,
    ) -> Result<Done, SqlError> {
        if let Plan::AvailableExtensions(_) = &planned.plan {
            // The same answer everywhere and at any time: no leader is needed.
            return match Run::new(&self.backend, &self.engine, &ctx, &params).run(&planned).await {
                Err(Fail::Sql(e)) => Err(e),
                Err(_) => Err(SqlError::new("XX000", "this cannot fail")),
                Ok(done) => Ok(done),
            };
        }
        // Here and not in the engine, whose threads are few; a cancel request ends the wait.
        // Calls in FROM, `node_active` above all, hold no other function and are not searched for it.
        if !matches!(planned.plan, Plan::CallFrom { .. })
            && let Some(nap) = asleep(&planned.text)
        {
            tokio::time::sleep(nap).await;
        }
        if !writes(&planned.plan) {
            return self.at_leader(&ctx, &planned, oids, params).await;
        }
        let this = self.clone();
        tokio::spawn(async move { this.at_leader(&ctx, &planned, oids, params).await })
            .await
            .unwrap_or_else(|_| Err(lost()))
    }

    async fn at_leader(
        &self,
        ctx: &StatementContext,
        planned: &Planned,
        oids: Vec<u32>,
        params: Vec<Param>,
    ) -> Result<Done, SqlError> {
        let deadline = Instant::now() + self.config.leader_deadline;
        let repeatable = !ctx.in_transaction && repeatable(&planned.plan);
        let local = !writes(&planned.plan) && ctx.consistency() == Consistency::Local && ctx.pending.is_empty();
        #[cfg(feature = "mutants")]
        let local = local
            || !writes(&planned.plan) && ctx.pending.is_empty() && failover::mutant::is(failover::mutant::Mutant::LocalReads);
        let mut roles = self.backend.watch_role();
        loop {
            let role = roles.borrow_and_update().clone();
            let result = match role {
                Role::Leader => Run::new(&self.backend, &self.engine, ctx, &params).run(planned).await,
                _ if local => Run::new(&self.backend, &self.engine, ctx, &params).run(planned).await,
                Role::Follower { .. } => {
                    let request = ForwardRequest::Statement {
                        text: planned.text.clone(),
                        oids: oids.clone(),
                        params: params.iter().map(|p| (p.ty, p.value.clone())).collect(),
                        context: Box::new(ctx.clone()),
                    };
                    self.forward(&request).await
                }
                Role::NoLeader => Err(Fail::NoLeader),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match result {
                Ok(done) => return Ok(done),
                Err(Fail::Sql(e)) => return Err(e),
                Err(Fail::Unknown) if !repeatable || left.is_zero() => return Err(lost()),
                Err(_) if left.is_zero() && repeatable => return Err(no_leader()),
                Err(_) if left.is_zero() => return Err(no_leader().detail("Nothing was done.")),
                // Look again when the role changes, and every now and then: the leader that we
                // follow may have changed without our role changing.
                Err(_) => drop(timeout(left.min(Duration::from_millis(50)), roles.changed()).await),
            }
        }
    }

    async fn forward(&self, request: &ForwardRequest) -> Result<Done, Fail> {
        let bytes = forward::encode(request)?;
        match timeout(FORWARD_TIMEOUT, self.backend.forward(bytes)).await {
            Ok(Ok(reply)) => forward::decode::<ForwardReply>(&reply)?.into(),
            Ok(Err(e)) => Err(e.into()),
            Err(_) => Err(Fail::Unknown),
        }
    }

    /// Executes what another monitor forwarded. Whatever the bytes are, the answer is an encoded
    /// [`ForwardReply`].
    pub async fn execute_forwarded(&self, bytes: Vec<u8>) -> Vec<u8> {
        let reply = match forward::decode::<ForwardRequest>(&bytes) {
            Err(e) => ForwardReply::Sql(e),
            Ok(ForwardRequest::Statement { text, oids, params, context }) => {
                // `in_recovery` stays that of the monitor which the client is connected to.
                let params: Vec<Param> = params.into_iter().map(|(ty, value)| Param { ty, value }).collect();
                let test_mode = context.around.test_mode && self.config.test_mode;
                match aside(text.len(), || self.plans.plan(&text, &oids, test_mode)) {
                    Err(e) => ForwardReply::Sql(e),
                    Ok(planned) => Run::new(&self.backend, &self.engine, &context, &params).run(&planned).await.into(),
                }
            }
            Ok(ForwardRequest::Commit { transaction, calls, expected }) => {
                let committed = self.backend.commit(transaction, calls, expected).await;
                committed.map(|()| Done::tag("COMMIT")).map_err(Fail::from).into()
            }
            Ok(ForwardRequest::Rollback { transaction }) => {
                self.backend.rollback(transaction).await;
                ForwardReply::Done(Done::tag("ROLLBACK"))
            }
        };
        forward::encode(&reply)
            .or_else(|e| forward::encode(&ForwardReply::Sql(e)))
            .unwrap_or_default()
    }

    /// Replicates what a transaction wrote.
    pub(super) async fn commit(self: &Arc<Self>, transaction: TransactionId, made: Vec<(Call, Reply)>) -> Result<(), SqlError> {
        let this = self.clone();
        let task = async move {
            let deadline = Instant::now() + this.config.leader_deadline;
            let (calls, expected): (Vec<_>, Vec<_>) = made.into_iter().unzip();
            let mut roles = this.backend.watch_role();
            loop {
                let role = roles.borrow_and_update().clone();
                let result = match role {
                    Role::Leader => this.backend.commit(transaction, calls.clone(), expected.clone()).await.map_err(Fail::from),
                    Role::NoLeader => Err(Fail::NoLeader),
                    Role::Follower { .. } => {
                        let request =
                            ForwardRequest::Commit { transaction, calls: calls.clone(), expected: expected.clone() };
                        this.forward(&request).await.map(|_| ())
                    }
                };
                let left = deadline.saturating_duration_since(Instant::now());
                match result {
                    Ok(()) => return Ok(()),
                    Err(Fail::Sql(e)) => return Err(e),
                    Err(Fail::Unknown) => return Err(lost()),
                    // A transaction that was surely not done may simply be repeated: 40001 says so.
                    Err(_) if left.is_zero() => {
                        return Err(SqlError::new("40001", "no leader among the monitors").hint("Retry the transaction."));
                    }
                    Err(_) => drop(timeout(left.min(Duration::from_millis(50)), roles.changed()).await),
                }
            }
        };
        tokio::spawn(task).await.unwrap_or_else(|_| Err(lost()))
    }

    /// Gives up a transaction's reservations, wherever they are. Nobody waits for it.
    pub(super) fn rollback(self: &Arc<Self>, transaction: TransactionId) {
        let this = self.clone();
        tokio::spawn(async move {
            match this.backend.role() {
                Role::Follower { .. } => drop(this.forward(&ForwardRequest::Rollback { transaction }).await),
                _ => this.backend.rollback(transaction).await,
            }
        });
    }

    /// The result columns of a statement; `None` when it returns no rows.
    pub(super) async fn describe(
        &self,
        ctx: &StatementContext,
        planned: &Planned,
        types: &[PgType],
    ) -> Result<Option<Vec<Column>>, SqlError> {
        let text = |n: &str| Column { name: n.to_string(), ty: PgType::Text };
        let statement = match &planned.plan {
            Plan::Show(Some(name)) => return Ok(Some(vec![text(&SessionSettings::canonical(name))])),
            Plan::Show(None) => return Ok(Some(vec![text("name"), text("setting"), text("description")])),
            Plan::SetConfig { column, .. } => return Ok(Some(vec![text(column)])),
            Plan::AvailableExtensions(shape) | Plan::CallFrom { shape, .. } => return Ok(Some(shape::columns(shape))),
            Plan::CallList(list) => match &list.base {
                None => return Ok(Some(list_columns(list, &[]))),
                Some(base) => base.clone(),
            },
            Plan::CallInQuery { call, query, alias } => Arc::new(deep(|| rows_as_sql::replace(query, call.function, alias, &[]))?),
            Plan::Query(statement) => statement.clone(),
            Plan::UpdateNode(update) => match &update.returning {
                Some(query) => Arc::new(deep(|| sqlparser::ast::Statement::Query(query.clone()))),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        // Types do not depend on the state, so any view will do.
        let view = self.backend.view(Consistency::Local, &[]).await.map_err(|_| no_leader())?;
        let columns = deep(|| self.engine.describe(&view, &ctx.view(&view), &statement, types))?;
        Ok(Some(match &planned.plan {
            Plan::CallList(list) => list_columns(list, &columns),
            _ => columns,
        }))
    }

    /// The parameter OIDs of a statement, those that it leaves open being the engine's guess.
    pub(super) async fn parameter_oids(&self, ctx: &StatementContext, planned: &Planned) -> Result<Vec<u32>, SqlError> {
        let planned = planned.query();
        let mut oids = planned.param_oids.clone();
        if !oids.contains(&0) {
            return Ok(oids);
        }
        let statement = match &planned.plan {
            Plan::Query(statement) => Some(&**statement),
            Plan::CallInQuery { query, .. } => Some(&**query),
            Plan::CallList(list) => list.base.as_deref(),
            Plan::UpdateNode(update) => Some(&*update.base),
            _ => None,
        };
        let declared = planned.param_oids.iter().map(|o| values::type_of_oid(*o).unwrap_or(PgType::Unknown)).collect::<Vec<_>>();
        let mut guessed = Vec::new();
        if let Some(statement) = statement
            && let Ok(view) = self.backend.view(Consistency::Local, &[]).await
        {
            guessed = deep(|| self.engine.parameter_types(&view, &ctx.view(&view), statement, &declared)).unwrap_or_default();
        }
        for (i, oid) in oids.iter_mut().enumerate().filter(|(_, oid)| **oid == 0) {
            let ty = guessed.get(i).copied().filter(|t| *t != PgType::Unknown).unwrap_or(PgType::Text);
            *oid = ty.oid();
        }
        Ok(oids)
    }

    pub(super) fn register(&self, pid: i32, secret: [u8; 4], signal: Arc<Notify>) {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, Cancel { secret, signal });
    }

    pub(super) fn unregister(&self, pid: i32) {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }

    /// Ends what a session is executing, if the secret is right.
    pub(super) fn cancel(&self, pid: i32, secret: &[u8]) {
        let cancels = self.cancels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = cancels.get(&pid)
            && cancel.secret == secret
        {
            cancel.signal.notify_one();
        }
    }
}

/// Whether executing the plan may write.
pub(super) fn writes(plan: &Plan) -> bool {
    let writer = |call: &super::plan::Call| matches!(call.function.handler, Handler::Write(_));
    match plan {
        Plan::CallFrom { call, .. } | Plan::CallInQuery { call, .. } => writer(call),
        Plan::CallList(list) => list.items.iter().any(|i| matches!(i, Item::Call { call, .. } if writer(call))),
        Plan::AlterSetting { .. } | Plan::UpdateNode(_) => true,
        _ => false,
    }
}

/// Whether executing the plan twice does no harm.
fn repeatable(plan: &Plan) -> bool {
    match plan {
        Plan::CallFrom { call, .. } if call.function.name == "node_active" => true,
        other => !writes(other),
    }
}

/// The client's error when leadership was lost under way.
fn lost() -> SqlError {
    SqlError::new("40001", "the monitors changed their leader while this was being done")
        .detail("Whether it was done is not known.")
        .hint("Look at the present state, then retry.")
}

/// The client's error when there is no leader.
pub(super) fn no_leader() -> SqlError {
    SqlError::new("57P03", "no leader among the monitors")
        .hint("A majority of the monitors must be running and reach each other. Retry, or look at pgquorum show monitors.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_is_found_where_it_is_asked_for() {
        assert_eq!(asleep("select 1"), None);
        assert_eq!(asleep("SELECT PG_SLEEP (0.25)"), Some(Duration::from_millis(250)));
        assert_eq!(asleep("select pg_sleep(1), pg_catalog.pg_sleep(2);"), Some(Duration::from_secs(3)));
        assert_eq!(asleep("select pg_sleep($1), pg_sleep(-1), pg_sleep(NaN), pg_sleep("), None);
    }
}
