//! One established session on its socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use super::backend::{Output, Status, format_of};
use super::frontend::{self, Bind, Frontend, Target, violation};
use crate::sql::backend::{Notification, Role};
use crate::sql::engine::Param;
use crate::sql::error::SqlError;
use crate::sql::execute::Done;
use crate::sql::plan::{self, Plan};
use crate::sql::session::{MOST_STATEMENTS, Portal, Prepared, Running, Session};
use crate::sql::types::{Column, PgType};
use crate::sql::values;

/// Output beyond this is sent before more is made.
const FLUSH_AT: usize = 64 * 1024;
/// A client that takes nothing for so long is given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// The connection is over.
struct Gone;

pub struct Connection<S> {
    stream: S,
    session: Session,
    input: BytesMut,
    out: Output,
    stopped: watch::Receiver<bool>,
    notifications: Option<broadcast::Receiver<Arc<Notification>>>,
    roles: watch::Receiver<Role>,
    /// After an error in the extended protocol everything is skipped until Sync.
    skipping: bool,
    /// What ParameterStatus last said.
    reported: Vec<(&'static str, String)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// `out` holds the greeting.
    pub fn new(stream: S, session: Session, out: Output, stopped: watch::Receiver<bool>) -> Connection<S> {
        let reported = session.ctx.settings.reported(&session.ctx.around);
        let roles = session.facade.backend.watch_role();
        Connection {
            stream,
            session,
            input: BytesMut::with_capacity(4096),
            out,
            stopped,
            notifications: None,
            roles,
            skipping: false,
            reported,
        }
    }

    /// Serves the session to its end.
    pub async fn run(mut self) {
        self.ready();
        let _ = self.serve().await;
        self.session.disconnected();
    }

    async fn serve(&mut self) -> Result<(), Gone> {
        loop {
            match frontend::decode(&mut self.input, self.session.facade.config.frame_limit) {
                Ok(Some(Frontend::Terminate)) => return Ok(()),
                Ok(Some(message)) => {
                    self.message(message).await?;
                    continue;
                }
                Ok(None) => {}
                Err((error, true)) => {
                    // The frame was whole: the session can go on.
                    self.error(&error);
                    self.skipping = true;
                    continue;
                }
                Err((error, false)) => {
                    self.out.error("FATAL", &error);
                    return self.flush().await;
                }
            }
            self.flush().await?;
            self.wait().await?;
        }
    }

    /// Waits for bytes; meanwhile passes on notifications, role changes and the shutdown.
    async fn wait(&mut self) -> Result<(), Gone> {
        let idle = self.session.status() == Status::Idle && !self.session.channels.is_empty();
        tokio::select! {
            biased;
            _ = self.stopped.changed() => {
                let error = SqlError::new("57P01", "terminating connection due to administrator command");
                self.out.error("FATAL", &error);
                let _ = self.flush().await;
                Err(Gone)
            }
            read = self.stream.read_buf(&mut self.input) => match read {
                Ok(0) | Err(_) => Err(Gone),
                Ok(_) => Ok(()),
            },
            received = next(&mut self.notifications), if idle => {
                self.notified(received);
                Ok(())
            }
            changed = self.roles.changed() => {
                if changed.is_err() {
                    // The monitor behind the facade is gone: so are we.
                    return Err(Gone);
                }
                self.role_changed();
                Ok(())
            }
        }
    }

    fn role_changed(&mut self) {
        let leads = *self.roles.borrow_and_update() == Role::Leader;
        self.session.set_in_recovery(!leads);
        self.report_settings();
    }

    fn report_settings(&mut self) {
        if !std::mem::take(&mut self.session.settings_changed) {
            return;
        }
        let now = self.session.ctx.settings.reported(&self.session.ctx.around);
        for ((name, value), (_, before)) in now.iter().zip(&self.reported) {
            if value != before {
                self.out.parameter_status(name, value);
            }
        }
        self.reported = now;
    }

    fn notified(&mut self, received: Result<Arc<Notification>, broadcast::error::RecvError>) {
        match received {
            Ok(notification) if self.session.channels.contains(&notification.channel) => {
                let pid = self.session.ctx.backend_pid;
                self.out.notification(pid, &notification.channel, &notification.payload);
            }
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!("a listening session was too slow and missed {missed} notifications");
            }
            Err(broadcast::error::RecvError::Closed) => self.notifications = None,
        }
    }

    /// ReadyForQuery, with what must go before it.
    fn ready(&mut self) {
        self.report_settings();
        // Subscribed as soon as the session listens, so that nothing after LISTEN is missed.
        if self.session.channels.is_empty() {
            self.notifications = None;
        } else if self.notifications.is_none() {
            self.notifications = Some(self.session.facade.backend.subscribe());
        }
        if self.session.status() == Status::Idle {
            self.session.portals.clear();
            while let Some(receiver) = &mut self.notifications {
                match receiver.try_recv() {
                    Ok(n) => self.notified(Ok(n)),
                    Err(broadcast::error::TryRecvError::Lagged(n)) => {
                        self.notified(Err(broadcast::error::RecvError::Lagged(n)));
                    }
                    Err(_) => break,
                }
            }
        }
        self.out.ready(self.session.status());
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        if self.out.buffer.is_empty() {
            return Ok(());
        }
        match timeout(WRITE_DEADLINE, self.stream.write_all_buf(&mut self.out.buffer)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }

    fn error(&mut self, error: &SqlError) {
        self.out.error("ERROR", error);
        self.session.failed();
    }

    async fn message(&mut self, message: Frontend) -> Result<(), Gone> {
        // LISTEN takes effect before anything later can be notified.
        match message {
            Frontend::Query(text) => {
                self.skipping = false;
                self.query(text).await?;
                self.ready();
            }
            Frontend::Sync => {
                self.skipping = false;
                self.ready();
            }
            Frontend::Flush => self.flush().await?,
            Frontend::FunctionCall => {
                self.error(&SqlError::new("0A000", "fast-path function calls are not supported"));
                self.ready();
            }
            Frontend::Copy | Frontend::Terminate => {}
            Frontend::Password(_) => {
                self.out.error("FATAL", &violation("unexpected password message"));
                self.flush().await?;
                return Err(Gone);
            }
            _ if self.skipping => {}
            extended => {
                if let Err(error) = self.extended(extended).await? {
                    self.error(&error);
                    self.skipping = true;
                }
            }
        }
        if self.out.buffer.len() > FLUSH_AT { self.flush().await } else { Ok(()) }
    }

    // Simple protocol.

    async fn query(&mut self, text: Bytes) -> Result<(), Gone> {
        let statements = match self.plan_all(&text) {
            Ok(statements) => statements,
            Err(error) => {
                self.error(&error);
                return Ok(());
            }
        };
        if statements.is_empty() {
            self.out.empty_query();
            return Ok(());
        }
        if statements.len() > 1 {
            self.session.begin_implicit();
        }
        for prepared in &statements {
            match self.session.run(prepared, Vec::new()).await {
                Ok(done) => self.show(done).await?,
                Err(error) => {
                    self.error(&error);
                    return Ok(());
                }
            }
        }
        if let Err(error) = self.session.end_implicit().await {
            self.error(&error);
        }
        Ok(())
    }

    fn plan_all(&mut self, text: &[u8]) -> Result<Vec<Prepared>, SqlError> {
        let text = values::utf8(text)?;
        let facade = &self.session.facade;
        let prepared = |planned: Arc<plan::Planned>| {
            if planned.param_oids.is_empty() {
                Ok(Prepared { planned, oids: Vec::new() })
            } else {
                Err(SqlError::new("42P02", "there is no parameter $1"))
            }
        };
        if let Some(planned) = facade.plans.get(text, &[]) {
            self.session.check_not_failed(&planned.plan)?;
            return Ok(vec![prepared(planned)?]);
        }
        let pieces = plan::split(text)?;
        match pieces.as_slice() {
            [] => Ok(Vec::new()),
            [_] => Ok(vec![prepared(facade.plans.plan(text, &[], facade.config.test_mode)?)?]),
            many => {
                let plan = |piece| prepared(facade.plans.plan_piece(text, piece, facade.config.test_mode)?);
                many.iter().map(plan).collect()
            }
        }
    }

    /// A whole result in the simple protocol.
    async fn show(&mut self, done: Done) -> Result<(), Gone> {
        for notice in &done.notices {
            self.out.notice(notice);
        }
        if let Some(rows) = &done.rows {
            self.out.row_description(&rows.columns, &[]);
            for row in &rows.rows {
                self.out.data_row(&rows.columns, row, &[]);
                if self.out.buffer.len() > FLUSH_AT {
                    self.flush().await?;
                }
            }
        }
        self.out.command_complete(&done.tag);
        Ok(())
    }

    // Extended protocol.

    async fn extended(&mut self, message: Frontend) -> Result<Result<(), SqlError>, Gone> {
        Ok(match message {
            Frontend::Parse { name, text, types } => self.parse(&name, &text, &types).await,
            Frontend::Bind(bind) => self.bind(bind),
            Frontend::Describe(Target::Statement(name)) => self.describe_statement(&name).await,
            Frontend::Describe(Target::Portal(name)) => self.describe_portal(&name).await,
            Frontend::Execute { portal, max_rows } => return self.execute(&portal, max_rows).await,
            Frontend::Close(target) => self.close(&target),
            _ => Err(violation("unexpected message")),
        })
    }

    async fn parse(&mut self, name: &[u8], text: &[u8], types: &[u32]) -> Result<(), SqlError> {
        let (name, text) = (values::utf8(name)?, values::utf8(text)?);
        if !name.is_empty() && self.session.prepared.contains_key(name) {
            return Err(SqlError::new("42P05", format!("prepared statement \"{name}\" already exists")));
        }
        if self.session.prepared.len() >= MOST_STATEMENTS {
            return Err(SqlError::new("53400", "too many prepared statements"));
        }
        let facade = &self.session.facade;
        let planned = facade.plans.plan(text, types, facade.config.test_mode)?;
        self.session.check_not_failed(&planned.plan)?;
        let oids = facade.parameter_oids(&self.session.ctx, &planned).await?;
        self.session.prepared.insert(name.to_string(), Prepared { planned, oids });
        self.out.parse_complete();
        Ok(())
    }

    fn prepared(&self, name: &str) -> Result<Prepared, SqlError> {
        self.session.prepared.get(name).cloned().ok_or_else(|| {
            let message = if name.is_empty() {
                "unnamed prepared statement does not exist".to_string()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            SqlError::new("26000", message)
        })
    }

    fn bind(&mut self, bind: Bind) -> Result<(), SqlError> {
        let (portal, statement) = (values::utf8(&bind.portal)?, values::utf8(&bind.statement)?);
        let prepared = self.prepared(statement)?;
        let (given, wanted) = (bind.values.len(), prepared.oids.len());
        if bind.formats.len() > 1 && bind.formats.len() != given {
            let message = format!("bind message has {} parameter formats but {given} parameters", bind.formats.len());
            return Err(violation(message));
        }
        if given != wanted {
            let message = format!(
                "bind message supplies {given} parameters, but prepared statement \"{statement}\" requires {wanted}"
            );
            return Err(violation(message));
        }
        if let Some(bad) = bind.formats.iter().chain(&bind.result_formats).find(|f| !matches!(f, 0 | 1)) {
            return Err(SqlError::new("22023", format!("unsupported format code: {bad}")));
        }
        if !portal.is_empty() && self.session.portals.contains_key(portal) {
            return Err(SqlError::new("42P03", format!("cursor \"{portal}\" already exists")));
        }
        if self.session.portals.len() >= MOST_STATEMENTS {
            return Err(SqlError::new("53400", "too many portals"));
        }
        let params = bind
            .values
            .iter()
            .zip(&prepared.oids)
            .enumerate()
            .map(|(i, (value, oid))| param(value.as_deref(), *oid, format_of(&bind.formats, i) == 1))
            .collect::<Result<Vec<_>, _>>()?;
        let portal = portal.to_string();
        self.session.portals.insert(portal, Portal { prepared, params, formats: bind.result_formats, running: None });
        self.out.bind_complete();
        Ok(())
    }

    async fn describe_statement(&mut self, name: &[u8]) -> Result<(), SqlError> {
        let prepared = self.prepared(values::utf8(name)?)?;
        let types: Vec<PgType> = prepared.oids.iter().map(|o| values::type_of_oid(*o).unwrap_or(PgType::Text)).collect();
        let columns = self.session.facade.describe(&self.session.ctx, &prepared.planned, &types).await?;
        self.out.parameter_description(&prepared.oids);
        match columns {
            Some(columns) => self.out.row_description(&columns, &[]),
            None => self.out.no_data(),
        }
        Ok(())
    }

    async fn describe_portal(&mut self, name: &[u8]) -> Result<(), SqlError> {
        let name = values::utf8(name)?;
        let portal = self.session.portals.get(name).ok_or_else(|| no_portal(name))?;
        // A query of the read tier is run at once: describing it costs as much, and so the
        // description and the rows cannot differ.
        let (is_query, is_running) = (matches!(portal.prepared.planned.plan, Plan::Query(_)), portal.running.is_some());
        if is_query && !is_running {
            self.start(name).await?;
        }
        let portal = self.session.portals.get(name).ok_or_else(|| no_portal(name))?;
        let columns = match &portal.running {
            Some(running) => running.columns.clone(),
            None => {
                let types: Vec<PgType> = portal.params.iter().map(|p| p.ty).collect();
                self.session.facade.describe(&self.session.ctx, &portal.prepared.planned, &types).await?
            }
        };
        match columns {
            Some(columns) => {
                check_formats(&columns, &portal.formats)?;
                self.out.row_description(&columns, &portal.formats);
            }
            None => self.out.no_data(),
        }
        Ok(())
    }

    /// Runs the statement of a portal.
    async fn start(&mut self, name: &str) -> Result<(), SqlError> {
        let portal = self.session.portals.get(name).ok_or_else(|| no_portal(name))?;
        let (prepared, params) = (portal.prepared.clone(), portal.params.clone());
        let done = self.session.run(&prepared, params).await?;
        let (columns, rows) = match done.rows {
            Some(set) => (Some(set.columns), set.rows),
            None => (None, Vec::new()),
        };
        // COMMIT and its like close every portal, this one included.
        let running = Running { columns, rows: rows.into_iter(), tag: done.tag, notices: done.notices };
        if let Some(portal) = self.session.portals.get_mut(name) {
            portal.running = Some(running);
        } else {
            let portal = Portal { prepared, params: Vec::new(), formats: Vec::new(), running: Some(running) };
            self.session.portals.insert(name.to_string(), portal);
        }
        Ok(())
    }

    async fn execute(&mut self, name: &[u8], max_rows: i32) -> Result<Result<(), SqlError>, Gone> {
        let name = match values::utf8(name) {
            Ok(name) => name,
            Err(e) => return Ok(Err(e)),
        };
        let Some(portal) = self.session.portals.get(name) else { return Ok(Err(no_portal(name))) };
        if matches!(portal.prepared.planned.plan, Plan::Empty) {
            self.out.empty_query();
            return Ok(Ok(()));
        }
        if portal.running.is_none()
            && let Err(e) = self.start(name).await
        {
            return Ok(Err(e));
        }
        // Taken out for the time being: sending rows needs the rest of the connection.
        let Some(mut portal) = self.session.portals.remove(name) else { return Ok(Err(no_portal(name))) };
        let Some(running) = &mut portal.running else { return Ok(Err(no_portal(name))) };
        for notice in running.notices.drain(..) {
            self.out.notice(&notice);
        }
        match &running.columns {
            None => self.out.command_complete(&running.tag),
            Some(columns) => {
                if let Err(e) = check_formats(columns, &portal.formats) {
                    return Ok(Err(e));
                }
                let limit = usize::try_from(max_rows).ok().filter(|n| *n > 0).unwrap_or(usize::MAX);
                let mut sent = 0;
                while sent < limit
                    && let Some(row) = running.rows.next()
                {
                    self.out.data_row(columns, &row, &portal.formats);
                    sent += 1;
                    if self.out.buffer.len() > FLUSH_AT {
                        self.flush().await?;
                    }
                }
                if running.rows.len() > 0 {
                    self.out.portal_suspended();
                } else if running.tag.starts_with("SELECT ") {
                    // As PostgreSQL: the rows of this Execute, not those before it.
                    self.out.command_complete(&format!("SELECT {sent}"));
                } else {
                    self.out.command_complete(&running.tag);
                }
            }
        }
        self.session.portals.insert(name.to_string(), portal);
        Ok(Ok(()))
    }

    fn close(&mut self, target: &Target) -> Result<(), SqlError> {
        match target {
            Target::Statement(name) => drop(self.session.prepared.remove(values::utf8(name)?)),
            Target::Portal(name) => drop(self.session.portals.remove(values::utf8(name)?)),
        }
        self.out.close_complete();
        Ok(())
    }
}

async fn next(
    receiver: &mut Option<broadcast::Receiver<Arc<Notification>>>,
) -> Result<Arc<Notification>, broadcast::error::RecvError> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

fn no_portal(name: &str) -> SqlError {
    SqlError::new("34000", format!("portal \"{name}\" does not exist"))
}

fn param(value: Option<&[u8]>, oid: u32, binary: bool) -> Result<Param, SqlError> {
    let ty = values::type_of_oid(oid).unwrap_or(PgType::Text);
    let value = match value {
        None => crate::sql::types::Datum::Null,
        Some(bytes) if binary => values::parse_binary(oid, bytes)?,
        Some(bytes) => values::parse(ty, values::utf8(bytes)?)?,
    };
    Ok(Param { ty, value })
}

fn check_formats(columns: &[Column], formats: &[i16]) -> Result<(), SqlError> {
    if formats.len() > 1 && formats.len() != columns.len() {
        let message = format!("bind message has {} result formats but query has {} columns", formats.len(), columns.len());
        return Err(violation(message));
    }
    match columns.iter().enumerate().find(|(i, c)| format_of(formats, *i) == 1 && !values::has_binary_output(c.ty)) {
        Some((_, column)) => {
            Err(SqlError::new("0A000", format!("binary output of type {} is not supported", column.ty.name())))
        }
        None => Ok(()),
    }
}
