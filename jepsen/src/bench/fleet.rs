//! Simulated nodes: registered and led to primary and secondary by calls alone, with no PostgreSQL
//! behind them but a listener that answers the monitors' health checks.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::raw::{self, RawClient, Request};
use crate::{Context, Failure, Result, bail};

const LSN: &str = "0/3000000";
/// Sessions used to set the fleet up.
const HANDS: usize = 8;

/// A simulated node.
#[derive(Clone, Debug)]
pub struct Fake {
    pub formation: String,
    pub id: i64,
    pub state: String,
}

impl Fake {
    /// The report of this node in its present state.
    pub fn report(&self) -> Result<Request> {
        let sync = if self.state == "primary" { "quorum" } else { "" };
        Ok(raw::node_active(&self.formation, self.id, &self.state, LSN, sync)?)
    }
}

/// Answers every connection like a server that refuses the user: to a health check, it lives.
/// One listener stands for all nodes: each has an address of its own in 127.0.0.0/8.
pub async fn answer_health_checks(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await.context("listen for health checks")?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                use tokio::io::AsyncReadExt;
                let mut buffer = [0; 1024];
                // SSLRequest is refused, the startup message is answered with an error.
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    let ssl = n == 8 && buffer.starts_with(&[0, 0, 0, 8, 4, 210, 22, 47]);
                    let answer: &[u8] =
                        if ssl { b"N" } else { b"E\0\0\0\x2cSFATAL\0VFATAL\0C28P01\0Mno such password\0\0" };
                    if stream.write_all(answer).await.is_err() || !ssl {
                        return;
                    }
                }
            });
        }
    });
    Ok(())
}

/// Registers `groups` formations of `size` nodes each and leads all to primary and secondary.
pub async fn muster(
    port: u16,
    prefix: &str,
    groups: usize,
    size: usize,
    node_port: u16,
) -> Result<Vec<Fake>> {
    let prefix: Arc<str> = prefix.into();
    let mut hands = JoinSet::new();
    for hand in 0..HANDS {
        let prefix = Arc::clone(&prefix);
        hands.spawn(async move {
            let mut client = RawClient::connect(port, true).await?;
            let mut fakes = Vec::new();
            for group in (hand..groups).step_by(HANDS) {
                fakes.extend(muster_group(&mut client, &prefix, group, size, node_port).await?);
            }
            Ok::<_, Failure>(fakes)
        });
    }
    let mut fleet = Vec::new();
    while let Some(fakes) = hands.join_next().await {
        fleet.extend(fakes??);
    }
    fleet.sort_by_key(|fake| fake.id);
    lead(port, fleet).await
}

async fn muster_group(
    client: &mut RawClient,
    prefix: &str,
    group: usize,
    size: usize,
    node_port: u16,
) -> Result<Vec<Fake>> {
    let formation = format!("{prefix}{group}");
    client
        .simple(&format!(
            "SELECT * FROM pgautofailover.create_formation('{formation}', 'pgsql', 'postgres', true, {})",
            i32::from(size > 2)
        ))
        .await
        .context(format!("create formation {formation}"))?;
    let mut fakes: Vec<Fake> = Vec::new();
    for n in 0..size {
        let i = group * size + n;
        let host = format!("127.{}.{}.{}", 1 + i / 62_500, 1 + i / 250 % 250, 1 + i % 250);
        let sql = format!(
            "SELECT assigned_node_id, assigned_group_state FROM pgautofailover.register_node('{formation}', '{host}', \
             {node_port}, 'postgres', '{formation}n{n}', {})",
            1_000_000 + group
        );
        // The next standby is let in only when the one before has joined.
        let mut tries = 0;
        let row = loop {
            match client.simple(&sql).await {
                Ok(rows) => {
                    break rows.into_iter().next().context("register_node returned nothing")?;
                }
                Err(error) if tries < 400 && matches!(error.code(), Some("55006" | "55000" | "40001")) => {
                    tries += 1;
                    for fake in &mut fakes {
                        step(client, fake).await?;
                    }
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
                Err(error) => return Err(error).context(sql),
            }
        };
        let field = |i: usize| row.get(i).cloned().flatten().context("a NULL from register_node");
        fakes.push(Fake { formation: formation.clone(), id: field(0)?.parse()?, state: field(1)? });
        for _ in 0..2 {
            for fake in &mut fakes {
                step(client, fake).await?;
            }
        }
    }
    Ok(fakes)
}

/// Reports a node and has it reach its goal at once.
async fn step(client: &mut RawClient, fake: &mut Fake) -> Result<()> {
    let rows = client.ask(&fake.report()?).await.context(format!("report {} as {}", fake.id, fake.state))?;
    let goal = rows.first().and_then(|row| row.get(2)).cloned().flatten();
    fake.state = goal.context("node_active returned no goal")?;
    Ok(())
}

/// Lets every node report until all are where they belong. Waits for health checks on the way.
async fn lead(port: u16, mut fleet: Vec<Fake>) -> Result<Vec<Fake>> {
    let mut client = RawClient::connect(port, true).await?;
    let end = tokio::time::Instant::now() + Duration::from_secs(240);
    let mut calm = 0;
    while calm < 2 {
        let mut changed = 0;
        for fake in &mut fleet {
            let before = fake.state.clone();
            step(&mut client, fake).await?;
            changed += usize::from(before != fake.state);
        }
        let there = fleet.iter().all(|f| f.state == "primary" || f.state == "secondary");
        calm = if there && changed == 0 { calm + 1 } else { 0 };
        if tokio::time::Instant::now() > end {
            let lost = fleet.iter().find(|f| f.state != "primary" && f.state != "secondary");
            bail!("the simulated nodes do not come to rest; one of them: {lost:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(fleet)
}

/// Reports every node once in `period`, for ever, through whichever of the monitors at `ports` answers.
pub async fn keep_reporting(ports: Vec<u16>, fleet: Vec<Fake>, period: Duration) {
    let mut hands = JoinSet::new();
    for hand in 0..HANDS {
        let mut mine: Vec<Fake> = fleet.iter().skip(hand).step_by(HANDS).cloned().collect();
        let ports = ports.clone();
        hands.spawn(async move {
            let mut client = None;
            let mut port = ports.iter().cycle();
            let mut pace = tokio::time::interval(period / u32::try_from(mine.len().max(1)).unwrap_or(1));
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut turn = 0;
            while !mine.is_empty() {
                pace.tick().await;
                let at = turn % mine.len();
                turn += 1;
                let Some(fake) = mine.get_mut(at) else { return };
                if client.is_none() {
                    let Some(port) = port.next() else { return };
                    let connected = tokio::time::timeout(Duration::from_secs(1), RawClient::connect(*port, true));
                    client = connected.await.ok().and_then(std::result::Result::ok);
                }
                let Some(open) = client.as_mut() else { continue };
                let reported = tokio::time::timeout(Duration::from_secs(2), step(open, fake)).await;
                if !matches!(reported, Ok(Ok(()))) {
                    client = None;
                }
            }
        });
    }
    while hands.join_next().await.is_some() {}
}
