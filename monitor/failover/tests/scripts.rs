//! Runs the stories in `tests/scripts/*.script` and compares what happened with the transcripts
//! beside them. `UPDATE_GOLDEN=1` rewrites the transcripts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::path::Path;

use failover::state::Generation;
use failover::*;
use failover::command::Witness;
use failover::simulation::{Cluster, Done, registration};

struct Story {
    cluster: Cluster,
    out: String,
    session: Vec<(String, String)>,
    /// Node name and rule of every event since the last operator's line, for `expect`.
    last_rule: std::collections::BTreeMap<String, Option<u16>>,
    rejected: Option<String>,
}

impl Story {
    fn show(&mut self, result: &Result<Done, Rejection>) {
        self.rejected = None;
        match result {
            Ok(done) => {
                for notice in &done.notices {
                    writeln!(self.out, "    {}: {}", notice.severity, notice.message).unwrap();
                }
                self.events(done);
            }
            Err(rejection) => {
                self.rejected = Some(rejection.sqlstate.clone());
                writeln!(self.out, "    ERROR {}: {}", rejection.sqlstate, rejection.message).unwrap();
                for (word, text) in [("DETAIL", &rejection.detail), ("HINT", &rejection.hint)] {
                    if let Some(text) = text {
                        writeln!(self.out, "      {word}: {text}").unwrap();
                    }
                }
            }
        }
    }

    fn events(&mut self, done: &Done) {
        for message in &done.messages {
            writeln!(self.out, "    log: {message}").unwrap();
        }
        for Event { event, .. } in &done.events {
            let rule = event.rule_pos.map_or(String::from("   "), |pos| pos.to_string());
            writeln!(self.out, "    {rule} {}: {}/{}  {}", event.name, event.reported, event.goal, event.description)
                .unwrap();
            self.last_rule.insert(event.name.clone(), event.rule_pos);
        }
    }

    fn call(&mut self, command: Command) {
        let mut call = Call::from(command);
        call.session_settings = self.session.drain(..).collect();
        let result = self.cluster.call(call);
        self.show(&result);
    }

    fn settle(&mut self) {
        let mut cluster = self.cluster.clone();
        let mut seen = Vec::new();
        let mut errors = std::collections::BTreeSet::new();
        let rounds = cluster.settle(|_, id, result| match result {
            Ok(Some(done)) if !done.events.is_empty() => seen.push(Ok(done.clone())),
            Err(rejection) if errors.insert((id, rejection.message.clone())) => seen.push(Err(rejection.clone())),
            _ => {}
        });
        assert!(rounds < 60, "does not settle:\n{}", self.out);
        self.cluster = cluster;
        for result in seen {
            // Progress messages repeat on every report; the events tell the story.
            let result = result.map(|done| Done { messages: Vec::new(), ..done });
            self.show(&result);
        }
        self.state();
    }

    fn state(&mut self) {
        let line: Vec<String> = self
            .cluster
            .state
            .nodes
            .values()
            .map(|node| {
                let down = if self.cluster.keepers.get(&node.id).is_some_and(|keeper| keeper.up) { "" } else { " (silent)" };
                format!("{} {}/{}{down}", node.name, node.reported, node.goal)
            })
            .collect();
        writeln!(self.out, "    = {}", line.join(", ")).unwrap();
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let option = |name: &str| {
            words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).map(ToString::to_string)
        };
        let flag = |name: &str| words.contains(&name);
        let formation = option("formation").unwrap_or_else(|| "default".into());
        let node = |story: &Story| story.cluster.id(words.get(1).copied().unwrap_or_default());
        if !matches!(words[0], "expect" | "expect-error" | "source" | "names" | "configurations" | "state" | "uri") {
            self.last_rule.clear();
        }
        match words[0] {
            "register" => {
                let mut call = registration(words[1]);
                if let Some(port) = option("port") {
                    call.port = port.parse().unwrap();
                }
                if flag("unnamed") {
                    call.name = String::new();
                }
                call.formation = formation;
                call.candidate_priority = option("priority").map_or(50, |text| text.parse().unwrap());
                call.replication_quorum = !flag("async");
                call.cluster = option("cluster").unwrap_or_else(|| "default".into());
                call.kind = option("kind").unwrap_or_else(|| "standalone".into());
                call.dbname = option("dbname").unwrap_or_else(|| "postgres".into());
                call.desired_node_id = option("id").map_or(-1, |text| text.parse().unwrap());
                call.desired_group = option("group").map_or(-1, |text| text.parse().unwrap());
                call.system_identifier = option("sysid").map_or(0, |text| text.parse().unwrap());
                call.initial_state =
                    option("state").map_or(NodeState::Init, |text| NodeState::from_name(&text).unwrap());
                if flag("keeper-2.0") {
                    call.generation = Generation::Stock20;
                }
                if flag("keeper-pgquorum") {
                    call.generation = Generation::Pgquorum;
                }
                let result = self.cluster.register(call);
                self.show(&result);
                if let Ok(Done { reply: Reply::Registered { goal, name }, .. }) = result {
                    writeln!(self.out, "    -> node {} \"{name}\", group {}, {}", goal.node, goal.group, goal.goal).unwrap();
                }
            }
            "report" => {
                let id = node(self);
                let keeper = self.cluster.keepers.get_mut(&id).expect("a node");
                keeper.state = NodeState::from_name(words[2]).unwrap();
                keeper.running = !flag("stopped");
                if let Some(lsn) = option("lsn") {
                    keeper.lsn = lsn.parse::<Lsn>().unwrap().0;
                }
                if let Some(timeline) = option("tli") {
                    keeper.timeline = timeline.parse().unwrap();
                }
                let report = self.cluster.report_of(id).unwrap();
                let result = self.cluster.call(Command::NodeActive(report));
                self.show(&result);
                if let Ok(Done { reply: Reply::NodeActive(assigned), .. }) = result {
                    self.cluster.keepers.get_mut(&id).unwrap().goal = assigned.goal;
                    writeln!(self.out, "    -> {}", assigned.goal).unwrap();
                }
            }
            "lsn" => {
                let id = node(self);
                let keeper = self.cluster.keepers.get_mut(&id).expect("a node");
                keeper.lsn = words[2].parse::<Lsn>().unwrap().0;
                if let Some(timeline) = option("tli") {
                    keeper.timeline = timeline.parse().unwrap();
                }
            }
            "stopped" | "running" | "silent" | "back" => {
                let id = node(self);
                let keeper = self.cluster.keepers.get_mut(&id).expect("a node");
                match words[0] {
                    "stopped" => keeper.running = false,
                    "running" => keeper.running = true,
                    "silent" => keeper.up = false,
                    _ => keeper.up = true,
                }
            }
            "dies" => {
                let id = node(self);
                let keeper = self.cluster.keepers.get_mut(&id).expect("a node");
                (keeper.up, keeper.running) = (false, false);
                for what in [Witness::SessionLost, Witness::Refused] {
                    self.call(Command::Witness { id, what });
                }
            }
            "health" => {
                let health = if words[2] == "good" { Health::Good } else { Health::Bad };
                self.call(Command::HealthChecked { id: node(self), health });
            }
            "clock" => self.cluster.tick(words[1].trim_start_matches('+').trim_end_matches('s').parse().unwrap()),
            "leader" => self.cluster.new_leader(),
            "settle" => self.settle(),
            "state" => self.state(),
            "set" => self.session.push((format!("pgautofailover.{}", words[1]), words[2].into())),
            "failover" => {
                let group = option("group").map_or(0, |text| text.parse().unwrap());
                self.call(Command::PerformFailover { formation, group });
            }
            "promote" => self.call(Command::PerformPromotion { formation, name: words[1].into() }),
            "maintenance" => self.call(Command::StartMaintenance { id: node(self) }),
            "end-maintenance" => self.call(Command::StopMaintenance { id: node(self) }),
            "drop" => self.call(Command::RemoveNode { id: node(self), force: flag("force") }),
            "drop-address" => self.call(Command::RemoveNodeByAddress {
                host: words[1].into(),
                port: words[2].parse().unwrap(),
                force: false,
            }),
            "priority" => self.call(Command::SetNodeCandidatePriority {
                formation,
                name: words[1].into(),
                priority: words[2].parse().unwrap(),
            }),
            "region" => self.call(Command::SetNodeRegion {
                formation,
                name: words[1].into(),
                region: words.get(2).copied().unwrap_or_default().into(),
            }),
            "quorum" => self.call(Command::SetNodeReplicationQuorum {
                formation,
                name: words[1].into(),
                quorum: words[2] == "true",
            }),
            "number-sync" => {
                self.call(Command::SetNumberSyncStandbys { formation, number: words[1].parse().unwrap() });
            }
            "rename" => self.call(Command::UpdateNodeMetadata {
                id: Some(node(self)),
                name: option("name"),
                host: option("host"),
                port: option("port").map(|text| text.parse().unwrap()),
            }),
            "sysid" => self.call(Command::SetNodeSystemIdentifier {
                id: node(self),
                system_identifier: words[2].parse().unwrap(),
            }),
            "group-sysid" => self.call(Command::SetGroupSystemIdentifier {
                group: words[1].parse().unwrap(),
                system_identifier: words[2].parse().unwrap(),
            }),
            "create-formation" => self.call(Command::CreateFormation {
                id: words[1].into(),
                kind: option("kind").unwrap_or_else(|| "pgsql".into()),
                dbname: option("dbname").unwrap_or_else(|| "postgres".into()),
                opt_secondary: true,
                number_sync_standbys: 0,
            }),
            "drop-formation" => self.call(Command::DropFormation { id: words[1].into() }),
            "enable-secondary" => self.call(Command::SetSecondary { formation, enabled: true }),
            "disable-secondary" => self.call(Command::SetSecondary { formation, enabled: false }),
            "database-set" => self.call(Command::SetDatabaseSetting { name: words[1].into(), value: Some(words[2].into()) }),
            "history" => {
                let fork = state::TimelineFork {
                    node: node(self),
                    timeline: words[2].parse().unwrap(),
                    parent: words[3].parse().unwrap(),
                    switchpoint: words[4].parse().unwrap(),
                };
                let outcome = Outcome { changes: vec![outcome::Change::PutTimelineFork(fork)], ..Outcome::default() };
                apply(&mut self.cluster.state, &outcome);
            }
            "names" => {
                let names = queries::synchronous_standby_names(&self.cluster.state, &formation, 0);
                writeln!(self.out, "    '{}'", names.unwrap_or_else(|error| error.message)).unwrap();
            }
            "configurations" => {
                for row in queries::group_state(&self.cluster.state, &self.cluster.observations, &formation) {
                    writeln!(self.out, "    {}", row.configurations).unwrap();
                }
            }
            "uri" => {
                let cluster = option("cluster").unwrap_or_else(|| "default".into());
                let uri = queries::formation_uri(&self.cluster.state, &formation, &cluster, "prefer", "", "");
                writeln!(self.out, "    {}", uri.unwrap_or_else(|| "NULL".into())).unwrap();
            }
            "source" => {
                let row = queries::get_most_advanced_standby(
                    &self.cluster.state,
                    &self.cluster.observations,
                    &formation,
                    0,
                    None,
                );
                writeln!(self.out, "    {}", row.map_or("nobody".into(), |row| row.name)).unwrap();
            }
            "expect" => {
                let row = self.cluster.state.nodes.values().find(|row| row.name == words[1]);
                if words[2] == "gone" {
                    assert!(row.is_none(), "{line}\n{}", self.out);
                    return;
                }
                let row = row.unwrap_or_else(|| panic!("no node: {line}\n{}", self.out));
                assert_eq!(row.goal.name(), words[2], "{line}\n{}", self.out);
                if let Some(rule) = option("by") {
                    let last = self.last_rule.get(words[1]).copied().flatten();
                    assert_eq!(last, rule.parse().ok(), "{line}\n{}", self.out);
                }
            }
            "expect-error" => {
                assert_eq!(self.rejected.as_deref(), Some(words[1]), "{line}\n{}", self.out);
            }
            other => panic!("unknown word {other} in {line}"),
        }
    }
}

fn run(script: &str) -> String {
    let mut story = Story {
        cluster: Cluster::new(),
        out: String::new(),
        session: Vec::new(),
        last_rule: std::collections::BTreeMap::new(),
        rejected: None,
    };
    for line in script.lines() {
        let line = line.trim();
        writeln!(story.out, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            story.line(line);
        }
    }
    story.out
}

#[test]
fn stories() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "script"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut failed = Vec::new();
    for path in scripts {
        let script = std::fs::read_to_string(&path).unwrap();
        let Ok(transcript) = std::panic::catch_unwind(|| run(&script)) else {
            failed.push(path);
            continue;
        };
        let golden = path.with_extension("golden");
        if update {
            std::fs::write(&golden, &transcript).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(expected == transcript, "{} differs; it is now:\n{transcript}", golden.display());
    }
    assert!(failed.is_empty(), "{failed:?}");
}
