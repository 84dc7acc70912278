//! In-crate tests. `cluster` is the harness: three replicas in one process, with a switchable relay
//! on every directed link.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod allocations;
mod arbitrary_bytes;
mod chaos;
mod cluster;
mod damage;
mod elections;
mod formats;
mod frames;
mod lifecycle;
mod power_cut;
mod rejoining;
mod storage_suite;
mod tls;
