//! A copy of the primary, made beside the data directory and put in its place by renames.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{info, warn};

use super::control::Installation;
use super::kept;
use super::standby::{Upstream, conninfo};
use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::files;
use crate::paths::Paths;

/// No deadline of its own: terabytes take their time. Dropping the future stops it.
const LONG: Duration = Duration::from_secs(30 * 24 * 3600);

/// Copies the upstream into the backup directory, then swaps. At no moment is there a data directory
/// that is half of one: what was there is renamed away first and removed last.
pub async fn run(config: &Config, paths: &Paths, upstream: &Upstream, node_id: i64, slot: Option<&str>) -> Result<()> {
    let install = Installation::of(&config.pg_ctl)?;
    let target = &config.backup_directory;
    finish_swap(config)?;
    // A copy that was cut short: its links tell where it had begun to write.
    vacate_tablespaces(config, target, install.major_version().await?)?;
    remove_dir(target)?;
    if let Some(parent) = target.parent() {
        files::private_dir(parent)?;
    }
    info!(
        "copying node {} ({}:{}) with pg_basebackup, at most {} per second, into {}",
        upstream.id,
        upstream.host,
        upstream.port,
        config.maximum_backup_rate,
        target.display()
    );
    let mut program = install
        .program("pg_basebackup")
        .args(["-w", "-d", &conninfo(config, upstream, node_id, None), "--pgdata"])
        .arg(target)
        .args(["--max-rate", &config.maximum_backup_rate])
        .args(["--wal-method=stream", "--checkpoint=fast", "--progress", "--verbose"]);
    if let Some(slot) = slot {
        program = program.args(["--slot", slot]);
    }
    if config.pgdata.join("PG_VERSION").exists() {
        kept::save(config, paths)?;
    }
    vacate_tablespaces(config, &config.pgdata, install.major_version().await?)?;
    program.password(config.replication_password.as_deref()).logged().tied().run(LONG).await?;
    swap(config)?;
    kept::restore(config, paths)?;
    info!("the copy is in place at {}", config.pgdata.display());
    Ok(())
}

/// A new cluster by initdb, beside the data directory and moved into place when it is whole.
pub async fn by_initdb(config: &Config, install: &Installation) -> Result<()> {
    remove_dir(&config.backup_directory)?;
    if let Some(parent) = config.backup_directory.parent() {
        files::private_dir(parent)?;
    }
    install.initdb(&config.backup_directory, &config.auth_method).await?;
    swap(config)?;
    info!("initialised a PostgreSQL cluster in {}", config.pgdata.display());
    Ok(())
}

fn old_name(pgdata: &Path) -> PathBuf {
    let mut name = pgdata.as_os_str().to_owned();
    name.push(".replaced");
    PathBuf::from(name)
}

/// pgdata -> pgdata.replaced, backup -> pgdata, remove pgdata.replaced.
fn swap(config: &Config) -> Result<()> {
    let pgdata = real(&config.pgdata);
    let old = old_name(&pgdata);
    let parent = pgdata.parent().unwrap_or(Path::new("/")).to_path_buf();
    let fail = |what: &str, error: std::io::Error| {
        let hint = match error.raw_os_error() == Some(nix::libc::EXDEV) {
            true => "; [replication] backup_directory must be on the same file system as the data directory",
            false => "",
        };
        KeeperError::keeper(format!("{what}: {error}{hint}"))
    };
    if is_mount_point(&pgdata) {
        return swap_contents(config, &pgdata);
    }
    remove_dir(&old)?;
    if pgdata.exists() {
        fs::rename(&pgdata, &old).map_err(|e| fail("cannot move the old data directory away", e))?;
    }
    if let Err(error) = fs::rename(&config.backup_directory, &pgdata) {
        let _ = fs::rename(&old, &pgdata);
        return Err(fail("cannot move the copy into place", error));
    }
    files::sync_dir(&parent).map_err(|e| fail("cannot make the swap durable", e))?;
    remove_dir(&old)
}

/// A swap that was cut short: the old directory is back in its place unless the new one arrived.
pub fn finish_swap(config: &Config) -> Result<()> {
    let pgdata = real(&config.pgdata);
    let old = old_name(&pgdata);
    if !old.exists() {
        return Ok(());
    }
    if pgdata.join("PG_VERSION").exists() {
        return remove_dir(&old);
    }
    warn!("an exchange of data directories was cut short: taking {} back", old.display());
    fs::rename(&old, &pgdata).map_err(|error| KeeperError::io("cannot take the old data directory back", &error))
}

/// The data directory is a mount point: it cannot be renamed, so its content is exchanged.
fn swap_contents(config: &Config, pgdata: &Path) -> Result<()> {
    let io = |error: std::io::Error| KeeperError::io("cannot exchange the content of the data directory", &error);
    // Without PG_VERSION nothing here is taken for a cluster, should we be cut short.
    files::remove(&pgdata.join("PG_VERSION"))?;
    for entry in fs::read_dir(pgdata).map_err(io)?.flatten() {
        if entry.file_name() == "lost+found" || config.backup_directory.starts_with(entry.path()) {
            continue;
        }
        match entry.file_type().map_err(io)?.is_dir() {
            true => fs::remove_dir_all(entry.path()).map_err(io)?,
            false => fs::remove_file(entry.path()).map_err(io)?,
        }
    }
    for entry in fs::read_dir(&config.backup_directory).map_err(io)?.flatten() {
        if entry.file_name() != "PG_VERSION" {
            fs::rename(entry.path(), pgdata.join(entry.file_name())).map_err(io)?;
        }
    }
    fs::rename(config.backup_directory.join("PG_VERSION"), pgdata.join("PG_VERSION")).map_err(io)?;
    files::sync_dir(pgdata).map_err(io)?;
    remove_dir(&config.backup_directory)
}

fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |p: &Path| fs::metadata(p).map(|m| m.dev()).ok();
    let parent = path.parent().and_then(device);
    device(path).is_some_and(|own| parent.is_some_and(|above| above != own))
}

fn tablespaces(pgdata: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(pgdata.join("pg_tblspc")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).filter(|path| path.is_absolute()).collect()
}

/// Table spaces lie outside of the data directory, at the same path on every node: what the old copy
/// has there must go before a new one is made. From then on the old data directory is no cluster any
/// more, and says so, lest a copy that fails lead to a start without the table spaces' files.
fn vacate_tablespaces(config: &Config, dir: &Path, major: u32) -> Result<()> {
    let spaces = tablespaces(dir);
    if !spaces.is_empty() && dir == config.pgdata {
        warn!("emptying {} table space(s) of the old copy; {} is void from now on", spaces.len(), dir.display());
        files::remove(&dir.join("PG_VERSION"))?;
    }
    spaces.iter().try_for_each(|space| empty_space(space, major))
}

/// `PG_15_202209061` and the like; a cluster of another major version may share the directory.
fn empty_space(path: &Path, major: u32) -> Result<()> {
    let ours = format!("PG_{major}_");
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&ours) {
            remove_dir(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(KeeperError::io(format!("cannot remove {}", path.display()), &error)),
    }
}
