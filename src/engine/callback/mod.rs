//! Watching runs: what a [`Callback`] is told, and how it is attached.
//!
//! Callbacks are told of a run by the thread that did, or that learned, what they are told of. They see events, which borrow what they show
//! of the plan, and never the state of the run.
//!
//! # What is attached to what
//!
//! A callback watches the process ([`register`]) or what one thread computes ([`scoped`], [`with`]). A run looks at both when it is made,
//! and keeps to that. Its tasks find the scoped callbacks of the run in force, as they find its configuration; so nested computes are
//! watched too, as runs of their own that know [the one around them](RunInfo::parent).
//!
//! # What is told
//!
//! 1. [`RunStarted`] comes first and [`RunFinished`] last, once each, also if the run fails, is cancelled, or the executor panics.
//! 2. Each [`TaskStarted`] is followed by exactly one of [`TaskFinished`], [`TaskFailed`], [`TaskRetried`] and [`TaskCancelled`] for the same
//!    task; only after a `TaskRetried` is it started again. The other tasks are skipped, or their run has stopped before.
//! 3. Events of one task come in order. Those of different tasks come from several threads at once.
//! 4. What a callback computes itself is not watched, or it would be told of that without end.
//! 5. A callback that panics is not called any more. The run goes on.
//!
//! And, to those who [ask for it](Callback::interests):
//!
//! 6. A task that is started is told to be [ready](TaskReady) once, before its first [`TaskStarted`]. Tasks that will be skipped are not.
//! 7. Each [`ValueStored`] follows the [`TaskFinished`] of its task, and is followed by exactly one [`ValueReleased`]: after the end of the last
//!    task that reads the value, or before [`RunFinished`] for outputs, which are handed over then, and for what a run that failed has left.
//!    The outputs of a run of futures are handed over one by one, each as soon as it is stored.
//!
//! # What it costs
//!
//! Nothing, for a run without callbacks, beside a look around when it is made: the run's status tells its workers to take care, as it does for
//! the options of tasks, and only then is a clock looked at.
//!
//! Executors do without knowing which tasks are ready and which values are held, so to tell that costs counters, for each task and each
//! dependency; and to measure a value costs a walk through it. A run pays for these only if a callback that watches it asks. Bench `callbacks`
//! has the figures.

use super::panics;
use super::run::Run;
use super::stall::{Running, Stall, Standstill};
use super::tracker::{Ending, Entry, ReadyValueTracker};
use crate::error::Error;
use crate::graph::name;
use crate::graph::plan::Plan;
use parking_lot::Mutex;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

pub use super::tracker::ValueSize;

/// An observer of runs. Every method has a body that does nothing.
///
/// Methods are called by the threads that run tasks, several at once, and the tasks wait meanwhile: what takes long belongs on a thread of
/// the callback's own. The module says [what is told when](self).
///
/// # Examples
/// ```
/// use sprang::callback::{self, Callback, TaskFinished};
/// use sprang::delayed;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::sync::Arc;
///
/// #[derive(Default)]
/// struct Count(AtomicUsize);
///
/// impl Callback for Count {
///     fn on_task_finished(&self, event: &TaskFinished<'_>) {
///         assert!(event.started <= event.ended);
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let count = Arc::new(Count::default());
/// let two = delayed(|| 2, ());
/// let four = delayed(|two| two * 2, (&two,));
/// assert_eq!(callback::with(count.clone(), || four.compute())?, 4);
/// assert_eq!(four.compute()?, 4); // not watched
/// assert_eq!(count.0.load(Ordering::Relaxed), 2);
/// # Ok::<_, sprang::Error>(())
/// ```
pub trait Callback: Send + Sync {
    /// What it wants to be told of beside what all are told. It is looked at when the callback is attached.
    fn interests(&self) -> Interests {
        Interests::new()
    }

    /// A run is about to start its first task.
    fn on_run_started(&self, event: &RunStarted<'_>) {
        let _ = event;
    }

    /// A task waits for nothing any more but a worker. Told to those who [ask](Interests::ready).
    fn on_task_ready(&self, event: &TaskReady<'_>) {
        let _ = event;
    }

    /// A task is about to be called.
    fn on_task_started(&self, event: &TaskStarted<'_>) {
        let _ = event;
    }

    /// A task has given a value.
    fn on_task_finished(&self, event: &TaskFinished<'_>) {
        let _ = event;
    }

    /// A task has failed for good.
    fn on_task_failed(&self, event: &TaskFailed<'_>) {
        let _ = event;
    }

    /// A task has given no value and is going to be called again.
    fn on_task_retried(&self, event: &TaskRetried<'_>) {
        let _ = event;
    }

    /// A task that was started has been given up, because its run has ended.
    fn on_task_cancelled(&self, event: &TaskCancelled<'_>) {
        let _ = event;
    }

    /// A task will not be called, because one that it needs has failed.
    fn on_task_skipped(&self, event: &TaskSkipped<'_>) {
        let _ = event;
    }

    /// The value of a task is kept for those that read it. Told to those who [ask](Interests::values).
    fn on_value_stored(&self, event: &ValueStored<'_>) {
        let _ = event;
    }

    /// A value is gone, dropped or moved to its last reader, or its future has it. Told to those who [ask](Interests::values).
    fn on_value_released(&self, event: &ValueReleased<'_>) {
        let _ = event;
    }

    /// A worker process has been started for a run.
    fn on_worker_started(&self, event: &WorkerStarted<'_>) {
        let _ = event;
    }

    /// A worker process has ended while it had tasks of a run.
    fn on_worker_lost(&self, event: &WorkerLost<'_>) {
        let _ = event;
    }

    /// No task of a run has finished for so long as the setting `stall_timeout` says; told once for each time, and once more where
    /// a task has started since. By a thread of its own, which the run waits for.
    fn on_run_stalled(&self, event: &RunStalled<'_>) {
        let _ = event;
    }

    /// A run has ended; nothing more will be told of it.
    fn on_run_finished(&self, event: &RunFinished<'_>) {
        let _ = event;
    }
}

/// What a [`Callback`] is told of beside what all are told, because it is not free; see [what it costs](self#what-it-costs).
///
/// # Examples
/// ```
/// use sprang::callback::{self, Callback, Interests, ValueReleased, ValueStored};
/// use sprang::delayed;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// /// How many bytes of values are held, and how many were at most.
/// #[derive(Default)]
/// struct Held(AtomicU64, AtomicU64);
///
/// impl Callback for Held {
///     fn interests(&self) -> Interests {
///         Interests::new().measured_values()
///     }
///
///     fn on_value_stored(&self, event: &ValueStored<'_>) {
///         let now = self.0.fetch_add(event.size.bytes, Relaxed) + event.size.bytes;
///         self.1.fetch_max(now, Relaxed);
///     }
///
///     fn on_value_released(&self, event: &ValueReleased<'_>) {
///         self.0.fetch_sub(event.size.bytes, Relaxed);
///     }
/// }
///
/// let held = Arc::new(Held::default());
/// let text = delayed(|| "x".repeat(1_000_000), ());
/// let len = delayed(|text: &String| text.len(), (&text,));
/// callback::with(held.clone(), || len.compute())?;
/// assert!(held.1.load(Relaxed) > 1_000_000);
/// assert_eq!(held.0.load(Relaxed), 0);
/// # Ok::<_, sprang::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interests {
    ready: bool,
    values: bool,
    releases: bool,
    measures: bool,
}

impl Interests {
    /// In nothing more.
    pub const fn new() -> Self {
        Interests { ready: false, values: false, releases: false, measures: false }
    }

    /// In tasks that become [ready](Callback::on_task_ready).
    #[must_use]
    pub const fn ready(mut self) -> Self {
        self.ready = true;
        self
    }

    /// In values that are [stored](Callback::on_value_stored) and [released](Callback::on_value_released), with the size of their type, or of
    /// their encoding if they have come from another process.
    #[must_use]
    pub const fn values(mut self) -> Self {
        self.values = true;
        self
    }

    /// In values, and in [how large](TaskFinished::value) each portable one would be if it were encoded, which is looked at when its task has
    /// ended.
    #[must_use]
    pub const fn measured_values(mut self) -> Self {
        self.measures = true;
        self.values()
    }

    /// In values that are released, but not in those that are stored: the end of the task has told of these.
    #[cfg(feature = "dashboard")]
    #[must_use]
    pub(crate) const fn releases(mut self) -> Self {
        self.releases = true;
        self
    }

    /// In sizes, but not in the events.
    #[must_use]
    pub(crate) const fn sizes(mut self) -> Self {
        self.measures = true;
        self
    }

    fn and(self, other: Interests) -> Interests {
        Interests {
            ready: self.ready || other.ready,
            values: self.values || other.values,
            releases: self.releases || other.releases,
            measures: self.measures || other.measures,
        }
    }
}

// ---- events ----

/// A number for each run that is watched, in the order in which they were started; unique in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u64);

impl RunId {
    fn next() -> Self {
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
    id: u64,
    name: Arc<str>,
    backlog: Weak<dyn Backlog>,
}

impl ClusterInfo {
    pub(crate) fn new(name: Arc<str>, backlog: Weak<dyn Backlog>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        ClusterInfo { id: LAST.fetch_add(1, Ordering::Relaxed) + 1, name, backlog }
    }

    /// A number that no other cluster of this process ever has.
    pub fn id(&self) -> u64 {
        self.id
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
        f.debug_struct("ClusterInfo").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A run, as far as an event shows it.
#[derive(Clone, Copy)]
pub struct RunInfo<'e> {
    id: RunId,
    parent: Option<RunId>,
    cluster: Option<&'e ClusterInfo>,
    starts_worker: bool,
    plan: &'e Plan,
}

impl<'e> RunInfo<'e> {
    /// Its number.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// The run of the task that computes this one, if that is watched and in the same process.
    pub fn parent(&self) -> Option<RunId> {
        self.parent
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
        TaskInfo { run: self.id, id: id as u32, plan: self.plan }
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
        let (run, plan) = (self.id, self.plan);
        plan.outputs().iter().map(move |&id| TaskInfo { run, id, plan })
    }

    pub(crate) fn plan(&self) -> &'e Plan {
        self.plan
    }
}

impl fmt::Debug for RunInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunInfo")
            .field("id", &self.id)
            .field("parent", &self.parent)
            .field("num_tasks", &self.num_tasks())
            .finish()
    }
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
    id: RunId,
    run: Weak<Run>,
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
    run: RunId,
    id: u32,
    plan: &'e Plan,
}

impl TaskInfo<'_> {
    /// The run it belongs to.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Its number in the run, which is its rank.
    pub fn id(&self) -> usize {
        self.id as usize
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

    fn value_size(&self, encoded_bytes: Option<u64>) -> Option<ValueSize> {
        let kind = self.plan.tasks()[self.id()].kind();
        let is_kept = !kind.is_value && self.plan.num_readers()[self.id()] > 0;
        is_kept.then(|| ValueSize::of(kind.value_bytes, encoded_bytes))
    }
}

impl fmt::Debug for TaskInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = name::of_task(self.plan.tasks()[self.id()]);
        f.debug_struct("TaskInfo").field("run", &self.run).field("id", &self.id).field("name", &name).finish()
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

/// See [`Callback::on_run_started`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunStarted<'e> {
    /// The run.
    pub run: RunInfo<'e>,
    /// The scheduler that carries it.
    pub scheduler: &'e str,
    /// When it was started.
    pub started: Instant,
    /// To end it.
    pub handle: RunHandle,
}

/// See [`Callback::on_task_ready`]. A task that is sent to a worker process together with its inputs is ready when it is sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskReady<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// When that was known.
    pub ready: Instant,
}

/// See [`Callback::on_task_started`]. Tasks for worker processes are sent in batches that take up to a third of a millisecond; all of a batch
/// count as started when it is sent, and the event that follows says when it was in truth.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskStarted<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who runs it.
    pub worker: WorkerId,
    /// When it was started.
    pub started: Instant,
    /// How many times it has been started, with this one.
    pub attempt: u32,
}

/// See [`Callback::on_task_finished`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskFinished<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who ran it.
    pub worker: WorkerId,
    /// When the call began, by the clock of who made it.
    pub started: Instant,
    /// When the call ended.
    pub ended: Instant,
    /// How many times it was started.
    pub attempt: u32,
    /// If it ran in another process.
    pub crossing: Option<Crossing>,
    encoded_bytes: Option<u64>,
}

impl TaskFinished<'_> {
    /// How large the value is that it has left for others; `None` if nobody is going to read it, or if it belongs to the graph.
    ///
    /// It is the size of its type, unless the value has come from another process, or a callback asks for [measured
    /// values](Interests::measured_values).
    pub fn value(&self) -> Option<ValueSize> {
        self.task.value_size(self.encoded_bytes)
    }
}

/// See [`Callback::on_task_failed`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskFailed<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who ran it.
    pub worker: WorkerId,
    /// When the last attempt began.
    pub started: Instant,
    /// When it ended, or was given up.
    pub ended: Instant,
    /// How many times it was started.
    pub attempt: u32,
    /// What went wrong.
    pub error: Error,
    /// If it ran in another process.
    pub crossing: Option<Crossing>,
}

/// See [`Callback::on_task_retried`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskRetried<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who ran it.
    pub worker: WorkerId,
    /// When the attempt began.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// What went wrong; `None` if it is not the task's fault, as when its worker died of another one.
    pub error: Option<Error>,
    /// If it ran in another process.
    pub crossing: Option<Crossing>,
}

/// See [`Callback::on_task_cancelled`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskCancelled<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who was running it.
    pub worker: WorkerId,
    /// When it was started.
    pub started: Instant,
    /// When it was given up.
    pub ended: Instant,
}

/// See [`Callback::on_task_skipped`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskSkipped<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// The task whose failure is the cause.
    pub cause: TaskInfo<'e>,
}

/// See [`Callback::on_value_stored`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValueStored<'e> {
    /// The task whose value it is.
    pub task: TaskInfo<'e>,
    /// How large it is.
    pub size: ValueSize,
    /// When it was there.
    pub stored: Instant,
}

/// See [`Callback::on_value_released`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValueReleased<'e> {
    /// The task whose value it was.
    pub task: TaskInfo<'e>,
    /// How large it was when it was stored.
    pub size: ValueSize,
    /// When it was gone.
    pub released: Instant,
}

/// See [`Callback::on_worker_started`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerStarted<'e> {
    /// The run that needed it.
    pub run: RunInfo<'e>,
    /// The worker.
    pub worker: WorkerId,
    /// How many workers were in its place before.
    pub restarts: u32,
    /// How much memory of its own it may use before it is killed.
    pub memory_limit: Option<u64>,
    /// To have it replaced.
    pub handle: WorkerHandle,
}

/// See [`Callback::on_worker_lost`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerLost<'e> {
    /// The run.
    pub run: RunInfo<'e>,
    /// The worker.
    pub worker: WorkerId,
    /// How it ended.
    pub error: Error,
}

/// See [`Callback::on_run_stalled`]. Displayed, it is the warning that is logged:
///
/// ```text
/// run 3 ("total") has stalled: no task has finished for 30.0s; 2 are running and 14 wait
///   "load 7" on thread 1 for 31.2s: 12 wait for it, first "mean 7"
///   "load 8" on thread 2 for 30.9s: 12 wait for it, first "mean 8"
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunStalled<'e> {
    /// The run.
    pub run: RunInfo<'e>,
    /// When a task finished last, in this run or in one that is nested in it in this process; if none has, when the run was started.
    pub since: Instant,
    /// When this was told.
    pub now: Instant,
    /// The tasks that were started and have not ended, the first ones first; at most 32. Of those that were sent to one worker process
    /// together, only one runs.
    pub running: Vec<RunningTask<'e>>,
    /// How many there are.
    pub num_running: usize,
    /// How many tasks have neither ended nor been started.
    pub num_waiting: usize,
    /// The run has been stopped, by a failure or a token: it waits only for those that run.
    pub is_stopped: bool,
}

/// A task that runs, and who waits for it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunningTask<'e> {
    /// The task.
    pub task: TaskInfo<'e>,
    /// Who runs it.
    pub worker: WorkerId,
    /// When it was started.
    pub started: Instant,
    /// How many times it has been started, with this one.
    pub attempt: u32,
    /// The tasks that need it, the first ones in rank; at most 8.
    pub dependents: Vec<TaskInfo<'e>>,
    /// How many tasks need it, or need a task that does, and so on.
    pub num_waiting: usize,
}

impl fmt::Display for RunStalled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.run.plan;
        let outputs = plan.outputs();
        let title = outputs.first().map(|&id| plan.name(id)).unwrap_or_default();
        let more = if outputs.len() > 1 { ", ..." } else { "" };
        let since = self.now.saturating_duration_since(self.since);
        write!(f, "run {} ({title:?}{more}) has stalled: no task has finished for {since:.1?}; ", self.run.id)?;
        match self.num_running {
            0 => f.write_str("none is running")?,
            1 => f.write_str("1 is running")?,
            number => write!(f, "{number} are running")?,
        }
        match (self.num_waiting, self.is_stopped) {
            (_, true) => f.write_str(", and the run, which was stopped, waits for that")?,
            (1, false) => f.write_str(" and 1 waits")?,
            (number, false) => write!(f, " and {number} wait")?,
        }
        for RunningTask { task, worker, started, attempt, dependents, num_waiting } in &self.running {
            let ran = self.now.saturating_duration_since(*started);
            write!(f, "\n  {:?} on {worker} for {ran:.1?}", task.name())?;
            if *attempt > 1 {
                write!(f, ", attempt {attempt}")?;
            }
            if let (Some(first), false) = (dependents.first(), self.is_stopped) {
                let verb = if *num_waiting == 1 { "waits" } else { "wait" };
                write!(f, ": {num_waiting} {verb} for it, first {:?}", first.name())?;
            }
        }
        match self.num_running - self.running.len() {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// See [`Callback::on_run_finished`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunFinished<'e> {
    /// The run.
    pub run: RunInfo<'e>,
    /// When it was started.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Why it gave no results, if so. Failures that were collected are not such a reason.
    pub error: Option<Error>,
}

// ---- attaching ----

/// A callback that is attached somewhere.
struct Attached {
    callback: Arc<dyn Callback>,
    interests: Interests,
    /// It has panicked.
    is_off: AtomicBool,
}

impl Attached {
    #[inline]
    fn tell(&self, tell: impl Fn(&dyn Callback)) {
        if self.is_off.load(Ordering::Relaxed) {
            return;
        }
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| tell(&*self.callback))) {
            self.panicked(payload);
        }
    }

    #[cold]
    fn panicked(&self, payload: Box<dyn Any + Send>) {
        let message = panics::describe(payload);
        if !self.is_off.swap(true, Ordering::Relaxed) {
            log::error!("a callback panicked and is not called any more: {message}");
        }
    }

    fn is(&self, other: &Attached) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.callback), Arc::as_ptr(&other.callback))
    }
}

/// Each with the number of its guard.
type List = Vec<(u64, Arc<Attached>)>;

/// Those that watch the process.
static REGISTERED: Mutex<List> = Mutex::new(Vec::new());
/// How many there are. Relaxed: who has learned of one, has learned it by something that orders the two threads.
static NUM_REGISTERED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static FRAME: RefCell<Frame> =
        const { RefCell::new(Frame { scoped: Vec::new(), run: None, stall: None, cluster: None, starts_worker: false }) };
    /// This thread is in a callback.
    static IS_TELLING: Cell<bool> = const { Cell::new(false) };
}

/// What is in force on a thread.
#[derive(Default)]
struct Frame {
    scoped: List,
    /// The watched run that the thread works on.
    run: Option<RunId>,
    /// What knows whether that run gets on.
    stall: Option<Arc<Stall>>,
    /// Runs that the thread starts are those of futures.
    cluster: Option<ClusterInfo>,
    /// Or of none, but of their cluster.
    starts_worker: bool,
}

fn attached(callback: Arc<dyn Callback>) -> (u64, Arc<Attached>) {
    static GUARDS: AtomicU64 = AtomicU64::new(0);
    let interests = callback.interests();
    (GUARDS.fetch_add(1, Ordering::Relaxed), Arc::new(Attached { callback, interests, is_off: AtomicBool::new(false) }))
}

/// Takes the one with this number out, for the caller to drop.
fn take(list: &mut List, guard: u64) -> Option<(u64, Arc<Attached>)> {
    let position = list.iter().position(|(number, _)| *number == guard)?;
    Some(list.remove(position))
}

/// Has a callback watch what this thread computes, and what is computed in the tasks of that, until the guard is dropped.
///
/// Several callbacks may watch at once; each is told once, however often it is attached. Guards may be dropped in any order.
///
/// # Examples
/// ```
/// use sprang::callback::{self, Callback, RunStarted};
/// use std::sync::{Arc, Mutex};
///
/// #[derive(Default)]
/// struct Sizes(Mutex<Vec<usize>>);
///
/// impl Callback for Sizes {
///     fn on_run_started(&self, event: &RunStarted<'_>) {
///         self.0.lock().unwrap().push(event.run.num_tasks());
///     }
/// }
///
/// let sizes = Arc::new(Sizes::default());
/// let watched = callback::scoped(sizes.clone());
/// sprang::delayed(|| (), ()).compute()?;
/// drop(watched);
/// assert_eq!(*sizes.0.lock().unwrap(), [1]);
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn scoped(callback: Arc<dyn Callback>) -> Scope {
    let new = attached(callback);
    let guard = new.0;
    let mut new = Some(new);
    // A thread that is about to end computes nothing any more; then `new` is dropped here.
    let _ended = FRAME.try_with(|frame| frame.borrow_mut().scoped.extend(new.take()));
    Scope { guard, of_this_thread: PhantomData }
}

/// Has a callback watch what `body` computes on this thread. See [`scoped`].
pub fn with<R>(callback: Arc<dyn Callback>, body: impl FnOnce() -> R) -> R {
    let _scope = scoped(callback);
    body()
}

/// Keeps a callback attached to this thread until it is dropped.
#[must_use = "the callback watches until this guard is dropped: bind it, `let _scope = ...`"]
#[derive(Debug)]
pub struct Scope {
    guard: u64,
    of_this_thread: PhantomData<*const ()>,
}

impl Drop for Scope {
    fn drop(&mut self) {
        // Dropped after the borrow: it may be the last handle of something of the program's.
        let _taken = FRAME.try_with(|frame| take(&mut frame.borrow_mut().scoped, self.guard));
    }
}

/// Has a callback watch all runs of this process that start from now on, until the guard is dropped.
///
/// # Examples
/// ```
/// use sprang::callback::{self, Callback, TaskFailed};
/// use std::sync::{Arc, Mutex};
///
/// #[derive(Default)]
/// struct Failures(Mutex<Vec<String>>);
///
/// impl Callback for Failures {
///     fn on_task_failed(&self, event: &TaskFailed<'_>) {
///         self.0.lock().unwrap().push(event.error.message().to_owned());
///     }
/// }
///
/// let failures = Arc::new(Failures::default());
/// let _registration = callback::register(failures.clone());
/// let bad = sprang::try_delayed(|| "x".parse::<i32>(), ());
/// std::thread::spawn(move || bad.compute().unwrap_err()).join().unwrap();
/// assert_eq!(*failures.0.lock().unwrap(), ["invalid digit found in string"]);
/// ```
pub fn register(callback: Arc<dyn Callback>) -> Registration {
    let new = attached(callback);
    let guard = new.0;
    let mut registered = REGISTERED.lock();
    registered.push(new);
    NUM_REGISTERED.store(registered.len(), Ordering::Relaxed);
    Registration { guard }
}

/// Keeps a callback attached to the process until it is dropped. [`std::mem::forget`] keeps it for ever.
#[must_use = "the callback watches until this guard is dropped: bind it, `let _registration = ...`"]
#[derive(Debug)]
pub struct Registration {
    guard: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut registered = REGISTERED.lock();
        let taken = take(&mut registered, self.guard);
        NUM_REGISTERED.store(registered.len(), Ordering::Relaxed);
        drop(registered);
        drop(taken);
    }
}

/// The callbacks that watch what a thread computes, for what it has others do.
#[derive(Clone)]
pub(crate) struct Watchers(List);

impl Watchers {
    /// Those of this thread; `None` if there are none.
    pub(crate) fn of_this_thread() -> Option<Self> {
        let scoped = FRAME.try_with(|frame| frame.borrow().scoped.clone()).unwrap_or_default();
        (!scoped.is_empty()).then_some(Watchers(scoped))
    }

    /// Has them, if there are any, watch the runs of futures of a cluster that this thread starts, until the guard is dropped.
    pub(crate) fn enter(watchers: Option<&Self>, cluster: &ClusterInfo) -> Entered {
        let scoped = watchers.map_or_else(Vec::new, |watchers| watchers.0.clone());
        Entered::of(Frame { scoped, cluster: Some(cluster.clone()), ..Frame::default() })
    }

    /// The same, for a run that has a worker started.
    pub(crate) fn enter_start(cluster: &ClusterInfo) -> Entered {
        Entered::of(Frame { cluster: Some(cluster.clone()), starts_worker: true, ..Frame::default() })
    }
}

/// Puts a frame in force on this thread until it is dropped.
pub(crate) struct Entered {
    before: Frame,
}

impl Entered {
    fn of(frame: Frame) -> Self {
        Entered { before: FRAME.try_with(|current| current.replace(frame)).unwrap_or_default() }
    }

    pub(super) fn new(watch: Option<&Watch>) -> Self {
        let frame = watch.map_or_else(Frame::default, |watch| Frame {
            scoped: watch.scoped.clone(),
            run: Some(watch.run),
            stall: watch.stall.clone(),
            ..Frame::default()
        });
        Entered::of(frame)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let _inner = FRAME.try_with(|frame| frame.replace(std::mem::take(&mut self.before)));
    }
}

// ---- telling ----

/// Those who watch one run.
pub(super) struct Watch {
    run: RunId,
    parent: Option<RunId>,
    cluster: Option<ClusterInfo>,
    starts_worker: bool,
    started: Instant,
    /// To be in force in the run's tasks.
    scoped: List,
    all: Box<[Arc<Attached>]>,
    /// One of `all`.
    stall: Option<Arc<Stall>>,
    /// What all of them ask for.
    interests: Interests,
    /// Whether the run goes on after a failure.
    goes_on: bool,
    account: Option<ReadyValueTracker>,
    /// Tasks whose end will be told by another thread than that which told their start, or not in the same breath.
    open: Mutex<HashMap<u32, Open>>,
    has_ended: AtomicBool,
}

/// How far a task has got that runs elsewhere.
#[derive(Clone, Debug)]
struct Open {
    worker: WorkerId,
    sent: Instant,
    sent_bytes: u64,
    /// When it ran, and when that was known here.
    ran: Option<(Instant, Instant, Instant)>,
    attempt: u32,
    is_running: bool,
    /// It was run by this process.
    is_here: bool,
}

/// An attempt that a thread of this process has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    worker: WorkerId,
    started: Instant,
    number: u32,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("run", &self.run).field("num_callbacks", &self.all.len()).finish_non_exhaustive()
    }
}

/// Whether anybody would watch a run that this thread starts.
pub(crate) fn has_watchers() -> bool {
    NUM_REGISTERED.load(Ordering::Relaxed) > 0
        || FRAME.try_with(|frame| !frame.borrow().scoped.is_empty()).unwrap_or(false)
}

impl Watch {
    /// Those who watch a run of this plan that this thread is about to start, if anybody does. `goes_on` says whether it goes on after a failure.
    pub(super) fn of_this_thread(plan: &Plan, goes_on: bool, stall_timeout: Option<Duration>) -> Option<Box<Watch>> {
        let is_telling = IS_TELLING.try_with(Cell::get).unwrap_or(false);
        let has_any = has_watchers() || stall_timeout.is_some();
        if has_any && !is_telling { Watch::new(plan, goes_on, stall_timeout) } else { None }
    }

    #[cold]
    fn new(plan: &Plan, goes_on: bool, stall_timeout: Option<Duration>) -> Option<Box<Watch>> {
        let current = FRAME.try_with(|frame| {
            let frame = frame.borrow();
            (frame.scoped.clone(), frame.run, frame.stall.clone(), frame.cluster.clone(), frame.starts_worker)
        });
        let (scoped, parent, around, cluster, starts_worker) = current.unwrap_or_default();
        let registered = REGISTERED.lock().clone();
        let stall = stall_timeout.map(|timeout| Arc::new(Stall::new(timeout, around, Instant::now())));
        let mut all: Vec<Arc<Attached>> = Vec::new();
        all.extend(stall.as_ref().map(|stall| attached(Arc::<Stall>::clone(stall)).1));
        for (_, attached) in registered.iter().chain(&scoped) {
            if !all.iter().any(|other| other.is(attached)) {
                all.push(Arc::clone(attached));
            }
        }
        // The last registration may have been dropped in this moment.
        (!all.is_empty()).then(|| {
            let (run, started) = (RunId::next(), Instant::now());
            let interests = all.iter().map(|attached| attached.interests).fold(Interests::new(), Interests::and);
            let of_values = interests.values || interests.releases;
            let account = (interests.ready || of_values)
                .then(|| ReadyValueTracker::new(plan, interests.ready, of_values, cluster.is_some()));
            let (all, open, has_ended) = (all.into(), Mutex::default(), AtomicBool::new(false));
            Box::new(Watch {
                run,
                parent,
                cluster,
                starts_worker,
                started,
                scoped,
                all,
                stall,
                interests,
                goes_on,
                account,
                open,
                has_ended,
            })
        })
    }

    #[inline]
    fn tell(&self, tell: impl Fn(&dyn Callback)) {
        self.tell_those(|_| true, tell);
    }

    #[inline]
    fn tell_those(&self, who: impl Fn(Interests) -> bool, tell: impl Fn(&dyn Callback)) {
        let was_telling = IS_TELLING.try_with(|it| it.replace(true)).unwrap_or(true);
        self.all.iter().filter(|attached| who(attached.interests)).for_each(|attached| attached.tell(&tell));
        let _ended = IS_TELLING.try_with(|it| it.set(was_telling));
    }

    /// Whether the values of tasks are to be measured when they have ended.
    pub(super) fn measures(&self) -> bool {
        self.interests.measures
    }

    /// A task has ended, which was told; at that time, if it is known.
    #[inline]
    fn enter(&self, plan: &Plan, id: u32, ended: Option<Instant>, ending: impl FnOnce() -> Ending) {
        // A run that is about to be stopped has no ready tasks any more, and what it holds goes with it.
        if let Some(account) = &self.account {
            let ending = ending();
            if self.goes_on || matches!(ending, Ending::Good(_)) {
                // One look at the clock for all, or none: it takes longer than the rest.
                let mut at = ended;
                let tell = |entry| self.tell_entry(plan, entry, *at.get_or_insert_with(Instant::now));
                account.ended(plan, id, ending, tell);
            }
        }
    }

    fn tell_entry(&self, plan: &Plan, entry: Entry, now: Instant) {
        match entry {
            Entry::Stored(..) if !self.interests.values => {}
            Entry::Stored(id, size) => {
                let event = ValueStored { task: self.task(plan, id), size, stored: now };
                self.tell_those(|it| it.values, |callback| callback.on_value_stored(&event));
            }
            Entry::Released(id, size) => {
                let event = ValueReleased { task: self.task(plan, id), size, released: now };
                self.tell_those(|it| it.values || it.releases, |callback| callback.on_value_released(&event));
            }
            Entry::Ready(id) => {
                let event = TaskReady { task: self.task(plan, id), ready: now };
                self.tell_those(|it| it.ready, |callback| callback.on_task_ready(&event));
            }
        }
    }

    fn task<'e>(&self, plan: &'e Plan, id: u32) -> TaskInfo<'e> {
        TaskInfo { run: self.run, id, plan }
    }

    fn run_info<'e>(&'e self, plan: &'e Plan) -> RunInfo<'e> {
        let &Watch { run: id, parent, ref cluster, starts_worker, .. } = self;
        RunInfo { id, parent, cluster: cluster.as_ref(), starts_worker, plan }
    }

    pub(super) fn run_started(&self, plan: &Plan, scheduler: &str, run: Weak<Run>) {
        let handle = RunHandle { id: self.run, run };
        let event = RunStarted { run: self.run_info(plan), scheduler, started: self.started, handle };
        self.tell(|callback| callback.on_run_started(&event));
        if let Some(account) = &self.account {
            let now = Instant::now();
            account.begin(|id| self.tell_entry(plan, Entry::Ready(id), now));
        }
    }

    /// The run is closed. Tells the end of all that has none yet.
    pub(super) fn run_finished(&self, plan: &Plan, error: Option<Error>) {
        if self.has_ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let ended = Instant::now();
        let open = std::mem::take(&mut *self.open.lock());
        for (id, open) in open.into_iter().filter(|(_, open)| open.is_running) {
            let (task, worker, started) = (self.task(plan, id), open.worker, open.sent);
            let event = TaskCancelled { task, worker, started, ended };
            self.tell(|callback| callback.on_task_cancelled(&event));
        }
        if let Some(account) = &self.account {
            account.close(|entry| self.tell_entry(plan, entry, ended));
        }
        let event = RunFinished { run: self.run_info(plan), started: self.started, ended: Instant::now(), error };
        self.tell(|callback| callback.on_run_finished(&event));
    }

    pub(super) fn stall(&self) -> Option<&Stall> {
        self.stall.as_deref()
    }

    /// The run has stalled: tells what that looks like, unless there is nothing left to do.
    pub(super) fn run_stalled(&self, plan: &Plan, is_stopped: bool) {
        const MOST_RUNNING: usize = 32;
        const MOST_DEPENDENTS: usize = 8;
        let Some(Standstill { since, num_settled, running: started }) = self.stall().and_then(Stall::standstill) else {
            return;
        };
        let num_running = started.len();
        let num_waiting = plan.num_tasks().saturating_sub(num_settled + num_running);
        if num_running == 0 && (num_waiting == 0 || is_stopped) {
            return;
        }
        let running = started.into_iter().take(MOST_RUNNING).map(|(id, Running { worker, started, attempt })| {
            let direct = plan.dependents().of(id);
            let mut dependents: Vec<_> = direct.iter().map(|&id| self.task(plan, id)).collect();
            dependents.dedup_by_key(|task| task.id);
            dependents.truncate(MOST_DEPENDENTS);
            RunningTask {
                task: self.task(plan, id),
                worker,
                started,
                attempt,
                dependents,
                num_waiting: plan.num_downstream(id),
            }
        });
        let (running, now) = (running.collect(), Instant::now());
        let event = RunStalled { run: self.run_info(plan), since, now, running, num_running, num_waiting, is_stopped };
        self.tell(|callback| callback.on_run_stalled(&event));
    }

    pub(super) fn task_skipped(&self, plan: &Plan, id: u32, cause: u32) {
        let event = TaskSkipped { task: self.task(plan, id), cause: self.task(plan, cause) };
        self.tell(|callback| callback.on_task_skipped(&event));
        self.enter(plan, id, None, || Ending::Bad);
    }

    pub(super) fn worker_started(&self, plan: &Plan, started: &StartedWorker) {
        let &StartedWorker { restarts, memory_limit, ref handle } = started;
        let (worker, handle) = (handle.worker, handle.clone());
        let event = WorkerStarted { run: self.run_info(plan), worker, restarts, memory_limit, handle };
        self.tell(|callback| callback.on_worker_started(&event));
    }

    pub(super) fn worker_lost(&self, plan: &Plan, worker: WorkerId, error: Error) {
        let event = WorkerLost { run: self.run_info(plan), worker, error };
        self.tell(|callback| callback.on_worker_lost(&event));
    }

    // ---- tasks that this thread runs ----

    pub(super) fn begin(&self, plan: &Plan, id: u32, number: u32) -> Attempt {
        let attempt = Attempt { worker: WorkerId::here(), started: Instant::now(), number };
        let Attempt { worker, started, number } = attempt;
        let event = TaskStarted { task: self.task(plan, id), worker, started, attempt: number };
        self.tell(|callback| callback.on_task_started(&event));
        attempt
    }

    /// The call of an attempt ended at `ended` with a value, which has so many bytes if that was measured.
    pub(super) fn finished(&self, plan: &Plan, id: u32, attempt: Attempt, ended: Instant, encoded_bytes: Option<u64>) {
        let Attempt { worker, started, number } = attempt;
        let task = self.task(plan, id);
        let event = TaskFinished { task, worker, started, ended, attempt: number, crossing: None, encoded_bytes };
        self.tell(|callback| callback.on_task_finished(&event));
        self.enter(plan, id, Some(ended), || Ending::Good(event.value()));
    }

    /// As [`Watch::finished`], but the executor will say whether the value can be used.
    pub(super) fn hold_back(&self, id: u32, attempt: Attempt, ended: Instant) {
        let ran = Some((attempt.started, ended, ended));
        let Attempt { worker, started: sent, number: attempt } = attempt;
        let open = Open { worker, sent, sent_bytes: 0, ran, attempt, is_running: true, is_here: true };
        self.open.lock().insert(id, open);
    }

    /// `is_holding` says that the task may not have let go of its inputs.
    pub(super) fn failed(
        &self,
        plan: &Plan,
        id: u32,
        attempt: Attempt,
        ended: Instant,
        error: Error,
        is_holding: bool,
    ) {
        let Attempt { worker, started, number } = attempt;
        let task = self.task(plan, id);
        let event = TaskFailed { task, worker, started, ended, attempt: number, error, crossing: None };
        self.tell(|callback| callback.on_task_failed(&event));
        self.enter(plan, id, Some(ended), || if is_holding { Ending::BadHolding } else { Ending::Bad });
    }

    pub(super) fn retried(&self, plan: &Plan, id: u32, attempt: Attempt, ended: Instant, error: Option<Error>) {
        let Attempt { worker, started, number } = attempt;
        let task = self.task(plan, id);
        let event = TaskRetried { task, worker, started, ended, attempt: number, error, crossing: None };
        self.tell(|callback| callback.on_task_retried(&event));
    }

    // ---- tasks that run elsewhere ----

    /// A task was sent to a worker, with so many bytes.
    pub(super) fn sent(&self, plan: &Plan, id: u32, worker: WorkerId, sent_bytes: u64) {
        let started = Instant::now();
        // It may go with its inputs.
        if self.account.as_ref().is_some_and(|account| account.is_told_now(id)) {
            self.tell_entry(plan, Entry::Ready(id), started);
        }
        let attempt = {
            let mut open = self.open.lock();
            let attempt = open.get(&id).map_or(0, |open| open.attempt) + 1;
            let sent = Open { worker, sent: started, sent_bytes, ran: None, attempt, is_running: true, is_here: false };
            open.insert(id, sent);
            attempt
        };
        let event = TaskStarted { task: self.task(plan, id), worker, started, attempt };
        self.tell(|callback| callback.on_task_started(&event));
    }

    /// The worker has run it, from and until when is said. What comes of it is told later.
    pub(super) fn ran(&self, id: u32, started: Instant, ended: Instant) {
        let received = Instant::now();
        if let Some(open) = self.open.lock().get_mut(&id) {
            let started = started.clamp(open.sent, received);
            open.ran = Some((started, ended.clamp(started, received), received));
        }
    }

    /// The last attempt of a task that was sent, or held back, is over.
    fn close(&self, plan: &Plan, id: u32) -> Open {
        let is_running = self.open.lock().get(&id).is_some_and(|open| open.is_running);
        if !is_running {
            // It has failed on its way to the worker.
            self.sent(plan, id, WorkerId::here(), 0);
        }
        self.open.lock().remove(&id).expect("a task is settled by one thread")
    }

    /// A task that was sent, or held back, has a value, of so many bytes if it was encoded.
    pub(super) fn open_finished(&self, plan: &Plan, id: u32, encoded_bytes: Option<u64>) {
        let open = self.close(plan, id);
        let (started, ended) = open.span();
        let Open { worker, attempt, .. } = open;
        let (task, crossing) = (self.task(plan, id), open.crossing(encoded_bytes.unwrap_or(0)));
        let event = TaskFinished { task, worker, started, ended, attempt, crossing, encoded_bytes };
        self.tell(|callback| callback.on_task_finished(&event));
        self.enter(plan, id, None, || Ending::Good(event.value()));
    }

    pub(super) fn open_failed(&self, plan: &Plan, id: u32, error: Error) {
        let open = self.close(plan, id);
        let (started, ended) = open.span();
        let Open { worker, attempt, .. } = open;
        let (task, crossing) = (self.task(plan, id), open.crossing(0));
        let event = TaskFailed { task, worker, started, ended, attempt, error, crossing };
        self.tell(|callback| callback.on_task_failed(&event));
        self.enter(plan, id, None, || Ending::Bad);
    }

    /// The attempt of a task that was sent is over, and there will be another. Nothing, if it was not sent.
    pub(super) fn open_retried(&self, plan: &Plan, id: u32, error: Option<Error>) {
        let open = {
            let mut open = self.open.lock();
            let Some(open) = open.get_mut(&id).filter(|open| open.is_running) else { return };
            open.is_running = false;
            open.clone()
        };
        let (started, ended) = open.span();
        let Open { worker, attempt, .. } = open;
        let (task, crossing) = (self.task(plan, id), open.crossing(0));
        let event = TaskRetried { task, worker, started, ended, attempt, error, crossing };
        self.tell(|callback| callback.on_task_retried(&event));
    }
}

impl Open {
    fn span(&self) -> (Instant, Instant) {
        self.ran.map_or_else(|| (self.sent, Instant::now()), |(started, ended, _)| (started, ended))
    }

    fn crossing(&self, received_bytes: u64) -> Option<Crossing> {
        let received = self.ran.map_or_else(Instant::now, |(.., received)| received);
        let Open { sent, sent_bytes, .. } = *self;
        (!self.is_here).then_some(Crossing { sent, received, sent_bytes, received_bytes })
    }
}
