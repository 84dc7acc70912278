//! Results on stdout.

use std::io::{self, Write};

use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::exit::{CliError, Status};
use crate::progress;

/// Prints one line. A reader that went away (`| head`) ends the command quietly.
pub fn line(text: &str) -> Result<(), CliError> {
    match try_line(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// For those who must not end where they are when the reader goes away.
pub fn try_line(text: &str) -> io::Result<()> {
    progress::aside(|| writeln!(io::stdout().lock(), "{text}").and_then(|()| io::stdout().flush()))
}

/// Prints JSON as pg_autoctl does: four spaces to a level.
pub fn json(value: &Value) -> Result<(), CliError> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    serde::Serialize::serialize(value, &mut serializer)
        .map_err(|error| CliError::new(Status::Internal, error.to_string()))?;
    line(&String::from_utf8_lossy(&bytes))
}
