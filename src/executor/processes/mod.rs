//! Worker processes: the same executable, started again, so that what a task does to its process is done to nobody else.
//!
//! # Who does what
//!
//! A run is turned into a [`schedule`]: which tasks can be run, and the encoded values they may ask for. A [`pool`] has a [`slot`] for each
//! worker, a thread that takes batches of tasks from the schedules, sends them through its [`link`], and takes back the results. The
//! worker's process, its limits and its end belong to a [`host`]; one [`monitor`] sleeps until a process ends. Tasks that cannot leave this
//! process run on the [`lane`]. On the other side, [`hook`] makes a worker of a process before `main`, and [`worker`] runs the calls. What tasks
//! ask from there goes by the [`line`].
//! What crosses, and when, is in [`protocol`].

#[cfg(all(target_os = "linux", not(miri)))]
mod activity;
pub(crate) mod boot;
#[cfg(all(target_os = "linux", not(miri)))]
mod clock;
#[cfg(all(fuzzing, target_os = "linux"))]
pub(crate) mod fuzzing;
#[cfg(all(target_os = "linux", not(miri)))]
mod hook;
pub(crate) mod initializer;
#[cfg(all(target_os = "linux", not(miri)))]
#[path = "../remote/stored.rs"]
mod inputs;
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
#[path = "../remote/schedule.rs"]
mod schedule;
pub(crate) mod settings;
#[cfg(all(target_os = "linux", not(miri)))]
mod signals;
#[cfg(all(target_os = "linux", not(miri)))]
mod slot;
#[cfg(all(target_os = "linux", not(miri)))]
mod spawn;
#[cfg(all(target_os = "linux", not(miri)))]
mod token;
#[cfg(all(target_os = "linux", not(miri)))]
mod worker;

pub(crate) use boot::{is_worker, refusal};

use super::Executor;
use super::sync::SyncExecutor;
use super::threads::num_cores;
use crate::engine::Run;
use crate::error::{Error, ErrorKind};
use crate::portable::codec::Codec;
use parking_lot::Mutex;
use requests::RequestHandler;
use settings::ProcessSettings;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// How much shared memory values may take up under these settings; `None` where there is none.
pub(crate) fn shared_memory_limit(settings: &ProcessSettings) -> Option<u64> {
    #[cfg(all(target_os = "linux", not(miri)))]
    return Some(pool::shared_memory_limit(settings));
    #[cfg(not(all(target_os = "linux", not(miri))))]
    {
        let _ = settings;
        None
    }
}

/// Runs tasks in worker processes.
///
/// A worker is this program's own executable, started again; nothing has to be set up for it. Workers are started when there is
/// something to do, kept for the next run, and end after [`idle_timeout`](ProcessSettings::idle_timeout), with the executor, or with this
/// process, however that ends. A task that crashes its worker, is too slow or takes too much memory costs one attempt of that task;
/// everything else goes on.
///
/// `scheduler = "processes"` uses executors that are shared by all runs with the same [settings](ProcessSettings); make one of your own to
/// have workers of your own.
///
/// In a worker, graphs are run by the thread that computes them.
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
    #[cfg(all(target_os = "linux", not(miri)))]
    core: Arc<pool::Core>,
    num_workers: NonZeroUsize,
    settings: ProcessSettings,
}

impl fmt::Debug for ProcessExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ProcessExecutor");
        out.field("num_workers", &self.num_workers).field("settings", &self.settings);
        #[cfg(all(target_os = "linux", not(miri)))]
        out.field("core", &self.core);
        out.finish()
    }
}

impl ProcessExecutor {
    /// An executor with so many workers, and the default settings.
    pub fn new(num_workers: NonZeroUsize) -> Self {
        ProcessExecutor::with_settings(num_workers, ProcessSettings::default())
    }

    /// An executor with workers of its own kind; the example is with [`ProcessSettings`].
    pub fn with_settings(num_workers: NonZeroUsize, settings: ProcessSettings) -> Self {
        ProcessExecutor::with_spares(num_workers, settings, 0)
    }

    /// The same, with room for so many further processes, which do the work of those whose tasks wait for an [answer](line).
    pub(crate) fn with_spares(num_workers: NonZeroUsize, settings: ProcessSettings, num_spares: usize) -> Self {
        #[cfg(not(all(target_os = "linux", not(miri))))]
        let _ = num_spares;
        ProcessExecutor {
            #[cfg(all(target_os = "linux", not(miri)))]
            core: pool::Core::new(settings.clone(), num_workers, num_spares),
            num_workers,
            settings,
        }
    }

    /// The executor of all runs with these settings.
    pub(crate) fn shared(settings: &ProcessSettings, num_workers: Option<NonZeroUsize>) -> Arc<ProcessExecutor> {
        static SHARED: Mutex<Vec<Arc<ProcessExecutor>>> = Mutex::new(Vec::new());
        let num_workers = num_workers.or(NonZeroUsize::new(num_cores())).unwrap_or(NonZeroUsize::MIN);
        let mut shared = SHARED.lock();
        let mut unused = Vec::new();
        let executor = match shared.iter().find(|it| it.num_workers == num_workers && it.settings == *settings) {
            Some(executor) => Arc::clone(executor),
            None => {
                // Executors without workers that nobody uses make room, so that their number does not grow with that of settings.
                unused.extend(shared.extract_if(.., |it| Arc::strong_count(it) == 1 && it.is_without_workers()));
                let executor = Arc::new(ProcessExecutor::with_settings(num_workers, settings.clone()));
                shared.push(Arc::clone(&executor));
                executor
            }
        };
        drop(shared);
        drop(unused);
        executor
    }

    /// Takes a run to its end, on all workers or on this one. What its tasks ask is answered at the handler, if there is one.
    pub(crate) fn execute_on(&self, run: &Arc<Run>, worker: Option<u32>, handler: Option<Arc<dyn RequestHandler>>) {
        if boot::is_worker() {
            return SyncExecutor.execute(run);
        }
        if let Some(refusal) = boot::refusal() {
            return run.stop(Error::new(ErrorKind::NoWorker, refusal));
        }
        #[cfg(all(target_os = "linux", not(miri)))]
        local::execute(&self.core, run, if worker.is_some() { 1 } else { self.num_workers.get() }, worker, handler);
        #[cfg(not(all(target_os = "linux", not(miri))))]
        let _ = (worker, handler);
    }

    /// How it encodes values.
    pub(crate) fn codec(&self) -> Codec {
        self.settings.codec
    }

    /// The process id of a worker, if it has been started.
    pub(crate) fn worker_pid(&self, worker: u32) -> Option<u32> {
        #[cfg(all(target_os = "linux", not(miri)))]
        return self.core.host(worker).map(|host| host.pid());
        #[cfg(not(all(target_os = "linux", not(miri))))]
        {
            let _ = worker;
            None
        }
    }

    /// How much memory of its own a worker uses, in bytes, where the system tells.
    pub(crate) fn worker_memory(&self, worker: u32) -> Option<u64> {
        #[cfg(all(target_os = "linux", not(miri)))]
        return monitor::private_bytes(self.worker_pid(worker)?);
        #[cfg(not(all(target_os = "linux", not(miri))))]
        {
            let _ = worker;
            None
        }
    }

    /// Ends a worker: `at_once`, and what it was running is run again, or when it has come to the end of that. Another takes its place when
    /// there is something to do.
    pub(crate) fn end_worker(&self, worker: u32, at_once: bool) {
        #[cfg(all(target_os = "linux", not(miri)))]
        for host in self.core.hosts(worker) {
            match at_once {
                true => host.kill(process::KillReason::Replaced),
                false => self.core.disconnect(&host),
            }
        }
        #[cfg(not(all(target_os = "linux", not(miri))))]
        let _ = (worker, at_once);
    }

    /// Lets the workers end, for ever, and waits for them.
    pub(crate) fn close(&self) {
        #[cfg(all(target_os = "linux", not(miri)))]
        self.core.close();
    }

    fn is_without_workers(&self) -> bool {
        #[cfg(all(target_os = "linux", not(miri)))]
        return self.core.is_without_workers();
        #[cfg(not(all(target_os = "linux", not(miri))))]
        true
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
        self.close();
    }
}
