//! The choice of an executor, by name or as a value.

use super::contract::Executor;
use super::processes::ProcessExecutor;
use super::processes::settings::ProcessSettings;
use super::sync::SyncExecutor;
use super::threads::ThreadExecutor;
use crate::error::{Error, Result};
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;

/// The choice of an executor.
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
    /// The calling thread and helper threads: `"threads"`, `"threading"` or `"threaded"`.
    Threads,
    /// Worker processes, isolated from this one and from each other: `"processes"` or
    /// `"multiprocessing"`.
    Processes,
    /// The calling thread alone, one task after the other, always in the same order: `"sync"`,
    /// `"synchronous"` or `"single-threaded"`.
    Sync,
    /// The program's own executor.
    Custom(Arc<dyn Executor>),
}

impl Scheduler {
    /// The schedulers that have a name.
    pub const NAMED: [Scheduler; 3] = [Scheduler::Sync, Scheduler::Threads, Scheduler::Processes];

    /// Whether both are the same one of the program's own executors.
    pub(crate) fn is(&self, other: &Scheduler) -> bool {
        match (self, other) {
            (Scheduler::Custom(one), Scheduler::Custom(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Calls `body` with the executor. `processes` and `num_workers` are for a process executor
    /// that is made for this call.
    pub(crate) fn with_executor<R>(
        &self,
        processes: &ProcessSettings,
        num_workers: Option<NonZeroUsize>,
        body: impl FnOnce(&dyn Executor) -> R,
    ) -> R {
        match self {
            Scheduler::Threads => body(ThreadExecutor::shared()),
            Scheduler::Processes => body(&*ProcessExecutor::shared(processes, num_workers)),
            Scheduler::Sync => body(&SyncExecutor),
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
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a name that is not listed at
    /// [`Scheduler`]. Upper and lower case do not matter.
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
