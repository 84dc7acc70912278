//! Drives real processes: monitors (ours and the stock one), PostgreSQL nodes under stock
//! `pg_autoctl`, clients that write all the while, and faults.
//!
//! A test is a function of a [`Lab`]: a directory, a block of ports and everything that was started
//! there. When the function ends, however it ends, the processes are killed and the directory is
//! removed; after a failure the logs stay, and their path is printed.

pub mod bench;
pub mod check;
pub mod cluster;
pub mod command;
pub mod compare;
pub mod disk;
pub mod failure;
pub mod faults;
pub mod history;
pub mod lab;
pub mod load;
pub mod monitors;
pub mod net;
pub mod nodes;
pub mod own_nodes;
pub mod ports;
pub mod process;
pub mod raw;
pub mod requirements;
pub mod run;
pub mod scripts;
pub mod shape;
pub mod soak;
pub mod sql;
pub mod steps;
pub mod sys;
pub mod system;
pub mod wait;
pub mod writer;

pub use cluster::Cluster;
pub use failure::{Context, Failure, Result};
pub use lab::Lab;
pub use monitors::{Kind, Monitors};
pub use nodes::StockNode;
pub use own_nodes::{Group, OwnNode};
pub use steps::Steps;
