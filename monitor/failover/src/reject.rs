//! Refusals, in the words of stock pg_auto_failover and PostgreSQL.

use alloc::string::String;

use crate::outcome::Rejection;
use crate::state::Node;
use crate::values::{GroupId, NodeId};
use crate::view::node_text;

pub(crate) const INTERNAL_ERROR: &str = "XX000";
pub(crate) const UNDEFINED_OBJECT: &str = "42704";
pub(crate) const INVALID_OBJECT_DEFINITION: &str = "42P17";
pub(crate) const INVALID_PARAMETER: &str = "22023";
pub(crate) const NOT_IN_PREREQUISITE_STATE: &str = "55000";
pub(crate) const OBJECT_IN_USE: &str = "55006";
pub(crate) const UNIQUE_VIOLATION: &str = "23505";
pub(crate) const FOREIGN_KEY_VIOLATION: &str = "23503";
pub(crate) const EXCLUSION_VIOLATION: &str = "23P01";

/// A refusal with a message alone.
pub(crate) fn reject(sqlstate: &str, message: String) -> Rejection {
    Rejection { sqlstate: String::from(sqlstate), message, detail: None, hint: None }
}

impl Rejection {
    pub(crate) fn detail(mut self, detail: String) -> Rejection {
        self.detail = Some(detail);
        self
    }

    pub(crate) fn hint(mut self, hint: &str) -> Rejection {
        self.hint = Some(String::from(hint));
        self
    }
}

pub(crate) fn unknown_node(id: NodeId) -> Rejection {
    reject(UNDEFINED_OBJECT, alloc::format!("couldn't find node with nodeid {id}"))
}

pub(crate) fn not_registered(id: NodeId) -> Rejection {
    reject(UNDEFINED_OBJECT, alloc::format!("node {id} is not registered"))
}

pub(crate) fn unknown_name(name: &str, formation: &str) -> Rejection {
    let text = alloc::format!("node \"{name}\" is not registered in formation \"{formation}\"");
    reject(UNDEFINED_OBJECT, text)
}

pub(crate) fn no_primary(formation: &str, group: GroupId) -> Rejection {
    let text = alloc::format!("couldn't find the primary node in formation \"{formation}\", group {group}");
    reject(INTERNAL_ERROR, text)
}

/// As [`no_primary`], with upstream's capital letter of the settings calls.
pub(crate) fn no_primary_for_settings(formation: &str, group: GroupId) -> Rejection {
    let text = alloc::format!("Couldn't find the primary node in formation \"{formation}\", group {group}");
    reject(INTERNAL_ERROR, text)
}

/// The rules found no primary: the report is refused.
pub(crate) fn no_primary_for(formation: &str, group: GroupId, active: &Node) -> Rejection {
    let text =
        alloc::format!("ProceedGroupState couldn't find the primary node in formation \"{formation}\", group {group}");
    reject(INTERNAL_ERROR, text)
        .detail(alloc::format!("activeNode is {} in state {}", node_text(active), active.goal))
}

pub(crate) fn unknown_formation(formation: &str) -> Rejection {
    reject(INTERNAL_ERROR, alloc::format!("couldn't find formation \"{formation}\""))
}

/// PostgreSQL's text for a duplicate key; `columns` and `values` as `a, b`.
pub(crate) fn duplicate(constraint: &str, columns: &str, values: &str) -> Rejection {
    reject(UNIQUE_VIOLATION, alloc::format!("duplicate key value violates unique constraint \"{constraint}\""))
        .detail(alloc::format!("Key ({columns})=({values}) already exists."))
}

pub(crate) fn unknown_kind(kind: &str) -> Rejection {
    reject(INVALID_PARAMETER, alloc::format!("unknown formation kind \"{kind}\""))
}
