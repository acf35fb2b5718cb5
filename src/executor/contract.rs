//! The contract that every executor keeps. A file of its own, so that executors import it and not the
//! module that lists them.

use crate::engine::Run;
use std::sync::Arc;

/// Takes runs to their end. Anything with threads can be one.
///
/// # The contract
///
/// [`execute`](Executor::execute) takes the [`ready`](Run::ready) tasks of the run, calls [`run`](crate::ReadyTask::run) on each, on
/// any thread and in any order, does the same with the tasks which that call returns, and comes back when the run has ended: all tasks
/// have finished, or the run was stopped and those that were running are done. [`Run::wait`] waits for just that.
///
/// In return every executor gives its users, without more work, what sprang promises: values are dropped or moved with their last
/// reader, failures carry the task's name, retries and timeouts are obeyed, a pulled token ends the run within one task, and the
/// configuration in force where the run was started is in force in its tasks. A task that is dropped without being run, and an
/// `execute` that returns too early, end the run with an error of kind [`Executor`](crate::ErrorKind::Executor), not with a hang.
///
/// A task may start a compute of its own and wait for it. An executor with a fixed number of threads must not wait for a free one in
/// `execute` then; running some of the tasks on the calling thread is one way.
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
