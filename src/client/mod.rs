//! Eager execution: tasks submitted one at a time, and the workers that run them.
//!
//! [`delayed`](crate::delayed) makes a graph that is computed as a whole. Here a graph grows while
//! it runs: a [`Client`] [submits](submit) a task and returns a [`TaskFuture`], which can be an
//! argument of the next task. A [`promise`] is the result behind a future. A task whose arguments
//! are available goes into the queue of a [`cluster`]. A thread of the cluster runs it as a run of
//! its own, so futures have all features of runs. Tasks that a task in a worker process submits are
//! [`nested`]: they go to the cluster. [`wait`] explains how tasks wait without blocking a worker.
//! [`shared`] has the objects that tasks share by name.
//!
//! This module uses `api` and the modules before it. Only `diagnostics` uses this module.

#[cfg(feature = "progress")]
mod any;
mod block;
mod cluster;
mod completed;
mod forms;
mod future;
mod future_node;
mod job;
mod limit;
mod nested;
mod outcome;
mod promise;
mod shared;
mod spin;
mod submit;
mod tasks;
mod wait;
mod window;

#[cfg(feature = "progress")]
pub(crate) use any::AnyFuture;
pub use cluster::{ClusterBuilder, LocalCluster, WhenFull, WorkerInfo, WorkerState};
pub use completed::{AsCompleted, WithResults, as_completed, wait, wait_timeout};
pub use forms::{Futures, Persisted};
pub use future::{CancelOnDrop, TaskFuture};
pub use outcome::Status;
pub use shared::{Event, Lock, Permit, Queue, Semaphore, Variable};
pub use tasks::Tasks;
pub use wait::WaitFor;
pub use window::{Windowed, WindowedAsCompleted, windowed};

use self::cluster::Cluster;
use crate::api::collection::{Collection, Form, HandleList, Outcomes, Parts, Values};
use crate::api::compute::{IntoScheduler, compute_in};
use crate::api::config::{self, Snapshot};
use crate::api::delayed::{CapturesNothing, delayed, task};
use crate::engine::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Scheduler;
use crate::graph::Delayed;
use crate::graph::node::TaskRef;
use crate::graph::task::{Fallible, LocalFallible, LocalPlain, Plain, TaskArgs, TaskError};
use crate::portable::Portable;
use forms::Submission;
use future::{first_error, unsettled};
use future_node::{future_node, portable_future_node, promise_of};
use job::Owner;
use parking_lot::Mutex;
use promise::Promise;
use spin::deadline_after;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Submits tasks to the workers of a cluster, and returns futures of their results.
///
/// A client is cheap to clone, and several clients may use one cluster. Tasks run with the
/// [configuration](crate::config) of the thread that submits them; the settings that describe
/// workers are those of the thread that made the cluster.
///
/// # Examples
/// ```
/// use sprang::{Client, TaskFuture};
///
/// fn inc(x: i64) -> i64 {
///     x + 1
/// }
///
/// let client = Client::start()?; // worker processes for all cores; or `Client::threads(2)`
/// let ten: TaskFuture<i64> = client.submit(inc, (9_i64,)); // runs at once, elsewhere
/// let more: Vec<_> = client.map(inc, 0..5_i64);
/// let sum = |more: sprang::Refs<'_, i64>, ten: &i64| more.iter().sum::<i64>() + ten;
/// let total = client.submit(sum, (&more, &ten));
/// assert_eq!(total.result()?, 25);
/// assert_eq!(client.gather(&more)?, [1, 2, 3, 4, 5]);
/// # Ok::<_, sprang::Error>(())
/// ```
#[derive(Clone)]
pub struct Client {
    core: Arc<Cluster>,
    /// The cluster that the client closes with its last clone, if any.
    own: Option<Arc<LocalCluster>>,
    pure: Arc<Mutex<PureCalls>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("cluster", &self.core.name)
            .field("num_workers", &self.core.num_workers())
            .field("num_pending", &self.num_pending())
            .field("owns_cluster", &self.own.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?}, {})", self.core.name, self.core)
    }
}

impl Client {
    /// Makes a client for a cluster.
    pub fn new(cluster: &LocalCluster) -> Self {
        Client::of(cluster.shared())
    }

    fn of(core: &Arc<Cluster>) -> Self {
        Client { core: Arc::clone(core), own: None, pure: Arc::default() }
    }

    /// Makes a client with a cluster of its own: worker processes for all cores. The cluster is
    /// closed with the last clone of the client.
    ///
    /// # Errors
    /// As [`ClusterBuilder::build`].
    pub fn start() -> Result<Self> {
        LocalCluster::builder().build().map(Client::owning)
    }

    /// Makes a client with a cluster of `num_threads` threads.
    ///
    /// # Errors
    /// As [`ClusterBuilder::build`].
    pub fn threads(num_threads: usize) -> Result<Self> {
        LocalCluster::builder().workers(num_threads).threads_per_worker(1).processes(false).build().map(Client::owning)
    }

    /// Makes a client with a cluster of `num_processes` worker processes, which run one task at a
    /// time each.
    ///
    /// # Errors
    /// As [`ClusterBuilder::build`].
    pub fn processes(num_processes: usize) -> Result<Self> {
        LocalCluster::builder().workers(num_processes).threads_per_worker(1).build().map(Client::owning)
    }

    /// Makes a client that closes the cluster when its last clone is dropped.
    pub fn owning(cluster: LocalCluster) -> Self {
        Client { core: Arc::clone(cluster.shared()), own: Some(Arc::new(cluster)), pure: Arc::default() }
    }

    /// Returns the client whose workers are the [scheduler](crate::config) of this thread.
    ///
    /// In a task of a client this is a client of the same cluster. On a thread with a
    /// [default](Client::as_default) client it is that client.
    ///
    /// In a task in a worker process, submitted tasks go to the cluster, whose workers run them.
    /// When the task ends, its unfinished nested tasks are cancelled, except those that were
    /// [detached](TaskFuture::detach). Graphs, [local](Client::submit_local) tasks, and tasks
    /// submitted by other threads of the process run in the process. [Shared](Client::event)
    /// objects are those of the cluster. [`workers`](Client::workers) and
    /// [`num_pending`](Client::num_pending) describe only the process, so [`run`](Client::run) and
    /// [`broadcast`](Client::broadcast) do not reach all workers from there.
    pub fn current() -> Option<Self> {
        let settings = config::settings().ok()?;
        self::cluster::cluster_of(&settings.scheduler).map(|core| Client::of(&core)).or_else(in_worker)
    }

    /// Makes this client the scheduler and the [current](Client::current) client of this thread,
    /// until the guard is dropped.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Client, delayed};
    ///
    /// let client = Client::threads(2)?;
    /// let _default = client.as_default()?;
    /// assert_eq!(delayed(|| 6 * 7, ()).compute()?, 42); // on the client's workers
    /// assert!(Client::current().is_some());
    /// # Ok::<_, sprang::Error>(())
    /// ```
    ///
    /// # Errors
    /// A mistake in the [configuration](crate::config).
    #[track_caller]
    pub fn as_default(&self) -> Result<DefaultClient> {
        let scope = config::scoped("scheduler", self.core.scheduler())?;
        Ok(DefaultClient { _scope: scope, _client: self.clone() })
    }

    /// Submits a call of a function. The arguments are those of [`delayed`]. The task starts when
    /// all futures among them have finished. This method does not wait for them.
    pub fn submit<F, R, A>(&self, function: F, args: A) -> TaskFuture<R>
    where
        R: Portable,
        A: TaskArgs<F, R>,
    {
        const { CapturesNothing::<F>::CHECK };
        self.submit_portable(task::<Plain, F, R, A, true>(function, args))
    }

    /// As [`submit`](Client::submit), for a function that returns a `Result`: an `Err` fails the
    /// future.
    pub fn try_submit<F, T, E, A>(&self, function: F, args: A) -> TaskFuture<T>
    where
        T: Portable,
        E: TaskError,
        A: TaskArgs<F, Result<T, E>>,
    {
        const { CapturesNothing::<F>::CHECK };
        self.submit_portable(task::<Fallible, F, Result<T, E>, A, true>(function, args))
    }

    /// As [`submit`](Client::submit), for a task that stays in this process: the function may
    /// capture, and the value needs no encoding.
    pub fn submit_local<F, R, A>(&self, function: F, args: A) -> TaskFuture<R>
    where
        R: Send + Sync + 'static,
        A: TaskArgs<F, R>,
    {
        self.compute_one(&task::<LocalPlain, F, R, A, true>(function, args))
    }

    /// As [`submit_local`](Client::submit_local), for a function that returns a `Result`.
    pub fn try_submit_local<F, T, E, A>(&self, function: F, args: A) -> TaskFuture<T>
    where
        T: Send + Sync + 'static,
        E: TaskError,
        A: TaskArgs<F, Result<T, E>>,
    {
        self.compute_one(&task::<LocalFallible, F, Result<T, E>, A, true>(function, args))
    }

    /// As [`submit`](Client::submit), for a function whose value depends on its arguments alone.
    ///
    /// If the function was submitted by this method with equal arguments before, and a future of
    /// that call still exists, this returns the same future.
    ///
    /// # Examples
    /// ```
    /// use sprang::Client;
    ///
    /// let client = Client::threads(1)?;
    /// let first = client.submit_pure(|x: u64| x * x, (12_u64,));
    /// let again = client.submit_pure(|x: u64| x + x, (12_u64,));
    /// assert_eq!((first.result()?, again.result()?), (144, 24)); // two functions
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn submit_pure<F, R, A>(&self, function: F, args: A) -> TaskFuture<R>
    where
        R: Portable,
        A: TaskArgs<F, R>,
    {
        const { CapturesNothing::<F>::CHECK };
        self.tasks().pure().submit(function, args)
    }

    /// Submits a call of a function for each item, and returns the futures in the order of the
    /// items.
    ///
    /// An item is any argument that [`delayed`] accepts: a plain value, a future, a handle. For
    /// functions of several arguments see [`map_zipped`](Client::map_zipped).
    ///
    /// A function that captures is refused, by `cargo build` and not by `cargo check`. Pass what it
    /// needs as an argument: `client.map_zipped(|x, base| x + base, xs.map(|x| (x, base)))`. Or use
    /// [`map_local`](Client::map_local).
    pub fn map<F, R, I>(&self, function: F, items: I) -> Vec<TaskFuture<R>>
    where
        F: Clone,
        R: Portable,
        I: IntoIterator,
        (I::Item,): TaskArgs<F, R>,
    {
        const { CapturesNothing::<F>::CHECK };
        self.tasks().map(function, items)
    }

    /// Submits a call of a function for each tuple of arguments: `client.map_zipped(add,
    /// xs.into_iter().zip(ys))`.
    pub fn map_zipped<F, R, I>(&self, function: F, args: I) -> Vec<TaskFuture<R>>
    where
        F: Clone,
        R: Portable,
        I: IntoIterator,
        I::Item: TaskArgs<F, R>,
    {
        const { CapturesNothing::<F>::CHECK };
        self.tasks().map_zipped(function, args)
    }

    /// As [`map`](Client::map), for a function that returns a `Result`: an `Err` fails the future
    /// of the item.
    pub fn try_map<F, T, E, I>(&self, function: F, items: I) -> Vec<TaskFuture<T>>
    where
        F: Clone,
        T: Portable,
        E: TaskError,
        I: IntoIterator,
        (I::Item,): TaskArgs<F, Result<T, E>>,
    {
        const { CapturesNothing::<F>::CHECK };
        self.tasks().try_map(function, items)
    }

    /// As [`map`](Client::map), for tasks that stay in this process; see
    /// [`submit_local`](Client::submit_local).
    pub fn map_local<F, R, I>(&self, function: F, items: I) -> Vec<TaskFuture<R>>
    where
        F: Clone,
        R: Send + Sync + 'static,
        I: IntoIterator,
        (I::Item,): TaskArgs<F, R>,
    {
        self.tasks().map_local(function, items)
    }

    /// Submits tasks with options: `client.tasks().retries(2).map(load, paths)`.
    pub fn tasks(&self) -> Tasks<'_> {
        Tasks::new(self)
    }

    /// Computes the handles of a [`Collection`] in one run, and returns a future for each, in the
    /// same shape.
    ///
    /// A handle is a `&Delayed<T>`; a collection is a handle, a tuple, vector, slice, array, option
    /// or map of collections, or a type of your own.
    ///
    /// If the setting `run_timeout` is in force here, the futures that have no value so long after
    /// this call fail with [`TimedOut`](crate::ErrorKind::TimedOut).
    ///
    /// # Examples
    /// ```
    /// use sprang::{Client, delayed};
    ///
    /// let client = Client::threads(2)?;
    /// let data = delayed(|| vec![3.0, 1.0, 2.0], ());
    /// let sum = delayed(|v: &Vec<f64>| v.iter().sum::<f64>(), (&data,));
    /// let len = delayed(|v: &Vec<f64>| v.len(), (&data,));
    /// let (sum, len) = client.compute((&sum, &len)); // `data` is made once
    /// assert_eq!(sum.result()? / len.result()? as f64, 2.0);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn compute<C: Collection<Futures>>(&self, outputs: C) -> C::Shape {
        Submission::submit::<Futures, C>(self, &outputs)
    }

    /// As [`compute`](Client::compute), but returns handles. The values are computed once, in the
    /// background. A task built on such a handle waits for its value.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Client, delayed};
    ///
    /// let client = Client::threads(2)?;
    /// let table = client.persist(&delayed(|| vec![1.0, 2.0], ())); // runs now, and never again
    /// let sum = delayed(|table: &Vec<f64>| table.iter().sum::<f64>(), (&table,));
    /// assert_eq!((sum.compute()?, table.compute()?.len()), (3.0, 2));
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn persist<C: Collection<Persisted>>(&self, outputs: C) -> C::Shape {
        Submission::submit::<Persisted, C>(self, &outputs)
    }

    /// Waits for the futures of a [`Collection`], and returns clones of their values in the same
    /// shape.
    ///
    /// # Errors
    /// The error of a failed future, as soon as one has failed; of several, that of the first in
    /// order.
    pub fn gather<C: Collection<Values>>(&self, futures: C) -> Result<C::Shape> {
        self.gather_until::<Values, C>(&futures, WaitFor::FirstFailure, None).expect("there is no deadline")
    }

    /// As [`gather`](Client::gather), or `None` if some future is not settled within `timeout` and
    /// none has failed. The tasks continue.
    pub fn gather_timeout<C: Collection<Values>>(&self, futures: C, timeout: Duration) -> Option<Result<C::Shape>> {
        self.gather_until::<Values, C>(&futures, WaitFor::FirstFailure, deadline_after(timeout))
    }

    /// As [`gather`](Client::gather), with a `Result` for each future.
    ///
    /// # Errors
    /// If the calling task was cancelled.
    pub fn gather_each<C: Collection<Outcomes>>(&self, futures: C) -> Result<C::Shape> {
        self.gather_until::<Outcomes, C>(&futures, WaitFor::All, None).expect("there is no deadline")
    }

    /// Waits for futures, and returns clones of the values of the finished ones. Failed, cancelled
    /// and lost futures are left out.
    pub fn gather_finished<T: Clone + Send + Sync + 'static>(&self, futures: &[TaskFuture<T>]) -> Vec<T> {
        let promises: Vec<_> = futures.iter().map(TaskFuture::promise).collect();
        wait::settled(&promises, WaitFor::All, None);
        let finished = futures.iter().filter(|future| future.status() == Status::Finished);
        finished.filter_map(|future| future.result().ok()).collect()
    }

    /// `None` if the deadline passed before.
    fn gather_until<F: Form, C: Collection<F>>(
        &self,
        futures: &C,
        until: WaitFor,
        deadline: Option<Instant>,
    ) -> Option<Result<C::Shape>> {
        let handles = HandleList::of::<F>(futures);
        let tasks = handles.tasks();
        let open = unsettled(tasks);
        // A future that failed before the call is not in `open`.
        let has_failed = until == WaitFor::FirstFailure && !open.is_empty() && first_error(tasks).is_some();
        let is_over = has_failed || wait::settled(&open, until, deadline);
        if open.iter().any(|promise| !promise.record().is_settled()) {
            let is_cancelled = CancelToken::in_force().is_some_and(|token| token.is_cancelled());
            let cancelled = || Error::new(ErrorKind::Cancelled, "the task that waits for futures was cancelled");
            return match is_over {
                true => Some(Err(first_error(tasks).unwrap_or_else(cancelled))),
                false => (is_cancelled || deadline.is_none()).then(|| Err(cancelled())),
            };
        }
        if tasks.iter().all(|task| task.is_awaited()) {
            return Some(futures.rebuild(&mut Parts::settled()));
        }
        let snapshot = || Ok(config::snapshot()?.with_scheduler(Scheduler::Sync));
        Some(compute_in(futures, snapshot, until == WaitFor::All))
    }

    /// Makes a finished future of a value, for tasks to use.
    ///
    /// The value is sent to a worker process when a task there first needs it. If it is large, both
    /// processes keep it for further tasks.
    pub fn scatter<T: Portable>(&self, value: T) -> TaskFuture<T> {
        let promise = Arc::new(Promise::kept(Arc::<Cluster>::clone(&self.core), value));
        TaskFuture::new(portable_future_node(Arc::clone(&promise)), promise)
    }

    /// [Scatters](Client::scatter) several values, such as the parts of a table, and returns a
    /// future for each, in their order.
    ///
    /// # Examples
    /// ```
    /// use sprang::{Client, Refs};
    ///
    /// let client = Client::threads(2)?;
    /// let parts = client.scatter_all([vec![1.0, 2.0], vec![3.0]]);
    /// let sums = client.map(|part: &Vec<f64>| part.iter().sum::<f64>(), &parts);
    /// let total = client.submit(|sums: Refs<'_, f64>| sums.iter().sum::<f64>(), (&sums,));
    /// assert_eq!(total.result()?, 6.0);
    /// # Ok::<_, sprang::Error>(())
    /// ```
    pub fn scatter_all<T: Portable>(&self, values: impl IntoIterator<Item = T>) -> Vec<TaskFuture<T>> {
        values.into_iter().map(|value| self.scatter(value)).collect()
    }

    /// As [`scatter`](Client::scatter), and sends the value to all present workers before a task
    /// needs it.
    pub fn broadcast<T: Portable>(&self, value: T) -> TaskFuture<T> {
        let future = self.scatter(value);
        for member in self.core.members() {
            let touch = delayed(|_: &T| (), (&future,)).workers([&*member.name]);
            self.submit_portable(touch).detach();
        }
        future
    }

    /// Calls a function once on every present worker, and returns each worker's name with its
    /// result.
    pub fn run<F, R>(&self, function: F) -> Vec<(String, Result<R>)>
    where
        F: Clone,
        R: Portable + Clone,
        (): TaskArgs<F, R>,
    {
        let call = |name: &str| self.submit_portable(delayed(function.clone(), ()).workers([name]));
        let futures: Vec<_> =
            self.core.members().iter().map(|member| (member.name.to_string(), call(&member.name))).collect();
        futures.into_iter().map(|(name, future)| (name, future.result())).collect()
    }

    /// Cancels futures, and the tasks that need them; see [`TaskFuture::cancel`]. Returns the
    /// number of futures that were not settled.
    pub fn cancel<'f, T: Send + Sync + 'static>(&self, futures: impl IntoIterator<Item = &'f TaskFuture<T>>) -> usize {
        futures.into_iter().filter(|future| future.cancel()).count()
    }

    /// The names of the workers that have run the task of a future and may keep its value. This
    /// process has it too.
    pub fn who_has<T: Send + Sync + 'static>(&self, future: &TaskFuture<T>) -> Vec<String> {
        let ran_it = |member: &&Arc<self::cluster::Member>| future.worker() == Some(member.id);
        let members = self.core.members();
        let members = members.iter().filter(|_| future.status() == Status::Finished).filter(ran_it);
        members.map(|member| member.name.to_string()).collect()
    }

    /// The scheduler that runs graphs on the workers of the client, for
    /// [`compute_with`](crate::compute_with).
    pub fn scheduler(&self) -> Scheduler {
        self.core.scheduler()
    }

    /// The cluster that the client owns, to [scale](LocalCluster::scale) or
    /// [restart](LocalCluster::restart) it; `None` for a client that was made with [`Client::new`].
    pub fn cluster(&self) -> Option<&LocalCluster> {
        self.own.as_deref()
    }

    /// Information on the workers; see [`LocalCluster::workers`].
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.core.worker_infos()
    }

    /// The number of submitted tasks of the cluster that are not settled.
    pub fn num_pending(&self) -> usize {
        self.core.num_unsettled()
    }

    /// The number and the total size in bytes of the values that futures of the cluster hold. The
    /// size of a value that is not encoded does not include the memory that the value owns.
    pub fn num_held(&self) -> (usize, usize) {
        self.core.held()
    }

    fn submit_portable<T: Portable>(&self, task: Delayed<T>) -> TaskFuture<T> {
        let key = PureKey::of(&task);
        if let Some(known) = self.known(key.as_ref(), &task) {
            return known;
        }
        let (snapshot, mistake) = self.snapshot_here();
        let owner = Arc::<Cluster>::clone(&self.core);
        let promise = Arc::new(Promise::new(owner, Some(task.task_ref().to_task()), None, snapshot));
        let future = TaskFuture::new(portable_future_node(Arc::clone(&promise)), promise);
        self.remember(key, &future);
        self.begin(&task, &future, mistake);
        future
    }

    /// A future of a task whose value may not be portable. `clone` is needed if other tasks may
    /// read the value in the same run.
    fn promise_for<T: Send + Sync + 'static>(
        &self,
        task: &Delayed<T>,
        clone: Option<fn(&T) -> T>,
        snapshot: Option<Snapshot>,
    ) -> TaskFuture<T> {
        let owner = Arc::<Cluster>::clone(&self.core);
        let promise = Arc::new(Promise::new(owner, Some(task.task_ref().to_task()), clone, snapshot));
        TaskFuture::new(future_node(Arc::clone(&promise), task.task_ref().kind().value_code), promise)
    }

    fn compute_one<T: Send + Sync + 'static>(&self, task: &Delayed<T>) -> TaskFuture<T> {
        let key = PureKey::of(task);
        self.known(key.as_ref(), task).unwrap_or_else(|| self.compute_new(key, task))
    }

    /// As [`compute_one`](Client::compute_one), for a task that is not [`known`](Client::known).
    fn compute_new<T: Send + Sync + 'static>(&self, key: Option<PureKey>, task: &Delayed<T>) -> TaskFuture<T> {
        let (snapshot, mistake) = self.snapshot_here();
        let future = self.promise_for(task, None, snapshot);
        self.remember(key, &future);
        self.begin(task, &future, mistake);
        future
    }

    /// The configuration of the tasks that this thread submits, or what is wrong with it.
    fn snapshot_here(&self) -> (Option<Snapshot>, Option<Error>) {
        self.core.snapshot_here().map_or_else(|mistake| (None, Some(mistake)), |snapshot| (snapshot, None))
    }

    /// Submits the task of a future, unless there is a mistake in the configuration.
    fn begin<T: Send + Sync + 'static>(&self, task: &Delayed<T>, future: &TaskFuture<T>, mistake: Option<Error>) {
        match mistake {
            None => submit::submit_one(&*self.core, task.task_ref(), future.promise()),
            Some(error) => submit::refuse(&future.promise(), error),
        }
    }

    // ---- calls of pure functions ----

    /// The future of an earlier call with this key.
    fn known<T: Send + Sync + 'static>(&self, key: Option<&PureKey>, task: &Delayed<T>) -> Option<TaskFuture<T>> {
        let promise = self.pure.lock().by_key.get(key?)?.upgrade()?;
        let promise = promise.downcast::<Promise<T>>().ok()?;
        let is_of_use = !promise.record().is_settled() || promise.record().status() == Status::Finished;
        let handle = future_node(Arc::clone(&promise), task.task_ref().kind().value_code);
        is_of_use.then(|| TaskFuture::new(handle, promise))
    }

    fn remember<T: Send + Sync + 'static>(&self, key: Option<PureKey>, future: &TaskFuture<T>) {
        if let Some(key) = key {
            let promise: Arc<dyn Any + Send + Sync> = Arc::<Promise<T>>::clone(future.typed());
            self.pure.lock().insert(key, Arc::downgrade(&promise));
        }
    }
}

impl IntoScheduler for &Client {
    fn into_scheduler(self) -> Result<Scheduler> {
        Ok(self.scheduler())
    }
}

/// Identifies a call of a pure function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PureKey {
    function: TypeId,
    arguments: Box<[u8]>,
    /// The promises whose values are arguments.
    inputs: Vec<u64>,
}

impl PureKey {
    /// The key of a task, if it is pure.
    #[inline]
    fn of<T>(task: &Delayed<T>) -> Option<PureKey> {
        let task = task.task_ref();
        let arguments = task.options()?.pure.as_ref()?;
        PureKey::of_call(task, arguments.clone())
    }

    fn of_call(task: TaskRef, arguments: Box<[u8]>) -> Option<PureKey> {
        let inputs = submit::inputs_of(task);
        // Inputs that are not futures cannot be compared, so such a call has no key.
        let inputs = inputs.into_iter().map(|input| Some(promise_of(input)?.record().identity()));
        let inputs = inputs.collect::<Option<Vec<_>>>()?;
        Some(PureKey { function: (task.kind().type_id)(), arguments, inputs })
    }
}

/// The pure calls whose futures may still exist.
#[derive(Debug, Default)]
struct PureCalls {
    by_key: HashMap<PureKey, Weak<dyn Any + Send + Sync>>,
    /// The number of entries at which those without a future are removed.
    limit: usize,
}

impl PureCalls {
    fn insert(&mut self, key: PureKey, promise: Weak<dyn Any + Send + Sync>) {
        if self.by_key.len() >= self.limit {
            self.by_key.retain(|_, promise| promise.strong_count() > 0);
            self.limit = 2 * self.by_key.len() + 64;
        }
        let _before = self.by_key.insert(key, promise);
    }
}

/// Keeps a [`Client`] the default of this thread until it is dropped.
#[must_use = "the client is the default until this guard is dropped: bind it, `let _default = ...`"]
#[derive(Debug)]
pub struct DefaultClient {
    _scope: config::Scope,
    /// Keeps a cluster open that the client owns.
    _client: Client,
}

/// The client of a worker process.
static IN_WORKER: Mutex<Option<Client>> = Mutex::new(None);

/// The cluster inside a worker process, if a task has requested its client.
fn core_in_worker() -> Option<Arc<Cluster>> {
    let client = IN_WORKER.lock();
    client.as_ref().map(|client| Arc::clone(&client.core))
}

/// In a worker process: a client whose tasks go to the parent as [`nested`] tasks.
fn in_worker() -> Option<Client> {
    if !crate::executor::processes::is_worker() {
        return None;
    }
    let mut client = IN_WORKER.lock();
    if client.is_none() {
        let cluster = LocalCluster::builder().workers(1).threads_per_worker(1).processes(false);
        // Nested tasks are never refused.
        *client = cluster.max_pending(usize::MAX).build().map(Client::owning).ok();
        client.iter().for_each(|client| client.core.set_forwards());
    }
    client.clone()
}
