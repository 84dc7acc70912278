//! In-crate tests. `cluster` is the harness: three replicas in one process, with a switchable relay
//! on every directed link.

mod cluster;
mod elections;
