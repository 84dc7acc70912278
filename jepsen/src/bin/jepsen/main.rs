//! Attacks a system and says whether it kept its promises.

mod compare;
mod regress;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use jepsen::faults::Kind;
use jepsen::faults::features::Feature;
use jepsen::faults::schedule::{self, Pace};
use jepsen::net::userns;
use jepsen::run::{self, INTERRUPTED, Outcome, Plan, Workloads};
use jepsen::system::{Tempo, Which};
use jepsen::{Lab, Result, soak};

#[derive(Parser)]
#[command(about = "Attacks replicated PostgreSQL with real faults and checks what clients saw")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// One run with a random schedule; the same seed gives the same schedule
    Run(RunArgs),
    /// Runs with one seed after the other, and a table of them; goes on where `--out` has runs already
    Soak {
        #[command(flatten)]
        run: RunArgs,
        /// Hours, e.g. 0.5
        #[arg(long, default_value_t = 1.0)]
        hours: f64,
        /// Ends earlier when all runs in `--out` together have had so many failovers
        #[arg(long)]
        failovers: Option<i64>,
    },
    /// Scripted regressions against our monitors and nodes
    Regress {
        /// Scripts by name; none means all of them
        names: Vec<String>,
        /// Clients take a cancelled wait for an acknowledgement: a mistake that must be found
        #[arg(long)]
        ignore_notices: bool,
        /// Where the evidence goes
        #[arg(long, default_value = "jepsen-runs")]
        out: PathBuf,
    },
    /// Makes one mistake after the other and demands that the scripts find it
    Mutants {
        /// Mistakes by name; none means all of them
        names: Vec<String>,
        /// `pgquorum` built with `--features mutants`; built where it is not given
        #[arg(long)]
        binary: Option<PathBuf>,
        /// Each script once without the mistake first, which must pass
        #[arg(long)]
        control: bool,
        /// Where the evidence goes
        #[arg(long, default_value = "jepsen-runs")]
        out: PathBuf,
    },
    /// Says which faults this machine and this user can have, and why not the others; exit code 1 without networks
    Probe,
    /// The same faults and clients against each installed system; a table and a picture
    Compare(compare::Args),
}

#[derive(clap::Args, Clone)]
struct RunArgs {
    /// What decides about faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Length of the attack; bringing up, recovery and checks come on top
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Faults by name, or `smoke`, `basic`, `all`, `none`
    #[arg(long, default_value = "basic")]
    faults: String,
    /// pgquorum, pg_auto_failover or patroni
    #[arg(long, default_value = "pgquorum")]
    system: String,
    /// The system's own default timing instead of the fastest that it allows
    #[arg(long)]
    default_timing: bool,
    /// Where the evidence goes
    #[arg(long, default_value = "jepsen-runs")]
    out: PathBuf,
    /// How far apart faults begin, at least and at most, in milliseconds
    #[arg(long, value_parser = range, default_value = "4000,11000")]
    gap: (u64, u64),
    /// How long they last, at least and at most, in milliseconds
    #[arg(long, value_parser = range, default_value = "3000,12000")]
    lasts: (u64, u64),
}

/// `LEAST,MOST`.
fn range(text: &str) -> std::result::Result<(u64, u64), String> {
    let wrong = || "two numbers are wanted, the smaller one first, such as 4000,11000".to_owned();
    let (least, most) = text.split_once(',').ok_or_else(wrong)?;
    match (least.trim().parse(), most.trim().parse()) {
        (Ok(least), Ok(most)) if least <= most => Ok((least, most)),
        _ => Err(wrong()),
    }
}

fn main() -> ExitCode {
    match work(Args::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn work(verb: Verb) -> Result<bool> {
    if !matches!(verb, Verb::Probe) {
        userns::enter()?;
        interrupts();
    }
    match verb {
        Verb::Run(args) => one(&args, args.seed).map(|outcome| outcome.passed()),
        Verb::Soak { run, hours, failovers } => soak(&run, hours, failovers),
        Verb::Regress { names, ignore_notices, out } => regress::regress(&names, ignore_notices, &out),
        Verb::Mutants { names, binary, control, out } => regress::mutants(&names, binary, control, &out),
        Verb::Compare(args) => compare::compare(&args),
        Verb::Probe => Ok(probe()),
    }
}

/// Whether there are networks, without which nothing runs.
fn probe() -> bool {
    let networks = match userns::privileged() {
        true => jepsen::net::probe(),
        false => userns::probe(),
    };
    let all = Feature::ALL.map(|feature| (feature.name(), feature.probe()));
    for (name, probed) in [("networks", &networks)].into_iter().chain(all.iter().map(|(name, probed)| (*name, probed))) {
        match probed {
            Ok(()) => println!("{name:<14} yes"),
            Err(why) => println!("{name:<14} no: {why}"),
        }
    }
    networks.is_ok()
}

/// The first Ctrl-C ends the run in order, with everything healed.
fn interrupts() {
    std::thread::spawn(|| {
        _ = jepsen::sql::block_on(async {
            _ = tokio::signal::ctrl_c().await;
        });
        eprintln!("ending this run; faults are healed first");
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
}

fn plan(args: &RunArgs, seed: u64) -> Result<Plan> {
    let which = Which::parse(&args.system)?;
    let wanted = schedule::parse(&args.faults)?;
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    Ok(Plan {
        which,
        tempo: if args.default_timing { Tempo::Default } else { Tempo::Tight },
        seed,
        schedule: schedule::random(&wanted, length, seed, Pace { gap: args.gap, lasts: args.lasts }),
        wanted,
        length,
        recovery: Duration::from_secs(90),
        stale: if which == Which::Pgquorum { run::STALE } else { run::STALE_OF_OTHERS },
        workloads: Workloads { transactions: true, monitors: which == Which::Pgquorum, hurry: false },
        ignore_notices: false,
    })
}

fn one(args: &RunArgs, seed: u64) -> Result<Outcome> {
    let plan = plan(args, seed)?;
    plan.which.requirements()?;
    let out = args.out.join(format!("{}-{seed}", plan.which.name()));
    let lab = Lab::new("run")?;
    let outcome = run::run(&lab, &plan, &out)?;
    for report in &outcome.reports {
        println!("{report}");
    }
    println!(
        "seed {seed}: {}; {} failovers, {} writes acknowledged, {} lost; evidence: {}",
        if outcome.passed() { "passed" } else { "NOT passed" },
        outcome.failovers,
        outcome.acknowledged,
        outcome.lost,
        out.display()
    );
    Ok(outcome)
}

fn soak(args: &RunArgs, hours: f64, failovers: Option<i64>) -> Result<bool> {
    let until = Instant::now() + Duration::from_secs_f64(hours * 3600.0);
    let mut lines = soak::read(&args.out)?;
    let wanted: Vec<String> = schedule::parse(&args.faults)?.into_iter().map(Kind::name).collect();
    let mut seed = lines.iter().map(|line| line.seed + 1).max().unwrap_or(0).max(args.seed);
    let enough =
        |lines: &[soak::Line]| failovers.is_some_and(|wanted| lines.iter().map(|l| l.failovers).sum::<i64>() >= wanted);
    while Instant::now() < until && !enough(&lines) && !INTERRUPTED.load(Ordering::Relaxed) {
        let began = Instant::now();
        let outcome = one(args, seed);
        if let Err(error) = &outcome {
            eprintln!("seed {seed}: {error}");
        }
        // A run that was cut short says nothing.
        if !INTERRUPTED.load(Ordering::Relaxed) {
            let line = soak::Line::new(seed, &args.faults, began.elapsed().as_secs(), &outcome);
            line.append(&args.out)?;
            println!("seed {seed} in this soak, coverage aside: {}", line.verdict());
            lines.push(line);
        }
        seed += 1;
    }
    let (text, passed) = soak::summary(&lines, &wanted);
    println!("{text}");
    Ok(passed)
}
