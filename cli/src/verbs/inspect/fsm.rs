//! The two state machines: keepers' transitions and the monitors' rules.

use std::collections::BTreeSet;
use std::time::Duration;

use failover::NodeState;
use failover::state::Generation;
use failover::{edges, render, rules};
use keeper::commands::{self, show};
use keeper::config::Config;
use keeper::source::nodes_json;
use keeper::transitions;
use serde_json::{Value, json};

use crate::args::inspect::{Fsm, FsmNodes, LocalArgs, Machine};
use crate::exit::{CliError, Status};
use crate::locate;
use crate::output;
use crate::table::{Column, render};
use crate::verbs::{setup, show::file};

pub fn run(verb: Fsm) -> Result<(), CliError> {
    match verb {
        Fsm::State(args) => {
            let pgdata = locate::node_dir(&args.data)?;
            let config = Config::load(&commands::paths(&pgdata)?.config)?;
            output::json(&json!({"postgres": setup::look(&config)?, "state": file::state_json(&pgdata)?}))
        }
        Fsm::List(args) => list(&args),
        Fsm::Gv(args) if args.json.json => output::json(&match args.table {
            Machine::Keeper => keeper_edges(),
            Machine::Rules => rules_edges(),
        }),
        Fsm::Gv(args) => output::line(&match args.table {
            Machine::Keeper => keeper_drawing(),
            Machine::Rules => rules_drawing(),
        }),
        Fsm::Rules(args) if args.json => {
            let rule = |rule: &failover::rule::Rule| {
                json!({
                    "rule": rule.pos, "section": rule.section.name(), "conditions": rule.conditions(),
                    "assigns": rule.assignments(), "summary": rule.summary,
                })
            };
            output::json(&rules::all().map(rule).collect())
        }
        Fsm::Rules(_) => output::line(render::rules_text().trim_end()),
        Fsm::Nodes(FsmNodes::Get(args)) => {
            output::json(&nodes_json(&commands::fsm::nodes(&locate::node_dir(&args.data)?)?))
        }
        Fsm::Nodes(FsmNodes::Set { file, local }) => {
            output::json(&nodes_json(&commands::fsm::set_nodes(&locate::node_dir(&local.data)?, &file)?))
        }
        Fsm::Init { data, node_id } => Ok(commands::fsm::init(&locate::node_dir(&data)?, node_id)?),
        Fsm::Assign { state, step } => {
            let goal = NodeState::from_name(&state).ok_or_else(|| unknown(&state))?;
            let wait = Duration::from_secs(step.wait);
            commands::block_on(commands::fsm::assign(&locate::node_dir(&step.local.data)?, goal, wait))?;
            run(Fsm::State(step.local))
        }
        Fsm::Step(step) => {
            let wait = Duration::from_secs(step.wait);
            commands::block_on(commands::fsm::step(&locate::node_dir(&step.local.data)?, wait))?;
            run(Fsm::State(step.local))
        }
    }
}

fn unknown(state: &str) -> CliError {
    let names: Vec<&str> = NodeState::ALL.iter().map(|state| state.name()).collect();
    CliError::new(Status::BadArguments, format!("there is no state \"{state}\"")).hint(format!("states: {}", names.join(", ")))
}

fn list(args: &LocalArgs) -> Result<(), CliError> {
    let state = show::state(&locate::node_dir(&args.data)?)?;
    let reachable: Vec<&str> = edges::edges_of(Generation::Pgquorum)
        .filter(|(from, _)| *from == state.current)
        .map(|(_, to)| to.name())
        .collect();
    match args.json.json {
        true => output::json(&json!({"current_role": state.current.name(), "reachable": reachable})),
        false => {
            let columns = [Column::right("Current", 20), Column::right("Reachable", 20), Column::text("Comment", 20)];
            let row = |to: &&str| {
                let steps = NodeState::from_name(to).and_then(|to| transitions::steps(state.current, to));
                let steps: Vec<String> = steps.unwrap_or_default().iter().map(|step| format!("{step:?}")).collect();
                vec![state.current.to_string(), to.to_string(), steps.join(", ")]
            };
            output::line(&render(&columns, &reachable.iter().map(row).collect::<Vec<_>>()))
        }
    }
}

const HEAD: &str = "digraph finite_state_machine\n{\n    size=\"12\"\n    ratio=\"fill\"\n    \
    node [shape = doubleoctagon, style=filled, color=\"bisque1\"]; init primary secondary;\n    \
    node [shape = octagon, style=filled, color=\"bisque3\"];\n";

/// What a keeper does on each edge.
fn keeper_drawing() -> String {
    let mut text = String::from(HEAD);
    for (from, to) in edges::edges_of(Generation::Pgquorum) {
        let steps = transitions::steps(from, to).unwrap_or_default();
        let label: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        let newer = if edges::has_edge(Generation::Stock20, from, to) { "" } else { ", style = dashed" };
        text.push_str(&format!("    {from} -> {to} [ label = \"{}\"{newer} ];\n", label.join(", ")));
    }
    text.push('}');
    text
}

fn keeper_edges() -> Value {
    let edge = |(from, to): (NodeState, NodeState)| {
        let steps = transitions::steps(from, to).unwrap_or_default();
        json!({
            "from": from.name(), "to": to.name(), "stock": edges::has_edge(Generation::Stock20, from, to),
            "steps": steps.iter().map(|step| format!("{step:?}")).collect::<Vec<_>>(),
        })
    };
    edges::edges_of(Generation::Pgquorum).map(edge).collect()
}

fn rules_edges() -> Value {
    rules_drawn().into_iter().map(|(from, to, pos)| json!({"from": from.name(), "to": to.name(), "rule": pos})).collect()
}

fn rules_drawing() -> String {
    let mut text = String::from(HEAD);
    for (from, to, pos) in rules_drawn() {
        text.push_str(&format!("    {from} -> {to} [ label = \"{pos}\" ];\n"));
    }
    text.push('}');
    text
}

/// Which goal the rules give to a node in which state, by the rules' numbers.
fn rules_drawn() -> BTreeSet<(NodeState, NodeState, u16)> {
    use failover::condition::NodeTest;
    use failover::rule::Who;
    let mut drawn: BTreeSet<(NodeState, NodeState, u16)> = BTreeSet::new();
    for rule in rules::all() {
        for (who, goal) in rule.assign {
            let tests = match who {
                Who::Node => rule.node,
                Who::Primary => rule.primary,
                Who::Others | Who::UnhealthySecondaries | Who::Standbys | Who::Sealed => continue,
            };
            let states = tests.iter().find_map(|test| match test {
                NodeTest::Converged(set) | NodeTest::Reported(set) => Some(*set),
                _ => None,
            });
            for from in states.unwrap_or_default() {
                drawn.insert((*from, *goal, rule.pos));
            }
        }
    }
    drawn
}
