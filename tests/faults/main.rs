//! What becomes of runs on worker processes when workers, tasks, the parent or the system do what they should not.
//!
//! Each test has workers of its own and looks at these alone, or runs in a process of its own. None waits for time to pass: what a test
//! waits for is a file that a task or an initializer has made, or what the system says of a process.

#![cfg(all(target_os = "linux", not(miri)))]

#[path = "../contract/watchdog.rs"]
mod watchdog;

mod blame;
mod crash;
mod deeds;
mod fork;
mod garbage;
mod hang;
mod kill;
mod parent;
mod room;
mod shortage;
mod start;
mod threads;
