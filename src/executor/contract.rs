//! The contract of executors. It has a separate file, so that executors do not import the module
//! that lists them.

use crate::engine::Run;
use std::sync::Arc;

/// Runs the tasks of a run. Anything with threads can be an executor.
///
/// # The contract
///
/// [`execute`](Executor::execute) takes the [`ready`](Run::ready) tasks of the run and calls
/// [`run`](crate::ReadyTask::run) on each, on any thread and in any order. Each call returns
/// further ready tasks, which `execute` runs in the same way. `execute` returns when the run has
/// ended: all tasks have finished, or the run was stopped and no task is running. [`Run::wait`]
/// waits for that.
///
/// The engine does the rest, for every executor. It drops a value or moves it to its last reader,
/// names the task in a failure, obeys retries and timeouts, ends a cancelled run within one task,
/// and puts the configuration of the run in force in its tasks. A task that is dropped without
/// being run, and an `execute` that returns too early, end the run with an error of kind
/// [`Executor`](crate::ErrorKind::Executor), not with a hang.
///
/// A task may start another compute and wait for it. So an executor with a fixed number of threads
/// must not wait for a free thread in `execute`. It can run some of the tasks on the calling
/// thread.
///
/// # Examples
/// One thread for each task that is ready:
/// ```
/// use sprang::{Executor, ReadyTask, Run, delayed};
/// use std::sync::Arc;
///
/// struct ThreadPerTask;
///
/// fn start(task: ReadyTask) {
///     std::thread::spawn(move || task.run().into_iter().for_each(start));
/// }
///
/// impl Executor for ThreadPerTask {
///     fn name(&self) -> &str {
///         "thread per task"
///     }
///
///     fn execute(&self, run: &Arc<Run>) {
///         run.ready().into_iter().for_each(start);
///         run.wait();
///     }
/// }
///
/// let parts: Vec<_> = (1..=4_u64).map(|i| delayed(|i| i * i, (i,))).collect();
/// let total = delayed(|parts| parts.iter().sum::<u64>(), (&parts,));
/// assert_eq!(total.compute_with(ThreadPerTask)?, 30);
/// # Ok::<_, sprang::Error>(())
/// ```
pub trait Executor: Send + Sync {
    /// A short name for messages.
    fn name(&self) -> &str;

    /// Takes the run to its end.
    fn execute(&self, run: &Arc<Run>);
}
