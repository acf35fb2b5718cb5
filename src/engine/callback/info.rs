//! What events show: the numbers of runs and workers, views of runs and tasks, and handles to act on them.

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

/// A number for each run that is watched, in the order in which they were started; unique in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u64);

impl RunId {
    pub(in crate::engine) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        RunId(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// That of a run of which the number has been written down.
    pub(crate) fn of_number(number: u64) -> Self {
        RunId(number)
    }

    /// The number: 1 for the first run.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which thread of which process runs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    /// `None` for this process: to ask for it is a system call.
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

    /// The process. That of a worker that has ended may have been given to another since.
    pub fn pid(self) -> u32 {
        self.pid.map_or_else(std::process::id, NonZeroU32::get)
    }

    /// The number of the thread: of this process in the order in which threads have run watched tasks, of a worker process from 0.
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

/// What knows how many tasks wait to be handed to runs.
pub(crate) trait Backlog: Send + Sync {
    /// How many were handed in and have not come to their end.
    fn num_pending(&self) -> usize;

    /// How many values there are that futures stand for, and how many bytes they take up.
    fn num_held(&self) -> (usize, usize);
}

/// The cluster whose workers keep promises of futures, as far as an event shows it. It keeps nothing of the cluster.
///
/// Futures are carried out in many small runs, of one task each or of some hundred. To watch them as one thing, watch what these have in
/// common, which is this.
#[derive(Clone)]
pub struct ClusterInfo {
    run: RunId,
    /// How many tasks watched runs of futures have had.
    num_tasks: Arc<AtomicU64>,
    name: Arc<str>,
    backlog: Weak<dyn Backlog>,
}

impl ClusterInfo {
    pub(crate) fn new(name: Arc<str>, backlog: Weak<dyn Backlog>) -> Self {
        ClusterInfo { run: RunId::next(), num_tasks: Arc::default(), name, backlog }
    }

    /// A number that no other cluster of this process ever has.
    pub fn id(&self) -> u64 {
        self.run.get()
    }

    /// The [logical run](RunInfo::logical_run) of all its futures.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// What it is called.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many tasks were handed in to it and have not come to their end, at this moment; `None` if it is gone.
    pub fn num_pending(&self) -> Option<usize> {
        self.backlog.upgrade().map(|backlog| backlog.num_pending())
    }

    /// How many values of futures are held, and how many bytes they take up: as [`Client::num_held`](crate::Client::num_held). They are not
    /// among the values of runs, which give them to the futures.
    pub fn num_held(&self) -> (usize, usize) {
        self.backlog.upgrade().map_or((0, 0), |backlog| backlog.num_held())
    }
}

impl fmt::Debug for ClusterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterInfo").field("run", &self.run).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The ids of a run: its own, that of its logical run, and the id of its first task there.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct RunIds {
    pub(in crate::engine) run: RunId,
    logical: RunId,
    first_task: u64,
}

impl RunIds {
    /// The ids of a new run; of a run of futures if there is a cluster.
    pub(in crate::engine) fn new(cluster: Option<&ClusterInfo>, plan: &Plan) -> Self {
        let run = RunId::next();
        cluster.map_or(RunIds { run, logical: run, first_task: 0 }, |cluster| {
            let first_task = cluster.num_tasks.fetch_add(plan.num_tasks() as u64, Ordering::Relaxed);
            RunIds { run, logical: cluster.run, first_task }
        })
    }
}

/// A run, as far as an event shows it.
#[derive(Clone, Copy)]
pub struct RunInfo<'e> {
    pub(in crate::engine) ids: RunIds,
    pub(in crate::engine) parent: Option<RunIds>,
    pub(in crate::engine) cluster: Option<&'e ClusterInfo>,
    pub(in crate::engine) starts_worker: bool,
    pub(in crate::engine) plan: &'e Plan,
}

impl<'e> RunInfo<'e> {
    /// Its number.
    pub fn id(&self) -> RunId {
        self.ids.run
    }

    /// The run that this one is a part of: all runs of futures of one cluster are parts of one logical run, and every other run is its
    /// own. [`TaskInfo::logical_id`] numbers the tasks of a logical run.
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

    /// The [id in the logical run](TaskInfo::logical_id) of its task 0.
    pub fn first_task(&self) -> u64 {
        self.ids.first_task
    }

    /// The run of the task that computes this one, if that is watched and in the same process.
    pub fn parent(&self) -> Option<RunId> {
        self.parent.map(|parent| parent.run)
    }

    /// The [logical run](RunInfo::logical_run) of the [parent](RunInfo::parent).
    pub fn logical_parent(&self) -> Option<RunId> {
        self.parent.map(|parent| parent.logical)
    }

    /// Whose workers carry it, if it is a run of [futures](crate::TaskFuture). What is computed without a future, as by
    /// [`compute`](crate::Delayed::compute) in a task of a cluster, is none.
    pub fn cluster(&self) -> Option<&'e ClusterInfo> {
        self.cluster
    }

    /// Whether it has a task of the cluster's own, which does nothing, to have a worker started before there is something to do.
    pub fn starts_worker(&self) -> bool {
        self.starts_worker
    }

    /// How many tasks it has. Their ids are `0..num_tasks`, in the order in which one careful worker would run them.
    pub fn num_tasks(&self) -> usize {
        self.plan.num_tasks()
    }

    /// One of its tasks.
    ///
    /// # Panics
    /// If there is no task with this id.
    #[track_caller]
    pub fn task(&self, id: usize) -> TaskInfo<'e> {
        assert!(id < self.num_tasks(), "there is no task {id} in a run of {}", self.num_tasks());
        TaskInfo { run: self.ids, id: id as u32, plan: self.plan }
    }

    /// Its outputs, in the order in which they were asked for: what one would call the run by.
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
    ///         self.0.lock().unwrap().extend(event.run.outputs().map(|task| task.name().to_string()));
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

/// A way to end a run that an event has told of, from any thread and for as long as it goes on. It keeps nothing of the run.
///
/// # Examples
/// ```
/// use sprang::callback::{self, Callback, RunStarted};
/// use sprang::{CancelToken, ErrorKind, delayed};
/// use std::sync::Arc;
///
/// /// Lets no run take place.
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
#[derive(Clone)]
pub struct RunHandle {
    pub(in crate::engine) id: RunId,
    pub(in crate::engine) run: Weak<dyn CancelRun>,
}

impl RunHandle {
    /// The run's number.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Ends the run as a pulled [`CancelToken`](crate::CancelToken) does. Says whether there was something to end: `false` if the run is over.
    pub fn cancel(&self) -> bool {
        self.run.upgrade().is_some_and(|run| run.cancel())
    }
}

impl fmt::Debug for RunHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What can have another process in its place.
pub(crate) trait Replaceable: Send + Sync {
    /// Ends the process. Says whether it was there.
    fn replace(&self) -> bool;
}

/// A way to have a worker process replaced that an event has told of, from any thread and for as long as it is there.
#[derive(Clone)]
pub struct WorkerHandle {
    worker: WorkerId,
    process: Weak<dyn Replaceable>,
}

impl WorkerHandle {
    /// The worker.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Ends the worker's process, with all its threads. What it runs is run again by another, and that is charged no attempt; another takes
    /// its place as soon as there is something to do. Says whether there was something to end: `false` if it is gone.
    ///
    /// The [event](WorkerStarted::restarts) of the one that takes its place counts it; a cluster does not among the
    /// [restarts](crate::WorkerInfo::num_restarts) that it has made itself.
    pub fn restart(&self) -> bool {
        self.process.upgrade().is_some_and(|process| process.replace())
    }
}

/// A thread of a worker process that has been started.
#[derive(Clone, Debug)]
pub(crate) struct StartedWorker {
    /// How many were in its place before.
    pub(crate) restarts: u32,
    /// How much memory of its own it may use before it is killed.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) handle: WorkerHandle,
}

/// Those that were started and are there: who begins to watch later was not told of them.
static STARTED: Mutex<Vec<StartedWorker>> = Mutex::new(Vec::new());

impl StartedWorker {
    /// Notes it, for as long as its process is held by somebody.
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
        // The last: the number of a process that is gone may be that of another.
        STARTED.lock().iter().rfind(|started| started.handle.worker == worker).cloned()
    }
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// A task, as far as an event shows it. It is looked up in the plan when it is asked for, so that an event costs little.
#[derive(Clone, Copy)]
pub struct TaskInfo<'e> {
    pub(in crate::engine) run: RunIds,
    pub(in crate::engine) id: u32,
    pub(in crate::engine) plan: &'e Plan,
}

impl TaskInfo<'_> {
    /// The run it belongs to.
    pub fn run(&self) -> RunId {
        self.run.run
    }

    /// Its number in the run, which is its rank.
    pub fn id(&self) -> usize {
        self.id as usize
    }

    /// The [logical run](RunInfo::logical_run) of its run.
    pub fn logical_run(&self) -> RunId {
        self.run.logical
    }

    /// Its id in the logical run. No other task of the logical run has it, and the tasks of a run have consecutive ones.
    pub fn logical_id(&self) -> u64 {
        self.run.first_task + u64::from(self.id)
    }

    /// The name that it was given, or that of its function.
    pub fn name(&self) -> Arc<str> {
        self.plan.name(self.id)
    }

    /// The name that it was given. Unlike [`name`](TaskInfo::name) it is never made.
    #[cfg_attr(not(feature = "dashboard"), expect(dead_code, reason = "only the dashboard asks"))]
    pub(crate) fn given_name(&self) -> Option<&Arc<str>> {
        self.plan.tasks()[self.id()].options().and_then(|options| options.name.as_ref())
    }

    /// The ids of the tasks it needs, in the order of its arguments.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = usize> {
        self.plan.inputs(self.id).iter().map(|&id| id as usize)
    }

    /// Whether it is only a value that was put into the graph.
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

/// What it took to have a task run in another process.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Crossing {
    /// When this process sent the task. Until it was started it waited for tasks that were sent with it or before.
    pub sent: Instant,
    /// When this process had the result.
    pub received: Instant,
    /// How many bytes of arguments and values went to the worker for it; not those of values that the worker had already.
    pub sent_bytes: u64,
    /// How many bytes of its value came back; none if the value was only asked for by tasks of the same batch.
    pub received_bytes: u64,
}
