//! `pgquorum demo`: a failover on one machine. Three monitors and three PostgreSQL nodes come up, a client
//! writes, the leading monitor dies, the primary dies, and what that cost is counted.

mod cluster;
mod ground;
mod processes;
mod writer;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use monitor_client::EventDetail;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::args::play::Demo;
use crate::exit::{CliError, Status};
use crate::output;
use crate::verbs::block_on;
use crate::verbs::show::state;
use cluster::Cluster;
use ground::{APPLICATION, Ground};
use writer::Writer;

pub fn run(args: &Demo) -> Result<(), CliError> {
    if args.stop {
        let directory = args.directory.clone().unwrap_or_default();
        return ground::stop(&directory);
    }
    let ground = Ground::prepare(args)?;
    let mut monitors = String::new();
    let result = block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let cluster = Cluster::new(&ground);
        monitors = cluster.monitors_uri();
        let stopped = |how: &str| Err(CliError::new(Status::Interrupted, format!("{how}: everything is stopped and removed")));
        tokio::select! {
            outcome = play(&cluster, args.keep) => outcome,
            _ = interrupt.recv() => stopped("interrupted"),
            _ = terminate.recv() => stopped("terminated"),
            _ = hangup.recv() => stopped("the terminal is gone"),
        }
    });
    match result {
        Ok((uri, primary)) if args.keep => look_around(&ground, &monitors, &uri, &primary),
        Ok(_) => {
            ground.clean_up()?;
            say("Everything is stopped and removed again; with --keep it stays, to look around.")
        }
        Err(error) => {
            if error.status != Status::Interrupted {
                ground.show_logs();
            }
            ground.clean_up()?;
            Err(error)
        }
    }
}

/// A reader that goes away (`| head`) ends the play, but not before everything is cleaned up.
fn say(text: &str) -> Result<(), CliError> {
    output::try_line(text).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::new(Status::Interrupted, "nobody reads on"),
        _ => error.into(),
    })
}

/// Lines with the time since the beginning.
pub struct Teller {
    began: Instant,
}

impl Teller {
    fn act(&self, number: u8, title: &str) -> Result<(), CliError> {
        say(&format!("\n{number}. {title}"))
    }

    fn tell(&self, text: &str) -> Result<(), CliError> {
        let elapsed = self.began.elapsed();
        say(&format!("[{:4}.{} s] {text}", elapsed.as_secs(), elapsed.subsec_millis() / 100))
    }
}

/// The play. Returns the application's connection string and the primary's name.
async fn play(cluster: &Cluster<'_>, keep: bool) -> Result<(String, String), CliError> {
    let teller = Teller { began: Instant::now() };
    say(&cluster.introduction(keep))?;
    teller.act(1, "Three monitors and three PostgreSQL nodes come up")?;
    come_up(cluster, &teller).await?;
    let uri = cluster.application_uri().await?;

    teller.act(2, "A client writes row after row and counts what is acknowledged")?;
    let mut writer = Writer::start(&uri, APPLICATION).await?;
    writer.more_than(100, Duration::from_secs(20)).await?;
    teller.tell(&format!("{} rows acknowledged so far", writer.acknowledged()))?;

    let mut events = Events::from_now(cluster).await?;
    teller.act(3, "The monitor that leads dies")?;
    let leader = cluster.leader("").await?;
    teller.tell(&format!("kill -9 {leader}"))?;
    let killed = Instant::now();
    cluster.kill(&leader)?;
    let next = cluster.leader(&leader).await?;
    let election = killed.elapsed().as_millis();
    teller.tell(&format!("{next} leads, {election} ms later"))?;
    writer.more_than(writer.acknowledged() + 100, Duration::from_secs(20)).await?;
    let pause = writer.longest_gap(killed).as_millis();
    teller.tell(&format!("the client hardly noticed: its longest pause was {pause} ms"))?;

    teller.act(4, "The primary dies, and the monitors are one short")?;
    let primary = cluster.primary("").await?;
    events.show(cluster, &teller).await?;
    teller.tell(&format!("kill -9 {primary}: its keeper and all of its PostgreSQL"))?;
    let before = writer.acknowledged();
    let killed = Instant::now();
    cluster.kill(&primary)?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while !writer.resumed(killed) {
        events.show(cluster, &teller).await?;
        if Instant::now() > deadline {
            return Err(CliError::new(Status::BadState, "no row was acknowledged within 120 s of the primary's death"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    writer.more_than(before + 100, Duration::from_secs(60)).await?;
    events.show(cluster, &teller).await?;
    let outage = writer.longest_gap(killed).as_millis();
    let promoted = cluster.primary(&primary).await?;
    teller.tell(&format!("{promoted} takes the writes; they failed for {outage} ms"))?;

    teller.act(5, "The dead start again")?;
    teller.tell(&format!("{leader} and {primary} are started again"))?;
    cluster.run_monitor(&leader)?;
    cluster.run_node(&primary)?;
    let nodes = cluster.rejoined(&leader, &mut events, &teller).await?;
    teller.tell(&format!("{leader} follows again, and the old primary {primary} is a standby:"))?;
    say(state::brief(&nodes).trim_end())?;

    let lost = writer.stop_and_count_lost(&uri).await?;
    let rows = writer.acknowledged();
    say(&format!("\nResult: {rows} rows acknowledged, {lost} acknowledged rows lost"))?;
    say(&format!("        {outage:6} ms without writes when the primary died"))?;
    say(&format!("        {pause:6} ms when the leading monitor died\n"))?;
    match lost {
        0 => Ok((uri, promoted)),
        _ => Err(CliError::new(Status::BadState, format!("{lost} acknowledged rows are gone"))),
    }
}

async fn come_up(cluster: &Cluster<'_>, teller: &Teller) -> Result<(), CliError> {
    teller.tell(&format!("monitors m1, m2, m3 at ports {}", cluster.monitor_ports()))?;
    cluster.start_monitors().await?;
    teller.tell(&format!("{} was elected to lead, the others follow", cluster.leader("").await?))?;
    cluster.hurry(teller).await?;
    for number in 1..=3 {
        let how = if number == 1 { "made by initdb" } else { "copied from the primary with pg_basebackup" };
        teller.tell(&format!("node{number} at port {}, {how}", cluster.node_port(number)))?;
        cluster.create_node(number).await?;
    }
    let nodes = cluster.settled().await?;
    teller.tell("a primary and two standbys:")?;
    say(state::brief(&nodes).trim_end())
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
    pub async fn show(&mut self, cluster: &Cluster<'_>, teller: &Teller) -> Result<(), CliError> {
        let Ok(events) = cluster.client().newest_events("default", None, 50).await else { return Ok(()) };
        for event in events.into_iter().filter(|event| event.id > self.seen).collect::<Vec<_>>() {
            self.seen = event.id;
            if let Some(text) = told(&event) {
                teller.tell(&text)?;
            }
        }
        Ok(())
    }
}

/// A decision, or what the monitors noticed by themselves; not that a node has done what it was told.
fn told(event: &EventDetail) -> Option<String> {
    match event.rule {
        Some(_) => Some(format!("  {}: {:18} {}", event.name, event.goal, meaning(&event.goal))),
        None if event.description.contains("unhealthy") => Some(format!("  {} is found unreachable", event.name)),
        None => None,
    }
}

/// What a node is told with that state, for somebody who has never seen one.
fn meaning(goal: &str) -> &'static str {
    match goal {
        "draining" => "it counts as lost: no more writes there",
        "report_lsn" => "let go of the primary; how far are you?",
        "fast_forward" => "fetch what another standby has more",
        "prepare_promotion" => "it has every acknowledged row: get ready",
        "stop_replication" | "wait_primary" => "promoted: take the writes",
        "demote_timeout" => "wait until the old primary has stopped for sure",
        "demoted" => "its time as primary is over",
        "join_secondary" | "secondary" => "be a standby of the primary",
        "catchingup" => "get what was missed",
        "join_primary" | "apply_settings" => "take up a change of the standbys",
        "primary" => "commits wait for a standby again",
        _ => "",
    }
}

fn look_around(ground: &Ground, monitors: &str, application: &str, primary: &str) -> Result<(), CliError> {
    let directory = ground.directory().display();
    ground.write_environment(monitors, application)?;
    say("It keeps running. To look around:\n")?;
    say(&format!("  . {directory}/env"))?;
    let simulate = format!("pgquorum simulate --kill {primary}");
    for (command, what) in [
        ("pgquorum watch", "a screen of monitors, nodes and events"),
        ("pgquorum show events", "what happened"),
        ("pgquorum explain", "why it does, or does not, fail over"),
        (simulate.as_str(), "what would follow; nothing is touched"),
        ("pgquorum perform switchover", "another primary, now"),
        ("psql", "the application's database, at the primary"),
    ] {
        say(&format!("  {command:32}{what}"))?;
    }
    say(&format!("\nTo stop and remove it:\n\n  {directory}/pgquorum demo --stop --directory {directory}"))
}
