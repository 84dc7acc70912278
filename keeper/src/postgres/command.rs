//! Running PostgreSQL's programs: with a deadline, without leaking secrets, killed when no longer wanted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use tracing::{debug, info};

use crate::error::{KeeperError, Result};

/// Target of the log lines about a copy under way; their field `percent` is the part that is done.
pub const PROGRESS: &str = "keeper::progress";

/// One invocation. Secrets go into the environment (readable by the same user only), never into the
/// arguments, which everybody can see in `ps`.
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    secrets: Vec<(&'static str, String)>,
    /// Lines of standard error are logged as they come.
    progress: bool,
    /// It and what it forks end with the keeper.
    tied: bool,
}

/// The process group of a tied program: whatever is left of it when the keeper no longer wants it.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.0 as i32), nix::sys::signal::Signal::SIGKILL);
    }
}

/// What a program said.
pub struct Output {
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    pub fn new(path: impl AsRef<Path>) -> Program {
        Program { path: path.as_ref().to_path_buf(), args: Vec::new(), secrets: Vec::new(), progress: false, tied: false }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Program {
        self.args.push(arg.into());
        self
    }

    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Program {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn password(mut self, password: Option<&str>) -> Program {
        self.secrets.extend(password.map(|p| ("PGPASSWORD", p.to_string())));
        self
    }

    pub fn logged(mut self) -> Program {
        self.progress = true;
        self
    }

    /// Dies with the keeper, however that ends: for programs that write into the node's directories.
    pub fn tied(mut self) -> Program {
        self.tied = true;
        self
    }

    fn command(&self) -> Result<Command> {
        if !self.tied {
            return Ok(Command::new(&self.path));
        }
        let mut command = Command::new(crate::guardian::own_program()?);
        command.process_group(0);
        command.arg(crate::guardian::COMMAND).arg(crate::guardian::TIED);
        command.arg(std::process::id().to_string()).arg(&self.path);
        Ok(command)
    }

    fn name(&self) -> String {
        self.path.file_name().map_or_else(|| "program".to_string(), |n| n.to_string_lossy().into_owned())
    }

    /// Runs to the end. Dropping the future kills the program.
    pub async fn run(self, deadline: Duration) -> Result<Output> {
        let name = self.name();
        debug!(program = %name, args = ?self.args, "running");
        let mut command = self.command()?;
        command
            .args(&self.args)
            .env("LC_ALL", "C")
            // What the keeper's user set for psql must not redirect the keeper.
            .env_remove("PGHOST")
            .env_remove("PGPORT")
            .env_remove("PGDATABASE")
            .env_remove("PGUSER")
            .env_remove("PGPASSWORD")
            .env_remove("PGSERVICE")
            .env_remove("PGOPTIONS")
            .env_remove("PGDATA")
            .env("PGAPPNAME", "pgquorum")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (key, value) in &self.secrets {
            command.env(key, value);
        }
        let mut child = command
            .spawn()
            .map_err(|error| KeeperError::postgres(format!("cannot run {}: {error}", self.path.display())))?;
        let pid = child.id();
        let _group = pid.filter(|_| self.tied).map(Group);
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(KeeperError::internal(format!("{name} has no pipes")));
        };
        let progress = self.progress;
        let stdout = async move {
            let mut text = Vec::new();
            let _ = BufReader::new(out).read_to_end(&mut text).await;
            String::from_utf8_lossy(&text).into_owned()
        };
        let shown = name.clone();
        let stderr = async move {
            let mut text = String::new();
            let mut lines = BufReader::new(err).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                // pg_basebackup rewrites its progress line with carriage returns.
                let line = String::from_utf8_lossy(&line);
                for part in line.split('\r').map(str::trim).filter(|part| !part.is_empty()) {
                    // Most lines begin with the program's name themselves.
                    let words = part.strip_prefix(shown.as_str()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(part);
                    match (progress, percent(words)) {
                        (true, Some(percent)) => info!(target: PROGRESS, percent, "{shown}: {words}"),
                        (true, None) => info!("{shown}: {words}"),
                        (false, _) => debug!("{shown}: {words}"),
                    }
                    // The last words matter; a long backup must not fill the memory.
                    if text.len() > 16_384 {
                        text.clear();
                    }
                    text.push_str(part);
                    text.push('\n');
                }
            }
            text
        };
        let all = async { tokio::join!(stdout, stderr, child.wait()) };
        let (stdout, stderr, status) = timeout(deadline, all).await.map_err(|_| {
            let doing = pid.map(what_it_does).unwrap_or_default();
            KeeperError::postgres(format!(
                "{name} did not finish within {} s and was stopped{doing}",
                deadline.as_secs_f32()
            ))
        })?;
        let status = status.map_err(|error| KeeperError::postgres(format!("{name}: {error}")))?;
        if status.success() {
            return Ok(Output { stdout, stderr });
        }
        let said = if stderr.trim().is_empty() { stdout.trim() } else { stderr.trim() };
        let tail: Vec<&str> = said.lines().rev().take(6).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Err(KeeperError::postgres(format!("{name} failed ({status}): {}", tail.join(" | "))))
    }
}

/// What the kernel tells of a process that does not end.
fn what_it_does(pid: u32) -> String {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let state = read("status").lines().find_map(|line| Some(line.strip_prefix("State:")?.trim().to_string()));
    match state {
        Some(state) => format!(" ({state} in {})", read("wchan")),
        None => " (it was gone)".to_string(),
    }
}

/// `23450/41230 kB (56%), 0/1 tablespace` is 56.
fn percent(line: &str) -> Option<u64> {
    let (before, _) = line.split_once("%)")?;
    before.rsplit_once('(')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_is_done() {
        assert_eq!(percent("23450/41230 kB (56%), 0/1 tablespace"), Some(56));
        assert_eq!(percent("  41230/41230 kB (100%), 1/1 tablespace"), Some(100));
        assert_eq!(percent("pg_basebackup: checkpoint completed"), None);
    }
}
