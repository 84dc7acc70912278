//! Nodes as a table.

use failover::NodeState;
use monitor_client::NodeRow;

use crate::table::{Column, render};

/// The columns of `show state`, with and without `--local`; given up in the order of `watch`.
pub const COLUMNS: [Column; 7] = [
    Column::right("Name", 0),
    Column::right("Node", 5),
    Column::right("Host:Port", 10).expendable(4),
    Column::right("TLI: LSN", 9).expendable(3),
    Column::right("Connection", 12).expendable(2),
    Column::right("Reported State", 19),
    Column::right("Assigned State", 19).expendable(1),
];

pub fn table(nodes: &[NodeRow]) -> String {
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            vec![
                node.name.clone(),
                number(nodes, node),
                format!("{}:{}", node.host, node.port),
                position(node),
                connection(node),
                node.reported.to_string(),
                node.goal.to_string(),
            ]
        })
        .collect();
    render(&COLUMNS, &rows)
}

/// Briefly, for nodes of one machine.
pub fn brief(nodes: &[NodeRow]) -> String {
    let columns = [
        Column::right("Name", 0),
        Column::right("Port", 5),
        Column::right("TLI: LSN", 9),
        Column::left("State"),
    ];
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            let state = match node.reported == node.goal {
                true => node.reported.to_string(),
                false => format!("{} -> {}", node.reported, node.goal),
            };
            vec![node.name.clone(), node.port.to_string(), position(node), state]
        })
        .collect();
    render(&columns, &rows)
}

/// The node's id, with its group where there are several.
pub fn number(nodes: &[NodeRow], node: &NodeRow) -> String {
    match nodes.iter().any(|other| other.group != node.group) {
        true => format!("{}/{}", node.group, node.id),
        false => node.id.to_string(),
    }
}

/// Timeline and position, as pg_autoctl prints them.
pub fn position(node: &NodeRow) -> String {
    format!("{:3}: {}", node.timeline, node.lsn)
}

/// What an application may do there, and ` !` (unreachable) or ` ?` (not probed yet) for the monitor's view.
pub fn connection(node: &NodeRow) -> String {
    use NodeState::*;
    let kind = match node.reported {
        Single | Primary | WaitPrimary | JoinPrimary | PrepareMaintenance | ApplySettings => "read-write",
        Init | Dropped | WaitStandby | Demoted | DemoteTimeout | Draining | Maintenance => "none",
        _ => "read-only",
    };
    match node.health {
        1 => kind.to_string(),
        0 => format!("{kind} !"),
        _ => format!("{kind} ?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failover::Lsn;

    fn node(id: i64, group: i32, reported: NodeState, health: i32) -> NodeRow {
        NodeRow {
            formation_kind: "pgsql".into(),
            name: format!("node{id}"),
            host: "127.0.0.1".into(),
            port: 15010,
            group,
            id,
            reported,
            goal: reported,
            candidate_priority: 50,
            replication_quorum: true,
            timeline: 1,
            lsn: Lsn(0x5000060),
            health,
            cluster: "default".into(),
            health_lag: None,
            report_lag: None,
        }
    }

    #[test]
    fn state_of_one_group() {
        let nodes = [node(1, 0, NodeState::Primary, 1), node(2, 0, NodeState::Secondary, 0)];
        assert_eq!(
            table(&nodes),
            " Name |  Node |       Host:Port |       TLI: LSN |   Connection |      Reported State |      Assigned State\n\
             ------+-------+-----------------+----------------+--------------+---------------------+--------------------\n\
             node1 |     1 | 127.0.0.1:15010 |   1: 0/5000060 |   read-write |             primary |             primary\n\
             node2 |     2 | 127.0.0.1:15010 |   1: 0/5000060 |  read-only ! |           secondary |           secondary\n"
        );
    }

    #[test]
    fn several_groups_show_theirs() {
        let nodes = [node(1, 0, NodeState::Single, -1), node(2, 1, NodeState::Draining, 1)];
        let text = table(&nodes);
        assert!(text.contains("   0/1 |") && text.contains("   1/2 |"), "{text}");
        assert!(text.contains(" read-write ? |") && text.contains("         none |"), "{text}");
        assert!(table(&[]).contains("Reported State"));
    }
}
