//! Mistakes on purpose, for tests that must notice them.

use failover::mutant::{self, Mutant};

/// Makes the mistake that `PGQUORUM_MUTANT` names; none without it.
pub fn choose() -> Result<(), String> {
    let Some(name) = std::env::var("PGQUORUM_MUTANT").ok() else { return Ok(()) };
    let mutant = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
    let mutant = mutant.ok_or(format!("PGQUORUM_MUTANT: there is no mutant \"{name}\""))?;
    eprintln!("THIS PROCESS MAKES MISTAKES ON PURPOSE: {name}");
    mutant::choose(Some(mutant));
    monitor::mutant();
    Ok(())
}
