//! Options of `node`: a node or a monitor as a file describes it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DataDir, JsonArgs};

/// Where containers have their file.
const DEFAULT_FILE: &str = "/etc/pgaf/node.ini";

#[derive(Subcommand)]
pub enum NodeVerb {
    /// Create it where it does not exist yet, run it, and take up what changes in the file
    Run(FileArg),
    /// Create it where it does not exist yet, and do not run it
    Init(FileArg),
    /// Have the monitors take up the file's settings
    Apply(FileArgs),
    /// Let a `node run` go on that waits because the file says deferred
    Start(FileArg),
    /// Print the file that describes the node or the monitor of a data directory
    Show(ShowFileArgs),
    /// Check the file and print what it says; nothing is done
    Check(FileArgs),
    /// Create the formations that the file of a monitor names, once the monitors answer
    PostInit(FileArg),
}

#[derive(Args)]
pub struct FileArg {
    /// The file that describes it
    #[arg(value_name = "FILE", default_value = DEFAULT_FILE)]
    pub file: PathBuf,
}

#[derive(Args)]
pub struct FileArgs {
    #[command(flatten)]
    pub file: FileArg,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Args)]
pub struct ShowFileArgs {
    #[command(flatten)]
    pub data: DataDir,
    #[command(flatten)]
    pub json: JsonArgs,
}
