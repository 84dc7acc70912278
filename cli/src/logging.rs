//! Log lines on stderr; results go to stdout.

use std::fmt;

use jiff::Zoned;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::registry::LookupSpan;

use monitor_client::MOVED;

use crate::args::{Cli, Verb};
use crate::program;

/// Time, process, level, text. A service adds the date and milliseconds.
struct Line {
    service: bool,
    colours: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = Zoned::now();
        let time = if self.service {
            now.strftime("%Y-%m-%d %H:%M:%S%.3f %Z")
        } else {
            now.strftime("%H:%M:%S")
        };
        let level = event.metadata().level();
        // The word says it already: colour only makes it quicker to find.
        let colour = match *level {
            Level::ERROR => "\x1b[31m",
            Level::WARN => "\x1b[33m",
            _ => "",
        };
        match self.colours && !colour.is_empty() {
            true => write!(out, "{time} {} {colour}{:5}\x1b[0m ", std::process::id(), level.as_str())?,
            false => write!(out, "{time} {} {:5} ", std::process::id(), level.as_str())?,
        }
        ctx.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// `PGQUORUM_LOG` holds a filter (`debug`, `info,raft_store=debug`); `-v` and `-q` are shorthands.
pub fn start(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "error",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    let service = match &cli.verb {
        Verb::Run(_) => true,
        Verb::Create(verb) => verb.runs(),
        _ => false,
    };
    // A keeper moves from monitor to monitor all the time, and tells in words of its own; and so does
    // a play in which monitors die.
    let moved = if service || matches!(&cli.verb, Verb::Demo(_)) { "off" } else { level };
    // openraft warns of every heartbeat that a dead replica does not take; raft-store says it once.
    let raft = if cli.verbose == 0 { "error" } else { "warn" };
    let usual = format!("{level},openraft={raft},sled=warn,tokio_postgres=warn,{MOVED}={moved}");
    let filter = std::env::var("PGQUORUM_LOG")
        .ok()
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(Line { service, colours: program::colours_stderr() })
        .init();
}
