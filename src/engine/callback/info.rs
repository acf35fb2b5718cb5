//! The contents of events: ids of runs and workers, views of runs and tasks, and handles to act on
//! them.

use super::super::tracker::ValueSize;
use crate::graph::name;
use crate::graph::plan::Plan;
use parking_lot::Mutex;
use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// The number of a watched run. Runs are numbered from 1, in the order of their start, in this
/// process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u64);

impl RunId {
    pub(in crate::engine) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        RunId(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The id with a number that was read from a file or another process.
    pub(crate) fn of_number(number: u64) -> Self {
        RunId(number)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The thread and the process that run a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    /// `None` for this process, because its id takes a system call.
    pid: Option<NonZeroU32>,
    thread: u32,
}

impl WorkerId {
    /// This thread.
    #[inline]
    pub(crate) fn here() -> Self {
        thread_local! {
            static NUMBER: Cell<u32> = const { Cell::new(u32::MAX) };
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // A thread that is about to end has no number any more.
        let number = NUMBER.try_with(|number| {
            if number.get() == u32::MAX {
                number.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            number.get()
        });
        WorkerId { pid: None, thread: number.unwrap_or(u32::MAX) }
    }

    /// A thread of this process.
    #[cfg(feature = "files")]
    pub(crate) fn of_thread(thread: u32) -> Self {
        WorkerId { pid: None, thread }
    }

    /// A thread of a worker process.
    #[cfg_attr(
        not(any(all(target_os = "linux", not(miri)), feature = "files")),
        expect(dead_code, reason = "worker processes need Linux")
    )]
    pub(crate) fn of_process(pid: u32, thread: u32) -> Self {
        WorkerId { pid: NonZeroU32::new(pid), thread }
    }

    /// The id of the process. After a worker has ended, another process may have its id.
    pub fn pid(self) -> u32 {
        self.pid.map_or_else(std::process::id, NonZeroU32::get)
    }

    /// The number of the thread. In this process, threads are numbered in the order in which they
    /// first run a watched task; in a worker process, from 0.
    pub fn thread(self) -> u32 {
        self.thread
    }

    /// Whether it is a thread of this process.
    pub fn is_here(self) -> bool {
        self.pid.is_none()
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, self.thread) {
            (None, thread) => write!(f, "thread {thread}"),
            (Some(pid), 0) => write!(f, "process {pid}"),
            (Some(pid), thread) => write!(f, "process {pid}, thread {thread}"),
        }
    }
}

/// Counts the unfinished tasks and the values of a cluster.
pub(crate) trait Backlog: Send + Sync {
    /// The number of submitted tasks that have not ended.
    fn num_pending(&self) -> usize;

    /// The number of values that futures hold, and their size in bytes.
    fn num_held(&self) -> (usize, usize);
}

/// A cluster, in an event. It does not keep the cluster alive.
///
/// A cluster computes its futures in many small runs, of one to some hundred tasks. All these runs
/// have the same `ClusterInfo`.
#[derive(Clone, Debug)]
pub struct ClusterInfo {
    run: RunId,
    /// The number of tasks in all watched runs of futures so far.
    num_tasks: Arc<AtomicU64>,
    name: Arc<str>,
    backlog: Weak<dyn Backlog>,
}

impl ClusterInfo {
    pub(crate) fn new(name: Arc<str>, backlog: Weak<dyn Backlog>) -> Self {
        ClusterInfo { run: RunId::next(), num_tasks: Arc::default(), name, backlog }
    }

    /// A number that is unique in this process.
    pub fn id(&self) -> u64 {
        self.run.get()
    }

    /// The [logical run](RunInfo::logical_run) of all futures of the cluster.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The name of the cluster.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The number of submitted tasks that have not ended yet. `None` if the cluster is gone.
    pub fn num_pending(&self) -> Option<usize> {
        self.backlog.upgrade().map(|backlog| backlog.num_pending())
    }

    /// The number of values that futures hold, and their size in bytes, as
    /// [`Client::num_held`](crate::Client::num_held). They do not count as values of runs.
    pub fn num_held(&self) -> (usize, usize) {
        self.backlog.upgrade().map_or((0, 0), |backlog| backlog.num_held())
    }
}

/// The id of a run, the id of its logical run, and the id of its first task in the logical run.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct RunIds {
    pub(in crate::engine) run: RunId,
    logical: RunId,
    first_task: u64,
}

impl RunIds {
    /// The ids of a new run. With a cluster, it is a run of futures.
    pub(in crate::engine) fn new(cluster: Option<&ClusterInfo>, plan: &Plan) -> Self {
        let run = RunId::next();
        cluster.map_or(RunIds { run, logical: run, first_task: 0 }, |cluster| {
            let first_task = cluster.num_tasks.fetch_add(plan.num_tasks() as u64, Ordering::Relaxed);
            RunIds { run, logical: cluster.run, first_task }
        })
    }
}

/// A run, in an event.
#[derive(Clone, Copy)]
pub struct RunInfo<'e> {
    pub(in crate::engine) ids: RunIds,
    pub(in crate::engine) parent: Option<RunIds>,
    pub(in crate::engine) cluster: Option<&'e ClusterInfo>,
    pub(in crate::engine) starts_worker: bool,
    pub(in crate::engine) plan: &'e Plan,
}

impl<'e> RunInfo<'e> {
    /// The number of the run.
    pub fn id(&self) -> RunId {
        self.ids.run
    }

    /// The logical run that this run belongs to. All runs of futures of one cluster belong to the
    /// same logical run; any other run is its own logical run. [`TaskInfo::logical_id`] numbers the
    /// tasks of a logical run.
    ///
    /// # Examples
    /// ```
    /// use sprang::Client;
    /// use sprang::callback::{self, Callback, RunStarted};
    /// use std::collections::HashSet;
    /// use std::sync::{Arc, Mutex};
    ///
    /// #[derive(Default)]
    /// struct Runs(Mutex<Vec<u64>>, Mutex<HashSet<u64>>);
    ///
    /// impl Callback for Runs {
    ///     fn on_run_started(&self, event: &RunStarted<'_>) {
    ///         self.0.lock().unwrap().push(event.run.id().get());
    ///         self.1.lock().unwrap().insert(event.run.logical_run().get());
    ///     }
    /// }
    ///
    /// let runs = Arc::new(Runs::default());
    /// let _registration = callback::register(Arc::<Runs>::clone(&runs));
    /// let client = Client::threads(1)?;
    /// let one = client.submit(|| 1, ());
    /// let two = client.submit(|one: &i32| one + 1, (&one,));
    /// assert_eq!(two.result()?, 2);
    /// assert_eq!((runs.0.lock().unwrap().len(), runs.1.lock().unwrap().len()), (2, 1));
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn logical_run(&self) -> RunId {
        self.ids.logical
    }

    /// The [id in the logical run](TaskInfo::logical_id) of task 0.
    pub fn first_task(&self) -> u64 {
        self.ids.first_task
    }

    /// The run of the task that computes this run, if that run is watched and in the same process.
    pub fn parent(&self) -> Option<RunId> {
        self.parent.map(|parent| parent.run)
    }

    /// The [logical run](RunInfo::logical_run) of the [parent](RunInfo::parent).
    pub fn logical_parent(&self) -> Option<RunId> {
        self.parent.map(|parent| parent.logical)
    }

    /// The cluster, for a run of [futures](crate::TaskFuture). `None` for other runs, such as that
    /// of a [`compute`](crate::Delayed::compute) in a task of a cluster.
    pub fn cluster(&self) -> Option<&'e ClusterInfo> {
        self.cluster
    }

    /// Whether the run only makes the cluster start a worker in advance. Its task does nothing.
    pub fn starts_worker(&self) -> bool {
        self.starts_worker
    }

    /// The number of tasks. Their ids are `0..num_tasks`, in the order in which a single worker
    /// would run them.
    pub fn num_tasks(&self) -> usize {
        self.plan.num_tasks()
    }

    /// The task with this id.
    ///
    /// # Panics
    /// If there is no task with this id.
    #[track_caller]
    pub fn task(&self, id: usize) -> TaskInfo<'e> {
        assert!(id < self.num_tasks(), "there is no task {id} in a run of {}", self.num_tasks());
        TaskInfo { run: self.ids, id: id as u32, plan: self.plan }
    }

    /// The outputs, in the order of the call that computes them. Their names make a title for the
    /// run.
    ///
    /// # Examples
    /// ```
    /// use sprang::callback::{self, Callback, RunStarted};
    /// use std::sync::{Arc, Mutex};
    ///
    /// #[derive(Default)]
    /// struct Titles(Mutex<Vec<String>>);
    ///
    /// impl Callback for Titles {
    ///     fn on_run_started(&self, event: &RunStarted<'_>) {
    ///         let names = event.run.outputs().map(|task| task.name().to_string());
    ///         self.0.lock().unwrap().extend(names);
    ///     }
    /// }
    ///
    /// let titles = Arc::new(Titles::default());
    /// let answer = sprang::delayed(|| 42, ()).name("answer");
    /// callback::with(Arc::<Titles>::clone(&titles), || answer.compute())?;
    /// assert_eq!(*titles.0.lock().unwrap(), ["answer"]);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = TaskInfo<'e>> + use<'e> {
        let (run, plan) = (self.ids, self.plan);
        plan.outputs().iter().map(move |&id| TaskInfo { run, id, plan })
    }

    pub(crate) fn plan(&self) -> &'e Plan {
        self.plan
    }
}

impl fmt::Debug for RunInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunInfo")
            .field("ids", &self.ids)
            .field("parent", &self.parent())
            .field("num_tasks", &self.num_tasks())
            .finish()
    }
}

/// A run that can be cancelled from outside.
pub(crate) trait CancelRun: Send + Sync {
    /// Stops the run. False if it had ended or was stopped before.
    fn cancel(&self) -> bool;
}

/// Cancels a run from any thread. It does not keep the run alive.
///
/// # Examples
/// ```
/// use sprang::callback::{self, Callback, RunStarted};
/// use sprang::{CancelToken, ErrorKind, delayed};
/// use std::sync::Arc;
///
/// /// Cancels every run.
/// struct Never;
///
/// impl Callback for Never {
///     fn on_run_started(&self, event: &RunStarted<'_>) {
///         let handle = event.handle.clone();
///         let elsewhere = std::thread::spawn(move || handle.cancel());
///         assert!(elsewhere.join().unwrap());
///     }
/// }
///
/// let error = callback::with(Arc::new(Never), || delayed(|| 1, ()).compute()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Cancelled);
/// ```
#[derive(Clone, Debug)]
pub struct RunHandle {
    pub(in crate::engine) id: RunId,
    pub(in crate::engine) run: Weak<dyn CancelRun>,
}

impl RunHandle {
    /// The number of the run.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Cancels the run, as a [`CancelToken`](crate::CancelToken) does. Returns `false` if the run
    /// is over.
    pub fn cancel(&self) -> bool {
        self.run.upgrade().is_some_and(|run| run.cancel())
    }
}

/// A process that can be replaced by a new one.
pub(crate) trait Replaceable: Send + Sync {
    /// Ends the process. False if it has ended before.
    fn replace(&self) -> bool;
}

/// Restarts a worker process from any thread. It does not keep the process alive.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    worker: WorkerId,
    process: Weak<dyn Replaceable>,
}

impl WorkerHandle {
    /// The worker.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Ends the worker's process, with all its threads. A new process replaces it as soon as there
    /// are tasks to run. Tasks that were running run again; this costs them no attempt. Returns
    /// `false` if the process is gone.
    ///
    /// The [`restarts`](super::WorkerStarted::restarts) of the new process and those of the
    /// [cluster's worker](crate::WorkerInfo::num_restarts) count this restart.
    pub fn restart(&self) -> bool {
        self.process.upgrade().is_some_and(|process| process.replace())
    }
}

/// A thread of a worker process that has been started.
#[derive(Clone, Debug)]
pub(crate) struct StartedWorker {
    /// The number of earlier processes of this worker.
    pub(crate) restarts: u32,
    /// The private memory, in bytes, above which the worker is killed.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) handle: WorkerHandle,
}

/// The live worker processes, for callbacks that are attached after their start.
static STARTED: Mutex<Vec<StartedWorker>> = Mutex::new(Vec::new());

impl StartedWorker {
    /// Records a worker until its process is dropped.
    pub(crate) fn note(
        worker: WorkerId,
        restarts: u32,
        memory_limit: Option<u64>,
        process: Weak<dyn Replaceable>,
    ) -> Self {
        let started = StartedWorker { restarts, memory_limit, handle: WorkerHandle { worker, process } };
        let mut all = STARTED.lock();
        all.retain(|other| other.handle.process.strong_count() > 0);
        all.push(started.clone());
        started
    }

    #[cfg(feature = "dashboard")]
    pub(crate) fn find(worker: WorkerId) -> Option<Self> {
        // The last one: a new process may have the id of one that is gone.
        STARTED.lock().iter().rfind(|started| started.handle.worker == worker).cloned()
    }
}

/// A task, in an event. Its methods read the plan on demand, so an event that nobody reads costs
/// little.
#[derive(Clone, Copy)]
pub struct TaskInfo<'e> {
    pub(in crate::engine) run: RunIds,
    pub(in crate::engine) id: u32,
    pub(in crate::engine) plan: &'e Plan,
}

impl TaskInfo<'_> {
    /// The run of the task.
    pub fn run(&self) -> RunId {
        self.run.run
    }

    /// The number of the task in the run, which is its rank.
    pub fn id(&self) -> usize {
        self.id as usize
    }

    /// The [logical run](RunInfo::logical_run) of the task.
    pub fn logical_run(&self) -> RunId {
        self.run.logical
    }

    /// The id of the task in its logical run, where it is unique. Tasks of one run have consecutive
    /// ids.
    pub fn logical_id(&self) -> u64 {
        self.run.first_task + u64::from(self.id)
    }

    /// The name that the task was given, or the name of its function.
    pub fn name(&self) -> Arc<str> {
        self.plan.name(self.id)
    }

    /// The name that the task was given, if it was. Unlike [`name`](TaskInfo::name) it costs
    /// nothing.
    #[cfg_attr(not(feature = "dashboard"), expect(dead_code, reason = "only the dashboard asks"))]
    pub(crate) fn given_name(&self) -> Option<&Arc<str>> {
        self.plan.tasks()[self.id()].options().and_then(|options| options.name.as_ref())
    }

    /// The ids of its inputs, in the order of its arguments.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = usize> {
        self.plan.inputs(self.id).iter().map(|&id| id as usize)
    }

    /// Whether the task is a value that was put into the graph.
    pub fn is_value(&self) -> bool {
        self.plan.tasks()[self.id()].kind().is_value
    }

    pub(super) fn value_size(&self, encoded_bytes: Option<u64>) -> Option<ValueSize> {
        let kind = self.plan.tasks()[self.id()].kind();
        let is_kept = !kind.is_value && self.plan.num_readers()[self.id()] > 0;
        is_kept.then(|| ValueSize::of(kind.value_bytes, encoded_bytes))
    }
}

impl fmt::Debug for TaskInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = name::of_task(self.plan.tasks()[self.id()]);
        f.debug_struct("TaskInfo").field("run", &self.run()).field("id", &self.id).field("name", &name).finish()
    }
}

/// The cost of running a task in another process.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Crossing {
    /// When this process sent the task. The task then waited in the worker for tasks that were sent
    /// before it or with it.
    pub sent: Instant,
    /// When this process received the result.
    pub received: Instant,
    /// The bytes of arguments and values that were sent, without values that the worker already
    /// had.
    pub sent_bytes: u64,
    /// The bytes of the value that came back: 0 if only tasks of the same batch read it.
    pub received_bytes: u64,
}
