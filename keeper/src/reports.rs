//! What the keeper tells the monitors, and what it takes from their answer.

use std::sync::Arc;
use std::time::Duration;

use failover::extended::HistoryLine;
use failover::{Extended, Lsn, NodeState, PostgresEnd, UpstreamView};
use monitor_client::{Answer, CallError, MonitorClient, NodeActiveReport, NodeAssignment, Report};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::boottime::BootTime;
use crate::error::Result;
use crate::fence::granted_until;
use crate::keeper::{Keeper, TICK, has_final_position, is_stopped_for_good, unix_now};
use crate::observe::Seen;
use crate::orders::{Orders, Seal};
use crate::postgres::facts::Facts;
use crate::postgres::fork;
use crate::source::Source;
use crate::transitions::{self, Wanted};

/// What the monitors understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Not tried yet, or not since contact was lost.
    Unknown,
    /// Reports with epochs, seals and confirmed configurations.
    Ours,
    /// Upstream's reports only.
    Stock,
}

/// What an answer says, of whichever dialect.
struct Heard {
    goal: NodeAssignment,
    ours: Option<Answer>,
}

/// A stock monitor has no such schema, or no such function in it.
fn is_unknown_to_stock(error: &CallError) -> bool {
    matches!(error.code(), Some("3F000" | "42883"))
}

impl Keeper {
    /// Reports, and goes on looking, renewing and judging while monitors that are cut off use up their
    /// time: neither the guardian nor the partition rule waits for them.
    async fn ask_monitors(&mut self, monitor: Arc<MonitorClient>, report: Report) -> std::result::Result<Heard, CallError> {
        let dialect = self.dialect;
        let call = async move {
            if dialect != Dialect::Stock {
                match monitor.report(&report).await {
                    Err(error) if is_unknown_to_stock(&error) => {}
                    answer => return answer.map(|answer| Heard { goal: answer.assignment.clone(), ours: Some(answer) }),
                }
            }
            monitor.node_active(&report.report).await.map(|goal| Heard { goal, ours: None })
        };
        tokio::pin!(call);
        loop {
            tokio::select! {
                answer = &mut call => return answer,
                _ = tokio::time::sleep(TICK) => {
                    self.look().await;
                    self.judge_partition();
                    self.renew_lease().await;
                }
            }
        }
    }

    /// Only a primary is given time to come back before the monitors hear that it is down.
    fn runs_officially(&self, seen: &Seen) -> bool {
        if seen.facts.is_some() {
            return true;
        }
        let timeouts = &self.worker.config.timeouts;
        match self.down {
            Some((since, attempts)) if self.state.current == NodeState::Primary => {
                attempts <= timeouts.postgresql_restart_failure_max_retries
                    && since.elapsed() < timeouts.postgresql_restart_failure
                    && self.state.assigned == NodeState::Primary
            }
            _ => false,
        }
    }

    fn build(&mut self, seen: &Seen) -> Report {
        let facts = seen.facts.as_ref();
        let state = self.state.current;
        // Somebody may start by hand what the keeper stopped.
        let is_final = has_final_position(state) && (seen.postmaster.is_none() || !is_stopped_for_good(state));
        let (seal, confirmed) = {
            let shared = self.worker.shared();
            (shared.seal.filter(|_| is_final), shared.confirmed)
        };
        let runs = self.runs_officially(seen);
        let position = match (seal, facts) {
            (Some(seal), _) => seal,
            (None, Some(facts)) => Seal { timeline: facts.timeline, lsn: facts.lsn },
            (None, None) => Seal { timeline: 0, lsn: Lsn::ZERO },
        };
        let primary = facts.filter(|facts| !facts.in_recovery);
        let report = NodeActiveReport {
            formation: self.worker.config.formation.clone(),
            id: self.state.node_id,
            group: self.state.group,
            state: self.state.current,
            pg_is_running: runs,
            timeline: position.timeline as i32,
            lsn: position.lsn,
            sync_state: primary.map_or(String::new(), |facts| facts.sync_state.clone()),
        };
        let extended = Extended {
            epoch: self.state.epoch as i64,
            sync_version: match primary {
                Some(_) if self.state.current.is_writable() => confirmed,
                _ => 0,
            },
            sealed: seal.is_some(),
            upstream: self.upstream_view(facts),
            postgres_end: self.postgres_end(seen, seal, runs),
            timeline_history: self.history(position.timeline),
            standbys_streaming: primary.map_or(-1, |_| self.replies.fresh(BootTime::now()) as i32),
            transactions: primary.and_then(|facts| facts.transactions),
        };
        Report { report, extended }
    }

    /// A standby that should stream tells how its upstream looks from here.
    fn upstream_view(&self, facts: Option<&Facts>) -> UpstreamView {
        match facts.filter(|facts| facts.in_recovery && self.must_stream()) {
            None => UpstreamView::Unknown,
            Some(facts) if facts.upstream.is_none() => UpstreamView::Gone,
            Some(facts) if facts.upstream_silent => UpstreamView::Silent,
            Some(_) => UpstreamView::Streaming,
        }
    }

    /// Of a PostgreSQL that is down for good, or until somebody decides.
    fn postgres_end(&self, seen: &Seen, seal: Option<Seal>, runs: bool) -> PostgresEnd {
        // Whether a stop was an orderly one shows when it is over and the end of WAL was looked for.
        let open = self.is_stopping() || (is_stopped_for_good(self.state.current) && !self.end_sought);
        if seen.postmaster.is_some() || runs || open {
            return PostgresEnd::None;
        }
        match transitions::wanted(self.state.current) {
            _ if seal.is_some() && is_stopped_for_good(self.state.current) => PostgresEnd::Clean,
            Wanted::Stopped | Wanted::Primary => PostgresEnd::Crashed,
            _ => PostgresEnd::None,
        }
    }

    /// The forks of the present timeline, told once per timeline.
    fn history(&mut self, timeline: u32) -> Vec<HistoryLine> {
        if timeline <= 1 || timeline == self.told_history {
            return Vec::new();
        }
        fork::forks(&self.worker.config.pgdata, timeline)
    }

    pub(crate) async fn report(&mut self, seen: &Seen) -> Result<()> {
        let source = self.worker.source.clone();
        let monitor = match &*source {
            Source::Monitors(client) => client.clone(),
            Source::Operator(operator) => return self.heed_operator(operator.goal()),
        };
        let report = self.build(seen);
        let told = report.extended.timeline_history.last().map(|line| line.timeline as u32);
        let sent = BootTime::now();
        let began = Instant::now();
        match self.ask_monitors(monitor, report).await {
            Ok(heard) => {
                if began.elapsed() > Duration::from_millis(100) {
                    debug!("the report took {} ms", began.elapsed().as_millis());
                }
                self.contacts.monitor = sent;
                if !self.in_contact && self.told_of_silence.take().is_some() {
                    info!("the monitors answer again");
                }
                self.in_contact = true;
                self.state.last_monitor_contact = unix_now();
                self.dialect = if heard.ours.is_some() { Dialect::Ours } else { Dialect::Stock };
                if let Some(told) = told {
                    self.told_history = told;
                }
                self.take_answer(heard, sent)
            }
            Err(error) => {
                self.in_contact = false;
                // Whoever answers next may be another one.
                self.dialect = Dialect::Unknown;
                self.on_silence(&error);
                Ok(())
            }
        }
    }

    /// A node without monitors reports to nobody. A goal that cannot be read leaves everything as it is.
    fn heed_operator(&mut self, goal: Result<Option<NodeState>>) -> Result<()> {
        self.grant = None;
        self.dialect = Dialect::Stock;
        self.worker.shared().orders = None;
        match goal {
            Ok(goal) => {
                self.contacts.monitor = BootTime::now();
                self.in_contact = true;
                self.told_of_silence = None;
                self.take_goal(goal.unwrap_or(self.state.assigned), self.state.epoch)
            }
            Err(error) => {
                self.in_contact = false;
                if self.told_of_silence.is_none_or(|at| at.elapsed() > Duration::from_secs(30)) {
                    self.told_of_silence = Some(Instant::now());
                    warn!("{error}");
                }
                Ok(())
            }
        }
    }

    fn on_silence(&mut self, error: &CallError) {
        let dropped = [self.state.current, self.state.assigned] == [NodeState::Dropped; 2];
        if dropped && error.code() == Some("42704") {
            // Dropped and forgotten: the report that said so has arrived.
            self.in_contact = true;
            return;
        }
        if self.told_of_silence.is_some_and(|at| at.elapsed() < Duration::from_secs(30)) {
            return;
        }
        self.told_of_silence = Some(Instant::now());
        match error.code() {
            Some("42704") => error!(
                "the monitors do not know node {} (any more): {error}. It was dropped by force, or the monitors were \
                 made anew; remove {} and create the node again to have it back",
                self.state.node_id,
                self.worker.paths.state.display()
            ),
            Some(_) => warn!("the monitors refuse the report: {error}"),
            None => warn!("no monitor answers: {error}"),
        }
    }

    fn take_answer(&mut self, heard: Heard, sent: BootTime) -> Result<()> {
        let Some(answer) = heard.ours else {
            self.grant = None;
            self.worker.shared().orders = None;
            return self.take_goal(heard.goal.state, self.state.epoch);
        };
        let epoch = answer.epoch.max(0) as u64;
        if epoch < self.state.epoch {
            warn!(
                "the monitors answered with epoch {epoch}, and {} was heard of already: this answer is not acted on",
                self.state.epoch
            );
            return Ok(());
        }
        if answer.want_history {
            self.told_history = 0;
        }
        self.take_goal(heard.goal.state, epoch)?;
        if self.state.epoch != epoch || self.state.assigned != heard.goal.state {
            // Not on disk, so not acted on.
            return Ok(());
        }
        if answer.lease_ms > 0 {
            let lease = Duration::from_millis(u64::from(answer.lease_ms));
            self.grant = Some(granted_until(sent, BootTime::now(), lease));
        } else if !self.state.current.is_writable() {
            self.grant = None;
        }
        self.worker.shared().orders = Some(Orders::of(&answer));
        Ok(())
    }

    /// Goal and epoch are on disk before anything is done about them, except that PostgreSQL is stopped
    /// whatever the disk says: a keeper that is started again starts nothing before the monitors have
    /// spoken.
    fn take_goal(&mut self, goal: NodeState, epoch: u64) -> Result<()> {
        self.unheeded = None;
        if goal == self.state.assigned && epoch == self.state.epoch {
            return Ok(());
        }
        let before = (self.state.assigned, self.state.epoch);
        (self.state.assigned, self.state.epoch) = (goal, epoch);
        if let Err(error) = self.state.save(&self.worker.paths.state) {
            if transitions::wanted(goal) != Wanted::Stopped {
                self.tell_unsaved(&error, &format!("the goal {goal} is not acted on before it is on disk"));
                (self.state.assigned, self.state.epoch) = before;
                self.unheeded = Some(goal);
                return Ok(());
            }
            self.tell_unsaved(&error, &format!("for the goal {goal} PostgreSQL is stopped all the same"));
        }
        if goal != before.0 {
            info!("told to be {goal} (now {}, epoch {epoch})", self.state.current);
            self.backoff.reset();
        }
        Ok(())
    }
}
