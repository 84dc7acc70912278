//! The keeper's side: finding, starting and asking the guardian.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::protocol::{Answer, LastExit, Message, Request, Status, StopMode, VERSION};
use super::{COMMAND, own_program, remains};
use crate::boottime::BootTime;
use crate::error::{KeeperError, Result};

/// A guardian answers in microseconds; one that does not within this time hangs.
const ANSWER: Duration = Duration::from_secs(2);
/// A new guardian's first word.
const START: Duration = Duration::from_secs(10);
/// From its start to its lock.
const SPAWN: Duration = Duration::from_secs(2);

/// `/proc/self/fd/N/guardian.sock`: short, however long the directory's path is.
pub(super) fn short_path(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/guardian.sock", dir.as_raw_fd()))
}

struct Link {
    writer: OwnedWriteHalf,
    answers: mpsc::UnboundedReceiver<Answer>,
}

/// A guardian that is connected when it is needed, and replaced when it is gone or hangs.
pub struct Guardian {
    home: PathBuf,
    pgdata: PathBuf,
    link: Mutex<Option<Link>>,
    events: mpsc::UnboundedSender<Event>,
}

/// What a guardian tells unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Exited(LastExit),
    /// The connection broke: the guardian is gone or was replaced.
    Lost,
}

impl Guardian {
    pub fn new(home: &Path, pgdata: &Path) -> (Guardian, mpsc::UnboundedReceiver<Event>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let guardian =
            Guardian { home: home.to_path_buf(), pgdata: pgdata.to_path_buf(), link: Mutex::new(None), events };
        (guardian, receiver)
    }

    pub async fn status(&self) -> Result<Status> {
        self.ask(&Request::Status).await
    }

    /// Sends a request to a guardian that lives, which is started if need be.
    pub async fn ask(&self, request: &Request) -> Result<Status> {
        let mut link = self.link.lock().await;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut connected = match link.take() {
                Some(connected) => connected,
                None => self.connect().await?,
            };
            match timeout(ANSWER, exchange(&mut connected, request)).await {
                Ok(Some(answer)) => {
                    *link = Some(connected);
                    return match answer.error {
                        Some(error) => Err(KeeperError::keeper(format!("guardian: {error}"))),
                        None => Ok(answer.status),
                    };
                }
                // It died between two requests: the next one gets a new guardian.
                Ok(None) if attempts < 3 => {}
                Ok(None) => return Err(KeeperError::keeper("the guardian closes its connections at once")),
                Err(_) if attempts < 3 => self.replace_hung().await?,
                Err(_) => return Err(KeeperError::keeper("the guardian gives no answer")),
            }
        }
    }

    /// A guardian that this keeper understands. One that another release left is replaced; PostgreSQL goes
    /// with it.
    pub async fn agreed(&self) -> Result<Status> {
        let status = self.status().await?;
        match status.version == VERSION {
            true => Ok(status),
            false => {
                self.retire(&status).await?;
                self.status().await
            }
        }
    }

    /// `status`, `stop` and `quit` are the same in all versions.
    async fn retire(&self, status: &Status) -> Result<()> {
        warn!(
            "the guardian (process {}) was left by another release and speaks version {} of the protocol, this keeper \
             {VERSION}: PostgreSQL is stopped and comes back under a new guardian",
            status.pid, status.version
        );
        self.ask(&Request::Stop { mode: StopMode::Fast }).await?;
        let began = Instant::now();
        while self.status().await?.postmaster.is_some() {
            if began.elapsed() > START {
                self.ask(&Request::Stop { mode: StopMode::Fence }).await?;
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.ask(&Request::Quit).await?;
        *self.link.lock().await = None;
        let deadline = Instant::now() + ANSWER;
        while is_locked(&self.home) && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Asks a guardian that lives, and starts none.
    pub async fn ask_if_running(&self, request: &Request) -> Option<Status> {
        if !is_locked(&self.home) {
            return None;
        }
        timeout(START, self.ask(request)).await.ok()?.ok()
    }

    async fn connect(&self) -> Result<Link> {
        let deadline = Instant::now() + START;
        let mut spawned: Option<Instant> = None;
        loop {
            if let Some(stream) = self.open().await {
                return Ok(self.serve(stream));
            }
            // One that died before it could say a word is replaced, too.
            if !is_locked(&self.home) && spawned.is_none_or(|at| at.elapsed() > SPAWN) {
                self.spawn()?;
                spawned = Some(Instant::now());
            }
            if Instant::now() > deadline {
                return Err(KeeperError::keeper(format!(
                    "cannot reach the guardian in {}; its last words may be in guardian.log there",
                    self.home.display()
                )));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn open(&self) -> Option<UnixStream> {
        let dir = File::open(&self.home).ok()?;
        UnixStream::connect(short_path(&dir)).await.ok()
    }

    fn serve(&self, stream: UnixStream) -> Link {
        let (reader, writer) = stream.into_split();
        let (answered, answers) = mpsc::unbounded_channel();
        let events = self.events.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str::<Message>(&line) {
                    Ok(Message::Answer(answer)) => drop(answered.send(answer)),
                    Ok(Message::Exited(exit)) => drop(events.send(Event::Exited(exit))),
                    Err(error) => warn!("the guardian said something odd: {error}"),
                }
            }
            let _ = events.send(Event::Lost);
        });
        Link { writer, answers }
    }

    fn spawn(&self) -> Result<()> {
        let io = |error: std::io::Error| KeeperError::io("cannot start the guardian", &error);
        let log = File::create(self.home.join("guardian.log")).map_err(io)?;
        let errors = log.try_clone().map_err(io)?;
        let mut child = tokio::process::Command::new(own_program()?)
            .arg(COMMAND)
            .arg("--pgdata")
            .arg(&self.pgdata)
            .arg("--home")
            .arg(&self.home)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(false)
            .spawn()
            .map_err(io)?;
        info!("started the guardian (process {})", child.id().unwrap_or(0));
        // Collected when it ends, so that it is not left a zombie.
        tokio::spawn(async move {
            let _ = child.wait().await;
        });
        Ok(())
    }

    /// A guardian that is stopped or stuck protects nobody. Its end ends PostgreSQL as well; the keeper
    /// is alive and starts both again.
    async fn replace_hung(&self) -> Result<()> {
        let text = fs::read_to_string(self.home.join("guardian.pid")).unwrap_or_default();
        let mut words = text.split_whitespace().map(|word| word.parse::<u64>().ok());
        let (Some(Some(pid)), Some(Some(started))) = (words.next(), words.next()) else {
            return Err(KeeperError::keeper("the guardian gives no answer, and its pid file is not readable"));
        };
        let is_it = remains::stat(pid as i32).is_some_and(|stat| stat.started == started);
        if is_it && is_locked(&self.home) {
            warn!("the guardian (process {pid}) gives no answer: replacing it, PostgreSQL restarts with it");
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
        let deadline = Instant::now() + ANSWER;
        while is_locked(&self.home) && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The end of the lease, or none.
    pub async fn lease(&self, until: Option<BootTime>) -> Result<()> {
        self.ask(&Request::Lease { until }).await.map(drop)
    }
}

async fn exchange(link: &mut Link, request: &Request) -> Option<Answer> {
    let mut line = serde_json::to_vec(request).ok()?;
    line.push(b'\n');
    link.writer.write_all(&line).await.ok()?;
    link.answers.recv().await
}

/// Does a guardian hold its lock?
pub fn is_locked(home: &Path) -> bool {
    match File::open(home.join("guardian.pid")) {
        Ok(file) => file.try_lock_shared().is_err(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A guardian of a release to come: it answers with fields and a version that nobody here knows.
    fn of_another_release(home: &Path) -> std::thread::JoinHandle<Vec<String>> {
        let lock = File::create(home.join("guardian.pid")).unwrap();
        lock.lock().unwrap();
        let listener = UnixListener::bind(home.join("guardian.sock")).unwrap();
        std::thread::spawn(move || {
            let mut heard = Vec::new();
            let (mut stream, _) = listener.accept().unwrap();
            let lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
            for line in lines {
                heard.push(line.unwrap());
                let postmaster = if heard.iter().any(|line| line.contains("fast")) { "null" } else { "7" };
                let status = format!(r#"{{"version":99,"pid":1,"postmaster":{postmaster},"lease":null,"last_exit":null,"new":1}}"#);
                stream.write_all(format!("{{\"answer\":{{\"status\":{status},\"error\":null}}}}\n").as_bytes()).unwrap();
                if heard.iter().any(|line| line.contains("quit")) {
                    break;
                }
            }
            std::mem::drop(lock);
            heard
        })
    }

    #[tokio::test]
    async fn a_guardian_of_another_release_is_retired() {
        let home = tempfile::tempdir().unwrap();
        let other = of_another_release(home.path());
        let (guardian, _events) = Guardian::new(home.path(), Path::new("/nowhere"));
        let status = guardian.status().await.unwrap();
        assert_eq!((status.version, status.postmaster), (99, Some(7)));
        guardian.retire(&status).await.unwrap();
        assert!(!is_locked(home.path()));
        let heard = other.join().unwrap();
        assert_eq!(heard.first().unwrap(), "\"status\"");
        assert_eq!(heard.last().unwrap(), "\"quit\"");
    }
}
