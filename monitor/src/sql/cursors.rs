//! Cursors of SQL. psql makes one for every query as soon as FETCH_COUNT is set.

use super::engine::Param;
use super::error::SqlError;
use super::execute::Done;
use super::plan::{Plan, Planned};
use super::session::{Portal, Prepared, Running, Session};
use super::types::{Column, RowSet};

fn no_cursor(name: &str) -> SqlError {
    SqlError::new("34000", format!("cursor \"{name}\" does not exist"))
}

impl Session {
    /// Runs the query at once and keeps its rows: a cursor shows the state at its declaration. It lives until
    /// the end of its transaction and is a portal like those of the extended protocol.
    ///
    /// # Errors
    /// 25P01 outside a transaction block, 42P03 for a name that is taken, and those of the query.
    pub(super) async fn declare(&mut self, name: &str, prepared: Prepared, params: Vec<Param>) -> Result<Done, SqlError> {
        self.in_block("DECLARE CURSOR")?;
        if self.portals.contains_key(name) {
            return Err(SqlError::new("42P03", format!("cursor \"{name}\" already exists")));
        }
        self.check_room(prepared.planned.text.len())?;
        let done = self.run_here(&prepared, params).await?;
        let (columns, rows) = done.rows.map_or((None, Vec::new()), |set| (Some(set.columns), set.rows));
        let running = Running { columns, rows: rows.into_iter(), tag: done.tag, notices: Vec::new() };
        let portal = Portal { prepared, params: Vec::new(), formats: Vec::new(), running: Some(running) };
        self.portals.insert(name.to_string(), portal);
        Ok(Done { notices: done.notices, ..Done::tag("DECLARE CURSOR") })
    }

    /// FETCH and MOVE.
    ///
    /// # Errors
    /// 34000.
    pub(super) fn fetch(&mut self, name: &str, count: usize, wanted: bool) -> Result<Done, SqlError> {
        let running = self.portals.get_mut(name).and_then(|portal| portal.running.as_mut()).ok_or_else(|| no_cursor(name))?;
        let rows: Vec<_> = running.rows.by_ref().take(count).collect();
        let tag = format!("{} {}", if wanted { "FETCH" } else { "MOVE" }, rows.len());
        let columns = running.columns.clone().filter(|_| wanted);
        Ok(Done { rows: columns.map(|columns| RowSet { columns, rows }), ..Done::tag(tag) })
    }

    /// CLOSE of one cursor, or of all.
    ///
    /// # Errors
    /// 34000.
    pub(super) fn close_cursor(&mut self, name: Option<&str>) -> Result<Done, SqlError> {
        match name {
            None => {
                self.portals.clear();
                Ok(Done::tag("CLOSE CURSOR ALL"))
            }
            Some(name) => match self.portals.remove(name) {
                Some(_) => Ok(Done::tag("CLOSE CURSOR")),
                None => Err(no_cursor(name)),
            },
        }
    }

    /// The columns of a FETCH, which only the session knows. `None` for what is no FETCH.
    pub fn fetched_columns(&self, planned: &Planned) -> Option<Result<Option<Vec<Column>>, SqlError>> {
        let Plan::Fetch { cursor, rows, .. } = &planned.plan else { return None };
        let running = self.portals.get(cursor).and_then(|portal| portal.running.as_ref());
        Some(running.map(|running| running.columns.clone().filter(|_| *rows)).ok_or_else(|| no_cursor(cursor)))
    }
}
