//! Executors: each takes a run to its end, and decides where its tasks run.
//!
//! [`sync`] runs tasks on the calling thread and is the one to read first. [`threads`] adds helper
//! threads, and [`processes`] runs tasks in worker processes. Executors call the engine; the engine
//! calls no executor. They share [`timer`] and [`watchdog`].

mod contract;
pub(crate) mod processes;
pub(crate) mod remote;
mod scheduler;
pub(crate) mod sync;
pub(crate) mod threads;
pub(crate) mod timer;
pub(crate) mod watchdog;

pub use contract::Executor;
pub use scheduler::Scheduler;
