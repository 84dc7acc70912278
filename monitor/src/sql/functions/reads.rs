//! Reading functions.

use failover::outcome::Event;
use failover::queries::{self, NodeRow};

use super::*;
use crate::sql::backend::ReadView;
use crate::sql::function::{Handler, Returns};

const NODE: &[OutColumn] = &[
    out("node_id", PgType::Int8),
    out("node_name", PgType::Text),
    out("node_host", PgType::Text),
    out("node_port", PgType::Int4),
    out("node_lsn", PgType::PgLsn),
    out("node_is_primary", PgType::Bool),
];

const STATE: &[OutColumn] = &[
    out("formation_kind", PgType::Text),
    out("nodename", PgType::Text),
    out("nodehost", PgType::Text),
    out("nodeport", PgType::Int4),
    out("group_id", PgType::Int4),
    out("node_id", PgType::Int8),
    out("current_group_state", PgType::ReplicationState),
    out("assigned_group_state", PgType::ReplicationState),
    out("candidate_priority", PgType::Int4),
    out("replication_quorum", PgType::Bool),
    out("reported_tli", PgType::Int4),
    out("reported_lsn", PgType::PgLsn),
    out("health", PgType::Int4),
    out("nodecluster", PgType::Text),
    out("noderegion", PgType::Text),
];

const EVENT: &[OutColumn] = &[
    out("eventid", PgType::Int8),
    out("eventtime", PgType::Timestamptz),
    out("formationid", PgType::Text),
    out("nodeid", PgType::Int8),
    out("groupid", PgType::Int4),
    out("nodename", PgType::Text),
    out("nodehost", PgType::Text),
    out("nodeport", PgType::Int4),
    out("reportedstate", PgType::ReplicationState),
    out("goalstate", PgType::ReplicationState),
    out("reportedrepstate", PgType::Text),
    out("reportedtli", PgType::Int4),
    out("reportedlsn", PgType::PgLsn),
    out("candidatepriority", PgType::Int4),
    out("replicationquorum", PgType::Bool),
    out("description", PgType::Text),
];

const SETTING: &[OutColumn] = &[
    out("context", PgType::Text),
    out("group_id", PgType::Int4),
    out("node_id", PgType::Int8),
    out("nodename", PgType::Text),
    out("setting", PgType::Text),
    out("value", PgType::Text),
];

const FSM: &[OutColumn] = &[
    out("pos", PgType::Int4),
    out("section", PgType::Text),
    out("condition", PgType::Text),
    out("assignments", PgType::Text),
    out("summary", PgType::Text),
    out("differs", PgType::Text),
];

const FORMATION_ARG: Arg = opt("formation_id", PgType::Text, "default");

type Rows = Result<Vec<Vec<Datum>>, SqlError>;

fn node_row(n: NodeRow) -> Vec<Datum> {
    vec![
        Datum::Int(n.id),
        Datum::Text(n.name),
        Datum::Text(n.host),
        Datum::Int(n.port.into()),
        Datum::Lsn(n.lsn),
        Datum::Bool(n.is_primary),
    ]
}

fn get_nodes(v: &ReadView, a: &[Datum]) -> Rows {
    // Not strict: without a formation there is nothing to list.
    let Some(formation) = nullable(a, 0, text)? else { return Ok(Vec::new()) };
    let group = nullable(a, 1, int4)?;
    Ok(queries::get_nodes(&v.state, &v.observations, &formation, group).into_iter().map(node_row).collect())
}

fn get_other_nodes(v: &ReadView, a: &[Datum]) -> Rows {
    let goal = if a.len() > 1 { Some(state(a, 1)?) } else { None };
    let rows = queries::get_other_nodes(&v.state, &v.observations, int8(a, 0)?, goal)?;
    Ok(rows.into_iter().map(node_row).collect())
}

fn get_primary(v: &ReadView, a: &[Datum]) -> Rows {
    let n = queries::get_primary(&v.state, &v.observations, &text(a, 0)?, int4(a, 1)?)?;
    let mut row = node_row(n);
    row.truncate(4);
    Ok(vec![row])
}

fn most_advanced(v: &ReadView, a: &[Datum]) -> Rows {
    let caller = if a.len() > 2 { Some(int8(a, 2)?).filter(|id| *id != 0) } else { None };
    let row = queries::get_most_advanced_standby(&v.state, &v.observations, &text(a, 0)?, int4(a, 1)?, caller);
    Ok(row.into_iter().map(node_row).collect())
}

fn current_state(v: &ReadView, a: &[Datum]) -> Rows {
    let formation = text(a, 0)?;
    let group = if a.len() > 1 { Some(int4(a, 1)?) } else { None };
    let Some(kind) = v.state.formations.get(&formation).map(|f| f.kind.clone()) else { return Ok(Vec::new()) };
    let mut nodes = queries::nodes(&v.state, &v.observations);
    nodes.retain(|n| n.formation == formation && group.is_none_or(|g| n.group == g));
    nodes.sort_by_key(|n| (n.group, n.id));
    let row = |n: failover::Node| {
        vec![
            Datum::Text(kind.clone()),
            Datum::Text(n.name),
            Datum::Text(n.host),
            Datum::Int(n.port.into()),
            Datum::Int(n.group.into()),
            Datum::Int(n.id),
            Datum::State(n.reported),
            Datum::State(n.goal),
            Datum::Int(n.candidate_priority.into()),
            Datum::Bool(n.replication_quorum),
            Datum::Int(n.timeline.into()),
            Datum::Lsn(n.lsn),
            Datum::Int(n.health.as_i32().into()),
            Datum::Text(n.cluster),
            Datum::Text(n.region),
        ]
    };
    Ok(nodes.into_iter().map(row).collect())
}

fn event_row(e: &Event) -> Vec<Datum> {
    let (id, e) = (e.id, &e.event);
    vec![
        Datum::Int(id),
        Datum::Time(e.time),
        Datum::Text(e.formation.clone()),
        Datum::Int(e.node),
        Datum::Int(e.group.into()),
        Datum::Text(e.name.clone()),
        Datum::Text(e.host.clone()),
        Datum::Int(e.port.into()),
        Datum::State(e.reported),
        Datum::State(e.goal),
        Datum::Text(e.sync_state.name().to_string()),
        Datum::Int(e.timeline.into()),
        Datum::Lsn(e.lsn),
        Datum::Int(e.candidate_priority.into()),
        Datum::Bool(e.replication_quorum),
        Datum::Text(e.description.clone()),
    ]
}

/// The newest `count` events that match, oldest first.
fn last_events(v: &ReadView, formation: Option<&str>, group: Option<i32>, count: i32) -> Rows {
    let count = usize::try_from(count).map_err(|_| SqlError::new("2201W", "LIMIT must not be negative"))?;
    let matches = |e: &&Event| {
        formation.is_none_or(|f| e.event.formation == f) && group.is_none_or(|g| e.event.group == g)
    };
    let mut rows: Vec<&Event> = v.state.events.iter().rev().map(|e| &**e).filter(matches).take(count).collect();
    rows.sort_by_key(|e| (e.event.time, e.id));
    Ok(rows.into_iter().map(event_row).collect())
}

fn formation_settings(v: &ReadView, a: &[Datum]) -> Rows {
    let rows = queries::formation_settings(&v.state, &v.observations, &text(a, 0)?);
    let int = |i: Option<i64>| i.map_or(Datum::Null, Datum::Int);
    Ok(rows
        .into_iter()
        .map(|r| {
            vec![
                Datum::Text(r.context.to_string()),
                int(r.group.map(i64::from)),
                int(r.node),
                Datum::Text(r.nodename),
                Datum::Text(r.setting.to_string()),
                Datum::Text(r.value),
            ]
        })
        .collect())
}

fn entry(
    name: &'static str,
    args: &'static [Arg],
    returns: Returns,
    doc: &'static str,
    read: fn(&ReadView, &[Datum]) -> Rows,
) -> Function {
    Function { schema: SCHEMA, name, args, returns, strict: name != "get_nodes", doc, handler: Handler::Read(read) }
}

pub(super) fn entries() -> Vec<Function> {
    let text_type = || Returns::Scalar(PgType::Text);
    vec![
        entry(
            "get_nodes",
            const { &[FORMATION_ARG, opt("group_id", PgType::Int4, "NULL")] },
            Returns::SetOf(NODE),
            "The nodes of a formation or group, those being dropped included.",
            get_nodes,
        ),
        entry(
            "get_other_nodes",
            const { &[arg("nodeid", PgType::Int8)] },
            Returns::SetOf(NODE),
            "The other nodes of a node's group.",
            get_other_nodes,
        ),
        entry(
            "get_other_nodes",
            const { &[arg("nodeid", PgType::Int8), arg("current_state", PgType::ReplicationState)] },
            Returns::SetOf(NODE),
            "The other nodes of a node's group that are assigned the given state.",
            get_other_nodes,
        ),
        entry(
            "get_primary",
            const { &[FORMATION_ARG, opt("group_id", PgType::Int4, "0")] },
            Returns::Record(const { &[
                out("primary_node_id", PgType::Int8),
                out("primary_name", PgType::Text),
                out("primary_host", PgType::Text),
                out("primary_port", PgType::Int4),
            ] }),
            "The writable node of a group.",
            get_primary,
        ),
        entry(
            "get_coordinator",
            const { &[FORMATION_ARG] },
            Returns::SetOf(const { &[out("node_host", PgType::Text), out("node_port", PgType::Int4)] }),
            "The writable node of group 0.",
            |v, a| {
                let rows = queries::get_coordinator(&v.state, &text(a, 0)?);
                Ok(rows.into_iter().map(|(host, port)| vec![Datum::Text(host), Datum::Int(port.into())]).collect())
            },
        ),
        entry(
            "get_most_advanced_standby",
            const { &[opt("formationid", PgType::Text, "default"), opt("groupid", PgType::Int4, "0")] },
            Returns::SetOf(NODE),
            "Of the nodes that report their position for an election, the one that is furthest.",
            most_advanced,
        ),
        entry(
            "get_most_advanced_standby",
            const { &[arg("formationid", PgType::Text), arg("groupid", PgType::Int4), arg("caller_nodeid", PgType::Int8)] },
            Returns::SetOf(NODE),
            "As above, the calling node excepted (2.3).",
            most_advanced,
        ),
        entry(
            "synchronous_standby_names",
            const { &[FORMATION_ARG, opt("group_id", PgType::Int4, "0")] },
            text_type(),
            "The value of synchronous_standby_names for a group's primary.",
            |v, a| {
                let names = queries::synchronous_standby_names(&v.state, &text(a, 0)?, int4(a, 1)?)?;
                Ok(vec![vec![Datum::Text(names)]])
            },
        ),
        entry(
            "current_state",
            const { &[FORMATION_ARG] },
            Returns::SetOf(STATE),
            "The state of every node of a formation. `*` has `noderegion` for sessions of release 2.3 only.",
            current_state,
        ),
        entry(
            "current_state",
            const { &[arg("formation_id", PgType::Text), arg("group_id", PgType::Int4)] },
            Returns::SetOf(STATE),
            "The state of every node of a group. `*` has `noderegion` for sessions of release 2.3 only.",
            current_state,
        ),
        entry(
            "last_events",
            const { &[opt("count", PgType::Int4, "10")] },
            Returns::SetOf(EVENT),
            "The newest events, oldest first.",
            |v, a| last_events(v, None, None, int4(a, 0)?),
        ),
        entry(
            "last_events",
            const { &[FORMATION_ARG, opt("count", PgType::Int4, "10")] },
            Returns::SetOf(EVENT),
            "The newest events of a formation, oldest first.",
            |v, a| last_events(v, Some(&text(a, 0)?), None, int4(a, 1)?),
        ),
        entry(
            "last_events",
            const { &[arg("formation_id", PgType::Text), arg("group_id", PgType::Int4), opt("count", PgType::Int4, "10")] },
            Returns::SetOf(EVENT),
            "The newest events of a group, oldest first.",
            |v, a| last_events(v, Some(&text(a, 0)?), Some(int4(a, 1)?), int4(a, 2)?),
        ),
        entry(
            "formation_uri",
            const { &[
                FORMATION_ARG,
                opt("cluster_name", PgType::Text, "default"),
                opt("sslmode", PgType::Text, "prefer"),
                opt("sslrootcert", PgType::Text, ""),
                opt("sslcrl", PgType::Text, ""),
            ] },
            text_type(),
            "A connection URI that names every node of a formation, the primary first.",
            |v, a| {
                let uri = queries::formation_uri(
                    &v.state,
                    &text(a, 0)?,
                    &text(a, 1)?,
                    &text(a, 2)?,
                    &text(a, 3)?,
                    &text(a, 4)?,
                );
                Ok(vec![vec![uri.map_or(Datum::Null, Datum::Text)]])
            },
        ),
        entry(
            "formation_settings",
            const { &[FORMATION_ARG] },
            Returns::SetOf(SETTING),
            "The replication settings of a formation, its primaries and nodes.",
            formation_settings,
        ),
        entry(
            "dump_fsm",
            const { &[] },
            Returns::SetOf(FSM),
            "The failover rules, by their permanent numbers.",
            |_, _| {
                let text = |t: &str| Datum::Text(t.to_string());
                let row = |r: failover::render::FsmRow| {
                    vec![
                        Datum::Int(r.pos.into()),
                        text(r.section),
                        Datum::Text(r.condition),
                        Datum::Text(r.assignments),
                        text(r.summary),
                        text(r.differs),
                    ]
                };
                Ok(failover::render::fsm_rows().into_iter().map(row).collect())
            },
        ),
    ]
}
