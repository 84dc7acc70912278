//! Options of `inspect` (`do` in pg_autoctl): what an operator or a test needs from below.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Anything, DataDir, JsonArgs, MonitorArgs};

#[derive(Subcommand)]
pub enum Inspect {
    /// Ask the monitors what keepers ask them
    #[command(subcommand)]
    Monitor(InspectMonitor),
    /// The state machine: of the keeper, and the failover rules
    #[command(subcommand)]
    Fsm(Fsm),
    /// Addresses and names of this machine
    #[command(subcommand)]
    Show(InspectShow),
    /// PostgreSQL of this machine
    #[command(subcommand)]
    Pgsetup(PgSetup),
    /// Replication slots and settings of the primary of this machine
    #[command(subcommand)]
    Primary(Primary),
    /// Processes of a running node
    #[command(subcommand)]
    Service(Service),
    /// The application's connection string
    #[command(subcommand)]
    Demo(InspectDemo),
    /// The keeper does this by itself
    #[command(hide = true, disable_help_flag = true)]
    Standby(Anything),
    /// Citus: comes later
    #[command(hide = true, disable_help_flag = true)]
    Coordinator(Anything),
    /// The keeper does this by itself
    #[command(hide = true, disable_help_flag = true)]
    Pgctl(Anything),
    /// Not provided
    #[command(hide = true, disable_help_flag = true)]
    Tmux(Anything),
    /// Not provided
    #[command(hide = true, disable_help_flag = true)]
    Azure(Anything),
}

#[derive(Args)]
pub struct AskMonitor {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// Formation [default: that of --pgdata, or "default"]
    #[arg(short, long)]
    pub formation: Option<String>,
    /// Group [default: that of --pgdata, or 0]
    #[arg(short, long)]
    pub group: Option<i32>,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Subcommand)]
pub enum InspectMonitor {
    /// Ask for a node, or a number
    #[command(subcommand)]
    Get(MonitorGet),
    /// The API version that the monitors speak
    Version(AskMonitor),
    /// Keepers register themselves
    #[command(hide = true, disable_help_flag = true)]
    Register(Anything),
    /// Keepers report themselves
    #[command(hide = true, disable_help_flag = true)]
    Active(Anything),
    /// Read a notification of the channel "state"
    ParseNotification {
        /// The payload
        payload: String,
        // It is JSON anyway.
        #[command(flatten)]
        json: JsonArgs,
    },
}

#[derive(Subcommand)]
pub enum MonitorGet {
    /// The node that writes go to
    Primary(AskMonitor),
    /// The other nodes of the group of the node of --pgdata
    Others(AskMonitor),
    /// How many nodes could be promoted
    CandidateCount(AskMonitor),
    /// Citus: comes later
    #[command(hide = true, disable_help_flag = true)]
    Coordinator(Anything),
}

/// Which state machine.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Machine {
    /// Transitions that keepers know
    Keeper,
    /// The monitors' failover rules: which goals they assign from which state
    Rules,
}

#[derive(Args)]
pub struct Gv {
    /// Which table to draw
    #[arg(long, value_enum, default_value = "keeper")]
    pub table: Machine,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct LocalArgs {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Subcommand)]
pub enum Fsm {
    /// The keeper's state, from its file
    State(LocalArgs),
    /// The states that can be reached from the present one
    List(LocalArgs),
    /// A drawing for Graphviz: pgquorum inspect fsm gv | dot -Tsvg
    Gv(Gv),
    /// The failover rules as text
    Rules(JsonArgs),
    /// The group's nodes, on a node without monitors
    #[command(subcommand)]
    Nodes(FsmNodes),
    /// Make the state file of a node without monitors anew: state init
    Init {
        #[command(flatten)]
        data: DataDir,
        /// Number of the node in its group
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
        node_id: Option<i64>,
    },
    /// Give a node without monitors its goal, and wait until it is reached
    Assign {
        /// The state to reach
        state: String,
        #[command(flatten)]
        step: StepArgs,
    },
    /// Reach the goal of a node without monitors whose keeper does not run
    Step(StepArgs),
}

#[derive(Args)]
pub struct StepArgs {
    #[command(flatten)]
    pub local: LocalArgs,
    /// Seconds to wait; copying a primary may take long
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub wait: u64,
}

#[derive(Subcommand)]
pub enum FsmNodes {
    /// The nodes, as JSON
    Get(LocalArgs),
    /// Take the nodes from a file: an array of objects with node_id, node_name, node_host, node_port,
    /// node_lsn and node_is_primary
    Set {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        local: LocalArgs,
    },
}

#[derive(Subcommand)]
pub enum InspectShow {
    /// The address that this machine has on the way to the monitors
    Ipaddr(Towards),
    /// The local network of that address
    Cidr(Towards),
    /// The addresses of a host name
    Lookup(Named),
    /// The name of this machine
    Hostname(Towards),
    /// Does a host name resolve to an address, and the address back to the name?
    Reverse(Named),
    /// As `version --json`
    Version(JsonArgs),
}

#[derive(Args)]
pub struct Named {
    /// Host name
    pub host: String,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct Towards {
    /// Monitors [default: PG_AUTOCTL_MONITOR, or an address in the Internet; nothing is sent]
    #[arg(value_name = "URI")]
    pub monitor: Option<String>,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct PgArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// pg_ctl of the PostgreSQL [default: that of the node, by PG_CONFIG, or the only one in PATH]
    #[arg(short = 'C', long, value_name = "FILE")]
    pub pgctl: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Subcommand)]
pub enum PgSetup {
    /// Find pg_ctl and the PostgreSQL release
    #[command(name = "pg_ctl")]
    PgCtl(PgArgs),
    /// What is in the data directory, and does it run?
    Discover(PgArgs),
    /// Exit code 0 when PostgreSQL answers
    Ready(PgArgs),
    /// Wait until PostgreSQL answers
    Wait {
        #[command(flatten)]
        pg: PgArgs,
        /// Seconds to wait
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u64,
    },
    /// What PostgreSQL said when it was started
    Logs(PgArgs),
    /// The settings that the keeper gives to PostgreSQL
    Tune(PgArgs),
    /// The lines that the keeper keeps in pg_hba.conf
    Hba(PgArgs),
}

#[derive(Subcommand)]
pub enum Primary {
    /// Replication slots
    #[command(subcommand)]
    Slot(Slot),
    /// Have the keeper's settings file written anew
    #[command(hide = true, disable_help_flag = true)]
    Defaults(Anything),
    /// Roles are made by the keeper
    #[command(hide = true, disable_help_flag = true)]
    Adduser(Anything),
    /// System identifier, timeline and position
    Identify(LocalArgs),
}

#[derive(Subcommand)]
pub enum Slot {
    /// Make a physical slot
    Create(SlotArgs),
    /// Drop a slot
    Drop(SlotArgs),
}

#[derive(Args)]
pub struct SlotArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// Name of the slot
    pub name: String,
}

#[derive(Subcommand)]
pub enum Service {
    /// The process number of a service
    Getpid {
        /// Which one
        #[arg(value_enum)]
        name: ServiceName,
        #[command(flatten)]
        data: DataDir,
        // A number is JSON.
        #[command(flatten)]
        json: JsonArgs,
    },
    /// Services restart with the node
    #[command(hide = true, disable_help_flag = true)]
    Restart(Anything),
    /// One process is all of them
    #[command(hide = true, disable_help_flag = true)]
    Pgcontroller(Anything),
    /// One process is all of them
    #[command(hide = true, disable_help_flag = true)]
    Postgres(Anything),
    /// One process is all of them
    #[command(hide = true, disable_help_flag = true)]
    Listener(Anything),
    /// One process is all of them
    #[command(hide = true, disable_help_flag = true)]
    NodeActive(Anything),
}

/// A service, by pg_autoctl's name.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServiceName {
    /// PostgreSQL's postmaster
    Postgres,
    /// What listens to the monitors: the keeper itself
    Listener,
    /// The keeper
    NodeActive,
    /// What owns PostgreSQL when the keeper is gone
    Guardian,
}

#[derive(Subcommand)]
pub enum InspectDemo {
    /// As `show uri --formation`
    Uri(AskMonitor),
    /// Connect where the application would: is there a primary that answers?
    Ping(AskMonitor),
    /// See `pgquorum demo`
    #[command(hide = true, disable_help_flag = true)]
    Run(Anything),
    /// See `pgquorum demo`
    #[command(hide = true, disable_help_flag = true)]
    Summary(Anything),
}
