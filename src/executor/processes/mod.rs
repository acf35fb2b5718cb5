//! Worker processes: the same executable, started again. So a task that harms its process harms no
//! other.
//!
//! # The parts
//!
//! Each run has a [schedule](super::remote::schedule) of its tasks. The [`pool`] has a [`slot`] for
//! each thread of each worker: a thread of this process that takes batches of tasks from the
//! schedules, sends them over a [`link`] and takes back the results. A [`process`] is one worker
//! process, with its limits and its end; one [`monitor`] thread sleeps until a process ends. Tasks
//! that cannot leave this process run in [`local`]. In the worker, [`hook`] takes over before
//! `main`, and [`worker`] runs the calls. [`at_exit`] ends idle workers with this process, and
//! [`ends`] counts deaths and restarts. Tasks in workers send requests to this process through
//! [`requests`]. The messages and their order are in [`protocol`].

#[cfg(all(target_os = "linux", not(miri)))]
mod activity;
#[cfg(all(target_os = "linux", not(miri)))]
mod at_exit;
pub(crate) mod boot;
#[cfg(all(target_os = "linux", not(miri)))]
mod clock;
#[cfg(all(target_os = "linux", not(miri)))]
mod constructors;
mod ends;
#[cfg(all(fuzzing, target_os = "linux"))]
pub(crate) mod fuzzing;
#[cfg(all(target_os = "linux", not(miri)))]
mod hook;
pub(crate) mod initializer;
#[cfg(all(target_os = "linux", not(miri)))]
mod lifeline;
#[cfg(all(target_os = "linux", not(miri)))]
mod link;
#[cfg(all(target_os = "linux", not(miri)))]
mod local;
#[cfg(all(target_os = "linux", not(miri)))]
mod monitor;
#[cfg(all(target_os = "linux", not(miri)))]
mod pool;
#[cfg(all(target_os = "linux", not(miri)))]
mod process;
#[cfg(all(target_os = "linux", not(miri)))]
mod protocol;
pub(crate) mod requests;
#[cfg(all(target_os = "linux", not(miri)))]
mod rights;
#[cfg(all(target_os = "linux", not(miri)))]
mod server;
pub(crate) mod settings;
#[cfg(all(target_os = "linux", not(miri)))]
mod signals;
#[cfg(all(target_os = "linux", not(miri)))]
mod slot;
#[cfg(all(target_os = "linux", not(miri)))]
mod spawn;
#[cfg(all(target_os = "linux", not(miri)))]
mod token;
#[cfg(not(all(target_os = "linux", not(miri))))]
mod unsupported;
#[cfg(all(target_os = "linux", not(miri)))]
mod worker;

pub(crate) use boot::{is_worker, refusal};
pub(crate) use ends::{WorkerCounts, WorkerEnd};

use super::Executor;
use super::sync::SyncExecutor;
use super::threads::num_cores;
use crate::engine::Run;
use crate::error::{Error, ErrorKind, Result};
use crate::per_process::{Generation, PerProcess};
use crate::portable::codec::Codec;
#[cfg(all(target_os = "linux", not(miri)))]
use local::execute;
use parking_lot::Mutex;
#[cfg(all(target_os = "linux", not(miri)))]
use pool::Pool;
use requests::RequestHandler;
use settings::ProcessSettings;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
#[cfg(not(all(target_os = "linux", not(miri))))]
use unsupported::{NoPool as Pool, execute, new_pool, shared_memory_limit as memory_limit};

#[cfg(all(target_os = "linux", not(miri)))]
fn new_pool(settings: ProcessSettings, num_workers: NonZeroUsize, num_spares: usize) -> Arc<Pool> {
    Pool::new(settings, num_workers, num_spares, slot::serve)
}

#[cfg(all(target_os = "linux", not(miri)))]
fn memory_limit(settings: &ProcessSettings) -> Option<u64> {
    Some(pool::shared_memory_limit(settings))
}

/// The largest number of threads that the workers of an executor may have together. Linux can have
/// 4 million processes and threads at most.
pub(crate) const MAX_THREADS: usize = 1 << 20;

/// Refuses sizes that no system allows, before anything is made for each thread.
///
/// # Errors
/// [`NoWorker`](ErrorKind::NoWorker), with the numbers.
pub(crate) fn check_size(num_workers: usize, num_threads: usize) -> Result<()> {
    if num_workers.checked_mul(num_threads).is_some_and(|num_threads| num_threads <= MAX_THREADS) {
        return Ok(());
    }
    let message = format!(
        "{num_workers} workers with {num_threads} threads each are more than this system can start; together at most \
         {MAX_THREADS} threads are allowed"
    );
    Err(Error::new(ErrorKind::NoWorker, message))
}

/// How much shared memory values may take under these settings, in bytes. `None` on platforms
/// without worker processes.
pub(crate) fn shared_memory_limit(settings: &ProcessSettings) -> Option<u64> {
    memory_limit(settings)
}

/// Runs tasks in worker processes.
///
/// A worker is this program's own executable, started again; nothing has to be set up for it.
/// Workers start when there are tasks for them and are kept for the next run. They end after
/// [`idle_timeout`](ProcessSettings::idle_timeout), with the executor, or with this process,
/// however it ends. A task that crashes its worker, exceeds its timeout or takes too much memory
/// loses one attempt; all other tasks continue.
///
/// All runs with `scheduler = "processes"` and the same [settings](ProcessSettings) share one
/// executor. An executor that the program creates has its own workers.
///
/// A task in a worker that computes a graph runs that graph on its own thread.
///
/// # Examples
/// ```
/// use sprang::{ProcessExecutor, delayed};
/// use std::num::NonZeroUsize;
///
/// let executor = ProcessExecutor::new(NonZeroUsize::new(2).unwrap());
/// let here = std::process::id();
/// let there = delayed(std::process::id, ());
/// assert_ne!(there.compute_with(executor)?, here);
/// # Ok::<_, sprang::Error>(())
/// ```
pub struct ProcessExecutor {
    pool: Arc<Pool>,
    num_workers: NonZeroUsize,
    settings: ProcessSettings,
    /// Why it cannot start workers: it would have too many.
    size: Result<()>,
    generation: Generation,
}

impl fmt::Debug for ProcessExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessExecutor")
            .field("num_workers", &self.num_workers)
            .field("settings", &self.settings)
            .field("pool", &self.pool)
            .finish()
    }
}

impl ProcessExecutor {
    /// Makes an executor with this many workers and the default settings.
    ///
    /// Workers with more than 1,048,576 threads in all are refused when a run starts, with an error
    /// of kind [`NoWorker`](ErrorKind::NoWorker).
    pub fn new(num_workers: NonZeroUsize) -> Self {
        ProcessExecutor::with_settings(num_workers, ProcessSettings::default())
    }

    /// Makes an executor with these settings. [`ProcessSettings`] has an example.
    pub fn with_settings(num_workers: NonZeroUsize, settings: ProcessSettings) -> Self {
        ProcessExecutor::with_spares(num_workers, settings, 0)
    }

    /// As [`with_settings`](ProcessExecutor::with_settings), with up to `num_spares` more
    /// processes. A spare process takes over for a worker whose task waits for an
    /// [answer](requests).
    pub(crate) fn with_spares(num_workers: NonZeroUsize, settings: ProcessSettings, num_spares: usize) -> Self {
        let num_threads = settings.threads_per_worker;
        let size = check_size(num_workers.get().saturating_add(num_spares), num_threads.get());
        let pool = match &size {
            Ok(()) => new_pool(settings.clone(), num_workers, num_spares),
            // It is never used.
            Err(_) => {
                let settings = ProcessSettings { threads_per_worker: NonZeroUsize::MIN, ..settings.clone() };
                new_pool(settings, NonZeroUsize::MIN, 0)
            }
        };
        ProcessExecutor { pool, num_workers, settings, size, generation: Generation::current() }
    }

    /// The executor that all runs with these settings share.
    pub(crate) fn shared(settings: &ProcessSettings, num_workers: Option<NonZeroUsize>) -> Arc<ProcessExecutor> {
        static SHARED: PerProcess<Mutex<Vec<Arc<ProcessExecutor>>>> = PerProcess::new();
        let num_workers = num_workers.or(NonZeroUsize::new(num_cores())).unwrap_or(NonZeroUsize::MIN);
        let mut shared = SHARED.get_or_make(Mutex::default).lock();
        let mut unused = Vec::new();
        let executor = match shared.iter().find(|it| it.num_workers == num_workers && it.settings == *settings) {
            Some(executor) => Arc::clone(executor),
            None => {
                // Unused executors without workers are dropped, so that their number does not grow
                // with that of settings.
                let is_unused = |it: &mut Arc<Self>| Arc::strong_count(it) == 1 && it.pool.is_without_workers();
                unused.extend(shared.extract_if(.., is_unused));
                let executor = Arc::new(ProcessExecutor::with_settings(num_workers, settings.clone()));
                shared.push(Arc::clone(&executor));
                executor
            }
        };
        // Executors are dropped without the lock.
        drop(shared);
        drop(unused);
        executor
    }

    /// Executes a run, on all workers or on one of them. The handler answers the requests of its
    /// tasks.
    pub(crate) fn execute_on(&self, run: &Arc<Run>, worker: Option<u32>, handler: Option<Arc<dyn RequestHandler>>) {
        if is_worker() {
            return SyncExecutor.execute(run);
        }
        if let Some(refusal) = refusal() {
            return run.stop(Error::new(ErrorKind::NoWorker, refusal));
        }
        if let Err(error) = &self.size {
            return run.stop(error.clone());
        }
        if !self.generation.is_current() {
            let message = "this executor was made before this process was forked, and its workers belong to the parent; \
                           make a new one after the fork";
            return run.stop(Error::new(ErrorKind::NoWorker, message));
        }
        let num_workers = if worker.is_some() { 1 } else { self.num_workers.get() };
        execute(&self.pool, run, num_workers, worker, handler);
    }

    /// How long running tasks may go on after they were cancelled.
    pub(crate) fn cancel_grace(&self) -> Duration {
        self.settings.cancel_grace
    }

    /// How it encodes values.
    pub(crate) fn codec(&self) -> Codec {
        self.settings.codec
    }

    /// The process id of a worker, if it has been started.
    pub(crate) fn worker_pid(&self, worker: u32) -> Option<u32> {
        self.pool.worker_pid(worker)
    }

    /// How much private memory a worker uses, in bytes, if the system reports it.
    pub(crate) fn worker_memory(&self, worker: u32) -> Option<u64> {
        self.pool.worker_memory(worker)
    }

    /// How often the processes of a worker have died and were replaced.
    pub(crate) fn worker_counts(&self, worker: u32) -> WorkerCounts {
        self.pool.worker_counts(worker)
    }

    /// Ends a worker. Another process starts when there are tasks for it.
    pub(crate) fn end_worker(&self, worker: u32, how: WorkerEnd) {
        self.pool.end_worker(worker, how);
    }

    /// Ends all workers, for good, and waits for them.
    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

impl Executor for ProcessExecutor {
    fn name(&self) -> &str {
        "processes"
    }

    fn execute(&self, run: &Arc<Run>) {
        self.execute_on(run, None, None);
    }
}

impl Drop for ProcessExecutor {
    fn drop(&mut self) {
        match self.generation.is_current() {
            true => self.close(),
            // In a forked child, the pool has no threads, and its workers are the parent's.
            false => std::mem::forget(Arc::clone(&self.pool)),
        }
    }
}
