//! The decoders of foreign bytes as functions of those bytes alone: what `monitor/fuzz` and the
//! tests call. Compiled with the feature `fuzzing` and in tests; no part of the crate's API.
//!
//! Each function returns an error when a property does not hold. Refused bytes are no error.

use failover::{Outcome, State, apply};
use futures::FutureExt;

use crate::codec::{self, Kind};
use crate::config::Config;
use crate::health;

pub use crate::sql::fuzzing::{bind_values, first_packet, forwarded, frontend, scram, sql, sql_repeated};

/// What was read is written, and reads as the same bytes again.
fn again<T: codec::Value>(kind: Kind, value: &T) -> Result<(), String> {
    let text = |e: codec::CodecError| format!("{kind:?}: {e}");
    let bytes = codec::encode(kind, value).map_err(text)?;
    let back: T = codec::decode(kind, &bytes).map_err(text)?;
    if codec::encode(kind, &back).map_err(text)? == bytes { Ok(()) } else { Err(format!("{kind:?} came back changed")) }
}

/// Outcomes (log entries) and states (snapshots). Even first byte: as it is; odd: with a valid
/// head, and whatever could be read is applied.
pub fn replicated(data: &[u8]) -> Result<(), String> {
    let Some((which, body)) = data.split_first() else { return Ok(()) };
    let framed = |kind: Kind| match which % 2 {
        0 => body.to_vec(),
        _ => [&[kind as u8, 0, 1 + which / 2 % 2], body].concat(),
    };
    let mut state = State::default();
    if let Ok(read) = codec::decode::<State>(Kind::State, &framed(Kind::State)) {
        again(Kind::State, &read)?;
        state = read;
    }
    if let Ok(outcome) = codec::decode::<Outcome>(Kind::Outcome, &framed(Kind::Outcome)) {
        again(Kind::Outcome, &outcome)?;
        apply(&mut state, &outcome);
        again(Kind::State, &state)?;
    }
    let _ = codec::decode::<codec::Text>(Kind::LogMessage, &framed(Kind::LogMessage));
    Ok(())
}

/// What a probed server answers.
pub fn health_answer(data: &[u8]) -> Result<(), String> {
    let mut stream = tokio::io::join(data, tokio::io::sink());
    match health::converse(&mut stream).now_or_never() {
        Some(_) => Ok(()),
        None => Err("the probe waits although the server has hung up".to_string()),
    }
}

/// The list of replicas in the configuration and on the command line.
pub fn replicas(data: &[u8]) -> Result<(), String> {
    let Ok(text) = std::str::from_utf8(data) else { return Ok(()) };
    let Ok(replicas) = Config::parse_replicas(text) else { return Ok(()) };
    let written = Config::format_replicas(&replicas);
    match Config::parse_replicas(&written) {
        Ok(back) if back == replicas => Ok(()),
        other => Err(format!("{text:?} is written as {written:?}, which reads as {other:?}")),
    }
}

#[cfg(test)]
mod allocations;
#[cfg(test)]
mod tests;
