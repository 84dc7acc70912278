//! The guardian's loop.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};

use super::protocol::{Answer, LastExit, Message, Request, Status, StopMode, VERSION};
use super::{COMMAND, own_program, remains};
use crate::boottime::BootTime;
use crate::error::{KeeperError, Result};

/// Between the immediate shutdown and SIGKILL: PostgreSQL needs 10 ms (measured), a postmaster that
/// is stopped or waits for a disk needs for ever.
const FENCE_PATIENCE: Duration = Duration::from_secs(1);
/// A guardian without a postmaster and without a keeper has nothing to do.
const IDLE: Duration = Duration::from_secs(60);
/// How soon a kill is looked at again; also how late a zombie is collected at the worst.
const SOON: Duration = Duration::from_millis(20);

struct Postmaster {
    pid: i32,
    pidfd: OwnedFd,
    /// Started by us, so that its exit status is ours to collect.
    child: bool,
}

struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    gone: bool,
}

struct Guardian {
    pgdata: PathBuf,
    postmaster: Option<Postmaster>,
    lease: Option<BootTime>,
    /// SIGKILL at this moment.
    kill_at: Option<BootTime>,
    fenced: bool,
    /// How the present postmaster ended.
    collected: Option<String>,
    /// The postmaster's end, while processes of it may remain.
    exit: Option<(i32, String)>,
    last_exit: Option<LastExit>,
    clients: Vec<Client>,
    idle_since: BootTime,
    quit: bool,
}

/// Runs until there is nothing to guard. The lock on `guardian.pid` says that a guardian lives, and is
/// released by the kernel when it does not.
pub fn run(pgdata: &Path, home: &Path) -> Result<()> {
    // Fails only for a group's leader, which is then away from the keeper's terminal already.
    let _ = setsid();
    // A service manager that stops all processes of a unit, or a terminal that goes away, must not take
    // the guardian before PostgreSQL: the keeper ends it. SIGKILL always can.
    let mut ignored = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGUSR2, Signal::SIGPIPE] {
        ignored.add(signal);
    }
    ignored.thread_block().map_err(|error| KeeperError::internal(format!("guardian: signals: {error}")))?;
    let io = |error: std::io::Error| KeeperError::io("guardian", &error);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(home.join("guardian.pid"))
        .map_err(io)?;
    // Keepers that look whether a guardian lives hold a shared lock for an instant.
    let patience = BootTime::now().plus(Duration::from_millis(500));
    while lock.try_lock().is_err() {
        if BootTime::now() > patience {
            return Err(KeeperError::state("another guardian runs already"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let started = remains::stat(std::process::id() as i32).map_or(0, |s| s.started);
    lock.set_len(0).map_err(io)?;
    lock.write_all(format!("{} {started}\n", std::process::id()).as_bytes()).map_err(io)?;
    let listener = listen(home).map_err(io)?;
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)
        .map_err(|error| KeeperError::internal(format!("guardian: timer: {error}")))?;
    // Orphans of a killed postmaster become our children, so that they can be collected.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let mut guardian = Guardian {
        pgdata: pgdata.to_path_buf(),
        postmaster: None,
        lease: None,
        kill_at: None,
        fenced: false,
        collected: None,
        exit: None,
        last_exit: None,
        clients: Vec::new(),
        idle_since: BootTime::now(),
        quit: false,
    };
    while !guardian.quit {
        guardian.wait(&listener, &timer)?;
        // Before anybody is heard: a keeper that was stopped together with this process must not renew
        // a lease that is over.
        guardian.watch();
        guardian.accept(&listener);
        guardian.read_clients();
        guardian.watch();
        guardian.clients.retain(|client| !client.gone);
        if guardian.postmaster.is_some() || guardian.exit.is_some() || !guardian.clients.is_empty() {
            guardian.idle_since = BootTime::now();
        } else if guardian.idle_since.age(BootTime::now()) > IDLE {
            break;
        }
    }
    let _ = fs::remove_file(home.join("guardian.sock"));
    drop(lock);
    Ok(())
}

/// The directory's path may be longer than a socket's may be: it is named by its descriptor.
fn listen(home: &Path) -> std::io::Result<UnixListener> {
    let path = home.join("guardian.sock");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let dir = File::open(home)?;
    let listener = UnixListener::bind(super::client::short_path(&dir))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Guardian {
    /// Sleeps until a descriptor, the lease or a pending kill wants attention.
    fn wait(&self, listener: &UnixListener, timer: &TimerFd) -> Result<()> {
        let next = [self.lease, self.kill_at].into_iter().flatten().min();
        let armed = match next {
            // Zero would disarm the timer.
            Some(at) => timer.set(
                Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(at.0.max(1)))),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            ),
            None => timer.unset(),
        };
        armed.map_err(|error| KeeperError::internal(format!("guardian: timer: {error}")))?;
        let mut fds = vec![
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(timer.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.postmaster.iter().map(|p| PollFd::new(p.pidfd.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.clients.iter().map(|c| PollFd::new(c.stream.as_fd(), PollFlags::POLLIN)));
        let timeout = match self.exit {
            Some(_) => PollTimeout::from(SOON.as_millis() as u16),
            None => PollTimeout::from(5000u16),
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(KeeperError::internal(format!("guardian: poll: {error}"))),
        }
    }

    fn accept(&mut self, listener: &UnixListener) {
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client { stream, received: Vec::new(), gone: false });
            }
        }
    }

    fn read_clients(&mut self) {
        for at in 0..self.clients.len() {
            let mut buffer = [0u8; 8192];
            loop {
                let client = &mut self.clients[at];
                match client.stream.read(&mut buffer) {
                    Ok(0) => client.gone = true,
                    Ok(n) => {
                        client.received.extend_from_slice(&buffer[..n]);
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => client.gone = true,
                }
                break;
            }
            while let Some(end) = self.clients[at].received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.clients[at].received.drain(..=end).collect();
                let error = match serde_json::from_slice::<Request>(&line) {
                    Ok(request) => self.obey(request).err(),
                    Err(error) => Some(format!("not understood: {error}")),
                };
                let answer = Message::Answer(Answer { status: self.status(), error });
                self.clients[at].send(&answer);
            }
        }
    }

    fn status(&self) -> Status {
        Status {
            version: VERSION,
            pid: std::process::id(),
            // While processes remain, a new postmaster could not start.
            postmaster: self.postmaster.as_ref().map(|p| p.pid).or(self.exit.as_ref().map(|(pid, _)| *pid)),
            lease: self.lease,
            last_exit: self.last_exit.clone(),
        }
    }

    fn obey(&mut self, request: Request) -> std::result::Result<(), String> {
        match request {
            Request::Status => Ok(()),
            Request::Start { program, args, log } => self.start(&program, &args, &log),
            Request::Adopt { pid } => {
                if self.postmaster.as_ref().is_some_and(|p| p.pid == pid) {
                    return Ok(());
                }
                self.must_be_free()?;
                let pidfd = open_pidfd(pid)?;
                // Checked after the descriptor is held: the number cannot change hands any more.
                if !remains::is_postgres_of(pid, &self.pgdata) {
                    return Err(format!("process {pid} is no postmaster of {}", self.pgdata.display()));
                }
                self.postmaster = Some(Postmaster { pid, pidfd, child: false });
                Ok(())
            }
            Request::Stop { mode: StopMode::Fast } => {
                if let Some(postmaster) = &self.postmaster {
                    let _ = kill(Pid::from_raw(postmaster.pid), Signal::SIGINT);
                }
                Ok(())
            }
            Request::Stop { mode: StopMode::Fence } => {
                self.fence();
                Ok(())
            }
            Request::Lease { until } => {
                self.lease = until;
                Ok(())
            }
            Request::Quit if self.postmaster.is_some() || self.exit.is_some() => {
                Err("PostgreSQL is still running".to_string())
            }
            Request::Quit => {
                self.quit = true;
                Ok(())
            }
        }
    }

    fn must_be_free(&self) -> std::result::Result<(), String> {
        match (&self.postmaster, &self.exit) {
            (Some(postmaster), _) => Err(format!("PostgreSQL runs already (process {})", postmaster.pid)),
            (_, Some((pid, _))) => Err(format!("processes of postmaster {pid} remain")),
            _ => Ok(()),
        }
    }

    fn start(&mut self, program: &Path, args: &[String], log: &Path) -> std::result::Result<(), String> {
        self.must_be_free()?;
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(log)
            .map_err(|error| format!("cannot open {}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let own = own_program().map_err(|error| error.to_string())?;
        let child = Command::new(own)
            .arg(COMMAND)
            .arg("--exec")
            .arg(std::process::id().to_string())
            .arg(program)
            .args(args)
            .current_dir("/")
            // libpq would prefer it to the walreceiver's password file.
            .env_remove("PGPASSWORD")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let pid = child.id() as i32;
        // Our child, not yet waited for: its number cannot have been given to another process.
        let pidfd = open_pidfd(pid)?;
        self.postmaster = Some(Postmaster { pid, pidfd, child: true });
        (self.kill_at, self.fenced) = (None, false);
        Ok(())
    }

    /// Immediate shutdown now, SIGKILL for what is left in a second.
    fn fence(&mut self) {
        if let Some(postmaster) = &self.postmaster {
            let _ = kill(Pid::from_raw(postmaster.pid), Signal::SIGQUIT);
        }
        self.kill_at.get_or_insert(BootTime::now().plus(FENCE_PATIENCE));
    }

    /// Collects ended children: the postmaster, whose status is kept, and orphans that came to us.
    fn reap(&mut self) {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exit {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("signal {}", signal as i32)),
                _ => return,
            };
            if self.postmaster.as_ref().is_some_and(|p| p.pid == pid.as_raw()) {
                self.collected = Some(how);
            }
        }
    }

    /// Lease, pending kill, the postmaster's end, zombies.
    fn watch(&mut self) {
        let now = BootTime::now();
        self.reap();
        if self.lease.is_some_and(|until| until <= now) {
            self.lease = None;
            self.fenced = true;
            self.fence();
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            if let Some(postmaster) = &self.postmaster {
                let _ = kill(Pid::from_raw(postmaster.pid), Signal::SIGKILL);
            }
            // Also a postmaster that was started behind our back.
            let left = remains::kill_all(&self.pgdata);
            self.kill_at = (left > 0).then(|| now.plus(SOON));
        }
        if let Some(postmaster) = &self.postmaster
            && has_ended(&postmaster.pidfd)
        {
            let how = self.collected.take().filter(|_| postmaster.child).unwrap_or_else(|| "unknown".to_string());
            self.exit = Some((postmaster.pid, how));
            self.postmaster = None;
            remains::kill_all(&self.pgdata);
        }
        if self.exit.is_some()
            && remains::kill_all(&self.pgdata) == 0
            && let Some((pid, how)) = self.exit.take()
        {
            let last = LastExit { pid, how, at: now, fenced: self.fenced };
            (self.kill_at, self.fenced, self.lease) = (None, false, None);
            self.last_exit = Some(last.clone());
            let message = Message::Exited(last);
            for client in &mut self.clients {
                client.send(&message);
            }
        }
    }
}

impl Client {
    /// A keeper that does not read is as good as gone; it must not hold us up.
    fn send(&mut self, message: &Message) {
        let Ok(mut line) = serde_json::to_vec(message) else { return };
        line.push(b'\n');
        if self.stream.write_all(&line).is_err() {
            self.gone = true;
        }
    }
}

fn open_pidfd(pid: i32) -> std::result::Result<OwnedFd, String> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or("no such process")?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(|error| format!("cannot watch process {pid:?}: {error}"))
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}
