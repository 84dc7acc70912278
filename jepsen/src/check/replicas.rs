//! What the monitors' replicas say of themselves, sampled all the while.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Report, seconds};

/// States in which a node takes writes, or may.
pub const WRITABLE: [&str; 5] = ["single", "wait_primary", "primary", "join_primary", "apply_settings"];

/// A node as one replica knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    pub formation: String,
    pub group: i64,
    pub node: i64,
    pub name: String,
    pub reported: String,
    pub goal: String,
    /// The group's epoch, where the monitors tell one.
    pub epoch: Option<i64>,
}

/// One look at one replica, at what it has applied itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Nanoseconds since the beginning of the run.
    pub time: u64,
    pub replica: String,
    /// How often the replica's process has been started.
    pub incarnation: u32,
    pub role: String,
    pub term: i64,
    pub applied: i64,
    pub goals: Vec<Goal>,
}

/// At most one node of a group is meant to take writes, whoever is asked; in one epoch it is always
/// the same one; terms, epochs and applied entries never go back; a term has one leader.
pub fn check(samples: &[Sample]) -> Report {
    let mut violations = BTreeSet::new();
    let mut leaders: BTreeMap<i64, String> = BTreeMap::new();
    let mut last: BTreeMap<(&str, u32), &Sample> = BTreeMap::new();
    let mut terms: BTreeMap<&str, i64> = BTreeMap::new();
    let mut epochs: BTreeMap<(&str, u32, &str, i64), i64> = BTreeMap::new();
    let mut writers: BTreeMap<(&str, i64, i64), &str> = BTreeMap::new();
    let mut ordered: Vec<&Sample> = samples.iter().collect();
    ordered.sort_by_key(|s| s.time);
    for sample in ordered {
        let (who, at) = (&sample.replica, seconds(sample.time));
        if sample.role == "leader" {
            let first = leaders.entry(sample.term).or_insert_with(|| who.clone());
            if first != who {
                violations
                    .insert(format!("term {} has two leaders: {first}, and {who} at {at}", sample.term));
            }
        }
        let term = terms.entry(who).or_insert(sample.term);
        if sample.term < *term {
            violations.insert(format!("{who} went from term {term} back to {} at {at}", sample.term));
        }
        *term = sample.term.max(*term);
        if let Some(before) = last.insert((who, sample.incarnation), sample)
            && sample.applied < before.applied
        {
            violations
                .insert(format!("{who} had applied {} and then {} at {at}", before.applied, sample.applied));
        }
        let mut writable: BTreeMap<(&str, i64), Vec<&Goal>> = BTreeMap::new();
        for goal in &sample.goals {
            if WRITABLE.contains(&goal.goal.as_str()) {
                writable.entry((&goal.formation, goal.group)).or_default().push(goal);
            }
            if let Some(epoch) = goal.epoch {
                let key = (who.as_str(), sample.incarnation, goal.formation.as_str(), goal.group);
                let known = epochs.entry(key).or_insert(epoch);
                if epoch < *known {
                    violations.insert(format!(
                        "{who}: group {}/{} went from epoch {known} back to {epoch} at {at}",
                        goal.formation, goal.group
                    ));
                }
                *known = epoch.max(*known);
            }
        }
        for ((formation, group), goals) in writable {
            if goals.len() > 1 {
                let names: Vec<String> = goals.iter().map(|g| format!("{} {}", g.name, g.goal)).collect();
                violations
                    .insert(format!("{who} at {at}: group {formation}/{group} has {}", names.join(" and ")));
            }
            for goal in goals {
                let Some(epoch) = goal.epoch else {
                    continue;
                };
                let first = writers.entry((formation, group, epoch)).or_insert(&goal.name);
                if *first != goal.name {
                    violations.insert(format!(
                        "epoch {epoch} of group {formation}/{group} has two writers: {first}, and {} by {who} at {at}",
                        goal.name
                    ));
                }
            }
        }
    }
    let facts = vec![
        format!("{} samples of {} replicas", samples.len(), terms.len()),
        format!("{} terms with a leader", leaders.len()),
    ];
    if samples.is_empty() {
        return Report::unknown("replicas", "no replica was sampled", facts);
    }
    Report::of("replicas", violations.into_iter().collect(), facts)
}

/// At rest, all replicas must hold the same nodes with the same goals.
pub fn same_at_rest(last: &[Sample]) -> Report {
    let mut violations = Vec::new();
    let names: Vec<String> = last.iter().map(|s| s.replica.clone()).collect();
    if let Some(first) = last.first() {
        for other in last.iter().filter(|other| other.goals != first.goals) {
            violations.push(format!(
                "{} and {} differ: {:?} and {:?}",
                first.replica, other.replica, first.goals, other.goals
            ));
        }
    }
    if last.len() < 2 {
        return Report::unknown("replicas at rest", "fewer than two replicas answered", names);
    }
    Report::of("replicas at rest", violations, names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Verdict;

    fn goal(node: i64, goal: &str, epoch: Option<i64>) -> Goal {
        let (name, goal) = (format!("n{node}"), goal.to_owned());
        Goal { formation: "default".into(), group: 0, node, name, reported: goal.clone(), goal, epoch }
    }

    fn sample(time: u64, replica: &str, goals: Vec<Goal>) -> Sample {
        let (role, term) = ("follower".to_owned(), 1);
        Sample { time, replica: replica.to_owned(), incarnation: 0, role, term, applied: 1, goals }
    }

    fn told(samples: &[Sample]) -> String {
        match check(samples).verdict {
            Verdict::Valid => String::new(),
            Verdict::Unknown(why) => why,
            Verdict::Invalid(all) => all.join("\n"),
        }
    }

    #[test]
    fn a_failover_with_its_epochs_is_valid() {
        let a = sample(0, "a", vec![goal(1, "primary", Some(1)), goal(2, "secondary", Some(1))]);
        let b = sample(1, "a", vec![goal(1, "draining", Some(2)), goal(2, "prepare_promotion", Some(2))]);
        let c = sample(2, "a", vec![goal(1, "demoted", Some(2)), goal(2, "wait_primary", Some(2))]);
        // Another replica is behind, and may be.
        let old = Sample { replica: "b".into(), time: 3, ..a.clone() };
        assert_eq!(told(&[a, b, c, old]), "");
    }

    #[test]
    fn two_writers_are_found_in_one_view_and_across_views() {
        let view = sample(0, "a", vec![goal(1, "primary", None), goal(2, "wait_primary", None)]);
        assert!(told(&[view]).contains("n1 primary and n2 wait_primary"));
        let a = sample(0, "a", vec![goal(1, "primary", Some(3))]);
        let b = sample(1, "b", vec![goal(2, "wait_primary", Some(3))]);
        assert!(told(&[a, b]).contains("two writers"));
    }

    #[test]
    fn nothing_goes_back() {
        let a = sample(5, "a", vec![goal(1, "primary", Some(3))]);
        let back = sample(6, "a", vec![goal(1, "primary", Some(2))]);
        assert!(told(&[a.clone(), back]).contains("back to 2"));
        assert!(told(&[a.clone(), Sample { time: 6, term: 0, ..a.clone() }]).contains("term 1 back to 0"));
        assert!(
            told(&[a.clone(), Sample { time: 6, applied: 0, ..a.clone() }]).contains("applied 1 and then 0")
        );
        // A replica that was started again catches up from where its disk is.
        assert_eq!(told(&[a.clone(), Sample { time: 6, applied: 0, incarnation: 1, ..a }]), "");
    }

    #[test]
    fn a_term_has_one_leader() {
        let a = Sample { role: "leader".into(), ..sample(0, "a", vec![]) };
        let b = Sample { role: "leader".into(), ..sample(1, "b", vec![]) };
        assert!(told(&[a.clone(), b.clone()]).contains("two leaders"));
        assert_eq!(told(&[a, Sample { term: 2, ..b }]), "");
    }

    #[test]
    fn replicas_that_differ_at_rest_are_found_and_no_sample_proves_nothing() {
        let (a, b) =
            (sample(0, "a", vec![goal(1, "primary", None)]), sample(0, "b", vec![goal(1, "single", None)]));
        assert!(same_at_rest(&[a.clone(), Sample { replica: "b".into(), ..a.clone() }]).valid());
        assert!(matches!(same_at_rest(&[a.clone(), b]).verdict, Verdict::Invalid(_)));
        assert!(matches!(same_at_rest(&[a]).verdict, Verdict::Unknown(_)));
        assert!(matches!(check(&[]).verdict, Verdict::Unknown(_)));
    }
}
