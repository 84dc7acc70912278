//! A client that writes row after row and remembers which ones it was promised.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::poll_fn;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

use crate::exit::{CliError, Status};

/// A row that is not acknowledged by then is given up, and the next one tried on a new connection.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Log {
    acknowledged: Vec<(i64, Instant)>,
}

pub struct Writer {
    user: String,
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

struct Connection {
    client: Client,
    /// The server said something beside its answers: that a commit does not wait for the standby any more.
    warned: Arc<AtomicBool>,
}

async fn connect(uri: &str, user: &str) -> Result<Connection, String> {
    let mut config: Config = uri.parse().map_err(|error| format!("{uri}: {error}"))?;
    config.user(user).connect_timeout(Duration::from_millis(500));
    let (client, mut connection) = timeout(Duration::from_secs(2), config.connect(NoTls))
        .await
        .map_err(|_| "no answer".to_string())?
        .map_err(|error| error.to_string())?;
    let warned = Arc::new(AtomicBool::new(false));
    let seen = warned.clone();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notice(_) = message {
                seen.store(true, Ordering::SeqCst);
            }
        }
    });
    Ok(Connection { client, warned })
}

impl Writer {
    /// Makes the table and begins.
    pub async fn start(uri: &str, user: &str) -> Result<Writer, CliError> {
        let failed = |error: String| {
            CliError::new(Status::Postgres, error).while_doing("the application cannot make its table")
        };
        let first = connect(uri, user).await.map_err(failed)?;
        first
            .client
            .batch_execute("CREATE TABLE demo (id bigint PRIMARY KEY)")
            .await
            .map_err(|error| failed(error.to_string()))?;
        let (log, stop) = (Arc::new(Mutex::new(Log::default())), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn(write(uri.to_string(), user.to_string(), first, log.clone(), stop.clone()));
        Ok(Writer { user: user.to_string(), log, stop, task: Some(task) })
    }

    fn with<T>(&self, read: impl FnOnce(&Log) -> T) -> T {
        // A poisoned lock means that the other side panicked between two pushes: the list is whole.
        read(&self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    pub fn acknowledged(&self) -> usize {
        self.with(|log| log.acknowledged.len())
    }

    /// Waits for more rows than that.
    pub async fn more_than(&self, count: usize, patience: Duration) -> Result<(), CliError> {
        let deadline = Instant::now() + patience;
        while self.acknowledged() <= count {
            if Instant::now() > deadline {
                return Err(CliError::new(
                    Status::BadState,
                    format!("the client did not get its rows acknowledged within {} s", patience.as_secs()),
                ));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// A row was acknowledged, after one that was on its way when it happened.
    pub fn resumed(&self, since: Instant) -> bool {
        self.with(|log| log.acknowledged.last().is_some_and(|(_, at)| *at > since + Duration::from_millis(100)))
    }

    /// The longest time without an acknowledged row, from the last one before `since`.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        self.with(|log| {
            let mut last = None;
            let mut longest = Duration::ZERO;
            for (_, at) in &log.acknowledged {
                if *at >= since && let Some(last) = last {
                    longest = longest.max(at.duration_since(last));
                }
                last = Some(*at);
            }
            longest
        })
    }

    /// Ends the writing, and looks for every promised row.
    pub async fn stop_and_count_lost(&mut self, uri: &str) -> Result<usize, CliError> {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
        let failed = |error: String| CliError::new(Status::Postgres, error).while_doing("the rows cannot be counted");
        let connection = connect(uri, &self.user).await.map_err(failed)?;
        let rows =
            connection.client.query("SELECT id FROM demo", &[]).await.map_err(|error| failed(error.to_string()))?;
        let present: BTreeSet<i64> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
        Ok(self.with(|log| log.acknowledged.iter().filter(|(id, _)| !present.contains(id)).count()))
    }
}

async fn write(uri: String, user: String, first: Connection, log: Arc<Mutex<Log>>, stop: Arc<AtomicBool>) {
    let mut connection = Some(first);
    let mut id = 0_i64;
    while !stop.load(Ordering::SeqCst) {
        let Some(open) = connection.take() else {
            match connect(&uri, &user).await {
                Ok(open) => connection = Some(open),
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
            continue;
        };
        id += 1;
        let insert = open.client.batch_execute(&format!("INSERT INTO demo VALUES ({id})")).await_within(PATIENCE).await;
        if insert && !open.warned.load(Ordering::SeqCst) {
            log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).acknowledged.push((id, Instant::now()));
            connection = Some(open);
            sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Done without an error, and in time.
trait Within {
    async fn await_within(self, patience: Duration) -> bool;
}

impl<F: Future<Output = Result<(), tokio_postgres::Error>>> Within for F {
    async fn await_within(self, patience: Duration) -> bool {
        matches!(timeout(patience, self).await, Ok(Ok(())))
    }
}
