//! Commands that end: run with a deadline, output captured.

use std::fmt;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::process::{signal_all, tree};
use crate::wait::wait_until;
use crate::{Context, Result, bail, ensure};

/// What a command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    pub line: String,
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` exited {} after {:.1} s\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.code,
            self.took.as_secs_f64(),
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

impl Output {
    /// The output, provided that the command exited with 0.
    pub fn ok(self) -> Result<Self> {
        self.exits(0)
    }

    /// The output, provided that the command exited with `code`.
    pub fn exits(self, code: i32) -> Result<Self> {
        ensure!(self.code == code, "expected exit code {code}: {self}");
        Ok(self)
    }

    /// The output, provided that the command took less than `limit`.
    pub fn within(self, limit: Duration) -> Result<Self> {
        ensure!(self.took < limit, "expected an end within {} s: {self}", limit.as_secs_f64());
        Ok(self)
    }

    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout).context(format!("no JSON from {self}"))
    }
}

/// Runs `command` to its end, or kills it and fails when `deadline` is over.
pub fn run(mut command: Command, deadline: Duration) -> Result<Output> {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(format!("start `{line}`"))?;
    let pid = i32::try_from(child.id())?;
    // A daemon that inherited the pipes may keep them open after the command's end: the readers
    // are only waited for briefly then, and what they have is taken.
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = wait_until(&line, deadline, || Ok(child.try_wait()?));
    if status.is_err() {
        signal_all(&tree(&[pid]), Signal::SIGKILL)?;
        child.wait()?;
    }
    let took = started.elapsed();
    let output = Output {
        line,
        code: status.as_ref().ok().and_then(|s| s.code()).unwrap_or(-1),
        stdout: stdout.collect(),
        stderr: stderr.collect(),
        took,
    };
    if let Err(timeout) = status {
        bail!("{timeout}: {output}");
    }
    Ok(output)
}

struct Drain {
    chunks: std::sync::mpsc::Receiver<Vec<u8>>,
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> Drain {
    let (sender, chunks) = std::sync::mpsc::channel();
    if let Some(mut pipe) = pipe {
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer.iter().take(n).copied().collect()).is_err() {
                    return;
                }
            }
        });
    }
    Drain { chunks }
}

impl Drain {
    fn collect(self) -> String {
        let mut bytes = Vec::new();
        while let Ok(chunk) = self.chunks.recv_timeout(Duration::from_millis(500)) {
            bytes.extend(chunk);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
