//! A network switch in this process: machines hang on it by TAP devices, and every frame between
//! two of them may be dropped, delayed, doubled or put out of order.
//!
//! The kernel's own means (netem, nftables, a bridge) are not everywhere; TAP devices are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::random::Random;

/// What happens to frames that go one way from one machine to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effect {
    pub cut: bool,
    /// Only TCP from or to these ports is cut.
    pub cut_ports: Vec<u16>,
    pub delay: Duration,
    /// Up to so much more, evenly spread; frames may overtake each other.
    pub jitter: Duration,
    /// Probabilities from 0 to 1.
    pub loss: f64,
    pub duplicate: f64,
}

/// A rule in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId(u64);

struct Rule {
    id: RuleId,
    from: usize,
    to: usize,
    effect: Effect,
    /// Frames that it touched.
    hits: AtomicU64,
}

pub struct Plug {
    pub mac: [u8; 6],
    pub tap: File,
}

struct Shared {
    plugs: Vec<Plug>,
    rules: RwLock<Vec<Rule>>,
    next_rule: AtomicU64,
    late: Mutex<BinaryHeap<Reverse<Late>>>,
    bell: Condvar,
    random: Mutex<Random>,
    stop: AtomicBool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    at: Instant,
    to: usize,
    frame: Vec<u8>,
}

pub struct Switch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// How long a thread sleeps before it looks whether the switch still exists.
const LOOK: u16 = 200;
/// Frames that are on their way late, at most: beyond that a real switch drops, too.
const QUEUE: usize = 20_000;

impl Switch {
    pub fn start(plugs: Vec<Plug>, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            plugs,
            rules: RwLock::default(),
            next_rule: AtomicU64::new(0),
            late: Mutex::default(),
            bell: Condvar::new(),
            random: Mutex::new(Random::new(seed)),
            stop: AtomicBool::new(false),
        });
        let mut threads: Vec<JoinHandle<()>> = (0..shared.plugs.len())
            .map(|i| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.serve(i))
            })
            .collect();
        let late = Arc::clone(&shared);
        threads.push(std::thread::spawn(move || late.deliver_late()));
        Self { shared, threads }
    }

    /// Puts a rule in force for frames from plug `from` to plug `to`. Rules add up.
    pub fn add(&self, from: usize, to: usize, effect: Effect) -> RuleId {
        let id = RuleId(self.shared.next_rule.fetch_add(1, Ordering::Relaxed));
        let rule = Rule { id, from, to, effect, hits: AtomicU64::new(0) };
        self.shared.rules.write().unwrap_or_else(PoisonError::into_inner).push(rule);
        id
    }

    /// Takes a rule back and tells how many frames it touched. Taking it back twice is no error.
    pub fn remove(&self, id: RuleId) -> u64 {
        let mut rules = self.shared.rules.write().unwrap_or_else(PoisonError::into_inner);
        let hits = rules.iter().find(|r| r.id == id).map_or(0, |r| r.hits.load(Ordering::Relaxed));
        rules.retain(|rule| rule.id != id);
        hits
    }

    /// Takes all rules back.
    pub fn clear(&self) {
        self.shared.rules.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.bell.notify_all();
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
    }
}

/// What the rules say about one frame.
#[derive(Default)]
struct Fate {
    copies: Vec<Duration>,
}

impl Shared {
    fn serve(&self, from: usize) {
        let Some(plug) = self.plugs.get(from) else {
            return;
        };
        let mut buffer = vec![0; 65_536];
        while !self.stop.load(Ordering::Relaxed) {
            let mut fds = [PollFd::new(plug.tap.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(LOOK)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => {}
                Err(_) => return,
            }
            loop {
                match (&plug.tap).read(&mut buffer) {
                    Ok(n) => self.forward(from, buffer.get(..n).unwrap_or_default()),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    // The machine is gone.
                    Err(_) => return,
                }
            }
        }
    }

    fn forward(&self, from: usize, frame: &[u8]) {
        let Some(mac) = frame.get(..6) else {
            return;
        };
        let everyone = mac.first().is_some_and(|first| first & 1 == 1);
        for (to, plug) in self.plugs.iter().enumerate() {
            if to == from || !(everyone || plug.mac == mac) {
                continue;
            }
            for delay in self.fate(from, to, frame).copies {
                if delay.is_zero() {
                    _ = (&plug.tap).write(frame);
                } else {
                    let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
                    if late.len() < QUEUE {
                        late.push(Reverse(Late { at: Instant::now() + delay, to, frame: frame.to_vec() }));
                        self.bell.notify_one();
                    }
                }
            }
        }
    }

    fn fate(&self, from: usize, to: usize, frame: &[u8]) -> Fate {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let (mut delay, mut copies) = (Duration::ZERO, 1);
        for rule in rules.iter().filter(|r| r.from == from && r.to == to) {
            let effect = &rule.effect;
            let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
            let ports = tcp_ports(frame);
            let cut = effect.cut
                || ports.is_some_and(|(a, b)| effect.cut_ports.contains(&a) || effect.cut_ports.contains(&b))
                || random.chance(effect.loss);
            if cut {
                rule.hits.fetch_add(1, Ordering::Relaxed);
                return Fate::default();
            }
            let jitter = u64::try_from(effect.jitter.as_nanos()).unwrap_or(u64::MAX);
            let late = effect.delay + Duration::from_nanos(random.below(jitter));
            let double = random.chance(effect.duplicate);
            if double || !late.is_zero() {
                rule.hits.fetch_add(1, Ordering::Relaxed);
            }
            delay += late;
            copies += usize::from(double);
        }
        Fate { copies: vec![delay; copies] }
    }

    fn deliver_late(&self) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            while late.peek().is_some_and(|Reverse(first)| first.at <= now) {
                if let Some(Reverse(due)) = late.pop()
                    && let Some(plug) = self.plugs.get(due.to)
                {
                    _ = (&plug.tap).write(&due.frame);
                }
            }
            let wait =
                late.peek().map_or(Duration::from_millis(u64::from(LOOK)), |Reverse(first)| first.at - now);
            late = self.bell.wait_timeout(late, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Source and destination port, if the frame is TCP over IPv4.
fn tcp_ports(frame: &[u8]) -> Option<(u16, u16)> {
    let ip = frame.get(14..)?;
    if frame.get(12..14)? != [0x08, 0x00] || ip.get(9)? != &6 {
        return None;
    }
    let tcp = ip.get(usize::from(ip.first()? & 0x0f) * 4..)?;
    let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
    Some((port(0)?, port(2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_tcp_alone() {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45]);
        frame.extend([0; 8]);
        frame.push(6);
        frame.extend([0; 10]);
        frame.extend([0x15, 0x38, 0x30, 0x39]);
        assert_eq!(tcp_ports(&frame), Some((5432, 12345)));
        frame[23] = 17;
        assert_eq!(tcp_ports(&frame), None);
        assert_eq!(tcp_ports(&frame[..20]), None);
    }
}
