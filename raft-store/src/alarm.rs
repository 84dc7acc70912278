//! An alarm clock that wakes the process once, at its time.
//!
//! tokio keeps timers in a wheel. One that is not due in the present block of 64 ms is looked at when its
//! block begins, too, so that it wakes the process twice; a replica at rest hardly does anything else
//! than wait for the next heartbeat. An alarm is a timer of the kernel.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// One alarm, for one time at a time.
pub struct Alarm(Option<AsyncFd<OwnedFd>>);

impl Alarm {
    /// Without a descriptor to be had, it is a timer of tokio's.
    pub fn new() -> Alarm {
        Alarm(timer().inspect_err(|e| tracing::debug!("no timerfd: {e}")).ok())
    }

    /// Waits until `at`. A wait that is given up leaves nothing behind that the next one could take for
    /// its own.
    pub async fn until(&mut self, at: Instant) {
        let rung = match &self.0 {
            Some(timer) => ring(timer, at).await,
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        if rung.is_err() {
            sleep_until(at).await;
        }
    }
}

fn timer() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    // What it is deprecated for cannot happen: an OwnedFd keeps its descriptor open.
    #[allow(deprecated)]
    AsyncFd::new(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?)
}

async fn ring(timer: &AsyncFd<OwnedFd>, at: Instant) -> io::Result<()> {
    let left = at.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(());
    }
    let value = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(left) };
    // This also forgets an expiration that nobody has waited for to the end.
    rustix::time::timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &value)?;
    loop {
        let mut ready = timer.readable().await?;
        // How often it has expired: a u64.
        match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut [0; 8])?)) {
            Ok(read) => return read.map(drop),
            Err(_would_block) => {}
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);

    /// Time that a wait took.
    async fn wait(alarm: &mut Alarm, time: Duration) -> Duration {
        let began = Instant::now();
        alarm.until(began + time).await;
        began.elapsed()
    }

    #[tokio::test]
    async fn it_never_wakes_early_and_can_be_set_again() {
        for mut alarm in [Alarm::new(), Alarm(None)] {
            for _ in 0..3 {
                assert!(wait(&mut alarm, SHORT).await >= SHORT);
            }
            alarm.until(Instant::now() - SHORT).await;
        }
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_does_not_end_the_next_one() {
        let mut alarm = Alarm::new();
        let given_up = tokio::time::timeout(Duration::from_millis(1), alarm.until(Instant::now() + SHORT)).await;
        assert!(given_up.is_err());
        tokio::time::sleep(2 * SHORT).await;
        assert!(wait(&mut alarm, SHORT).await >= SHORT);
    }
}
