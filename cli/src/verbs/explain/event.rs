//! An event of the past: the rule behind it, and what was known when it fired.

use std::collections::{BTreeMap, BTreeSet};

use failover::rule::Rule;
use failover::rules;
use monitor_client::EventDetail;
use serde_json::{Value, json};

use super::wrap;
use crate::exit::{CliError, Status};
use crate::locate::Operator;
use crate::output;

/// As many events before the one that is asked about are looked at, and as many behind it.
const BEFORE: i64 = 200;
const BEHIND: i64 = 60;

/// Decisions that follow each other this closely belong to one story.
const PAUSE_MS: i64 = 60_000;

/// Of such a story, as many before the event and as many behind it are told.
const TOLD: usize = 8;

/// Upstream lowers a priority by so much for as long as one failover takes.
const LOWERED_BY: i32 = 101;

/// As far back as the newest choice of a candidate is looked for.
const NEWEST: u32 = 2000;

/// The number of the newest event by which a candidate was chosen.
pub async fn last_choice(operator: &Operator, group: Option<i32>) -> Result<i64, CliError> {
    let formation = &operator.formation;
    let events = operator.client.newest_events(formation, group, NEWEST).await?;
    let chose = |event: &&EventDetail| {
        event.reported != event.goal && ["prepare_promotion", "fast_forward"].contains(&event.goal.as_str())
    };
    events.iter().rfind(chose).map(|event| event.id).ok_or_else(|| {
        CliError::new(Status::Monitor, format!("nobody was promoted in formation \"{formation}\", as far as the events go back"))
            .hint("`pgquorum show events --json` has the numbers of other events")
    })
}

pub async fn explain(operator: &Operator, number: i64, as_json: bool) -> Result<(), CliError> {
    let events = operator.client.events_around(number, BEFORE, BEHIND).await?;
    let Some(event) = events.iter().find(|event| event.id == number) else {
        return Err(CliError::new(Status::Monitor, format!("there is no event {number}"))
            .hint("`pgquorum show events --json` has the numbers; the monitors keep the newest 10000"));
    };
    let told = Told::of(event, &events);
    match as_json {
        true => output::json(&told.json()),
        false => output::line(&told.text()),
    }
}

/// The event, and what it is told with.
struct Told<'a> {
    event: &'a EventDetail,
    rule: Option<&'static Rule>,
    /// The newest event about each node of the group until then, by the node's number.
    evidence: Vec<&'a EventDetail>,
    /// What the rules decided around it, itself included.
    decisions: Vec<&'a EventDetail>,
}

impl<'a> Told<'a> {
    fn of(event: &'a EventDetail, events: &'a [EventDetail]) -> Told<'a> {
        let group: Vec<&EventDetail> =
            events.iter().filter(|other| other.formation == event.formation && other.group == event.group).collect();
        let before: Vec<&EventDetail> = group.iter().copied().filter(|other| other.id <= event.id).collect();
        Told {
            event,
            rule: event.rule.and_then(rules::by_pos),
            evidence: last_of_each_node(&before),
            decisions: decisions(event, &group),
        }
    }

    fn json(&self) -> Value {
        let all = |events: &[&EventDetail]| events.iter().map(|event| event_json(event)).collect::<Vec<_>>();
        json!({
            "event": event_json(self.event),
            "rule": self.rule.map(|rule| json!({
                "rule": rule.pos,
                "section": rule.section.name(),
                "summary": rule.summary,
                "conditions": rule.conditions(),
                "assigns": rule.assignments(),
            })),
            "evidence": all(&self.evidence),
            "sealed": self.sealed().iter().map(|event| event.name.clone()).collect::<Vec<_>>(),
            "decisions": all(&self.decisions),
        })
    }

    fn text(&self) -> String {
        let event = self.event;
        let mut lines =
            vec![format!("Event {}, {}, formation \"{}\", group {}", event.id, event.time, event.formation, event.group)];
        wrap(&mut lines, "  ", &event.description);
        lines.push(match event.reported == event.goal {
            true => format!("  Node {} \"{}\" was {}.", event.node, event.name, event.reported),
            false => {
                format!("  Node {} \"{}\" was {} and was told to become {}.", event.node, event.name, event.reported, event.goal)
            }
        });
        lines.push(String::new());
        match self.rule {
            Some(rule) => {
                wrap(&mut lines, "", &format!("Rule {} ({}): {}", rule.pos, rule.section.name(), rule.summary));
                lines.push("  It held because all of this held:".to_string());
                for condition in rule.conditions() {
                    wrap(&mut lines, "    - ", &condition);
                }
                if !rule.assignments().is_empty() {
                    wrap(&mut lines, "  ", &format!("It assigns {}.", rule.assignments()));
                }
            }
            None => lines.push("No rule: a report, a health check or an operator's call.".to_string()),
        }
        lines.push(String::new());
        lines.push("What was known of each node, from the newest event about it until then:".to_string());
        for known in &self.evidence {
            wrap(&mut lines, "    ", &self.known(known));
        }
        self.choice(&mut lines);
        self.story(&mut lines);
        lines.join("\n")
    }

    fn known(&self, known: &EventDetail) -> String {
        let states = match known.reported == known.goal {
            true => known.reported.clone(),
            false => format!("{} -> {}", known.reported, known.goal),
        };
        let priority = match known.priority {
            lowered @ ..0 => format!("priority {}, lowered to {lowered} for this failover", lowered + LOWERED_BY),
            priority => format!("priority {priority}"),
        };
        let quorum = if known.quorum { "" } else { ", not in the quorum" };
        // It goes on writing after its event: what it had then says little about now.
        let when = match known.id == self.event.id {
            true => String::new(),
            false => format!(" (event {}, {})", known.id, ago(self.event.milliseconds - known.milliseconds)),
        };
        format!("\"{}\": {states}, {}:{}, {priority}{quorum}{when}", known.name, known.timeline, known.lsn)
    }

    /// States of a node that takes no more WAL from the old primary, be it a standby or that primary itself.
    fn sealed(&self) -> Vec<&'a EventDetail> {
        const SEALED: [&str; 5] = ["report_lsn", "draining", "demote_timeout", "demoted", "prepare_maintenance"];
        self.evidence.iter().copied().filter(|event| SEALED.contains(&event.reported.as_str())).collect()
    }

    /// The election as it stood: who was sealed, and why the one was chosen.
    fn choice(&self, lines: &mut Vec<String>) {
        let event = self.event;
        let sealed = self.sealed();
        // Once somebody is promoted, it is over.
        if sealed.is_empty() || !matches!(event.goal.as_str(), "report_lsn" | "prepare_promotion" | "fast_forward") {
            return;
        }
        let names: Vec<String> =
            sealed.iter().map(|event| format!("\"{}\" at {}:{}", event.name, event.timeline, event.lsn)).collect();
        lines.push(String::new());
        wrap(lines, "", &format!("Sealed (cut off from the primary, or stopped: the position is final): {}.", names.join(", ")));
        if event.goal == "report_lsn" {
            return;
        }
        // In a switchover the standbys stream until the primary has stopped: nobody has to be sealed.
        let candidate_states: &[&str] = if event.reported == "report_lsn" { &["report_lsn"] } else { &["secondary"] };
        let others: Vec<&EventDetail> = self
            .evidence
            .iter()
            .copied()
            .filter(|other| other.node != event.node && candidate_states.contains(&other.reported.as_str()))
            .collect();
        let named = |found: Vec<&&EventDetail>| found.iter().map(|other| format!("\"{}\"", other.name)).collect::<Vec<_>>().join(", ");
        let above = named(others.iter().filter(|other| other.priority > event.priority).collect());
        let equal = named(others.iter().filter(|other| other.priority == event.priority).collect());
        let priority = match (above.is_empty(), equal.is_empty()) {
            (true, true) => "it has the highest candidate priority of those that could be promoted".to_string(),
            (true, false) => format!("nobody that could be promoted has a higher candidate priority ({equal}: the same)"),
            (false, _) => format!("{above}, of a higher candidate priority, was not fit (unhealthy, or on a timeline left behind)"),
        };
        let has = (event.timeline, event.position());
        let further = others.iter().filter(|other| event.reported == "report_lsn" && (other.timeline, other.position()) > has);
        let wal = match further.max_by_key(|other| (other.timeline, other.position())) {
            Some(furthest) => format!("; it fetches what it lacks from \"{}\"", furthest.name),
            None if event.reported == "report_lsn" => ", and none of them has more WAL".to_string(),
            None => ", and it has the last record of the old primary".to_string(),
        };
        wrap(lines, "", &format!("The choice: \"{}\", because {priority}{wal}.", event.name));
    }

    /// What the rules decided around it, in order.
    fn story(&self, lines: &mut Vec<String>) {
        if self.decisions.len() < 2 {
            return;
        }
        lines.push(String::new());
        lines.push("Before and after it, in seconds, and by which rule:".to_string());
        for decision in &self.decisions {
            let mark = if decision.id == self.event.id { '>' } else { ' ' };
            let seconds = (decision.milliseconds - self.event.milliseconds) as f64 / 1000.0;
            let rule = decision.rule.map(|rule| rule.to_string()).unwrap_or_default();
            lines.push(format!(
                "{mark} {seconds:+8.2}  {rule:>4}  {}: {} -> {}",
                decision.name, decision.reported, decision.goal
            ));
        }
    }
}

fn ago(milliseconds: i64) -> String {
    match milliseconds {
        ..50 => "at the same time".to_string(),
        50..10_000 => format!("{:.1} s before", milliseconds as f64 / 1000.0),
        10_000..120_000 => format!("{} s before", milliseconds / 1000),
        _ => format!("{} min before", milliseconds / 60_000),
    }
}

fn last_of_each_node<'a>(before: &[&'a EventDetail]) -> Vec<&'a EventDetail> {
    let mut last: Vec<&EventDetail> = Vec::new();
    for event in before.iter().rev() {
        if !last.iter().any(|known| known.node == event.node) {
            last.push(event);
        }
    }
    last.sort_by_key(|event| event.node);
    last
}

/// The decisions of the story that the event belongs to: without a long pause between them.
fn decisions<'a>(event: &EventDetail, group: &[&'a EventDetail]) -> Vec<&'a EventDetail> {
    // A rule may tell more than the goal, such as a priority that is lowered; a goal counts when it is new.
    let mut goals: BTreeMap<i64, &str> = BTreeMap::new();
    let mut new: BTreeSet<i64> = BTreeSet::from([event.id]);
    for other in group {
        if other.rule.is_some() && other.reported != other.goal && goals.insert(other.node, &other.goal) != Some(&other.goal) {
            new.insert(other.id);
        } else if other.reported == other.goal {
            goals.remove(&other.node);
        }
    }
    let decided = |other: &&&EventDetail| new.contains(&other.id);
    let close = |ordered: &mut dyn Iterator<Item = &'a EventDetail>| {
        let mut at = event.milliseconds;
        let mut found = Vec::new();
        for other in ordered {
            if (other.milliseconds - at).abs() > PAUSE_MS || found.len() >= TOLD {
                break;
            }
            at = other.milliseconds;
            found.push(other);
        }
        found
    };
    let mut story = close(&mut group.iter().rev().filter(decided).copied().filter(|other| other.id < event.id));
    story.reverse();
    story.extend(group.iter().copied().filter(|other| other.id == event.id));
    story.extend(close(&mut group.iter().filter(decided).copied().filter(|other| other.id > event.id)));
    story
}

pub fn event_json(event: &EventDetail) -> Value {
    json!({
        "eventid": event.id,
        "eventtime": event.time,
        "nodeid": event.node,
        "nodename": event.name,
        "reportedstate": event.reported,
        "goalstate": event.goal,
        "reportedtli": event.timeline,
        "reportedlsn": event.lsn,
        "candidatepriority": event.priority,
        "replicationquorum": event.quorum,
        "description": event.description,
        "rule_pos": event.rule,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::verbs::tests::{golden, settled};
    use failover::simulation::Cluster;

    /// Every event of what follows, as the monitors would store it.
    fn story(then: impl Fn(&mut Cluster)) -> Vec<EventDetail> {
        let mut cluster = Cluster::of(&settled());
        then(&mut cluster);
        let mut found = Vec::new();
        // Refused or at rest: the story is told.
        let _ = cluster.play(|seconds, event| found.push((seconds, event.clone())));
        let detail = |(number, (seconds, event)): (usize, &(f64, failover::Event))| {
            let event = &event.event;
            EventDetail {
                id: number as i64 + 1,
                time: "2026-01-02 03:04:05".into(),
                milliseconds: (seconds * 1000.0) as i64,
                formation: event.formation.clone(),
                node: event.node,
                group: event.group,
                name: event.name.clone(),
                reported: event.reported.name().into(),
                goal: event.goal.name().into(),
                timeline: event.timeline,
                lsn: event.lsn.to_string(),
                priority: event.candidate_priority,
                quorum: event.replication_quorum,
                description: event.description.clone(),
                rule: event.rule_pos,
            }
        };
        found.iter().enumerate().map(detail).collect()
    }

    fn told(events: &[EventDetail], goal: &str) -> String {
        match events.iter().find(|event| event.goal == goal && event.rule.is_some()) {
            Some(event) => Told::of(event, events).text() + "\n\n",
            None => format!("no {goal} in {events:?}"),
        }
    }

    #[test]
    fn decisions_of_a_failover() {
        let events = story(|cluster| {
            let id = cluster.id("node1");
            cluster.kill(id);
        });
        golden("explain_event_failover.txt", &["draining", "prepare_promotion", "primary"].map(|goal| told(&events, goal)).concat());
    }

    #[test]
    fn those_who_were_behind_and_those_who_were_preferred() {
        let mut events = story(|cluster| {
            let id = cluster.id("node1");
            cluster.kill(id);
        });
        let chosen = events.iter().position(|event| event.goal == "prepare_promotion" && event.rule.is_some());
        let at = chosen.unwrap();
        let node = events[at].node;
        assert!(told(&events, "prepare_promotion").contains("and none of them has more WAL"));
        for event in events.iter_mut().filter(|event| event.node != node && event.reported == "report_lsn") {
            (event.lsn, event.priority) = ("F/0".into(), 90);
        }
        let text = Told::of(&events[at], &events).text().replace('\n', " ").replace("  ", "");
        assert!(text.contains("it fetches what it lacks from") && text.contains("of a higher candidate priority, was not fit"), "{text}");
    }
}
