//! A systemd unit for a data directory.

use std::env;
use std::path::PathBuf;

use nix::unistd::{User, geteuid};
use serde_json::json;
use tracing::info;

use crate::args::show::ShowSystemd;
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::program;

pub fn show(args: &ShowSystemd) -> Result<(), CliError> {
    let (pgdata, kind) = locate::created(&args.data)?;
    let monitor = kind == locate::Kind::Monitor;
    let user = User::from_uid(geteuid())
        .ok()
        .flatten()
        .ok_or_else(|| CliError::new(Status::Internal, "the user that runs this has no name"))?;
    let binary = env::current_exe()?;
    let what = if monitor { "pgquorum monitor" } else { "pgquorum keeper and PostgreSQL" };
    let mut environment = format!("Environment = 'PGDATA={}'\n", pgdata.display());
    for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"] {
        if let Some(dir) = env::var_os(variable).filter(|dir| !dir.is_empty()) {
            environment.push_str(&format!("Environment = '{variable}={}'\n", PathBuf::from(dir).display()));
        }
    }
    // 121: the node was dropped. 122: nothing changes until somebody has looked.
    let unit = format!(
        "[Unit]\nDescription = {what} of {pgdata}\nAfter = network-online.target\nWants = network-online.target\n\n\
         [Service]\nWorkingDirectory = {home}\n{environment}User = {user}\nExecStart = {program} run\nRestart = always\n\
         RestartPreventExitStatus = 121 122\nStartLimitBurst = 0\nExecReload = {program} reload\nKillMode = mixed\n\
         TimeoutStopSec = 90\n\n[Install]\nWantedBy = multi-user.target",
        pgdata = pgdata.display(),
        home = user.dir.display(),
        user = user.name,
        program = binary.display(),
    );
    let service = if monitor { "pgquorum-monitor" } else { "pgquorum" };
    if args.json.json {
        return output::json(&json!({"service": service, "unit": unit}));
    }
    output::line(&unit)?;
    // Beside the unit, so that `show systemd > FILE` holds the unit alone.
    let called = program::name();
    info!("hint: as root:");
    info!("{called} -q show systemd --pgdata \"{}\" > /etc/systemd/system/{service}.service", pgdata.display());
    info!("systemctl daemon-reload && systemctl enable --now {service}");
    Ok(())
}
