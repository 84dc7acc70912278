//! Finding the monitors: `--monitor`, a data directory, the environment.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ini::Ini;
use monitor_client::{ConnectOptions, Endpoint, MonitorClient, Target};

use crate::args::{DataDir, MonitorArgs};
use crate::exit::{CliError, Status};
use crate::server::Config;

/// The configuration of a monitor, in its data directory.
const MONITOR_FILE: &str = "pgquorum.cfg";

/// How long a command looks for a monitor that answers, unless PGCONNECT_TIMEOUT says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one monitor may take to answer a read; it waits for a leader itself for a while.
const ANSWER_PATIENCE: Duration = Duration::from_secs(4);

/// The monitors, and what the data directory says besides.
#[derive(Debug)]
pub struct Located {
    pub target: Target,
    pub formation: Option<String>,
    pub group: Option<i32>,
    /// Name of the node whose data directory it is.
    pub node: Option<String>,
    /// `sslmode` of connection strings for applications.
    pub sslmode: String,
}

impl Located {
    fn at(target: Target) -> Located {
        Located { target, formation: None, group: None, node: None, sslmode: "prefer".to_string() }
    }

    /// The formation asked for, that of the data directory, or the one that always exists.
    pub fn formation(&self, asked: &Option<String>) -> String {
        asked.clone().or_else(|| self.formation.clone()).unwrap_or_else(|| "default".to_string())
    }

    /// A client with one deadline for everything that the command asks.
    pub fn client(&self) -> MonitorClient {
        let client = self.lasting_client();
        client.set_deadline(Some(tokio::time::Instant::now() + client.patience()));
        client
    }

    /// A client of a command that goes on until it is told to stop: each call has a deadline of its own.
    pub fn lasting_client(&self) -> MonitorClient {
        let patience = env::var("PGCONNECT_TIMEOUT")
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
            .filter(|seconds| *seconds > 0)
            .map_or(PATIENCE, Duration::from_secs);
        MonitorClient::new(self.target.clone(), ConnectOptions::default(), patience)
            .with_answer_patience(ANSWER_PATIENCE)
    }
}

/// What nearly every command that asks the monitors needs.
pub struct Operator {
    pub located: Located,
    pub client: MonitorClient,
    pub formation: String,
}

impl Operator {
    pub fn new(monitor: &MonitorArgs, formation: &Option<String>) -> Result<Operator, CliError> {
        let located = monitors(monitor)?;
        let (formation, client) = (located.formation(formation), located.client());
        Ok(Operator { located, client, formation })
    }

    /// The group asked for, or that of the data directory.
    pub fn group(&self, asked: Option<i32>) -> Option<i32> {
        asked.or(self.located.group)
    }

    /// The node asked for, that of the data directory, or that of the environment.
    pub fn node_name(&self, asked: &Option<String>) -> Option<String> {
        let from_env = || env::var("PG_AUTOCTL_NODE_NAME").ok().filter(|name| !name.is_empty());
        asked.clone().or_else(|| self.located.node.clone()).or_else(from_env)
    }
}

/// The monitors of a node's data directory; `None`: it runs without one.
pub fn monitors_of(pgdata: &Path) -> Result<Option<Located>, CliError> {
    match keeper::commands::config::get(pgdata, "pg_autoctl.monitor")? {
        uri if uri == keeper::config::MONITOR_DISABLED => Ok(None),
        _ => from_data_dir(pgdata).map(Some),
    }
}

/// Options win over the environment, and a named monitor wins over a data directory.
pub fn monitors(args: &MonitorArgs) -> Result<Located, CliError> {
    let mut located = if let Some(uri) = &args.monitor {
        from_uri(uri, "--monitor")?
    } else if let Some(pgdata) = &args.data.pgdata {
        from_data_dir(pgdata)?
    } else if let Some(uri) = env::var("PG_AUTOCTL_MONITOR").ok().filter(|uri| !uri.is_empty()) {
        from_uri(&uri, "PG_AUTOCTL_MONITOR")?
    } else if let Some(pgdata) = env::var_os("PGDATA").filter(|dir| !dir.is_empty()) {
        from_data_dir(Path::new(&pgdata))?
    } else {
        return Err(CliError::new(Status::BadArguments, "no monitor is named")
            .hint("give --monitor URI or --pgdata DIR, or set PG_AUTOCTL_MONITOR or PGDATA"));
    };
    if located.target.password.is_none() {
        located.target.password = env::var("PGPASSWORD").ok().filter(|password| !password.is_empty());
    }
    Ok(located)
}

/// The data directory of commands that work on this machine.
pub fn data_dir(args: &DataDir) -> Result<PathBuf, CliError> {
    let from_env = || env::var_os("PGDATA").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let dir = args.pgdata.clone().or_else(from_env).ok_or_else(|| {
        CliError::new(Status::BadArguments, "no data directory is named").hint("give --pgdata DIR or set PGDATA")
    })?;
    std::path::absolute(&dir).map_err(|error| {
        CliError::new(Status::BadArguments, format!("cannot make {} an absolute path: {error}", dir.display()))
    })
}

/// What a data directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Monitor,
    Node,
}

/// By the configuration files; `None`: neither has one.
pub fn kind(pgdata: &Path) -> Result<Option<Kind>, CliError> {
    let there = |path: &Path| {
        path.try_exists().map_err(|error| {
            CliError::new(Status::BadConfiguration, format!("cannot look at {}: {error}", path.display()))
        })
    };
    Ok(match (there(&pgdata.join(MONITOR_FILE))?, there(&pg_autoctl_config(pgdata))?) {
        (true, _) => Some(Kind::Monitor),
        (false, true) => Some(Kind::Node),
        (false, false) => None,
    })
}

/// The data directory of commands about a monitor or a node that was created.
pub fn created(args: &DataDir) -> Result<(PathBuf, Kind), CliError> {
    let pgdata = data_dir(args)?;
    match kind(&pgdata)? {
        Some(kind) => Ok((pgdata, kind)),
        None => Err(not_created(&pgdata)),
    }
}

/// The data directory of commands about a node only.
pub fn node_dir(args: &DataDir) -> Result<PathBuf, CliError> {
    match created(args)? {
        (pgdata, Kind::Node) => Ok(pgdata),
        (pgdata, Kind::Monitor) => Err(CliError::new(
            Status::BadArguments,
            format!("{} is the data directory of a monitor, and this command is about a PostgreSQL node", pgdata.display()),
        )),
    }
}

fn not_created(pgdata: &Path) -> CliError {
    CliError::not_created(format!(
        "{} is no data directory of a monitor or a node: there is neither {} nor {}",
        pgdata.display(),
        pgdata.join(MONITOR_FILE).display(),
        pg_autoctl_config(pgdata).display()
    ))
    .hint("check --pgdata or PGDATA; `pgquorum create monitor` and `pgquorum create postgres` make one")
}

fn from_uri(uri: &str, source: &str) -> Result<Located, CliError> {
    let target = Target::parse(uri)
        .map_err(|error| CliError::new(Status::BadArguments, error.to_string()).while_doing(source))?;
    Ok(Located::at(target))
}

fn from_data_dir(pgdata: &Path) -> Result<Located, CliError> {
    let pgdata = std::path::absolute(pgdata)?;
    match kind(&pgdata)? {
        Some(Kind::Monitor) => {
            let config =
                Config::load(&pgdata).map_err(|error| CliError::new(Status::BadConfiguration, error.to_string()))?;
            Ok(monitor_of(&config))
        }
        Some(Kind::Node) => from_pg_autoctl(&pg_autoctl_config(&pgdata)),
        None => Err(not_created(&pgdata)),
    }
}

/// All replicas of a monitor's configuration.
pub fn monitor_of(config: &Config) -> Located {
    let target = replicas_target(config);
    let sslmode = target.sslmode.clone();
    Located { sslmode, ..Located::at(target) }
}

/// This replica first: it is the nearest.
fn replicas_target(config: &Config) -> Target {
    let mut replicas: Vec<_> = config.replicas.iter().collect();
    replicas.sort_by_key(|replica| replica.name != config.name);
    let endpoints = replicas.iter().map(|r| Endpoint { host: r.host.clone(), port: r.port }).collect();
    let mut target = Target { password: config.password.clone(), ..Target::new(endpoints) };
    if let Some(tls) = &config.client_tls {
        target.sslmode = tls.sslmode.clone();
        if let Some(ca) = &tls.ca_file {
            target.others.insert("sslrootcert".to_string(), ca.display().to_string());
        }
    }
    target
}

/// `$XDG_CONFIG_HOME/pg_autoctl/<pgdata>/pg_autoctl.cfg`.
fn pg_autoctl_config(pgdata: &Path) -> PathBuf {
    let base = env::var_os("XDG_CONFIG_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))
        .unwrap_or_else(|| PathBuf::from(".config"));
    base.join("pg_autoctl").join(pgdata.strip_prefix("/").unwrap_or(pgdata)).join("pg_autoctl.cfg")
}

fn from_pg_autoctl(path: &Path) -> Result<Located, CliError> {
    let bad = |what: String| CliError::new(Status::BadConfiguration, format!("{}: {what}", path.display()));
    let ini = Ini::load_from_file(path).map_err(|error| bad(error.to_string()))?;
    let get = |section: &str, key: &str| ini.get_from(Some(section), key);
    let role = get("pg_autoctl", "role").ok_or_else(|| bad("[pg_autoctl] role is missing".to_string()))?;
    let mut located = if role == "monitor" {
        let host = get("pg_autoctl", "hostname").unwrap_or("127.0.0.1");
        let port = get("postgresql", "port").unwrap_or("5432");
        Located::at(Target::parse(&format!("host={host} port={port}")).map_err(|error| bad(error.to_string()))?)
    } else {
        let uri = get("pg_autoctl", "monitor").ok_or_else(|| bad("[pg_autoctl] monitor is missing".to_string()))?;
        if uri == "PG_AUTOCTL_DISABLED" {
            return Err(bad("this node runs without a monitor".to_string())
                .hint("name the monitors: --monitor URI"));
        }
        let mut located = Located::at(Target::parse(uri).map_err(|error| bad(error.to_string()))?);
        located.formation = get("pg_autoctl", "formation").map(str::to_string);
        located.group = get("pg_autoctl", "group").and_then(|group| group.parse().ok());
        located.node = get("pg_autoctl", "name").map(str::to_string);
        located
    };
    if let Some(sslmode) = get("ssl", "sslmode") {
        located.sslmode = sslmode.to_string();
    }
    Ok(located)
}
