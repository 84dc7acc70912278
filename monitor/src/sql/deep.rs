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

/// Statements of more bytes than this are planned where they delay nobody.
const LONG: usize = 2048;

/// Plans a statement of `length` bytes. A long one takes milliseconds, in which the thread serves nobody
/// else: neither heartbeats nor other clients.
pub fn aside<T>(length: usize, work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let can_move = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    match length > LONG && can_move {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
}
