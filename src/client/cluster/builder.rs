//! How a cluster is configured and made.

use super::admission::WhenFull;
use super::local::LocalCluster;
use super::member::WorkerSettings;
use super::{Backend, Cluster};
use crate::api::compute::serve_dashboard;
use crate::api::config::{self, ProcessSettings, Snapshot};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::processes::{MAX_THREADS, ProcessExecutor, check_size, refusal};
use crate::executor::threads::{ThreadExecutor, num_cores};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest number of processes beyond those of the workers, for tasks that wait for a shared
/// object.
const MAX_SPARES: usize = 64;

/// Configures a [`LocalCluster`]; see [`LocalCluster::builder`].
#[derive(Clone, Debug)]
#[must_use = "a cluster is made by `build`"]
pub struct ClusterBuilder {
    num_workers: Option<usize>,
    threads_per_worker: Option<NonZeroUsize>,
    max_workers: Option<usize>,
    memory_limit: Option<u64>,
    has_processes: bool,
    settings: Option<ProcessSettings>,
    name: Option<String>,
    dashboard: Option<String>,
    resources: Vec<(Arc<str>, f64)>,
    max_pending: usize,
    when_full: WhenFull,
}

impl ClusterBuilder {
    pub(super) fn new() -> Self {
        ClusterBuilder {
            num_workers: None,
            threads_per_worker: None,
            max_workers: None,
            memory_limit: None,
            has_processes: true,
            settings: None,
            name: None,
            dashboard: None,
            resources: Vec::new(),
            max_pending: 1_000_000,
            when_full: WhenFull::Block,
        }
    }

    /// Sets the number of workers.
    ///
    /// Default: the setting `num_workers`. If that is "auto": with `threads_per_worker`, the number
    /// of cores divided by it, at least one. Without, one worker for each core up to four cores.
    /// Above four, the number of workers is the smallest divisor of the number of cores that is at
    /// least its square root.
    pub fn workers(mut self, num_workers: usize) -> Self {
        self.num_workers = Some(num_workers);
        self
    }

    /// Sets how many tasks each worker runs at once; 0 counts as 1.
    ///
    /// Default: the setting `processes.threads_per_worker`, if it is set or the number of workers
    /// is that of the setting `num_workers`. Otherwise the cores are divided among the workers.
    pub fn threads_per_worker(mut self, num_threads: usize) -> Self {
        self.threads_per_worker = Some(NonZeroUsize::new(num_threads).unwrap_or(NonZeroUsize::MIN));
        self
    }

    /// Sets up to how many worker processes [`scale`](LocalCluster::scale) and
    /// [`adapt`](LocalCluster::adapt) may start.
    ///
    /// Default: four times the number of cores, or of workers if that is larger. The number of
    /// worker threads has no limit.
    pub fn max_workers(mut self, num_workers: usize) -> Self {
        self.max_workers = Some(num_workers);
        self
    }

    /// Sets how much memory each worker process may use, in bytes.
    ///
    /// A process that uses four fifths of the limit is replaced at the end of its task. A process
    /// above the limit is killed, which costs the running task an attempt. Worker threads have no
    /// limit of their own.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Sets whether the workers are processes (the default) or threads of this process.
    pub fn processes(mut self, has_processes: bool) -> Self {
        self.has_processes = has_processes;
        self
    }

    /// Sets how worker processes are made. The cluster's own settings take precedence for the
    /// number of threads, the memory limit and the idle timeout. Default: `processes.*` of the
    /// [configuration](crate::config).
    pub fn process_settings(mut self, settings: ProcessSettings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Sets the name of the cluster in messages.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the address of this process's [dashboard](crate::config), such as `"127.0.0.1:8787"`,
    /// if none is being served yet. Default: the setting `dashboard`.
    pub fn dashboard(mut self, address: impl Into<String>) -> Self {
        self.dashboard = Some(address.into());
        self
    }

    /// Gives each worker an amount of a resource, for tasks that [reserve
    /// it](crate::Delayed::resource).
    pub fn resource(mut self, name: &str, amount: f64) -> Self {
        self.resources.push((name.into(), amount));
        self
    }

    /// Sets how many submitted tasks may be unfinished at once. Default: one million.
    pub fn max_pending(mut self, num_tasks: usize) -> Self {
        self.max_pending = num_tasks.max(1);
        self
    }

    /// Sets what happens to a submitted task when there are
    /// [`max_pending`](ClusterBuilder::max_pending) tasks.
    ///
    /// A task that a task submits is always accepted, because the pending tasks may wait for it.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// The number of workers, and the threads of each.
    fn size(&self, snapshot: &Snapshot) -> (usize, NonZeroUsize) {
        let settings = snapshot.settings();
        let configured = settings.processes.threads_per_worker;
        let is_given = snapshot.is_given("processes.threads_per_worker");
        match (self.num_workers, self.threads_per_worker, settings.num_workers) {
            // As in a run in worker processes.
            (None, None, Some(num_workers)) => (num_workers.get(), configured),
            (num_workers, num_threads, also) => {
                let num_threads = num_threads.or(is_given.then_some(configured));
                divide(num_cores(), num_workers.or(also.map(NonZeroUsize::get)), num_threads)
            }
        }
    }

    /// Starts the workers, without waiting until they are ready.
    ///
    /// # Errors
    /// [`NoWorker`](ErrorKind::NoWorker) if this system cannot have workers of this kind, or not so
    /// many, or a thread cannot be started; an error in the [configuration](crate::config).
    pub fn build(self) -> Result<LocalCluster> {
        let mut snapshot = config::snapshot()?;
        if let Some(address) = &self.dashboard {
            snapshot = snapshot.overriding("dashboard", &**address)?;
        }
        // Not left to the first run, because tasks that nothing watches run without one.
        serve_dashboard(snapshot.settings())?;
        if self.has_processes
            && let Some(refusal) = refusal()
        {
            return Err(Error::new(ErrorKind::NoWorker, refusal));
        }
        let (num_workers, threads_per_worker) = self.size(&snapshot);
        check_size(num_workers, threads_per_worker.get())?;
        let room =
            || (4 * num_cores().max(num_workers)).min((MAX_THREADS / threads_per_worker).saturating_sub(MAX_SPARES));
        let max_workers = self.max_workers.unwrap_or_else(room).max(num_workers).max(1);
        if self.has_processes {
            check_size(max_workers.saturating_add(MAX_SPARES), threads_per_worker.get())?;
        }
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = self.name.unwrap_or_else(|| format!("cluster-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let mut settings = self.settings.unwrap_or_else(|| snapshot.settings().processes.clone());
        settings.threads_per_worker = threads_per_worker;
        settings.idle_timeout = None;
        settings.memory_limit = self.memory_limit.or(settings.memory_limit);
        let workers = WorkerSettings {
            threads_per_worker,
            max_workers,
            memory_limit: settings.memory_limit.filter(|_| self.has_processes),
            resources: self.resources,
        };
        let backend = match (self.has_processes, NonZeroUsize::new(max_workers)) {
            (true, Some(max)) => Backend::Processes(ProcessExecutor::with_spares(max, settings, MAX_SPARES)),
            _ => Backend::Threads(ThreadExecutor::new(num_workers * threads_per_worker.get())),
        };
        let cluster = Cluster::new(name.into(), workers, self.max_pending, self.when_full, backend, &snapshot);
        cluster.scale(num_workers)?;
        Ok(LocalCluster::new(cluster))
    }
}

/// Divides the cores: the number of workers, and the threads of each.
fn divide(num_cores: usize, num_workers: Option<usize>, num_threads: Option<NonZeroUsize>) -> (usize, NonZeroUsize) {
    let threads = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    match (num_workers, num_threads) {
        (Some(workers), Some(threads)) => (workers, threads),
        (Some(workers), None) => (workers, threads(num_cores.div_ceil(workers.max(1)))),
        (None, Some(threads)) => ((num_cores / threads.get()).max(1), threads),
        (None, None) if num_cores <= 4 => (num_cores, NonZeroUsize::MIN),
        (None, None) => {
            let workers = (1..=num_cores).find(|n| n * n >= num_cores && num_cores.is_multiple_of(*n));
            let workers = workers.unwrap_or(num_cores);
            (workers, threads(num_cores / workers))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::divide;
    use std::num::NonZeroUsize;

    #[test]
    fn cores_are_divided_among_workers() {
        for (num_cores, workers, threads, expected) in [
            (2, None, 0, (2, 1)),
            (4, None, 0, (4, 1)),
            (12, None, 0, (4, 3)),
            (32, None, 0, (8, 4)),
            (7, None, 0, (7, 1)),
            (8, Some(3), 0, (3, 3)),
            (8, None, 3, (2, 3)),
            (2, None, 4, (1, 4)),
            (8, Some(0), 0, (0, 8)),
            (8, Some(5), 2, (5, 2)),
        ] {
            let (workers, threads) = divide(num_cores, workers, NonZeroUsize::new(threads));
            assert_eq!((workers, threads.get()), expected);
        }
    }
}
