//! Options of the services of this machine and of their configuration.

use clap::{Args, Subcommand};

use super::{DataDir, JsonArgs};

#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// Move this replica's store aside and come back as a new member, filled by the others
    #[arg(long)]
    pub rejoin: bool,
    /// The node's new name
    #[arg(short, long, alias = "nodename", conflicts_with = "rejoin")]
    pub name: Option<String>,
    /// The node's new host name or address
    #[arg(short = 'H', long, conflicts_with = "rejoin")]
    pub hostname: Option<String>,
    /// PostgreSQL's new port
    #[arg(short, long, value_name = "PORT", conflicts_with = "rejoin")]
    pub pgport: Option<u16>,
}

#[derive(Args)]
pub struct StopArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// Send SIGINT
    #[arg(short, long, conflicts_with = "immediate")]
    pub fast: bool,
    /// Send SIGQUIT: stop without cleaning up
    #[arg(short, long)]
    pub immediate: bool,
    /// A node's keeper ends and PostgreSQL runs on, for the next keeper: an upgrade
    #[arg(long, conflicts_with_all = ["fast", "immediate"])]
    pub leave_postgres: bool,
}

#[derive(Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    pub data: DataDir,
    // pg_autoctl takes it and prints no JSON either.
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Subcommand)]
pub enum ConfigVerb {
    /// Check the node's configuration
    Check(ConfigCheck),
    /// Print one setting, or all
    Get(ConfigGet),
    /// Change a setting; `reload` has the running node take it up
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
    /// The new value; "" for none
    pub value: String,
}
