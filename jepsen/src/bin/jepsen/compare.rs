//! Several systems in one run.

use std::path::PathBuf;

use jepsen::compare;
use jepsen::system::{Tempo, Which};
use jepsen::{Context, Result};

#[derive(clap::Args)]
pub struct Args {
    /// pgquorum, pg_auto_failover, patroni; those that are not installed are left out
    #[arg(long, value_delimiter = ',', default_value = "pgquorum,pg_auto_failover,patroni")]
    systems: Vec<String>,
    /// How often each fault
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// The tightest timing that each system allows instead of its own default
    #[arg(long)]
    tight: bool,
    /// Where the table, the picture and the evidence go
    #[arg(long, default_value = "jepsen-runs/compare")]
    out: PathBuf,
}

pub fn compare(args: &Args) -> Result<bool> {
    let tempo = if args.tight { Tempo::Tight } else { Tempo::Default };
    let (mut all, mut complete) = (Vec::new(), true);
    for name in &args.systems {
        let which = Which::parse(name)?;
        match compare::measure(which, tempo, args.runs, &args.out) {
            Ok(found) => all.push(found),
            Err(error) => {
                eprintln!("{name} is left out: {error}");
                complete = false;
            }
        }
    }
    let text = compare::table(&all).text("Writers of three nodes under the same faults");
    println!("{text}");
    std::fs::create_dir_all(&args.out)?;
    std::fs::write(args.out.join("compare.md"), &text).context("write the table")?;
    std::fs::write(args.out.join("compare.svg"), compare::picture(&all)).context("write the picture")?;
    // Others may lose what they like: that is what the table is for.
    Ok(complete && all.iter().all(|found| found.system != Which::Pgquorum.name() || found.violated.is_empty()))
}
