//! Changes of membership, on the leader: adding, promoting, removing, taking back a rejoining store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::time::timeout;

use crate::config::Member;
use crate::core::Core;
use crate::error::MembershipError;
use crate::internal::Internal;
use crate::types::{Command, Node, TypeConfig};
use crate::wire::{Rejoin, RejoinProgress};

/// One step of a rejoin may take this long; the replica asks again.
const STEP: Duration = Duration::from_secs(5);
/// A learner this many entries behind or less becomes a voter.
const CLOSE_ENOUGH: u64 = 64;

type WriteError = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

fn translate(e: WriteError) -> MembershipError {
    match e {
        RaftError::APIError(ClientWriteError::ForwardToLeader(f) | ClientWriteError::LogEntryDiscarded(f)) => {
            MembershipError::NotLeader { leader: f.leader_id }
        }
        RaftError::APIError(e) => MembershipError::Refused(e.to_string()),
        RaftError::Fatal(e) => MembershipError::Refused(format!("this replica has stopped: {e}")),
    }
}

/// Adds a member that follows but does not vote.
pub async fn add_learner(core: &Core, m: &Member) -> Result<(), MembershipError> {
    let node = Node { name: m.name.clone(), host: m.host.clone(), port: m.port };
    core.raft.add_learner(m.id, node, false).await.map(drop).map_err(translate)
}

/// Makes a learner a voter. Its incarnation is recorded first: from its first vote on, an emptied
/// successor must be recognisable.
pub async fn promote(core: &Core, id: u64) -> Result<(), MembershipError> {
    if !core.applied.bookkeeping.borrow().incarnations.contains_key(&id) && id != core.cfg.id {
        let Some(facts) = core.identities.peer(id) else {
            return Err(MembershipError::Refused(format!("replica {id} has not been in contact yet")));
        };
        propose(core, Internal::Record { id, incarnation: facts.incarnation }).await?;
    }
    let change = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
    core.raft.change_membership(change, false).await.map(drop).map_err(translate)
}

/// Removes a member, voter or learner, and forgets its incarnation.
pub async fn remove(core: &Core, id: u64) -> Result<(), MembershipError> {
    drop_node(core, id).await?;
    propose(core, Internal::Forget { id }).await
}

async fn drop_node(core: &Core, id: u64) -> Result<(), MembershipError> {
    let membership = core.metrics().membership_config;
    let change = if membership.voter_ids().any(|v| v == id) {
        ChangeMembers::RemoveVoters(BTreeSet::from([id]))
    } else if membership.get_node(&id).is_some() {
        ChangeMembers::RemoveNodes(BTreeSet::from([id]))
    } else {
        return Ok(());
    };
    core.raft.change_membership(change, false).await.map(drop).map_err(translate)
}

/// Proposes one of our own commands.
pub async fn propose(core: &Core, command: Internal) -> Result<(), MembershipError> {
    core.raft.client_write(Command::Internal(command)).await.map(drop).map_err(translate)
}

/// Takes the next step towards having this store back as a voter. Idempotent; asked again until done.
///
/// The order is what makes it safe: the old store leaves every voter set by a committed change while
/// the new one is still refused, so nothing that the new one says can ever count as the old one's
/// word. Only then does the record change.
pub async fn rejoin_step(core: &Core, from: u64, r: Rejoin) -> RejoinProgress {
    if from != r.id || r.id == core.cfg.id {
        return RejoinProgress::Refused(format!("replica {from} asks for replica {}", r.id));
    }
    match timeout(STEP, step(core, &r)).await {
        Err(_) => RejoinProgress::Working("waiting for a majority".into()),
        Ok(Ok(p)) => p,
        Ok(Err(MembershipError::NotLeader { leader })) => RejoinProgress::NotLeader(leader),
        Ok(Err(e)) => RejoinProgress::Working(e.to_string()),
    }
}

async fn step(core: &Core, r: &Rejoin) -> Result<RejoinProgress, MembershipError> {
    core.barrier.pass().await.map_err(|e| MembershipError::NotLeader { leader: e.leader })?;
    let (membership, committed, matched, last) = {
        let m = core.metrics();
        let matched = m.replication.as_ref().and_then(|p| p.get(&r.id).copied().flatten()).map(|l| l.index());
        (m.membership_config.clone(), m.committed_membership_config.clone(), matched, m.last_log_index.unwrap_or(0))
    };
    if membership.get_joint_config().len() > 1 || membership.log_id() != committed.log_id() {
        return Ok(RejoinProgress::Working("another membership change is under way".into()));
    }
    let voter = membership.voter_ids().any(|v| v == r.id);
    let known = membership.get_node(&r.id).is_some();
    let recorded = core.applied.bookkeeping.borrow().incarnations.get(&r.id).copied();
    if recorded != Some(r.incarnation) {
        if voter && membership.voter_ids().count() == 1 {
            return Ok(RejoinProgress::Refused("it is the only voter".into()));
        }
        if voter || known {
            tracing::warn!("replica {} ({}) rejoins with an empty store: removing the old one", r.id, r.name);
            drop_node(core, r.id).await?;
            return Ok(RejoinProgress::Working("the old store was removed".into()));
        }
        propose(core, Internal::Replace { id: r.id, incarnation: r.incarnation }).await?;
        return Ok(RejoinProgress::Working("the new store is recorded".into()));
    }
    if voter {
        return Ok(RejoinProgress::Done);
    }
    if !known {
        let m = Member { id: r.id, name: r.name.clone(), host: r.host.clone(), port: r.port };
        add_learner(core, &m).await?;
        return Ok(RejoinProgress::Working("added as a learner".into()));
    }
    if matched.is_none_or(|m| m + CLOSE_ENOUGH < last) {
        return Ok(RejoinProgress::Working(format!("catching up: {} of {last}", matched.unwrap_or(0))));
    }
    promote(core, r.id).await?;
    Ok(RejoinProgress::Working("promoted".into()))
}

/// The full member set for `initialize`.
pub fn initial_members(members: &[Member]) -> BTreeMap<u64, Node> {
    members.iter().map(|m| (m.id, Node { name: m.name.clone(), host: m.host.clone(), port: m.port })).collect()
}
