//! Executes one planned statement here, without asking another monitor.

use std::sync::Arc;

use failover::command::ForceNode;
use failover::{Call, Command, Notice, Reply};
use serde::{Deserialize, Serialize};
use sqlparser::ast::{SetExpr, Statement};

use super::backend::{Backend, CallDone, CallError, ReadView};
use super::context::StatementContext;
use super::deep::deep;
use super::engine::{Engine, Param};
use super::error::SqlError;
use super::facade::writes;
use super::function::{Function, Handler, Returns};
use super::plan::{self, ArgSource, CallList, Item, Plan, Planned, UpdateNode};
use super::types::{Column, Datum, PgType, RowSet};
use super::{functions, rows_as_sql, settings, shape, test_mode, values};

/// A finished statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub rows: Option<RowSet>,
    /// The command tag.
    pub tag: String,
    pub notices: Vec<Notice>,
    /// What the statement wrote inside a transaction.
    pub made: Vec<(Call, Reply)>,
}

impl Done {
    pub fn tag(tag: impl Into<String>) -> Done {
        Done { rows: None, tag: tag.into(), notices: Vec::new(), made: Vec::new() }
    }

    pub fn rows(rows: RowSet) -> Done {
        let tag = format!("SELECT {}", rows.rows.len());
        Done { rows: Some(rows), ..Done::tag(tag) }
    }
}

/// Why a statement was not finished.
#[derive(Clone, Debug, PartialEq)]
pub enum Fail {
    Sql(SqlError),
    /// Surely nothing was done: another monitor leads.
    NotLeader,
    /// Surely nothing was done: no leader.
    NoLeader,
    /// It may or may not have been done.
    Unknown,
}

impl From<SqlError> for Fail {
    fn from(e: SqlError) -> Fail {
        Fail::Sql(e)
    }
}

impl From<CallError> for Fail {
    fn from(e: CallError) -> Fail {
        match e {
            CallError::Rejected(rejection) => Fail::Sql(rejection.into()),
            CallError::NotLeader => Fail::NotLeader,
            CallError::NoLeader => Fail::NoLeader,
            CallError::Unknown => Fail::Unknown,
            CallError::Busy(message) => Fail::Sql(SqlError::new("55006", message)),
            CallError::Internal(message) => Fail::Sql(SqlError::new("XX000", message)),
        }
    }
}

/// Runs the engine where it may take its time.
pub async fn engine_query(
    engine: &Arc<Engine>,
    ctx: &StatementContext,
    view: ReadView,
    statement: Arc<Statement>,
    params: &[Param],
) -> Result<RowSet, SqlError> {
    let (engine, session, params) = (engine.clone(), ctx.view(&view), params.to_vec());
    tokio::task::spawn_blocking(move || deep(|| engine.query(&view, &session, &statement, &params)))
        .await
        .unwrap_or_else(|_| Err(SqlError::new("XX000", "the query could not be executed")))
}

/// The execution of one statement.
pub struct Run<'a> {
    pub backend: &'a Arc<dyn Backend>,
    pub engine: &'a Arc<Engine>,
    pub ctx: &'a StatementContext,
    params: &'a [Param],
    /// Calls of this statement that were decided on a tentative copy.
    made: Vec<(Call, Reply)>,
    notices: Vec<Notice>,
    /// The statement makes several calls: all or none of them.
    atomic: bool,
}

impl<'a> Run<'a> {
    pub fn new(
        backend: &'a Arc<dyn Backend>,
        engine: &'a Arc<Engine>,
        ctx: &'a StatementContext,
        params: &'a [Param],
    ) -> Run<'a> {
        Run { backend, engine, ctx, params, made: Vec::new(), notices: Vec::new(), atomic: false }
    }

    /// Executes the statement.
    ///
    /// # Errors
    /// See [`Fail`].
    pub async fn run(mut self, planned: &Planned) -> Result<Done, Fail> {
        let result = self.statement(&planned.plan).await;
        let own = self.atomic && !self.ctx.in_transaction;
        if own && result.is_err() {
            self.backend.rollback(self.ctx.transaction).await;
        }
        let (rows, tag) = result?;
        let mut made = std::mem::take(&mut self.made);
        if own {
            let (calls, replies) = made.drain(..).unzip();
            self.backend.commit(self.ctx.transaction, calls, replies).await?;
        }
        Ok(Done { rows, tag, notices: self.notices, made })
    }

    async fn statement(&mut self, plan: &Plan) -> Result<(Option<RowSet>, String), Fail> {
        let rows = match plan {
            Plan::Show(name) => return Ok((Some(self.show(name.as_deref()).await?), "SHOW".to_string())),
            Plan::AlterSetting { system, name, value } => {
                let command = self.alter(*system, name.as_deref(), value.as_deref())?;
                self.write(command).await?;
                return Ok((None, if *system { "ALTER SYSTEM" } else { "ALTER DATABASE" }.to_string()));
            }
            Plan::AvailableExtensions(shape) => shape::apply(shape, available_extensions(self.ctx), self.params)?,
            Plan::CallFrom { call, shape } => {
                // What can still go wrong after the call must undo it.
                self.atomic = writes(plan) && (!shape.filter.is_empty() || shape.limit.is_some());
                let args = self.arguments(call, &[]).await?;
                let rows = self.call(call.function, args).await?;
                shape::apply(shape, rows, self.params)?
            }
            Plan::CallInQuery { call, query, alias } => {
                self.atomic = true;
                let args = self.arguments(call, &[]).await?;
                let rows = self.call(call.function, args).await?;
                let statement = Arc::new(deep(|| rows_as_sql::replace(query, call.function, alias, &rows))?);
                self.query(statement).await?
            }
            Plan::CallList(list) => self.list(list).await?,
            Plan::Query(statement) => self.query(statement.clone()).await?,
            Plan::UpdateNode(update) => return self.update(update).await,
            _ => return Err(SqlError::new("XX000", "this statement belongs to its session").into()),
        };
        let tag = format!("SELECT {}", rows.rows.len());
        Ok((Some(rows), tag))
    }

    /// A view of the state as this statement has left it.
    pub async fn view(&self) -> Result<ReadView, Fail> {
        let mut pending = self.ctx.pending_calls();
        pending.extend(self.made.iter().map(|(call, _)| call.clone()));
        Ok(self.backend.view(self.ctx.consistency(), &pending).await?)
    }

    async fn query(&self, statement: Arc<Statement>) -> Result<RowSet, Fail> {
        let view = self.view().await?;
        Ok(engine_query(self.engine, self.ctx, view, statement, self.params).await?)
    }

    async fn write(&mut self, command: Command) -> Result<Reply, Fail> {
        let call = Call { command, session_settings: self.ctx.settings.for_call() };
        if !self.ctx.in_transaction && !self.atomic {
            let CallDone { reply, notices } = self.backend.call(call).await?;
            self.notices.extend(notices);
            return Ok(reply);
        }
        let mut pending = self.ctx.pending_calls();
        pending.extend(self.made.iter().map(|(call, _)| call.clone()));
        let done = self.backend.tentative(self.ctx.transaction, &pending, call.clone()).await?;
        self.notices.extend(done.notices);
        self.made.push((call, done.reply.clone()));
        Ok(done.reply)
    }

    /// The arguments of a call. `evaluated` holds the engine's values for those that are no
    /// simple ones, in order; when it is too short the engine is asked.
    async fn arguments(&self, call: &plan::Call, evaluated: &[(Datum, PgType)]) -> Result<Vec<Datum>, Fail> {
        let mut evaluated = evaluated.iter();
        let mut args = Vec::with_capacity(call.args.len());
        for (source, declared) in call.args.iter().zip(call.function.args) {
            args.push(match source {
                ArgSource::Engine(expr) => match evaluated.next() {
                    Some((datum, ty)) => values::cast(datum.clone(), *ty, declared.ty)?,
                    None => {
                        let rows = self.query(Arc::new(deep(|| rows_as_sql::select((**expr).clone()))?)).await?;
                        let ty = rows.columns.first().map_or(PgType::Unknown, |c| c.ty);
                        let datum = rows.rows.into_iter().next().and_then(|r| r.into_iter().next());
                        values::cast(datum.unwrap_or(Datum::Null), ty, declared.ty)?
                    }
                },
                simple => shape::value(simple, declared.ty, self.params)?,
            });
        }
        Ok(args)
    }

    async fn call(&mut self, function: &'static Function, args: Vec<Datum>) -> Result<Vec<Vec<Datum>>, Fail> {
        if function.strict && args.contains(&Datum::Null) {
            return Ok(functions::rows_of_null(function));
        }
        if test_mode::is_test_function(function) {
            if !self.ctx.around.test_mode {
                return Err(test_mode::refused(function).into());
            }
            let now = self.view().await?.now;
            self.write(test_mode::command(function, &args, now)?).await?;
            return Ok(functions::rows_of_reply(function, &Reply::Void)?);
        }
        match function.handler {
            Handler::Read(read) => Ok(read(&self.view().await?, &args)?),
            Handler::Write(write) => {
                let reply = self.write(write(&args)?).await?;
                // Some commands answer nothing where SQL says true.
                let reply = match (&function.returns, reply) {
                    (Returns::Scalar(PgType::Bool), Reply::Void) => Reply::Bool(true),
                    (Returns::Scalar(PgType::Void), Reply::Bool(_)) => Reply::Void,
                    (_, reply) => reply,
                };
                Ok(functions::rows_of_reply(function, &reply)?)
            }
        }
    }

    async fn show(&self, name: Option<&str>) -> Result<RowSet, Fail> {
        let text = |n: &str| Column { name: n.to_string(), ty: PgType::Text };
        match name {
            None => {
                let view = self.view().await?;
                let rows = self.ctx.settings.views(&view.state, &self.ctx.around).into_iter().map(|v| {
                    let shown = if v.shown.is_empty() { v.setting } else { v.shown };
                    vec![Datum::Text(v.name), Datum::Text(shown), Datum::Text(v.short_desc)]
                });
                Ok(RowSet { columns: vec![text("name"), text("setting"), text("description")], rows: rows.collect() })
            }
            Some(name) => {
                let state = self.view().await?.state;
                let value = self.ctx.settings.show(name, &state, &self.ctx.around)?;
                let columns = vec![text(&settings::SessionSettings::canonical(name))];
                Ok(RowSet { columns, rows: vec![vec![Datum::Text(value)]] })
            }
        }
    }

    fn alter(&self, system: bool, name: Option<&str>, value: Option<&str>) -> Result<Command, SqlError> {
        if self.ctx.in_transaction && system {
            return Err(SqlError::new("25001", "ALTER SYSTEM cannot run inside a transaction block"));
        }
        let name = match name {
            Some(name) => settings::check_replicated(name, value)?,
            None if system => return Ok(Command::ResetSystemSettings),
            None => return Err(SqlError::new("0A000", "ALTER DATABASE ... RESET ALL is not supported")),
        };
        let value = value.map(str::to_string);
        Ok(if system { Command::SetSystemSetting { name, value } } else { Command::SetDatabaseSetting { name, value } })
    }

    async fn list(&mut self, list: &CallList) -> Result<RowSet, Fail> {
        let base = match &list.base {
            Some(base) => self.query(base.clone()).await?,
            None => RowSet { columns: Vec::new(), rows: vec![Vec::new()] },
        };
        let calls = list.items.iter().filter(|i| matches!(i, Item::Call { .. })).count();
        self.atomic = calls * base.rows.len() > 1;
        let shown = base.columns.len().saturating_sub(list.engine_args);
        let columns = list_columns(list, &base.columns);
        let mut rows = Vec::with_capacity(base.rows.len());
        for row in base.rows {
            let mut shown_values = row.iter().take(shown).cloned();
            let mut evaluated: Vec<(Datum, PgType)> =
                row.iter().zip(&base.columns).skip(shown).map(|(d, c)| (d.clone(), c.ty)).collect();
            // Each made row; a set-returning call may make several of one.
            let mut out: Vec<Vec<Datum>> = vec![Vec::with_capacity(columns.len())];
            let base_items = list.items.iter().filter(|i| matches!(i, Item::Base)).count();
            for item in &list.items {
                match item {
                    Item::Base => {
                        // A wildcard is alone among the base items and takes all their columns.
                        let take = if base_items == 1 { shown } else { 1 };
                        let taken: Vec<Datum> = shown_values.by_ref().take(take).collect();
                        out.iter_mut().for_each(|o| o.extend(taken.iter().cloned()));
                    }
                    Item::Call { call, .. } => {
                        let wanted = call.args.iter().filter(|a| matches!(a, ArgSource::Engine(_))).count();
                        let mine: Vec<_> = evaluated.drain(..wanted.min(evaluated.len())).collect();
                        let args = self.arguments(call, &mine).await?;
                        let made = self.call(call.function, args).await?;
                        let values: Vec<Datum> = made.into_iter().map(|r| composite(call.function, r)).collect();
                        out = values
                            .into_iter()
                            .flat_map(|value| {
                                out.iter().map(move |row| {
                                    let mut row = row.clone();
                                    row.push(value.clone());
                                    row
                                }).collect::<Vec<_>>()
                            })
                            .collect();
                    }
                }
            }
            rows.append(&mut out);
        }
        Ok(RowSet { columns, rows })
    }

    async fn update(&mut self, update: &UpdateNode) -> Result<(Option<RowSet>, String), Fail> {
        let found = self.query(update.base.clone()).await?;
        let types: Vec<PgType> = found.columns.iter().map(|c| c.ty).collect();
        self.atomic = found.rows.len() > 1;
        let mut ids = Vec::new();
        for row in found.rows {
            let mut set = ForceNode::default();
            let mut values = row.into_iter().zip(types.iter().copied());
            let Some((Datum::Int(id), _)) = values.next() else { continue };
            for (column, (datum, ty)) in update.columns.iter().zip(values) {
                test_mode::force(&mut set, column, datum, ty)?;
            }
            self.write(Command::ForceNode { id, set }).await?;
            ids.push(id);
        }
        let tag = format!("UPDATE {}", ids.len());
        let Some(returning) = &update.returning else { return Ok((None, tag)) };
        let mut again = deep(|| returning.clone());
        if let SetExpr::Select(select) = &mut *again.body {
            select.selection = Some(rows_as_sql::any_of("nodeid", &ids)?);
        }
        let rows = self.query(Arc::new(Statement::Query(again))).await?;
        Ok((Some(rows), tag))
    }
}

fn composite(function: &Function, row: Vec<Datum>) -> Datum {
    match function.returns {
        Returns::Scalar(_) => row.into_iter().next().unwrap_or(Datum::Null),
        _ => Datum::Text(values::record_text(&row)),
    }
}

/// The columns of a list with calls, given those of its base query.
pub fn list_columns(list: &CallList, base: &[Column]) -> Vec<Column> {
    let shown = base.len().saturating_sub(list.engine_args);
    let base_items = list.items.iter().filter(|i| matches!(i, Item::Base)).count();
    let mut base = base.iter().take(shown).cloned();
    let mut columns = Vec::new();
    for item in &list.items {
        match item {
            Item::Base => columns.extend(base.by_ref().take(if base_items == 1 { shown } else { 1 })),
            Item::Call { call, name } => columns.push(plan::list_column(call, name)),
        }
    }
    columns
}

fn available_extensions(ctx: &StatementContext) -> Vec<Vec<Datum>> {
    let row = |name: &str, version: &str, comment: &str| {
        [name, version, version, comment].into_iter().map(|t| Datum::Text(t.to_string())).collect()
    };
    vec![row("pgautofailover", &ctx.extension_version(), "pg_auto_failover")]
}
