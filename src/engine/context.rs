//! What a run gets from the modules that use the engine: settings, the tasks' context, a sink for
//! results, and a timer.

#![expect(unsafe_code, reason = "a sink reads values of any type from untyped cells")]

use super::retry::Attempts;
use crate::error::{Error, Result};
use crate::graph::crossing::Encoded;
use crate::graph::retry::Backoff;
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::Codec;
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunSettings {
    /// Continues after a failure, with the tasks that do not depend on it.
    pub(crate) collect_errors: bool,
    /// Encodes and decodes every value of a portable task.
    pub(crate) check_portable: bool,
    /// How values are encoded.
    pub(crate) codec: Codec,
    pub(crate) num_workers: Option<NonZeroUsize>,
    /// The size of the stacks of threads that run tasks, in bytes.
    pub(crate) stack_size: usize,
    /// Failed tasks keep their inputs for a replay.
    pub(crate) keep_inputs: bool,
    /// The time without a settled task after which the run counts as stalled.
    pub(crate) stall_timeout: Option<Duration>,
    /// The time after which the run is stopped.
    pub(crate) run_timeout: Option<Duration>,
    /// How often a task that does not say so itself is tried again.
    pub(crate) retries: u32,
    /// How long such a task waits before that.
    pub(crate) backoff: Backoff,
}

/// The configuration that was in force where a run was started, and that is in force in its tasks.
pub(crate) trait TaskContext: Send + Sync {
    /// Calls `body` with the context in force on this thread.
    fn enter(&self, body: &mut dyn FnMut());

    /// The function and encoded state that recreate this context in another process.
    fn to_portable(&self) -> (&'static CodeDescriptor<Restore>, Vec<u8>);

    /// A hash of the environment variables that a new process would inherit from this one, without
    /// those for which `is_overridden` returns true.
    fn environment(&self, is_overridden: &dyn Fn(&OsStr) -> bool) -> u64;
}

/// Recreates a context from the state that [`TaskContext::to_portable`] encoded in another process.
pub(crate) type Restore = fn(&[u8]) -> Result<Box<dyn TaskContext>, String>;

/// Receives the result of each task of a run at once, for a caller that does not wait for the run.
pub(crate) trait ResultSink: Send + Sync {
    /// Whether the sink wants the value of a task. Such a task counts as an output.
    fn wants(&self, id: u32) -> bool;

    /// A [wanted](ResultSink::wants) task has left its value in its cell, where other tasks may
    /// still read it.
    ///
    /// # Safety
    /// The cell holds a value of the task's type, and the sink, one of its readers, has not
    /// released it before.
    unsafe fn finished(&self, id: u32, cell: &Cell);

    /// A wanted task has finished. Its value is `value`, and is not in its cell.
    fn finished_encoded(&self, id: u32, value: Arc<dyn Encoded>);

    /// A task has failed for good.
    fn failed(&self, id: u32, error: &Error);

    /// The attempts that a task had in earlier runs.
    fn earlier_attempts(&self, _id: u32) -> Attempts {
        Attempts::default()
    }

    /// Takes over a task that has failed and is to be tried again after `delay`, in another run.
    /// False if this run has to do it.
    fn retry_later(&self, _id: u32, _delay: Duration, _attempts: &Attempts) -> bool {
        false
    }
}

/// Calls functions after a time.
pub(crate) trait Timer: Send + Sync {
    /// Calls `action` after a time, unless the deadline is dropped before.
    fn start(&self, after: Duration, action: Box<dyn FnOnce() + Send>) -> Box<dyn Deadline>;
}

/// A call in the future. Dropping this prevents it.
pub(crate) trait Deadline: Send {}
