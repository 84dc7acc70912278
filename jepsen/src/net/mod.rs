//! Machines of a lab: network namespaces on one switch, each with an address of its own.

pub mod random;
pub mod switch;
pub mod userns;

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::process::{self, Process, kill_at_once, signal_all};
use crate::requirements::{account, in_path};
use crate::wait::wait_until;
use crate::{Context, Lab, Result, bail, command, ensure, faults, sys};
use switch::{Effect, Plug, RuleId, Switch};

/// The harness itself, as a place on the network: its clients are here.
pub const HERE: &str = "clients";

/// A machine: a network namespace, and whatever runs in it.
pub struct Machine {
    pub name: String,
    pub address: String,
    /// Keeps the namespace alive.
    holder: Process,
    namespace: String,
}

pub struct Network {
    machines: Vec<Machine>,
    switch: Switch,
    /// Our own address, and that of the network with its length.
    pub here: String,
    pub subnet: String,
}

/// Whether this machine can have such networks; the error says what is missing.
pub fn probe() -> Result<()> {
    for program in ["ip", "nsenter", "unshare", "setpriv"] {
        in_path(program).context(format!("{program} is missing (Debian: iproute2, util-linux)"))?;
    }
    let mut try_out = Command::new("unshare");
    try_out.args(["-n", "true"]);
    let tried = command::run(try_out, Duration::from_secs(5))?;
    ensure!(
        tried.code == 0,
        "no network namespace, which needs root or a user namespace: {}",
        tried.stderr.trim()
    );
    sys::tap(&format!("probe{}", std::process::id() % 100_000)).map(drop)
}

impl Network {
    /// Machines of these names, all able to talk to each other and to us.
    pub fn start(lab: &Lab, names: &[&str], seed: u64) -> Result<Self> {
        probe()?;
        let id = std::process::id();
        // A network of our own below 10.128.0.0/9, or two labs would meet.
        // In a new namespace it is down.
        ip(lab.command_as_us("ip"), "link set dev lo up\n")?;
        let prefix = format!("10.{}.{}", 128 + (id >> 8) % 128, id % 256);
        let mac = |i: usize| [2, 0, (id >> 8) as u8, id as u8, 0, i as u8];
        let address = |i: usize| format!("{prefix}.{}", i + 1);
        let mut plugs = Vec::new();
        let mut machines = Vec::new();
        let neighbours = |own: usize| -> String {
            (0..=names.len())
                .filter(|i| *i != own)
                .map(|i| {
                    format!("neigh replace {} lladdr {} dev eth0 nud permanent\n", address(i), text(mac(i)))
                })
                .collect()
        };
        for (i, name) in std::iter::once(&HERE).chain(names).enumerate() {
            let device = format!("lab{id}-{i}");
            let tap = sys::tap(&device)?;
            plugs.push(Plug { mac: mac(i), tap });
            // Addresses of neighbours are given, not asked for: a cut must look like a cut in the
            // middle of the network, where packets vanish and nobody says that a host is unreachable.
            let setup = format!(
                "link set lo up\nlink set dev eth0 address {} mtu 9000\naddr add {}/24 dev eth0\nlink set dev eth0 up\n{}",
                text(mac(i)),
                address(i),
                neighbours(i)
            );
            if i == 0 {
                ip(lab.command_as_us("ip"), &setup.replace("eth0", &device))?;
                continue;
            }
            let mut hold = lab.command_as_us("unshare");
            hold.args(["-n", "sleep", "infinity"]);
            let holder = Process::spawn(name, hold, &lab.log("machines"))?;
            let ours = fs::read_link("/proc/self/ns/net")?;
            let namespace = wait_until("a network namespace", Duration::from_secs(5), || {
                let path = fs::read_link(format!("/proc/{}/ns/net", holder.pid()));
                let asleep = fs::read_to_string(format!("/proc/{}/comm", holder.pid()));
                let ready = asleep.is_ok_and(|comm| comm.trim() == "sleep");
                Ok(path.ok().filter(|path| ready && *path != ours))
            })?;
            let pid = holder.pid().to_string();
            ip(lab.command_as_us("ip"), &format!("link set dev {device} netns {pid}\n"))?;
            let mut inside = lab.command_as_us("nsenter");
            inside.args(["-t", &pid, "-n", "ip"]);
            ip(inside, &format!("link set dev {device} name eth0\n{setup}"))?;
            machines.push(Machine {
                name: (*name).to_owned(),
                address: address(i),
                holder,
                namespace: namespace.to_string_lossy().into_owned(),
            });
        }
        let here = address(0);
        Ok(Self { machines, switch: Switch::start(plugs, seed), here, subnet: format!("{prefix}.0/24") })
    }

    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    pub fn machine(&self, name: &str) -> Result<&Machine> {
        self.machines.iter().find(|m| m.name == name).context(format!("there is no machine {name}"))
    }

    fn plug(&self, name: &str) -> Result<usize> {
        if name == HERE {
            return Ok(0);
        }
        let i = self.machines.iter().position(|m| m.name == name);
        Ok(i.context(format!("there is no machine {name}"))? + 1)
    }

    /// Puts `effect` in force for what goes from `from` to `to`, and not for the other direction.
    pub fn add(&self, from: &str, to: &str, effect: Effect) -> Result<RuleId> {
        Ok(self.switch.add(self.plug(from)?, self.plug(to)?, effect))
    }

    /// Takes a rule back; how many frames it touched.
    pub fn remove(&self, rule: RuleId) -> u64 {
        self.switch.remove(rule)
    }

    /// Cuts both directions between each of `left` and each of `right`.
    pub fn cut(&self, left: &[&str], right: &[&str]) -> Result<Vec<RuleId>> {
        let mut rules = self.cut_one_way(left, right)?;
        rules.extend(self.cut_one_way(right, left)?);
        Ok(rules)
    }

    /// Cuts what goes from each of `from` to each of `to`.
    pub fn cut_one_way(&self, from: &[&str], to: &[&str]) -> Result<Vec<RuleId>> {
        let mut rules = Vec::new();
        for a in from {
            for b in to.iter().filter(|b| *b != a) {
                rules.push(self.add(a, b, Effect { cut: true, ..Effect::default() })?);
            }
        }
        Ok(rules)
    }

    /// Takes everything back.
    pub fn heal(&self) {
        self.switch.clear();
    }
}

impl Machine {
    /// A command on this machine, as the account that nodes run as.
    pub fn command(&self, lab: &Lab, program: &str) -> Result<Command> {
        let account = account()?;
        let mut command = lab.command_as_us("nsenter");
        command.args(["-t", &self.holder.pid().to_string(), "-n", "--"]);
        if account.switch {
            command.args(["setpriv", "--reuid", &account.uid.to_string()]);
            command.args(["--regid", &account.gid.to_string(), "--clear-groups", "--"]);
        } else {
            // What a user namespace gives us is for networks, not for those who live there.
            command.args(["setpriv", "--ambient-caps", "-all", "--inh-caps", "-all", "--"]);
        }
        command.args(faults::clock::prefix(lab, &self.name));
        command.arg(program);
        Ok(command)
    }

    /// Everything that runs on this machine.
    pub fn pids(&self) -> Vec<i32> {
        process::all()
            .into_iter()
            .filter(|pid| *pid != self.holder.pid())
            .filter(|pid| process::stat(*pid).is_some_and(|stat| stat.state != 'Z'))
            .filter(|pid| {
                let link = fs::read_link(format!("/proc/{pid}/ns/net"));
                link.is_ok_and(|link| link.to_string_lossy() == self.namespace)
            })
            .collect()
    }

    /// Those of its processes whose program has this name.
    pub fn pids_of(&self, program: &str) -> Vec<i32> {
        let named = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == program)
        };
        self.pids().into_iter().filter(named).collect()
    }

    /// kill -9 of everything on it, in one instant. Returns when nothing is left.
    pub fn kill(&self) -> Result<()> {
        wait_until(&format!("the end of everything on {}", self.name), Duration::from_secs(20), || {
            kill_at_once(|| self.pids())?;
            Ok(self.pids().is_empty().then_some(()))
        })
    }

    /// Freezes everything on it.
    pub fn pause(&self) -> Result<()> {
        // Once more for what was started meanwhile.
        signal_all(&self.pids(), Signal::SIGSTOP)?;
        signal_all(&self.pids(), Signal::SIGSTOP)
    }

    pub fn resume(&self) -> Result<()> {
        signal_all(&self.pids(), Signal::SIGCONT)
    }
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Runs a batch of `ip` commands.
fn ip(mut command: Command, batch: &str) -> Result<()> {
    use std::io::Write;
    use std::process::Stdio;
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(batch.as_bytes()).context("tell ip what to do")?;
    }
    let done = child.wait_with_output().context("ip")?;
    if !done.status.success() {
        bail!("ip failed: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
