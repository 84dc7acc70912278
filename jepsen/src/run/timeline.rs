//! A picture of a run: operations, faults, goal states and who was primary, on one axis of time.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::judge::{self, Evidence};
use super::{Outcome, Plan};
use crate::check::Verdict;
use crate::check::recovery::Installed;
use crate::history::{self, Event, Op};
use crate::load::{pinned, postgres};

const LEFT: f64 = 120.0;
const WIDTH: f64 = 1440.0;
const ROW: f64 = 18.0;
/// Colours that also differ in lightness.
const GREEN: &str = "#2a8f4f";
const ORANGE: &str = "#e69f00";
const GREY: &str = "#b8b8b8";
const RED: &str = "#c5221f";
const BLUE: &str = "#9ec3e6";
const DARK: &str = "#1f4e79";
const SMALL: &str = "font-size='9' fill='#555'";

struct Picture {
    body: String,
    y: f64,
    end: f64,
}

pub fn draw(plan: &Plan, events: &[Event], evidence: &Evidence, outcome: &Outcome) -> String {
    let end = events.last().map_or(1, |event| event.time).max(1) as f64 / 1e9;
    let mut picture = Picture { body: String::new(), y: 16.0, end };
    let verdict = match (outcome.passed(), outcome.failed()) {
        (true, _) => "valid",
        (_, true) => "INVALID",
        _ => "unknown",
    };
    picture.text(
        8.0,
        &format!("{}, seed {}: {verdict}", plan.which.name(), plan.seed),
        "font-size='15' font-weight='bold'",
    );
    picture.legend();
    let top = picture.y;
    picture.faults(evidence);
    picture.writes(&history::operations(events, postgres::SET), outcome);
    let probes = history::operations(events, pinned::PINNED);
    for server in plan.which.machines().1 {
        picture.server(server, &probes);
        picture.goals(server, evidence);
    }
    if plan.workloads.monitors {
        for monitor in plan.which.machines().0 {
            picture.monitor(monitor, evidence);
        }
    }
    picture.axis(top);
    picture.verdicts(outcome);
    let (width, height) = (LEFT + WIDTH + 20.0, picture.y + 10.0);
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0}' height='{height:.0}' \
         viewBox='0 0 {width:.0} {height:.0}' font-family='sans-serif' font-size='11'>\n\
         <rect width='100%' height='100%' fill='white'/>\n{}</svg>\n",
        picture.body
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Picture {
    fn x(&self, nanoseconds: u64) -> f64 {
        LEFT + WIDTH * (nanoseconds as f64 / 1e9 / self.end).min(1.0)
    }

    fn text(&mut self, x: f64, text: &str, more: &str) {
        _ = writeln!(self.body, "<text x='{x:.1}' y='{:.1}' {more}>{}</text>", self.y, escape(text));
    }

    fn label(&mut self, text: &str) {
        self.row(text, 12.0, "");
    }

    /// What a row shows, left of it.
    fn row(&mut self, text: &str, below: f64, more: &str) {
        self.y += below;
        self.text(LEFT - 6.0, text, &format!("text-anchor='end' {more}"));
        self.y -= below;
    }

    /// The name of a machine, left of the labels of its rows.
    fn name(&mut self, name: &str) {
        self.y += 11.0;
        self.text(8.0, name, "font-weight='bold'");
        self.y -= 11.0;
    }

    fn bar(&mut self, from: f64, until: f64, height: f64, colour: &str, told: &str) {
        _ = writeln!(
            self.body,
            "<rect x='{from:.1}' y='{:.1}' width='{:.1}' height='{height:.1}' fill='{colour}'><title>{}</title></rect>",
            self.y,
            (until - from).max(1.0),
            escape(told)
        );
    }

    fn legend(&mut self) {
        self.y += 10.0;
        let mut x = LEFT;
        for (colour, word) in [
            (GREEN, "acknowledged / takes writes"),
            (ORANGE, "outcome unknown"),
            (GREY, "refused / no answer"),
            (BLUE, "standby / follower"),
            (DARK, "leader"),
            (RED, "fault / no writes / acknowledged and lost"),
        ] {
            self.bar(x, x + 12.0, 10.0, colour, word);
            self.y += 9.0;
            self.text(x + 16.0, word, "");
            self.y -= 9.0;
            x += 40.0 + 6.3 * word.len() as f64;
        }
        self.y += 22.0;
    }

    /// Faults in as few rows as they need without overlapping.
    fn faults(&mut self, evidence: &Evidence) {
        let mut rows: Vec<f64> = Vec::new();
        let top = self.y;
        self.label("faults");
        let mut faults: Vec<_> = evidence.faults.iter().collect();
        faults.sort_by_key(|fault| fault.from);
        for fault in faults {
            if matches!(fault.installed, Installed::Skipped(_)) {
                continue;
            }
            let (from, until) = (self.x(fault.from), self.x(fault.until));
            let text = format!("{} {}", fault.kind, fault.target);
            // Text may be longer than its bar.
            let needs = until.max(from + 6.0 * text.len() as f64) + 8.0;
            let row = match rows.iter().position(|free| *free <= from) {
                Some(row) => row,
                None => {
                    rows.push(0.0);
                    rows.len() - 1
                }
            };
            if let Some(free) = rows.get_mut(row) {
                *free = needs;
            }
            self.y = top + row as f64 * ROW;
            let told =
                format!("{text}, {:.1} s to {:.1} s", fault.from as f64 / 1e9, fault.until as f64 / 1e9);
            self.bar(from, until, 14.0, "#f2b8b5", &told);
            self.bar(from, from + 2.0, 14.0, RED, &told);
            self.y += 11.0;
            self.text(from + 4.0, &text, "font-size='10'");
        }
        self.y = top + rows.len().max(1) as f64 * ROW + 8.0;
    }

    /// Writes into the set: how many in each slice, by outcome, and the outages.
    fn writes(&mut self, ops: &[Op], outcome: &Outcome) {
        const SLICES: usize = 480;
        const HEIGHT: f64 = 48.0;
        let lost = judge::lost(ops);
        let mut slices = vec![[0u32; 4]; SLICES];
        for op in ops.iter().filter(|op| op.f == "add") {
            let at = op.end.min(op.start + 3_000_000_000) as f64 / 1e9 / self.end;
            let kind = match op.outcome {
                history::Outcome::Ok(_) if op.input.as_i64().is_some_and(|n| lost.contains(&n)) => 0,
                history::Outcome::Ok(_) => 1,
                history::Outcome::Info(_) => 2,
                history::Outcome::Fail(_) => 3,
            };
            let slice = ((at * SLICES as f64) as usize).min(SLICES - 1);
            if let Some(count) = slices.get_mut(slice).and_then(|s| s.get_mut(kind)) {
                *count += 1;
            }
        }
        self.label("writes");
        let most = slices.iter().map(|s| s.iter().sum::<u32>()).max().unwrap_or(1).max(1);
        let top = self.y;
        let width = WIDTH / SLICES as f64;
        for (i, slice) in slices.iter().enumerate() {
            let x = LEFT + i as f64 * width;
            let mut base = top + HEIGHT;
            for (count, colour) in slice.iter().zip([RED, GREEN, ORANGE, GREY]) {
                if *count > 0 {
                    let height = (HEIGHT * f64::from(*count) / f64::from(most)).max(1.5);
                    base -= height;
                    self.y = base;
                    self.bar(x, x + width - 0.4, height, colour, &format!("{count}"));
                }
            }
        }
        self.y = top + HEIGHT + 4.0;
        for (from, until) in outcome.outages.iter().filter(|(from, until)| until - from > 500_000_000) {
            let seconds = (until - from) as f64 / 1e9;
            let (a, b) = (self.x(*from), self.x(*until));
            self.bar(a, b, 4.0, RED, &format!("no writes for {seconds:.2} s"));
            if seconds >= 1.0 {
                self.y += 15.0;
                self.text((a + b) / 2.0, &format!("{seconds:.1} s"), "text-anchor='middle' font-size='10'");
                self.y -= 15.0;
            }
        }
        self.y += 24.0;
    }

    /// What the clients pinned to a server saw: above writes, below reads.
    fn server(&mut self, server: &str, ops: &[Op]) {
        self.name(server);
        self.row("its clients write", 8.0, SMALL);
        self.row("and read", 18.0, SMALL);
        for op in ops.iter().filter(|op| op.server.as_deref() == Some(server)) {
            let (colour, offset) = match (op.f.as_str(), &op.outcome) {
                ("write", history::Outcome::Ok(_)) => (GREEN, 0.0),
                ("write", history::Outcome::Info(_)) => (ORANGE, 0.0),
                ("read", history::Outcome::Ok(answer)) => {
                    (if answer.get(0) == Some(&Value::Bool(true)) { BLUE } else { "#8fd0a5" }, 10.0)
                }
                ("read", _) => (GREY, 10.0),
                _ => continue,
            };
            let (from, until) = (self.x(op.start), self.x(op.end.min(op.start + 2_500_000_000)));
            self.y += offset;
            _ = writeln!(
                self.body,
                "<rect x='{from:.1}' y='{:.1}' width='{:.1}' height='9' fill='{colour}'/>",
                self.y,
                (until - from).max(0.7)
            );
            self.y -= offset;
        }
        self.y += 21.0;
    }

    /// The goal states of a server, as the leading monitor had them.
    fn goals(&mut self, server: &str, evidence: &Evidence) {
        let mut changes: Vec<(u64, &str)> = Vec::new();
        for sample in evidence.samples.iter().filter(|s| s.role == "leader") {
            if let Some(goal) = sample.goals.iter().find(|g| g.name == server)
                && changes.last().is_none_or(|(_, last)| *last != goal.goal)
            {
                changes.push((sample.time, &goal.goal));
            }
        }
        if changes.is_empty() {
            self.y += 5.0;
            return;
        }
        self.row("goal state", 10.0, SMALL);
        let ends: Vec<u64> = changes.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]).collect();
        let mut free = 0.0;
        for ((at, goal), until) in changes.iter().zip(ends) {
            let (from, until) = (self.x(*at), self.x(until));
            let colour = match *goal {
                "primary" | "wait_primary" | "single" | "join_primary" | "apply_settings" => "#cdebd6",
                "secondary" => "#dbe9f6",
                _ => "#fbe3b0",
            };
            self.bar(from, until, 13.0, colour, goal);
            if from >= free && until - from > 5.8 * goal.len() as f64 {
                self.y += 10.0;
                self.text(from + 2.0, goal, "font-size='10'");
                self.y -= 10.0;
                free = from + 5.8 * goal.len() as f64;
            }
        }
        self.y += 22.0;
    }

    fn monitor(&mut self, monitor: &str, evidence: &Evidence) {
        self.name(monitor);
        self.row("role", 10.0, SMALL);
        let samples: Vec<_> = evidence.samples.iter().filter(|s| s.replica == monitor).collect();
        for pair in samples.windows(2) {
            if let [a, b] = pair {
                let colour = if a.role == "leader" { DARK } else { BLUE };
                // Longer than a second without an answer is a hole.
                let until = b.time.min(a.time + 1_000_000_000);
                let (from, until) = (self.x(a.time), self.x(until));
                _ = writeln!(
                    self.body,
                    "<rect x='{from:.1}' y='{:.1}' width='{:.2}' height='12' fill='{colour}'/>",
                    self.y,
                    until - from + 0.3
                );
            }
        }
        let mut terms: BTreeMap<i64, u64> = BTreeMap::new();
        for sample in samples.iter().filter(|s| s.role == "leader") {
            terms.entry(sample.term).or_insert(sample.time);
        }
        self.y += 10.0;
        for (term, at) in terms {
            let x = self.x(at) + 2.0;
            self.text(x, &format!("term {term}"), "font-size='9' fill='white'");
        }
        self.y += 8.0;
    }

    fn axis(&mut self, top: f64) {
        self.y += 6.0;
        let step = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0]
            .into_iter()
            .find(|step| self.end / step <= 24.0)
            .unwrap_or(1800.0);
        let mut at = 0.0;
        while at <= self.end {
            let x = LEFT + WIDTH * at / self.end;
            _ = writeln!(
                self.body,
                "<line x1='{x:.1}' y1='{top:.1}' x2='{x:.1}' y2='{:.1}' stroke='#00000018'/>",
                self.y
            );
            self.y += 12.0;
            self.text(x, &format!("{at:.0} s"), "text-anchor='middle' fill='#555'");
            self.y -= 12.0;
            at += step;
        }
        self.y += 34.0;
    }

    fn verdicts(&mut self, outcome: &Outcome) {
        for report in &outcome.reports {
            let (colour, word) = match &report.verdict {
                Verdict::Valid => (GREEN, "valid"),
                Verdict::Unknown(_) => (ORANGE, "unknown"),
                Verdict::Invalid(_) => (RED, "INVALID"),
            };
            self.text(8.0, word, &format!("fill='{colour}' font-weight='bold'"));
            self.text(70.0, &report.checker, "");
            self.text(190.0, &report.facts.join(", "), "fill='#333'");
            self.y += 15.0;
            let told: &[String] = match &report.verdict {
                Verdict::Valid => &[],
                Verdict::Unknown(why) => std::slice::from_ref(why),
                Verdict::Invalid(all) => all.get(..all.len().min(4)).unwrap_or_default(),
            };
            for line in told {
                let short: String = line.lines().next().unwrap_or_default().chars().take(220).collect();
                self.text(190.0, &short, &format!("fill='{colour}'"));
                self.y += 15.0;
            }
        }
    }
}
