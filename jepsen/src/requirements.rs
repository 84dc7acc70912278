//! What the machine must offer. A missing package skips a test loudly on a desk and fails it in CI.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::unistd::{Gid, Uid, User};

use crate::{Context, Result, bail, ensure};

/// Who PostgreSQL and `pg_autoctl` run as: both refuse root.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    pub uid: Uid,
    pub gid: Gid,
    /// Whether we must change to it (we are root).
    pub switch: bool,
}

impl Account {
    pub fn name(self) -> Result<String> {
        Ok(User::from_uid(self.uid)?.context("a nameless account")?.name)
    }
}

/// The account for nodes: `postgres` when we are root, ourselves otherwise.
pub fn account() -> Result<Account> {
    if !Uid::effective().is_root() {
        return Ok(Account { uid: Uid::effective(), gid: Gid::effective(), switch: false });
    }
    if std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().nth(2) == Some("1"))
    {
        bail!("root of a user namespace without other users cannot run PostgreSQL: start this as yourself");
    }
    let user = User::from_name("postgres")?
        .context("we are root and there is no user `postgres` to run nodes as")?;
    Ok(Account { uid: user.uid, gid: user.gid, switch: true })
}

/// The directory of `postgres`, `initdb` and `pg_ctl`: `PG_BINDIR`, or the newest Debian one.
pub fn postgres_bindir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("PG_BINDIR") {
        return Ok(dir.into());
    }
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in
        std::fs::read_dir("/usr/lib/postgresql").context("no PostgreSQL below /usr/lib/postgresql")?
    {
        let path = entry?.path();
        let major = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
        if let Some(major) = major
            && path.join("bin/postgres").exists()
        {
            found.push((major, path.join("bin")));
        }
    }
    found.sort();
    Ok(found.pop().context("no PostgreSQL server below /usr/lib/postgresql")?.1)
}

/// Looks `program` up in PATH.
pub fn in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Whether everything is there that stock nodes and the stock monitor need.
pub fn stock() -> Result<()> {
    account()?;
    let bindir = postgres_bindir()?;
    if in_path("pg_autoctl").is_none() {
        bail!("pg_autoctl is missing (Debian: pg-auto-failover-cli)");
    }
    let extension = bindir
        .parent()
        .and_then(Path::file_name)
        .map(|major| Path::new("/usr/share/postgresql").join(major).join("extension/pgautofailover.control"));
    if !extension.is_some_and(|path| path.exists()) {
        bail!("the stock monitor's extension is missing (Debian: postgresql-NN-auto-failover)");
    }
    Ok(())
}

/// True when the test may go on. Otherwise says why not, and fails it under `CI=true`.
pub fn met(test: &str, requirement: Result<()>) -> bool {
    match requirement {
        Ok(()) => true,
        Err(reason) => {
            eprintln!("SKIPPED {test}: {reason}");
            assert!(
                std::env::var("CI").is_err()
                    || std::env::var("CI").is_ok_and(|v| v == "false" || v.is_empty()),
                "{test} must not be skipped in CI: {reason}"
            );
            false
        }
    }
}

/// Like [`met`], for the one test of a program, which needs networks of its own. Without root it runs in a
/// user namespace, in a process of its own, and false is returned when it has passed there. Where the kernel
/// refuses that, it is skipped with the reason, also in CI.
pub fn met_with_network(test: &str, requirement: Result<()>) -> bool {
    use crate::net::userns;
    if userns::privileged() {
        return met(test, crate::net::probe().and(requirement));
    }
    if let Err(why) = userns::probe() {
        eprintln!("SKIPPED {test}: {why}");
        return false;
    }
    eprintln!("{test}: not root: in a user namespace");
    let again = userns::again(std::env::args_os().skip(1));
    let passed = again.and_then(|mut again| Ok(again.status()?.success()));
    assert!(passed.as_ref().is_ok_and(|passed| *passed), "{test} in a user namespace: {passed:?}");
    false
}

/// Our binary: `PGQUORUM_BIN`, or the workspace's, built once per process and profile.
pub fn pgquorum_binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT
        .get_or_init(|| build_pgquorum().map_err(|error| error.to_string()))
        .clone()
        .map_err(crate::Failure::new)
}

/// A copy of it that the nodes' account may run, wherever the original lies. Made by a process of its own: what
/// another thread starts would have the copy open for writing until it is executed, and nothing can be
/// executed meanwhile.
pub fn public_copy(to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg(pgquorum_binary()?).arg(to).status().context("cp")?;
    ensure!(copied.success(), "cannot copy pgquorum to {}", to.display());
    std::fs::set_permissions(to, PermissionsExt::from_mode(0o755))?;
    Ok(())
}

fn build_pgquorum() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PGQUORUM_BIN") {
        return Ok(path.into());
    }
    let release = !cfg!(debug_assertions);
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "-p", "pgquorum"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if release {
        build.arg("--release");
    }
    if !build.status().context("cargo build -p pgquorum")?.success() {
        bail!("cargo build -p pgquorum failed");
    }
    // target/<profile>/deps/<test> or target/<profile>/<bin>: the binary lies in target/<profile>.
    let here = std::env::current_exe()?;
    let path = here.ancestors().skip(1).map(|dir| dir.join("pgquorum")).find(|path| path.is_file());
    path.context(format!("no pgquorum binary beside {}", here.display()))
}
