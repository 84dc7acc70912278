//! Plans by text: stock clients send the same forty statements for ever.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Planned, Piece};
use crate::sql::error::SqlError;

/// Texts longer than this are planned anew each time.
const LONGEST_TEXT: usize = 8 * 1024;
/// Entries in one generation; two are kept.
const GENERATION: usize = 512;

type Entries = HashMap<String, Vec<(Vec<u32>, Arc<Planned>)>>;

/// A bounded cache. When the young generation is full it becomes the old one; what is used again
/// is promoted, what is not goes with its generation.
#[derive(Default)]
pub struct PlanCache {
    generations: Mutex<(Entries, Entries)>,
}

fn find(entries: &Entries, text: &str, oids: &[u32]) -> Option<Arc<Planned>> {
    entries.get(text)?.iter().find(|(o, _)| o == oids).map(|(_, p)| p.clone())
}

impl PlanCache {
    /// The plan of a query string that is one statement; `None` when it is not in the cache.
    pub fn get(&self, text: &str, oids: &[u32]) -> Option<Arc<Planned>> {
        let mut guard = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let (young, old) = &mut *guard;
        if let Some(found) = find(young, text, oids) {
            return Some(found);
        }
        let found = find(old, text, oids)?;
        insert(young, old, text, oids, found.clone());
        Some(found)
    }

    /// Plans a query string that is at most one statement, and remembers the plan.
    ///
    /// # Errors
    /// As [`super::plan`]; 42601 for more than one statement.
    pub fn plan(&self, text: &str, oids: &[u32], test_mode: bool) -> Result<Arc<Planned>, SqlError> {
        if let Some(found) = self.get(text, oids) {
            return Ok(found);
        }
        let pieces = super::split(text)?;
        let planned = match pieces.as_slice() {
            [] => Planned { text: String::new(), plan: super::Plan::Empty, param_oids: oids.to_vec() },
            [one] => super::plan(text, one, oids, test_mode)?,
            _ => return Err(SqlError::new("42601", "cannot insert multiple commands into a prepared statement")),
        };
        Ok(self.keep(text, oids, planned))
    }

    /// As [`PlanCache::plan`], for one piece of a longer query string.
    pub fn plan_piece(&self, query: &str, piece: &Piece, test_mode: bool) -> Result<Arc<Planned>, SqlError> {
        super::plan(query, piece, &[], test_mode).map(Arc::new)
    }

    fn keep(&self, text: &str, oids: &[u32], planned: Planned) -> Arc<Planned> {
        let planned = Arc::new(planned);
        if text.len() <= LONGEST_TEXT {
            let mut guard = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
            let (young, old) = &mut *guard;
            insert(young, old, text, oids, planned.clone());
        }
        planned
    }
}

fn insert(young: &mut Entries, old: &mut Entries, text: &str, oids: &[u32], planned: Arc<Planned>) {
    if young.len() >= GENERATION {
        *old = std::mem::take(young);
    }
    let variants = young.entry(text.to_string()).or_default();
    // One text with ever new parameter types is somebody probing, not a client.
    if variants.len() >= 8 {
        variants.clear();
    }
    variants.push((oids.to_vec(), planned));
}
