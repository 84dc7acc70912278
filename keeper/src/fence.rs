//! When must a primary stop for lack of contact? Pure functions of the keeper's observations.
//!
//! The rule: a primary that hears no majority of the monitors *and* lacks standbys that its commits
//! wait for may have been replaced. One of the two alone changes nothing: without monitors nobody is
//! promoted as long as enough standbys still stream from here (they would have to be sealed first), and
//! with the monitors' confirmation nobody else has been.

use std::collections::BTreeMap;
use std::time::Duration;

use failover::NodeState;

use crate::boottime::BootTime;

/// What a keeper knows of its contacts, all on its own CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug)]
pub struct Contacts {
    /// When the last report was *sent* that the monitors answered.
    pub monitor: BootTime,
    /// When enough standbys were last seen streaming; looked at on every tick.
    pub standbys: BootTime,
}

impl Contacts {
    fn last(&self) -> BootTime {
        self.monitor.max(self.standbys)
    }
}

/// Until when a lease holds that was granted in answer to a report: counted from the report's sending. The
/// monitors count from their answer, which is not earlier, so that they never take it to be over before.
/// Counted from when the answer came it would last longer than they assume, by up to a report's deadline.
#[cfg_attr(not(feature = "mutants"), expect(unused_variables, reason = "the mistake is to use it"))]
pub fn granted_until(sent: BootTime, heard: BootTime, lease: Duration) -> BootTime {
    #[cfg(feature = "mutants")]
    if failover::mutant::is(failover::mutant::Mutant::LeaseFromReceipt) {
        return heard.plus(lease);
    }
    sent.plus(lease)
}

/// A standby whose last reply is younger than this has not been sealed before that reply. Standbys
/// reply once a second (`wal_receiver_status_interval`) and are looked at twice a second.
pub const FRESH: Duration = Duration::from_secs(2);

/// When each synchronous standby was last heard of.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    last: BTreeMap<String, (String, Option<BootTime>)>,
}

impl Replies {
    /// What a look at `at` showed: the standbys that stream, each with a mark that changes with every
    /// reply. The first sight of a standby proves nothing: its reply may be as old as the connection.
    pub fn note(&mut self, replies: &[(String, String)], at: BootTime) {
        let mut now = BTreeMap::new();
        for (name, mark) in replies {
            let heard = match self.last.get(name) {
                Some((before, heard)) if before == mark => *heard,
                Some(_) => Some(at),
                None => None,
            };
            now.insert(name.clone(), (mark.clone(), heard));
        }
        self.last = now;
    }

    /// How many standbys have replied within [`FRESH`].
    pub fn fresh(&self, now: BootTime) -> u32 {
        self.last.values().filter(|(_, heard)| heard.is_some_and(|at| at.age(now) <= FRESH)).count() as u32
    }

    /// Since when fewer than `k` have replied: the time of the k-th newest reply.
    pub fn quorum(&self, k: u32) -> Option<BootTime> {
        let mut heard: Vec<BootTime> = self.last.values().filter_map(|(_, heard)| *heard).collect();
        heard.sort_unstable();
        heard.iter().rev().nth((k.max(1) - 1) as usize).copied()
    }
}

/// A primary's leave to answer: the monitors' last grant, and what its own standbys prove.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// Counted from the moment the report was sent.
    pub until: BootTime,
    /// When as many standbys as a commit waits for had last replied.
    pub standbys: Option<BootTime>,
}

impl Grant {
    /// The moment from which on another node may be primary and this one must not answer.
    fn ends(&self) -> BootTime {
        self.standbys.map_or(self.until, |at| self.until.max(at.plus(FRESH)))
    }
}

/// Could the monitors replace this node as the primary?
#[derive(Clone, Copy, Debug)]
pub struct Role {
    pub state: NodeState,
    /// Without monitors only an operator does.
    pub monitored: bool,
}

impl Role {
    /// In `single` there is nobody else.
    fn is_replaceable(&self) -> bool {
        self.monitored && self.state.is_writable() && self.state != NodeState::Single
    }

    /// In `wait_primary` no commit waits for anybody, by the monitors' decision: there is nobody whose
    /// absence could tell anything.
    fn counts_standbys(&self) -> bool {
        self.is_replaceable() && self.state != NodeState::WaitPrimary
    }
}

/// Are enough standbys streaming for the rule above? `required` is what `synchronous_standby_names`
/// waits for; in an asynchronous group any standby that streams has not been sealed.
pub fn enough_standbys(required: u32, streaming: u32, streaming_sync: u32) -> bool {
    match required {
        0 => streaming >= 1,
        k => streaming_sync >= k,
    }
}

/// Is it time to stop? With a grant, when it has run out and too few standbys reply; without one, when
/// the contacts are older than `partition`.
pub fn must_self_fence(
    role: Role,
    contacts: Contacts,
    grant: Option<Grant>,
    partition: Duration,
    now: BootTime,
) -> bool {
    let over = match grant {
        Some(grant) => grant.ends() < now,
        None => contacts.last().age(now) > partition,
    };
    role.counts_standbys() && over
}

/// Until when PostgreSQL may run without a sign of life from the keeper.
pub fn lease(
    role: Role,
    contacts: Contacts,
    grant: Option<Grant>,
    partition: Duration,
    guardian: Duration,
    now: BootTime,
) -> Option<BootTime> {
    if !role.is_replaceable() {
        return None;
    }
    let alive = now.plus(guardian);
    // A keeper that hangs while it is cut off must not gain time by hanging. The second is the
    // keeper's, which stops PostgreSQL with a word in the log.
    let partitioned = contacts.last().plus(partition).plus(Duration::from_secs(1));
    Some(match grant {
        _ if !role.counts_standbys() => alive,
        Some(grant) => alive.min(grant.ends()),
        None => alive.min(partitioned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const PARTITION: Duration = Duration::from_secs(20);
    const GUARDIAN: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> BootTime {
        BootTime(seconds * S)
    }

    /// Whether an old primary may answer after its monitors take its lease to be over: what decision 0006
    /// assumes is 1150 ms for a lease of a second, counted from the answer, with 0.1 s for the stop.
    fn outlives_what_is_assumed() -> bool {
        let (lease, assumed, stop) =
            (Duration::from_millis(1000), Duration::from_millis(1150), Duration::from_millis(100));
        let milliseconds = |n: u64| at(100).plus(Duration::from_millis(n));
        // Any report and answer that together stay within a report's deadline.
        let ways = (0..=800).step_by(50).flat_map(|there| (0..=800 - there).step_by(50).map(move |back| (there, back)));
        let mut ways = ways.map(|(there, back)| (milliseconds(0), milliseconds(there), milliseconds(there + back)));
        ways.any(|(sent, answered, heard)| granted_until(sent, heard, lease).plus(stop) > answered.plus(assumed))
    }

    #[test]
    #[cfg(not(feature = "mutants"))]
    fn a_lease_is_over_when_the_monitors_take_it_to_be() {
        assert!(!outlives_what_is_assumed());
    }

    /// The one mistake that no script of the fault tests can show (`jepsen mutants` runs this instead): an answer
    /// is waited for 0.8 s at most, and within that time the new primary has hardly begun.
    #[test]
    #[cfg(feature = "mutants")]
    fn a_lease_counted_from_the_answers_receipt_outlives_what_the_monitors_assume() {
        assert!(!outlives_what_is_assumed());
        failover::mutant::choose(Some(failover::mutant::Mutant::LeaseFromReceipt));
        assert!(outlives_what_is_assumed());
        failover::mutant::choose(None);
    }

    fn primary() -> Role {
        Role { state: NodeState::Primary, monitored: true }
    }

    #[test]
    fn one_contact_is_enough() {
        let now = at(100);
        for (monitor, standbys, fenced) in
            [(99, 99, false), (10, 99, false), (99, 10, false), (80, 10, false), (79, 10, true), (10, 79, true)]
        {
            let contacts = Contacts { monitor: at(monitor), standbys: at(standbys) };
            assert_eq!(must_self_fence(primary(), contacts, None, PARTITION, now), fenced, "{monitor} {standbys}");
        }
    }

    #[test]
    fn who_cannot_be_replaced_is_left_alone() {
        let lost = Contacts { monitor: at(1), standbys: at(1) };
        for role in [
            Role { state: NodeState::Single, monitored: true },
            Role { state: NodeState::Secondary, monitored: true },
            Role { state: NodeState::Draining, monitored: true },
        ] {
            assert!(!must_self_fence(role, lost, None, PARTITION, at(100)));
            assert_eq!(lease(role, lost, None, PARTITION, GUARDIAN, at(100)), None, "{role:?}");
        }
        let alone = Role { state: NodeState::Primary, monitored: false };
        assert!(!must_self_fence(alone, lost, None, PARTITION, at(100)));
        assert_eq!(lease(alone, lost, None, PARTITION, GUARDIAN, at(100)), None, "an operator's node");
        let waiting = Role { state: NodeState::WaitPrimary, monitored: true };
        assert!(!must_self_fence(waiting, lost, None, PARTITION, at(100)));
        assert_eq!(lease(waiting, lost, None, PARTITION, GUARDIAN, at(100)), Some(at(110)));
    }

    #[test]
    fn the_lease_ends_with_the_keeper_or_the_partition_whichever_is_first() {
        let fresh = Contacts { monitor: at(100), standbys: at(100) };
        assert_eq!(lease(primary(), fresh, None, PARTITION, GUARDIAN, at(100)), Some(at(110)));
        let stale = Contacts { monitor: at(85), standbys: at(84) };
        assert_eq!(lease(primary(), stale, None, PARTITION, GUARDIAN, at(100)), Some(at(106)));
    }

    /// ANY 2 (s2, s3, s4) with s2 and s3 sealed: s4 alone must not keep the old primary alive.
    #[test]
    fn one_of_two_required_standbys_is_not_enough() {
        assert!(!enough_standbys(2, 1, 1));
        assert!(enough_standbys(2, 3, 2));
        assert!(enough_standbys(0, 1, 0));
        assert!(!enough_standbys(0, 0, 0));
        assert!(!enough_standbys(1, 3, 0), "streaming, but not the ones that count");
    }

    #[test]
    fn a_grant_ends_when_it_runs_out_and_too_few_standbys_reply() {
        let contacts = Contacts { monitor: at(99), standbys: at(99) };
        for (until, standbys, fenced) in
            [(101, None, false), (99, None, true), (99, Some(99), false), (99, Some(98), false), (99, Some(97), true)]
        {
            let grant = Grant { until: at(until), standbys: standbys.map(at) };
            assert_eq!(must_self_fence(primary(), contacts, Some(grant), PARTITION, at(100)), fenced, "{grant:?}");
            let ends = lease(primary(), contacts, Some(grant), PARTITION, GUARDIAN, at(100));
            assert_eq!(ends.is_some_and(|ends| ends < at(100)), fenced, "{grant:?}");
        }
        let long = Grant { until: at(200), standbys: None };
        assert_eq!(lease(primary(), contacts, Some(long), PARTITION, GUARDIAN, at(100)), Some(at(110)));
    }

    #[test]
    fn a_reply_is_fresh_when_it_was_seen_to_come() {
        let reply = |name: &str, mark: &str| (name.to_string(), mark.to_string());
        let mut replies = Replies::default();
        replies.note(&[reply("a", "1"), reply("b", "1")], at(10));
        assert_eq!((replies.fresh(at(10)), replies.quorum(1)), (0, None));
        replies.note(&[reply("a", "2"), reply("b", "1")], at(11));
        assert_eq!((replies.fresh(at(12)), replies.quorum(1), replies.quorum(2)), (1, Some(at(11)), None));
        replies.note(&[reply("a", "2"), reply("b", "2")], at(12));
        assert_eq!((replies.quorum(1), replies.quorum(2)), (Some(at(12)), Some(at(11))));
        assert_eq!((replies.fresh(at(13)), replies.fresh(at(14)), replies.fresh(at(15))), (2, 1, 0));
        // One whose connection has ended counts no more, and begins anew when it is back.
        replies.note(&[reply("a", "3")], at(13));
        replies.note(&[reply("a", "4"), reply("b", "2")], at(14));
        assert_eq!(replies.fresh(at(14)), 1);
    }
}
