//! Options of `show` and `watch`.

use clap::{Args, Subcommand};

use super::{DataDir, FormationArgs, GroupArgs, JsonArgs, MonitorArgs};

#[derive(Subcommand)]
pub enum Show {
    /// Connection strings: the monitors' and those of applications
    Uri(ShowUri),
    /// What happened, the newest last
    Events(ShowEvents),
    /// Nodes with their states
    State(ShowState),
    /// Replication settings of a formation
    Settings(ShowFormation),
    /// synchronous_standby_names of a group
    StandbyNames(ShowGroup),
    /// The monitors themselves: who leads, who lags, who is away
    Monitors(ShowMonitors),
    /// Timelines of a group's nodes, and where they forked
    Timeline(ShowGroup),
    /// Files of a PostgreSQL node of this machine
    File(ShowFile),
    /// A systemd unit for the monitor or the node of a data directory
    Systemd(ShowSystemd),
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
    #[arg(long, conflicts_with = "watch")]
    pub local: bool,
    /// Keep the screen up to date, as `watch` does
    #[arg(long)]
    pub watch: bool,
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
    #[arg(short = 'n', long, default_value_t = 10)]
    pub count: u32,
    /// Keep the screen up to date, as `watch` does
    #[arg(long)]
    pub watch: bool,
}

#[derive(Args)]
pub struct ShowUri {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// Print this formation's connection string alone; "monitor" prints the monitors'
    #[arg(short, long)]
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

#[derive(Args, Clone)]
pub struct Watch {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub group: GroupArgs,
    /// No screen: a line of JSON for each change, until it is interrupted
    #[arg(short = 'J', long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ShowSystemd {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct ShowFile {
    #[command(flatten)]
    pub data: DataDir,
    /// All four files (the default)
    #[arg(short, long)]
    pub all: bool,
    /// The configuration
    #[arg(short, long, conflicts_with_all = ["all", "state", "init", "pid"])]
    pub config: bool,
    /// The state
    #[arg(short, long, conflicts_with_all = ["all", "init", "pid"])]
    pub state: bool,
    /// What `create` found; exists until it is done
    #[arg(short, long, conflicts_with_all = ["all", "pid"])]
    pub init: bool,
    /// The running process
    #[arg(short, long, conflicts_with = "all")]
    pub pid: bool,
    /// Print what is in the file
    #[arg(short = 'C', long)]
    pub contents: bool,
    #[command(flatten)]
    pub json: JsonArgs,
}
