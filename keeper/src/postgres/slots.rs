//! Physical slots for the other nodes of the group, kept on every node, so that WAL for the siblings
//! survives a failover.

use std::time::Duration;

use failover::Lsn;
use tracing::{debug, info, warn};

use super::facts::STANDBY_PREFIX;
use super::sql::{Ask, literal};
use crate::error::Result;

const PATIENCE: Duration = Duration::from_secs(10);

/// Another node of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    pub id: i64,
    pub lsn: Lsn,
}

/// A slot of ours as the server shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub name: String,
    pub active: bool,
    pub restart_lsn: Lsn,
    pub has_xmin: bool,
}

/// What to do with a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Create(String),
    Drop(String),
    Advance(String, Lsn),
}

pub fn name_of(id: i64) -> String {
    format!("{STANDBY_PREFIX}{id}")
}

/// On a primary the standbys move their slots themselves. On a standby nobody does: we advance them to
/// what each sibling has reported, and replace one that pins xmin (it was used when this node was
/// primary; pg_replication_slot_advance leaves xmin where it is).
pub fn changes(slots: &[Slot], siblings: &[Sibling], primary: bool) -> Vec<Change> {
    let mut list = Vec::new();
    for slot in slots.iter().filter(|slot| !slot.active) {
        let wanted = siblings.iter().any(|sibling| name_of(sibling.id) == slot.name);
        if !wanted || (!primary && slot.has_xmin) {
            list.push(Change::Drop(slot.name.clone()));
        }
    }
    for sibling in siblings {
        let name = name_of(sibling.id);
        match slots.iter().find(|slot| slot.name == name) {
            None => list.push(Change::Create(name)),
            Some(slot) if primary || slot.active => {}
            Some(slot) if slot.has_xmin => list.push(Change::Create(name)),
            Some(slot) if sibling.lsn > slot.restart_lsn && slot.restart_lsn > Lsn::ZERO => {
                list.push(Change::Advance(name, sibling.lsn));
            }
            Some(_) => {}
        }
    }
    list
}

async fn ours(sql: &impl Ask) -> Result<Vec<Slot>> {
    let rows = sql
        .ask(
            "select slot_name, active, coalesce(restart_lsn, '0/0'), xmin is not null from pg_replication_slots \
             where slot_type = 'physical' and slot_name like 'pgautofailover\\_standby\\_%' order by 1",
            PATIENCE,
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let text = |at: usize| row.try_get(at).ok().flatten().unwrap_or("");
            Slot {
                name: text(0).to_string(),
                active: text(1) == "t",
                restart_lsn: text(2).parse().unwrap_or(Lsn::ZERO),
                has_xmin: text(3) == "t",
            }
        })
        .collect())
}

/// Brings the slots in line with the siblings. One slot that cannot be changed does not stop the others.
pub async fn maintain(sql: &impl Ask, siblings: &[Sibling], primary: bool) -> Result<()> {
    for change in changes(&ours(sql).await?, siblings, primary) {
        let done = match &change {
            Change::Create(name) => {
                sql.ask(&format!("select pg_create_physical_replication_slot({}, true)", literal(name)), PATIENCE).await
            }
            Change::Drop(name) => {
                sql.ask(&format!("select pg_drop_replication_slot({})", literal(name)), PATIENCE).await
            }
            Change::Advance(name, lsn) => {
                // Not past what this node has itself: it could not serve from there.
                let own = "case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end";
                let to = format!("least('{lsn}'::pg_lsn, {own})");
                sql.ask(&format!("select pg_replication_slot_advance({}, {to})", literal(name)), PATIENCE).await
            }
        };
        match (done, &change) {
            (Ok(_), Change::Create(name)) => info!("created the replication slot {name}"),
            (Ok(_), Change::Drop(name)) => info!("dropped the replication slot {name}"),
            (Ok(_), Change::Advance(..)) => {}
            (Err(error), Change::Advance(name, _)) => debug!("slot {name} not advanced: {error}"),
            (Err(error), _) => warn!("replication slot: {error}"),
        }
    }
    Ok(())
}

/// Drops every slot of ours that nobody uses: after a change from primary to standby they pin xmin.
pub async fn drop_all(sql: &impl Ask) -> Result<()> {
    for slot in ours(sql).await?.iter().filter(|slot| !slot.active) {
        sql.ask(&format!("select pg_drop_replication_slot({})", literal(&slot.name)), PATIENCE).await?;
        info!("dropped the replication slot {}", slot.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(id: i64, active: bool, lsn: u64, has_xmin: bool) -> Slot {
        Slot { name: name_of(id), active, restart_lsn: Lsn(lsn), has_xmin }
    }

    fn sibling(id: i64, lsn: u64) -> Sibling {
        Sibling { id, lsn: Lsn(lsn) }
    }

    #[test]
    fn a_primary_creates_and_drops() {
        let now = [slot(2, true, 10, true), slot(7, false, 10, false), slot(8, true, 1, false)];
        let list = changes(&now, &[sibling(2, 50), sibling(3, 5)], true);
        // 8 was dropped from the group and still streams: its slot goes once it has gone.
        assert_eq!(list, [Change::Drop(name_of(7)), Change::Create(name_of(3))]);
    }

    #[test]
    fn a_standby_advances_and_frees_xmin() {
        let now = [slot(2, false, 10, false), slot(3, false, 10, true), slot(4, false, 99, false)];
        let list = changes(&now, &[sibling(2, 50), sibling(3, 50), sibling(4, 50)], false);
        assert_eq!(
            list,
            [Change::Drop(name_of(3)), Change::Advance(name_of(2), Lsn(50)), Change::Create(name_of(3))]
        );
    }
}
