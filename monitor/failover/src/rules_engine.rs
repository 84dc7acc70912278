//! Executes the rows of the table on a working copy: first match, assignments, what comes next.

use alloc::string::String;
use alloc::vec::Vec;

use crate::NodeState::{self, *};
use crate::condition::{GroupTest, NodeTest, Threshold};
use crate::election;
use crate::facts::{self, converged, in_maintenance};
use crate::outcome::Rejection;
use crate::reject;
use crate::rule::{Rule, Section, Then, Who};
use crate::rules;
use crate::texts::fill;
use crate::values::NodeId;
use crate::view::{Member, View};

/// Whom the conditions of a row are about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    pub node: NodeId,
    pub primary: Option<NodeId>,
    /// The election's choice has all the WAL, or not.
    pub elected_with_all_wal: Option<bool>,
    /// The end of the event's text, for rows whose text depends on the story.
    pub reason: String,
}

impl Scene {
    pub fn new(node: NodeId, primary: Option<NodeId>) -> Scene {
        Scene { node, primary, ..Scene::default() }
    }
}

impl View<'_> {
    /// Whether a node passes a test; see [`NodeTest`].
    pub fn node_test(&self, member: Option<&Member>, test: NodeTest) -> bool {
        let Some(member) = member else {
            return matches!(test, NodeTest::Exists(false) | NodeTest::Unhealthy);
        };
        let row = &member.row;
        match test {
            NodeTest::Exists(wanted) => wanted,
            NodeTest::Converged(set) => row.reported == row.goal && set.contains(&row.goal),
            NodeTest::NotConverged(set) => !(row.reported == row.goal && set.contains(&row.goal)),
            NodeTest::Reported(set) => set.contains(&row.reported),
            NodeTest::ReportedNot(set) => !set.contains(&row.reported),
            NodeTest::Goal(set) => set.contains(&row.goal),
            NodeTest::GoalNot(set) => !set.contains(&row.goal),
            NodeTest::InPrimaryState => facts::in_primary_state(row),
            NodeTest::DemotedPrimary => facts::demoted_primary(row),
            NodeTest::InMaintenance(wanted) => in_maintenance(row) == wanted,
            NodeTest::Healthy => self.is_healthy(member),
            NodeTest::Unhealthy => self.is_unhealthy(member),
            NodeTest::Silent => self.is_silent(member),
            NodeTest::Heard => member.seen.report.is_some(),
            NodeTest::Confirmed => self.is_confirmed(member),
            NodeTest::Electable(wanted) => (row.candidate_priority > 0) == wanted,
            NodeTest::InQuorum(wanted) => row.replication_quorum == wanted,
            NodeTest::DrainTimeExpired => self.drain_time_expired(member),
            NodeTest::ReadyToStream => facts::ready_to_stream(row),
            NodeTest::OffLineage => self.off_lineage(row.id),
            NodeTest::Stuck => !crate::edges::has_edge(row.generation, row.reported, row.goal),
            NodeTest::KeeperCan(goal) => self.keeper_can(row.id, goal),
            NodeTest::Sealed(wanted) => row.sealed == wanted,
            NodeTest::WaitedMissedReports => {
                self.since_us(member.seen.state_change) > self.settings.missed_reports_timeout_ms.saturating_mul(1000)
            }
            NodeTest::WaitedDemoteTimeout => self.waited_demote_timeout(member),
        }
    }

    /// Whether the group passes a test; see [`GroupTest`].
    pub fn group_test(&self, scene: &Scene, test: GroupTest) -> bool {
        let node = self.member(scene.node);
        let primary = scene.primary.and_then(|id| self.member(id));
        match test {
            GroupTest::Nodes(count) => count.holds(self.list().count()),
            GroupTest::CitusWorker => self.formation.kind == "citus" && self.group > 0,
            GroupTest::FailoverInProgress(wanted) => self.failover_in_progress() == wanted,
            GroupTest::SameTimeline => match (node, primary) {
                (Some(node), Some(primary)) => node.row.timeline == primary.row.timeline,
                _ => false,
            },
            GroupTest::Within(Threshold::EnableSync) => {
                self.within(node, primary, self.settings.enable_sync_wal_log_threshold)
            }
            GroupTest::Within(Threshold::Promote) => {
                self.within(node, primary, self.settings.promote_wal_log_threshold)
            }
            GroupTest::WaitedDemoteTimeout => node.is_some_and(|node| self.waited_demote_timeout(node)),
            GroupTest::SomeoneWaits => self.others(scene.node).any(|member| converged(&member.row, WaitStandby)),
            GroupTest::HealthyCandidate => self.list().any(|member| {
                converged(&member.row, Secondary) && member.row.candidate_priority > 0 && self.is_healthy(member)
            }),
            GroupTest::QuorumNodes(count) => {
                count.holds(self.others(scene.node).filter(|member| member.row.replication_quorum).count())
            }
            GroupTest::Secondaries(count) => count.holds(self.secondaries(scene.node).count()),
            GroupTest::QuorumSecondaries(count) => count.holds(self.quorum_secondaries(scene.node)),
            GroupTest::NumberSyncStandbys(count) => {
                count.holds(usize::try_from(self.formation.number_sync_standbys).unwrap_or(0))
            }
            GroupTest::LastSyncStandby => {
                self.formation.number_sync_standbys == 0
                    && scene.primary.is_some_and(|primary| self.healthy_sync_standbys(primary) == 1)
                    && node.is_some_and(|node| self.is_healthy_sync_standby(node))
            }
            GroupTest::NoWalSource => {
                let mut sources = self.others(scene.node).filter(|member| converged(&member.row, ReportLsn)).peekable();
                sources.peek().is_some() && sources.all(|member| !self.is_healthy(member))
            }
            GroupTest::GuardDataLoss(wanted) => self.settings.guard_data_loss == wanted,
            GroupTest::ElectedWithAllWal(wanted) => scene.elected_with_all_wal == Some(wanted),
            GroupTest::Promotion(wanted) => self.candidate().is_some() == wanted,
            GroupTest::Replaceable => crate::quorum_path::replaceable(self, scene.primary),
            GroupTest::HasPrimarysWal => match (node, primary) {
                (Some(node), Some(primary)) => {
                    node.row.timeline == primary.row.timeline && node.row.lsn >= primary.row.lsn
                }
                _ => false,
            },
            GroupTest::LeaseOver => primary.is_none_or(|primary| self.lease_over(primary)),
            GroupTest::SealsEndDemoteTimeout => {
                self.settings.seals_end_demote_timeout && crate::quorum::cut_off(self)
            }
            GroupTest::Never => false,
        }
    }

    /// A secondary that has to catch up first: unhealthy, and not waiting for a new primary.
    fn is_due(&self, member: &Member) -> bool {
        member.row.goal == Secondary
            && !matches!(member.row.reported, ReportLsn | JoinSecondary)
            && self.is_unhealthy(member)
    }

    fn secondaries(&self, primary: NodeId) -> impl Iterator<Item = &Member<'_>> {
        self.others(primary).filter(|member| converged(&member.row, Secondary) && !self.is_due(member))
    }

    /// Secondaries of the replication quorum that the primary may wait for.
    pub fn quorum_secondaries(&self, primary: NodeId) -> usize {
        self.secondaries(primary).filter(|member| member.row.replication_quorum).count()
    }

    /// A standby that the primary waits for now.
    pub fn is_healthy_sync_standby(&self, member: &Member) -> bool {
        member.row.replication_quorum
            && member.row.goal == Secondary
            && converged(&member.row, Secondary)
            && self.is_healthy(member)
    }

    /// How many of them there are.
    pub fn healthy_sync_standbys(&self, primary: NodeId) -> usize {
        self.others(primary).filter(|member| self.is_healthy_sync_standby(member)).count()
    }

    /// Whether all conditions of a row hold.
    pub fn holds(&self, scene: &Scene, rule: &Rule) -> bool {
        let node = self.member(scene.node);
        let primary = scene.primary.and_then(|id| self.member(id));
        rule.node.iter().all(|test| self.node_test(node, *test))
            && rule.primary.iter().all(|test| self.node_test(primary, *test))
            && rule.group.iter().all(|test| self.group_test(scene, *test))
    }

    /// Assigns what a row says. Nothing is assigned unless every keeper concerned can follow.
    pub fn fire(&mut self, scene: &Scene, rule: &Rule) -> bool {
        let single = |who| match who {
            Who::Node => Some(scene.node),
            Who::Primary => scene.primary,
            Who::Others | Who::UnhealthySecondaries | Who::Standbys | Who::Sealed => None,
        };
        let possible = rule.assign.iter().all(|(who, goal)| {
            single(*who).is_none_or(|id| {
                self.member(id).is_some_and(|member| {
                    member.row.goal == *goal
                        || crate::edges::has_edge(member.row.generation, member.row.reported, *goal)
                })
            })
        });
        if !possible {
            return false;
        }
        // The texts speak of the nodes as they were before the row fired.
        let texts: Vec<String> = rule.assign.iter().map(|(_, goal)| fill(self, scene, rule.event, *goal)).collect();
        for ((who, goal), text) in rule.assign.iter().zip(&texts) {
            match (who, single(*who)) {
                (_, Some(id)) => {
                    self.assign(id, *goal, text, Some(rule));
                }
                (Who::Others, None) => self.send_others(scene.node, *goal, rule),
                (Who::UnhealthySecondaries, None) => self.send_unhealthy(scene.node, rule),
                (Who::Standbys, None) => crate::quorum_path::ask_to_seal(self, scene.primary),
                (Who::Sealed, None) => self.send_sealed(scene.node, *goal, rule),
                _ => {}
            }
        }
        true
    }

    fn send_others(&mut self, removed: NodeId, goal: NodeState, rule: &Rule) {
        let others: Vec<NodeId> = self
            .others(removed)
            .filter(|member| !in_maintenance(&member.row) && self.keeper_can(member.row.id, goal))
            .map(|member| member.row.id)
            .collect();
        for id in others {
            let Some(row) = self.member(id).map(|member| &member.row) else { continue };
            let text = alloc::format!(
                "Setting goal state of {} to {goal} after primary node removal.",
                crate::view::node_text(row)
            );
            self.assign(id, goal, &text, Some(rule));
        }
    }

    fn send_sealed(&mut self, candidate: NodeId, goal: NodeState, rule: &Rule) {
        let sealed: Vec<NodeId> = self
            .others(candidate)
            .filter(|member| converged(&member.row, ReportLsn) && member.row.sealed)
            .filter(|member| facts::has_heard_goal(&member.row))
            .map(|member| member.row.id)
            .collect();
        for id in sealed {
            let text = match (self.member(id), self.member(candidate)) {
                (Some(member), Some(upstream)) => alloc::format!(
                    "Setting goal state of {} to {goal} to follow {}",
                    crate::view::node_text(&member.row),
                    crate::view::node_text(&upstream.row)
                ),
                _ => continue,
            };
            self.assign(id, goal, &text, Some(rule));
        }
    }

    fn send_unhealthy(&mut self, primary: NodeId, rule: &Rule) {
        let due: Vec<NodeId> =
            self.others(primary).filter(|member| self.is_due(member)).map(|member| member.row.id).collect();
        for id in due {
            let Some(row) = self.member(id).map(|member| &member.row) else { continue };
            let text = alloc::format!(
                "Setting goal state of {} to catchingup after it became unhealthy.",
                crate::view::node_text(row)
            );
            self.assign(id, Catchingup, &text, Some(rule));
        }
    }

    /// Finds the first row of a section that holds and fires it.
    pub fn first_match(&mut self, section: Section, scene: &Scene) -> Option<&'static Rule> {
        rules::of(section).find(|rule| self.holds(scene, rule) && self.fire(scene, rule))
    }

    /// As [`View::first_match`], among the rows of these numbers, in their order.
    pub fn first_match_of(&mut self, numbers: &[u16], scene: &Scene) -> Option<&'static Rule> {
        let mut rows = numbers.iter().filter_map(|pos| rules::by_pos(*pos));
        rows.find(|rule| self.holds(scene, rule) && self.fire(scene, rule))
    }

    /// Evaluates the rules for one node of the group, as its report or an operator's call demands.
    ///
    /// # Errors
    /// XX000 when the group has no primary and no failover is in progress; nothing may be kept then.
    pub fn proceed(&mut self, node: NodeId) -> Result<(), Rejection> {
        if self.member(node).is_none() {
            return Ok(());
        }
        if let Some(rule) = self.first_match(Section::Early, &Scene::new(node, None)) {
            if rule.then == Then::DeleteNode {
                self.delete(node);
            }
            return Ok(());
        }
        let quorum_path = self.on_quorum_path();
        if quorum_path && crate::quorum_path::run(self) {
            return Ok(());
        }
        if self.member(node).is_some_and(|member| facts::in_primary_state(&member.row)) {
            self.first_match(Section::Primary, &Scene::new(node, None));
            return Ok(());
        }
        let primary = self.primary_or_demoted().map(|member| member.row.id);
        if primary.is_none() && !self.failover_in_progress() {
            return Err(match self.member(node) {
                Some(member) => reject::no_primary_for(&self.formation.id, self.group, &member.row),
                None => reject::no_primary(&self.formation.id, self.group),
            });
        }
        let scene = Scene::new(node, primary);
        for rule in rules::of(Section::Standby) {
            if quorum_path && rules::quorum::UPSTREAM_ONLY.contains(&rule.pos) {
                continue;
            }
            if !self.holds(&scene, rule) || !self.fire(&scene, rule) {
                continue;
            }
            match rule.then {
                Then::ReplacePrimary => {
                    self.first_match(Section::LostPrimary, &scene);
                    if election::run(self, node, primary) {
                        return Ok(());
                    }
                    continue;
                }
                Then::Elect => {
                    election::run(self, node, primary);
                }
                Then::ReviewPrimary => {
                    if let Some(primary) = primary {
                        self.first_match(Section::Primary, &Scene::new(primary, None));
                    }
                }
                Then::Stop | Then::DeleteNode => {}
            }
            return Ok(());
        }
        Ok(())
    }
}
