//! Our three monitors, each a process of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Kind, Monitors};
use crate::ports::REPLICA_OFFSET;
use crate::process::Process;
use crate::{Context, Lab, Result, bail, requirements};

struct Replica {
    name: String,
    port: u16,
    log: PathBuf,
    process: Option<Process>,
}

/// The command that runs the monitor of this name and port.
type MakeCommand = Box<dyn Fn(&str, u16) -> Command + Send>;

pub struct PgquorumMonitors {
    replicas: Vec<Replica>,
    command: MakeCommand,
}

impl PgquorumMonitors {
    /// Starts `count` monitors as one quorum and waits until each of them serves.
    pub fn start(lab: &Lab, count: usize) -> Result<Self> {
        let binary = requirements::pgquorum_binary()?;
        let mut replicas = Vec::new();
        for i in 1..=count {
            let name = format!("m{i}");
            replicas.push(Replica { log: lab.log(&name), name, port: lab.port()?, process: None });
        }
        let members: Vec<String> =
            replicas.iter().map(|r| format!("{}=127.0.0.1:{}", r.name, r.port)).collect();
        let members = members.join(",");
        let proto = lab.command_as_us(&binary);
        let dir = lab.path("");
        let environment: Vec<_> =
            proto.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
        let command = move |name: &str, port: u16| {
            use std::os::unix::process::CommandExt;
            let mut command = Command::new(&binary);
            command.env_clear().envs(environment.clone()).current_dir(&dir).process_group(0);
            command.args(["create", "monitor", "--name", name, "--hostname", "127.0.0.1"]);
            command.arg("--pgdata").arg(dir.join(name)).args(["--pgport", &port.to_string()]);
            command.args(["--replicas", &members, "--auth", "trust", "--no-ssl", "--run"]);
            command
        };
        let mut monitors = Self { replicas, command: Box::new(command) };
        for i in 0..count {
            monitors.restart(i)?;
        }
        for i in 0..count {
            monitors.serving(i)?;
            lab.remember_monitor(monitors.uri(i));
        }
        Ok(monitors)
    }

    fn replica(&mut self, i: usize) -> Result<&mut Replica> {
        self.replicas.get_mut(i).context(format!("there is no monitor {i}"))
    }

    fn process(&mut self, i: usize) -> Result<&Process> {
        self.replica(i)?.process.as_ref().context(format!("monitor {i} does not run"))
    }

    /// The port where other replicas reach replica `i`.
    pub fn replica_port(&self, i: usize) -> Option<u16> {
        self.replicas.get(i).map(|r| r.port + REPLICA_OFFSET)
    }
}

impl Monitors for PgquorumMonitors {
    fn kind(&self) -> Kind {
        Kind::Pgquorum
    }

    fn ports(&self) -> Vec<u16> {
        self.replicas.iter().map(|r| r.port).collect()
    }

    fn pid(&self, i: usize) -> Option<i32> {
        let process = self.replicas.get(i)?.process.as_ref()?;
        process.running().then(|| process.pid())
    }

    fn kill(&mut self, i: usize) -> Result<()> {
        match self.replica(i)?.process.take() {
            Some(process) => process.kill(),
            None => bail!("monitor {i} is dead already"),
        }
    }

    fn pause(&mut self, i: usize) -> Result<()> {
        self.process(i)?.signal_tree(Signal::SIGSTOP)
    }

    fn resume(&mut self, i: usize) -> Result<()> {
        self.process(i)?.signal_tree(Signal::SIGCONT)
    }

    fn stop(&mut self, i: usize) -> Result<()> {
        let process = self.replica(i)?.process.take().context(format!("monitor {i} does not run"))?;
        process.signal(Signal::SIGTERM)?;
        process.wait(Duration::from_secs(30)).map(drop)
    }

    fn restart(&mut self, i: usize) -> Result<()> {
        let (name, port, log) = {
            let replica = self.replica(i)?;
            (replica.name.clone(), replica.port, replica.log.clone())
        };
        let process = Process::spawn(&name, (self.command)(&name, port), &log)?;
        self.replica(i)?.process = Some(process);
        Ok(())
    }

    fn admin(&self) -> String {
        "autoctl_node".to_owned()
    }
}
