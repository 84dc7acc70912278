//! The clock that deadlines are measured with.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds on CLOCK_BOOTTIME: it goes on while the machine is suspended and no one sets it.
/// `Instant` would stop in suspend, wall clocks jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
pub struct BootTime(pub u64);

impl BootTime {
    /// The clock exists since Linux 2.6.39; should the call fail all the same, time stands still at
    /// zero, every deadline has then passed and whoever asks takes the safe side.
    pub fn now() -> BootTime {
        match clock_gettime(ClockId::CLOCK_BOOTTIME) {
            Ok(t) => BootTime(t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64),
            Err(_) => BootTime(0),
        }
    }

    pub fn plus(self, duration: std::time::Duration) -> BootTime {
        BootTime(self.0.saturating_add(duration.as_nanos() as u64))
    }

    /// How long ago `self` was, seen from `now`; zero when it lies ahead.
    pub fn age(self, now: BootTime) -> std::time::Duration {
        std::time::Duration::from_nanos(now.0.saturating_sub(self.0))
    }

    /// How long until `self`; zero when it has passed.
    pub fn until(self, now: BootTime) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(now.0))
    }
}
