//! The command tree: pg_autoctl's, with `show monitors` and the options of a replicated monitor.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::node_args::{ConfigVerb, CreatePostgres, ShowFile};

/// Automated failover for PostgreSQL with replicated monitors.
#[derive(Parser)]
#[command(name = "pgquorum", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Say more; twice says everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Create a monitor, a PostgreSQL node or a formation
    #[command(subcommand)]
    Create(Create),
    /// Drop a node or a formation
    #[command(subcommand)]
    Drop(DropVerb),
    /// Show what the monitors know
    #[command(subcommand)]
    Show(Show),
    /// Enable maintenance of a node or the secondaries of a formation
    #[command(subcommand)]
    Enable(Toggle),
    /// Disable maintenance of a node or the secondaries of a formation
    #[command(subcommand)]
    Disable(Toggle),
    /// Read a setting of a node or a formation
    #[command(subcommand)]
    Get(Get),
    /// Change a setting of a node or a formation
    #[command(subcommand)]
    Set(Set),
    /// Have the monitors fail over, now
    #[command(subcommand)]
    Perform(Perform),
    /// Check, read or change the configuration of a PostgreSQL node of this machine
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Run the monitor or the node of a data directory in the foreground
    Run(RunArgs),
    /// Stop the monitor or the node of a data directory
    Stop(StopArgs),
    /// Have the monitor or the node of a data directory read its configuration again
    Reload(DataDir),
    /// Tell whether the monitor or the node of a data directory runs
    Status(StatusArgs),
    /// Print the release and the API version
    Version(JsonArgs),
}

/// A data directory.
#[derive(Args, Clone)]
pub struct DataDir {
    /// Data directory [env: PGDATA]
    #[arg(long, value_name = "DIR")]
    pub pgdata: Option<PathBuf>,
}

/// Where the monitors are.
#[derive(Args, Clone)]
pub struct MonitorArgs {
    /// Monitors: one URI (it may name several hosts), a comma list of URIs, or host:port,host:port
    /// [env: PG_AUTOCTL_MONITOR]
    #[arg(long, value_name = "URI")]
    pub monitor: Option<String>,
    /// Data directory of a monitor or of a node; its configuration names the monitors [env: PGDATA]
    #[arg(long, value_name = "DIR")]
    pub pgdata: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub struct FormationArgs {
    /// Formation [default: that of --pgdata, or "default"]
    #[arg(long)]
    pub formation: Option<String>,
}

#[derive(Args, Clone)]
pub struct GroupArgs {
    #[command(flatten)]
    pub formation: FormationArgs,
    /// Group [default: that of --pgdata, or all]
    #[arg(long)]
    pub group: Option<i32>,
}

#[derive(Args, Clone)]
pub struct NodeArgs {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub formation: FormationArgs,
    /// Name of the node [default: that of --pgdata]
    #[arg(long)]
    pub name: Option<String>,
}

#[derive(Args, Clone)]
pub struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone)]
pub struct WaitArgs {
    /// Seconds to wait until it is done; 0 returns at once
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
}

#[derive(Subcommand)]
pub enum Create {
    /// Initialise a monitor: one of several replicas, or one alone
    Monitor(Box<CreateMonitor>),
    /// Make a PostgreSQL node, the first one or a standby; killed at any point, the same command goes on
    Postgres(Box<CreatePostgres>),
    /// Create a formation
    Formation(CreateFormation),
}

impl Create {
    /// It stays in the foreground as a service.
    pub fn runs(&self) -> bool {
        match self {
            Create::Monitor(args) => args.run,
            Create::Postgres(args) => args.run,
            Create::Formation(_) => false,
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
    #[arg(long)]
    pub hostname: Option<String>,
    /// SQL port [default: that of --replicas, PGPORT or 5432]
    #[arg(long, value_name = "PORT")]
    pub pgport: Option<u16>,
    /// Addresses to listen on for SQL, separated by commas
    #[arg(long, value_name = "ADDRESSES", default_value = "*")]
    pub listen: String,
    /// All replicas, the same text on every machine: name=host:port[:replica_port],... The replicas'
    /// own port is the SQL port + 10000 unless named
    #[arg(long, value_name = "LIST")]
    pub replicas: Option<String>,
    /// How clients prove who they are: trust or scram-sha-256 (password in PG_AUTOCTL_NODE_PASSWORD)
    #[arg(long, value_name = "METHOD", env = "PG_AUTOCTL_AUTH_METHOD")]
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
    /// Stay in the foreground and run the monitor
    #[arg(long)]
    pub run: bool,
}

/// pg_autoctl's choices of TLS for clients.
#[derive(Args)]
pub struct SslArgs {
    /// Serve clients without TLS
    #[arg(long)]
    pub no_ssl: bool,
    /// Make a key and a certificate: traffic is encrypted, nobody is verified
    #[arg(long)]
    pub ssl_self_signed: bool,
    /// sslmode of the connection strings that are given out [default: require, or verify-full]
    #[arg(long, value_name = "MODE", value_parser = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])]
    pub ssl_mode: Option<String>,
    /// Certificate of the authority that signed the others
    #[arg(long, value_name = "FILE")]
    pub ssl_ca_file: Option<PathBuf>,
    /// Certificates that the authority has revoked
    #[arg(long, value_name = "FILE", requires = "ssl_ca_file")]
    pub ssl_crl_file: Option<PathBuf>,
    /// Certificate of this monitor
    #[arg(long, value_name = "FILE", requires = "server_key")]
    pub server_cert: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "server_cert")]
    pub server_key: Option<PathBuf>,
}

#[derive(Args)]
pub struct CreateFormation {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// Name of the formation
    #[arg(long)]
    pub formation: String,
    /// Kind of nodes
    #[arg(long, default_value = "pgsql")]
    pub kind: String,
    /// Database of the application
    #[arg(long, default_value = "postgres")]
    pub dbname: String,
    /// Nodes may have standbys (the default)
    #[arg(long, conflicts_with = "disable_secondary")]
    pub enable_secondary: bool,
    /// Nodes have no standbys
    #[arg(long)]
    pub disable_secondary: bool,
    /// Standbys that must confirm every commit beyond the first candidate
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub number_sync_standbys: i32,
}

#[derive(Subcommand)]
pub enum DropVerb {
    /// Remove a node from the monitors
    Node(DropNode),
    /// Drop a formation that has no nodes
    Formation(DropFormation),
}

#[derive(Args)]
pub struct DropNode {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub formation: FormationArgs,
    /// Name of the node
    #[arg(long, conflicts_with = "hostname")]
    pub name: Option<String>,
    /// Host of the node, with --pgport
    #[arg(long, requires = "pgport")]
    pub hostname: Option<String>,
    /// Port of the node, with --hostname
    #[arg(long, value_name = "PORT", requires = "hostname")]
    pub pgport: Option<u16>,
    /// Forget the node although it cannot confirm that it stopped
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Remove the data directory, too; only for the node of --pgdata
    #[arg(long)]
    pub destroy: bool,
}

impl DropNode {
    /// No other node is named: it is the one of this data directory.
    pub fn is_local(&self) -> bool {
        let named = self.name.is_some() || self.hostname.is_some();
        !named && self.monitor.monitor.is_none()
    }
}

#[derive(Args)]
pub struct DropFormation {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// Name of the formation
    #[arg(long)]
    pub formation: String,
}

#[derive(Subcommand)]
pub enum Show {
    /// Nodes with their states
    State(ShowState),
    /// Files of a PostgreSQL node of this machine
    File(ShowFile),
    /// What happened, the newest last
    Events(ShowEvents),
    /// Connection strings: the monitors' and those of applications
    Uri(ShowUri),
    /// The monitors themselves: who leads, who lags, who is away
    Monitors(ShowMonitors),
    /// Replication settings of a formation
    Settings(ShowFormation),
    /// synchronous_standby_names of a group
    StandbyNames(ShowGroup),
}

#[derive(Args, Clone)]
pub struct ShowGroup {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub group: GroupArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct ShowState {
    #[command(flatten)]
    pub show: ShowGroup,
    /// What the node of --pgdata knows by itself; no monitor is asked
    #[arg(long)]
    pub local: bool,
}

#[derive(Args, Clone)]
pub struct ShowFormation {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub formation: FormationArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct ShowEvents {
    #[command(flatten)]
    pub show: ShowGroup,
    /// How many
    #[arg(long, default_value_t = 10)]
    pub count: u32,
}

#[derive(Args)]
pub struct ShowUri {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// Print this formation's connection string alone; "monitor" prints the monitors'
    #[arg(long)]
    pub formation: Option<String>,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct ShowMonitors {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Subcommand)]
pub enum Toggle {
    /// Maintenance of a node
    Maintenance(Maintenance),
    /// Secondaries of a formation
    Secondary(SecondaryArgs),
}

#[derive(Args)]
pub struct Maintenance {
    #[command(flatten)]
    pub node: NodeArgs,
    /// Fail over first when the node is the primary
    #[arg(long)]
    pub allow_failover: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Args)]
pub struct SecondaryArgs {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub formation: FormationArgs,
}

#[derive(Subcommand)]
pub enum Get {
    /// A setting of a node
    #[command(subcommand)]
    Node(GetNode),
    /// A setting of a formation
    #[command(subcommand)]
    Formation(GetFormation),
}

#[derive(Subcommand)]
pub enum GetNode {
    /// Preference in elections, 0 (never) to 100
    CandidatePriority(GetNodeArgs),
    /// Does the node take part in the quorum that confirms commits
    ReplicationQuorum(GetNodeArgs),
}

#[derive(Args)]
pub struct GetNodeArgs {
    #[command(flatten)]
    pub node: NodeArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Subcommand)]
pub enum GetFormation {
    /// All replication settings
    Settings(ShowFormation),
    /// Standbys that must confirm every commit
    NumberSyncStandbys(ShowFormation),
}

#[derive(Subcommand)]
pub enum Set {
    /// A setting of a node
    #[command(subcommand)]
    Node(SetNode),
    /// A setting of a formation
    #[command(subcommand)]
    Formation(SetFormation),
}

#[derive(Subcommand)]
pub enum SetNode {
    /// Preference in elections, 0 (never) to 100
    CandidatePriority(SetPriority),
    /// Does the node take part in the quorum that confirms commits
    ReplicationQuorum(SetQuorum),
}

#[derive(Args)]
pub struct SetPriority {
    #[command(flatten)]
    pub node: NodeArgs,
    #[command(flatten)]
    pub json: JsonArgs,
    /// 0 (never promote) to 100
    #[arg(value_name = "PRIORITY", value_parser = clap::value_parser!(i32).range(0..=100))]
    pub value: i32,
}

#[derive(Args)]
pub struct SetQuorum {
    #[command(flatten)]
    pub node: NodeArgs,
    #[command(flatten)]
    pub json: JsonArgs,
    /// true or false
    #[arg(value_name = "BOOLEAN", value_parser = clap::builder::BoolishValueParser::new(), action = ArgAction::Set)]
    pub value: bool,
}

#[derive(Subcommand)]
pub enum SetFormation {
    /// Standbys that must confirm every commit
    NumberSyncStandbys(SetNumber),
}

#[derive(Args)]
pub struct SetNumber {
    #[command(flatten)]
    pub show: ShowFormation,
    /// How many
    #[arg(value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub value: i32,
}

#[derive(Subcommand)]
pub enum Perform {
    /// Promote the best standby; the primary steps down
    Failover(Failover),
    /// The same, by the name that says that nothing failed
    Switchover(Failover),
    /// Promote one node of your choice
    Promotion(Promotion),
}

#[derive(Args)]
pub struct Failover {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub group: GroupArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Promote although writes that clients were told are safe may be lost
    #[arg(long)]
    pub allow_data_loss: bool,
}

#[derive(Args)]
pub struct Promotion {
    #[command(flatten)]
    pub node: NodeArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// Move this replica's store aside and come back as a new member, filled by the others
    #[arg(long)]
    pub rejoin: bool,
    /// The node's new name
    #[arg(long, conflicts_with = "rejoin")]
    pub name: Option<String>,
    /// The node's new host name or address
    #[arg(long, conflicts_with = "rejoin")]
    pub hostname: Option<String>,
    /// Not supported yet: the port of a node stays
    #[arg(long, value_name = "PORT", conflicts_with = "rejoin")]
    pub pgport: Option<u16>,
}

#[derive(Args)]
pub struct StopArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// Send SIGINT
    #[arg(long, conflicts_with = "immediate")]
    pub fast: bool,
    /// Send SIGQUIT: stop without cleaning up
    #[arg(long)]
    pub immediate: bool,
    /// A node's keeper ends and PostgreSQL runs on, for the next keeper: an upgrade
    #[arg(long, conflicts_with_all = ["fast", "immediate"])]
    pub leave_postgres: bool,
}

#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub json: JsonArgs,
}
