//! Room for recursion over statements.
//!
//! Parser, planner and engine recurse over a tree that a client has shaped, and a stack that
//! overflows ends the process. `plan::split` bounds the depth; this makes room for it.

/// Enough for the deepest tree that is let through, in debug builds too, several times over.
const STACK: usize = 64 * 1024 * 1024;

/// Runs `work` on a stack of its own. Its pages are only touched as far as they are used.
pub fn deep<R>(work: impl FnOnce() -> R) -> R {
    stacker::grow(STACK, work)
}
