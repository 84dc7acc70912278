//! Roles and database that the group's nodes and the monitors need.

use std::time::Duration;

use tracing::{info, warn};

use super::hba::{MONITOR_ROLE, REPLICATOR};
use super::sql::{LocalServer, Sql, SqlError, identifier, literal};
use crate::config::Config;
use crate::error::Result;

const PATIENCE: Duration = Duration::from_secs(30);

/// Creates what is missing, changes nothing that exists but the replication password.
pub async fn ensure(config: &Config) -> Result<()> {
    let sql = Sql::connect(&LocalServer::of(config), PATIENCE).await?;
    // The password equals the name: it is no secret, the role may do nothing but connect. Twelve
    // connections: three monitors may check at the same moment, and checks that hang add up.
    create_role(&sql, MONITOR_ROLE, &format!("login password {} connection limit 12", literal(MONITOR_ROLE))).await?;
    create_role(&sql, REPLICATOR, "replication login").await?;
    if let Some(password) = &config.replication_password {
        // Statements with passwords are kept out of the server's log for this session.
        sql.query("set log_statement = 'none'; set log_min_duration_statement = -1", PATIENCE).await?;
        sql.query(&format!("alter role {REPLICATOR} password {}", literal(password)), PATIENCE).await?;
    }
    let exists = format!("select 1 from pg_roles where rolname = {}", literal(&config.username));
    if sql.value(&exists, PATIENCE).await?.is_none() {
        sql.query(&format!("create role {} login superuser", identifier(&config.username)), PATIENCE).await?;
    }
    let exists = format!("select 1 from pg_database where datname = {}", literal(&config.dbname));
    if sql.value(&exists, PATIENCE).await?.is_none() {
        ignore_duplicate(sql.query(&format!("create database {}", identifier(&config.dbname)), PATIENCE).await)?;
        info!("created the database \"{}\"", config.dbname);
    }
    let server = LocalServer::of(config).with_database(&config.dbname);
    let sql = Sql::connect(&server, PATIENCE).await?;
    // What pg_rewind calls on its source; functions are granted per database.
    for function in [
        "pg_ls_dir(text, boolean, boolean)",
        "pg_stat_file(text, boolean)",
        "pg_read_binary_file(text)",
        "pg_read_binary_file(text, bigint, bigint, boolean)",
    ] {
        sql.query(&format!("grant execute on function pg_catalog.{function} to {REPLICATOR}"), PATIENCE).await?;
    }
    if config.auth_method == "trust" {
        warn!(
            "authentication is \"trust\": whoever reaches this server from a listed address may be anyone. Use \
             --auth scram-sha-256 and TLS outside of tests"
        );
    }
    Ok(())
}

async fn create_role(sql: &Sql, name: &str, options: &str) -> Result<()> {
    let exists = format!("select 1 from pg_roles where rolname = {}", literal(name));
    if sql.value(&exists, PATIENCE).await?.is_some() {
        return Ok(());
    }
    sql.query("set log_statement = 'none'; set log_min_duration_statement = -1", PATIENCE).await?;
    ignore_duplicate(sql.query(&format!("create role {} {options}", identifier(name)), PATIENCE).await)?;
    info!("created the role \"{name}\"");
    Ok(())
}

/// 42710, 42P04: somebody was faster.
fn ignore_duplicate<T>(result: std::result::Result<T, SqlError>) -> Result<()> {
    match result {
        Err(SqlError::Server { code, .. }) if code == "42710" || code == "42P04" => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}
