//! Runs on worker processes whose workers, tasks, parent or system misbehave.
//!
//! Each test has workers of its own, or runs in a process of its own. No test waits for time to
//! pass: tests wait for a file that a task or an initializer makes, or for the state of a process.

#![cfg(all(target_os = "linux", not(miri)))]

#[path = "../contract/watchdog.rs"]
mod watchdog;

mod blame;
mod crash;
mod deeds;
mod fork;
mod forked;
mod garbage;
mod hang;
mod kill;
mod parent;
mod programs;
mod rights;
mod room;
mod shortage;
mod start;
mod threads;
