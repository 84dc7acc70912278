//! The keeper's commands without the rest of the binary: what the tests of this crate run.

use std::path::PathBuf;
use std::time::Duration;

use keeper::commands::{self, config, create, drop, service, show};
use keeper::{KeeperError, Result};

fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("KEEPER_LOG").unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = keeper::hide::passwords() {
        tracing::warn!("passwords in the arguments stay visible: {error}");
    }
    let result = match args.first().map(String::as_str) {
        Some(keeper::guardian::COMMAND) => keeper::guardian::main(std::env::args_os().skip(2)),
        Some(command) => commands::block_on(run(command, &args[1..])),
        None => Err(KeeperError::arguments("no command")),
    };
    if let Err(error) = result {
        tracing::error!("{error}");
        std::process::exit(error.exit as i32);
    }
}

async fn run(command: &str, args: &[String]) -> Result<()> {
    // The last word wins.
    let value = |name: &str| args.iter().rposition(|a| a == name).and_then(|at| args.get(at + 1)).cloned();
    let flag = |name: &str| args.iter().any(|a| a == name);
    let pgdata = PathBuf::from(value("--pgdata").unwrap_or_default());
    match command {
        "create" => {
            let mut it = create::CreatePostgres::new(&pgdata, &value("--monitor").unwrap_or_default());
            it.pgport = value("--pgport").and_then(|p| p.parse().ok()).unwrap_or(it.pgport);
            it.name = value("--name");
            it.hostname = value("--hostname");
            it.listen = value("--listen").unwrap_or(it.listen);
            it.auth = value("--auth").unwrap_or(it.auth);
            it.pghost = value("--pghost");
            it.replication_password = std::env::var("PG_AUTOCTL_REPLICATION_PASSWORD").ok();
            it.candidate_priority = value("--candidate-priority").and_then(|p| p.parse().ok()).unwrap_or(50);
            it.maximum_backup_rate = value("--maximum-backup-rate").unwrap_or(it.maximum_backup_rate);
            it.skip_pg_hba = flag("--skip-pg-hba");
            it.run = flag("--run");
            if flag("--ssl-self-signed") {
                it.ssl = create::SslChoice::SelfSigned;
            }
            create::create_postgres(it).await
        }
        "run" => {
            let pgport = value("--pgport").and_then(|p| p.parse().ok());
            service::run(&pgdata, service::RunOptions { hostname: value("--hostname"), pgport, name: value("--name") }).await
        }
        "stop" => {
            let how = match () {
                () if flag("--immediate") => service::StopHow::Immediate,
                () if flag("--leave-postgres") => service::StopHow::LeavePostgres,
                () => service::StopHow::Smart,
            };
            service::stop(&pgdata, how).await
        }
        "reload" => service::reload(&pgdata),
        "status" => {
            let status = service::status(&pgdata).await?;
            println!("{status:#}");
            match service::is_running(&status) {
                true => Ok(()),
                false => Err(KeeperError::state("no keeper runs")),
            }
        }
        "drop" => drop::drop_node(&pgdata, flag("--destroy"), flag("--force"), Duration::from_secs(60)).await,
        "config-get" => {
            println!("{:#}", config::get_all(&pgdata)?);
            Ok(())
        }
        "config-set" => {
            let value = config::set(&pgdata, &value("--key").unwrap_or_default(), &value("--value").unwrap_or_default())?;
            println!("{value}");
            Ok(())
        }
        "config-check" => config::check(&pgdata).await.map(|_| ()),
        "show-state" => {
            println!("{:#}", show::local_state(&pgdata).await?);
            Ok(())
        }
        other => Err(KeeperError::arguments(format!("unknown command {other}"))),
    }
}
