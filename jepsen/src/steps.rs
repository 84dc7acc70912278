//! Checks that share one cluster. A failed one does not hide what the later ones would say.

use std::time::Instant;

use crate::{Result, bail};

/// Runs named checks one after another and remembers which failed.
#[derive(Default)]
pub struct Steps {
    failed: Vec<String>,
}

impl Steps {
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs one check. `recover` brings the cluster back to rest after a failed one; when even
    /// that fails, the test ends.
    pub fn run(
        &mut self,
        name: &str,
        recover: impl FnOnce() -> Result<()>,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let started = Instant::now();
        let outcome = check();
        let took = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => eprintln!("  ok     {took:6.1} s  {name}"),
            Err(error) => {
                eprintln!("  FAILED {took:6.1} s  {name}: {error}");
                self.failed.push(format!("{name}: {error}"));
                if let Err(error) = recover() {
                    self.failed.push(format!("and the cluster did not come to rest: {error}"));
                    return self.verdict();
                }
            }
        }
        Ok(())
    }

    /// Fails when a check has failed.
    pub fn verdict(&self) -> Result<()> {
        if !self.failed.is_empty() {
            bail!("{} failed:\n{}", self.failed.len(), self.failed.join("\n"));
        }
        Ok(())
    }
}
