//! Checkers: pure functions from what was recorded to a verdict.

pub mod append;
pub mod bank;
pub mod linear;
pub mod primaries;
pub mod recovery;
pub mod registers;
pub mod replicas;
pub mod set;
pub mod simulated;

use std::fmt;

/// What a checker says. A checker that ran out of time or memory does not know, and a run with an
/// unknown verdict has not passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Valid,
    Unknown(String),
    Invalid(Vec<String>),
}

/// A verdict with its checker's name and the figures beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub checker: String,
    pub verdict: Verdict,
    /// Figures for the reader: "1200 reads".
    pub facts: Vec<String>,
}

/// How many violations of one checker are told in full.
const SHOWN: usize = 20;

impl Report {
    /// Valid without violations, invalid with them.
    pub fn of(checker: &str, violations: Vec<String>, facts: Vec<String>) -> Self {
        let verdict = if violations.is_empty() { Verdict::Valid } else { Verdict::Invalid(violations) };
        Self { checker: checker.to_owned(), verdict, facts }
    }

    pub fn unknown(checker: &str, why: impl Into<String>, facts: Vec<String>) -> Self {
        Self { checker: checker.to_owned(), verdict: Verdict::Unknown(why.into()), facts }
    }

    pub fn valid(&self) -> bool {
        self.verdict == Verdict::Valid
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match &self.verdict {
            Verdict::Valid => "valid",
            Verdict::Unknown(_) => "UNKNOWN",
            Verdict::Invalid(_) => "INVALID",
        };
        write!(f, "{word:8} {:18} {}", self.checker, self.facts.join(", "))?;
        match &self.verdict {
            Verdict::Valid => {}
            Verdict::Unknown(why) => write!(f, "\n    {why}")?,
            Verdict::Invalid(violations) => {
                for violation in violations.iter().take(SHOWN) {
                    write!(f, "\n    {violation}")?;
                }
                if violations.len() > SHOWN {
                    write!(f, "\n    and {} more", violations.len() - SHOWN)?;
                }
            }
        }
        Ok(())
    }
}

/// Seconds with three digits, for messages.
pub(crate) fn seconds(nanoseconds: u64) -> String {
    if nanoseconds == u64::MAX {
        return "never".to_owned();
    }
    format!("{:.3} s", nanoseconds as f64 / 1e9)
}
