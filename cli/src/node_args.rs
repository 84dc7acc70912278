//! Options of the commands that work on a PostgreSQL node of this machine.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Subcommand};

use crate::args::{DataDir, JsonArgs};

#[derive(Args)]
pub struct CreatePostgres {
    #[command(flatten)]
    pub data: DataDir,
    /// pg_ctl of the PostgreSQL to run [default: by PG_CONFIG, or the only one in PATH]
    #[arg(long, value_name = "FILE")]
    pub pgctl: Option<PathBuf>,
    /// Directory of PostgreSQL's Unix socket [default: PostgreSQL's own]
    #[arg(long, value_name = "DIR", env = "PGHOST")]
    pub pghost: Option<String>,
    /// PostgreSQL's port
    #[arg(long, value_name = "PORT", env = "PGPORT", default_value_t = 5432)]
    pub pgport: u16,
    /// Addresses that PostgreSQL listens on
    #[arg(long, value_name = "ADDRESSES", default_value = "*")]
    pub listen: String,
    /// Superuser of the cluster [default: the user that runs this]
    #[arg(long, value_name = "NAME", env = "PGUSER")]
    pub username: Option<String>,
    /// Database of the application
    #[arg(long, value_name = "NAME", env = "PGDATABASE", default_value = "postgres")]
    pub dbname: String,
    /// Name of the node [default: node_N]
    #[arg(long, env = "PG_AUTOCTL_NODE_NAME")]
    pub name: Option<String>,
    /// Name or address that the other nodes and the monitors reach this one by [default: its address
    /// on the way to the monitor]
    #[arg(long)]
    pub hostname: Option<String>,
    /// Formation to join
    #[arg(long, default_value = "default")]
    pub formation: String,
    /// Monitors: one URI (it may name several hosts), a comma list of URIs, or host:port,host:port
    #[arg(long, value_name = "URI", env = "PG_AUTOCTL_MONITOR", hide_env_values = true)]
    pub monitor: String,
    /// How the nodes prove to each other who they are: trust, md5 or scram-sha-256
    #[arg(long, value_name = "METHOD", env = "PG_AUTOCTL_AUTH_METHOD", default_value = "trust")]
    pub auth: String,
    /// Leave pg_hba.conf alone
    #[arg(long)]
    pub skip_pg_hba: bool,
    /// Let in the whole local network
    #[arg(long, env = "PG_AUTOCTL_PG_HBA_LAN", value_parser = BoolishValueParser::new())]
    pub pg_hba_lan: bool,
    /// 0 to 100; 0 is never promoted
    #[arg(long, value_name = "N", env = "PG_AUTOCTL_CANDIDATE_PRIORITY", default_value_t = 50)]
    pub candidate_priority: i32,
    /// Do commits wait for this node?
    #[arg(long, value_name = "BOOLEAN", env = "PG_AUTOCTL_REPLICATION_QUORUM", default_value = "true",
          value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub replication_quorum: bool,
    /// At most so much per second when the primary is copied
    #[arg(long, value_name = "RATE", default_value = "100M")]
    pub maximum_backup_rate: String,
    /// Talk without TLS
    #[arg(long)]
    pub no_ssl: bool,
    /// TLS with a certificate that is made here
    #[arg(long, env = "PG_AUTOCTL_SSL_SELF_SIGNED", value_parser = BoolishValueParser::new())]
    pub ssl_self_signed: bool,
    /// sslmode of the nodes' connections to each other
    #[arg(long, value_name = "MODE")]
    pub ssl_mode: Option<String>,
    /// Certificates of the authority to trust
    #[arg(long, value_name = "FILE")]
    pub ssl_ca_file: Option<PathBuf>,
    /// Certificates that the authority took back
    #[arg(long, value_name = "FILE")]
    pub ssl_crl_file: Option<PathBuf>,
    /// PostgreSQL's own certificate
    #[arg(long, value_name = "FILE", requires = "server_key")]
    pub server_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "server_cert")]
    pub server_key: Option<PathBuf>,
    /// Stay in the foreground and run the node
    #[arg(long)]
    pub run: bool,
}

#[derive(Subcommand)]
pub enum ConfigVerb {
    /// Check the node's configuration
    Check(ConfigCheck),
    /// Print one setting, or all
    Get(ConfigGet),
    /// Change a setting; `pgquorum reload` has the running node take it up
    Set(ConfigSet),
}

#[derive(Args)]
pub struct ConfigCheck {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct ConfigGet {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub json: JsonArgs,
    /// section.option; all settings without it
    pub setting: Option<String>,
}

#[derive(Args)]
pub struct ConfigSet {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub json: JsonArgs,
    /// section.option
    pub setting: String,
    pub value: String,
}

#[derive(Args)]
pub struct ShowFile {
    #[command(flatten)]
    pub data: DataDir,
    /// All four files (the default)
    #[arg(long)]
    pub all: bool,
    /// The configuration
    #[arg(long, conflicts_with_all = ["all", "state", "init", "pid"])]
    pub config: bool,
    /// The state
    #[arg(long, conflicts_with_all = ["all", "init", "pid"])]
    pub state: bool,
    /// What `create` found; exists until it is done
    #[arg(long, conflicts_with_all = ["all", "pid"])]
    pub init: bool,
    /// The running process
    #[arg(long, conflicts_with = "all")]
    pub pid: bool,
    /// Print what is in the file
    #[arg(long)]
    pub contents: bool,
    #[command(flatten)]
    pub json: JsonArgs,
}
