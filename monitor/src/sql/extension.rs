//! What installs, updates and drops extensions elsewhere. Here the extension is part of the monitor.

use super::error::SqlError;
use super::execute::Done;
use super::session::{notice, with_notice};
use super::settings::EXTENSION_VERSIONS;

fn is_installed(name: &str) -> bool {
    matches!(name, "pgautofailover" | "btree_gist" | "plpgsql")
}

pub fn create(if_not_exists: bool, name: &str) -> Result<Done, SqlError> {
    if !is_installed(name) {
        return Err(SqlError::new("0A000", format!("extension \"{name}\" is not available")));
    }
    if !if_not_exists {
        return Err(SqlError::new("42710", format!("extension \"{name}\" already exists")));
    }
    let message = format!("extension \"{name}\" already exists, skipping");
    Ok(with_notice("CREATE EXTENSION", notice("NOTICE", "42710", message)))
}

/// `present` is the release that the session is shown.
pub fn update(name: &str, to: Option<&str>, present: &str) -> Result<Done, SqlError> {
    if !is_installed(name) {
        return Err(SqlError::new("42704", format!("extension \"{name}\" does not exist")));
    }
    let (present, known) = match name {
        "pgautofailover" => (present, EXTENSION_VERSIONS),
        "btree_gist" => ("1.7", &[][..]),
        _ => ("1.0", &[][..]),
    };
    match to {
        Some(to) if to != present && known.contains(&to) => {
            Err(SqlError::new("0A000", format!("the release of \"{name}\" is not changed by SQL"))
                .detail(format!("This session is shown release {present}."))
                .hint(format!("Every session is shown the release that it asks for: connect with options='-c pgquorum.extension_version={to}'.")))
        }
        Some(to) if to != present => {
            let message = format!("extension \"{name}\" has no update path from version \"{present}\" to version \"{to}\"");
            Err(SqlError::new("22023", message))
        }
        _ => {
            let message = format!("version \"{present}\" of extension \"{name}\" is already installed");
            Ok(with_notice("ALTER EXTENSION", notice("NOTICE", "00000", message)))
        }
    }
}

pub fn drop_object(kind: &str, if_exists: bool, name: &str) -> Result<Done, SqlError> {
    if kind == "extension" && is_installed(name) {
        return Err(SqlError::new("0A000", format!("extension \"{name}\" is part of this monitor and cannot be dropped"))
            .hint("`pgquorum drop monitor` removes a monitor."));
    }
    if kind != "extension" && name.starts_with("pg") {
        return Err(SqlError::new("42501", format!("must be owner of {kind} {}", name.rsplit('.').next().unwrap_or(name))));
    }
    let sqlstate = if kind == "table" || kind == "view" { "42P01" } else { "42704" };
    if !if_exists {
        return Err(SqlError::new(sqlstate, format!("{kind} \"{name}\" does not exist")));
    }
    let message = format!("{kind} \"{name}\" does not exist, skipping");
    let tag = format!("DROP {}", kind.to_ascii_uppercase());
    Ok(with_notice(&tag, notice("NOTICE", "00000", message)))
}
