//! The only place where the monitor asks for the time.

use std::time::{SystemTime, UNIX_EPOCH};

use failover::{Now, WallTime};
use nix::time::{ClockId, clock_gettime};

/// Both clocks, read together. The monotonic one is CLOCK_BOOTTIME: it neither jumps when the wall
/// clock is set nor stops in suspend.
pub fn now() -> Now {
    let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        // Before 1970: display only, so the epoch will do.
        Err(_) => 0,
    };
    Now { wall: WallTime(wall), mono_us: boottime_us() }
}

fn boottime_us() -> i64 {
    match clock_gettime(ClockId::CLOCK_BOOTTIME) {
        Ok(time) => time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000,
        // Linux has had this clock since 2.6.39; a sandbox that hides it leaves CLOCK_MONOTONIC,
        // and without either there is no way to measure a silence.
        Err(_) => clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map(|time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000)
            .unwrap_or(0),
    }
}
