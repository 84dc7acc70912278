//! Carries out steps. What to do is in the table; how, here; nothing here chooses a goal.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use failover::NodeState;
use monitor_client::GroupNode;
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::config::Config;
use crate::error::{Exit, KeeperError, Result};
use crate::guardian::client::Guardian;
use crate::orders::{Orders, Seal, Shared};
use crate::paths::Paths;
use crate::postgres::control::Installation;
use crate::postgres::slots;
use crate::postgres::sql::{Keep, Kept, LocalServer};
use crate::postgres::{certificate, conf, hba, roles, standby, start};
use crate::source::Source;
use crate::state_file::InitStage;
use crate::transitions::{self, Step, Wanted};

/// One local query.
pub(crate) const QUERY: Duration = Duration::from_secs(10);

/// Everything that steps need. Cheap to clone: a transition runs beside the heartbeat.
#[derive(Clone)]
pub struct Worker {
    pub config: Arc<Config>,
    pub paths: Arc<Paths>,
    pub guardian: Arc<Guardian>,
    pub source: Arc<Source>,
    pub node_id: i64,
    pub group: i32,
    pub keep: Arc<Keep>,
    pub shared: Arc<Mutex<Shared>>,
}

/// How long a step asks monitors that do not answer, before its row begins anew.
const ASKING: Duration = Duration::from_secs(20);

/// A question to the monitors at the end of a row. When they are busy the row must not begin anew at once:
/// for a node that rejoins this would mean to stop PostgreSQL and start it again for each question.
async fn asked_again<F: Future<Output = Result<()>>>(mut question: impl FnMut() -> F) -> Result<()> {
    let began = Instant::now();
    loop {
        match question().await {
            Err(error) if error.exit == Exit::Monitor && began.elapsed() < ASKING => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            done => return done,
        }
    }
}

impl Step {
    /// After this long the step counts as failed and the transition is tried again. Copying,
    /// rewinding, starting and fetching WAL last as long as they do, and find out by themselves
    /// whether they still move.
    fn deadline(self) -> Option<Duration> {
        match self {
            Step::PrepareCluster
            | Step::Start
            | Step::Copy
            | Step::CopyStandby
            | Step::Rejoin
            | Step::Follow
            | Step::FetchWal
            | Step::Seal
            | Step::Checkpoint => None,
            Step::Promote => Some(Duration::from_secs(120)),
            _ => Some(Duration::from_secs(60)),
        }
    }
}

impl Worker {
    /// The whole way from one state to another.
    ///
    /// Where the table has no edge, stopping is still obeyed: it harms nobody, and not stopping might (a
    /// stock monitor asked for `wait_primary -> demote_timeout`, with another primary promoted already).
    /// A primary whose memory is older than what the monitors know of it is stopped, and goes on from there.
    pub async fn transition(&self, from: NodeState, to: NodeState) -> Result<()> {
        if let Some(steps) = transitions::steps(from, to) {
            return self.run(steps, to).await;
        }
        let rest = match () {
            () if transitions::wanted(to) == Wanted::Stopped => Some([].as_slice()),
            () if from.is_writable() => transitions::steps(NodeState::Demoted, to),
            () => None,
        };
        let Some(rest) = rest else {
            return Err(KeeperError::state(format!(
                "the monitors ask to go from {from} to {to}, which this keeper does not know how to do; nothing is \
                 changed until they ask for something else"
            )));
        };
        warn!("the monitors ask to go from {from} to {to}, which is no known way: PostgreSQL is stopped first");
        self.run(&[Step::Stop], to).await?;
        self.run(rest, to).await
    }

    /// The steps, one after another.
    pub async fn run(&self, steps: &[Step], to: NodeState) -> Result<()> {
        for step in steps {
            let began = Instant::now();
            let work = self.step(*step, to);
            let done = match step.deadline() {
                Some(deadline) => timeout(deadline, work).await.unwrap_or_else(|_| {
                    Err(KeeperError::keeper(format!("not done within {} s", deadline.as_secs())))
                }),
                None => work.await,
            };
            done.map_err(|error| error.while_doing(format!("{step:?}")))?;
            tracing::debug!("{step:?} took {} ms", began.elapsed().as_millis());
        }
        Ok(())
    }

    async fn step(&self, step: Step, to: NodeState) -> Result<()> {
        let config = &*self.config;
        match step {
            Step::PrepareCluster => self.prepare_cluster().await,
            Step::Configure => self.configure(false).await,
            Step::CreateRoles => roles::ensure(config).await,
            Step::PublishIdentity => asked_again(|| self.publish_identity()).await,
            Step::FinishInit => crate::files::remove(&self.paths.init),
            Step::Start => {
                if transitions::wanted(to) == Wanted::Standby {
                    standby::signal(&config.pgdata)?;
                }
                self.ensure_running().await
            }
            Step::Stop => self.stop().await,
            Step::Fence => start::fence(config, &self.guardian).await,
            Step::Checkpoint => {
                if start::postmaster(config, &self.guardian).await?.is_some()
                    && let Some(sql) = self.sql().await?.take()
                {
                    sql.query("checkpoint", Duration::from_secs(3600)).await?;
                }
                Ok(())
            }
            Step::CheckpointAhead => self.checkpoint_ahead().await,
            Step::Promote => self.promote().await,
            Step::CheckpointBeside => self.checkpoint_beside().await,
            Step::ForgetUpstream => self.forget_upstream().await,
            Step::ClearSyncNames => self.clear_sync_names().await,
            Step::HoldCommits => self.hold_commits().await,
            Step::TakeSyncNames => self.take_sync_names().await,
            Step::AwaitSyncStandby => self.await_sync_standby().await,
            Step::ReadOnly => self.set_read_only(true).await,
            Step::ReadWrite => self.set_read_only(false).await,
            Step::Siblings => asked_again(|| self.maintain_siblings()).await,
            Step::DropSlots => slots::drop_all(&self.sql().await?).await,
            Step::Copy => self.copy().await,
            Step::CopyStandby => self.copy_standby().await,
            Step::Rejoin => self.rejoin().await,
            Step::Follow => self.follow().await,
            Step::Verify => self.verify().await,
            Step::Seal => self.seal().await,
            Step::FetchWal => self.fetch_wal().await,
            Step::BecomeStandby => self.become_standby().await,
            Step::Leave => crate::files::remove(&self.paths.init),
        }
    }

    /// The connection that steps share.
    pub(crate) async fn sql(&self) -> Result<Kept<'_>> {
        Ok(self.keep.connect(&LocalServer::of(&self.config), QUERY).await?)
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        // A poisoned lock means that a holder panicked; every field is only ever replaced whole.
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What monitors of ours said last.
    pub(crate) fn orders(&self) -> Option<Orders> {
        self.shared().orders.clone()
    }

    /// PostgreSQL runs and answers.
    pub(crate) async fn ensure_running(&self) -> Result<()> {
        if start::postmaster(&self.config, &self.guardian).await?.is_some() && self.keep.answers().await {
            return Ok(());
        }
        self.ensure_usable().await
    }

    /// Stops PostgreSQL in order if that can be. A primary that ended with its shutdown checkpoint has
    /// a final position.
    async fn stop(&self) -> Result<()> {
        start::stop(&self.config, &self.guardian).await?;
        self.find_end().await
    }

    /// The final position of a PostgreSQL that is stopped, if it has one: none without its files.
    pub(crate) async fn find_end(&self) -> Result<()> {
        let control = self.installation()?.control_data(&self.config.pgdata).await;
        let end = control.ok().and_then(|control| {
            Some(Seal { timeline: control.timeline, lsn: control.end_of_wal(&self.config.pgdata)? })
        });
        self.shared().seal = end;
        Ok(())
    }

    pub(crate) fn installation(&self) -> Result<Installation> {
        Installation::of(&self.config.pg_ctl)
    }

    /// initdb works beside the data directory as pg_basebackup does: killed in the middle, it leaves
    /// nothing that looks like a cluster.
    async fn prepare_cluster(&self) -> Result<()> {
        let config = &*self.config;
        crate::postgres::basebackup::finish_swap(config)?;
        if config.pgdata.join("PG_VERSION").exists() {
            return Ok(());
        }
        if InitStage::load(&self.paths.init)?.is_some_and(|stage| stage != InitStage::Empty) {
            return Err(KeeperError::state(format!(
                "the cluster that create found in {} is gone",
                config.pgdata.display()
            )));
        }
        crate::postgres::basebackup::by_initdb(config, &self.installation()?).await
    }

    /// `anew`: after a copy of the primary, which brought the primary's certificate.
    pub(crate) async fn configure(&self, anew: bool) -> Result<()> {
        let config = &*self.config;
        let major = self.installation()?.major_version().await?;
        conf::install(config, major)?;
        certificate::ensure(config, anew).await?;
        self.install_hba().map(drop)
    }

    pub(crate) fn install_hba(&self) -> Result<bool> {
        let peers: Vec<String> = self.known_siblings().into_iter().map(|node| node.host).collect();
        hba::install(&self.config, &peers, &self.source.hosts())
    }

    pub fn known_siblings(&self) -> Vec<GroupNode> {
        self.shared().siblings.clone()
    }

    async fn publish_identity(&self) -> Result<()> {
        let control = self.installation()?.control_data(&self.config.pgdata).await?;
        self.source.set_system_identifier(self.node_id, control.system_identifier).await
    }
}
