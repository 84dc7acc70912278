//! What the keeper sees, and what follows from it for the node's leave to be primary.

use std::os::fd::AsFd;

use failover::NodeState;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;
use tracing::{debug, error};

use crate::boottime::BootTime;
use crate::fence::{self, Grant, Replies};
use crate::keeper::{Keeper, unix_now};
use crate::observe::Seen;

impl Keeper {
    /// Looks at PostgreSQL and keeps what follows for contacts, leases and events.
    pub(crate) async fn look(&mut self) -> Option<Seen> {
        let seen = self.observer.look().await?;
        if seen.at > self.seen_at {
            self.seen_at = seen.at;
            self.note(&seen);
            #[cfg(feature = "mutants")]
            self.drop_sync(&seen).await;
        }
        Some(seen)
    }

    /// The mistake that PostgreSQL's users know from naive scripts: nobody is there, so nobody is waited for.
    #[cfg(feature = "mutants")]
    async fn drop_sync(&self, seen: &Seen) {
        let alone = seen.facts.as_ref().is_some_and(|f| !f.in_recovery && f.required_sync() > 0 && f.streaming_sync == 0);
        if alone && failover::mutant::is(failover::mutant::Mutant::SyncDropped) {
            let _ = self.worker.set_sync_names("").await;
        }
    }

    fn note(&mut self, seen: &Seen) {
        self.runs = seen.postmaster.is_some();
        let Some(facts) = &seen.facts else {
            self.replies = Replies::default();
            return;
        };
        self.required_sync = facts.required_sync();
        self.replies.note(&facts.replies, seen.at);
        if fence::enough_standbys(facts.required_sync(), facts.streaming, facts.streaming_sync) && !facts.in_recovery {
            self.contacts.standbys = seen.at;
            self.state.last_secondary_contact = unix_now();
        }
        self.state.system_identifier = facts.system_identifier;
        self.state.pg_version = facts.version;
        if self.walreceiver.as_ref().map(|(pid, _)| *pid) != facts.walreceiver {
            self.walreceiver = facts.walreceiver.and_then(|pid| Some((pid, watch(pid)?)));
        }
    }

    /// The monitors' grant with what the standbys prove; none in a group whose commits wait for nobody:
    /// nobody is promoted there while this primary may live.
    fn leave_to_answer(&self) -> Option<Grant> {
        let until = self.grant.filter(|_| self.required_sync > 0)?;
        Some(Grant { until, standbys: self.replies.quorum(self.required_sync) })
    }

    pub(crate) fn judge_partition(&mut self) {
        let partition = self.worker.config.timeouts.network_partition;
        let (now, grant) = (BootTime::now(), self.leave_to_answer());
        // An orderly stop that is over all but in name leaves nothing to fence.
        let stopped = self.is_stopping() && !self.runs;
        if stopped
            || self.state.assigned == NodeState::DemoteTimeout
            || !fence::must_self_fence(self.role(), self.contacts, grant, partition, now)
        {
            return;
        }
        self.in_contact = false;
        error!(
            "no answer of the monitors for {:.1} s, and too few standbys reply: this primary may have been replaced, so \
             that it stops itself now (demote_timeout). It comes back as soon as the monitors answer",
            self.contacts.monitor.age(now).as_secs_f32()
        );
        self.grant = None;
        self.state.assigned = NodeState::DemoteTimeout;
        self.save();
        self.backoff.reset();
        // At once: the report that is under way may take longer than is left.
        self.job = None;
        self.start_transition(self.state.current, NodeState::DemoteTimeout);
    }

    pub(crate) async fn renew_lease(&mut self) {
        let timeouts = &self.worker.config.timeouts;
        let (partition, guardian) = (timeouts.network_partition, timeouts.guardian);
        let grant = self.leave_to_answer();
        let until = fence::lease(self.role(), self.contacts, grant, partition, guardian, BootTime::now());
        if let Err(error) = self.worker.guardian.lease(until).await {
            // The look that follows says the same, and says it once.
            debug!("{error}");
        }
    }
}

/// Answers when the process has ended; `None` when it has already, or is another user's. The thread
/// that waits ends with the process.
fn watch(pid: i32) -> Option<oneshot::Receiver<()>> {
    let pid = rustix::process::Pid::from_raw(pid)?;
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    let (ended, end) = oneshot::channel();
    let wait = move || {
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        while matches!(poll(&mut fds, PollTimeout::NONE), Err(nix::errno::Errno::EINTR)) {}
        let _ = ended.send(());
    };
    std::thread::Builder::new().name("walreceiver".to_string()).stack_size(64 << 10).spawn(wait).ok()?;
    Some(end)
}
