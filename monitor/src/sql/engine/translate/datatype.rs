//! Type names in casts.

use sqlparser::ast::DataType;

use crate::sql::engine::ty::Ty;
use crate::sql::error::SqlError;

/// The name as the catalog spells it: lower case, unquoted, without length or precision.
fn spelled(data_type: &DataType) -> String {
    let text = data_type.to_string();
    let mut out = String::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth > 0 => {}
            c => out.push(c),
        }
    }
    // `"char"` is another type than char.
    if out.contains("\"char\"") {
        return out.to_lowercase();
    }
    out.replace('"', "").to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The type that a cast names.
pub fn resolve(data_type: &DataType) -> Result<Ty, SqlError> {
    let name = spelled(data_type);
    let missing = || SqlError::new("42704", format!("type \"{name}\" does not exist"));
    match name.strip_prefix("pgautofailover.") {
        Some("replication_state") => Ok(Ty::State),
        Some("replication_state[]") => Ok(Ty::Array(&Ty::State)),
        Some(_) => Err(missing()),
        None if name == "replication_state" => Err(missing()),
        None if name.ends_with("timestamp") => Ok(Ty::Timestamp),
        None if name == "bytes" || name == "bytea" => Ok(Ty::Bytea),
        None => Ty::from_name(name.strip_prefix("pg_catalog.").unwrap_or(&name)).ok_or_else(missing),
    }
}

/// The name of the column that an unnamed cast makes.
pub fn type_name(data_type: &DataType) -> Option<String> {
    Some(resolve(data_type).ok()?.code().trim_start_matches('_').to_string())
}
