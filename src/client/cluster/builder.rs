//! Workers that stay, and how many there are.

use super::super::job::Owner;
use super::super::spin::deadline_after;
use super::{Backend, Core, Member, give_up_place};
use crate::api::compute::serve_dashboard;
use crate::api::config::{self, ProcessSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::processes::{ProcessExecutor, refusal};
use crate::executor::threads::{ThreadExecutor, num_cores};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a cluster that is dropped waits for tasks that do not look at their tokens.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// How many processes there may be beside the workers', for tasks that wait for something shared.
const MAX_SPARES: usize = 64;
/// After how many looks in a row that find too many workers some are let go.
const LOOKS_BEFORE_LESS: u32 = 3;

/// What becomes of a submitted task for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// The thread that submits waits.
    #[default]
    Block,
    /// It fails at once, with [`ErrorKind::Full`].
    Error,
}

/// What a worker of a cluster is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerState {
    /// It is not ready yet.
    Starting,
    /// It has nothing to do.
    Idle,
    /// It runs tasks.
    Busy,
    /// It is replaced, as it uses nearly all the memory that it may.
    Paused,
    /// It ends when it has come to the end of what it runs.
    Leaving,
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WorkerState::Starting => "starting",
            WorkerState::Idle => "idle",
            WorkerState::Busy => "busy",
            WorkerState::Paused => "paused",
            WorkerState::Leaving => "leaving",
        })
    }
}

/// What is known of one worker of a [`LocalCluster`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its number, which no other worker of the cluster ever has.
    pub id: u32,
    /// Its name, by which tasks can [ask for it](crate::Delayed::workers).
    pub name: String,
    /// Its process, once that has been started; this process, if the workers are threads.
    pub pid: Option<u32>,
    /// How many tasks it runs at once.
    pub num_threads: usize,
    /// How much memory of its own it may use, in bytes, if that is limited.
    pub memory_limit: Option<u64>,
    /// How much it uses, in bytes; for processes, where the system tells.
    pub memory_used: Option<u64>,
    /// What it is doing.
    pub state: WorkerState,
    /// How many tasks it has run.
    pub num_done: u64,
    /// How often its process was replaced by [`restart`](LocalCluster::restart), or because of its memory. Not counted are processes that
    /// were lost, and those that were restarted one by one, as on a page of the dashboard:
    /// [`WorkerStarted::restarts`](crate::callback::WorkerStarted::restarts) counts all.
    pub num_restarts: u64,
}

/// What a cluster is made of, settled.
#[derive(Clone, Debug)]
pub(in crate::client) struct Layout {
    pub(in crate::client) threads_per_worker: NonZeroUsize,
    pub(in crate::client) max_workers: usize,
    pub(in crate::client) memory_limit: Option<u64>,
    pub(in crate::client) resources: Vec<(Arc<str>, f64)>,
    pub(in crate::client) max_pending: usize,
    pub(in crate::client) when_full: WhenFull,
    pub(in crate::client) has_processes: bool,
}

/// How a [`LocalCluster`] is to be; see [`LocalCluster::builder`].
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
    /// So many workers. Left out: as many as there are cores, up to four; of more cores a number of workers near the square root, each
    /// with several threads; or as many as `threads_per_worker` leaves room for.
    pub fn workers(mut self, num_workers: usize) -> Self {
        self.num_workers = Some(num_workers);
        self
    }

    /// How many tasks a worker runs at once; 0 counts as 1. Left out, the cores are shared out among the workers.
    pub fn threads_per_worker(mut self, num_threads: usize) -> Self {
        self.threads_per_worker = Some(NonZeroUsize::new(num_threads).unwrap_or(NonZeroUsize::MIN));
        self
    }

    /// How many worker processes there may come to be by [`scale`](LocalCluster::scale) and [`adapt`](LocalCluster::adapt). The default is four times
    /// the number of cores, or of workers if that is more; of threads there may be any number.
    pub fn max_workers(mut self, num_workers: usize) -> Self {
        self.max_workers = Some(num_workers);
        self
    }

    /// How much memory of its own each worker process may use, in bytes. One that uses four fifths of it is replaced when it has come to the
    /// end of a task; one that exceeds it is killed, which costs an attempt of the task that it was running. Threads have no limit of
    /// their own.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Whether workers are processes (the default), or threads of this one.
    pub fn processes(mut self, has_processes: bool) -> Self {
        self.has_processes = has_processes;
        self
    }

    /// What the workers' processes are like. Threads, memory limit and idle timeout are those of the cluster. Left out: `processes.*` of
    /// the [configuration](crate::config).
    pub fn process_settings(mut self, settings: ProcessSettings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// What messages call the cluster.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where the [dashboard](crate::config) of the process listens, if it has none yet: `"127.0.0.1:8787"`. Left out: the setting `dashboard`.
    pub fn dashboard(mut self, address: impl Into<String>) -> Self {
        self.dashboard = Some(address.into());
        self
    }

    /// Each worker has so much of a resource, for tasks that [ask for it](crate::Delayed::resource).
    pub fn resource(mut self, name: &str, amount: f64) -> Self {
        self.resources.push((name.into(), amount));
        self
    }

    /// How many tasks may be there that have not come to their end; the default is a million.
    pub fn max_pending(mut self, num_tasks: usize) -> Self {
        self.max_pending = num_tasks.max(1);
        self
    }

    /// What becomes of a task that is submitted when there is no room. Tasks that are submitted by tasks are always taken: what waits
    /// for them might be what would make the room.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Starts the workers; it does not wait until they are ready.
    ///
    /// # Errors
    /// [`NoWorker`](ErrorKind::NoWorker) if there can be no workers of this kind, or a thread cannot be started; a mistake in the
    /// [configuration](crate::config).
    pub fn build(self) -> Result<LocalCluster> {
        let mut snapshot = config::snapshot()?;
        if let Some(address) = self.dashboard {
            snapshot = snapshot.overriding("dashboard", address)?;
        }
        // Tasks that nobody watches take a shorter way, so this is not left to the first run.
        serve_dashboard(snapshot.settings())?;
        if self.has_processes
            && let Some(refusal) = refusal()
        {
            return Err(Error::new(ErrorKind::NoWorker, refusal));
        }
        let (num_workers, threads_per_worker) = share_out(num_cores(), self.num_workers, self.threads_per_worker);
        let max_workers = self.max_workers.unwrap_or(4 * num_cores().max(num_workers)).max(num_workers).max(1);
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = self.name.unwrap_or_else(|| format!("cluster-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let mut settings = self.settings.unwrap_or_else(|| snapshot.settings().processes.clone());
        settings.threads_per_worker = threads_per_worker;
        settings.idle_timeout = None;
        settings.memory_limit = self.memory_limit.or(settings.memory_limit);
        let layout = Layout {
            threads_per_worker,
            max_workers,
            memory_limit: settings.memory_limit.filter(|_| self.has_processes),
            resources: self.resources,
            max_pending: self.max_pending,
            when_full: self.when_full,
            has_processes: self.has_processes,
        };
        let backend = match self.has_processes {
            false => Backend::Threads(ThreadExecutor::new(num_workers * threads_per_worker.get())),
            true => {
                let max_workers = NonZeroUsize::new(max_workers).unwrap_or(NonZeroUsize::MIN);
                Backend::Processes(ProcessExecutor::with_spares(max_workers, settings, MAX_SPARES))
            }
        };
        let core = Core::new(name.into(), layout, backend, &snapshot);
        let cluster = LocalCluster { core, keeper: Mutex::default() };
        cluster.scale(num_workers)?;
        Ok(cluster)
    }
}

/// How many workers with how many threads make use of the cores.
fn share_out(num_cores: usize, num_workers: Option<usize>, num_threads: Option<NonZeroUsize>) -> (usize, NonZeroUsize) {
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

/// Workers on this machine, for a [`Client`](crate::Client): worker processes, or threads of this one.
///
/// Its workers are there until it is closed, which it is when it is dropped. There may be more or fewer of them at any time, while tasks
/// run: see [`scale`](LocalCluster::scale) and [`adapt`](LocalCluster::adapt). What a worker process has computed is kept by this process,
/// so that nothing is lost with a worker.
///
/// # Examples
/// ```
/// use sprang::{Client, LocalCluster};
///
/// let cluster = LocalCluster::builder().workers(2).threads_per_worker(1).processes(false).name("small").build()?;
/// assert_eq!(cluster.to_string(), r#"LocalCluster("small", workers=2, threads=2)"#);
/// let client = Client::new(&cluster);
/// assert_eq!(client.submit(|x: i64| x + 1, (1_i64,)).result()?, 2);
/// cluster.scale(3)?;
/// assert_eq!(cluster.workers().len(), 3);
/// # Ok::<_, sprang::Error>(())
/// ```
#[must_use = "a cluster is closed when it is dropped"]
pub struct LocalCluster {
    core: Arc<Core>,
    keeper: Mutex<Option<Autoscaler>>,
}

impl fmt::Debug for LocalCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCluster").field("core", &self.core).finish_non_exhaustive()
    }
}

impl fmt::Display for LocalCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalCluster({:?}, {})", self.name(), Size(&self.core))
    }
}

/// How large a cluster is, in words.
pub(in crate::client) struct Size<'c>(pub(in crate::client) &'c Core);

impl fmt::Display for Size<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let num_workers = self.0.num_workers();
        let num_threads = num_workers * self.0.layout.threads_per_worker.get();
        let workers = if self.0.layout.has_processes { "processes" } else { "workers" };
        write!(f, "{workers}={num_workers}, threads={num_threads}")?;
        if let Some(limit) = self.0.layout.memory_limit {
            write!(f, ", memory={}", bytesize::ByteSize(limit * num_workers as u64))?;
        }
        Ok(())
    }
}

impl LocalCluster {
    /// A cluster to be described further; as it is, of worker processes that make use of all cores.
    pub fn builder() -> ClusterBuilder {
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

    pub(in crate::client) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Has so many workers from now on.
    ///
    /// New ones take up tasks as soon as they are ready. Those that are too many, the youngest, end when they have come to the end
    /// of what they run; what they had before them goes to others. With no worker left tasks wait until there are some again.
    ///
    /// # Errors
    /// [`NoWorker`](ErrorKind::NoWorker) if a thread cannot be started or there is no room for so many processes, see
    /// [`max_workers`](ClusterBuilder::max_workers); [`Closed`](ErrorKind::Closed).
    pub fn scale(&self, num_workers: usize) -> Result<()> {
        self.core.scale(num_workers)
    }

    /// Has between `minimum` and `maximum` workers from now on, as many as there is work for.
    ///
    /// It looks once a second: so many workers that they are done with what waits in five seconds, as far as the tasks are known; no more
    /// than there are tasks. There are fewer only after three looks in a row. [`scale`](LocalCluster::scale) goes on to work, until
    /// the next look.
    ///
    /// # Errors
    /// As [`scale`](LocalCluster::scale).
    pub fn adapt(&self, minimum: usize, maximum: usize) -> Result<()> {
        self.adapt_every(Duration::from_secs(1), Duration::from_secs(5), minimum, maximum)
    }

    /// As [`adapt`](LocalCluster::adapt), looking once in each `interval`, with so many workers that they are done in `target`.
    ///
    /// # Errors
    /// As [`scale`](LocalCluster::scale).
    pub fn adapt_every(&self, interval: Duration, target: Duration, minimum: usize, maximum: usize) -> Result<()> {
        let maximum = maximum.max(minimum);
        self.core.scale(self.core.num_workers().clamp(minimum, maximum))?;
        let keeper = Autoscaler::start(&self.core, interval, target, minimum, maximum)?;
        let _before = self.keeper.lock().replace(keeper);
        Ok(())
    }

    /// What is known of the workers that there are.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.core.members().iter().map(|member| info(&self.core, member)).collect()
    }

    /// Waits until so many workers are ready. False if that is not so after `timeout`, if one is given, or the cluster was closed.
    pub fn wait_for_workers(&self, num_workers: usize, timeout: Option<Duration>) -> bool {
        self.core.wait_for_workers(num_workers, timeout.and_then(deadline_after))
    }

    /// Replaces the processes of all workers. What they run is run again; nothing else is lost. Threads go on.
    pub fn restart(&self) {
        self.core.members().iter().for_each(|member| self.core.restart(member));
    }

    /// Replaces the process of one worker, as [`restart`](LocalCluster::restart). False if there is no such worker.
    pub fn restart_worker(&self, id: u32) -> bool {
        let member = self.core.members().into_iter().find(|member| member.id == id);
        member.inspect(|member| self.core.restart(member)).is_some()
    }

    /// How many tasks have been submitted and not come to their end.
    pub fn num_pending(&self) -> usize {
        self.core.num_unsettled()
    }

    /// Ends the workers. Tasks that wait are [lost](crate::Status::Lost), those that run are told by their [tokens](crate::CancelToken) and
    /// lost; processes that do not end are killed after `processes.cancel_grace`.
    ///
    /// Waits until nothing runs any more, but for no longer than `timeout`, if one is given: a thread that does not look at its token
    /// cannot be ended. Says whether it has come to that.
    pub fn close(&self, timeout: Option<Duration>) -> bool {
        drop(self.keeper.lock().take());
        give_up_place(&self.core, || self.core.close(timeout.and_then(deadline_after)))
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if !self.close(Some(LAST_WAIT)) {
            log::warn!("tasks of the cluster {:?} go on although it was dropped", self.core.name);
        }
    }
}

pub(in crate::client) fn info(core: &Core, member: &Member) -> WorkerInfo {
    let (pid, memory_used) = match core.backend() {
        Backend::Threads(_) => (Some(std::process::id()), None),
        Backend::Processes(executor) => (executor.worker_pid(member.index), executor.worker_memory(member.index)),
    };
    WorkerInfo {
        id: member.id,
        name: member.name.to_string(),
        pid,
        num_threads: member.num_threads(),
        memory_limit: core.layout.memory_limit,
        memory_used,
        state: member.state(),
        num_done: member.num_done.load(Ordering::Relaxed),
        num_restarts: member.num_restarts(),
    }
}

/// A thread that looks now and then how many workers there should be.
struct Autoscaler {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Autoscaler {
    fn start(
        core: &Arc<Core>,
        interval: Duration,
        target: Duration,
        minimum: usize,
        maximum: usize,
    ) -> Result<Autoscaler> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (core, told) = (Arc::clone(core), Arc::clone(&stop));
        let keep = move || {
            let mut num_looks = 0;
            let mut is_over = told.0.lock();
            while !*is_over {
                told.1.wait_for(&mut is_over, interval);
                if *is_over {
                    return;
                }
                drop(is_over);
                let (present, wanted) = (core.num_workers(), core.num_workers_wanted(target).clamp(minimum, maximum));
                num_looks = if wanted < present { num_looks + 1 } else { 0 };
                if (wanted > present || num_looks >= LOOKS_BEFORE_LESS)
                    && let Err(error) = core.scale(wanted)
                {
                    log::warn!("the cluster {:?} cannot adapt: {error}", core.name);
                }
                is_over = told.0.lock();
            }
        };
        let thread = std::thread::Builder::new().name("sprang-keeper".into()).spawn(keep);
        let no_thread =
            |error| Error::new(ErrorKind::NoWorker, format!("there is no thread to adapt the cluster: {error}"));
        Ok(Autoscaler { stop, thread: Some(thread.map_err(no_thread)?) })
    }
}

impl Drop for Autoscaler {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // If it panicked, that was a bug of ours and has been reported.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::share_out;
    use std::num::NonZeroUsize;

    #[test]
    fn cores_are_shared_out_among_workers() {
        let shared = |cores, workers, threads| {
            let (workers, threads) = share_out(cores, workers, NonZeroUsize::new(threads));
            (workers, threads.get())
        };
        assert_eq!(shared(2, None, 0), (2, 1));
        assert_eq!(shared(4, None, 0), (4, 1));
        assert_eq!(shared(12, None, 0), (4, 3));
        assert_eq!(shared(32, None, 0), (8, 4));
        assert_eq!(shared(7, None, 0), (7, 1));
        assert_eq!(shared(8, Some(3), 0), (3, 3));
        assert_eq!(shared(8, None, 3), (2, 3));
        assert_eq!(shared(2, None, 4), (1, 4));
        assert_eq!(shared(8, Some(0), 0), (0, 8));
        assert_eq!(shared(8, Some(5), 2), (5, 2));
    }
}
