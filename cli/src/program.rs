//! The program itself: the name that it was called by, and since when it runs.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Instant;

pub const NAME: &str = "pgquorum";
/// What scripts written for pg_auto_failover call: a link to this program.
pub const STOCK_NAME: &str = "pg_autoctl";

static STARTED: OnceLock<Instant> = OnceLock::new();

/// To be called first.
pub fn start() {
    STARTED.get_or_init(Instant::now);
}

/// Whole seconds since the start.
pub fn running_seconds() -> u64 {
    STARTED.get_or_init(Instant::now).elapsed().as_secs()
}

/// The name in messages and help: that of the link, if it is pg_autoctl's.
pub fn name() -> &'static str {
    let called = std::env::args_os().next();
    let file = called.as_deref().and_then(|path| std::path::Path::new(path).file_name());
    if file.is_some_and(|file| file == STOCK_NAME) { STOCK_NAME } else { NAME }
}

/// A text with the commands in it called as this program was.
pub fn renamed(text: &str) -> Cow<'_, str> {
    match name() {
        NAME => Cow::Borrowed(text),
        other => Cow::Owned(text.replace("pgquorum ", &format!("{other} "))),
    }
}

/// Columns of the terminal that stdout is; `None`: it is none, or nobody knows.
pub fn stdout_width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let (columns, _) = ratatui::crossterm::terminal::size().ok()?;
    (columns > 0).then_some(usize::from(columns))
}

/// Colour is for people, on a terminal, and only where they did not decline (https://no-color.org).
pub fn colours_stderr() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stderr().is_terminal()
}
