//! Bags: what iterators give, on every scheduler, however the items are cut into partitions.

#[path = "../contract/warnings.rs"]
mod warnings;
#[path = "../contract/watchdog.rs"]
#[allow(dead_code, reason = "not all that the contract of executors needs is needed here")]
mod watchdog;

mod chains;
mod graphs;
mod text;

/// A scheduler of each kind.
const SCHEDULERS: [&str; 3] = ["sync", "threads", "processes"];
