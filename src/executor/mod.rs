//! WHERE tasks run: executors, siblings of one shape, each of which takes a run to its end.
//!
//! [`sync`] runs on the calling thread and is the one to read first; [`threads`] has others help it. Executors call the
//! engine; the engine calls no executor. What they share is here, in [`timer`], and in [`watchdog`].

pub(crate) mod processes;
#[cfg(all(target_os = "linux", not(miri)))]
mod remote;
pub(crate) mod sync;
pub(crate) mod threads;
pub(crate) mod timer;
pub(crate) mod watchdog;

use crate::engine::Run;
use crate::error::{Error, Result};
use processes::ProcessExecutor;
use processes::settings::ProcessSettings;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
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

/// Which executor runs a graph.
///
/// # Examples
/// ```
/// use sprang::Scheduler;
///
/// let scheduler: Scheduler = "Single-Threaded".parse()?;
/// assert_eq!(scheduler.to_string(), "sync");
/// assert_eq!(
///     "fast".parse::<Scheduler>().unwrap_err().to_string(),
///     r#"unknown scheduler "fast"; known are "threads", "processes" and "sync""#
/// );
/// # Ok::<_, sprang::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Scheduler {
    /// The calling thread and threads that help it: `"threads"`, `"threading"` or `"threaded"`.
    Threads,
    /// Worker processes, isolated from this one and from each other: `"processes"` or `"multiprocessing"`.
    Processes,
    /// The calling thread alone, one task after the other, always in the same order: `"sync"`, `"synchronous"` or
    /// `"single-threaded"`.
    Sync,
    /// An executor of the program's own.
    Custom(Arc<dyn Executor>),
}

impl Scheduler {
    /// The schedulers of this build that have a name.
    pub const NAMED: [Scheduler; 3] = [Scheduler::Sync, Scheduler::Threads, Scheduler::Processes];

    /// Does something with the executor; `processes` and `num_workers` are what it is to be like where it is made for that.
    pub(crate) fn with_executor<R>(
        &self,
        processes: &ProcessSettings,
        num_workers: Option<NonZeroUsize>,
        body: impl FnOnce(&dyn Executor) -> R,
    ) -> R {
        match self {
            Scheduler::Threads => body(threads::ThreadExecutor::shared()),
            Scheduler::Processes => body(&*ProcessExecutor::shared(processes, num_workers)),
            Scheduler::Sync => body(&sync::SyncExecutor),
            Scheduler::Custom(executor) => body(&**executor),
        }
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheduler({self})")
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheduler::Threads => "threads",
            Scheduler::Processes => "processes",
            Scheduler::Sync => "sync",
            Scheduler::Custom(executor) => executor.name(),
        })
    }
}

impl FromStr for Scheduler {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a name that is not one of those above, in any case.
    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "threads" | "threading" | "threaded" => Ok(Scheduler::Threads),
            "processes" | "multiprocessing" => Ok(Scheduler::Processes),
            "sync" | "synchronous" | "single-threaded" => Ok(Scheduler::Sync),
            _ => Err(Error::config(format!(
                "unknown scheduler {name:?}; known are \"threads\", \"processes\" and \"sync\""
            ))),
        }
    }
}
