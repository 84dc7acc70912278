//! A backend that decides and applies in memory, and a server over it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use failover::{Applied, Call, Decision, Event, Now, Observations, Reply, State, WallTime, apply, decide};
use monitor::sql::backend::{
    Backend, CallDone, CallError, Consistency, Notification, ReadView, Role, TransactionId,
};
use monitor::sql::{Facade, FacadeConfig, ServerHandle, serve};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

pub struct Inner {
    pub state: State,
    pub observations: Observations,
    pub index: u64,
    /// The next commit is answered with Unknown.
    pub lose_commit: bool,
    /// The next call is done but answered with Unknown.
    pub lose_call: bool,
}

/// What several mock monitors share.
pub struct Cluster {
    pub inner: Mutex<Inner>,
    pub notifications: broadcast::Sender<Arc<Notification>>,
    /// Where followers forward to.
    pub leader: OnceLock<Arc<Facade>>,
    started: std::time::Instant,
}

pub struct Mock {
    pub cluster: Arc<Cluster>,
    pub role: watch::Sender<Role>,
    id: u64,
}

impl Cluster {
    pub fn new() -> Arc<Cluster> {
        let inner = Inner {
            state: State::default(),
            observations: Observations::default(),
            index: 0,
            lose_commit: false,
            lose_call: false,
        };
        let (notifications, _) = broadcast::channel(256);
        Arc::new(Cluster {
            inner: Mutex::new(inner),
            notifications,
            leader: OnceLock::new(),
            started: std::time::Instant::now(),
        })
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        Now { wall: WallTime(wall), mono_us: self.started.elapsed().as_micros() as i64 }
    }

    fn one(&self, inner: &mut Inner, call: &Call) -> Result<(Decision, Vec<Event>), CallError> {
        let decision = decide(&inner.state, &inner.observations, call, self.now()).map_err(CallError::Rejected)?;
        let mut events = Vec::new();
        if !decision.outcome.is_empty() {
            match apply(&mut inner.state, &decision.outcome) {
                Applied::Written(written) => events = written.iter().map(|event| (**event).clone()).collect(),
                Applied::Conflict => return Err(CallError::Internal("conflict".to_string())),
            }
            inner.index += 1;
        }
        for (node, observation) in &decision.observed {
            inner.observations.nodes.insert(*node, *observation);
        }
        Ok((decision, events))
    }

    fn notify(&self, events: &[Event]) {
        for e in events {
            let e = &e.event;
            let payload = format!(
                "{{\"type\": \"state\", \"formation\": \"{}\", \"nodeId\": {}, \"goalState\": \"{}\"}}",
                e.formation, e.node, e.goal
            );
            let _ = self.notifications.send(Arc::new(Notification { channel: "state".to_string(), payload }));
            let log = Notification { channel: "log".to_string(), payload: e.description.clone() };
            let _ = self.notifications.send(Arc::new(log));
        }
    }
}

fn copy(inner: &Inner) -> Inner {
    Inner {
        state: inner.state.clone(),
        observations: inner.observations.clone(),
        index: inner.index,
        lose_commit: false,
        lose_call: false,
    }
}

#[async_trait]
impl Backend for Mock {
    async fn call(&self, call: Call) -> Result<CallDone, CallError> {
        if self.role() != Role::Leader {
            return Err(CallError::NotLeader);
        }
        let mut inner = self.cluster.inner.lock().unwrap();
        let (decision, events) = self.cluster.one(&mut inner, &call)?;
        self.cluster.notify(&events);
        if std::mem::take(&mut inner.lose_call) {
            return Err(CallError::Unknown);
        }
        Ok(CallDone { reply: decision.reply, notices: decision.notices })
    }

    async fn tentative(&self, _: TransactionId, pending: &[Call], call: Call) -> Result<CallDone, CallError> {
        if self.role() != Role::Leader {
            return Err(CallError::NotLeader);
        }
        let mut inner = copy(&self.cluster.inner.lock().unwrap());
        for call in pending {
            self.cluster.one(&mut inner, call)?;
        }
        let (decision, _) = self.cluster.one(&mut inner, &call)?;
        Ok(CallDone { reply: decision.reply, notices: decision.notices })
    }

    async fn commit(&self, _: TransactionId, calls: Vec<Call>, expected: Vec<Reply>) -> Result<(), CallError> {
        if self.role() != Role::Leader {
            return Err(CallError::NotLeader);
        }
        let mut inner = self.cluster.inner.lock().unwrap();
        if std::mem::take(&mut inner.lose_commit) {
            return Err(CallError::Unknown);
        }
        let mut next = copy(&inner);
        let mut all = Vec::new();
        for (call, expected) in calls.iter().zip(expected) {
            let (decision, events) = self.cluster.one(&mut next, call)?;
            if decision.reply != expected {
                return Err(CallError::Unknown);
            }
            all.extend(events);
        }
        *inner = next;
        self.cluster.notify(&all);
        Ok(())
    }

    async fn rollback(&self, _: TransactionId) {}

    async fn view(&self, consistency: Consistency, pending: &[Call]) -> Result<ReadView, CallError> {
        if self.role() != Role::Leader && consistency == Consistency::Linearizable {
            return Err(CallError::NotLeader);
        }
        let mut inner = copy(&self.cluster.inner.lock().unwrap());
        for call in pending {
            self.cluster.one(&mut inner, call)?;
        }
        Ok(ReadView {
            state: Arc::new(inner.state),
            observations: Arc::new(inner.observations),
            applied_index: inner.index,
            // Never the same twice: what is under test here is not the cache of views.
            observations_version: self.cluster.started.elapsed().as_nanos() as u64,
            now: self.cluster.now(),
            replicas: Arc::new(Vec::new()),
        })
    }

    async fn forward(&self, request: Vec<u8>) -> Result<Vec<u8>, CallError> {
        match self.cluster.leader.get() {
            Some(leader) => Ok(leader.execute_forwarded(request).await),
            None => Err(CallError::NoLeader),
        }
    }

    fn role(&self) -> Role {
        self.role.borrow().clone()
    }

    fn watch_role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Notification>> {
        self.cluster.notifications.subscribe()
    }

    fn replica_id(&self) -> u64 {
        self.id
    }
}

/// A running facade.
pub struct Server {
    pub address: SocketAddr,
    pub mock: Arc<Mock>,
    pub facade: Arc<Facade>,
    pub handle: ServerHandle,
}

impl Server {
    pub async fn with(cluster: Arc<Cluster>, role: Role, id: u64, config: FacadeConfig) -> Server {
        let mock = Arc::new(Mock { cluster, role: watch::channel(role).0, id });
        let facade = Arc::new(Facade::new(mock.clone(), config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handle = serve(listener, facade.clone());
        Server { address, mock, facade, handle }
    }

    /// A leader with default configuration.
    pub async fn leader() -> Server {
        Server::with(Cluster::new(), Role::Leader, 1, FacadeConfig::default()).await
    }

    pub async fn test_mode() -> Server {
        let config = FacadeConfig { test_mode: true, ..FacadeConfig::default() };
        Server::with(Cluster::new(), Role::Leader, 1, config).await
    }

    /// A leader and a follower of it.
    pub async fn pair() -> (Server, Server) {
        let cluster = Cluster::new();
        let leader = Server::with(cluster.clone(), Role::Leader, 1, FacadeConfig::default()).await;
        let _ = cluster.leader.set(leader.facade.clone());
        let follower = Server::with(cluster, Role::Follower { leader: 1 }, 2, FacadeConfig::default()).await;
        (leader, follower)
    }
}
