//! Networks without root: an ordinary user is privileged in a user namespace of its own, where the kernel
//! allows those. Nothing else changes there: files and processes are the same user's.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::unistd::Uid;

use crate::requirements::in_path;
use crate::{Context, Failure, Result, command, ensure};

/// linux/capability.h: what networks and entering namespaces need.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Whether we may make networks as we are.
pub fn privileged() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    effective.is_some_and(|caps| [CAP_NET_ADMIN, CAP_SYS_ADMIN].iter().all(|cap| caps >> cap & 1 == 1))
}

/// The arguments of `unshare` before a program: we stay who we are, which PostgreSQL insists on, and what we
/// start may make networks.
const ARGUMENTS: [&str; 5] = ["--user", "--map-current-user", "--keep-caps", "--net", "--"];

/// Whether [`again`] would work; the error says what refuses, and what to do about it.
pub fn probe() -> Result<()> {
    in_path("unshare").context("unshare is missing (Debian: util-linux)")?;
    let mut tried = Command::new("unshare");
    tried.args(ARGUMENTS).args(["ip", "link", "set", "lo", "up"]);
    let tried = command::run(tried, Duration::from_secs(5))?;
    ensure!(
        tried.code == 0,
        "this kernel gives user {} no user namespace with a network (try the sysctls kernel.unprivileged_userns_clone=1, \
         user.max_user_namespaces=10000 and kernel.apparmor_restrict_unprivileged_userns=0, or be root): {}",
        Uid::current(),
        tried.stderr.trim()
    );
    OpenOptions::new().read(true).write(true).open("/dev/net/tun").map(drop).map_err(|error| {
        Failure::new(format!(
            "user {} may not open /dev/net/tun (`chmod 0666 /dev/net/tun` as root, which is what most systems have, \
             or be root): {error}",
            Uid::current()
        ))
    })
}

/// This program, with these arguments, in a user namespace with a network of its own.
pub fn again(arguments: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut command = Command::new("unshare");
    command.args(ARGUMENTS).arg(std::env::current_exe().context("our own program")?).args(arguments);
    Ok(command)
}

/// Goes on in such a namespace where that is needed: returns in there, or where nothing is to be done.
pub fn enter() -> Result<()> {
    if privileged() {
        return Ok(());
    }
    probe()?;
    eprintln!("not root: networks are made in a user namespace");
    Err(again(std::env::args_os().skip(1))?.exec()).context("unshare")
}
