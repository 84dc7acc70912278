//! What the screen shows, and the thread that fetches it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use failover::NodeState;
use jiff::Zoned;
use monitor_client::{CallError, EventDetail, MonitorClient, NodeRow, ReplicaRow};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Status;
use crate::locate::Operator;

pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A picture older than this is not of now.
const STALE: Duration = Duration::from_secs(2);

/// As many events as can be scrolled through.
const EVENTS: u32 = 200;

/// Everything that is on the screen.
#[derive(Clone, Default)]
pub struct Picture {
    pub formation: String,
    pub group: Option<i32>,
    pub number_sync_standbys: Option<i32>,
    /// Local time of the last look that succeeded.
    pub time: String,
    /// The monitor that answered.
    pub from: Option<String>,
    /// `None`: a stock monitor, which has no replicas.
    pub monitors: Option<Vec<ReplicaRow>>,
    pub nodes: Vec<NodeRow>,
    /// Oldest first.
    pub events: Vec<EventDetail>,
    /// Why the rest is not of now.
    pub problem: Option<String>,
    /// When it was fetched.
    pub fetched: Option<Instant>,
}

impl Picture {
    pub fn empty(formation: &str, group: Option<i32>) -> Picture {
        let problem = Some("asking the monitors...".to_string());
        Picture { formation: formation.to_string(), group, problem, ..Picture::default() }
    }

    /// A monitor that died does not say so: its silence does.
    pub fn aged(mut self) -> Picture {
        let silence = self.fetched.map_or(Duration::ZERO, |fetched| fetched.elapsed());
        if self.problem.is_none() && silence > STALE {
            self.problem = Some(format!("no monitor has answered for {} s", silence.as_secs()));
        }
        self
    }

    /// Who is on the move, when it concerns who takes the writes.
    pub fn failover(&self) -> Option<String> {
        use NodeState::*;
        let takes_part = |node: &&NodeRow| {
            let states = [node.reported, node.goal];
            let moving = node.reported != node.goal;
            let telling = [
                Draining, DemoteTimeout, StopReplication, PreparePromotion, ReportLsn, FastForward, JoinSecondary,
                PrepareMaintenance, WaitMaintenance,
            ];
            telling.iter().any(|state| states.contains(state)) || (moving && states.contains(&Demoted))
        };
        // One that died is told about by itself, once another one takes the writes.
        let led = self.nodes.iter().any(|node| node.reported.is_writable() && node.reported == node.goal && node.health != 0);
        let moving: Vec<String> = self
            .nodes
            .iter()
            .filter(takes_part)
            .filter(|node| !(led && node.health == 0))
            .map(|node| match node.reported == node.goal {
                true => format!("{} {}", node.name, node.reported),
                false => format!("{} {} -> {}", node.name, node.reported, node.goal),
            })
            .collect();
        (!moving.is_empty()).then(|| moving.join(", "))
    }
}

/// Who does not answer the monitors.
pub fn down(nodes: &[NodeRow]) -> Option<String> {
    let down: Vec<&str> = nodes.iter().filter(|node| node.health == 0).map(|node| node.name.as_str()).collect();
    (!down.is_empty()).then(|| down.join(", "))
}

/// Looks until it is told to quit; SIGTERM tells everybody to, and SIGHUP leaves nothing to restore.
pub fn keep_up_to_date(operator: &Operator, group: Option<i32>, shared: &Mutex<Picture>, quit: &AtomicBool) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        quit.store(true, Ordering::SeqCst);
        return;
    };
    runtime.block_on(async {
        let (Ok(mut terminate), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
            return quit.store(true, Ordering::SeqCst);
        };
        let client = operator.located.lasting_client();
        while !quit.load(Ordering::SeqCst) {
            let looked = tokio::select! {
                looked = look(&client, &operator.formation, group) => looked,
                _ = terminate.recv() => return quit.store(true, Ordering::SeqCst),
                // Without a terminal, reading keys from it would go on for ever.
                _ = hangup.recv() => std::process::exit(Status::Interrupted as i32),
            };
            {
                let mut picture = shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                match looked {
                    Ok(fresh) => *picture = fresh,
                    Err(error) => {
                        let first = error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
                        picture.problem = Some(first);
                    }
                }
            }
            tokio::select! {
                _ = tokio::time::sleep(LOOK_EVERY) => {}
                _ = terminate.recv() => return quit.store(true, Ordering::SeqCst),
                _ = hangup.recv() => std::process::exit(Status::Interrupted as i32),
            }
        }
    });
}

pub async fn look(client: &MonitorClient, formation: &str, group: Option<i32>) -> Result<Picture, CallError> {
    Ok(Picture {
        formation: formation.to_string(),
        group,
        nodes: client.current_state(formation, group).await?,
        number_sync_standbys: client.number_sync_standbys(formation).await?,
        monitors: client.replicas().await?,
        events: client.newest_events(formation, group, EVENTS).await?,
        time: Zoned::now().strftime("%H:%M:%S").to_string(),
        from: client.connected_to().await,
        problem: None,
        fetched: Some(Instant::now()),
    })
}
