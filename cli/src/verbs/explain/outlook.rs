//! What would follow if the primary died now: who would take the writes, or why nobody would.

use failover::simulation::Cluster;
use failover::{Health, Node, NodeState, Snapshot, queries};
use serde_json::{Value, json};

/// A group with a primary that answers, and the rules played on from its death.
pub struct Outlook {
    pub primary: String,
    /// Who would take the writes; `None`: nobody, by itself.
    pub successor: Option<String>,
    /// Each standby that could not be chosen, with why and what to do about it.
    pub standbys: Vec<String>,
    /// What the rules would wait for.
    pub missing: Vec<String>,
}

impl Outlook {
    /// `None`: there is no primary that answers, and what stands in the way is no matter of an "if".
    pub fn of(snapshot: &Snapshot, formation: &str, group: i32) -> Option<Outlook> {
        let nodes: Vec<&Node> = snapshot.state.nodes.values().map(|node| &**node).collect();
        let answers = |node: &&&Node| node.reported.is_writable() && node.goal.is_writable() && node.health != Health::Bad;
        let primary = *nodes.iter().find(answers)?;
        let mut cluster = Cluster::of(snapshot);
        cluster.kill(primary.id);
        let refused = cluster.play(|_, _| {}).err().map(|refused| refused.message);
        let alive = |id: &i64| cluster.keepers.get(id).is_some_and(|keeper| keeper.up && keeper.running);
        let successor = cluster.state.nodes.values().find(|node| node.reported.is_writable() && alive(&node.id));
        let mut missing = Vec::new();
        if successor.is_none() {
            missing = queries::data_loss_statement(&cluster.state, &cluster.observations, cluster.now, formation, group);
            // These tell of the end of the play, long after now.
            missing.retain(|line| !line.starts_with("old primary") && !line.starts_with("missing"));
            missing.extend(refused);
        }
        let observations = snapshot.observations();
        let position = |node: &Node| observations.of(node.id).lsn.unwrap_or(node.lsn).0;
        let others = nodes.iter().filter(|node| node.id != primary.id);
        let behind = |node: &Node| position(primary).saturating_sub(position(node));
        Some(Outlook {
            primary: primary.name.clone(),
            successor: successor.map(|node| node.name.clone()),
            standbys: others.filter_map(|node| why_not(node, primary, behind(node))).collect(),
            missing,
        })
    }

    pub fn lines(&self) -> Vec<String> {
        let primary = &self.primary;
        let mut lines = vec![match &self.successor {
            Some(successor) => format!("If \"{primary}\" died now, \"{successor}\" would take the writes."),
            None => format!("If \"{primary}\" died now, nobody would take the writes by itself."),
        }];
        lines.extend(self.standbys.iter().map(|standby| format!("- {standby}")));
        lines.extend(self.missing.iter().map(|missing| format!("- {missing}")));
        lines
    }

    pub fn json(&self) -> Value {
        json!({
            "primary": self.primary, "successor": self.successor, "standbys": self.standbys, "missing": self.missing,
        })
    }
}

/// A keeper reports several times a second: after this long, in seconds, its silence is worth a word.
const SILENT: f64 = 2.0;

/// Who is awaited while nobody takes writes: those who were told to do something and have not yet said
/// that they did.
pub fn awaited(snapshot: &Snapshot) -> Vec<String> {
    let nodes = snapshot.state.nodes.values();
    if nodes.clone().any(|node| node.reported.is_writable() && node.goal.is_writable() && node.health != Health::Bad) {
        return Vec::new();
    }
    let observations = snapshot.observations();
    let told = |node: &Node| {
        let silence = observations.of(node.id).report.map(|report| {
            snapshot.now.mono_us.saturating_sub(report.mono_us) as f64 / 1e6
        });
        let to = format!("\"{}\" was told to become {}", node.name, node.goal);
        match silence {
            Some(seconds) if seconds < SILENT => format!("{to} and is {} still", node.reported),
            Some(seconds) => format!("{to} and has not reported for {seconds:.0} s: does its keeper run, and reach the monitors?"),
            None => format!("{to} and has not reported to the monitor that leads now"),
        }
    };
    nodes.filter(|node| node.reported != node.goal).map(|node| told(node)).collect()
}

/// Why a standby would not be chosen, or not be enough; `None`: nothing speaks against it.
fn why_not(node: &Node, primary: &Node, behind: u64) -> Option<String> {
    let name = &node.name;
    let maintenance = [NodeState::Maintenance, NodeState::PrepareMaintenance, NodeState::WaitMaintenance];
    let mut reasons = Vec::new();
    if maintenance.iter().any(|state| [node.goal, node.reported].contains(state)) {
        reasons.push(format!("is in maintenance (pgquorum disable maintenance --name {name})"));
    } else if node.health == Health::Bad {
        reasons.push("does not answer the monitor".to_string());
    } else if node.reported != NodeState::Secondary || node.goal != NodeState::Secondary {
        reasons.push(format!("is no secondary yet, but {}, to become {}", node.reported, node.goal));
    }
    if node.candidate_priority == 0 {
        reasons.push(format!(
            "has candidate priority 0, which means never (pgquorum set node candidate-priority 50 --name {name})"
        ));
    }
    if !node.replication_quorum {
        reasons.push(format!(
            "replicates asynchronously: no commit waits for it, so that it may lack some \
             (pgquorum set node replication-quorum true --name {name})"
        ));
    }
    if node.timeline != primary.timeline && node.timeline != 0 {
        reasons.push(format!("is on timeline {}, and the primary on {}", node.timeline, primary.timeline));
    }
    // A standby that follows is a few records behind at any moment.
    if behind > LAGGING {
        reasons.push(format!("is {} MiB of WAL behind", behind >> 20));
    }
    (!reasons.is_empty()).then(|| format!("\"{name}\" {}", reasons.join("; it ")))
}

/// From here on being behind is told, in bytes: a WAL segment.
const LAGGING: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::tests::{golden, settled};
    use std::sync::Arc;

    fn outlook(change: impl Fn(&mut Node)) -> String {
        let mut snapshot = settled();
        for node in snapshot.state.nodes.values_mut().filter(|node| node.id != 1) {
            change(Arc::make_mut(node));
        }
        told(&snapshot)
    }

    fn told(snapshot: &Snapshot) -> String {
        Outlook::of(snapshot, "default", 0).map_or_else(|| "none".to_string(), |found| found.lines().join("\n"))
    }

    #[test]
    fn groups_that_could_and_could_not_fail_over() {
        let mut silent = settled();
        silent.observations.retain(|(seen, _)| *seen == 1);
        for node in silent.state.nodes.values_mut().filter(|node| node.id != 1) {
            Arc::make_mut(node).health = Health::Bad;
        }
        let mut waiting = settled();
        for (id, node) in waiting.state.nodes.iter_mut() {
            let node = Arc::make_mut(node);
            node.goal = NodeState::ReportLsn;
            node.reported = if *id == 1 { NodeState::ReportLsn } else { NodeState::Secondary };
        }
        waiting.observations.retain(|(seen, _)| *seen != 3);
        let mut lagging = settled();
        for (_, seen) in lagging.observations.iter_mut().filter(|(id, _)| *id != 1) {
            seen.lsn = Some(failover::Lsn(0));
        }
        let stories = [
            ("settled", outlook(|_| ())),
            ("priority 0", outlook(|node| node.candidate_priority = 0)),
            ("one with priority 0", outlook(|node| node.candidate_priority = if node.id == 2 { 0 } else { 50 })),
            ("asynchronous", outlook(|node| node.replication_quorum = false)),
            (
                "maintenance",
                outlook(|node| (node.goal, node.reported) = (NodeState::Maintenance, NodeState::Maintenance)),
            ),
            ("silent", told(&silent)),
            ("nobody takes writes", awaited(&waiting).join("\n")),
            ("lagging", told(&lagging)),
        ];
        let told: Vec<String> = stories.iter().map(|(title, text)| format!("{title}:\n{text}\n")).collect();
        golden("explain_outlook.txt", &told.join("\n"));
        let snapshot = settled();
        let json = Outlook::of(&snapshot, "default", 0).map(|found| found.json()).unwrap_or_default();
        assert_eq!(json["primary"], "node1");
        assert!(json["successor"].is_string() && json["missing"].as_array().is_some_and(Vec::is_empty), "{json}");
    }
}
