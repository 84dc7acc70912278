//! What the demonstration stands on: programs, a user, a directory, ports.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};
use tracing::{info, warn};

use super::processes;
use crate::args::play::Demo;
use crate::exit::{CliError, Status};

/// What tells a directory of ours from any other one.
const MARK: &str = "pgquorum-demo";

/// The application's role and database.
pub const APPLICATION: &str = "app";

/// Ports in a row: monitors at +1 to +3, nodes at +11 to +13; the monitors' own channel 10000 above theirs.
const SPAN: u16 = 20;
const CHANNEL: u16 = 10_000;
const OFFSETS: [u16; 9] = [1, 2, 3, 11, 12, 13, CHANNEL + 1, CHANNEL + 2, CHANNEL + 3];

pub struct Ground {
    directory: PathBuf,
    pub bindir: PathBuf,
    pub stock_nodes: bool,
    pub port: u16,
    /// Who runs everything, when that is not the caller: PostgreSQL refuses root.
    user: Option<User>,
    owner: String,
}

fn missing(text: impl Into<String>) -> CliError {
    CliError::new(Status::BadConfiguration, text)
}

impl Ground {
    /// Looks for everything first, so that nothing is begun that cannot be finished.
    pub fn prepare(args: &Demo) -> Result<Ground, CliError> {
        let bindir = newest_postgres().ok_or_else(|| {
            missing("no PostgreSQL server found: install one (Debian: apt-get install postgresql-15)")
        })?;
        if args.stock_nodes && !in_path("pg_autoctl") {
            return Err(missing("--stock-nodes needs pg_autoctl 2.0 in PATH (Debian: apt-get install pg-auto-failover-cli)"));
        }
        let user = match geteuid().is_root() {
            true => Some(User::from_name("postgres").ok().flatten().ok_or_else(|| {
                missing("PostgreSQL does not run as root, and there is no user postgres to run it as")
            })?),
            false => None,
        };
        let port = free_ports(args.port)?;
        let parent = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map_or(PathBuf::from("/tmp"), PathBuf::from);
        let directory = match &args.directory {
            Some(directory) => std::path::absolute(directory)?,
            None => parent.join(format!("pgquorum-demo.{}", std::process::id())),
        };
        fs::create_dir(&directory)
            .map_err(|error| missing(format!("cannot make the directory {}: {error}", directory.display())))?;
        let own_name = || User::from_uid(geteuid()).ok().flatten().map(|user| user.name);
        let owner = user.as_ref().map(|user| user.name.clone()).or_else(own_name);
        let owner = owner.ok_or_else(|| missing("the user that runs this has no name"))?;
        let ground = Ground { owner, directory, bindir, stock_nodes: args.stock_nodes, port, user };
        match ground.furnish() {
            Ok(()) => Ok(ground),
            Err(error) => {
                ground.clean_up()?;
                Err(missing(format!("cannot prepare {}: {error}", ground.directory.display())))
            }
        }
    }

    /// A copy of this program that the nodes' user can run, and places for logs, sockets and files.
    fn furnish(&self) -> std::io::Result<()> {
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o755))?;
        fs::write(self.directory.join(MARK), format!("{}\n", self.port))?;
        fs::copy(std::env::current_exe()?, self.program())?;
        fs::set_permissions(self.program(), fs::Permissions::from_mode(0o755))?;
        for dir in ["log", "socket", "xdg", "xdg/run"] {
            fs::create_dir(self.directory.join(dir))?;
        }
        if let Some(user) = &self.user {
            for dir in ["", "log", "socket", "xdg", "xdg/run"] {
                chown(self.directory.join(dir), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
        }
        Ok(())
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn program(&self) -> PathBuf {
        self.directory.join("pgquorum")
    }

    /// The data directory of a monitor (`m1`) or a node (`node1`).
    pub fn data(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join("log").join(format!("{name}.log"))
    }

    /// A command in an environment of its own, as the user that PostgreSQL accepts. A terminal's Ctrl-C
    /// does not reach it.
    pub fn command(&self, program: &Path) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.directory).stdin(Stdio::null()).process_group(0);
        command.env("HOME", &self.directory).env("USER", &self.owner).env("LC_ALL", "C.UTF-8");
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", self.bindir.display()));
        command.env("XDG_CONFIG_HOME", self.directory.join("xdg/config"));
        command.env("XDG_DATA_HOME", self.directory.join("xdg/data"));
        command.env("XDG_RUNTIME_DIR", self.directory.join("xdg/run"));
        // Stock keepers have PostgreSQL's socket there.
        command.env("PG_REGRESS_SOCK_DIR", self.socket());
        if let Some(zone) = std::env::var_os("TZ") {
            command.env("TZ", zone);
        }
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// What a shell needs to look around: sourced, not run.
    pub fn write_environment(&self, monitors: &str, application: &str) -> std::io::Result<()> {
        // libpq takes the parts of a URI from these, as far as nothing else is said.
        let (hosts, ports): (Vec<&str>, Vec<String>) =
            (1..=3).map(|number| ("127.0.0.1", (self.port + 10 + number).to_string())).unzip();
        let text = format!(
            "# Sourced by a shell. The application's connection string: {application}\n\
             export PG_AUTOCTL_MONITOR='{monitors}'\n\
             export PATH='{}':'{}':\"$PATH\"\n\
             export PGHOST={} PGPORT={} PGUSER={APPLICATION} PGDATABASE={APPLICATION} PGTARGETSESSIONATTRS=read-write\n",
            self.directory.display(),
            self.bindir.display(),
            hosts.join(","),
            ports.join(","),
        );
        fs::write(self.directory.join("env"), text)
    }

    /// The ends of all logs, for somebody who has to find out what went wrong.
    pub fn show_logs(&self) {
        let Ok(entries) = fs::read_dir(self.directory.join("log")) else { return };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(3)..] {
                warn!("{}: {line}", file.file_stem().unwrap_or_default().to_string_lossy());
            }
        }
    }

    pub fn clean_up(&self) -> Result<(), CliError> {
        remove(&self.directory)
    }
}

/// Kills what runs in a directory of ours, and removes it.
fn remove(directory: &Path) -> Result<(), CliError> {
    // What names the directory itself may be somebody who waits for us: its inhabitants are below it.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        processes::kill_below(&entry.path());
    }
    fs::remove_dir_all(directory).map_err(|error| {
        CliError::new(Status::BadState, format!("{} could not be removed: {error}", directory.display()))
    })
}

/// `demo --stop`.
pub fn stop(directory: &Path) -> Result<(), CliError> {
    let directory = std::path::absolute(directory)?;
    if !directory.join(MARK).is_file() {
        return Err(CliError::new(
            Status::BadArguments,
            format!("{} is no directory of `pgquorum demo`", directory.display()),
        ));
    }
    remove(&directory)?;
    info!("stopped and removed the demonstration in {}", directory.display());
    Ok(())
}

/// The directory of the newest server: in Debian's places, else where PATH has one.
fn newest_postgres() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = debian.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let bindir = entry.path().join("bin");
        bindir.join("postgres").exists().then_some((version, bindir))
    });
    versions.max().map(|(_, bindir)| bindir).or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).find(|dir| dir.join("postgres").exists() && dir.join("initdb").exists())
    })
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}

/// The first of a row of ports that are all free: the one asked for, or one that two demonstrations at
/// once will hardly both try first. Below the range that the kernel takes ports of connections from.
fn free_ports(asked: Option<u16>) -> Result<u16, CliError> {
    let taken = |base: u16| {
        let ports = OFFSETS.iter().map(move |offset| base + offset);
        ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_err()).collect::<Vec<u16>>()
    };
    if let Some(port) = asked {
        if !(1024..=50_000).contains(&port) {
            return Err(CliError::new(Status::BadArguments, "--port must be between 1024 and 50000"));
        }
        let taken: Vec<String> = taken(port).iter().map(u16::to_string).collect();
        return match taken.is_empty() {
            true => Ok(port),
            false => Err(missing(format!("--port {port} needs ports that are taken: {}", taken.join(", ")))
                .hint("without --port, free ones are looked for")),
        };
    }
    let first = std::process::id() as u16 % 100;
    (0..100)
        .map(|step| 20_000 + (first + step) % 100 * SPAN)
        .find(|base| taken(*base).is_empty())
        .ok_or_else(|| missing("no free ports between 20000 and 22000: name one with --port"))
}
