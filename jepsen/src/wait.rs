//! Waiting for something to become true. Nothing in the harness sleeps to let something happen.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Failure, Result};

const STEP: Duration = Duration::from_millis(50);

/// Asks until there is an answer. An error of `probe` ends the wait.
pub fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            return Err(Failure::new(format!("waited {} s in vain for {what}", deadline.as_secs_f64())));
        }
        sleep(STEP);
    }
}

/// Asks until there is an answer; errors count as "not yet", and the last one is told at the end.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut last = None;
    let waited = wait_until(what, deadline, || match probe() {
        Ok(answer) => {
            last = None;
            Ok(answer)
        }
        Err(error) => {
            last = Some(error);
            Ok(None)
        }
    });
    waited.map_err(|timeout| match last {
        Some(error) => Failure::new(format!("{timeout} (last: {error})")),
        None => timeout,
    })
}
