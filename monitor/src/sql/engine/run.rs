//! Running a translated statement.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use failover::WallTime;
use rusqlite::types::Value;
use sqlparser::ast::Statement;

use super::pool::{Reader, TIME_LIMIT, error};
use super::session_view::SessionView;
use super::translate::{Env, Plan, param_value, translate};
use super::ty::Ty;
use super::value::{output, zone};
use super::{Column, Param, RowSet};
use crate::sql::backend::ReadView;
use crate::sql::error::SqlError;
use crate::sql::function::Function;
use crate::sql::types::Datum;

/// Rows beyond this are refused: the result is held in memory.
const MAX_ROWS: usize = 200_000;

/// Bytes of result that one query may hold, roughly.
const MAX_BYTES: usize = 16 << 20;

/// Translations kept.
const PLANS: usize = 256;

/// What a plan was made for.
#[derive(PartialEq)]
struct Key {
    statement: Statement,
    types: Vec<Ty>,
    search_path: Vec<String>,
    newer: bool,
    /// Literals are read in it.
    zone: String,
}

/// Translations by statement.
#[derive(Default)]
pub struct Plans(Mutex<HashMap<u64, (Key, Arc<Plan>)>>);

impl Plans {
    /// The plan of a statement, translated unless it is known.
    pub fn get(
        &self,
        functions: &'static [Function],
        view: &ReadView,
        session: &SessionView,
        statement: &Statement,
        types: &[Ty],
    ) -> Result<Arc<Plan>, SqlError> {
        let search_path = search_path(session);
        let newer = is_newer(&session.extension_version);
        let zone = session.time_zone.clone();
        let mut hasher = DefaultHasher::new();
        (statement, types, &search_path, newer, &zone).hash(&mut hasher);
        let hash = hasher.finish();
        {
            let plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((key, plan)) = plans.get(&hash)
                && key.statement == *statement
                && key.types == types
                && key.search_path == search_path
                && key.newer == newer
                && key.zone == zone
            {
                return Ok(plan.clone());
            }
        }
        let WallTime(now) = view.now.wall;
        let env = Env { functions, search_path: &search_path, newer, now };
        let plan = Arc::new(zone::within(zone::named(&zone), || translate(env, statement, types))?);
        // Literals such as 'now' were read by the clock: such a plan serves once.
        if !plan.reads_clock {
            let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if plans.len() >= PLANS {
                plans.clear();
            }
            plans.insert(hash, (Key { statement: statement.clone(), types: types.to_vec(), search_path, newer, zone }, plan.clone()));
        }
        Ok(plan)
    }
}

/// Release 2.3 added columns to the tables.
fn is_newer(version: &str) -> bool {
    let mut parts = version.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (2, 3)
}

/// The schemas of `search_path`.
fn search_path(session: &SessionView) -> Vec<String> {
    let setting = session.settings.iter().find(|s| s.name == "search_path").map(|s| s.setting.as_str());
    let schema = |part: &str| {
        let part = part.trim();
        match part.strip_prefix('"').and_then(|p| p.strip_suffix('"')) {
            Some("$user") => session.user.clone(),
            Some(quoted) => quoted.to_string(),
            None => part.to_lowercase(),
        }
    };
    setting.unwrap_or("\"$user\", public").split(',').map(schema).filter(|s| !s.is_empty()).collect()
}

/// The row description of a plan.
pub fn columns(plan: &Plan) -> Vec<Column> {
    plan.query.columns.iter().map(|(name, ty)| Column { name: name.clone(), ty: ty.wire() }).collect()
}

/// Brings the tables up to date and runs the statement.
pub fn run(
    reader: &mut Reader,
    plan: &Plan,
    view: &ReadView,
    session: &SessionView,
    params: &[Param],
) -> Result<RowSet, SqlError> {
    *reader.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + TIME_LIMIT;
    let newer = is_newer(&session.extension_version);
    for relation in &plan.relations {
        reader.fill(*relation, view, session, newer)?;
    }
    {
        let mut context = reader.context.lock().unwrap_or_else(PoisonError::into_inner);
        context.view = Some(view.clone());
        context.search_path = search_path(session);
        context.server_version.clone_from(&session.server_version);
        context.settings.clear();
        if plan.uses_settings {
            let shown = |s: &super::SettingView| if s.shown.is_empty() { s.setting.clone() } else { s.shown.clone() };
            context.settings = session.settings.iter().map(|s| (s.name.to_lowercase(), shown(s))).collect();
        }
    }
    let result = zone::within(zone::named(&session.time_zone), || execute(reader, plan, view, session, params));
    // The view must not outlive its query: the state's owner wants to change it in place.
    reader.context.lock().unwrap_or_else(PoisonError::into_inner).view = None;
    result
}

fn execute(
    reader: &Reader,
    plan: &Plan,
    view: &ReadView,
    session: &SessionView,
    params: &[Param],
) -> Result<RowSet, SqlError> {
    let mut statement = reader.connection.prepare_cached(&plan.query.sql).map_err(|e| error(&e))?;
    for (i, param) in params.iter().enumerate() {
        if i < statement.parameter_count() && statement.parameter_name(i + 1).is_none_or(|n| n.starts_with('?')) {
            let ty = plan.params.get(i).copied().unwrap_or(Ty::Text);
            statement.raw_bind_parameter(i + 1, param_value(param, ty)?).map_err(|e| error(&e))?;
        }
    }
    for (name, value) in facts(view, session) {
        if let Some(index) = statement.parameter_index(name).map_err(|e| error(&e))? {
            statement.raw_bind_parameter(index, value).map_err(|e| error(&e))?;
        }
    }
    let types: Vec<Ty> = plan.query.columns.iter().map(|c| c.1).collect();
    let mut rows = statement.raw_query();
    let mut out = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(|e| error(&e))? {
        let mut values = Vec::with_capacity(types.len());
        for (i, ty) in types.iter().enumerate() {
            let datum = output::datum(*ty, row.get_ref(i).map_err(|e| error(&e))?)?;
            bytes += 32 + if let Datum::Text(text) = &datum { text.len() } else { 0 };
            values.push(datum);
        }
        out.push(values);
        if out.len() > MAX_ROWS || bytes > MAX_BYTES {
            return Err(SqlError::new("54000", "the result is too large for this monitor").hint("Use LIMIT."));
        }
    }
    Ok(RowSet { columns: columns(plan), rows: out })
}

/// What functions without arguments say of this query and session.
fn facts(view: &ReadView, session: &SessionView) -> [(&'static str, Value); 10] {
    let text = |t: &str| Value::Text(t.to_string());
    let maybe = |t: &Option<String>| t.clone().map(Value::Text).unwrap_or(Value::Null);
    let port = |known: bool, port: i32| if known { Value::Integer(i64::from(port)) } else { Value::Null };
    [
        (":now", Value::Integer(view.now.wall.0)),
        (":user", text(&session.user)),
        (":database", text(&session.database)),
        (":recovery", Value::Integer(i64::from(session.in_recovery))),
        (":pid", Value::Integer(i64::from(session.backend_pid))),
        (":server_started", Value::Integer(session.server_started_at.0)),
        (":server_addr", maybe(&session.server_addr)),
        (":server_port", port(session.server_addr.is_some(), session.server_port)),
        (":client_addr", maybe(&session.client_addr)),
        (":client_port", port(session.client_addr.is_some(), session.client_port)),
    ]
}
