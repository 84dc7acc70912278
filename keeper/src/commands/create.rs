//! `create postgres`: may be killed at any point and run again.

use std::fs;
use std::path::{Path, PathBuf};

use failover::NodeState;
use monitor_client::{CallError, MonitorClient, RegistrationRequest, Target};
use tracing::{info, warn};

use super::service;
use crate::config::{Config, HbaLevel, MONITOR_DISABLED, Ssl, Timeouts, backup_directory, rate};
use crate::error::{KeeperError, Result};
use crate::files;
use crate::keeper::{Keeper, Until};
use crate::paths::Paths;
use crate::postgres::control::{ControlData, Installation, PidFile};
use crate::postgres::sql::{LocalServer, Sql};
use crate::signals::Signals;
use crate::source::{Operator, monitor_client};
use crate::state_file::{InitStage, KeeperState};

/// How `--ssl-*` was answered; exactly one must be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SslChoice {
    None,
    SelfSigned,
    Own { certificate: PathBuf, key: PathBuf },
}

/// The options of `create postgres`, with upstream's defaults in [`CreatePostgres::new`].
#[derive(Clone, Debug)]
pub struct CreatePostgres {
    pub pgdata: PathBuf,
    pub pg_ctl: Option<PathBuf>,
    /// A directory for the Unix socket; `None`: PostgreSQL's default.
    pub pghost: Option<String>,
    pub pgport: u16,
    pub listen: String,
    pub username: Option<String>,
    pub dbname: String,
    /// `None`: the monitor names it.
    pub name: Option<String>,
    /// `None`: found by the route to the monitor.
    pub hostname: Option<String>,
    pub formation: String,
    /// [`crate::config::MONITOR_DISABLED`] for a node without any.
    pub monitor: String,
    /// The number of a node without monitors; its peers know it by that.
    pub node_id: Option<i64>,
    pub auth: String,
    pub skip_pg_hba: bool,
    pub pg_hba_lan: bool,
    pub candidate_priority: i32,
    pub replication_quorum: bool,
    /// A label; `None`: the monitor's default.
    pub region: Option<String>,
    pub maximum_backup_rate: String,
    pub ssl: SslChoice,
    pub ssl_mode: Option<String>,
    pub ssl_ca_file: Option<PathBuf>,
    pub ssl_crl_file: Option<PathBuf>,
    pub replication_password: Option<String>,
    pub run: bool,
}

impl CreatePostgres {
    pub fn new(pgdata: &Path, monitor: &str) -> CreatePostgres {
        CreatePostgres {
            pgdata: pgdata.to_path_buf(),
            pg_ctl: None,
            pghost: None,
            pgport: 5432,
            listen: "*".to_string(),
            username: None,
            dbname: "postgres".to_string(),
            name: None,
            hostname: None,
            formation: "default".to_string(),
            monitor: monitor.to_string(),
            node_id: None,
            auth: "trust".to_string(),
            skip_pg_hba: false,
            pg_hba_lan: false,
            candidate_priority: 50,
            replication_quorum: true,
            region: None,
            maximum_backup_rate: "100M".to_string(),
            ssl: SslChoice::None,
            ssl_mode: None,
            ssl_ca_file: None,
            ssl_crl_file: None,
            replication_password: None,
            run: false,
        }
    }
}

/// Creates the node, or goes on where a creation was cut short; with `run`, stays.
pub async fn create_postgres(args: CreatePostgres) -> Result<()> {
    super::refuse_root()?;
    let pgdata = std::path::absolute(&args.pgdata)
        .map_err(|error| KeeperError::arguments(format!("{}: {error}", args.pgdata.display())))?;
    let paths = Paths::of(&pgdata)?;
    let mut signals = Signals::install()?;
    files::private_dir(&paths.data_home)?;
    let _lock = service::PidLock::take(&paths)?;
    let state = KeeperState::load(&paths.state)?;
    let unfinished = InitStage::load(&paths.init)?.is_some();
    match &state {
        None => register(&args, &paths, None).await?,
        Some(state) if unfinished => resume(&args, &paths, state).await?,
        Some(state) if state.current == NodeState::Dropped => {
            info!("node {} was dropped: registering it anew", state.node_id);
            register(&args, &paths, None).await?;
        }
        Some(state) if args.run => info!("node {} exists already: running it", state.node_id),
        Some(state) => {
            return Err(KeeperError::state(format!(
                "node {} exists already for {} (state file {}); use `pgquorum run`, or `create postgres --run`",
                state.node_id,
                pgdata.display(),
                paths.state.display()
            )));
        }
    }
    let until = if args.run { Until::Stopped } else { Until::Created };
    if !args.run && !Config::load(&paths.config)?.has_monitor() {
        info!("the node has no monitors: `pgquorum inspect fsm assign single` makes it a primary, other goals a standby");
        return Ok(());
    }
    Keeper::open(paths).await?.run(until, &mut signals).await
}

/// Was the registration committed before creation was cut short? Else it is made again.
async fn resume(args: &CreatePostgres, paths: &Paths, state: &KeeperState) -> Result<()> {
    let config = Config::load(&paths.config)?;
    if !config.has_monitor() {
        return Ok(());
    }
    let client = monitor_client(&config)?;
    let known = client.get_nodes(&config.formation, None).await?;
    let ours = |id, host: &str, port| id == state.node_id && host == config.hostname && port == config.port;
    if known.iter().any(|node| ours(node.id, &node.host, node.port)) {
        info!("going on with the creation of node {} \"{}\"", state.node_id, config.name);
        return Ok(());
    }
    info!("the monitors do not know node {}: registering it again", state.node_id);
    register(args, paths, InitStage::load(&paths.init)?).await
}

/// `stage`: what the first attempt found, which must not be taken for found again by the second.
async fn register(args: &CreatePostgres, paths: &Paths, stage: Option<InitStage>) -> Result<()> {
    let mut config = configuration(args, &paths.pgdata)?;
    let install = Installation::of(&config.pg_ctl)?;
    let major = install.major_version().await?;
    info!("PostgreSQL {major} at {}", install.bindir.display());
    let found = examine(&config, &install).await?;
    let stage = stage.filter(|s| *s == InitStage::Empty).unwrap_or(found.stage);
    if stage == InitStage::Empty {
        check_place(&paths.pgdata)?;
    }
    if !config.has_monitor() {
        return on_its_own(args, paths, config, stage, found.system_identifier);
    }
    let client = monitor_client(&config)?;
    let request = RegistrationRequest {
        formation: config.formation.clone(),
        host: config.hostname.clone(),
        port: config.port,
        dbname: config.dbname.clone(),
        name: config.name.clone(),
        system_identifier: found.system_identifier.unwrap_or(0),
        desired_id: None,
        desired_group: None,
        initial_state: NodeState::Init,
        kind: "standalone".to_string(),
        candidate_priority: args.candidate_priority,
        replication_quorum: args.replication_quorum,
        cluster: "default".to_string(),
        region: args.region.clone(),
    };
    if stage == InitStage::Empty {
        replace_reinstalled(&client, &config).await?;
    }
    let registration = patient_register(&client, &request).await?;
    let assignment = &registration.registered.assignment;
    let (id, goal) = (assignment.id, assignment.state);
    config.name.clone_from(&registration.registered.name);
    config.group = assignment.group;
    config.backup_directory = backup_directory(&paths.pgdata, id);
    let mut state = KeeperState::new(id, assignment.group, goal);
    state.system_identifier = found.system_identifier.unwrap_or(0);
    // Written before COMMIT: whatever happens now, the next attempt knows which node to look for.
    stage.save(&paths.init)?;
    config.save(&paths.config)?;
    state.save(&paths.state)?;
    let patience = client.patience();
    if let Err(error) = registration.commit(patience).await {
        if error.outcome_unknown() {
            return Err(KeeperError::monitor(format!(
                "it is not known whether the monitors took the registration ({error}); run the command again, it finds out"
            )));
        }
        files::remove(&paths.state)?;
        files::remove(&paths.init)?;
        // Constraints that are checked last complain here.
        return Err(explain(error, &request));
    }
    info!("registered as node {id} \"{}\" in group {}, to become {goal}", config.name, config.group);
    Ok(())
}

/// A node without monitors has nobody to register with.
fn on_its_own(
    args: &CreatePostgres,
    paths: &Paths,
    mut config: Config,
    stage: InitStage,
    system_identifier: Option<u64>,
) -> Result<()> {
    let id = args.node_id.filter(|id| *id > 0).ok_or_else(|| {
        KeeperError::arguments("a node without monitors needs a number that no other node of its group has: --node-id N")
    })?;
    if config.name.is_empty() {
        config.name = format!("node_{id}");
    }
    config.backup_directory = backup_directory(&paths.pgdata, id);
    let state = KeeperState { system_identifier: system_identifier.unwrap_or(0), ..KeeperState::new(id, 0, NodeState::Init) };
    Operator::of(paths).forget()?;
    stage.save(&paths.init)?;
    config.save(&paths.config)?;
    state.save(&paths.state)
}

/// Registration waits for a primary that is being made (55006), and for whatever passes by itself.
async fn patient_register(client: &MonitorClient, request: &RegistrationRequest) -> Result<monitor_client::Registration> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(900);
    let mut pause = std::time::Duration::from_secs(1);
    loop {
        // A stock monitor has no schema of ours.
        let answer = match client.register(request).await {
            Err(error) if matches!(error.code(), Some("3F000" | "42883")) => client.register_node(request).await,
            answer => answer,
        };
        let error = match answer {
            Ok(registration) => return Ok(registration),
            Err(error) => error,
        };
        let passes = matches!(error.code(), Some("55006")) || error.is_transient();
        if !passes || tokio::time::Instant::now() > deadline {
            return Err(explain(error, request));
        }
        warn!("the monitors do not take the registration yet: {error}; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(std::time::Duration::from_secs(5));
    }
}

/// As long as a registered node must have been silent to be taken for one that was reinstalled.
const SILENT: f64 = 10.0;

/// This machine was reinstalled: the monitors still have the node of the same name, host and port,
/// nobody reports for it, and there is no data here. It is replaced, unless it is the primary: then
/// the data that is gone was the group's, and a person decides.
async fn replace_reinstalled(client: &MonitorClient, config: &Config) -> Result<()> {
    let rows = client.current_state(&config.formation, None).await?;
    let same = |row: &&monitor_client::NodeRow| {
        row.name == config.name && row.host == config.hostname && row.port == config.port
    };
    let Some(old) = rows.iter().find(same) else { return Ok(()) };
    if old.report_lag.is_none_or(|lag| lag < SILENT) {
        return Err(KeeperError::state(format!(
            "node {} \"{}\" at {}:{} is registered and has reported {:.0} s ago: is its keeper running, with files \
             under another HOME? If this machine was just reinstalled, run the command again in a few seconds",
            old.id,
            old.name,
            old.host,
            old.port,
            old.report_lag.unwrap_or(0.0)
        )));
    }
    if old.goal.belongs_to_primary() || old.reported.belongs_to_primary() {
        return Err(KeeperError::state(format!(
            "node {} \"{}\" is registered as the primary ({}), and there is no data in {}. If the data is lost, \
             drop the node first: pgquorum drop node --name {} --force",
            old.id,
            old.name,
            old.goal,
            config.pgdata.display(),
            old.name
        )));
    }
    warn!(
        "node {} \"{}\" is registered, has been silent for {:.0} s, and has no data here: replacing it by a new node",
        old.id,
        old.name,
        old.report_lag.unwrap_or(0.0)
    );
    client.remove_node(&config.formation, &old.name, true).await?;
    Ok(())
}

fn explain(error: CallError, request: &RegistrationRequest) -> KeeperError {
    let hint = match error.code() {
        Some("23P01") => {
            "; the data directory belongs to another cluster than the group's: move it away or name another --pgdata"
        }
        Some("42883") if request.region.is_some() => "; monitors of this release know no regions: leave out --region",
        Some("23505") => {
            "; a node of this name, or at this host and port, is registered. If that is this machine before it was \
             reinstalled, drop it first: pgquorum drop node --name NAME --force"
        }
        _ => "",
    };
    KeeperError::monitor(format!("registering {}:{}: {error}{hint}", request.host, request.port))
}

struct Found {
    stage: InitStage,
    system_identifier: Option<u64>,
}

/// What is in the data directory?
async fn examine(config: &Config, install: &Installation) -> Result<Found> {
    crate::postgres::basebackup::finish_swap(config)?;
    if !config.pgdata.join("PG_VERSION").exists() {
        return Ok(Found { stage: InitStage::Empty, system_identifier: None });
    }
    check_configuration_files(config, install).await?;
    let control = install.control_data(&config.pgdata).await?;
    let identifier = Some(control.system_identifier);
    let Some(file) = PidFile::live(&config.pgdata)? else {
        info!("{} holds a cluster that is stopped", config.pgdata.display());
        return Ok(Found { stage: InitStage::Exists, system_identifier: identifier });
    };
    if file.port != config.port {
        return Err(KeeperError::arguments(format!(
            "PostgreSQL runs on {} with port {}, but --pgport is {}",
            config.pgdata.display(),
            file.port,
            config.port
        )));
    }
    info!("{} holds a cluster that is running", config.pgdata.display());
    let stage = check_running(config, &control).await?;
    Ok(Found { stage, system_identifier: identifier })
}

/// The keeper starts PostgreSQL from its data directory alone and edits the files there: those that the
/// server would read elsewhere are refused before anything is changed.
async fn check_configuration_files(config: &Config, install: &Installation) -> Result<()> {
    let pgdata = &config.pgdata;
    const ADVICE: &str = "Stop the cluster, put postgresql.conf, pg_hba.conf and pg_ident.conf (and what they include) \
                          into the data directory, remove the lines data_directory, hba_file, ident_file and \
                          external_pid_file from postgresql.conf, see to it that nothing else starts this cluster, \
                          and run the command again";
    if !pgdata.join("postgresql.conf").exists() {
        return Err(KeeperError::config(format!(
            "{} has no postgresql.conf: its configuration lies elsewhere, in /etc/postgresql/VERSION/NAME when Debian's \
             pg_createcluster made it. {ADVICE}",
            pgdata.display()
        )));
    }
    for (name, file) in [("data_directory", ""), ("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")] {
        let said = install
            .program("postgres")
            .args(["-C", name, "-D"])
            .arg(pgdata)
            .run(std::time::Duration::from_secs(20))
            .await
            .map_err(|error| KeeperError::config(error.message))?;
        let (set, own) = (PathBuf::from(said.stdout.trim()), pgdata.join(file));
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if real(&set) != real(&own) {
            return Err(KeeperError::config(format!(
                "{name} is {}, not {}: the keeper manages clusters whose configuration lies in the data directory. {ADVICE}",
                set.display(),
                own.display()
            )));
        }
    }
    Ok(())
}

/// A running server is adopted as it is; settings that take a restart must be right already.
async fn check_running(config: &Config, control: &ControlData) -> Result<InitStage> {
    let patience = std::time::Duration::from_secs(10);
    let sql = Sql::connect(&LocalServer::of(config), patience).await?;
    let value = |name: &str| format!("select current_setting('{name}')");
    let wal_level = sql.value(&value("wal_level"), patience).await?.unwrap_or_default();
    let mut wrong = Vec::new();
    if !matches!(wal_level.as_str(), "replica" | "logical") {
        wrong.push(format!("wal_level is {wal_level}, must be replica or logical"));
    }
    if !control.can_rewind() {
        wrong.push("wal_log_hints is off and there are no data checksums: pg_rewind needs one of them".to_string());
    }
    for (name, least) in [("max_wal_senders", 4), ("max_replication_slots", 4)] {
        let now: u32 = sql.value(&value(name), patience).await?.and_then(|v| v.parse().ok()).unwrap_or(0);
        if now < least {
            wrong.push(format!("{name} is {now}, must be at least {least}"));
        }
    }
    if !wrong.is_empty() {
        return Err(KeeperError::config(format!(
            "the running PostgreSQL cannot be adopted without a restart: {}. Change that and restart it, or stop it: \
             a stopped cluster is started with the right settings",
            wrong.join("; ")
        )));
    }
    let in_recovery = sql.value("select pg_is_in_recovery()", patience).await?.as_deref() == Some("t");
    Ok(if in_recovery { InitStage::Running } else { InitStage::Primary })
}

/// A directory that initdb or pg_basebackup can be put in the place of.
fn check_place(pgdata: &Path) -> Result<()> {
    match fs::read_dir(pgdata) {
        Ok(entries) => {
            if let Some(entry) = entries.flatten().find(|entry| entry.file_name() != "lost+found") {
                return Err(KeeperError::arguments(format!(
                    "{} is neither empty nor a PostgreSQL cluster (it has {})",
                    pgdata.display(),
                    entry.file_name().to_string_lossy()
                )));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = pgdata.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(parent)
                .map_err(|error| KeeperError::io(format!("cannot create {}", parent.display()), &error))?;
        }
        Err(error) => return Err(KeeperError::io(format!("cannot read {}", pgdata.display()), &error)),
    }
    let probe = pgdata.parent().unwrap_or(Path::new("/")).join(format!(".pgquorum.{}", std::process::id()));
    fs::write(&probe, b"")
        .and_then(|()| fs::remove_file(&probe))
        .map_err(|error| KeeperError::io(format!("cannot write beside {}", pgdata.display()), &error))
}

fn configuration(args: &CreatePostgres, pgdata: &Path) -> Result<Config> {
    let target = match args.monitor == MONITOR_DISABLED {
        true => None,
        false => Some(
            Target::parse(&args.monitor).map_err(|error| KeeperError::arguments(format!("--monitor: {error}")))?,
        ),
    };
    if !(0..=100).contains(&args.candidate_priority) {
        return Err(KeeperError::arguments("--candidate-priority must be between 0 and 100"));
    }
    let auth = match args.auth.as_str() {
        "scram" => "scram-sha-256",
        known @ ("trust" | "md5" | "scram-sha-256" | "cert" | "peer" | "skip") => known,
        other => return Err(KeeperError::arguments(format!("--auth {other}: use trust, md5 or scram-sha-256"))),
    };
    if matches!(auth, "md5" | "scram-sha-256") && args.replication_password.is_none() {
        warn!(
            "--auth {auth} without a replication password: set one with `pgquorum config set replication.password`, \
             else standbys cannot connect"
        );
    }
    let hostname = match &args.hostname {
        Some(host) => host.clone(),
        None => discover_address(target.as_ref())?,
    };
    if hostname.is_empty() || hostname.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(KeeperError::arguments(format!("--hostname \"{hostname}\" is not a host name")));
    }
    let user = || {
        nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name)
    };
    let username = args.username.clone().or_else(user).unwrap_or_else(|| "postgres".to_string());
    let (active, certificate, key, default_mode) = match &args.ssl {
        SslChoice::None => (false, None, None, "prefer"),
        SslChoice::SelfSigned => {
            (true, Some(pgdata.join("server.crt")), Some(pgdata.join("server.key")), "require")
        }
        SslChoice::Own { certificate, key } => (true, Some(certificate.clone()), Some(key.clone()), "verify-full"),
    };
    Ok(Config {
        monitor: args.monitor.clone(),
        formation: args.formation.clone(),
        group: 0,
        name: args.name.clone().unwrap_or_default(),
        hostname,
        pgdata: pgdata.to_path_buf(),
        pg_ctl: match &args.pg_ctl {
            Some(path) => path.clone(),
            None => Installation::find_pg_ctl()?,
        },
        username,
        dbname: args.dbname.clone(),
        host: args.pghost.clone().filter(|host| host.starts_with('/')).unwrap_or_default(),
        port: args.pgport,
        listen_addresses: args.listen.clone(),
        auth_method: auth.to_string(),
        hba_level: match (args.skip_pg_hba || auth == "skip", args.pg_hba_lan) {
            (true, _) => HbaLevel::None,
            (false, true) => HbaLevel::Lan,
            (false, false) => HbaLevel::Minimal,
        },
        ssl: Ssl {
            active,
            sslmode: args.ssl_mode.clone().unwrap_or_else(|| default_mode.to_string()),
            ca_file: args.ssl_ca_file.clone(),
            crl_file: args.ssl_crl_file.clone(),
            cert_file: certificate,
            key_file: key,
            self_signed: args.ssl == SslChoice::SelfSigned,
        },
        replication_password: args.replication_password.clone(),
        maximum_backup_rate: rate(&args.maximum_backup_rate)
            .map_err(|error| KeeperError::arguments(error.message))?,
        backup_directory: backup_directory(pgdata, 0),
        timeouts: Timeouts::default(),
    })
}

/// The address that this machine reaches the monitor from, or without one the Internet. Nothing is sent: connecting a UDP socket
/// only chooses a route.
fn discover_address(target: Option<&Target>) -> Result<String> {
    let route = || -> std::io::Result<std::net::IpAddr> {
        let endpoint = target.and_then(|target| target.endpoints.first());
        let (host, port) = endpoint.map_or(("8.8.8.8", 53), |endpoint| (endpoint.host.as_str(), endpoint.port));
        let any = if host.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect((host, port))?;
        Ok(socket.local_addr()?.ip())
    };
    route().map(|ip| ip.to_string()).map_err(|error| {
        KeeperError::arguments(format!("cannot tell this machine's address by the route to the monitor ({error}): use --hostname"))
    })
}
