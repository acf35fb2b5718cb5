//! The state of one compute. It is passive: it spawns no thread, reads the clock only for
//! callbacks, and waits only for the end of a run.
//!
//! A [`Run`] is one execution of a plan and holds all mutable state. Executors ask it for the ready
//! tasks and run tasks through it. They never touch a task, a value or a counter themselves.
//! [`run`] has the states of a task and the invariants.

pub mod callback;
mod cancel;
#[cfg(all(test, not(loom)))]
mod check;
mod context;
mod countdown;
mod failure;
mod gate;
mod panics;
mod ready;
mod replay;
mod retry;
mod run;
pub(crate) mod single;
mod stall;
#[cfg(all(test, not(loom)))]
#[expect(unsafe_code, reason = "the tests run tasks and drop values as executors and owners do")]
mod tests;
mod tracker;
mod watch;

pub use cancel::{CancelListener, CancelToken, EnteredToken};
pub(crate) use context::{Deadline, Restore, ResultSink, RunSettings, TaskContext, Timer};
pub(crate) use panics::{InRun, describe as describe_panic, in_run, quietly};
pub use ready::ReadyTask;
pub(crate) use replay::{EncodedInputs, ReplayInputs};
pub(crate) use retry::Attempts;
pub use run::Run;
pub(crate) use run::{ParallelRef, RunAccess};
pub(crate) use stall::StallCheck;
