//! Options of what changes nodes and formations.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Subcommand};

use super::create::SslArgs;
use super::show::ShowFormation;
use super::{DataDir, FormationArgs, GroupArgs, JsonArgs, MonitorArgs, NodeArgs, WaitArgs};

#[derive(Subcommand)]
pub enum DropVerb {
    /// Stop a monitor of this machine and forget it
    Monitor(DropMonitor),
    /// Remove a node from the monitors
    Node(DropNode),
    /// Drop a formation that has no nodes
    Formation(DropFormation),
}

#[derive(Args)]
pub struct DropMonitor {
    #[command(flatten)]
    pub data: DataDir,
    /// Remove the data directory, too: this replica's copy of the state is gone
    #[arg(short, long)]
    pub destroy: bool,
    /// Although the monitors that remain are no majority: nothing fails over any more
    #[arg(long)]
    pub force: bool,
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
    #[arg(short = 'n', long, requires = "pgport")]
    pub hostname: Option<String>,
    /// Port of the node, with --hostname
    #[arg(short, long, value_name = "PORT", requires = "hostname")]
    pub pgport: Option<u16>,
    /// Forget the node although it cannot confirm that it stopped
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
    #[command(flatten)]
    pub json: JsonArgs,
    /// Remove the data directory, too; only for the node of --pgdata
    #[arg(short, long)]
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
    #[arg(short, long)]
    pub formation: String,
}

#[derive(Subcommand)]
pub enum Toggle {
    /// Secondaries of a formation
    Secondary(SecondaryArgs),
    /// Maintenance of a node
    Maintenance(Maintenance),
    /// TLS of the node of a data directory
    Ssl(ToggleSsl),
    /// The monitor of the node of a data directory
    Monitor(ToggleMonitor),
}

#[derive(Args)]
pub struct Maintenance {
    #[command(flatten)]
    pub node: NodeArgs,
    /// Fail over first when the node is the primary
    #[arg(short = 'A', long)]
    pub allow_failover: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct SecondaryArgs {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub formation: FormationArgs,
}

#[derive(Args)]
pub struct ToggleSsl {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub ssl: SslArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct ToggleMonitor {
    #[command(flatten)]
    pub data: DataDir,
    /// Where the new monitors are (enable)
    #[arg(value_name = "URI")]
    pub uri: Option<String>,
    /// The node may be the primary (enable)
    #[arg(short = 'A', long)]
    pub allow_failover: bool,
    /// Although the monitor cannot be told (disable)
    #[arg(short = 'F', long)]
    pub force: bool,
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
    /// Does the node take part in the quorum that confirms commits
    ReplicationQuorum(GetNodeArgs),
    /// Preference in elections, 0 (never) to 100
    CandidatePriority(GetNodeArgs),
    /// Where the node is: a label, which no election looks at
    Region(GetNodeArgs),
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
    /// Name, host and port of the node of a data directory
    Metadata(SetMetadata),
    /// Does the node take part in the quorum that confirms commits
    ReplicationQuorum(SetQuorum),
    /// Preference in elections, 0 (never) to 100
    CandidatePriority(SetPriority),
    /// Where the node is: a label, which no election looks at
    Region(SetRegion),
}

#[derive(Args)]
pub struct SetMetadata {
    #[command(flatten)]
    pub data: DataDir,
    /// The node's new name
    #[arg(short, long)]
    pub name: Option<String>,
    /// The node's new host name or address
    #[arg(short = 'H', long)]
    pub hostname: Option<String>,
    /// The present port; another one is for `run --pgport`
    #[arg(short, long, value_name = "PORT")]
    pub pgport: Option<u16>,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct SetPriority {
    #[command(flatten)]
    pub node: NodeArgs,
    #[command(flatten)]
    pub json: JsonArgs,
    #[command(flatten)]
    pub wait: WaitArgs,
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
    #[command(flatten)]
    pub wait: WaitArgs,
    /// true or false
    #[arg(value_name = "BOOLEAN", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    pub value: bool,
}

#[derive(Args)]
pub struct SetRegion {
    #[command(flatten)]
    pub node: NodeArgs,
    #[command(flatten)]
    pub json: JsonArgs,
    /// Name of the region, such as that of a data centre
    #[arg(value_name = "REGION")]
    pub value: String,
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
    #[command(flatten)]
    pub wait: WaitArgs,
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
    #[command(flatten)]
    pub json: JsonArgs,
    #[command(flatten)]
    pub sessions: Sessions,
    /// Promote although writes that clients were told are safe may be lost
    #[arg(long)]
    pub allow_data_loss: bool,
}

#[derive(Args)]
pub struct Promotion {
    #[command(flatten)]
    pub node: NodeArgs,
    // pg_autoctl takes it and finds the group by the name.
    #[arg(short, long, hide = true)]
    pub group: Option<i32>,
    #[command(flatten)]
    pub wait: WaitArgs,
    #[command(flatten)]
    pub json: JsonArgs,
    #[command(flatten)]
    pub sessions: Sessions,
}

/// What becomes of the sessions on a primary that is to be replaced.
#[derive(Args)]
pub struct Sessions {
    /// Let transactions that are open now end first, for so long; writes go on meanwhile, and nothing is
    /// changed when some are still open then
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub drain: u64,
    /// Cut sessions, also those whose transactions are still open after --drain; without --drain all are cut
    #[arg(long)]
    pub force: bool,
}

impl SslArgs {
    /// Files that were named.
    pub fn own_certificates(&self) -> [&Option<PathBuf>; 4] {
        [&self.ssl_ca_file, &self.ssl_crl_file, &self.server_cert, &self.server_key]
    }
}
