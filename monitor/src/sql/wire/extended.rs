//! The extended protocol: Parse, Bind, Describe, Execute, Close.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::backend::format_of;
use super::connection::{Connection, FLUSH_AT, Gone};
use super::frontend::{Bind, Frontend, Target, violation};
use crate::sql::deep::aside;
use crate::sql::engine::{Param, zone};
use crate::sql::error::SqlError;
use crate::sql::plan::{self, Plan};
use crate::sql::session::{Portal, Prepared, Running};
use crate::sql::types::{Column, Datum, PgType};
use crate::sql::values;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// One message of the extended protocol. An SQL error makes the caller skip up to Sync.
    pub(super) async fn extended(&mut self, message: Frontend) -> Result<Result<(), SqlError>, Gone> {
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
        if !name.is_empty() {
            self.session.check_room(text.len())?;
        }
        let facade = &self.session.facade;
        let plan = aside(text.len(), || facade.plans.plan(text, types, facade.config.test_mode));
        let planned = plan.map_err(|error| plan::locate(error, text, None))?;
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
        if !portal.is_empty() {
            self.session.check_room(bind.values.iter().flatten().map(Bytes::len).sum())?;
        }
        let read = bind
            .values
            .iter()
            .zip(&prepared.oids)
            .enumerate()
            .map(|(i, (value, oid))| param(value.as_deref(), *oid, format_of(&bind.formats, i) == 1));
        let params = zone::within(self.session.ctx.time_zone(), || read.collect::<Result<Vec<_>, _>>())?;
        let portal = portal.to_string();
        self.session.portals.insert(portal, Portal { prepared, params, formats: bind.result_formats, running: None });
        self.out.bind_complete();
        Ok(())
    }

    async fn describe_statement(&mut self, name: &[u8]) -> Result<(), SqlError> {
        let prepared = self.prepared(values::utf8(name)?)?;
        let types: Vec<PgType> = prepared.oids.iter().map(|o| values::type_of_oid(*o).unwrap_or(PgType::Text)).collect();
        let columns = match self.session.fetched_columns(&prepared.planned) {
            Some(columns) => columns?,
            None => self.session.facade.describe(&self.session.ctx, &prepared.planned, &types).await?,
        };
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
            None => match self.session.fetched_columns(&portal.prepared.planned) {
                Some(columns) => columns?,
                None => {
                    let types: Vec<PgType> = portal.params.iter().map(|p| p.ty).collect();
                    self.session.facade.describe(&self.session.ctx, &portal.prepared.planned, &types).await?
                }
            },
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
        match (&running.columns, &portal.prepared.planned.plan) {
            (None, _) => self.out.command_complete(&running.tag),
            (Some(columns), Plan::CopyOut { format, .. }) => {
                self.copy_out(columns, running.rows.by_ref(), format, &running.tag).await?;
            }
            (Some(columns), _) => {
                if let Err(e) = check_formats(columns, &portal.formats) {
                    return Ok(Err(e));
                }
                let limit = usize::try_from(max_rows).ok().filter(|n| *n > 0).unwrap_or(usize::MAX);
                let mut sent = 0;
                self.out.zone = Some(self.session.ctx.time_zone());
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

fn no_portal(name: &str) -> SqlError {
    SqlError::new("34000", format!("portal \"{name}\" does not exist"))
}

fn param(value: Option<&[u8]>, oid: u32, binary: bool) -> Result<Param, SqlError> {
    let ty = values::type_of_oid(oid).unwrap_or(PgType::Text);
    let value = match value {
        None => Datum::Null,
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
    Ok(())
}
