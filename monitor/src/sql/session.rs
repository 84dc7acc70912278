//! The state of a session: transaction, settings, channels, prepared statements, portals.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use failover::{Call, NodeId, Notice, Reply};
use futures::FutureExt;
use tokio::sync::Notify;

use super::context::StatementContext;
use super::engine::Param;
use super::error::SqlError;
use super::execute::Done;
use super::extension;
use super::facade::{Facade, writes};
use super::plan::{Plan, Planned, TransactionPlan};
use super::settings::SessionSettings;
use super::shape;
use super::types::{Column, Datum, PgType, RowSet};
use super::wire::backend::Status;

/// Prepared statements and portals that one session may hold.
const MOST_STATEMENTS: usize = 1000;
/// Bytes of statements and parameters that one session may hold.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Values of rows that the portals and cursors of one session may hold when it asks for one more.
const MOST_VALUES: usize = 500_000;

/// A prepared statement.
#[derive(Clone)]
pub struct Prepared {
    pub planned: Arc<Planned>,
    pub oids: Vec<u32>,
}

/// A portal: a statement with its parameters, and what is left of its rows once it has run.
pub struct Portal {
    pub prepared: Prepared,
    pub params: Vec<Param>,
    pub formats: Vec<i16>,
    pub running: Option<Running>,
}

/// A portal that has run.
pub struct Running {
    pub columns: Option<Vec<Column>>,
    pub rows: std::vec::IntoIter<Vec<Datum>>,
    pub tag: String,
    pub notices: Vec<Notice>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    /// A query string of several statements.
    Implicit,
    Explicit,
    Failed,
}

/// What ROLLBACK goes back to.
#[derive(Clone)]
struct Saved {
    settings: SessionSettings,
    channels: BTreeSet<String>,
}

struct Savepoint {
    name: String,
    made: usize,
    saved: Saved,
}

pub struct Session {
    pub facade: Arc<Facade>,
    pub ctx: Arc<StatementContext>,
    pub cancel: Arc<Notify>,
    pub prepared: HashMap<String, Prepared>,
    pub portals: HashMap<String, Portal>,
    pub channels: BTreeSet<String>,
    /// A LISTEN has been run and not been answered yet.
    pub listened: bool,
    /// ParameterStatus may have to be sent.
    pub settings_changed: bool,
    block: Block,
    saved: Option<Saved>,
    savepoints: Vec<Savepoint>,
    /// The node that a keeper of ours has reported for over this session.
    reporter: Option<NodeId>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(node) = self.reporter {
            self.facade.backend.session_lost(node);
        }
    }
}

/// The node that a report of our keepers was about.
fn reported_node(planned: &Planned, done: &Done) -> Option<NodeId> {
    let Plan::CallFrom { call, .. } = &planned.plan else { return None };
    let report = (call.function.schema, call.function.name) == ("pgquorum", "node_active");
    match done.rows.as_ref().filter(|_| report)?.rows.first()?.first()? {
        Datum::Int(id) => Some(*id),
        _ => None,
    }
}

pub(super) fn notice(severity: &str, sqlstate: &str, message: impl Into<String>) -> Notice {
    Notice { severity: severity.to_string(), sqlstate: sqlstate.to_string(), message: message.into(), detail: None, hint: None }
}

pub(super) fn with_notice(tag: &str, notice: Notice) -> Done {
    Done { notices: vec![notice], ..Done::tag(tag) }
}

impl Session {
    pub fn new(facade: Arc<Facade>, ctx: StatementContext, cancel: Arc<Notify>) -> Session {
        Session {
            facade,
            ctx: Arc::new(ctx),
            cancel,
            prepared: HashMap::new(),
            portals: HashMap::new(),
            channels: BTreeSet::new(),
            listened: false,
            settings_changed: false,
            block: Block::None,
            saved: None,
            savepoints: Vec::new(),
            reporter: None,
        }
    }

    pub fn status(&self) -> Status {
        match self.block {
            Block::None | Block::Implicit => Status::Idle,
            Block::Explicit => Status::InTransaction,
            Block::Failed => Status::Failed,
        }
    }

    fn ctx_mut(&mut self) -> &mut StatementContext {
        Arc::make_mut(&mut self.ctx)
    }

    /// The role of this monitor changed.
    pub fn set_in_recovery(&mut self, in_recovery: bool) {
        if self.ctx.around.in_recovery != in_recovery {
            self.ctx_mut().around.in_recovery = in_recovery;
            self.settings_changed = true;
        }
    }

    /// A query string of several statements begins: they are one transaction.
    pub fn begin_implicit(&mut self) {
        if self.block == Block::None {
            self.open(Block::Implicit);
        }
    }

    /// The query string is through.
    ///
    /// # Errors
    /// 40001 when what it wrote could not be committed.
    pub async fn end_implicit(&mut self) -> Result<(), SqlError> {
        if self.block == Block::Implicit { self.commit().await } else { Ok(()) }
    }

    fn open(&mut self, block: Block) {
        self.saved = Some(Saved { settings: self.ctx.settings.clone(), channels: self.channels.clone() });
        self.block = block;
        // A number of its own: a rollback of the last one may still be on its way to the leader.
        let number = self.facade.next_session.fetch_add(1, Ordering::Relaxed);
        let ctx = self.ctx_mut();
        ctx.transaction.session = number;
        ctx.in_transaction = true;
    }

    /// Ends the block; gives what it wrote.
    fn close(&mut self, keep: bool) -> Vec<(Call, Reply)> {
        let saved = self.saved.take();
        if let Some(saved) = saved
            && !keep
        {
            if self.ctx.settings != saved.settings {
                self.settings_changed = true;
            }
            self.ctx_mut().settings = saved.settings;
            self.channels = saved.channels;
        }
        self.savepoints.clear();
        self.block = Block::None;
        self.portals.clear();
        let had_local = !self.ctx.settings.local.is_empty();
        self.settings_changed |= had_local;
        let ctx = self.ctx_mut();
        ctx.settings.local.clear();
        ctx.in_transaction = false;
        std::mem::take(&mut ctx.pending)
    }

    async fn commit(&mut self) -> Result<(), SqlError> {
        let transaction = self.ctx.transaction;
        let made = std::mem::take(&mut self.ctx_mut().pending);
        let result = if made.is_empty() { Ok(()) } else { self.facade.commit(transaction, made).await };
        self.close(result.is_ok());
        result
    }

    fn roll_back(&mut self) {
        let made = self.close(false);
        if !made.is_empty() {
            self.facade.rollback(self.ctx.transaction);
        }
    }

    /// Whether the session may keep `more` bytes besides what it keeps already.
    ///
    /// # Errors
    /// 53400.
    pub fn check_room(&self, more: usize) -> Result<(), SqlError> {
        let datum = |p: &Param| if let Datum::Text(text) = &p.value { text.len() } else { 16 };
        let statements: usize = self.prepared.values().map(|p| p.planned.text.len()).sum();
        let portals: usize = self.portals.values().flat_map(|p| &p.params).map(datum).sum();
        let many = self.prepared.len() >= MOST_STATEMENTS || self.portals.len() >= MOST_STATEMENTS;
        if many || statements + portals + more > MOST_BYTES {
            return Err(SqlError::new("53400", "too many prepared statements or portals")
                .hint("Close those that are not needed any more."));
        }
        let running = self.portals.values().filter_map(|portal| portal.running.as_ref());
        let values: usize = running.map(|r| r.rows.len() * r.columns.as_ref().map_or(0, Vec::len)).sum();
        if values > MOST_VALUES {
            return Err(SqlError::new("53400", "too many rows in open cursors")
                .hint("Fetch them or close cursors that are not needed any more."));
        }
        Ok(())
    }

    /// An error was reported: the transaction, if there is one, is no good any more.
    pub fn failed(&mut self) {
        match self.block {
            Block::None | Block::Failed => {}
            Block::Implicit => self.roll_back(),
            Block::Explicit => {
                self.block = Block::Failed;
                // Nothing that it wrote can be committed now, so others need not wait for it.
                if self.savepoints.is_empty() && !self.ctx.pending.is_empty() {
                    self.ctx_mut().pending.clear();
                    self.facade.rollback(self.ctx.transaction);
                }
            }
        }
    }

    /// The client is gone.
    pub fn disconnected(&mut self) {
        if self.block != Block::None {
            self.roll_back();
        }
    }

    /// Refuses what a failed transaction cannot do.
    ///
    /// # Errors
    /// 25P02.
    pub fn check_not_failed(&self, plan: &Plan) -> Result<(), SqlError> {
        let ends = matches!(
            plan,
            Plan::Empty
                | Plan::Transaction(
                    TransactionPlan::Commit { .. } | TransactionPlan::Rollback { .. } | TransactionPlan::RollbackTo(_)
                )
        );
        if self.block == Block::Failed && !ends {
            let message = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(SqlError::new("25P02", message));
        }
        Ok(())
    }

    /// Executes one statement; the caller reports errors and then calls [`Session::failed`].
    ///
    /// # Errors
    /// What the client gets as ErrorResponse.
    pub async fn run(&mut self, prepared: &Prepared, params: Vec<Param>) -> Result<Done, SqlError> {
        self.check_not_failed(&prepared.planned.plan)?;
        let inner = |query: &Arc<Planned>| Prepared { planned: query.clone(), oids: prepared.oids.clone() };
        match &prepared.planned.plan {
            Plan::Declare { name, query } => self.declare(name, inner(query), params).await,
            Plan::Fetch { cursor, count, rows } => self.fetch(cursor, *count, *rows),
            Plan::CloseCursor(name) => self.close_cursor(name.as_deref()),
            Plan::CopyOut { query, .. } => {
                let done = self.run_here(&inner(query), params).await?;
                let rows = done.rows.as_ref().map_or(0, |set| set.rows.len());
                Ok(Done { tag: format!("COPY {rows}"), ..done })
            }
            _ => self.run_here(prepared, params).await,
        }
    }

    /// Executes a statement that is no other one's wrapping.
    pub(super) async fn run_here(&mut self, prepared: &Prepared, params: Vec<Param>) -> Result<Done, SqlError> {
        let planned = &prepared.planned;
        if let Some(done) = self.local(&planned.plan, &params).await? {
            return Ok(done);
        }
        if writes(&planned.plan) && self.read_only() {
            return Err(SqlError::new("25006", "cannot execute a writing function in a read-only transaction"));
        }
        // A cancel request that came too late for the last statement is not meant for this one.
        let _ = self.cancel.notified().now_or_never();
        let limit = self.ctx.settings.timeout("statement_timeout");
        let too_long = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let work = self.facade.execute(self.ctx.clone(), planned.clone(), prepared.oids.clone(), params);
        let done = tokio::select! {
            biased;
            done = work => done?,
            () = self.cancel.notified() => {
                return Err(SqlError::new("57014", "canceling statement due to user request"));
            }
            () = too_long => return Err(SqlError::new("57014", "canceling statement due to statement timeout")),
        };
        self.reporter = reported_node(planned, &done).or(self.reporter);
        if !done.made.is_empty() {
            self.ctx_mut().pending.extend(done.made.iter().cloned());
        }
        Ok(done)
    }

    fn read_only(&self) -> bool {
        let on = |name: &str| self.ctx.settings.explicitly_on(name);
        on("transaction_read_only").unwrap_or_else(|| on("default_transaction_read_only").unwrap_or(false))
    }

    /// Statements that concern the session alone.
    async fn local(&mut self, plan: &Plan, params: &[Param]) -> Result<Option<Done>, SqlError> {
        Ok(Some(match plan {
            Plan::Empty => Done::tag(""),
            Plan::Transaction(plan) => self.transaction(plan).await?,
            Plan::Set { name, value, local } => {
                let warning = self.set(name, value.as_deref(), *local)?;
                Done { notices: warning.into_iter().collect(), ..Done::tag("SET") }
            }
            Plan::SetModes { modes, session } => {
                if let Some(read_only) = modes.read_only {
                    let value = Some(if read_only { "on" } else { "off" });
                    let name = if *session { "default_transaction_read_only" } else { "transaction_read_only" };
                    self.set(name, value, !session)?;
                }
                if modes.isolation.is_some() {
                    let name = if *session { "default_transaction_isolation" } else { "transaction_isolation" };
                    self.set(name, modes.isolation, !session)?;
                }
                Done::tag("SET")
            }
            Plan::Reset(Some(name)) => {
                self.set(name, None, false)?;
                Done::tag("RESET")
            }
            Plan::Reset(None) => {
                self.ctx_mut().settings.reset_all();
                self.settings_changed = true;
                Done::tag("RESET")
            }
            Plan::Show(Some(name)) if !SessionSettings::needs_state(name) => {
                // The replicated state is not asked for, so an empty one will do.
                let value = self.ctx.settings.show(name, &failover::State::default(), &self.ctx.around)?;
                let columns = vec![Column { name: SessionSettings::canonical(name), ty: PgType::Text }];
                Done { rows: Some(RowSet { columns, rows: vec![vec![Datum::Text(value)]] }), ..Done::tag("SHOW") }
            }
            Plan::SetConfig { args, column } => self.set_config(args, column, params)?,
            Plan::Listen(channel) => {
                self.channels.insert(channel.clone());
                self.listened = true;
                Done::tag("LISTEN")
            }
            Plan::Unlisten(channel) => {
                match channel {
                    Some(channel) => drop(self.channels.remove(channel)),
                    None => self.channels.clear(),
                }
                Done::tag("UNLISTEN")
            }
            Plan::Discard { all, tag } => {
                if *all {
                    if self.block != Block::None {
                        return Err(SqlError::new("25001", "DISCARD ALL cannot run inside a transaction block"));
                    }
                    self.ctx_mut().settings.reset_all();
                    self.settings_changed = true;
                    self.channels.clear();
                    self.prepared.clear();
                    self.portals.clear();
                }
                Done::tag(tag.clone())
            }
            Plan::Deallocate(None) => {
                self.prepared.clear();
                Done::tag("DEALLOCATE ALL")
            }
            Plan::Deallocate(Some(name)) => {
                if self.prepared.remove(name).is_none() {
                    return Err(SqlError::new("26000", format!("prepared statement \"{name}\" does not exist")));
                }
                Done::tag("DEALLOCATE")
            }
            Plan::CreateExtension { if_not_exists, name } => extension::create(*if_not_exists, name)?,
            Plan::UpdateExtension { name, to } => extension::update(name, to.as_deref(), &self.ctx.extension_version())?,
            Plan::Drop { kind, if_exists, name } => extension::drop_object(kind, *if_exists, name)?,
            _ => return Ok(None),
        }))
    }

    fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<Option<Notice>, SqlError> {
        let around = self.ctx.around.clone();
        if local && self.block == Block::None {
            // Checked all the same, as PostgreSQL does, and forgotten at once.
            self.ctx.settings.clone().set(name, value, true, &around)?;
            return Ok(Some(notice("WARNING", "25P01", "SET LOCAL can only be used in transaction blocks")));
        }
        self.ctx_mut().settings.set(name, value, local, &around)?;
        self.settings_changed = true;
        Ok(None)
    }

    fn set_config(&mut self, args: &[super::plan::ArgSource; 3], column: &str, params: &[Param]) -> Result<Done, SqlError> {
        let [name, value, local] = args;
        let text = |source, ty| shape::value(source, ty, params);
        let Datum::Text(name) = text(name, PgType::Text)? else {
            return Err(SqlError::new("22004", "SET requires parameter name"));
        };
        let value = match text(value, PgType::Text)? {
            Datum::Text(value) => Some(value),
            _ => None,
        };
        let local = text(local, PgType::Bool)? == Datum::Bool(true);
        self.set(&name, value.as_deref(), local)?;
        let shown = match SessionSettings::needs_state(&name) {
            true => value.unwrap_or_default(),
            false => self.ctx.settings.client_value(&name, &self.ctx.around).unwrap_or_default(),
        };
        let columns = vec![Column { name: column.to_string(), ty: PgType::Text }];
        Ok(Done::rows(RowSet { columns, rows: vec![vec![Datum::Text(shown)]] }))
    }

    async fn transaction(&mut self, plan: &TransactionPlan) -> Result<Done, SqlError> {
        match plan {
            TransactionPlan::Begin { start, modes } => {
                let tag = if *start { "START TRANSACTION" } else { "BEGIN" };
                let done = match self.block {
                    Block::None => {
                        self.open(Block::Explicit);
                        Done::tag(tag)
                    }
                    Block::Implicit => {
                        self.block = Block::Explicit;
                        Done::tag(tag)
                    }
                    _ => with_notice(tag, notice("WARNING", "25001", "there is already a transaction in progress")),
                };
                if let Some(read_only) = modes.read_only {
                    self.set("transaction_read_only", Some(if read_only { "on" } else { "off" }), true)?;
                }
                if modes.isolation.is_some() {
                    self.set("transaction_isolation", modes.isolation, true)?;
                }
                Ok(done)
            }
            TransactionPlan::Commit { chain } => match self.block {
                Block::None | Block::Implicit => {
                    if self.block == Block::Implicit {
                        self.commit().await?;
                        self.begin_implicit();
                    }
                    Ok(with_notice("COMMIT", notice("WARNING", "25P01", "there is no transaction in progress")))
                }
                Block::Failed => {
                    self.roll_back();
                    self.chain(*chain);
                    Ok(Done::tag("ROLLBACK"))
                }
                Block::Explicit => {
                    self.commit().await?;
                    self.chain(*chain);
                    Ok(Done::tag("COMMIT"))
                }
            },
            TransactionPlan::Rollback { chain } => match self.block {
                Block::None | Block::Implicit => {
                    if self.block == Block::Implicit {
                        self.roll_back();
                        self.begin_implicit();
                    }
                    Ok(with_notice("ROLLBACK", notice("WARNING", "25P01", "there is no transaction in progress")))
                }
                _ => {
                    self.roll_back();
                    self.chain(*chain);
                    Ok(Done::tag("ROLLBACK"))
                }
            },
            TransactionPlan::Savepoint(name) => {
                self.in_block("SAVEPOINT")?;
                let saved = Saved { settings: self.ctx.settings.clone(), channels: self.channels.clone() };
                self.savepoints.push(Savepoint { name: name.clone(), made: self.ctx.pending.len(), saved });
                Ok(Done::tag("SAVEPOINT"))
            }
            TransactionPlan::Release(name) => {
                self.in_block("RELEASE SAVEPOINT")?;
                let at = self.savepoint(name)?;
                self.savepoints.truncate(at);
                Ok(Done::tag("RELEASE"))
            }
            TransactionPlan::RollbackTo(name) => {
                self.in_block("ROLLBACK TO SAVEPOINT")?;
                let at = self.savepoint(name)?;
                self.savepoints.truncate(at + 1);
                let Some((made, saved)) = self.savepoints.get(at).map(|s| (s.made, s.saved.clone())) else {
                    return Err(SqlError::new("XX000", "savepoint lost"));
                };
                let ctx = self.ctx_mut();
                ctx.pending.truncate(made);
                ctx.settings = saved.settings;
                self.channels = saved.channels;
                self.settings_changed = true;
                self.block = Block::Explicit;
                Ok(Done::tag("ROLLBACK"))
            }
        }
    }

    fn chain(&mut self, chain: bool) {
        if chain {
            self.open(Block::Explicit);
        }
    }

    pub(super) fn in_block(&self, what: &str) -> Result<(), SqlError> {
        if matches!(self.block, Block::Explicit | Block::Failed) {
            Ok(())
        } else {
            Err(SqlError::new("25P01", format!("{what} can only be used in transaction blocks")))
        }
    }

    fn savepoint(&self, name: &str) -> Result<usize, SqlError> {
        self.savepoints
            .iter()
            .rposition(|s| s.name == name)
            .ok_or_else(|| SqlError::new("3B001", format!("savepoint \"{name}\" does not exist")))
    }
}
