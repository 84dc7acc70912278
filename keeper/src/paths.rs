//! Where a node keeps its files: upstream's places.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{KeeperError, Result};

/// The files of one node. `<pgdata>` below stands for the data directory without its first slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub pgdata: PathBuf,
    /// `$XDG_CONFIG_HOME/pg_autoctl/<pgdata>/pg_autoctl.cfg`
    pub config: PathBuf,
    /// `$XDG_DATA_HOME/pg_autoctl/<pgdata>`: state, init file, guardian
    pub data_home: PathBuf,
    pub state: PathBuf,
    pub init: PathBuf,
    /// `$XDG_RUNTIME_DIR/pg_autoctl/<pgdata>/pg_autoctl.pid`
    pub pid: PathBuf,
}

impl Paths {
    /// The places that the environment names (XDG, HOME).
    pub fn of(pgdata: &Path) -> Result<Paths> {
        let pgdata = std::path::absolute(pgdata)
            .map_err(|error| KeeperError::arguments(format!("cannot make {} absolute: {error}", pgdata.display())))?;
        let home = || env::var_os("HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
        let base = |variable: &str, below_home: &str| -> Result<PathBuf> {
            match env::var_os(variable).filter(|v| !v.is_empty()) {
                Some(dir) => Ok(PathBuf::from(dir)),
                None => home().map(|dir| dir.join(below_home)).ok_or_else(|| {
                    KeeperError::config(format!("neither {variable} nor HOME is set: no place for the node's files"))
                }),
            }
        };
        let runtime = env::var_os("XDG_RUNTIME_DIR")
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
            .filter(|dir| dir.is_dir())
            .unwrap_or_else(|| PathBuf::from("/tmp"));
        let below = Path::new("pg_autoctl").join(pgdata.strip_prefix("/").unwrap_or(&pgdata));
        let data_home = base("XDG_DATA_HOME", ".local/share")?.join(&below);
        Ok(Paths {
            config: base("XDG_CONFIG_HOME", ".config")?.join(&below).join("pg_autoctl.cfg"),
            state: data_home.join("pg_autoctl.state"),
            init: data_home.join("pg_autoctl.init"),
            pid: runtime.join(&below).join("pg_autoctl.pid"),
            data_home,
            pgdata,
        })
    }
}
