//! The PostgreSQL node of this machine: everything is done by the keeper's library.

use std::env;
use std::time::Duration;

use keeper::KeeperError;
use keeper::commands::create::SslChoice;
use keeper::commands::service::{RunOptions, StopHow};
use keeper::commands::{self, create, drop, service};
use keeper::config::MONITOR_DISABLED;
use serde_json::Value;
use tracing::info;

use crate::args::DataDir;
use crate::args::change::DropNode;
use crate::args::create::{CreatePostgres, SslArgs};
use crate::args::service::{RunArgs, StatusArgs, StopArgs};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::wait::outcome;

impl From<KeeperError> for CliError {
    fn from(error: KeeperError) -> CliError {
        use keeper::Exit;
        let status = match error.exit {
            Exit::BadArguments => Status::BadArguments,
            Exit::BadConfig => Status::BadConfiguration,
            Exit::BadState => Status::BadState,
            Exit::Postgres => Status::Postgres,
            Exit::PgCtl => Status::PgCtl,
            Exit::Monitor => Status::Monitor,
            Exit::Keeper => Status::Keeper,
            Exit::Reload => Status::Reload,
            Exit::Internal => Status::Internal,
            Exit::Dropped => Status::Dropped,
            Exit::Fatal => Status::Fatal,
        };
        CliError::new(status, error.message)
    }
}

/// Is it the data directory of a node, and not of a monitor?
pub fn is_node(args: &DataDir) -> bool {
    matches!(locate::created(args), Ok((_, locate::Kind::Node)))
}

pub fn create(args: CreatePostgres) -> Result<(), CliError> {
    let ssl = ssl_choice(&args.ssl)?;
    let request = create::CreatePostgres {
        pgdata: locate::data_dir(&args.data)?,
        pg_ctl: args.pgctl,
        pghost: args.pghost,
        pgport: args.pgport,
        listen: args.listen,
        username: args.username,
        dbname: args.dbname,
        name: args.name,
        hostname: args.hostname,
        formation: args.formation,
        // PG_AUTOCTL_MONITOR may be set where a node is made that is to have none.
        monitor: args.monitor.filter(|_| !args.disable_monitor).unwrap_or_else(|| MONITOR_DISABLED.to_string()),
        node_id: args.node_id,
        auth: args.auth,
        skip_pg_hba: args.skip_pg_hba,
        pg_hba_lan: args.pg_hba_lan,
        candidate_priority: args.candidate_priority,
        replication_quorum: args.replication_quorum,
        region: args.region,
        maximum_backup_rate: args.maximum_backup_rate,
        ssl,
        ssl_mode: args.ssl.ssl_mode,
        ssl_ca_file: args.ssl.ssl_ca_file,
        ssl_crl_file: args.ssl.ssl_crl_file,
        replication_password: args
            .replication_password
            .or_else(|| env::var("PG_AUTOCTL_REPLICATION_PASSWORD").ok())
            .filter(|password| !password.is_empty()),
        run: args.run,
    };
    Ok(commands::block_on(create::create_postgres(request))?)
}

/// Exactly one of the choices must be made.
pub fn ssl_choice(args: &SslArgs) -> Result<SslChoice, CliError> {
    let wrong = |text: &str| Err(CliError::new(Status::BadArguments, text));
    match (args.no_ssl, args.ssl_self_signed, &args.server_cert, &args.server_key) {
        (true, false, None, None) => Ok(SslChoice::None),
        (false, true, None, None) => Ok(SslChoice::SelfSigned),
        (false, false, Some(_), Some(_)) if args.ssl_ca_file.is_none() => {
            wrong("--server-cert needs --ssl-ca-file: the peers are verified with it")
        }
        (false, false, Some(certificate), Some(key)) => {
            Ok(SslChoice::Own { certificate: certificate.clone(), key: key.clone() })
        }
        (false, false, None, None) => wrong(
            "a choice about TLS is required: --no-ssl, --ssl-self-signed, or --server-cert with --server-key",
        ),
        _ => wrong("the options about TLS contradict each other"),
    }
}

pub fn run(args: &RunArgs) -> Result<(), CliError> {
    if args.rejoin {
        return Err(CliError::new(Status::BadArguments, "--rejoin is for monitors; a node rejoins by itself"));
    }
    let options =
        RunOptions { name: args.name.clone(), hostname: args.hostname.clone(), pgport: args.pgport };
    Ok(commands::block_on(service::run(&locate::node_dir(&args.data)?, options))?)
}

pub fn stop(args: &StopArgs) -> Result<(), CliError> {
    let how = match (args.fast, args.immediate, args.leave_postgres) {
        (_, _, true) => StopHow::LeavePostgres,
        (_, true, _) => StopHow::Immediate,
        (true, _, _) => StopHow::Fast,
        _ => StopHow::Smart,
    };
    let pgdata = locate::node_dir(&args.data)?;
    if service::running(&commands::paths(&pgdata)?).is_none() {
        // pg_autoctl's exit code for it.
        return Err(CliError::new(Status::Internal, format!("no keeper runs on {}", pgdata.display())));
    }
    Ok(commands::block_on(service::stop(&pgdata, how))?)
}

pub fn reload(args: &DataDir) -> Result<(), CliError> {
    service::reload(&locate::node_dir(args)?)?;
    info!("the keeper was told to read its configuration again: its log tells what it could change");
    Ok(())
}

pub fn status(args: &StatusArgs) -> Result<(), CliError> {
    let pgdata = locate::node_dir(&args.data)?;
    let status = commands::block_on(service::status(&pgdata))?;
    if args.json.json {
        output::json(&status)?;
    }
    match &status["postgres"]["pid"] {
        Value::Null => info!("PostgreSQL does not run on {}", pgdata.display()),
        pid => info!("PostgreSQL runs with pid {pid} on port {}", status["postgres"]["port"]),
    }
    match service::is_running(&status) {
        true => {
            info!("the keeper runs with pid {}", status["pg_autoctl"]["pid"]);
            Ok(())
        }
        false => Err(CliError::new(Status::BadState, format!("no keeper runs on {}", pgdata.display()))
            .hint(format!("pgquorum run --pgdata {}", pgdata.display()))),
    }
}

/// `drop node` for the node of a data directory, when no other is named.
pub fn drop_local(args: &DropNode) -> Result<(), CliError> {
    let pgdata = locate::node_dir(&args.monitor.data)?;
    let wait = Duration::from_secs(args.wait.seconds().unwrap_or(0));
    let (formation, group) = match args.json.json {
        true => {
            let config = keeper::config::Config::load(&commands::paths(&pgdata)?.config)?;
            (config.formation, config.group)
        }
        false => Default::default(),
    };
    commands::block_on(drop::drop_node(&pgdata, args.destroy, args.force, wait))?;
    match args.json.json {
        true => output::json(&outcome(&formation, Some(group), !wait.is_zero() || args.force, &[])),
        false => Ok(()),
    }
}
