//! `pgquorum create ...`

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use tracing::{info, warn};

use crate::args::create::{Create, CreateFormation, CreateMonitor, SslArgs};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::server::client_tls::{ClientTls, ensure_self_signed};
use crate::server::{Auth, Config, ConfigError, Replica, ReplicaTls, RunOptions, default_replica_port};
use crate::verbs::{block_on, drop_monitor, later, print_notices, service};

pub fn run(verb: Create) -> Result<(), CliError> {
    match verb {
        Create::Monitor(args) => monitor(&args),
        Create::Postgres(args) => crate::verbs::node::create(*args),
        Create::Coordinator(_) => later::citus("create coordinator"),
        Create::Worker(_) => later::citus("create worker"),
        Create::Formation(args) => formation(&args),
    }
}

fn formation(args: &CreateFormation) -> Result<(), CliError> {
    let secondary = !args.disable_secondary;
    block_on(async {
        let client = locate::monitors(&args.monitor)?.client();
        client
            .create_formation(&args.formation, &args.kind, &args.dbname, secondary, args.number_sync_standbys)
            .await
            .map_err(|error| match error.code() {
                Some("23505") => CliError::from(error).hint(format!("formation \"{}\" exists already", args.formation)),
                _ => error.into(),
            })?;
        print_notices(&client);
        info!(
            "created formation \"{}\" of kind \"{}\", with secondaries {}",
            args.formation,
            args.kind,
            if secondary { "enabled" } else { "disabled" }
        );
        Ok(())
    })
}

fn monitor(args: &CreateMonitor) -> Result<(), CliError> {
    let config = configuration(args)?;
    if args.ssl.no_ssl {
        warn!("clients are served without TLS: whoever can read the network reads and changes the traffic");
    }
    if config.replicas.len() == 1 {
        warn!("one replica alone: while it is down, nothing fails over. Give --replicas to create one of three");
    }
    match existing(&config.pgdata)? {
        Some(present) => {
            let differing = differences(&present, &config);
            if !differing.is_empty() {
                return Err(CliError::new(
                    Status::BadConfiguration,
                    format!(
                        "{} already holds a monitor with other options:\n  {}",
                        config.pgdata.display(),
                        differing.join("\n  ")
                    ),
                )
                .hint("repeat the command with the present values, or choose another --pgdata"));
            }
            info!("the monitor \"{}\" exists in {}", config.name, config.pgdata.display());
        }
        None => {
            let taken_up = drop_monitor::take_up(&config.pgdata, &config)?;
            if let Some(tls) = config.client_tls.as_ref().filter(|tls| tls.self_signed) {
                ensure_self_signed(tls, &config.hostname)
                    .map_err(|error| CliError::new(Status::BadState, error.to_string()))?;
            }
            config.save().map_err(bad_options)?;
            if taken_up {
                drop_monitor::taken_up(&config.pgdata)?;
            }
            info!("created the monitor \"{}\" in {}", config.name, config.pgdata.display());
        }
    }
    if args.run {
        return service::serve(config, RunOptions::default());
    }
    info!("start it: pgquorum run --pgdata {}", config.pgdata.display());
    Ok(())
}

/// Exactly one choice, as upstream. `None`: no TLS.
fn client_tls(args: &SslArgs, pgdata: &Path) -> Result<Option<ClientTls>, CliError> {
    let wrong = |text: &str| CliError::new(Status::BadArguments, text);
    let mode = |default: &str| args.ssl_mode.clone().unwrap_or_else(|| default.to_string());
    match (args.no_ssl, args.ssl_self_signed, &args.server_cert, &args.server_key) {
        (true, false, None, None) => Ok(None),
        (false, true, None, None) => {
            Ok(Some(ClientTls { sslmode: mode("require"), ..ClientTls::self_signed(pgdata) }))
        }
        (false, false, Some(cert), Some(key)) => {
            let ca_file = args.ssl_ca_file.as_deref().map(absolute).transpose()?;
            let ca_file = ca_file.ok_or_else(|| {
                wrong("--server-cert needs --ssl-ca-file: clients verify this monitor with it")
            })?;
            Ok(Some(ClientTls {
                self_signed: false,
                sslmode: mode("verify-full"),
                cert_file: absolute(cert)?,
                key_file: absolute(key)?,
                ca_file: Some(ca_file),
                crl_file: args.ssl_crl_file.as_deref().map(absolute).transpose()?,
            }))
        }
        (false, false, ..) => {
            Err(wrong("a choice about TLS is required: --no-ssl, --ssl-self-signed, or your own certificates")
                .hint("your own: --ssl-ca-file, --server-cert and --server-key"))
        }
        _ => Err(wrong("--no-ssl, --ssl-self-signed and your own certificates exclude each other")),
    }
}

fn bad_options(error: ConfigError) -> CliError {
    CliError::new(Status::BadArguments, error.to_string())
}

fn configuration(args: &CreateMonitor) -> Result<Config, CliError> {
    let pgdata = locate::data_dir(&args.data)?;
    let auth = match args.auth.as_deref() {
        Some(method) => Auth::parse(method).map_err(bad_options)?,
        None => {
            return Err(CliError::new(Status::BadArguments, "a choice of authentication is required")
                .hint("--auth trust lets in whoever reaches the port; --auth scram-sha-256 asks for a password"));
        }
    };
    let replicas = match &args.replicas {
        Some(text) => Config::parse_replicas(text).map_err(bad_options)?,
        None => Vec::new(),
    };
    let own = own_replica(args, &replicas)?;
    let mut config = Config::alone(&pgdata, &own.name, args.hostname.as_deref().unwrap_or(&own.host), own.port);
    config.listen_addresses = args.listen.clone();
    if !replicas.is_empty() {
        config.replicas = replicas;
    }
    config.auth = auth;
    if auth == Auth::ScramSha256 {
        let given = args.autoctl_node_password.clone().or_else(|| std::env::var("PG_AUTOCTL_NODE_PASSWORD").ok());
        config.password = given.filter(|password| !password.is_empty());
    }
    config.test_mode = args.test_mode;
    config.client_tls = client_tls(&args.ssl, &config.pgdata)?;
    config.replica_tls = match (&args.replica_ca_file, &args.replica_cert_file, &args.replica_key_file) {
        (Some(ca), Some(cert), Some(key)) => Some(ReplicaTls {
            ca_file: absolute(ca)?,
            cert_file: absolute(cert)?,
            key_file: absolute(key)?,
        }),
        _ => None,
    };
    config.check().map_err(bad_options)?;
    Ok(config)
}

fn absolute(path: &Path) -> Result<std::path::PathBuf, CliError> {
    Ok(std::path::absolute(path)?)
}

/// Which of the replicas this one is: by `--name`, or by its address where that is enough.
fn own_replica(args: &CreateMonitor, replicas: &[Replica]) -> Result<Replica, CliError> {
    if replicas.is_empty() {
        let from_env = || std::env::var("PGPORT").ok().and_then(|port| port.parse().ok());
        let port = args.pgport.or_else(from_env).unwrap_or(monitor_client::DEFAULT_PORT);
        let host = match &args.hostname {
            Some(host) => host.clone(),
            None => machine_name()?,
        };
        let name = args.name.clone().unwrap_or_else(|| "m1".to_string());
        return Ok(Replica { name, host, port, replica_port: default_replica_port(port) });
    }
    let fits = |replica: &&Replica| {
        args.name.as_ref().is_none_or(|name| *name == replica.name)
            && (args.name.is_some() || args.hostname.as_ref().is_none_or(|host| *host == replica.host))
            && (args.name.is_some() || args.pgport.is_none_or(|port| port == replica.port))
    };
    let fitting: Vec<&Replica> = replicas.iter().filter(fits).collect();
    match (fitting.as_slice(), args.pgport) {
        ([own], Some(port)) if port != own.port => Err(CliError::new(
            Status::BadArguments,
            format!("--pgport is {port}, but --replicas gives port {} to \"{}\"", own.port, own.name),
        )),
        ([own], _) => Ok((*own).clone()),
        ([], _) if args.name.is_some() => Err(CliError::new(
            Status::BadArguments,
            format!(
                "--name {} is none of the replicas {}",
                args.name.as_deref().unwrap_or(""),
                Config::format_replicas(replicas)
            ),
        )),
        _ => Err(CliError::new(Status::BadArguments, "it is not clear which of the replicas this one is")
            .hint(format!("give --name, one of {}", names(replicas)))),
    }
}

fn names(replicas: &[Replica]) -> String {
    replicas.iter().map(|replica| replica.name.as_str()).collect::<Vec<_>>().join(", ")
}

pub fn machine_name() -> Result<String, CliError> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string();
    match name.is_empty() {
        false => Ok(name),
        true => Err(CliError::new(Status::BadArguments, "the name of this machine is not known")
            .hint("give --hostname NAME")),
    }
}

/// The configuration that is there already. Makes the directory when there is none; refuses one
/// that holds something else.
fn existing(pgdata: &Path) -> Result<Option<Config>, CliError> {
    let failed = |what: &str, error: std::io::Error| {
        CliError::new(Status::BadState, format!("cannot {what} {}: {error}", pgdata.display()))
    };
    let entries = match fs::read_dir(pgdata) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(pgdata).map_err(|e| failed("create", e))?;
            return Ok(None);
        }
        Err(error) => return Err(failed("read", error)),
    };
    if pgdata.join("pgquorum.cfg").exists() {
        return Config::load(pgdata).map(Some).map_err(|error| CliError::new(Status::BadConfiguration, error.to_string()));
    }
    if drop_monitor::is_left(pgdata) {
        return Ok(None);
    }
    // A fresh file system has this, and an interrupted creation leaves that.
    let ours = ["lost+found", "pgquorum.cfg.new", "server.crt", "server.key", "server.new"];
    for entry in entries {
        let name = entry.map_err(|e| failed("read", e))?.file_name();
        if !ours.iter().any(|known| name == *known) {
            return Err(CliError::new(
                Status::BadState,
                format!(
                    "{} is not empty (it holds \"{}\") and is no monitor's data directory",
                    pgdata.display(),
                    name.to_string_lossy()
                ),
            )
            .hint("choose an empty or a new directory"));
        }
    }
    fs::set_permissions(pgdata, fs::Permissions::from_mode(0o700)).map_err(|e| failed("protect", e))?;
    Ok(None)
}

/// What two configurations do not share, in words. Passwords are compared, not shown.
fn differences(present: &Config, asked: &Config) -> Vec<String> {
    let tls = |config: &Config| match &config.replica_tls {
        Some(tls) => format!("{}, {}", tls.cert_file.display(), tls.ca_file.display()),
        None => "none".to_string(),
    };
    let clients = |config: &Config| match &config.client_tls {
        Some(tls) => format!("{}, sslmode {}", tls.cert_file.display(), tls.sslmode),
        None => "none".to_string(),
    };
    let on = |flag: bool| if flag { "on" } else { "off" }.to_string();
    let pairs = [
        ("--name", present.name.clone(), asked.name.clone()),
        ("--hostname", present.hostname.clone(), asked.hostname.clone()),
        ("--pgport", present.port.to_string(), asked.port.to_string()),
        ("--listen", present.listen_addresses.clone(), asked.listen_addresses.clone()),
        ("--replicas", Config::format_replicas(&present.replicas), Config::format_replicas(&asked.replicas)),
        ("--auth", present.auth.name().to_string(), asked.auth.name().to_string()),
        ("--test-mode", on(present.test_mode), on(asked.test_mode)),
        ("TLS for clients", clients(present), clients(asked)),
        ("certificates of the replicas' channel", tls(present), tls(asked)),
    ];
    let mut found: Vec<String> = pairs
        .into_iter()
        .filter(|(_, present, asked)| present != asked)
        .map(|(what, present, asked)| format!("{what}: is {present}, asked for {asked}"))
        .collect();
    if present.password != asked.password {
        found.push("PG_AUTOCTL_NODE_PASSWORD: another password is stored".to_string());
    }
    found
}
