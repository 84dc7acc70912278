//! The PostgreSQL node of this machine: everything is done by the keeper's library.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keeper::KeeperError;
use keeper::commands::create::SslChoice;
use keeper::commands::service::{RunOptions, StopHow};
use keeper::commands::{self, config, create, drop, service, show};
use serde_json::{Map, Value, json};
use tracing::info;

use crate::args::{DataDir, DropNode, RunArgs, ShowGroup, StatusArgs, StopArgs};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::node_args::{ConfigVerb, CreatePostgres, ShowFile};
use crate::output;
use crate::table::{Column, render};

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
    let Ok(pgdata) = locate::data_dir(args) else { return false };
    !pgdata.join("pgquorum.cfg").exists() && commands::paths(&pgdata).is_ok_and(|paths| paths.config.exists())
}

pub fn create(args: CreatePostgres) -> Result<(), CliError> {
    let own = args.server_cert.is_some();
    let ssl = match (args.no_ssl, args.ssl_self_signed, args.server_cert, args.server_key) {
        (true, false, None, None) => SslChoice::None,
        (false, true, None, None) => SslChoice::SelfSigned,
        (false, false, Some(certificate), Some(key)) => SslChoice::Own { certificate, key },
        (false, false, None, None) => {
            return Err(CliError::new(
                Status::BadArguments,
                "a choice about TLS is required: --no-ssl, --ssl-self-signed, or --server-cert with --server-key",
            ));
        }
        _ => return Err(CliError::new(Status::BadArguments, "the options about TLS contradict each other")),
    };
    if own && args.ssl_ca_file.is_none() {
        return Err(CliError::new(Status::BadArguments, "--server-cert needs --ssl-ca-file: the peers are verified with it"));
    }
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
        monitor: args.monitor,
        auth: args.auth,
        skip_pg_hba: args.skip_pg_hba,
        pg_hba_lan: args.pg_hba_lan,
        candidate_priority: args.candidate_priority,
        replication_quorum: args.replication_quorum,
        maximum_backup_rate: args.maximum_backup_rate,
        ssl,
        ssl_mode: args.ssl_mode,
        ssl_ca_file: args.ssl_ca_file,
        ssl_crl_file: args.ssl_crl_file,
        // Never an argument: those are for everybody to read.
        replication_password: env::var("PG_AUTOCTL_REPLICATION_PASSWORD").ok().filter(|p| !p.is_empty()),
        run: args.run,
    };
    Ok(commands::block_on(create::create_postgres(request))?)
}

pub fn run(args: &RunArgs) -> Result<(), CliError> {
    if args.rejoin {
        return Err(CliError::new(Status::BadArguments, "--rejoin is for monitors; a node rejoins by itself"));
    }
    let options =
        RunOptions { name: args.name.clone(), hostname: args.hostname.clone(), pgport: args.pgport };
    Ok(commands::block_on(service::run(&locate::data_dir(&args.data)?, options))?)
}

pub fn stop(args: &StopArgs) -> Result<(), CliError> {
    let how = match (args.fast, args.immediate, args.leave_postgres) {
        (_, _, true) => StopHow::LeavePostgres,
        (_, true, _) => StopHow::Immediate,
        (true, _, _) => StopHow::Fast,
        _ => StopHow::Smart,
    };
    Ok(commands::block_on(service::stop(&locate::data_dir(&args.data)?, how))?)
}

pub fn reload(args: &DataDir) -> Result<(), CliError> {
    service::reload(&locate::data_dir(args)?)?;
    info!("the keeper was told to read its configuration again: its log tells what it could change");
    Ok(())
}

pub fn status(args: &StatusArgs) -> Result<(), CliError> {
    let pgdata = locate::data_dir(&args.data)?;
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
    let pgdata = locate::data_dir(&DataDir { pgdata: args.monitor.pgdata.clone() })?;
    let wait = Duration::from_secs(args.wait.wait);
    Ok(commands::block_on(drop::drop_node(&pgdata, args.destroy, args.force, wait))?)
}

pub fn config(verb: ConfigVerb) -> Result<(), CliError> {
    match verb {
        ConfigVerb::Check(args) => {
            let checked = commands::block_on(config::check(&locate::data_dir(&args.data)?))?;
            if args.json.json {
                return output::json(&config::get_all(&checked.pgdata)?);
            }
            info!("the configuration of node \"{}\" is sound", checked.name);
            Ok(())
        }
        ConfigVerb::Get(args) => {
            let pgdata = locate::data_dir(&args.data)?;
            match args.setting {
                Some(name) => value(&name, &config::get(&pgdata, &name)?, args.json.json),
                None => output::json(&config::get_all(&pgdata)?),
            }
        }
        ConfigVerb::Set(args) => {
            let set = config::set(&locate::data_dir(&args.data)?, &args.setting, &args.value)?;
            value(&args.setting, &set, args.json.json)
        }
    }
}

fn value(name: &str, value: &str, as_json: bool) -> Result<(), CliError> {
    if !as_json {
        return output::line(value);
    }
    let mut object = Map::new();
    object.insert(name.to_string(), Value::String(value.to_string()));
    output::json(&Value::Object(object))
}

pub fn show_file(args: &ShowFile) -> Result<(), CliError> {
    let pgdata = locate::data_dir(&args.data)?;
    let files = show::files_of(&pgdata)?;
    let chosen = [args.config, args.state, args.init, args.pid].iter().position(|chosen| *chosen);
    match chosen {
        None if args.contents => Err(CliError::new(Status::BadArguments, "--contents needs one of --config, --state, --init, --pid")),
        None if args.json.json => output::json(&json!({
            "config": files[0].1, "state": files[1].1, "init": files[2].1, "pid": files[3].1,
        })),
        None => {
            let rows: Vec<Vec<String>> =
                files.iter().map(|(label, path)| vec![label.to_string(), path.clone()]).collect();
            output::line(&render(&[Column::right("File", 6), Column::left("Path")], &rows))
        }
        Some(at) if !args.contents => output::line(&files[at].1),
        Some(1) => {
            let state = show::state(&pgdata)?;
            if args.json.json {
                return output::json(&show::state_json(&state));
            }
            output::line(&format!(
                "Current Role:             {}\nAssigned Role:            {}\nNode Id:                  {}\n\
                 Group Id:                 {}\nEpoch:                    {}\nSystem Identifier:        {}\n\
                 PostgreSQL Version:       {}\nLast Monitor Contact:     {}\nLast Secondary Contact:   {}",
                state.current,
                state.assigned,
                state.node_id,
                state.group,
                state.epoch,
                state.system_identifier,
                state.pg_version,
                state.last_monitor_contact,
                state.last_secondary_contact
            ))
        }
        Some(0) if args.json.json => output::json(&config::get_all(&pgdata)?),
        Some(at) => output::line(show::contents(&files[at].1)?.trim_end()),
    }
}

/// `show state --local`: what this machine knows without asking anybody.
pub fn show_local(args: &ShowGroup) -> Result<(), CliError> {
    let pgdata: PathBuf = locate::data_dir(&DataDir { pgdata: args.monitor.pgdata.clone() })?;
    let state = commands::block_on(show::local_state(Path::new(&pgdata)))?;
    if args.json.json {
        return output::json(&state);
    }
    let text = |key: &str| match &state[key] {
        Value::String(text) => text.clone(),
        Value::Null => "0/0".to_string(),
        other => other.to_string(),
    };
    let columns = [
        Column::right("Name", 0),
        Column::right("Node", 5),
        Column::right("Host:Port", 10),
        Column::right("TLI: LSN", 9),
        Column::right("Connection", 12),
        Column::right("Reported State", 19),
        Column::right("Assigned State", 19),
    ];
    let row = vec![
        text("nodename"),
        text("node_id"),
        format!("{}:{}", text("nodehost"), text("nodeport")),
        format!("{:>3}: {}", text("timeline"), text("lsn")),
        text("conntype"),
        text("current_group_state"),
        text("assigned_group_state"),
    ];
    output::line(&render(&columns, &[row]))
}
