//! A copy of the primary, made beside the data directory and put in its place by renames.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{info, warn};

use super::control::Installation;
use super::kept;
use super::standby::{Upstream, conninfo};
use super::tablespaces::{self, remove_dir};
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
    let major = install.major_version().await?;
    tablespaces::vacate(&config.pgdata, target, major)?;
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
    match config.pgdata.join("PG_VERSION").exists() {
        true => kept::save(config, paths)?,
        false => tablespaces::reclaim(paths)?,
    }
    tablespaces::vacate(&config.pgdata, &config.pgdata, major)?;
    let copied = program.password(config.replication_password.as_deref()).logged().tied().run(LONG).await;
    copied.map_err(|error| tablespaces::explain(error, major))?;
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
