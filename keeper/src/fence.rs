//! When must a primary stop for lack of contact? Pure functions of the keeper's observations.
//!
//! The rule: a primary that hears no majority of the monitors *and* lacks standbys that its commits
//! wait for may have been replaced. One of the two alone changes nothing: without monitors nobody is
//! promoted as long as enough standbys still stream from here (they would have to be sealed first), and
//! with the monitors' confirmation nobody else has been.

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

/// Could the monitors replace this node as the primary?
#[derive(Clone, Copy, Debug)]
pub struct Role {
    pub state: NodeState,
}

impl Role {
    /// In `single` there is nobody else.
    fn is_replaceable(&self) -> bool {
        self.state.is_writable() && self.state != NodeState::Single
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

/// Is it time to stop?
pub fn must_self_fence(role: Role, contacts: Contacts, partition: Duration, now: BootTime) -> bool {
    role.counts_standbys() && contacts.last().age(now) > partition
}

/// Until when PostgreSQL may run without a sign of life from the keeper.
pub fn lease(
    role: Role,
    contacts: Contacts,
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
    Some(if role.counts_standbys() { alive.min(partitioned) } else { alive })
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

    fn primary() -> Role {
        Role { state: NodeState::Primary }
    }

    #[test]
    fn one_contact_is_enough() {
        let now = at(100);
        for (monitor, standbys, fenced) in
            [(99, 99, false), (10, 99, false), (99, 10, false), (80, 10, false), (79, 10, true), (10, 79, true)]
        {
            let contacts = Contacts { monitor: at(monitor), standbys: at(standbys) };
            assert_eq!(must_self_fence(primary(), contacts, PARTITION, now), fenced, "{monitor} {standbys}");
        }
    }

    #[test]
    fn who_cannot_be_replaced_is_left_alone() {
        let lost = Contacts { monitor: at(1), standbys: at(1) };
        for role in [
            Role { state: NodeState::Single },
            Role { state: NodeState::Secondary },
            Role { state: NodeState::Draining },
        ] {
            assert!(!must_self_fence(role, lost, PARTITION, at(100)));
            assert_eq!(lease(role, lost, PARTITION, GUARDIAN, at(100)), None, "{role:?}");
        }
        let waiting = Role { state: NodeState::WaitPrimary };
        assert!(!must_self_fence(waiting, lost, PARTITION, at(100)));
        assert_eq!(lease(waiting, lost, PARTITION, GUARDIAN, at(100)), Some(at(110)));
    }

    #[test]
    fn the_lease_ends_with_the_keeper_or_the_partition_whichever_is_first() {
        let fresh = Contacts { monitor: at(100), standbys: at(100) };
        assert_eq!(lease(primary(), fresh, PARTITION, GUARDIAN, at(100)), Some(at(110)));
        let stale = Contacts { monitor: at(85), standbys: at(84) };
        assert_eq!(lease(primary(), stale, PARTITION, GUARDIAN, at(100)), Some(at(106)));
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
}
