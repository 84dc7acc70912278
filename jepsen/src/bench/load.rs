//! Load on a monitor: `node_active` calls of simulated nodes, and how long each took.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{Instant as TokioInstant, sleep_until};

use super::fleet::Fake;
use crate::raw::{RawClient, Request};
use crate::{Context, Failure, Result, ensure};

/// How calls are made.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// The next call when the last one is answered.
    Closed,
    /// So many calls a second over all connections, whether or not the last one is answered yet; a
    /// call's time counts from the moment when it was due.
    Open(f64),
    /// A new connection for each call, as keepers of the 2.x line do.
    Reconnecting,
}

/// What came of a load.
#[derive(Clone, Debug)]
pub struct Measured {
    pub calls: usize,
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
    /// Calls that were due and not made in time to count.
    pub late: usize,
}

/// Loads the monitor at `port` with reports of `fleet` over `connections` for `time`.
pub async fn run(
    port: u16,
    fleet: &[Fake],
    connections: usize,
    pace: Pace,
    time: Duration,
) -> Result<Measured> {
    ensure!(connections > 0 && fleet.len() >= connections, "more connections than nodes");
    let mut workers = JoinSet::new();
    let started = Instant::now();
    for worker in 0..connections {
        // A node reports over one connection only, as a keeper would.
        let requests: Result<Vec<Request>> =
            fleet.iter().skip(worker).step_by(connections).map(Fake::report).collect();
        let requests = requests?;
        workers.spawn(async move {
            let end = Instant::now() + time;
            match pace {
                Pace::Closed => closed(port, &requests, end).await,
                Pace::Reconnecting => reconnecting(port, &requests, end).await,
                Pace::Open(rate) => {
                    let each = Duration::from_secs_f64(connections as f64 / rate);
                    let offset = each.mul_f64(worker as f64 / connections as f64);
                    open(port, &requests, end, each, offset).await
                }
            }
        });
    }
    let (mut times, mut late) = (Vec::new(), 0);
    while let Some(done) = workers.join_next().await {
        let (taken, missed) = done??;
        times.extend(taken);
        late += missed;
    }
    let elapsed = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: f64| times.get(((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1)));
    Ok(Measured {
        calls: times.len(),
        per_second: times.len() as f64 / elapsed,
        p50: at(0.5).copied().context("no call was answered")?,
        p99: at(0.99).copied().unwrap_or_default(),
        max: times.last().copied().unwrap_or_default(),
        late,
    })
}

type Taken = (Vec<Duration>, usize);

async fn closed(port: u16, requests: &[Request], end: Instant) -> Result<Taken> {
    let mut client = RawClient::connect(port, true).await?;
    let mut times = Vec::new();
    for request in requests.iter().cycle() {
        let started = Instant::now();
        if started >= end {
            break;
        }
        client.ask(request).await?;
        times.push(started.elapsed());
    }
    Ok((times, 0))
}

async fn reconnecting(port: u16, requests: &[Request], end: Instant) -> Result<Taken> {
    let mut times = Vec::new();
    for request in requests.iter().cycle() {
        let started = Instant::now();
        if started >= end {
            break;
        }
        let mut client = RawClient::connect(port, true).await?;
        client.ask(request).await?;
        client.end().await;
        times.push(started.elapsed());
    }
    Ok((times, 0))
}

async fn open(
    port: u16,
    requests: &[Request],
    end: Instant,
    each: Duration,
    offset: Duration,
) -> Result<Taken> {
    let mut client = RawClient::connect(port, true).await?;
    let mut times = Vec::new();
    let mut due = Instant::now() + offset;
    for request in requests.iter().cycle() {
        if due >= end {
            break;
        }
        sleep_until(TokioInstant::from_std(due)).await;
        // Overloaded: what is still due after the end counts as late.
        if Instant::now() > end + Duration::from_secs(1) {
            let rest = end.saturating_duration_since(due).as_secs_f64() / each.as_secs_f64();
            return Ok::<_, Failure>((times, rest as usize));
        }
        client.ask(request).await?;
        times.push(due.elapsed());
        due += each;
    }
    Ok((times, 0))
}
