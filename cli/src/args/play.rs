//! Options of what has no counterpart in pg_autoctl: explain, simulate, demo.

use std::path::PathBuf;

use clap::Args;

use super::{GroupArgs, JsonArgs, MonitorArgs};

#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub group: GroupArgs,
    /// Explain this event of the past instead: its number, as `show events --json` gives it, or `last`: the
    /// newest choice of a candidate
    #[arg(long, value_name = "N", conflicts_with = "node", value_parser = which_event)]
    pub event: Option<WhichEvent>,
    /// Only this node
    #[arg(short, long = "name", value_name = "NAME")]
    pub node: Option<String>,
    /// Every rule with every condition that fails, not only what is close
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub json: JsonArgs,
}

/// An event of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichEvent {
    Number(i64),
    /// The newest one that chose whom to promote.
    LastChoice,
}

fn which_event(text: &str) -> Result<WhichEvent, String> {
    match text {
        "last" => Ok(WhichEvent::LastChoice),
        number => number.parse().map(WhichEvent::Number).map_err(|_| "neither a number nor `last`".to_string()),
    }
}

#[derive(Args)]
pub struct Simulate {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    #[command(flatten)]
    pub group: GroupArgs,
    /// Name of a node or of a monitor that dies; may be given several times
    #[arg(long, value_name = "NAME", required = true, value_delimiter = ',')]
    pub kill: Vec<String>,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct Demo {
    /// Leave the cluster running and tell how to look around
    #[arg(long)]
    pub keep: bool,
    /// Stock pg_autoctl keepers instead of ours: pg_autoctl 2.0 must be installed
    #[arg(long)]
    pub stock_nodes: bool,
    /// First of the ports: 16 in a row are used, and 3 more 10000 above [default: free ones]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Directory to make for it [default: a new one in TMPDIR or /tmp]
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Stop and remove a cluster that --keep left running in --directory
    #[arg(long, requires = "directory", conflicts_with_all = ["keep", "stock_nodes", "port"])]
    pub stop: bool,
}
