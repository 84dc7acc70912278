//! PostgreSQL of this machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keeper::commands::{self, show};
use keeper::config::Config;
use keeper::postgres::control::{Installation, PidFile};
use keeper::postgres::facts::Facts;
use keeper::postgres::hba;
use keeper::postgres::sql::{LocalServer, Sql, literal};
use serde_json::json;
use tracing::info;

use crate::args::DataDir;
use crate::args::inspect::{LocalArgs, PgArgs, PgSetup, Primary, Slot, SlotArgs};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::verbs::{block_on, later, setup};

/// How long a running PostgreSQL may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

pub fn setup(verb: PgSetup) -> Result<(), CliError> {
    match verb {
        PgSetup::PgCtl(args) => {
            let pg_ctl = pg_ctl(&args)?;
            let major = block_on(async { Ok(Installation::of(&pg_ctl)?.major_version().await?) })?;
            match args.json.json {
                true => output::json(&json!({"pg_ctl": pg_ctl.display().to_string(), "pg_major": major.to_string()})),
                false => output::line(&format!("{} (PostgreSQL {major})", pg_ctl.display())),
            }
        }
        PgSetup::Discover(args) => discover(&args),
        PgSetup::Ready(args) => {
            let pgdata = locate::node_dir(&args.data)?;
            match block_on(ready(&pgdata))? {
                true => say_ready(&args),
                false => Err(not_ready(&pgdata)),
            }
        }
        PgSetup::Wait { pg, wait } => {
            let pgdata = locate::node_dir(&pg.data)?;
            let deadline = Instant::now() + Duration::from_secs(wait);
            while !block_on(ready(&pgdata))? {
                if Instant::now() >= deadline {
                    return Err(not_ready(&pgdata).while_doing(format!("not within {wait} s")));
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            info!("PostgreSQL answers on {}", pgdata.display());
            say_ready(&pg)
        }
        PgSetup::Logs(args) => {
            print_lines(&args, &locate::data_dir(&args.data)?.join("startup.log"), |text| Ok(text))
        }
        PgSetup::Tune(args) => {
            print_lines(&args, &locate::data_dir(&args.data)?.join("postgresql-auto-failover.conf"), |text| Ok(text))
        }
        PgSetup::Hba(args) => {
            print_lines(&args, &locate::data_dir(&args.data)?.join("pg_hba.conf"), |text| {
                hba::block(text).ok_or_else(|| {
                    CliError::new(Status::BadState, "pg_hba.conf has no lines of the keeper")
                        .hint("the node was created with --skip-pg-hba, or no keeper has run yet")
                })
            })
        }
    }
}

/// A file, or the part of it that counts.
fn print_lines(
    args: &PgArgs,
    file: &Path,
    part: impl for<'a> Fn(&'a str) -> Result<&'a str, CliError>,
) -> Result<(), CliError> {
    let text = show::contents(&file.display().to_string())?;
    let text = part(&text)?.trim_end();
    match args.json.json {
        true => output::json(&json!({"file": file, "lines": text.lines().collect::<Vec<_>>()})),
        false => output::line(text),
    }
}

fn say_ready(args: &PgArgs) -> Result<(), CliError> {
    match args.json.json {
        true => output::json(&json!({"ready": true})),
        false => Ok(()),
    }
}

fn config_of(pgdata: &Path) -> Result<Config, CliError> {
    Ok(Config::load(&commands::paths(pgdata)?.config)?)
}

/// `--pgctl`, the node's own, or the one that `create` would find.
fn pg_ctl(args: &PgArgs) -> Result<PathBuf, CliError> {
    if let Some(named) = &args.pgctl {
        return Ok(named.clone());
    }
    if let Ok(pgdata) = locate::data_dir(&args.data)
        && let Ok(config) = config_of(&pgdata)
    {
        return Ok(config.pg_ctl);
    }
    Ok(Installation::find_pg_ctl()?)
}

async fn ready(pgdata: &Path) -> Result<bool, CliError> {
    let config = config_of(pgdata)?;
    Ok(PidFile::live(pgdata)?.is_some() && Sql::connect(&LocalServer::of(&config), ANSWER).await.is_ok())
}

fn not_ready(pgdata: &Path) -> CliError {
    CliError::new(Status::Postgres, format!("PostgreSQL does not answer on {}", pgdata.display()))
        .hint("pgquorum inspect pgsetup logs")
}

fn discover(args: &PgArgs) -> Result<(), CliError> {
    let mut config = config_of(&locate::node_dir(&args.data)?)?;
    config.pg_ctl = args.pgctl.clone().unwrap_or(config.pg_ctl);
    let found = setup::look(&config)?;
    match args.json.json {
        true => output::json(&found),
        false => output::line(&setup::text(&found)),
    }
}

pub fn primary(verb: Primary) -> Result<(), CliError> {
    match verb {
        Primary::Slot(Slot::Create(args)) => slot(&args, true),
        Primary::Slot(Slot::Drop(args)) => slot(&args, false),
        Primary::Identify(args) => identify(&args),
        Primary::Defaults(_) => later::keeper_does("primary defaults", "pgquorum reload"),
        Primary::Adduser(_) => later::keeper_does("primary adduser", "pgquorum run sees to the roles"),
    }
}

async fn connect(data: &DataDir) -> Result<Sql, CliError> {
    let pgdata = locate::node_dir(data)?;
    let config = config_of(&pgdata)?;
    Sql::connect(&LocalServer::of(&config), ANSWER).await.map_err(|error| {
        CliError::new(Status::Postgres, error.to_string()).while_doing(format!("PostgreSQL on {}", pgdata.display()))
    })
}

fn postgres(error: keeper::postgres::sql::SqlError) -> CliError {
    CliError::new(Status::Postgres, error.to_string())
}

fn slot(args: &SlotArgs, create: bool) -> Result<(), CliError> {
    block_on(async {
        let sql = connect(&args.data).await?;
        let name = literal(&args.name);
        let statement = match create {
            true => format!("select pg_create_physical_replication_slot({name}, true)"),
            false => format!("select pg_drop_replication_slot({name})"),
        };
        sql.query(&statement, ANSWER).await.map_err(postgres)?;
        info!("{} the slot \"{}\"", if create { "made" } else { "dropped" }, args.name);
        Ok(())
    })
}

fn identify(args: &LocalArgs) -> Result<(), CliError> {
    block_on(async {
        let sql = connect(&args.data).await?;
        let facts = Facts::ask(&sql, ANSWER).await.map_err(postgres)?;
        let found = json!({
            "systemid": facts.system_identifier.to_string(),
            "timeline": facts.timeline,
            "xlogpos": facts.lsn.to_string(),
        });
        match args.json.json {
            true => output::json(&found),
            false => output::line(&format!(
                "system identifier {}, timeline {}, position {}",
                facts.system_identifier, facts.timeline, facts.lsn
            )),
        }
    })
}
