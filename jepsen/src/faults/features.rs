//! What this machine can do to whom: asked before anything is started, so that a fault that cannot come is
//! skipped with its reason, and the others come.

use std::collections::BTreeMap;

use super::{Kind, clock, io};
use crate::{Result, disk};

/// What a kind of fault needs beyond networks and processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Disks that can be taken away.
    Disks,
    /// Clocks that can be changed.
    Clocks,
    /// System calls that can be answered by us.
    Calls,
}

impl Feature {
    pub const ALL: [Feature; 3] = [Feature::Disks, Feature::Clocks, Feature::Calls];

    pub fn name(self) -> &'static str {
        match self {
            Self::Disks => "disks",
            Self::Clocks => "clocks",
            Self::Calls => "system calls",
        }
    }

    /// Tries it out; the error says what is missing.
    pub fn probe(self) -> Result<()> {
        match self {
            Self::Disks => disk::probe(),
            Self::Clocks => clock::probe(),
            Self::Calls => io::probe(),
        }
    }
}

/// Kinds of faults that cannot be tried here, and why.
#[derive(Clone, Debug, Default)]
pub struct Missing(BTreeMap<Feature, String>);

impl Missing {
    /// Tries out what these kinds need, and says what cannot be had.
    pub fn probe(kinds: &[Kind]) -> Self {
        let mut missing = Self::default();
        for feature in Feature::ALL {
            let of: Vec<String> =
                kinds.iter().filter(|kind| kind.needs() == Some(feature)).map(|kind| kind.name()).collect();
            if !of.is_empty()
                && let Err(why) = feature.probe()
            {
                eprintln!("skipped here: {}: {why}", of.join(", "));
                missing.0.insert(feature, why.to_string());
            }
        }
        missing
    }

    /// Why this kind cannot be tried, if so.
    pub fn why(&self, kind: Kind) -> Option<&str> {
        self.0.get(&kind.needs()?).map(String::as_str)
    }

    /// Whether one of `kinds` needs this feature, and it is there.
    pub fn wants(&self, kinds: &[Kind], feature: Feature) -> bool {
        !self.0.contains_key(&feature) && kinds.iter().any(|kind| kind.needs() == Some(feature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_skipped_and_the_rest_is_not() {
        let missing = Missing(BTreeMap::from([(Feature::Disks, "needs root".to_owned())]));
        assert_eq!(missing.why(Kind::DeadDisk), Some("needs root"));
        assert_eq!((missing.why(Kind::ClockRate), missing.why(Kind::KillPrimary)), (None, None));
        let kinds = [Kind::PowerPrimary, Kind::IoErrors];
        assert!(!missing.wants(&kinds, Feature::Disks) && missing.wants(&kinds, Feature::Calls));
        assert!(!missing.wants(&kinds, Feature::Clocks));
    }
}
