//! Options of `create`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Subcommand};

use super::{Anything, DataDir, MonitorArgs};

#[derive(Subcommand)]
pub enum Create {
    /// Initialise a monitor: one of several replicas, or one alone
    Monitor(Box<CreateMonitor>),
    /// Make a PostgreSQL node, the first one or a standby; killed at any point, the same command goes on
    Postgres(Box<CreatePostgres>),
    /// Citus: comes later
    #[command(disable_help_flag = true)]
    Coordinator(Anything),
    /// Citus: comes later
    #[command(disable_help_flag = true)]
    Worker(Anything),
    /// Create a formation
    Formation(CreateFormation),
}

impl Create {
    /// It stays in the foreground as a service.
    pub fn runs(&self) -> bool {
        match self {
            Create::Monitor(args) => args.run,
            Create::Postgres(args) => args.run,
            _ => false,
        }
    }
}

#[derive(Args)]
pub struct CreateMonitor {
    #[command(flatten)]
    pub data: DataDir,
    /// Name of this replica, as it stands in --replicas
    #[arg(long)]
    pub name: Option<String>,
    /// Name or address that nodes and the other replicas reach this one by
    #[arg(short = 'n', long)]
    pub hostname: Option<String>,
    /// SQL port [default: that of --replicas, PGPORT or 5432]
    #[arg(short, long, value_name = "PORT")]
    pub pgport: Option<u16>,
    /// Addresses to listen on for SQL, separated by commas
    #[arg(short, long, value_name = "ADDRESSES", default_value = "*")]
    pub listen: String,
    /// All replicas, the same text on every machine: name=host:port[:replica_port],... The replicas'
    /// own port is the SQL port + 10000 unless named
    #[arg(long, value_name = "LIST")]
    pub replicas: Option<String>,
    /// How clients prove who they are: trust or scram-sha-256 (password in PG_AUTOCTL_NODE_PASSWORD)
    #[arg(short = 'A', long, value_name = "METHOD", env = "PG_AUTOCTL_AUTH_METHOD")]
    pub auth: Option<String>,
    #[command(flatten)]
    pub ssl: SslArgs,
    /// CA certificate of the replicas' own channel
    #[arg(long, value_name = "FILE", requires_all = ["replica_cert_file", "replica_key_file"])]
    pub replica_ca_file: Option<PathBuf>,
    /// Certificate of this replica for the replicas' own channel
    #[arg(long, value_name = "FILE", requires = "replica_ca_file")]
    pub replica_cert_file: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "replica_ca_file")]
    pub replica_key_file: Option<PathBuf>,
    /// Let SQL clients overwrite the replicated state. For regression tests on loopback, never else
    #[arg(long)]
    pub test_mode: bool,
    // A monitor has no PostgreSQL of its own any more: what names one is taken and not used.
    #[arg(short = 'C', long, hide = true)]
    pub pgctl: Option<PathBuf>,
    #[arg(short = 'S', long, hide = true)]
    pub skip_pg_hba: bool,
    // For pg_autoctl's sake; in the environment nobody reads it.
    #[arg(long, value_name = "PASSWORD", hide = true)]
    pub autoctl_node_password: Option<String>,
    /// Stay in the foreground and run the monitor
    #[arg(short = 'x', long)]
    pub run: bool,
}

/// pg_autoctl's choices of TLS: exactly one of self-signed, own certificates, none.
#[derive(Args, Clone)]
pub struct SslArgs {
    /// TLS with a certificate that is made here (encrypts, proves nobody's identity)
    #[arg(short, long, env = "PG_AUTOCTL_SSL_SELF_SIGNED", value_parser = BoolishValueParser::new())]
    pub ssl_self_signed: bool,
    /// sslmode of connection strings [default: prefer without TLS, require when self-signed, else verify-full]
    #[arg(long, value_name = "MODE", value_parser = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])]
    pub ssl_mode: Option<String>,
    /// Certificates of the authority to trust
    #[arg(long, value_name = "FILE")]
    pub ssl_ca_file: Option<PathBuf>,
    /// Certificates that the authority took back
    #[arg(long, value_name = "FILE", requires = "ssl_ca_file")]
    pub ssl_crl_file: Option<PathBuf>,
    /// Talk without TLS
    #[arg(short = 'N', long)]
    pub no_ssl: bool,
    /// The server's own key
    #[arg(long, value_name = "FILE", requires = "server_cert")]
    pub server_key: Option<PathBuf>,
    /// The server's own certificate
    #[arg(long, value_name = "FILE", requires = "server_key")]
    pub server_cert: Option<PathBuf>,
}

#[derive(Args)]
pub struct CreatePostgres {
    #[command(flatten)]
    pub data: DataDir,
    /// pg_ctl of the PostgreSQL to run [default: by PG_CONFIG, or the only one in PATH]
    #[arg(short = 'C', long, value_name = "FILE")]
    pub pgctl: Option<PathBuf>,
    /// Directory of PostgreSQL's Unix socket [default: PostgreSQL's own]
    #[arg(short = 'H', long, value_name = "DIR", env = "PGHOST")]
    pub pghost: Option<String>,
    /// PostgreSQL's port
    #[arg(short, long, value_name = "PORT", env = "PGPORT", default_value_t = 5432)]
    pub pgport: u16,
    /// Addresses that PostgreSQL listens on
    #[arg(short, long, value_name = "ADDRESSES", default_value = "*")]
    pub listen: String,
    /// Superuser of the cluster [default: the user that runs this]
    #[arg(short = 'U', long, value_name = "NAME", env = "PGUSER")]
    pub username: Option<String>,
    /// Database of the application
    #[arg(short, long, value_name = "NAME", env = "PGDATABASE", default_value = "postgres")]
    pub dbname: String,
    /// Name of the node [default: node_N]
    #[arg(short = 'a', long, env = "PG_AUTOCTL_NODE_NAME")]
    pub name: Option<String>,
    /// Name or address that the other nodes and the monitors reach this one by [default: its address
    /// on the way to the monitor]
    #[arg(short = 'n', long)]
    pub hostname: Option<String>,
    /// Formation to join
    #[arg(short, long, default_value = "default")]
    pub formation: String,
    /// Monitors: one URI (it may name several hosts), a comma list of URIs, or host:port,host:port
    #[arg(short, long, value_name = "URI", env = "PG_AUTOCTL_MONITOR", hide_env_values = true,
          required_unless_present = "disable_monitor")]
    pub monitor: Option<String>,
    /// No monitors: goals are given with `inspect fsm assign`, and nothing fails over by itself
    #[arg(long, requires = "node_id")]
    pub disable_monitor: bool,
    /// Number of the node in its group, when there is no monitor to give one
    #[arg(long, value_name = "N", requires = "disable_monitor", value_parser = clap::value_parser!(i64).range(1..))]
    pub node_id: Option<i64>,
    /// How the nodes prove to each other who they are: trust, md5 or scram-sha-256
    #[arg(short = 'A', long, value_name = "METHOD", env = "PG_AUTOCTL_AUTH_METHOD", default_value = "trust")]
    pub auth: String,
    /// Leave pg_hba.conf alone
    #[arg(short = 'S', long)]
    pub skip_pg_hba: bool,
    /// Let in the whole local network
    #[arg(short = 'L', long, env = "PG_AUTOCTL_PG_HBA_LAN", value_parser = BoolishValueParser::new())]
    pub pg_hba_lan: bool,
    /// 0 to 100; 0 is never promoted
    #[arg(short = 'P', long, value_name = "N", env = "PG_AUTOCTL_CANDIDATE_PRIORITY", default_value_t = 50)]
    pub candidate_priority: i32,
    /// Do commits wait for this node?
    #[arg(short, long, value_name = "BOOLEAN", env = "PG_AUTOCTL_REPLICATION_QUORUM", default_value = "true",
          value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub replication_quorum: bool,
    /// Where the node is: a label, which no election looks at [default: default]
    #[arg(long)]
    pub region: Option<String>,
    /// At most so much per second when the primary is copied
    #[arg(short = 'R', long, value_name = "RATE", default_value = "100M")]
    pub maximum_backup_rate: String,
    // For pg_autoctl's sake; in the environment nobody reads it.
    #[arg(long, value_name = "PASSWORD", hide = true)]
    pub replication_password: Option<String>,
    // That of the monitors' probes, which do not log in here.
    #[arg(long, value_name = "PASSWORD", hide = true)]
    pub monitor_password: Option<String>,
    #[command(flatten)]
    pub ssl: SslArgs,
    /// Stay in the foreground and run the node
    #[arg(short = 'x', long)]
    pub run: bool,
}

#[derive(Args)]
pub struct CreateFormation {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// Name of the formation
    #[arg(short, long)]
    pub formation: String,
    /// Kind of nodes
    #[arg(short, long, default_value = "pgsql")]
    pub kind: String,
    /// Database of the application
    #[arg(long, default_value = "postgres")]
    pub dbname: String,
    /// Nodes may have standbys (the default)
    #[arg(short = 's', long, alias = "with-secondary", conflicts_with = "disable_secondary")]
    pub enable_secondary: bool,
    /// Nodes have no standbys
    #[arg(short = 'S', long, alias = "without-secondary")]
    pub disable_secondary: bool,
    /// Standbys that must confirm every commit beyond the first candidate
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub number_sync_standbys: i32,
}

