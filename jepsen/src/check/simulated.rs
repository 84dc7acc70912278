//! Histories of a correct register, for tests and measurements of the checker.

use super::linear::{Action, RegisterOp, apply};

/// A register that serves ten clients one operation after the other: half reads, a quarter each writes and
/// compare-and-set. The answer of every `lost_every`th operation is lost, unless that is a read; 0: none.
pub fn register(count: usize, lost_every: usize) -> Vec<RegisterOp> {
    let (mut state, mut seed, mut now) = (None, 7u64, 0u64);
    let mut free = [0u64; 10];
    let mut ops = Vec::with_capacity(count);
    for (i, client) in (0..count).zip((0..free.len()).cycle()) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = i64::try_from(i).unwrap_or(i64::MAX);
        let action = match ((seed >> 33) % 4, state) {
            (0 | 1, _) => Action::Read(state),
            (2, Some(old)) => Action::Cas(old, value, true),
            _ => Action::Write(value),
        };
        state = apply(state, action).unwrap_or(state);
        let Some(free) = free.get_mut(client) else { continue };
        // It takes effect within its interval.
        let start = now.max(*free);
        now = start + 5;
        let end = now + 1 + (seed >> 40) % 40;
        *free = end + 1;
        let lost = lost_every != 0 && i % lost_every == 0 && !matches!(action, Action::Read(_));
        let process = u32::try_from(client).unwrap_or(u32::MAX);
        ops.push(RegisterOp { process, action, start, end: (!lost).then_some(end) });
    }
    ops
}
