//! The drawing. It depends on the picture, the position and the size of the screen, and on nothing else.

use monitor_client::{NodeRow, ReplicaRow};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::columns::{Column, fit};
use super::picture::{Picture, down};
use crate::verbs::show::state;

/// A screen lower than this has the monitors in one line.
const LOW: u16 = 22;

/// Where in the events the user has scrolled to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Events below the last line.
    below: usize,
    /// Characters left of the first column.
    shift: usize,
    /// As far as `below` may go; known once drawn.
    most: usize,
}

impl Position {
    pub fn up(&mut self, lines: usize) {
        self.below = (self.below + lines).min(self.most);
    }

    pub fn down(&mut self, lines: usize) {
        self.below = self.below.saturating_sub(lines);
    }

    pub fn left(&mut self) {
        self.shift = self.shift.saturating_sub(8);
    }

    pub fn right(&mut self) {
        self.shift = (self.shift + 8).min(400);
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn alarm() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

pub fn render(frame: &mut Frame, picture: &Picture, position: &mut Position) {
    let area = frame.area();
    let width = usize::from(area.width);
    let mut top = vec![headline(picture, width), news(picture, width)];
    top.extend(monitors(picture, width, area.height < LOW));
    top.extend(nodes(picture, width, area.height));
    let height = u16::try_from(top.len()).unwrap_or(u16::MAX).min(area.height.saturating_sub(1));
    let [above, below, foot] =
        Layout::vertical([Constraint::Length(height), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(top), above);
    frame.render_widget(Paragraph::new(events(picture, below, position)), below);
    frame.render_widget(Paragraph::new(keys(width)), foot);
}

/// Left and right on one line; the left gives way.
fn ends(left: &str, right: &str, width: usize) -> String {
    let room = width.saturating_sub(right.chars().count() + 1);
    let left: String = left.chars().take(room).collect();
    let gap = width.saturating_sub(left.chars().count() + right.chars().count());
    format!("{left}{}{right}", " ".repeat(gap))
}

fn headline(picture: &Picture, width: usize) -> Line<'static> {
    let group = picture.group.map_or_else(String::new, |group| format!(", group {group}"));
    let number = picture.number_sync_standbys.map_or_else(String::new, |n| format!("   Sync standbys: {n}"));
    let left = format!("Formation: {}{group}{number}", picture.formation);
    let from = match (&picture.from, width >= 90) {
        (Some(from), true) => format!("from {from}  "),
        _ => String::new(),
    };
    let style = Style::new().add_modifier(Modifier::REVERSED);
    Line::styled(ends(&left, &format!("{from}{}", picture.time), width), style)
}

/// What has to be seen first: nobody answers, or a failover is under way.
fn news(picture: &Picture, width: usize) -> Line<'static> {
    let (text, style) = match (&picture.problem, picture.failover()) {
        (Some(problem), _) => (format!("NOT OF NOW: {problem}"), alarm()),
        (None, Some(moving)) => (format!("FAILOVER: {moving}"), alarm()),
        (None, None) => match down(&picture.nodes) {
            Some(down) => (format!("DOWN: {down}"), alarm()),
            None => (String::new(), Style::new()),
        },
    };
    let fits = text.chars().count() <= width;
    let shown: String = match fits {
        true => text,
        false => text.chars().take(width.saturating_sub(1)).chain(['~']).collect(),
    };
    Line::styled(shown, style)
}

fn away(replica: &ReplicaRow) -> bool {
    !matches!(replica.role.as_str(), "leader" | "follower")
}

fn monitors(picture: &Picture, width: usize, low: bool) -> Vec<Line<'static>> {
    let Some(monitors) = &picture.monitors else { return Vec::new() };
    let number = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
    if low {
        let mut spans = vec![Span::styled("Monitors: ", bold())];
        for (at, replica) in monitors.iter().enumerate() {
            let more = match replica.role.as_str() {
                "leader" => format!(" term {}", number(replica.term)),
                "follower" if replica.lag.is_some_and(|lag| lag > 0) => format!(" lag {}", number(replica.lag)),
                _ => String::new(),
            };
            let comma = if at + 1 < monitors.len() { ", " } else { "" };
            let style = if away(replica) { alarm() } else { Style::new() };
            spans.push(Span::styled(format!("{} {}{more}{comma}", replica.name, replica.role), style));
        }
        return vec![Line::from(spans)];
    }
    let each = |cell: &dyn Fn(&ReplicaRow) -> String| monitors.iter().map(cell).collect::<Vec<_>>();
    let columns = vec![
        Column::left("Monitor", 0, each(&|m| m.name.clone())),
        Column::left("Role", 0, each(&|m| m.role.clone())),
        Column::right("Term", 2, each(&|m| number(m.term))),
        Column::right("Lag", 1, each(&|m| number(m.lag))),
        Column::right("Applied", 4, each(&|m| number(m.applied_index))),
        Column::left("Host:Port", 3, each(&|m| format!("{}:{}", m.host, m.port))),
        Column::left("Release", 5, each(&|m| m.version.clone().unwrap_or_default())),
    ];
    let (header, rows) = fit(columns, width);
    let mut lines = vec![Line::styled(header, bold())];
    lines.extend(rows.into_iter().zip(monitors).map(|(row, replica)| {
        Line::styled(row, if away(replica) { alarm() } else { Style::new() })
    }));
    lines.push(Line::default());
    lines
}

fn seconds(lag: Option<f64>) -> String {
    lag.map_or_else(String::new, |lag| format!("{:.0}s", lag.max(0.0)))
}

fn nodes(picture: &Picture, width: usize, height: u16) -> Vec<Line<'static>> {
    let nodes = &picture.nodes;
    let each = |cell: &dyn Fn(&NodeRow) -> String| nodes.iter().map(cell).collect::<Vec<_>>();
    // pg_autoctl gives up its columns in this order, too.
    let columns = vec![
        Column::left("Name", 0, each(&|n| n.name.clone())),
        Column::right("Node", 0, each(&|n| state::number(nodes, n))),
        Column::left("Quorum", 4, each(&|n| if n.replication_quorum { "yes" } else { "no" }.to_string())),
        Column::right("Priority", 5, each(&|n| n.candidate_priority.to_string())),
        Column::left("Host:Port", 6, each(&|n| format!("{}:{}", n.host, n.port))),
        Column::right("TLI: LSN", 3, each(&|n| state::position(n).trim_start().to_string())),
        Column::right("Report", 7, each(&|n| seconds(n.report_lag))),
        Column::right("Check", 8, each(&|n| seconds(n.health_lag))),
        Column::left("Connection", 2, each(&state::connection)),
        Column::left("Reported State", 0, each(&|n| n.reported.to_string())),
        Column::left("Assigned State", 1, each(&|n| n.goal.to_string())),
    ];
    let (header, rows) = fit(columns, width);
    let mut lines = vec![Line::styled(header, bold())];
    if nodes.is_empty() && picture.problem.is_none() {
        lines.push(Line::raw(match picture.number_sync_standbys {
            Some(_) => "no nodes".to_string(),
            None => format!("there is no formation \"{}\"", picture.formation),
        }));
    }
    lines.extend(rows.into_iter().zip(nodes).map(|(row, node)| Line::styled(row, style_of(node))));
    // Many nodes on a low screen: the first ones, and how many more there are.
    let room = usize::from(height.saturating_sub(7)).max(3);
    if lines.len() > room {
        let more = lines.len() - room;
        lines.truncate(room);
        lines.push(Line::raw(format!("... and {more} more")));
    }
    lines.push(Line::default());
    lines
}

fn style_of(node: &NodeRow) -> Style {
    match (node.health, node.reported == node.goal, node.reported.is_writable()) {
        (0, _, _) => alarm(),
        (_, false, _) => Style::new().fg(Color::Yellow),
        (_, true, true) => Style::new().fg(Color::Green),
        _ => Style::new(),
    }
}

fn events(picture: &Picture, area: Rect, position: &mut Position) -> Vec<Line<'static>> {
    let room = usize::from(area.height).saturating_sub(1);
    if room == 0 {
        return Vec::new();
    }
    position.most = picture.events.len().saturating_sub(room);
    position.below = position.below.min(position.most);
    let end = picture.events.len() - position.below;
    let shown = &picture.events[end.saturating_sub(room)..end];
    let each = |cell: &dyn Fn(&monitor_client::EventDetail) -> String| shown.iter().map(cell).collect::<Vec<_>>();
    let wide = area.width >= 100;
    let time = |event: &monitor_client::EventDetail| match wide {
        true => event.time.clone(),
        false => event.time.split_whitespace().nth(1).unwrap_or_default().to_string(),
    };
    let columns = vec![
        Column::left("Event", 0, each(&time)),
        Column::left("Node", 0, each(&|e| e.name.clone())),
        Column::left("Current", 0, each(&|e| e.reported.clone())),
        Column::left("Assigned", 0, each(&|e| e.goal.clone())),
        Column::right("Rule", 1, each(&|e| e.rule.map(|rule| rule.to_string()).unwrap_or_default())),
        Column::left("What happened", 2, each(&|e| e.description.clone())),
    ];
    // The text may be longer than the screen is wide: it is cut, and moved by the arrows.
    let (header, rows) = fit(columns, usize::MAX);
    let cut = |text: String| -> String { text.chars().skip(position.shift).take(usize::from(area.width)).collect() };
    let mut lines = vec![Line::styled(cut(header), bold())];
    lines.extend(rows.into_iter().map(|row| Line::raw(cut(row))));
    lines
}

fn keys(width: usize) -> Line<'static> {
    let text = match width {
        0..70 => "q quit  up/down events  left/right text  Home newest",
        _ => "q quit   up/down, PgUp/PgDn: events   left/right: text   Home: newest",
    };
    Line::styled(ends(text, "", width), Style::new().add_modifier(Modifier::REVERSED))
}

#[cfg(test)]
#[path = "screen_tests.rs"]
pub mod tests;
