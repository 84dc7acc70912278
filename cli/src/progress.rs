//! A line at the foot of a terminal that says what is going on. Where nobody watches there is none.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Times a second that the line is drawn at most.
const RATE: u8 = 10;

static CURRENT: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn current() -> MutexGuard<'static, Option<ProgressBar>> {
    // Whoever panicked with it had only drawn a line.
    CURRENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What is going on, until it is dropped.
pub struct Line(ProgressBar);

impl Line {
    /// Something that takes as long as it takes.
    pub fn spinner(text: &str) -> Line {
        Line::start(None, "{spinner} {wide_msg} {elapsed}", text)
    }

    /// Something that is given up after that many seconds.
    pub fn seconds(text: &str, limit: u64) -> Line {
        Line::start(Some(limit), "{spinner} {bar:20} {elapsed} of {limit}  {wide_msg}", text)
    }

    /// Something of which the part that is done is known.
    pub fn percent(text: &str) -> Line {
        Line::start(Some(100), "{spinner} {bar:30} {pos:>3}% {elapsed}  {wide_msg}", text)
    }

    fn start(length: Option<u64>, template: &str, text: &str) -> Line {
        let target = ProgressDrawTarget::stderr_with_hz(RATE);
        let bar = ProgressBar::with_draw_target(length, target).with_message(text.to_string());
        let limit = length.unwrap_or_default();
        let style = ProgressStyle::with_template(template).map(|style| {
            style
                .progress_chars("#> ")
                .tick_chars("|/-\\ ")
                .with_key("limit", move |_: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                    let _ = write!(out, "{limit}s");
                })
                .with_key("elapsed", |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                    let _ = write!(out, "{}s", state.elapsed().as_secs());
                })
        });
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        *current() = Some(bar.clone());
        Line(bar)
    }

    pub fn text(&self, text: &str) {
        self.0.set_message(text.to_string());
    }

    pub fn at(&self, position: u64) {
        self.0.set_position(position);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.finish_and_clear();
        *current() = None;
    }
}

/// Prints with the line out of the way.
pub fn aside<T>(print: impl FnOnce() -> T) -> T {
    let bar = current().clone();
    match bar {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// A screen of its own is drawn on the terminal: a log line would be written right across it.
static SCREEN: AtomicBool = AtomicBool::new(false);

/// From now on, or until now, log lines are left out.
pub fn screen(drawn: bool) {
    SCREEN.store(drawn, Ordering::SeqCst);
}

/// Stderr for log lines. Nobody is left to hear that it is closed: that is not an error.
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !SCREEN.load(Ordering::SeqCst) {
            let _ = aside(|| io::stderr().write_all(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
