//! Log lines on stderr; results go to stdout.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Mutex;

use jiff::Zoned;
use keeper::postgres::command::PROGRESS;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer, debug_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use monitor_client::MOVED;

use crate::args::declared::NodeVerb;
use crate::args::{Cli, Verb};
use crate::program;
use crate::progress::{self, Log};

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
        Verb::Node(NodeVerb::Run(_)) => true,
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
    let watched = std::io::stderr().is_terminal() && !cli.quiet;
    let shown = filter_fn(move |event| !(watched && event.target() == PROGRESS));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Log)
        .with_ansi(false)
        .fmt_fields(debug_fn(|out, field, value| match field.name() {
            "message" => write!(out, "{value:?}"),
            // The message has it already.
            "percent" => Ok(()),
            name => write!(out, " {name}={value:?}"),
        }))
        .event_format(Line { service, colours: program::colours_stderr() })
        .with_filter(shown);
    let bar = watched.then(Bar::default);
    tracing_subscriber::registry().with(filter).with(lines).with(bar).init();
}

/// Draws the part of a copy that is done, where somebody watches; elsewhere it is a line like others.
#[derive(Default)]
struct Bar(Mutex<Option<progress::Line>>);

impl<S: Subscriber> Layer<S> for Bar {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != PROGRESS {
            return;
        }
        let mut done = Done(None);
        event.record(&mut done);
        let Some(percent) = done.0 else { return };
        let mut line = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if percent >= 100 {
            *line = None;
        } else {
            line.get_or_insert_with(|| progress::Line::percent("copying the primary")).at(percent);
        }
    }
}

/// The field `percent` of an event.
struct Done(Option<u64>);

impl Visit for Done {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "percent" {
            self.0 = Some(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
