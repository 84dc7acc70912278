//! `pgquorum demo`: a failover on one machine. Three monitors and three PostgreSQL nodes come up, a client
//! writes, the leading monitor dies, the primary dies, and what that cost is counted.

mod cluster;
mod ground;
mod processes;
mod writer;

use std::time::{Duration, Instant};

use monitor_client::EventDetail;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::args::play::Demo;
use crate::exit::{CliError, Status};
use crate::output;
use crate::verbs::block_on;
use cluster::Cluster;
use ground::Ground;
use writer::Writer;

pub fn run(args: &Demo) -> Result<(), CliError> {
    if args.stop {
        let directory = args.directory.clone().unwrap_or_default();
        return ground::stop(&directory);
    }
    let ground = Ground::prepare(args)?;
    let mut played = None;
    let result = block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut cluster = Cluster::new(&ground);
        let outcome = tokio::select! {
            outcome = play(&mut cluster) => outcome,
            _ = interrupt.recv() => Err(CliError::new(Status::Interrupted, "interrupted")),
            _ = terminate.recv() => Err(CliError::new(Status::Interrupted, "terminated")),
        };
        played = Some(cluster.monitors_uri());
        outcome
    });
    match result {
        Ok(uri) if args.keep => {
            look_around(&ground, &played.unwrap_or_default(), &uri)
        }
        Ok(_) => {
            ground.clean_up();
            say("Everything is stopped and removed again. With --keep it stays, to look around.")
        }
        Err(error) => {
            if error.status != Status::Interrupted {
                ground.show_logs();
            }
            ground.clean_up();
            Err(error)
        }
    }
}

fn say(text: &str) -> Result<(), CliError> {
    output::line(text)
}

/// Lines with the time since the beginning.
pub struct Teller {
    began: Instant,
}

impl Teller {
    fn tell(&self, text: &str) -> Result<(), CliError> {
        let elapsed = self.began.elapsed();
        say(&format!("[{:4}.{} s] {text}", elapsed.as_secs(), elapsed.subsec_millis() / 100))
    }
}

/// The play. Returns the application's connection string.
async fn play(cluster: &mut Cluster<'_>) -> Result<String, CliError> {
    let teller = Teller { began: Instant::now() };
    teller.tell(&format!("three monitors at 127.0.0.1, ports {}", cluster.monitor_ports()))?;
    cluster.start_monitors().await?;
    teller.tell(&format!("{} leads", cluster.leader("").await?))?;
    cluster.hurry(&teller).await?;
    for number in 1..=3 {
        let word = if number == 1 { "the first node, created by initdb" } else { "a copy of the primary" };
        teller.tell(&format!("node{number} at port {}: {word}", cluster.node_port(number)))?;
        cluster.create_node(number).await?;
    }
    cluster.settled().await?;
    let uri = cluster.application_uri().await?;
    teller.tell("all three are up:")?;
    cluster.show_state().await?;

    let mut writer = Writer::start(&uri, cluster.application()).await?;
    writer.more_than(50, Duration::from_secs(20)).await?;
    teller.tell(&format!("a client writes row after row: {} acknowledged so far", writer.acknowledged()))?;

    let leader = cluster.leader("").await?;
    teller.tell(&format!("kill -9 of {leader}, the monitor that leads"))?;
    let killed = Instant::now();
    cluster.kill_monitor(&leader)?;
    let next = cluster.leader(&leader).await?;
    teller.tell(&format!("{next} leads, {} ms later", killed.elapsed().as_millis()))?;
    writer.more_than(writer.acknowledged() + 50, Duration::from_secs(20)).await?;
    teller.tell(&format!("the longest pause between two rows: {} ms", writer.longest_gap(killed).as_millis()))?;

    let primary = cluster.primary().await?;
    let mut events = Events::from_now(cluster).await?;
    teller.tell(&format!("kill -9 of {primary}, the primary: keeper and PostgreSQL at once"))?;
    let before = writer.acknowledged();
    let killed = Instant::now();
    cluster.kill_node(&primary)?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while !writer.resumed(killed) {
        events.show(cluster).await;
        if Instant::now() > deadline {
            return Err(CliError::new(Status::BadState, "no row was acknowledged within 120 s of the primary's death"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    writer.more_than(before + 50, Duration::from_secs(60)).await?;
    events.show(cluster).await;
    let outage = writer.longest_gap(killed).as_millis();
    teller.tell(&format!("rows are acknowledged again: writes failed for {outage} ms"))?;

    teller.tell(&format!("{primary} and {leader} start again"))?;
    cluster.run_monitor(&leader)?;
    cluster.run_node(&primary)?;
    cluster.rejoined(&primary, &leader, &mut events).await?;
    teller.tell("both are back:")?;
    cluster.show_state().await?;

    let lost = writer.stop_and_count_lost(&uri).await?;
    teller.tell(&format!(
        "{} rows acknowledged, writes failed for {outage} ms, {lost} acknowledged rows lost",
        writer.acknowledged()
    ))?;
    match lost {
        0 => Ok(uri),
        _ => Err(CliError::new(Status::BadState, format!("{lost} acknowledged rows are gone"))),
    }
}

/// Events of the monitors, as they happen.
pub struct Events {
    seen: i64,
}

impl Events {
    async fn from_now(cluster: &Cluster<'_>) -> Result<Events, CliError> {
        let last = cluster.client().newest_events("default", None, 1).await?;
        Ok(Events { seen: last.last().map_or(0, |event| event.id) })
    }

    /// Prints what is new. A monitor that does not answer now is asked again soon.
    pub async fn show(&mut self, cluster: &Cluster<'_>) {
        let Ok(events) = cluster.client().newest_events("default", None, 50).await else { return };
        for event in events.into_iter().filter(|event| event.id > self.seen).collect::<Vec<_>>() {
            self.seen = event.id;
            // Health checks and the like: only who is told to become what is of interest.
            if event.rule.is_some() || event.description.contains("health") {
                let _ = say(&told(&event));
            }
        }
    }
}

fn told(event: &EventDetail) -> String {
    let time = event.time.split_whitespace().nth(1).unwrap_or_default();
    let rule = event.rule.map_or_else(String::new, |rule| format!(", rule {rule}"));
    format!("             {time} {}: {} -> {}{rule}", event.name, event.reported, event.goal)
}

fn look_around(ground: &Ground, monitors: &str, application: &str) -> Result<(), CliError> {
    let program = ground.program().display().to_string();
    say("")?;
    say("It keeps running. To look around:")?;
    say(&format!("  export PG_AUTOCTL_MONITOR='{monitors}'"))?;
    say(&format!("  {program} watch"))?;
    say(&format!("  {program} show state"))?;
    say(&format!("  {program} explain"))?;
    say(&format!("  {program} simulate --kill node1"))?;
    say(&format!("  {program} perform switchover"))?;
    say(&format!("  psql -U {} '{application}'", ground.application()))?;
    say("To stop and remove it:")?;
    say(&format!("  {program} demo --stop --directory {}", ground.directory().display()))
}
