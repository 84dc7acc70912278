//! Clocks of machines, by way of libfaketime: it reads what to show from a file, each time anew.

use std::fs;
use std::path::{Path, PathBuf};

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

/// From now on, what starts on this machine has a clock that can be changed. Where it `jumps`, the
/// monotonic one stays as it is: no kernel's goes back, and a program that saw it do so would wait for
/// nothing any more. Then a machine that runs at another rate must be started with it.
pub fn enable(lab: &Lab, machine: &str, jumps: bool) -> Result<()> {
    probe()?;
    if jumps {
        fs::write(mark(lab, machine), "")?;
    }
    set(lab, machine, RIGHT)
}

fn mark(lab: &Lab, machine: &str) -> PathBuf {
    lab.path(format!("clock-{machine}.jumps"))
}

/// Whether only a start changes this machine's rate.
pub fn jumps(lab: &Lab, machine: &str) -> bool {
    mark(lab, machine).exists()
}

fn has_rate(what: &str) -> bool {
    what.contains(" x")
}

/// What comes before a program's name, so that it has the clock of its machine, where that has one. The
/// program alone is given the library, not what changes the user before it: libfaketime's semaphore
/// would belong to root.
pub fn prefix(lab: &Lab, machine: &str) -> Vec<String> {
    let file = file(lab, machine);
    match library() {
        Some(library) if file.exists() => {
            let rate = has_rate(&fs::read_to_string(&file).unwrap_or_default());
            let keep = u8::from(jumps(lab, machine) && !rate);
            vec![
                "env".to_owned(),
                format!("LD_PRELOAD={}", library.display()),
                format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
                "FAKETIME_NO_CACHE=1".to_owned(),
                // Its name in releases before and since 0.9.9.
                format!("DONT_FAKE_MONOTONIC={keep}"),
                format!("FAKETIME_DONT_FAKE_MONOTONIC={keep}"),
            ]
        }
        _ => Vec::new(),
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
