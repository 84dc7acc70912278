//! Functions of the catalog and the session.

use rusqlite::types::Value;
use rusqlite::{Connection, Result};

use super::{Shared, bool_value, int_arg, is_null, loose, strict, text_arg, text_value, type_arg, volatile, with};
use crate::sql::engine::catalog::{self, names, procs};
use crate::sql::engine::value::array;
use crate::sql::error::SqlError;

pub fn register(c: &Connection, shared: &Shared) -> Result<()> {
    let context = shared.clone();
    volatile(c, "pg_setting", 2, move |a| {
        if is_null(a, 0) {
            return Ok(Value::Null);
        }
        let name = text_arg(a, 0);
        let found = with(&context, |q| q.settings.get(&name.to_lowercase()).cloned());
        match found {
            Some(value) => Ok(Value::Text(value)),
            None if int_arg(a, 1) == 1 => Ok(Value::Null),
            None => Err(SqlError::new("42704", format!("unrecognized configuration parameter \"{name}\""))),
        }
    })?;
    let context = shared.clone();
    volatile(c, "pg_version", 0, move |_| {
        let version = with(&context, |q| q.server_version.clone());
        let plain = version.split_whitespace().next().unwrap_or("15").to_string();
        Ok(text_value(format!("PostgreSQL {plain} (pgquorum monitor {})", env!("CARGO_PKG_VERSION"))))
    })?;
    let context = shared.clone();
    volatile(c, "pg_current_schema", 0, move |_| {
        let found = with(&context, |q| q.search_path.iter().find(|s| names::schema_exists(s)).cloned());
        Ok(found.map(Value::Text).unwrap_or(Value::Null))
    })?;
    let context = shared.clone();
    volatile(c, "pg_current_schemas", 1, move |a| {
        let implicit = (int_arg(a, 0) == 1).then(|| "pg_catalog".to_string());
        let path = with(&context, |q| q.search_path.clone());
        let all: Vec<Option<String>> = implicit.into_iter().chain(path).filter(|s| names::schema_exists(s)).map(Some).collect();
        Ok(text_value(array::text(&all)))
    })?;
    let context = shared.clone();
    volatile(c, "pg_visible", 2, move |a| {
        if is_null(a, 1) {
            return Ok(Value::Null);
        }
        let oid = int_arg(a, 1);
        let schema = match text_arg(a, 0) {
            "class" => names::class_schema(oid),
            "type" => names::type_schema(oid),
            _ => with(&context, |q| procs::schema(q.functions, oid)),
        };
        let Some(schema) = schema else { return Ok(Value::Null) };
        Ok(bool_value(schema == "pg_catalog" || with(&context, |q| q.search_path.contains(&schema))))
    })?;
    let context = shared.clone();
    volatile(c, "pg_function_text", 2, move |a| {
        if is_null(a, 1) {
            return Ok(Value::Null);
        }
        let text = with(&context, |q| procs::text(q.functions, int_arg(a, 1), text_arg(a, 0)));
        Ok(text.map(Value::Text).unwrap_or(Value::Null))
    })?;
    loose(c, "pg_format_type", 2, |a| {
        if is_null(a, 0) {
            return Ok(Value::Null);
        }
        Ok(text_value(names::format_type(int_arg(a, 0), if is_null(a, 1) { -1 } else { int_arg(a, 1) })))
    })?;
    strict(c, "pg_role_name", 1, |a| Ok(text_value(names::role_name(int_arg(a, 0)))))?;
    strict(c, "pg_definition", 3, |a| {
        let found = catalog::definition(text_arg(a, 0), int_arg(a, 1), int_arg(a, 2));
        Ok(found.map(Value::Text).unwrap_or(Value::Null))
    })?;
    let context = shared.clone();
    volatile(c, "pg_description", 3, move |a| {
        let class = (!is_null(a, 1)).then(|| text_arg(a, 1));
        let found = match class {
            Some("pg_proc") => with(&context, |q| procs::comment(q.functions, int_arg(a, 0))),
            _ => catalog::description(int_arg(a, 0), class, int_arg(a, 2) == 1),
        };
        Ok(found.map(Value::Text).unwrap_or(Value::Null))
    })?;
    strict(c, "pg_to_reg", 2, |a| {
        Ok(names::parse_reg(type_arg(a, 0), text_arg(a, 1)).map(Value::Integer).unwrap_or(Value::Null))
    })?;
    strict(c, "pg_serial_sequence", 2, |a| {
        let table = text_arg(a, 0).trim_start_matches("pgautofailover.").replace('"', "");
        Ok(match (table.as_str(), text_arg(a, 1)) {
            ("node", "nodeid") => text_value("pgautofailover.node_nodeid_seq"),
            ("event", "eventid") => text_value("pgautofailover.event_eventid_seq"),
            _ => Value::Null,
        })
    })
}
