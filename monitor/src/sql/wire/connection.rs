//! One established session on its socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::backend::{Output, Status};
use super::frontend::{self, Frontend, violation};
use super::pending::Pending;
use super::server::told;
use crate::sql::backend::{Notification, Role};
use crate::sql::deep::aside;
use crate::sql::error::SqlError;
use crate::sql::execute::Done;
use crate::sql::plan::{self, Plan};
use crate::sql::session::{Prepared, Session};
use crate::sql::values;

/// Output beyond this is sent before more is made.
pub(super) const FLUSH_AT: usize = 64 * 1024;
/// A client that takes nothing for so long is given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// The connection is over.
pub(super) struct Gone;

pub struct Connection<S> {
    stream: S,
    pub(super) session: Session,
    input: BytesMut,
    pub(super) out: Output,
    stopped: watch::Receiver<bool>,
    pending: Pending,
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
            pending: Pending::default(),
            roles,
            skipping: false,
            reported,
        }
    }

    /// Serves the session to its end.
    pub async fn run(mut self) {
        // The role may have changed since the greeting was written.
        self.role_changed();
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
                Err((error, Some(kind))) => {
                    // The frame was whole: the session can go on.
                    self.error(&error);
                    if kind == b'Q' {
                        self.ready();
                    } else {
                        self.skipping = true;
                    }
                    continue;
                }
                Err((error, None)) => {
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
        self.input.reserve(4096);
        let idle = self.session.status() == Status::Idle && !self.session.channels.is_empty();
        tokio::select! {
            biased;
            () = told(&mut self.stopped) => {
                let error = SqlError::new("57P01", "terminating connection due to administrator command");
                self.out.error("FATAL", &error);
                let _ = self.flush().await;
                Err(Gone)
            }
            read = self.stream.read_buf(&mut self.input) => match read {
                Ok(0) | Err(_) => Err(Gone),
                Ok(_) => Ok(()),
            },
            notifications = self.pending.ready(), if idle => {
                self.notify(&notifications);
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

    fn notify(&mut self, notifications: &[Arc<Notification>]) {
        let pid = self.session.ctx.backend_pid;
        for notification in notifications {
            if self.session.channels.contains(&notification.channel) {
                self.out.notification(pid, &notification.channel, &notification.payload);
            }
        }
    }

    /// ReadyForQuery, with what must go before it.
    fn ready(&mut self) {
        self.report_settings();
        // Subscribed as soon as the session listens, so that nothing after LISTEN is missed.
        let backend = &self.session.facade.backend;
        self.pending.listen(!self.session.channels.is_empty(), || backend.subscribe());
        if std::mem::take(&mut self.session.listened) {
            self.pending.listened();
        }
        if self.session.status() == Status::Idle {
            self.session.portals.clear();
            let notifications = self.pending.take();
            self.notify(&notifications);
        }
        self.out.ready(self.session.status());
    }

    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
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
        match message {
            Frontend::Query(_) if self.skipping => {}
            Frontend::Query(text) => {
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
        let statements = match aside(text.len(), || self.plan_all(&text)) {
            Ok(statements) => statements,
            Err(error) => {
                self.error(&located(error, &text, None));
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
        for (i, prepared) in statements.iter().enumerate() {
            match self.session.run(prepared, Vec::new()).await {
                Ok(done) => self.show(done, &prepared.planned.plan).await?,
                Err(error) => {
                    self.error(&located(error, &text, Some(i)));
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
    async fn show(&mut self, done: Done, plan: &Plan) -> Result<(), Gone> {
        for notice in &done.notices {
            self.out.notice(notice);
        }
        if let (Plan::CopyOut { format, .. }, Some(rows)) = (plan, done.rows.as_ref()) {
            return self.copy_out(&rows.columns, rows.rows.iter().cloned(), format, &done.tag).await;
        }
        if let Some(rows) = &done.rows {
            self.out.row_description(&rows.columns, &[]);
            self.out.zone = Some(self.session.ctx.time_zone());
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
}

fn located(error: SqlError, text: &[u8], statement: Option<usize>) -> SqlError {
    match values::utf8(text) {
        Ok(text) => plan::locate(error, text, statement),
        Err(_) => error,
    }
}
