//! Mistakes on purpose, one per process: tests must notice each of them. Only with the feature `mutants`.
//!
//! This crate has the list because all others that make such mistakes import it; what is mutated lies with
//! the rule that it breaks.

use core::sync::atomic::{AtomicU8, Ordering};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// A standby reports its position without having cut itself off from the primary.
    SealSkipped = 1,
    /// A promotion is decided with n-k seals instead of n-k+1.
    CountsNMinusK,
    /// The most advanced standby is chosen by its position alone, whatever its timeline.
    ComparesRawLsn,
    /// A promotion is decided without asking whether the last primary's standbys had caught up with it.
    ForgetsTheBeginning,
    /// A primary stops waiting for standbys by itself when they are gone.
    SyncDropped,
    /// The monitors' log is flushed by sled and not synced.
    NoSync,
    /// A read lease counts from the moment when the answer came.
    LeaseFromReceipt,
    /// Monitors answer reads from what they have applied, without proof that it is the newest.
    LocalReads,
}

impl Mutant {
    pub const ALL: [Mutant; 8] = [
        Mutant::SealSkipped,
        Mutant::CountsNMinusK,
        Mutant::ComparesRawLsn,
        Mutant::ForgetsTheBeginning,
        Mutant::SyncDropped,
        Mutant::NoSync,
        Mutant::LeaseFromReceipt,
        Mutant::LocalReads,
    ];

    /// As in the environment variable `PGQUORUM_MUTANT`.
    pub fn name(self) -> &'static str {
        match self {
            Mutant::SealSkipped => "seal-skipped",
            Mutant::CountsNMinusK => "n-k",
            Mutant::ComparesRawLsn => "raw-lsn",
            Mutant::ForgetsTheBeginning => "beginning-forgotten",
            Mutant::SyncDropped => "sync-dropped",
            Mutant::NoSync => "no-sync",
            Mutant::LeaseFromReceipt => "lease-from-receipt",
            Mutant::LocalReads => "local-reads",
        }
    }
}

static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// From now on this process makes one mistake, or none.
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.store(mutant.map_or(0, |mutant| mutant as u8), Ordering::Relaxed);
}

pub fn is(mutant: Mutant) -> bool {
    CHOSEN.load(Ordering::Relaxed) == mutant as u8
}
