//! PostgreSQL's programs of one installation, and the control file.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use failover::Lsn;

use super::command::Program;
use crate::error::{KeeperError, Result};
use crate::files;

/// The directory with `pg_ctl`, `postgres`, `pg_basebackup`, ...
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    pub bindir: PathBuf,
}

/// A short run of a program that touches no network and little data.
const QUICK: Duration = Duration::from_secs(20);

impl Installation {
    /// From the path of `pg_ctl`.
    pub fn of(pg_ctl: &Path) -> Result<Installation> {
        let real = std::fs::canonicalize(pg_ctl)
            .map_err(|error| KeeperError::pg_ctl(format!("{} is not usable: {error}", pg_ctl.display())))?;
        let bindir = real.parent().unwrap_or(Path::new("/")).to_path_buf();
        if !bindir.join("postgres").exists() {
            return Err(KeeperError::pg_ctl(format!("there is no postgres beside {}", real.display())));
        }
        Ok(Installation { bindir })
    }

    /// `--pgctl`, else the one that PG_CONFIG names, else the one in PATH or in Debian's places.
    pub fn find_pg_ctl() -> Result<PathBuf> {
        if let Some(pg_config) = std::env::var_os("PG_CONFIG").filter(|v| !v.is_empty()) {
            let said = std::process::Command::new(&pg_config)
                .arg("--bindir")
                .output()
                .map_err(|error| KeeperError::arguments(format!("PG_CONFIG: cannot run it: {error}")))?;
            let bindir = PathBuf::from(String::from_utf8_lossy(&said.stdout).trim());
            return Ok(bindir.join("pg_ctl"));
        }
        let mut found: Vec<PathBuf> = Vec::new();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        for dir in std::env::split_paths(&path).chain(debian.map(|entry| entry.path().join("bin"))) {
            if let Ok(real) = std::fs::canonicalize(dir.join("pg_ctl"))
                && !found.contains(&real)
            {
                found.push(real);
            }
        }
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(KeeperError::arguments("no pg_ctl was found in PATH: name it with --pgctl")),
            many => {
                let list: Vec<String> = many.iter().map(|p| p.display().to_string()).collect();
                Err(KeeperError::arguments(format!("several pg_ctl were found: choose with --pgctl ({})", list.join(", "))))
            }
        }
    }

    pub fn program(&self, name: &str) -> Program {
        Program::new(self.bindir.join(name))
    }

    /// The major version, such as 15.
    pub async fn major_version(&self) -> Result<u32> {
        let said = self.program("postgres").arg("--version").run(QUICK).await?.stdout;
        // "postgres (PostgreSQL) 15.18 (Debian ...)", "postgres (PostgreSQL) 18beta1"
        let version = said.split_whitespace().nth(2).unwrap_or("");
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        let major: u32 = digits
            .parse()
            .map_err(|_| KeeperError::pg_ctl(format!("cannot tell the version from \"{}\"", said.trim())))?;
        if major < 13 {
            return Err(KeeperError::pg_ctl(format!("PostgreSQL {major} is not supported; 13 is the oldest that is")));
        }
        Ok(major)
    }

    /// Makes a new cluster. `trust` keeps upstream's open default; any other method closes it.
    pub async fn initdb(&self, pgdata: &Path, auth: &str) -> Result<()> {
        let auth_args: &[&str] = match auth {
            "trust" => &["--auth=trust"],
            _ => &["--auth-local=peer", "--auth-host=scram-sha-256"],
        };
        self.program("initdb")
            .arg("--pgdata")
            .arg(pgdata)
            .arg("--encoding=UTF8")
            .args(auth_args.iter().copied())
            .tied()
            .run(Duration::from_secs(300))
            .await
            .map(drop)
    }

    /// Reads the control file.
    pub async fn control_data(&self, pgdata: &Path) -> Result<ControlData> {
        let said = self.program("pg_controldata").arg("--pgdata").arg(pgdata).run(QUICK).await?.stdout;
        ControlData::parse(&said)
    }
}

/// What matters of `pg_controldata`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlData {
    /// Of the file itself, such as 1300.
    pub version: u32,
    /// Of the system catalogues, such as 202209061.
    pub catalog_version: u32,
    pub system_identifier: u64,
    pub state: String,
    pub timeline: u32,
    pub checkpoint: Lsn,
    pub minimum_recovery: Lsn,
    pub minimum_recovery_timeline: u32,
    /// Not zero from the first start of a copy, or of a rewound cluster, until it has replayed all WAL
    /// up to the moment when it was finished.
    pub backup_start: Lsn,
    pub wal_log_hints: bool,
    pub checksums: bool,
    /// In bytes, a power of two.
    pub wal_segment_size: u64,
    pub wal_block_size: u64,
    /// The four (and `wal_level`) that must not be lower on a standby than on its primary.
    pub limits: Vec<(&'static str, u32)>,
}

/// Settings that a standby refuses to start with when they are lower than on its primary, as
/// pg_controldata names them and as postgresql.conf does.
const LIMITS: &[(&str, &str)] = &[
    ("max_connections setting", "max_connections"),
    ("max_worker_processes setting", "max_worker_processes"),
    ("max_wal_senders setting", "max_wal_senders"),
    ("max_prepared_xacts setting", "max_prepared_transactions"),
    ("max_locks_per_xact setting", "max_locks_per_transaction"),
];

impl ControlData {
    fn parse(text: &str) -> Result<ControlData> {
        let get = |key: &str| {
            text.lines()
                .find_map(|line| line.split_once(':').filter(|(k, _)| *k == key).map(|(_, v)| v.trim()))
                .ok_or_else(|| KeeperError::postgres(format!("pg_controldata does not tell \"{key}\"")))
        };
        let number = |key: &str| -> Result<u64> {
            let value = get(key)?;
            value.parse().map_err(|_| KeeperError::postgres(format!("pg_controldata: \"{key}\" is \"{value}\"")))
        };
        let lsn = |key: &str| -> Result<Lsn> {
            let value = get(key)?;
            value.parse().map_err(|()| KeeperError::postgres(format!("pg_controldata: \"{key}\" is \"{value}\"")))
        };
        let mut limits = Vec::new();
        for (label, name) in LIMITS {
            limits.push((*name, number(label)? as u32));
        }
        Ok(ControlData {
            version: number("pg_control version number")? as u32,
            catalog_version: number("Catalog version number")? as u32,
            system_identifier: number("Database system identifier")?,
            state: get("Database cluster state")?.to_string(),
            timeline: number("Latest checkpoint's TimeLineID")? as u32,
            checkpoint: lsn("Latest checkpoint location")?,
            minimum_recovery: lsn("Minimum recovery ending location")?,
            minimum_recovery_timeline: number("Min recovery ending loc's timeline")? as u32,
            backup_start: lsn("Backup start location")?,
            wal_log_hints: get("wal_log_hints setting")? == "on",
            checksums: number("Data page checksum version")? > 0,
            wal_segment_size: number("Bytes per WAL segment")?.max(1),
            wal_block_size: number("WAL block size")?.max(1),
            limits,
        })
    }

    /// Its last stop was an orderly one.
    pub fn is_clean(&self) -> bool {
        self.state.starts_with("shut down")
    }

    /// Files of different moments, which make a cluster only together with WAL that is perhaps not here:
    /// PostgreSQL lets nobody in. pg_rewind brings the WAL that was there when it began; pg_basebackup
    /// brings all of it.
    pub fn lacks_wal(&self, pgdata: &Path) -> bool {
        let label = files::read_text(&pgdata.join("backup_label")).ok().flatten().unwrap_or_default();
        self.backup_start != Lsn::ZERO || label.contains("BACKUP METHOD: pg_rewind")
    }

    /// Where the WAL of a cleanly stopped primary ends: behind its shutdown checkpoint. `None` when it
    /// did not stop cleanly as a primary, or its WAL is not there.
    pub fn end_of_wal(&self, pgdata: &Path) -> Option<Lsn> {
        if self.state != "shut down" {
            return None;
        }
        let start = self.checkpoint.0;
        let per_id = 0x1_0000_0000 / self.wal_segment_size;
        let number = start / self.wal_segment_size;
        let name = format!("{:08X}{:08X}{:08X}", self.timeline, number / per_id, number % per_id);
        let mut file = std::fs::File::open(pgdata.join("pg_wal").join(name)).ok()?;
        let mut length = [0; 4];
        file.seek(SeekFrom::Start(start % self.wal_segment_size)).ok()?;
        file.read_exact(&mut length).ok()?;
        Some(Lsn(end_of_record(start, u64::from(u32::from_ne_bytes(length)), self.wal_segment_size, self.wal_block_size)))
    }

    /// pg_rewind can work on it.
    pub fn can_rewind(&self) -> bool {
        self.wal_log_hints || self.checksums
    }
}

/// Where a WAL record ends that begins at `start` and is `length` bytes long (its first field). Every
/// page begins with a header: 24 bytes, 40 on the first page of a segment (xlog_internal.h); records
/// are padded to multiples of eight.
fn end_of_record(start: u64, length: u64, segment: u64, block: u64) -> u64 {
    let (mut at, mut left) = (start, length);
    loop {
        let room = block - at % block;
        if left <= room {
            return (at + left).next_multiple_of(8);
        }
        left -= room;
        at += room;
        at += if at.is_multiple_of(segment) { 40 } else { 24 };
    }
}

/// The first lines of `postmaster.pid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    pub pid: i32,
    pub port: u16,
    pub socket_dir: String,
    /// `starting`, `stopping`, `ready`, `standby`; empty while it is being written.
    pub status: String,
}

impl PidFile {
    pub fn read(pgdata: &Path) -> Result<Option<PidFile>> {
        let Some(text) = files::read_text(&pgdata.join("postmaster.pid"))? else { return Ok(None) };
        let line = |at: usize| text.lines().nth(at).unwrap_or("").trim();
        Ok(line(0).parse().ok().filter(|pid| *pid > 0).map(|pid| PidFile {
            pid,
            port: line(3).parse().unwrap_or(0),
            socket_dir: line(4).to_string(),
            status: line(7).to_string(),
        }))
    }

    /// The process that the file names, when it is really a postmaster of this data directory: not a
    /// zombie, not another program that got the number.
    pub fn live(pgdata: &Path) -> Result<Option<PidFile>> {
        let file = PidFile::read(pgdata)?;
        Ok(file.filter(|f| crate::guardian::remains::is_postgres_of(f.pid, pgdata)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_data_of_15() {
        let data = ControlData::parse(include_str!("../../tests/fixtures/controldata_15.txt")).unwrap();
        assert!(data.system_identifier > 1 << 60);
        assert_eq!((data.version, data.catalog_version), (1300, 202_209_061));
        assert_eq!((data.timeline, data.checksums, data.wal_log_hints), (1, false, false));
        assert!(data.is_clean() && !data.can_rewind());
        assert_eq!(data.limits[0], ("max_connections", 100));
        assert_eq!((data.wal_segment_size, data.wal_block_size), (16 << 20, 8192));
        assert!(ControlData::parse("nothing").unwrap_err().to_string().contains("does not tell"));
    }

    #[test]
    fn what_pg_rewind_leaves_lacks_wal_until_it_has_been_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let text = include_str!("../../tests/fixtures/controldata_15.txt");
        let at_rest = ControlData::parse(text).unwrap();
        let label = dir.path().join("backup_label");
        assert!(!at_rest.lacks_wal(dir.path()));
        std::fs::write(&label, "BACKUP METHOD: streamed\n").unwrap();
        assert!(!at_rest.lacks_wal(dir.path()));
        // Never started since.
        std::fs::write(&label, "BACKUP METHOD: pg_rewind\nBACKUP FROM: standby\n").unwrap();
        assert!(at_rest.lacks_wal(dir.path()));
        // Started: PostgreSQL has taken the label away and keeps the place in the control file.
        std::fs::remove_file(&label).unwrap();
        let line = |value: &str| format!("Backup start location:                {value}");
        let replaying = text.replace(&line("0/0"), &line("0/50BFE58"));
        assert!(ControlData::parse(&replaying).unwrap().lacks_wal(dir.path()));
    }

    #[test]
    fn records_end_behind_the_page_headers_that_they_cross() {
        let (segment, block) = (16 << 20, 8192);
        assert_eq!(end_of_record(0x0156_F568, 114, segment, block), 0x0156_F5E0);
        // 40 bytes on this page, 74 behind the header of the next.
        assert_eq!(end_of_record(2 * 8192 - 40, 114, segment, block), 2 * 8192 + 24 + 80);
        // The next page begins a segment.
        assert_eq!(end_of_record((16 << 20) - 40, 114, segment, block), (16 << 20) + 40 + 80);
        // It ends with the page.
        assert_eq!(end_of_record(8192 - 120, 114, segment, block), 8192);
    }
}
