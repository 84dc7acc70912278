//! Writes an outcome into the state. Runs no rule; the same on every replica and release.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::outcome::{Change, Scope};
use crate::state::EVENTS_KEPT;
use crate::{Event, Outcome, State};

/// What became of an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Written; the events with the ids that they got.
    Written(Vec<Arc<Event>>),
    /// Something that the decision had read has changed since: nothing was written.
    Conflict,
}

/// Applies `outcome` if every version that it was decided on still holds.
pub fn apply(state: &mut State, outcome: &Outcome) -> Applied {
    let holds = |(scope, version): &(Scope, u64)| state.versions.get(scope).copied().unwrap_or(0) == *version;
    if !outcome.decided_on.iter().all(holds) {
        return Applied::Conflict;
    }
    let mut written = BTreeSet::new();
    for change in &outcome.changes {
        write(state, change, &mut written);
    }
    for scope in written {
        let version = state.versions.entry(scope).or_insert(0);
        *version = version.saturating_add(1);
    }
    let mut events = Vec::with_capacity(outcome.events.len());
    for event in &outcome.events {
        let event = Arc::new(Event { id: state.next_event_id, event: event.clone() });
        state.next_event_id = state.next_event_id.saturating_add(1);
        state.events.push_back(event.clone());
        events.push(event);
    }
    while state.events.len() > EVENTS_KEPT {
        state.events.pop_front();
    }
    Applied::Written(events)
}

/// Makes one change and notes the scopes that it wrote.
fn write(state: &mut State, change: &Change, written: &mut BTreeSet<Scope>) {
    match change {
        Change::PutFormation(formation) => {
            written.insert(Scope::Formation(formation.id.clone()));
            state.formations.insert(formation.id.clone(), formation.clone());
        }
        Change::DropFormation(id) => {
            written.insert(Scope::Formation(id.clone()));
            state.formations.remove(id);
        }
        Change::PutNode(node) => {
            written.insert(Scope::Group(node.formation.clone(), node.group));
            state.nodes.insert(node.id, Arc::new(node.clone()));
            state.next_node_id = state.next_node_id.max(node.id.saturating_add(1));
        }
        Change::DropNode(id) => {
            written.insert(Scope::Registry);
            if let Some(node) = state.nodes.remove(id) {
                written.insert(Scope::Group(node.formation.clone(), node.group));
            }
            state.timeline_history.retain(|fork| fork.node != *id);
        }
        Change::NextNodeId(id) => {
            written.insert(Scope::Registry);
            state.next_node_id = state.next_node_id.max(*id);
        }
        Change::TouchRegistry => {
            written.insert(Scope::Registry);
        }
        Change::SetDatabaseSetting { name, value } => {
            written.insert(Scope::Settings);
            put(&mut state.database_settings, name, value.as_ref());
        }
        Change::SetSystemSetting { name, value } => {
            written.insert(Scope::Settings);
            put(&mut state.system_settings_pending, name, value.as_ref());
        }
        Change::ResetSystemSettings => {
            written.insert(Scope::Settings);
            state.system_settings_pending.clear();
        }
        Change::ReloadSettings => {
            written.insert(Scope::Settings);
            state.system_settings = state.system_settings_pending.clone();
        }
        Change::PutTimelineFork(fork) => {
            if let Some(node) = state.nodes.get(&fork.node) {
                written.insert(Scope::Group(node.formation.clone(), node.group));
            }
            if let Err(place) = state.timeline_history.binary_search(fork) {
                state.timeline_history.insert(place, fork.clone());
            }
        }
        Change::SetClusterVersion(version) => {
            written.insert(Scope::Settings);
            state.cluster_version = state.cluster_version.max(*version);
        }
        Change::PutGroup { formation, group, row } => {
            written.insert(Scope::Group(formation.clone(), *group));
            state.groups.entry(formation.clone()).or_default().insert(*group, *row);
        }
    }
}

fn put(settings: &mut BTreeMap<String, String>, name: &str, value: Option<&String>) {
    match value {
        Some(value) => {
            settings.insert(String::from(name), value.clone());
        }
        None => {
            settings.remove(name);
        }
    }
}
