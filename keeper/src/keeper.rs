//! The keeper's life: look, report, obey.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use failover::NodeState;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::boottime::BootTime;
use crate::config::Config;
use crate::disk;
use crate::error::{KeeperError, Result};
use crate::fence::{Contacts, Replies, Role};
use crate::guardian::client::{Event, Guardian};
use crate::job::{Backoff, Job, Kind};
use crate::observe::{Observer, Seen};
use crate::orders::Shared;
use crate::paths::Paths;
use crate::postgres::facts::Facts;
use crate::postgres::sql::Keep;
use crate::postgres::standby::{self, Upstream};
use crate::reports::Dialect;
use crate::signals::{Signals, Wish};
use crate::source::Source;
use crate::state_file::{InitStage, KeeperState};
use crate::steps::Worker;
use crate::transitions::{self, Step, Wanted};

/// Between two reports when nothing happens.
pub(crate) const TICK: Duration = Duration::from_millis(500);
/// Between two reports when things happen.
const SOONEST: Duration = Duration::from_millis(15);
/// Between two looks at the group's other nodes when nobody announced a change.
const SIBLINGS: Duration = Duration::from_secs(5);
/// Before a look at them when a change was announced: what the change asks of this node comes first.
const AFTER_NEWS: Duration = Duration::from_millis(500);
/// A standby may be without its upstream for this long before the keeper looks why.
const UNFED: Duration = Duration::from_secs(10);

const END_OF_WAL: &str = "end of WAL";
const SLOTS: &str = "slots";
const NAMES: &str = "synchronous names";

/// When to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    Stopped,
    /// `create` without `--run`: the node is made.
    Created,
    /// A node without monitors: its goal is reached.
    Reached,
}

pub struct Keeper {
    pub(crate) worker: Worker,
    pub(crate) state: KeeperState,
    pub(crate) observer: Observer,
    events: UnboundedReceiver<Event>,
    pub(crate) contacts: Contacts,
    pub(crate) replies: Replies,
    /// The end of the read lease that the monitors granted last, counted from the report's sending.
    /// `None` while they grant none: stock monitors, groups on upstream's path, no primary.
    pub(crate) grant: Option<BootTime>,
    /// How many standbys a commit waits for, as last seen.
    pub(crate) required_sync: u32,
    /// A postmaster was there at the last look.
    pub(crate) runs: bool,
    /// When the last look began that was taken into account.
    pub(crate) seen_at: BootTime,
    /// When the last job ended.
    settled: BootTime,
    /// The process that receives WAL: its end is news for the monitors.
    pub(crate) walreceiver: Option<(i32, oneshot::Receiver<()>)>,
    /// The final position of a stopped PostgreSQL was looked for.
    pub(crate) end_sought: bool,
    pub(crate) dialect: Dialect,
    /// The timeline whose history was told last.
    pub(crate) told_history: u32,
    /// Did the monitors answer the last report?
    pub(crate) in_contact: bool,
    pub(crate) told_of_silence: Option<Instant>,
    pub(crate) job: Option<Job>,
    pub(crate) backoff: Backoff,
    /// Since when, and with how many attempts, PostgreSQL should run and does not.
    pub(crate) down: Option<(Instant, u32)>,
    unfed_since: Option<Instant>,
    /// The configuration was read again: a standby's connection to its upstream may be another one now.
    pub(crate) follow_anew: bool,
    /// The postmaster whose replay is paused, when it has been looked into why.
    pause_known: Option<i32>,
    siblings_at: Instant,
    disk: disk::Watch,
    pub(crate) unsaved: Option<disk::Unsaved>,
    /// The goal that the monitors gave last, when it is not acted on because it is not on disk.
    pub(crate) unheeded: Option<NodeState>,
}

impl Keeper {
    /// Finds its state and the guardian with whatever runs under it; starts nothing.
    pub async fn open(paths: Paths) -> Result<Keeper> {
        let config = Arc::new(Config::load(&paths.config)?);
        let state = KeeperState::load(&paths.state)?.ok_or_else(|| {
            KeeperError::state(format!("{} does not exist: `pgquorum create postgres` makes it", paths.state.display()))
        })?;
        let (guardian, events) = Guardian::new(&paths.data_home, &config.pgdata);
        let guardian = Arc::new(guardian);
        let status = guardian.agreed().await?;
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
            source: Arc::new(Source::of(&config, &paths)?),
            node_id: state.node_id,
            group: state.group,
            config,
            paths: Arc::new(paths),
            guardian: guardian.clone(),
            keep: Arc::new(Keep::default()),
            shared: Arc::new(Mutex::new(Shared::default())),
        };
        info!(
            "keeper of node {} \"{}\": state {}, told to be {}",
            state.node_id, worker.config.name, state.current, state.assigned
        );
        Ok(Keeper {
            observer: Observer::start(worker.config.clone(), guardian),
            worker,
            state,
            events,
            contacts: Contacts { monitor: since, standbys: since },
            replies: Replies::default(),
            grant: None,
            required_sync: 0,
            runs: false,
            seen_at: BootTime(0),
            settled: BootTime(0),
            walreceiver: None,
            end_sought: false,
            dialect: Dialect::Unknown,
            told_history: 0,
            in_contact: false,
            told_of_silence: None,
            job: None,
            backoff: Backoff::default(),
            down: None,
            unfed_since: None,
            follow_anew: false,
            pause_known: None,
            siblings_at: Instant::now(),
            disk: disk::Watch::default(),
            unsaved: None,
            unheeded: None,
        })
    }

    /// Runs until a signal, the node's removal, or the end of its creation.
    pub async fn run(mut self, until: Until, signals: &mut Signals) -> Result<()> {
        loop {
            let began = Instant::now();
            let before = self.state.current;
            self.tick().await?;
            if self.state.current == NodeState::Dropped && self.state.assigned == NodeState::Dropped {
                return self.leave().await;
            }
            if until == Until::Created && self.is_created() {
                info!("node {} \"{}\" is created, in state {}", self.state.node_id, self.worker.config.name, self.state.current);
                return self.shut_down(Wish::Stop).await;
            }
            if until == Until::Reached && self.job.is_none() && self.in_contact && self.state.current == self.state.assigned {
                return self.leave_alone().await;
            }
            let now = Instant::now();
            let mut next = (began + TICK).max(now + SOONEST);
            if self.state.current != before {
                next = now;
            }
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
        let source = self.worker.source.clone();
        let announced = async {
            loop {
                match source.heard(left).await {
                    Some(state) if state.formation == group.0 && state.group == group.1 => return true,
                    Some(_) => {}
                    None => return false,
                }
            }
        };
        let running = self.job.is_some();
        let stopping = self.is_stopping();
        let promoting = running && matches!(self.state.current, NodeState::PreparePromotion | NodeState::StopReplication);
        let mut unfed_now = false;
        let receiver = &mut self.walreceiver;
        let unfed = async {
            match receiver {
                Some((_, end)) => drop(end.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            wish = signals.next() => return Some(wish),
            done = Job::finished(&mut self.job), if running => self.on_done(done),
            // What a candidate does on its way matters more than what is said meanwhile.
            heard = announced, if !promoting => if heard { self.siblings_at = self.siblings_at.min(Instant::now() + AFTER_NEWS) },
            // That PostgreSQL has ended is no news to a step that stops it, and half a report to the monitors.
            event = self.events.recv(), if !stopping => self.on_event(event),
            _ = unfed => unfed_now = true,
            _ = sleep_until(next) => {}
        }
        if unfed_now {
            self.walreceiver = None;
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
        self.settled = BootTime::now();
        while let Ok(event) = self.events.try_recv() {
            self.on_event(Some(event));
        }
        match done {
            (Kind::Transition(from, to), Ok(())) => {
                info!("reached {to} (from {from})");
                self.backoff.reset();
                self.state.current = to;
                self.siblings_at = Instant::now();
                self.unfed_since = None;
                self.end_sought = true;
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
                    // Until it is seen to work: what starts and works for nobody is no reason to hurry.
                    self.backoff.failed();
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

    async fn tick(&mut self) -> Result<()> {
        self.disk.look(&self.worker.config.pgdata);
        if self.unsaved.is_some() {
            self.save();
        }
        let Some(seen) = self.look().await else {
            // Not even the guardian has answered yet.
            return Ok(());
        };
        self.track_down(&seen);
        self.renew_lease().await;
        self.report(&seen).await?;
        self.judge_partition();
        self.renew_lease().await;
        self.obey(&seen).await
    }

    /// Counts how long PostgreSQL has been down that should run.
    fn track_down(&mut self, seen: &Seen) {
        let should = matches!(transitions::wanted(self.state.current), Wanted::Primary | Wanted::Standby | Wanted::Running);
        if seen.facts.is_some() || !should {
            if let Some((since, attempts)) = self.down.take()
                && attempts > 0
                && should
            {
                self.backoff.reset();
                info!("PostgreSQL is back after {:.1} s", since.elapsed().as_secs_f32());
            }
        } else if self.down.is_none() {
            self.down = Some((Instant::now(), 0));
        }
    }

    pub(crate) fn role(&self) -> Role {
        Role { state: self.state.current, monitored: self.worker.config.has_monitor() }
    }

    /// Starts what has to be done next, if nothing is being done, or something that is of no use now.
    async fn obey(&mut self, seen: &Seen) -> Result<()> {
        let (current, goal) = (self.state.current, self.state.assigned);
        if let Some(job) = &self.job {
            let useful = match job.kind {
                Kind::Transition(_, to) => to == goal,
                // What the next state begins with is under way already.
                Kind::Upkeep(NAMES) if current == NodeState::PreparePromotion => goal == NodeState::WaitPrimary || goal == current,
                Kind::Upkeep(SLOTS) => goal == current && !self.has_new_upstream(seen)?,
                Kind::Upkeep(_) => goal == current,
            };
            if useful {
                return Ok(());
            }
            info!("leaving off {}: told to be {goal}", job.kind);
            self.job = None;
        }
        if goal != current {
            // A primary that is down starts on the monitors' word of a moment ago, never on an old one.
            let starts = transitions::wanted(goal) == Wanted::Primary && seen.postmaster.is_none();
            if Instant::now() >= self.backoff.until() && (self.in_contact || !starts) {
                self.start_transition(current, goal);
                if goal == NodeState::PreparePromotion {
                    self.name_standbys_ahead();
                }
            }
            return Ok(());
        }
        // A look that began before the last job ended shows what is no more.
        match seen.at >= self.settled {
            true => self.keep_up(seen).await,
            false => Ok(()),
        }
    }

    pub(crate) fn start_transition(&mut self, from: NodeState, to: NodeState) {
        let worker = self.worker.clone();
        {
            // A seal ends with the state that it belongs to.
            let mut shared = worker.shared();
            if !has_final_position(to) {
                shared.seal = None;
            }
            if !from.is_writable() && !to.is_writable() {
                shared.confirmed = 0;
            }
        }
        // Nothing to do needs no task, and the monitors hear of it at once.
        if transitions::steps(from, to).is_some_and(|steps| steps.is_empty()) {
            return self.on_done((Kind::Transition(from, to), Ok(())));
        }
        // Cut off from everybody: no time for an orderly stop.
        let alone = !self.in_contact && to == NodeState::DemoteTimeout;
        self.job = Some(Job::start(Kind::Transition(from, to), async move {
            match alone {
                true => worker.run(transitions::SELF_FENCE, to).await,
                false => worker.transition(from, to).await,
            }
        }));
    }

    /// A candidate has the names that it was told in effect while the monitors hear that it is ready: the
    /// promotion begins with them, and finds them done.
    fn name_standbys_ahead(&mut self) {
        let ordered = self.worker.orders().is_some_and(|orders| orders.sync_version != 0);
        if ordered && self.job.is_none() && self.runs {
            self.upkeep(NAMES, &[Step::TakeSyncNames]);
        }
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
            } else if !self.end_sought {
                self.end_sought = true;
                let worker = self.worker.clone();
                self.job = Some(Job::start(Kind::Upkeep(END_OF_WAL), async move { worker.find_end().await }));
            }
            return Ok(());
        }
        // What follows takes the monitors' word, given a moment ago, that this node is still what it was.
        let otherwise = self.unheeded.is_some_and(|goal| transitions::wanted(goal) != wanted);
        if wanted == Wanted::HandsOff || !self.in_contact || otherwise || Instant::now() < self.backoff.until() {
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
            self.worker.keep.forget();
            self.upkeep("start", &[Step::Start]);
            return Ok(());
        };
        if wanted == Wanted::Standby && self.must_stream() {
            let primary = self.other_upstream(facts)?;
            if let Some(primary) = &primary {
                info!("node {} is the primary now", primary.id);
            }
            if std::mem::take(&mut self.follow_anew) || primary.is_some() {
                let worker = self.worker.clone();
                self.job = Some(Job::start(Kind::Upkeep("follow"), async move { worker.follow().await }));
                return Ok(());
            }
            if !facts.paused {
                self.pause_known = None;
            } else if self.pause_known != seen.postmaster {
                self.pause_known = seen.postmaster;
                let worker = self.worker.clone();
                self.job = Some(Job::start(Kind::Upkeep("limits"), async move { worker.raise_limits().await }));
                return Ok(());
            }
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
        if self.keep_orders() {
            return Ok(());
        }
        if Instant::now() >= self.siblings_at {
            self.siblings_at = Instant::now() + SIBLINGS;
            // In wait_primary the monitors say when commits wait for somebody and when not.
            match self.state.current {
                NodeState::WaitPrimary if self.dialect != Dialect::Ours => {
                    self.upkeep("names and slots", &[Step::TakeSyncNames, Step::Siblings]);
                }
                NodeState::FastForward | NodeState::JoinSecondary | NodeState::WaitMaintenance => {}
                _ => self.upkeep(SLOTS, &[Step::Siblings]),
            }
        }
        Ok(())
    }

    /// What monitors of ours ordered beside the goal. `true` when a job was started.
    fn keep_orders(&mut self) -> bool {
        let (orders, confirmed, sealed) = {
            let shared = self.worker.shared();
            (shared.orders.clone(), shared.confirmed, shared.seal.is_some())
        };
        let Some(orders) = orders else { return false };
        let worker = self.worker.clone();
        if self.state.current.is_writable() && orders.sync_version > confirmed {
            self.job =
                Some(Job::start(Kind::Upkeep(NAMES), async move { worker.confirm_sync_names().await }));
        } else if self.state.current == NodeState::ReportLsn && !sealed {
            self.job = Some(Job::start(Kind::Upkeep("seal"), async move { worker.renew_seal().await }));
        } else {
            return false;
        }
        true
    }

    /// The primary that monitors of ours name, when this standby is set up to follow another one: a
    /// switchover leaves the standbys that are not promoted in their state.
    fn other_upstream(&self, facts: &Facts) -> Result<Option<Upstream>> {
        let named = match self.worker.source.operator() {
            Some(operator) => operator.other_primary(self.state.node_id)?.map(Upstream::from),
            None => self.worker.orders().and_then(|orders| orders.primary),
        };
        let Some(primary) = named else { return Ok(None) };
        let follows = facts.upstream.as_deref() == Some(format!("{}:{}", primary.host, primary.port).as_str())
            || standby::follows(&self.worker.config, &primary, self.state.node_id)?;
        Ok(Some(primary).filter(|_| facts.in_recovery && !follows))
    }

    fn has_new_upstream(&self, seen: &Seen) -> Result<bool> {
        let facts = seen.facts.as_ref().filter(|_| self.must_stream());
        facts.map_or(Ok(false), |facts| Ok(self.other_upstream(facts)?.is_some()))
    }

    /// A step that stops PostgreSQL, or looks for the end of its WAL, has not ended yet.
    pub(crate) fn is_stopping(&self) -> bool {
        self.job.as_ref().is_some_and(|job| match job.kind {
            Kind::Transition(_, to) => is_stopped_for_good(to),
            Kind::Upkeep(what) => what == END_OF_WAL,
        })
    }

    pub(crate) fn must_stream(&self) -> bool {
        matches!(self.state.current, NodeState::Secondary | NodeState::Catchingup | NodeState::WaitMaintenance)
    }
}

/// States of a former primary that was stopped.
pub(crate) fn is_stopped_for_good(state: NodeState) -> bool {
    use NodeState::*;
    matches!(state, Draining | Demoted | DemoteTimeout | PrepareMaintenance)
}

/// States in which a node's WAL ends where it ends.
pub(crate) fn has_final_position(state: NodeState) -> bool {
    use NodeState::*;
    is_stopped_for_good(state) || matches!(state, ReportLsn | FastForward | PreparePromotion | JoinSecondary)
}

pub(crate) fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs() as i64)
}
