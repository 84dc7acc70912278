//! The SQL facade over a monitor that lives in memory: real rules, no replication.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "sql/mock.rs"]
mod mock;
#[path = "sql/raw.rs"]
mod raw;

#[path = "sql/basics.rs"]
mod basics;
#[path = "sql/catalogue.rs"]
mod catalogue;
#[path = "sql/followers.rs"]
mod followers;
#[path = "sql/malformed.rs"]
mod malformed;
#[path = "sql/sessions.rs"]
mod sessions;
#[path = "sql/by_hand.rs"]
mod by_hand;
#[path = "sql/copies_and_cursors.rs"]
mod copies_and_cursors;
#[path = "sql/documentation.rs"]
mod documentation;
#[path = "sql/reports.rs"]
mod reports;
#[path = "sql/keepers.rs"]
mod keepers;
