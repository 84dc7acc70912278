//! The keeper's life: look, report, obey.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use failover::{Lsn, NodeState};
use monitor_client::{CallError, ConnectOptions, MonitorClient, NodeActiveReport, NodeAssignment};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::boottime::BootTime;
use crate::config::Config;
use crate::error::{Exit, KeeperError, Result};
use crate::fence::{self, Contacts, Role};
use crate::guardian::client::{Event, Guardian};
use crate::guardian::protocol::Request;
use crate::job::{Backoff, Job, Kind};
use crate::observe::{Observer, Seen};
use crate::paths::Paths;
use crate::postgres::start;
use crate::signals::{Signals, Wish};
use crate::state_file::{InitStage, KeeperState};
use crate::steps::Worker;
use crate::transitions::{self, Step, Wanted};

/// Between two reports when nothing happens.
const TICK: Duration = Duration::from_millis(500);
/// Between two reports when things happen.
const SOONEST: Duration = Duration::from_millis(15);
/// One monitor's time to answer a report, and all of them together.
const ANSWER: Duration = Duration::from_millis(800);
const REPORT: Duration = Duration::from_millis(2500);
/// Between two looks at the group's other nodes when nobody announced a change.
const SIBLINGS: Duration = Duration::from_secs(5);
/// A standby may be without its upstream for this long before the keeper looks why.
const UNFED: Duration = Duration::from_secs(10);

/// When to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    Stopped,
    /// `create` without `--run`: the node is made.
    Created,
}

pub struct Keeper {
    worker: Worker,
    state: KeeperState,
    observer: Observer,
    events: UnboundedReceiver<Event>,
    contacts: Contacts,
    /// Did the monitors answer the last report?
    in_contact: bool,
    told_of_silence: Option<Instant>,
    job: Option<Job>,
    backoff: Backoff,
    /// Since when, and with how many attempts, PostgreSQL should run and does not.
    down: Option<(Instant, u32)>,
    unfed_since: Option<Instant>,
    siblings_at: Instant,
}

/// The client that all calls of a keeper go through.
pub fn monitor_client(config: &Config) -> Result<MonitorClient> {
    let target = config.target()?.ok_or_else(|| {
        KeeperError::config("[pg_autoctl] monitor is disabled: nodes without a monitor are not supported yet")
    })?;
    let options = ConnectOptions { attempt: ANSWER, ..ConnectOptions::default() };
    Ok(MonitorClient::new(target, options, REPORT).with_answer_patience(ANSWER).listening())
}

impl Keeper {
    /// Finds its state and the guardian with whatever runs under it; starts nothing.
    pub async fn open(paths: Paths) -> Result<Keeper> {
        let config = Arc::new(Config::load(&paths.config)?);
        let state = KeeperState::load(&paths.state)?.ok_or_else(|| {
            KeeperError::state(format!("{} does not exist: `pgquorum create postgres` makes it", paths.state.display()))
        })?;
        let (guardian, events) = Guardian::new(&paths.data_home, &config.pgdata);
        let status = guardian.status().await?;
        let now = BootTime::now();
        // A primary that runs on without a keeper spends its lease; a new keeper does not renew it by
        // merely being there.
        let since = match status.lease {
            Some(until) => BootTime(until.0.saturating_sub(config.timeouts.guardian.as_nanos() as u64)).min(now),
            None => now,
        };
        if let Some(exit) = status.last_exit.filter(|exit| exit.fenced) {
            warn!(
                "the guardian stopped PostgreSQL (process {}) {:.0} s ago, because no keeper gave a sign of life",
                exit.pid,
                exit.at.age(now).as_secs_f32()
            );
        }
        let worker = Worker {
            monitor: Arc::new(monitor_client(&config)?),
            node_id: state.node_id,
            group: state.group,
            config,
            paths: Arc::new(paths),
            guardian: Arc::new(guardian),
            siblings: Arc::new(Mutex::new(Vec::new())),
        };
        info!(
            "keeper of node {} \"{}\": state {}, told to be {}",
            state.node_id, worker.config.name, state.current, state.assigned
        );
        Ok(Keeper {
            worker,
            state,
            observer: Observer::default(),
            events,
            contacts: Contacts { monitor: since, standbys: since },
            in_contact: false,
            told_of_silence: None,
            job: None,
            backoff: Backoff::default(),
            down: None,
            unfed_since: None,
            siblings_at: Instant::now(),
        })
    }

    /// Runs until a signal, the node's removal, or the end of its creation.
    pub async fn run(mut self, until: Until, signals: &mut Signals) -> Result<()> {
        loop {
            let began = Instant::now();
            self.tick().await?;
            if self.state.current == NodeState::Dropped && self.state.assigned == NodeState::Dropped {
                return self.leave().await;
            }
            if until == Until::Created && self.is_created() {
                info!("node {} \"{}\" is created, in state {}", self.state.node_id, self.worker.config.name, self.state.current);
                return self.shut_down(Wish::Stop).await;
            }
            let now = Instant::now();
            let mut next = (began + TICK).max(now + SOONEST);
            if self.job.is_none() && self.state.current != self.state.assigned {
                next = next.min(self.backoff.until().max(now + SOONEST));
            }
            if let Some(wish) = self.wait(next, signals).await {
                match wish {
                    Wish::Reload => self.reload().await,
                    other => return self.shut_down(other).await,
                }
            }
        }
    }

    fn is_created(&self) -> bool {
        self.job.is_none()
            && self.state.current == self.state.assigned
            && !matches!(self.state.current, NodeState::Init | NodeState::WaitStandby)
            && matches!(InitStage::load(&self.worker.paths.init), Ok(None))
    }

    /// Sleeps until `next`, or something happens that must not wait.
    async fn wait(&mut self, next: Instant, signals: &mut Signals) -> Option<Wish> {
        let left = next.saturating_duration_since(Instant::now());
        let group = (self.worker.config.formation.clone(), self.worker.group);
        let monitor = self.worker.monitor.clone();
        let announced = async {
            loop {
                match monitor.heard(left).await {
                    Some(state) if state.formation == group.0 && state.group == group.1 => return true,
                    Some(_) => {}
                    None => return false,
                }
            }
        };
        let running = self.job.is_some();
        tokio::select! {
            wish = signals.next() => return Some(wish),
            _ = sleep_until(next) => {}
            heard = announced => if heard { self.siblings_at = Instant::now() },
            event = self.events.recv() => self.on_event(event),
            done = Job::finished(&mut self.job), if running => self.on_done(done),
        }
        None
    }

    fn on_event(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Exited(exit)) if exit.fenced => {
                error!("the guardian stopped PostgreSQL (process {}): its lease had ended", exit.pid);
            }
            Some(Event::Exited(exit)) => info!("PostgreSQL (process {}) has ended: {}", exit.pid, exit.how),
            Some(Event::Lost) => tracing::debug!("the connection to the guardian broke"),
            None => {}
        }
    }

    fn on_done(&mut self, done: (Kind, Result<()>)) {
        match done {
            (Kind::Transition(from, to), Ok(())) => {
                info!("reached {to} (from {from})");
                self.backoff.reset();
                self.state.current = to;
                self.siblings_at = Instant::now();
                self.unfed_since = None;
                self.save();
            }
            (Kind::Transition(from, to), Err(error)) => {
                self.backoff.failed();
                let again = self.backoff.until().saturating_duration_since(Instant::now());
                if self.backoff.worth_telling() {
                    warn!("{from} -> {to}: {error}; trying again in {:.1} s", again.as_secs_f32());
                }
            }
            (Kind::Upkeep(what), Ok(())) => {
                tracing::debug!("{what}: done");
                if what == "start" {
                    self.backoff.reset();
                }
            }
            (Kind::Upkeep(what), Err(error)) => {
                self.backoff.failed();
                if self.backoff.worth_telling() {
                    warn!("{what}: {error}");
                }
            }
        }
    }

    fn save(&self) {
        // The next change tries again; until then the old state on disk leads to the same actions.
        if let Err(error) = self.state.save(&self.worker.paths.state) {
            error!("{error}");
        }
    }

    async fn tick(&mut self) -> Result<()> {
        let seen = match self.observer.look(&self.worker.config, &self.worker.guardian).await {
            Ok(seen) => seen,
            Err(error) => {
                // Without a guardian nothing can be started; the next tick makes a new one.
                error!("{error}");
                return Ok(());
            }
        };
        let now = BootTime::now();
        self.note(&seen, now);
        self.track_down(&seen);
        self.renew_lease().await;
        self.report(&seen).await?;
        self.judge_partition();
        self.renew_lease().await;
        self.obey(&seen).await
    }

    fn note(&mut self, seen: &Seen, now: BootTime) {
        let Some(facts) = &seen.facts else { return };
        if fence::enough_standbys(facts.required_sync(), facts.streaming, facts.streaming_sync) && !facts.in_recovery {
            self.contacts.standbys = now;
            self.state.last_secondary_contact = unix_now();
        }
        self.state.system_identifier = facts.system_identifier;
        self.state.pg_version = facts.version;
    }

    /// Reports, and goes on looking, renewing and judging while monitors that are cut off use up their
    /// time: neither the guardian nor the partition rule waits for them.
    async fn ask_monitors(&mut self, report: NodeActiveReport) -> std::result::Result<NodeAssignment, CallError> {
        let monitor = self.worker.monitor.clone();
        let call = async move { monitor.node_active(&report).await };
        tokio::pin!(call);
        loop {
            tokio::select! {
                answer = &mut call => return answer,
                _ = tokio::time::sleep(TICK) => {
                    if let Ok(seen) = self.observer.look(&self.worker.config, &self.worker.guardian).await {
                        self.note(&seen, BootTime::now());
                    }
                    self.judge_partition();
                    self.renew_lease().await;
                }
            }
        }
    }

    /// Counts how long PostgreSQL has been down that should run.
    fn track_down(&mut self, seen: &Seen) {
        let should = matches!(transitions::wanted(self.state.current), Wanted::Primary | Wanted::Standby | Wanted::Running);
        if seen.facts.is_some() || !should {
            if let Some((since, attempts)) = self.down.take()
                && attempts > 0
                && should
            {
                info!("PostgreSQL is back after {:.1} s", since.elapsed().as_secs_f32());
            }
        } else if self.down.is_none() {
            self.down = Some((Instant::now(), 0));
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

    async fn report(&mut self, seen: &Seen) -> Result<()> {
        let facts = seen.facts.as_ref();
        let report = NodeActiveReport {
            formation: self.worker.config.formation.clone(),
            id: self.state.node_id,
            group: self.state.group,
            state: self.state.current,
            pg_is_running: self.runs_officially(seen),
            timeline: facts.map_or(0, |f| f.timeline as i32),
            lsn: facts.map_or(Lsn::ZERO, |f| f.lsn),
            sync_state: facts.filter(|f| !f.in_recovery).map_or(String::new(), |f| f.sync_state.clone()),
        };
        let sent = BootTime::now();
        match self.ask_monitors(report).await {
            Ok(assignment) => {
                self.contacts.monitor = sent;
                if !self.in_contact && self.told_of_silence.take().is_some() {
                    info!("the monitors answer again");
                }
                self.in_contact = true;
                self.state.last_monitor_contact = unix_now();
                self.take_assignment(&assignment)
            }
            Err(error) => {
                self.in_contact = false;
                self.on_silence(&error);
                Ok(())
            }
        }
    }

    fn on_silence(&mut self, error: &CallError) {
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

    /// The goal is on disk before anything is done about it.
    fn take_assignment(&mut self, assignment: &NodeAssignment) -> Result<()> {
        if assignment.state == self.state.assigned {
            return Ok(());
        }
        info!("told to be {} (now {})", assignment.state, self.state.current);
        let before = std::mem::replace(&mut self.state.assigned, assignment.state);
        if let Err(error) = self.state.save(&self.worker.paths.state) {
            error!("{error}; the goal {} is not acted on before it is on disk", assignment.state);
            self.state.assigned = before;
            return Ok(());
        }
        self.backoff.reset();
        Ok(())
    }

    fn role(&self) -> Role {
        Role { state: self.state.current }
    }

    fn judge_partition(&mut self) {
        let partition = self.worker.config.timeouts.network_partition;
        if self.state.assigned == NodeState::DemoteTimeout
            || !fence::must_self_fence(self.role(), self.contacts, partition, BootTime::now())
        {
            return;
        }
        self.in_contact = false;
        error!(
            "neither the monitors nor enough standbys for {} s: this primary may have been replaced, so that it stops \
             itself now (demote_timeout). It comes back as soon as the monitors answer",
            partition.as_secs()
        );
        self.state.assigned = NodeState::DemoteTimeout;
        self.save();
        self.backoff.reset();
        // At once: the report that is under way may take longer than is left.
        self.job = None;
        self.start_transition(self.state.current, NodeState::DemoteTimeout);
    }

    async fn renew_lease(&mut self) {
        let timeouts = &self.worker.config.timeouts;
        let until =
            fence::lease(self.role(), self.contacts, timeouts.network_partition, timeouts.guardian, BootTime::now());
        if let Err(error) = self.worker.guardian.lease(until).await {
            warn!("{error}");
        }
    }

    /// Starts what has to be done next, if nothing is being done, or something that is of no use now.
    async fn obey(&mut self, seen: &Seen) -> Result<()> {
        let (current, goal) = (self.state.current, self.state.assigned);
        if let Some(job) = &self.job {
            let useful = match job.kind {
                Kind::Transition(_, to) => to == goal,
                Kind::Upkeep(_) => goal == current,
            };
            if useful {
                return Ok(());
            }
            info!("leaving off {}: told to be {goal}", job.kind);
            self.job = None;
        }
        if goal != current {
            if Instant::now() >= self.backoff.until() {
                self.start_transition(current, goal);
            }
            return Ok(());
        }
        self.keep_up(seen).await
    }

    fn start_transition(&mut self, from: NodeState, to: NodeState) {
        let worker = self.worker.clone();
        // Cut off from everybody: no time for an orderly stop.
        let alone = !self.in_contact && to == NodeState::DemoteTimeout;
        self.job = Some(Job::start(Kind::Transition(from, to), async move {
            match alone {
                true => worker.run(transitions::SELF_FENCE, to).await,
                false => worker.transition(from, to).await,
            }
        }));
    }

    fn upkeep(&mut self, what: &'static str, steps: &'static [Step]) {
        let (worker, state) = (self.worker.clone(), self.state.current);
        self.job = Some(Job::start(Kind::Upkeep(what), async move { worker.run(steps, state).await }));
    }

    /// A state that was reached is kept.
    async fn keep_up(&mut self, seen: &Seen) -> Result<()> {
        let wanted = transitions::wanted(self.state.current);
        if wanted == Wanted::Stopped {
            if seen.postmaster.is_some() {
                warn!("PostgreSQL runs, and must not in state {}: stopping it", self.state.current);
                self.upkeep("stop", &[Step::Fence]);
            }
            return Ok(());
        }
        // What follows takes the monitors' word, given a moment ago, that this node is still what it was.
        if wanted == Wanted::HandsOff || !self.in_contact || Instant::now() < self.backoff.until() {
            return Ok(());
        }
        if seen.hung {
            error!("PostgreSQL gives no answer although its processes live: stopping it by force and starting it again");
            self.upkeep("restart", &[Step::Fence, Step::Start]);
            return Ok(());
        }
        let Some(facts) = &seen.facts else {
            // A standby's data can be had again from the primary; a primary's cannot.
            if self.must_stream() && !self.worker.config.pgdata.join("PG_VERSION").exists() {
                error!("there is no cluster in {} any more", self.worker.config.pgdata.display());
                let worker = self.worker.clone();
                self.job = Some(Job::start(Kind::Upkeep("repair"), async move { worker.restore_standby().await }));
                return Ok(());
            }
            if let Some((_, attempts)) = &mut self.down {
                *attempts += 1;
                info!("PostgreSQL is down in state {}: starting it (attempt {attempts})", self.state.current);
            }
            self.upkeep("start", &[Step::Start]);
            return Ok(());
        };
        if wanted == Wanted::Standby && self.must_stream() {
            let fed = facts.in_recovery && facts.upstream.is_some();
            let since = *self.unfed_since.get_or_insert_with(Instant::now);
            if fed {
                self.unfed_since = None;
            } else if since.elapsed() > UNFED || !facts.in_recovery {
                self.unfed_since = None;
                let worker = self.worker.clone();
                self.job = Some(Job::start(Kind::Upkeep("repair"), async move { worker.repair().await }));
                return Ok(());
            }
        }
        if Instant::now() >= self.siblings_at {
            self.siblings_at = Instant::now() + SIBLINGS;
            // In wait_primary the monitors say when commits wait for somebody and when not.
            match self.state.current {
                NodeState::WaitPrimary => self.upkeep("names and slots", &[Step::TakeSyncNames, Step::Siblings]),
                NodeState::FastForward | NodeState::JoinSecondary | NodeState::WaitMaintenance => {}
                _ => self.upkeep("slots", &[Step::Siblings]),
            }
        }
        Ok(())
    }

    fn must_stream(&self) -> bool {
        matches!(self.state.current, NodeState::Secondary | NodeState::Catchingup | NodeState::WaitMaintenance)
    }

    async fn reload(&mut self) {
        let config = match Config::load(&self.worker.paths.config) {
            Ok(config) => Arc::new(config),
            Err(error) => return warn!("reload: the configuration is kept as it was: {error}"),
        };
        let old = std::mem::replace(&mut self.worker.config, config.clone());
        if old.monitor != config.monitor {
            match monitor_client(&config) {
                Ok(client) => self.worker.monitor = Arc::new(client),
                Err(error) => warn!("reload: {error}"),
            }
        }
        if old.name != config.name || old.hostname != config.hostname {
            let (name, host) = (Some(config.name.as_str()), Some(config.hostname.as_str()));
            match self.worker.monitor.update_node_metadata(self.state.node_id, name, host, Some(config.port)).await {
                Ok(_) => info!("told the monitors the name \"{}\" and the host {}", config.name, config.hostname),
                Err(error) => warn!("reload: the monitors did not take the new name or host: {error}"),
            }
        }
        let settings = async {
            self.worker.configure(false).await?;
            start::reload(&config).await
        };
        match settings.await {
            Ok(()) => info!("the configuration was read again"),
            Err(error) => warn!("reload: {error}"),
        }
    }

    /// Orderly end: PostgreSQL goes with the keeper, except for an upgrade.
    async fn shut_down(mut self, wish: Wish) -> Result<()> {
        self.job = None;
        let guardian = &self.worker.guardian;
        match wish {
            Wish::Leave => {
                // The next keeper gets as long as a partition may last.
                let patience = self.worker.config.timeouts.network_partition;
                let until = fence::lease(self.role(), self.contacts, patience, patience, BootTime::now());
                guardian.lease(until).await?;
                info!("the keeper ends; PostgreSQL runs on under the guardian until the next keeper comes");
                return Ok(());
            }
            Wish::Immediate => start::fence(&self.worker.config, guardian).await?,
            _ => {
                info!("stopping PostgreSQL");
                start::stop(&self.worker.config, guardian).await?;
            }
        }
        let _ = guardian.ask(&Request::Quit).await;
        info!("the keeper ends");
        Ok(())
    }

    /// The node was dropped: PostgreSQL is stopped; tells the monitors, which then forget it.
    async fn leave(mut self) -> Result<()> {
        self.job = None;
        let seen = self.observer.look(&self.worker.config, &self.worker.guardian).await?;
        for _ in 0..20 {
            self.report(&seen).await?;
            if self.in_contact {
                break;
            }
            tokio::time::sleep(TICK).await;
        }
        let _ = self.worker.guardian.ask(&Request::Quit).await;
        Err(KeeperError {
            exit: Exit::Dropped,
            message: format!("node {} was dropped from the monitors; its data directory stays", self.state.node_id),
        })
    }
}

pub(crate) fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs() as i64)
}
