//! Clocks of machines, by way of libfaketime: it reads what to show from a file, each time anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Context, Lab, Result};

/// What the file says when the clock is right.
pub const RIGHT: &str = "+0";

const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

fn library() -> Option<&'static Path> {
    LIBRARIES.iter().map(Path::new).find(|path| path.exists())
}

/// Whether clocks can be changed here; the error says what is missing.
pub fn probe() -> Result<()> {
    library().context("libfaketime is missing (Debian: libfaketime)").map(drop)
}

fn file(lab: &Lab, machine: &str) -> PathBuf {
    lab.path(format!("clock-{machine}"))
}

/// From now on, what starts on this machine has a clock that can be changed.
pub fn enable(lab: &Lab, machine: &str) -> Result<()> {
    probe()?;
    set(lab, machine, RIGHT)
}

/// Gives a command the clock of its machine, where that has one.
pub fn attach(lab: &Lab, machine: &str, command: &mut Command) {
    let file = file(lab, machine);
    if let (true, Some(library)) = (file.exists(), library()) {
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", file).env("FAKETIME_NO_CACHE", "1");
    }
}

/// Whether this machine's clock can be changed.
pub fn enabled(lab: &Lab, machine: &str) -> bool {
    file(lab, machine).exists()
}

/// Sets a clock: an offset like `-500`, or a rate like `+0 x2`.
pub fn set(lab: &Lab, machine: &str, what: &str) -> Result<()> {
    let (path, new) = (file(lab, machine), lab.path(format!("clock-{machine}.new")));
    fs::write(&new, format!("{what}\n"))?;
    fs::rename(&new, &path).context(format!("set the clock of {machine}"))
}
