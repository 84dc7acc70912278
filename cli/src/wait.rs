//! Waiting for what the monitors were asked to do, with the changes printed as they happen.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use failover::NodeState;
use jiff::Zoned;
use monitor_client::{Heard, MonitorClient, NodeRow, StateNotification, StateStream};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::info;

use crate::exit::{CliError, Status};
use crate::output;
use crate::progress::Line;
use crate::table::{Column, Layout};
use crate::verbs::show::state;

/// The tables are read at least this often: a notification may be missed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Silence this long is broken by a line about who is awaited.
pub const TELL_EVERY: Duration = Duration::from_secs(5);

/// What a group looks like to the one who waits.
pub enum Wanted {
    Done,
    /// Not yet; says what is missing.
    Missing(String),
}

/// Where the changes are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// As a table on stdout: they are the command's result.
    Table,
    /// As log lines: the result is something else.
    Log,
    /// As one document on stdout, once what was waited for is reached.
    Json,
}

impl Print {
    /// Of commands whose result the changes are.
    pub fn result(json: bool) -> Print {
        if json { Print::Json } else { Print::Table }
    }
}

/// What `--json` prints of a command that changes something.
pub fn outcome(formation: &str, group: Option<i32>, done: bool, changes: &[Value]) -> Value {
    json!({"formation": formation, "group": group, "done": done, "changes": changes})
}

/// Waits on one group. Made before the call, so that no change after it goes unseen.
pub struct Waiter<'a> {
    client: &'a MonitorClient,
    stream: StateStream,
    formation: String,
    group: Option<i32>,
    deadline: Instant,
    wait: Duration,
    printer: Printer,
    told: Instant,
}

impl<'a> Waiter<'a> {
    /// From now on the client's deadline is that of the wait.
    pub async fn listen(
        client: &'a MonitorClient,
        formation: &str,
        group: Option<i32>,
        seconds: u64,
        print: Print,
    ) -> Result<Waiter<'a>, CliError> {
        let stream = client.listen().await?;
        let nodes = client.current_state(formation, group).await?;
        let wait = Duration::from_secs(seconds);
        let deadline = Instant::now() + wait;
        client.set_deadline(Some(deadline));
        Ok(Waiter {
            client,
            stream,
            formation: formation.to_string(),
            group,
            deadline,
            wait,
            printer: Printer::new(print, &nodes),
            told: Instant::now(),
        })
    }

    /// Returns when `wanted` is satisfied by the tables, with exit code 6 at the deadline.
    pub async fn until(mut self, wanted: impl Fn(&[NodeRow]) -> Wanted) -> Result<(), CliError> {
        self.printer.header()?;
        let line = Line::seconds("waiting", self.wait.as_secs());
        let mut last = "nothing was heard of the nodes".to_string();
        loop {
            // A monitor that goes away under way is not the end: the other ones know.
            match self.client.current_state(&self.formation, self.group).await {
                Ok(nodes) => match wanted(&nodes) {
                    Wanted::Done => {
                        self.drain().await?;
                        return match self.printer.print {
                            Print::Json => output::json(&outcome(&self.formation, self.group, true, &self.printer.changes)),
                            Print::Table | Print::Log => Ok(()),
                        };
                    }
                    Wanted::Missing(text) => last = text,
                },
                // At the deadline, what was known last tells more than who did not answer.
                Err(error) if error.is_transient() && Instant::now() < self.deadline => last = error.to_string(),
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.into()),
            };
            line.at(self.wait.saturating_sub(self.deadline.saturating_duration_since(Instant::now())).as_secs());
            line.text(&last);
            if self.told.elapsed() >= TELL_EVERY && !std::io::stderr().is_terminal() {
                self.told = Instant::now();
                let left = self.deadline.saturating_duration_since(Instant::now());
                info!("waiting, {} s left of {}: {last}", left.as_secs(), self.wait.as_secs());
            }
            if !self.next_change().await? {
                return Err(CliError::new(
                    Status::Monitor,
                    format!("not done within {} s: {last}", self.wait.as_secs()),
                )
                .hint("`pgquorum explain` tells what it waits for"));
            }
        }
    }

    /// Sleeps until something changed in the group or it is time to look anyway; `false` at the deadline.
    async fn next_change(&mut self) -> Result<bool, CliError> {
        let look = (Instant::now() + LOOK_EVERY).min(self.deadline);
        loop {
            match self.stream.next(look).await {
                Ok(Some(Heard::State(change))) if self.concerns(&change) => {
                    self.told = Instant::now();
                    self.printer.change(&change)?;
                    // A goal that was just set is not reached yet; the report of it will wake us.
                    if change.reported == change.goal || change.goal == NodeState::Dropped {
                        return Ok(true);
                    }
                }
                Ok(Some(Heard::State(_))) => {}
                Ok(Some(Heard::Reconnected)) => return Ok(true),
                Ok(None) => return Ok(Instant::now() < self.deadline),
                Err(error) if error.is_transient() => return Ok(Instant::now() < self.deadline),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Prints the changes that have arrived already: the last one is the one that was waited for.
    async fn drain(&mut self) -> Result<(), CliError> {
        let soon = Instant::now() + Duration::from_millis(100);
        while let Ok(Some(heard)) = self.stream.next(soon).await {
            match heard {
                Heard::State(change) if self.concerns(&change) => self.printer.change(&change)?,
                Heard::State(_) => {}
                Heard::Reconnected => break,
            }
        }
        Ok(())
    }

    fn concerns(&self, change: &StateNotification) -> bool {
        change.formation == self.formation && self.group.is_none_or(|group| group == change.group)
    }
}

/// The changes, one by one.
struct Printer {
    print: Print,
    layout: Layout,
    /// Nodes are told with their group.
    groups: bool,
    /// What was printed last about each node: a report of it is no change.
    told: BTreeMap<i64, (NodeState, NodeState)>,
    /// For the document at the end.
    changes: Vec<Value>,
}

impl Printer {
    /// Columns as wide as what the group's nodes need.
    fn new(print: Print, nodes: &[NodeRow]) -> Printer {
        let columns = [
            Column::right("Time", 8),
            Column::right("Name", 0),
            Column::right("Node", 5),
            Column::right("Host:Port", 0).expendable(1),
            Column::right("Current State", 19),
            Column::right("Assigned State", 19),
        ];
        // The longest name of a state: which ones will come is not known.
        let longest = NodeState::PrepareMaintenance.name().to_string();
        let groups = nodes.iter().any(|node| node.group != nodes[0].group);
        let rows: Vec<Vec<String>> = nodes
            .iter()
            .map(|node| {
                let number = state::number(nodes, node);
                let address = format!("{}:{}", node.host, node.port);
                vec!["00:00:00".to_string(), node.name.clone(), number, address, longest.clone(), longest.clone()]
            })
            .collect();
        Printer { print, layout: Layout::new(&columns, &rows), groups, told: BTreeMap::new(), changes: Vec::new() }
    }

    fn header(&self) -> Result<(), CliError> {
        match self.print {
            Print::Table => output::line(&self.layout.header()),
            Print::Log | Print::Json => Ok(()),
        }
    }

    fn change(&mut self, change: &StateNotification) -> Result<(), CliError> {
        let states = (change.reported, change.goal);
        if self.told.insert(change.node, states) == Some(states) {
            return Ok(());
        }
        if self.print == Print::Json {
            self.changes.push(json!({
                "time": Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string(),
                "nodename": change.name,
                "node_id": change.node,
                "group_id": change.group,
                "nodehost": change.host,
                "nodeport": change.port,
                "current_group_state": change.reported.name(),
                "assigned_group_state": change.goal.name(),
            }));
            return Ok(());
        }
        if self.print == Print::Log {
            info!(
                "node {}/{} \"{}\" ({}:{}) is {}, assigned {}",
                change.group, change.node, change.name, change.host, change.port, change.reported, change.goal
            );
            return Ok(());
        }
        output::line(&self.layout.row(&[
            Zoned::now().strftime("%H:%M:%S").to_string(),
            change.name.clone(),
            match self.groups {
                true => format!("{}/{}", change.group, change.node),
                false => change.node.to_string(),
            },
            format!("{}:{}", change.host, change.port),
            change.reported.name().to_string(),
            change.goal.name().to_string(),
        ]))
    }
}

/// Some node is primary and is meant to be; `but` names one that it must be.
pub fn primary_settled(nodes: &[NodeRow], but: Option<&str>) -> Wanted {
    let settled = nodes.iter().any(|node| {
        node.reported == NodeState::Primary && node.goal == NodeState::Primary && but.is_none_or(|name| name == node.name)
    });
    if settled {
        return Wanted::Done;
    }
    let wish = match but {
        Some(name) => format!("\"{name}\" is not primary yet"),
        None => "no node is primary yet".to_string(),
    };
    Wanted::Missing(format!("{wish}; {}", describe(nodes)))
}

/// Every node with its state, for the message at the deadline.
pub fn describe(nodes: &[NodeRow]) -> String {
    if nodes.is_empty() {
        return "the group has no nodes".to_string();
    }
    let one = |node: &NodeRow| {
        match (node.health == 0, node.reported == node.goal) {
            (true, true) => format!("\"{}\" does not answer (it was {})", node.name, node.reported),
            (true, false) => {
                format!("\"{}\" does not answer (it was {}, and is to become {})", node.name, node.reported, node.goal)
            }
            (false, true) => format!("\"{}\" is {}", node.name, node.reported),
            (false, false) => format!("\"{}\" is {} and is to become {}", node.name, node.reported, node.goal),
        }
    };
    nodes.iter().map(one).collect::<Vec<_>>().join("; ")
}
