//! The command tree: pg_autoctl's, with what a replicated monitor adds. Long and short options are
//! those of pg_autoctl, so that scripts run with `ln -s pgquorum pg_autoctl`.

pub mod change;
pub mod create;
pub mod declared;
pub mod inspect;
pub mod play;
pub mod service;
pub mod show;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

pub use change::{DropVerb, Get, Perform, Set, Toggle};
pub use create::Create;
pub use inspect::Inspect;
pub use service::ConfigVerb;
pub use show::Show;

/// Automated failover for PostgreSQL with replicated monitors.
#[derive(Parser)]
#[command(
    name = "pgquorum",
    version,
    propagate_version = true,
    max_term_width = 100,
    infer_long_args = true,
    disable_help_subcommand = true
)]
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
    /// Drop a monitor, a node or a formation
    #[command(subcommand)]
    Drop(DropVerb),
    /// Check, read or change the configuration of a PostgreSQL node of this machine
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Show what the monitors know, and the files of this machine
    #[command(subcommand)]
    Show(Show),
    /// Enable maintenance, secondaries, TLS or a monitor
    #[command(subcommand)]
    Enable(Toggle),
    /// Disable maintenance, secondaries, TLS or the monitor
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
    /// Tell why the monitors did what they did, and what they wait for
    Explain(play::Explain),
    /// Play out on the live state what would follow from deaths; nothing is touched
    Simulate(play::Simulate),
    /// Look at a failover on this machine: a cluster comes up, its leader and its primary die
    Demo(play::Demo),
    /// Run the monitor or the node of a data directory in the foreground
    Run(service::RunArgs),
    /// A screen of monitors, nodes and events that keeps itself up to date
    Watch(show::Watch),
    /// Stop the monitor or the node of a data directory
    Stop(service::StopArgs),
    /// Have the monitor or the node of a data directory read its configuration again
    Reload(service::ReloadArgs),
    /// Tell whether the monitor or the node of a data directory runs
    Status(service::StatusArgs),
    /// A node or a monitor as a file describes it, for containers
    #[command(subcommand)]
    Node(declared::NodeVerb),
    /// Look below: state machine, setup, network, processes
    #[command(subcommand)]
    Inspect(Inspect),
    /// Print the command tree, the help of a command, shell completions or man pages
    Help(HelpArgs),
    /// Print the release and the API version
    Version(JsonArgs),
    /// Citus: comes later
    #[command(hide = true, disable_help_flag = true)]
    Activate(Anything),
    /// Timelines are accepted by the election
    #[command(hide = true, disable_help_flag = true)]
    Accept(Anything),
}

/// Whatever follows a command that does not exist yet.
#[derive(Args)]
pub struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<String>,
}

/// A data directory.
#[derive(Args, Clone)]
pub struct DataDir {
    /// Data directory [env: PGDATA]
    #[arg(short = 'D', long, value_name = "DIR")]
    pub pgdata: Option<PathBuf>,
}

/// Where the monitors are.
#[derive(Args, Clone)]
pub struct MonitorArgs {
    /// Monitors: one URI (it may name several hosts), a comma list of URIs, or host:port,host:port
    /// [env: PG_AUTOCTL_MONITOR]
    #[arg(short, long, value_name = "URI")]
    pub monitor: Option<String>,
    #[command(flatten)]
    pub data: DataDir,
}

#[derive(Args, Clone)]
pub struct FormationArgs {
    /// Formation [default: that of --pgdata, or "default"]
    #[arg(short, long)]
    pub formation: Option<String>,
}

#[derive(Args, Clone)]
pub struct GroupArgs {
    #[command(flatten)]
    pub formation: FormationArgs,
    /// Group [default: that of --pgdata, or all]
    #[arg(short, long)]
    pub group: Option<i32>,
}

#[derive(Args, Clone)]
pub struct NodeArgs {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub formation: FormationArgs,
    /// Name of the node [default: that of --pgdata] [env: PG_AUTOCTL_NODE_NAME]
    #[arg(short, long)]
    pub name: Option<String>,
}

#[derive(Args, Clone)]
pub struct JsonArgs {
    /// Print JSON
    #[arg(short = 'J', long)]
    pub json: bool,
}

#[derive(Args, Clone)]
pub struct WaitArgs {
    /// Seconds to wait until it is done; 0 returns at once
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
    /// Return at once: the same as --wait 0
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
}

impl WaitArgs {
    /// Seconds to wait; `None`: not at all.
    pub fn seconds(&self) -> Option<u64> {
        (!self.no_wait && self.wait > 0).then_some(self.wait)
    }
}

#[derive(Args)]
pub struct HelpArgs {
    /// A command such as `perform failover`; or `completions bash|zsh|fish`, `man DIR`, `reference`
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub words: Vec<String>,
}
