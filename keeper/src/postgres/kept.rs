//! The node's own configuration files, carried over a pg_rewind or a new copy of the primary: both
//! bring the primary's files, and what an operator wrote on this node must not be lost.

use std::fs;
use std::path::PathBuf;

use crate::config::Config;
use crate::error::{KeeperError, Result};
use crate::files;
use crate::paths::Paths;

const FILES: &[&str] = &[
    "postgresql.conf",
    "postgresql.auto.conf",
    "pg_hba.conf",
    "pg_ident.conf",
    super::conf::SETTINGS_FILE,
    "server.crt",
    "server.key",
];

fn place(paths: &Paths) -> PathBuf {
    paths.data_home.join("kept")
}

/// Puts copies aside, unless an attempt that was cut short did it before: those are the true ones.
pub fn save(config: &Config, paths: &Paths) -> Result<()> {
    let place = place(paths);
    if place.exists() {
        return Ok(());
    }
    let half = paths.data_home.join("kept.new");
    let _ = fs::remove_dir_all(&half);
    files::private_dir(&half)?;
    let io = |error: std::io::Error| KeeperError::io("cannot put the node's configuration files aside", &error);
    for name in FILES {
        let from = config.pgdata.join(name);
        if from.is_file() {
            let content = fs::read(&from).map_err(io)?;
            files::write_atomic(&half.join(name), &content, super::conf::mode_of(&from))?;
        }
    }
    fs::rename(&half, &place).map_err(io)?;
    files::sync_dir(&paths.data_home).map_err(io)
}

/// Brings them back. Nothing to do when nothing was put aside.
pub fn restore(config: &Config, paths: &Paths) -> Result<()> {
    let place = place(paths);
    let io = |error: std::io::Error| KeeperError::io("cannot bring the node's configuration files back", &error);
    let entries = match fs::read_dir(&place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    for entry in entries.flatten() {
        let content = fs::read(entry.path()).map_err(io)?;
        let to = config.pgdata.join(entry.file_name());
        files::write_atomic(&to, &content, super::conf::mode_of(&entry.path()))?;
    }
    fs::remove_dir_all(&place).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_files_come_back_even_after_a_second_attempt() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::config::tests::sample(&dir.path().join("data"));
        let paths = Paths {
            pgdata: config.pgdata.clone(),
            config: dir.path().join("cfg"),
            state: dir.path().join("state"),
            init: dir.path().join("init"),
            pid: dir.path().join("pid"),
            data_home: dir.path().join("home"),
        };
        fs::create_dir_all(&config.pgdata).unwrap();
        fs::create_dir_all(&paths.data_home).unwrap();
        let hba = config.pgdata.join("pg_hba.conf");
        fs::write(&hba, "mine").unwrap();
        save(&config, &paths).unwrap();
        fs::write(&hba, "the primary's").unwrap();
        // pg_rewind was killed here; the next attempt saves again.
        save(&config, &paths).unwrap();
        restore(&config, &paths).unwrap();
        assert_eq!(fs::read_to_string(&hba).unwrap(), "mine");
        restore(&config, &paths).unwrap();
    }
}
