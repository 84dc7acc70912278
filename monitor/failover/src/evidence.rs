//! The facts behind a condition, in words: what a test of a rule found when it looked.

use alloc::string::String;
use alloc::vec::Vec;

use crate::condition::{GroupTest, NodeTest, Threshold};
use crate::facts;
use crate::observation::Stamp;
use crate::rules_engine::Scene;
use crate::values::{Health, NodeId};
use crate::view::{Member, View};

/// `0.4 s`, `12 s`: what has passed.
fn seconds(us: i64) -> String {
    let ms = us.max(0) / 1000;
    match ms {
        0..10_000 => alloc::format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => alloc::format!("{} s", ms / 1000),
    }
}

impl View<'_> {
    /// What a test of a node looked at.
    pub fn node_fact(&self, member: Option<&Member>, test: NodeTest) -> String {
        let Some(member) = member else { return String::from("there is none") };
        let row = &member.row;
        let name = &row.name;
        match test {
            NodeTest::Healthy | NodeTest::Unhealthy | NodeTest::Silent | NodeTest::Heard => self.health_fact(member),
            NodeTest::Confirmed => {
                let changed = self.ago("its state changed", member.seen.state_change);
                alloc::format!("{}, {changed}", self.report_fact(member))
            }
            NodeTest::Electable(_) => alloc::format!("the priority of {name} is {}", row.candidate_priority),
            NodeTest::InQuorum(_) => alloc::format!("replication quorum of {name}: {}", row.replication_quorum),
            NodeTest::DrainTimeExpired => alloc::format!(
                "{name} has goal {}, {}; primary_demote_timeout is {}",
                row.goal,
                self.ago("changed", member.seen.state_change),
                seconds(self.settings.primary_demote_timeout_ms.saturating_mul(1000))
            ),
            NodeTest::OffLineage => alloc::format!("{name} is on timeline {} at {}", row.timeline, row.lsn),
            NodeTest::KeeperCan(goal) => alloc::format!(
                "{name} is {}, its goal is {}: no way from there to {goal}",
                row.reported,
                row.goal
            ),
            _ if row.reported == row.goal => alloc::format!("{name} is {}", row.reported),
            _ => alloc::format!("{name} is {}, its goal is {}", row.reported, row.goal),
        }
    }

    /// What a test of the group looked at.
    pub fn group_fact(&self, scene: &Scene, test: GroupTest) -> String {
        match test {
            GroupTest::Nodes(_) => alloc::format!("there are {}", self.list().count()),
            GroupTest::FailoverInProgress(_) | GroupTest::Promotion(_) => {
                let taking: Vec<String> = self
                    .list()
                    .filter(|member| facts::participating(&member.row))
                    .map(|member| alloc::format!("{} is {}", member.row.name, member.row.reported))
                    .collect();
                match taking.is_empty() {
                    true => String::from("no node takes part in a failover"),
                    false => taking.join(", "),
                }
            }
            GroupTest::SameTimeline => self.positions(scene),
            GroupTest::Within(threshold) => {
                let bytes = match threshold {
                    Threshold::EnableSync => self.settings.enable_sync_wal_log_threshold,
                    Threshold::Promote => self.settings.promote_wal_log_threshold,
                };
                alloc::format!("{}; the threshold is {bytes} bytes", self.positions(scene))
            }
            GroupTest::WaitedDemoteTimeout => self.node_fact(self.member(scene.node), NodeTest::DrainTimeExpired),
            GroupTest::HealthyCandidate | GroupTest::NoWalSource => {
                let each: Vec<String> = self.list().map(|member| self.health_fact(member)).collect();
                each.join("; ")
            }
            GroupTest::QuorumNodes(_) => self.counted(scene, "in the replication quorum", |member| {
                member.row.replication_quorum
            }),
            GroupTest::Secondaries(_) => self.counted(scene, "secondary", |member| {
                facts::converged(&member.row, crate::NodeState::Secondary)
            }),
            GroupTest::QuorumSecondaries(_) => {
                alloc::format!("there are {}", self.quorum_secondaries(scene.node))
            }
            GroupTest::NumberSyncStandbys(_) => alloc::format!("it is {}", self.formation.number_sync_standbys),
            GroupTest::LastSyncStandby => alloc::format!(
                "healthy sync standbys: {}, number_sync_standbys: {}",
                scene.primary.map_or(0, |primary| self.healthy_sync_standbys(primary)),
                self.formation.number_sync_standbys
            ),
            GroupTest::GuardDataLoss(_) => {
                String::from(if self.settings.guard_data_loss { "it is on" } else { "it is off" })
            }
            GroupTest::SomeoneWaits => String::from("nobody waits there"),
            GroupTest::CitusWorker => alloc::format!("formation kind {}, group {}", self.formation.kind, self.group),
            _ => String::from("it does not hold"),
        }
    }

    fn ago(&self, what: &str, stamp: Option<Stamp>) -> String {
        match stamp {
            Some(_) => alloc::format!("{what} {} ago", seconds(self.since_us(stamp))),
            None => alloc::format!("{what} before this leader's term"),
        }
    }

    fn report_fact(&self, member: &Member) -> String {
        let name = &member.row.name;
        match member.seen.report {
            Some(_) => self.ago(&alloc::format!("{name} reported"), member.seen.report),
            None => alloc::format!(
                "{name} has not reported to this leader, who leads since {}",
                seconds(self.since_us(None))
            ),
        }
    }

    /// Health as the probe and the keeper tell it.
    pub fn health_fact(&self, member: &Member) -> String {
        let probe = match member.row.health {
            Health::Unknown => "not probed yet",
            Health::Bad => "its PostgreSQL does not answer the monitor",
            Health::Good => "its PostgreSQL answers the monitor",
        };
        let running = if member.row.pg_is_running { "" } else { ", its keeper says PostgreSQL is down" };
        alloc::format!("{}, {probe}{running}", self.report_fact(member))
    }

    fn positions(&self, scene: &Scene) -> String {
        let of = |id: Option<NodeId>| match id.and_then(|id| self.member(id)) {
            Some(member) => alloc::format!("{} at {}:{}", member.row.name, member.row.timeline, member.row.lsn),
            None => String::from("no primary"),
        };
        alloc::format!("{}, {}", of(Some(scene.node)), of(scene.primary))
    }

    fn counted(&self, scene: &Scene, what: &str, is: impl Fn(&Member) -> bool) -> String {
        let names: Vec<&str> =
            self.others(scene.node).filter(|member| is(member)).map(|member| member.row.name.as_str()).collect();
        match names.is_empty() {
            true => alloc::format!("no other node is {what}"),
            false => alloc::format!("{what}: {}", names.join(", ")),
        }
    }
}
