//! Promises: the results of submitted tasks, before and after they are there.
//!
//! A [`Promise`] belongs to one submitted task. Its [nodes](super::future_node) let a future be an
//! argument or an output of a graph. The part that does not depend on the type of the value is its
//! [`PromiseState`].
//!
//! # The life of a promise
//!
//! `waiting -> running -> finished | failed | cancelled | lost`. A promise is *settled* in one of
//! the last four states. A waiting promise is settled directly by a cancellation, by the failure of
//! an input whose error it does not take, or by the end of its cluster. A running promise goes back
//! to waiting if its task was taken and not run, or has failed and is to be tried again later.
//! [`restart`](PromiseState::restart) takes a promise that is settled and not finished back to
//! waiting, for another [`Attempt`]; an earlier attempt that still runs can no longer settle it.
//!
//! # What is always true
//!
//! 1. `state` changes under the lock of `inner`, except for `waiting -> running`, a
//!    compare-and-swap that one thread wins.
//! 2. The value is stored before `state` says `finished`, and never changes from then on.
//! 3. `missing` counts the inputs that are not settled, plus one while the task is registered with
//!    them or waits for a retry. The thread that lowers it to zero or ends the wait, and no other,
//!    submits the task to the queue.
//! 4. Each waiter is notified once, without a lock: a waiter may run any code.
//! 5. [`settle`] goes through the dependents with a list, not by recursion.

#![expect(unsafe_code, reason = "it takes typed values from untyped cells")]

use super::job::{Job, Owner, is_same};
use super::outcome::{CANCELLED, FAILED, FINISHED, RUNNING, WAITING};
pub(super) use super::outcome::{Outcome, Status};
use crate::api::config::Snapshot;
use crate::engine::callback::Watchers;
use crate::engine::{Attempts, CancelToken, quietly};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::crossing::Encoded;
use crate::graph::name;
use crate::graph::node::{Task, TaskRef};
use crate::graph::value::Cell;
use parking_lot::Mutex;
use std::any::{Any, type_name};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

/// The higher bits of `state` are the number of the attempt.
const NUM_STATE_BITS: u32 = 3;
const STATE_MASK: u32 = (1 << NUM_STATE_BITS) - 1;

/// The number of [restarts](PromiseState::restart) before this attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt(u32);

/// A party that is notified when a promise is settled.
pub(super) enum Waiter {
    /// A task that needs the value.
    Job(Job),
    /// A task that takes the error in place of the value. The failure fails the outputs of the job
    /// with these indices: they need the value in another way.
    TolerantJob(Box<(Job, Vec<u32>)>),
    /// A watcher of several promises, and its index for this one.
    Watcher(Arc<dyn Watcher>, usize),
    Callback(Box<dyn FnOnce() + Send>),
    Waker(Waker),
}

/// The waiters of a promise. Most promises have one, which needs no list.
#[derive(Default)]
struct Waiters {
    first: Option<Waiter>,
    more: Vec<Waiter>,
}

impl Waiters {
    fn push(&mut self, waiter: Waiter) {
        match self.first {
            None => self.first = Some(waiter),
            Some(_) => self.more.push(waiter),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.first.iter().chain(&self.more)
    }

    fn retain(&mut self, is_kept: impl Fn(&Waiter) -> bool) {
        self.first = self.first.take().filter(&is_kept);
        self.more.retain(is_kept);
    }
}

/// Watches promises.
pub(super) trait Watcher: Send + Sync {
    /// The promise with this index is settled.
    fn on_settled(&self, index: usize, status: Status);
}

/// The requirements of a task on its worker.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) resources: Vec<(Arc<str>, f64)>,
    /// The names of the allowed workers; empty for all.
    pub(super) workers: Vec<Arc<str>>,
}

/// The part of a promise that does not depend on the type of its value.
pub(super) struct PromiseState {
    owner: Arc<dyn Owner>,
    state: AtomicU32,
    /// The number of nodes in graphs, those of futures included.
    num_nodes: AtomicU32,
    /// The task runs even if there is no node.
    is_detached: AtomicBool,
    /// The task runs by itself, not as an output of a graph with other tasks.
    is_alone: AtomicBool,
    pub(super) missing: AtomicU32,
    /// A number that no other promise ever has; 0 until it is requested.
    identity: AtomicU64,
    /// The size with which the value was counted, once the promise has finished.
    num_bytes: AtomicUsize,
    /// The worker that runs or has run the task.
    worker: AtomicU32,
    priority: i32,
    /// Names the function. Its address identifies the function.
    function: Option<fn() -> &'static str>,
    needs: Option<Box<Needs>>,
    /// The configuration of the task, if it is not that of the cluster.
    snapshot: Option<Snapshot>,
    /// The callbacks of the thread that submitted the task.
    watchers: Option<Box<Watchers>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The task; kept for another attempt unless the promise has finished.
    task: Option<Task>,
    /// The name given by the user, once the task is dropped.
    name: Option<Box<Arc<str>>>,
    error: Option<Error>,
    waiters: Waiters,
    /// Cancels the running task.
    token: Option<CancelToken>,
    /// The attempts before the one for which the promise waits.
    attempts: Option<Box<Attempts>>,
}

impl fmt::Debug for PromiseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PromiseState").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// See the [module](self).
pub(super) struct Promise<T> {
    record: PromiseState,
    value: OnceLock<T>,
    /// The encoded value, if there is one: the value came from another process, or was sent to one.
    encoded: OnceLock<Arc<dyn Encoded>>,
    /// Present for outputs of graphs: a task of the graph may read the value of another output.
    clone: Option<fn(&T) -> T>,
}

/// A promise whose type of value is not known.
pub(super) trait AnyPromise: Any + Send + Sync {
    fn record(&self) -> &PromiseState;

    /// Takes the value out of a task's cell, and stores it if the attempt is still the current one.
    ///
    /// # Safety
    /// As [`ResultSink::finished`](crate::engine::ResultSink::finished); the cell's task is the
    /// promise's.
    unsafe fn take_from(&self, cell: &Cell, attempt: Attempt) -> Result<()>;

    /// Stores the encoded value.
    fn keep(&self, value: Arc<dyn Encoded>);

    /// The size of the value. Without the memory that it owns, unless the value is encoded.
    fn num_bytes(&self) -> usize;
}

impl<T: Send + Sync + 'static> AnyPromise for Promise<T> {
    fn record(&self) -> &PromiseState {
        &self.record
    }

    unsafe fn take_from(&self, cell: &Cell, attempt: Attempt) -> Result<()> {
        // SAFETY: the contract above says that the cell has the value of the promise's task, a `T`,
        // and that this output has not taken it. Without `clone` the task runs alone, so no other
        // output reads its cell.
        let value = unsafe { cell.take_output(self.clone) };
        let value = value.ok_or_else(|| {
            Error::new(ErrorKind::NotCloneable, "another task needs the value too, and it cannot be cloned")
        })?;
        // A task that was cancelled while it ran may have made half a value. If the promise is
        // restarted just after this check, the value is complete, and as good as that of the next
        // attempt.
        if self.record.is_under_way(attempt) {
            let _other = self.value.set(value);
        }
        Ok(())
    }

    fn keep(&self, value: Arc<dyn Encoded>) {
        let _other = self.encoded.set(value);
    }

    fn num_bytes(&self) -> usize {
        self.encoded.get().map_or(size_of::<T>(), |encoded| encoded.num_bytes())
    }
}

impl Drop for PromiseState {
    fn drop(&mut self) {
        if self.status() == Status::Finished {
            self.owner.value_dropped(self.num_bytes.load(Ordering::Relaxed));
        }
    }
}

impl<T> Promise<T> {
    pub(super) fn record(&self) -> &PromiseState {
        &self.record
    }
}

impl<T: Send + Sync + 'static> Promise<T> {
    /// The task has the configuration `snapshot`, or that of the cluster.
    pub(super) fn new(
        owner: Arc<dyn Owner>,
        task: Option<Task>,
        clone: Option<fn(&T) -> T>,
        snapshot: Option<Snapshot>,
    ) -> Self {
        Promise {
            record: PromiseState::new(owner, task, snapshot),
            value: OnceLock::new(),
            encoded: OnceLock::new(),
            clone,
        }
    }

    /// A promise that has finished with this value.
    pub(super) fn kept(owner: Arc<dyn Owner>, value: T) -> Self {
        let promise = Promise::new(owner, None, None, None);
        let _new = promise.value.set(value);
        promise.record.count_value(size_of::<T>());
        promise.record.set_state(FINISHED);
        promise
    }

    /// Blocks until there is an outcome, and gives it.
    ///
    /// # Errors
    /// The error of the promise; [`Cancelled`](ErrorKind::Cancelled) if the calling task was
    /// cancelled meanwhile.
    pub(super) fn wait(self: &Arc<Self>) -> Result<&T> {
        if !self.record.is_settled() {
            let promise: Arc<dyn AnyPromise> = Arc::<Promise<T>>::clone(self);
            if !self.record.owner.wait_for(promise) {
                return Err(Error::new(ErrorKind::Cancelled, "the task that waits for a future was cancelled"));
            }
        }
        self.outcome()
    }

    /// The value or the error. The promise is settled.
    ///
    /// # Errors
    /// The error of the promise, or that the value cannot be decoded.
    pub(super) fn outcome(&self) -> Result<&T> {
        if self.record.status() != Status::Finished {
            let error = self.record.inner.lock().error.clone();
            return Err(error.expect("a promise that is settled and has not finished has an error"));
        }
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let encoded = self.encoded.get().expect("a promise that has finished has a value");
        let cell = Cell::new(1);
        let failed = |problem: String| {
            let message = format!("cannot decode its value, a `{}`: {problem}", type_name::<T>());
            let name = self.record.name();
            Err(Error::new(ErrorKind::NotPortable, message).with_task(name, 1))
        };
        // SAFETY: the cell is new, and the value was encoded by the code of this promise's task,
        // whose value is a `T`.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| unsafe { encoded.decode(&cell) })) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return failed(error.to_string()),
            Err(payload) => return failed(format!("decoding panicked: {}", crate::engine::describe_panic(payload))),
        }
        // SAFETY: decoding has filled the cell with a `T`, and no other reader has the cell.
        let value = unsafe { cell.take::<T>() };
        Ok(self.value.get_or_init(|| value))
    }

    /// The encoded value, if there is one: the value came from another process, or was sent to one.
    pub(super) fn encoded(&self) -> Option<&Arc<dyn Encoded>> {
        self.encoded.get()
    }
}

impl PromiseState {
    /// The state of a waiting promise.
    pub(super) fn new(owner: Arc<dyn Owner>, task: Option<Task>, snapshot: Option<Snapshot>) -> Self {
        let reference = task.as_ref().map(Task::as_ref);
        let options = reference.as_ref().and_then(TaskRef::options);
        let priority = options.map_or(0, |options| options.priority);
        let needs = options
            .filter(|options| options.needs_a_certain_worker())
            .map(|options| Box::new(Needs { resources: options.resources.clone(), workers: options.workers.clone() }));
        PromiseState {
            owner,
            state: AtomicU32::new(WAITING),
            num_nodes: AtomicU32::new(0),
            is_detached: AtomicBool::new(false),
            is_alone: AtomicBool::new(true),
            missing: AtomicU32::new(1),
            identity: AtomicU64::new(0),
            num_bytes: AtomicUsize::new(0),
            worker: AtomicU32::new(u32::MAX),
            priority,
            function: reference.as_ref().map(|task| task.kind().type_name),
            needs,
            snapshot,
            watchers: Watchers::of_this_thread().map(Box::new),
            inner: Mutex::new(Inner { task, ..Inner::default() }),
        }
    }

    pub(super) fn owner(&self) -> &Arc<dyn Owner> {
        &self.owner
    }

    pub(super) fn status(&self) -> Status {
        // Acquire: pairs with the release in `set_state`, so that the value is seen (rule 2).
        match self.state.load(Ordering::Acquire) & STATE_MASK {
            WAITING => Status::Pending,
            RUNNING => Status::Running,
            FINISHED => Status::Finished,
            FAILED => Status::Failed,
            CANCELLED => Status::Cancelled,
            _ => Status::Lost,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.state.load(Ordering::Acquire) & STATE_MASK > RUNNING
    }

    /// Whether this attempt runs, and is not settled.
    pub(super) fn is_under_way(&self, Attempt(number): Attempt) -> bool {
        self.state.load(Ordering::Acquire) == number << NUM_STATE_BITS | RUNNING
    }

    /// The caller holds the lock of `inner`, or is the only one to know the promise.
    fn set_state(&self, state: u32) {
        // Relaxed: the number changes under the lock. Release: pairs with the acquire in `status`,
        // which publishes the value (rule 2).
        let attempt = self.state.load(Ordering::Relaxed) & !STATE_MASK;
        self.state.store(attempt | state, Ordering::Release);
    }

    pub(super) fn add_node(&self) {
        self.num_nodes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_node(&self) {
        self.num_nodes.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a future, a dependent or a handle needs the value, or the task was detached.
    pub(super) fn is_wanted(&self) -> bool {
        self.num_nodes.load(Ordering::Relaxed) > 0 || self.is_detached.load(Ordering::Relaxed)
    }

    /// Lets the task run even if there is no node.
    pub(super) fn detach(&self) {
        self.is_detached.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_detached(&self) -> bool {
        self.is_detached.load(Ordering::Relaxed)
    }

    /// Whether the promise waits for inputs.
    pub(super) fn is_unready(&self) -> bool {
        !self.is_settled() && self.missing.load(Ordering::Relaxed) > 0
    }

    /// Whether the task runs by itself, not as an output of a graph with other tasks.
    pub(super) fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Relaxed)
    }

    /// Says that the task is run as an output of a graph.
    pub(super) fn set_in_graph(&self) {
        self.is_alone.store(false, Ordering::Relaxed);
    }

    pub(super) fn priority(&self) -> i32 {
        self.priority
    }

    /// Returns a number that no other promise ever has.
    pub(super) fn identity(&self) -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        match self.identity.load(Ordering::Relaxed) {
            0 => {
                let new = LAST.fetch_add(1, Ordering::Relaxed) + 1;
                let other = self.identity.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
                other.err().unwrap_or(new)
            }
            identity => identity,
        }
    }

    pub(super) fn function(&self) -> usize {
        self.function.map_or(0, |function| function as usize)
    }

    pub(super) fn watchers(&self) -> Option<&Watchers> {
        self.watchers.as_deref()
    }

    /// The configuration of the task; `None` if it is that of the cluster.
    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    pub(super) fn needs(&self) -> Option<&Needs> {
        self.needs.as_deref()
    }

    /// The worker that runs or has run the task.
    pub(super) fn worker(&self) -> Option<u32> {
        Some(self.worker.load(Ordering::Relaxed)).filter(|&worker| worker != u32::MAX)
    }

    /// The task, unless the promise has finished.
    pub(super) fn task(&self) -> Option<Task> {
        self.inner.lock().task.clone()
    }

    pub(super) fn name(&self) -> Arc<str> {
        let inner = self.inner.lock();
        match (&inner.task, &inner.name, self.function) {
            (Some(task), ..) => name::of_task(task.as_ref()),
            (None, Some(name), _) => Arc::<str>::clone(name),
            (None, None, Some(function)) => name::of_function(function()).into(),
            (None, None, None) => "value".into(),
        }
    }

    pub(super) fn error(&self) -> Option<Error> {
        self.inner.lock().error.clone()
    }

    /// Starts an attempt, which the caller runs. `None` if the promise is running or settled.
    pub(super) fn start(&self, worker: u32) -> Option<Attempt> {
        let state = self.state.load(Ordering::Relaxed);
        let is_waiting = state & STATE_MASK == WAITING;
        let started = is_waiting
            && self.state.compare_exchange(state, state | RUNNING, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        started.then(|| {
            self.worker.store(worker, Ordering::Relaxed);
            Attempt(state >> NUM_STATE_BITS)
        })
    }

    /// Counts the value of the promise.
    fn count_value(&self, num_bytes: usize) {
        self.num_bytes.store(num_bytes, Ordering::Relaxed);
        self.owner.value_stored(num_bytes);
    }

    /// Sets the token that cancels the running task. Cancels it at once if the promise was settled
    /// since the start.
    pub(super) fn runs_under(&self, token: &CancelToken, attempt: Attempt) {
        let mut inner = self.inner.lock();
        if self.is_under_way(attempt) {
            inner.token = Some(token.clone());
        } else {
            token.cancel();
        }
    }

    /// Takes a running promise back to waiting. False if it was settled meanwhile.
    pub(super) fn give_back(&self, attempt: Attempt) -> bool {
        let mut inner = self.inner.lock();
        let was_running = self.is_under_way(attempt);
        if was_running {
            inner.token = None;
            self.set_state(WAITING);
        }
        was_running
    }

    /// Takes a running promise whose task has failed back to waiting, until the task
    /// [may be tried again](PromiseState::end_wait_for_retry). False if it was settled meanwhile.
    pub(super) fn wait_for_retry(&self, attempt: Attempt, attempts: Attempts) -> bool {
        let mut inner = self.inner.lock();
        let was_running = self.is_under_way(attempt);
        if was_running {
            inner.token = None;
            inner.attempts = Some(Box::new(attempts));
            // As if an input were missing, so that no thread runs it that waits for it.
            self.missing.store(1, Ordering::Release);
            self.set_state(WAITING);
        }
        was_running
    }

    /// Ends the wait for a retry. False if it is over: the promise was settled, perhaps restarted.
    pub(super) fn end_wait_for_retry(&self) -> bool {
        let inner = self.inner.lock();
        let waits = inner.attempts.is_some() && self.status() == Status::Pending;
        if waits {
            self.missing.store(0, Ordering::Release);
        }
        waits
    }

    /// The attempts that the task had before this one.
    pub(super) fn attempts(&self) -> Attempts {
        self.inner.lock().attempts.as_deref().cloned().unwrap_or_default()
    }

    /// Takes a settled promise that has not finished back to waiting; the caller registers it anew.
    /// False for all others.
    pub(super) fn restart(&self) -> bool {
        let mut inner = self.inner.lock();
        let status = self.status();
        if !status.is_settled() || status == Status::Finished || inner.task.is_none() {
            return false;
        }
        inner.error = None;
        inner.attempts = None;
        self.missing.store(1, Ordering::Relaxed);
        let attempt = (self.state.load(Ordering::Relaxed) >> NUM_STATE_BITS).wrapping_add(1);
        self.state.store(attempt << NUM_STATE_BITS | WAITING, Ordering::Release);
        true
    }

    /// Registers a waiter.
    ///
    /// # Errors
    /// Returns the waiter if the promise is settled.
    pub(super) fn wait_with(&self, waiter: Waiter) -> Result<(), Waiter> {
        let mut inner = self.inner.lock();
        if self.is_settled() {
            return Err(waiter);
        }
        inner.waiters.push(waiter);
        Ok(())
    }

    /// Removes a watcher.
    pub(super) fn forget(&self, watcher: &Arc<dyn Watcher>) {
        let address = Arc::as_ptr(watcher).cast::<()>();
        let mut inner = self.inner.lock();
        inner
            .waiters
            .retain(|waiter| !matches!(waiter, Waiter::Watcher(other, _) if Arc::as_ptr(other).cast() == address));
    }

    /// Registers a waker, once however often it is given. False if the promise is settled.
    pub(super) fn wake_with(&self, waker: &Waker) -> bool {
        let mut inner = self.inner.lock();
        if self.is_settled() {
            return false;
        }
        if !inner.waiters.iter().any(|waiter| matches!(waiter, Waiter::Waker(other) if other.will_wake(waker))) {
            inner.waiters.push(Waiter::Waker(waker.clone()));
        }
        true
    }
}

/// Settles a promise and, if it has no value, its dependents that need one. False if it was settled
/// before.
pub(super) fn settle(promise: &Arc<dyn AnyPromise>, outcome: Outcome) -> bool {
    settle_with(promise, None, outcome)
}

/// As [`settle`], for the attempt that ran the task. False also if a later attempt has replaced it.
pub(super) fn settle_attempt(promise: &Arc<dyn AnyPromise>, attempt: Attempt, outcome: Outcome) -> bool {
    settle_with(promise, Some(attempt), outcome)
}

fn settle_with(promise: &Arc<dyn AnyPromise>, attempt: Option<Attempt>, outcome: Outcome) -> bool {
    let record = promise.record();
    let Some(waiters) = settle_one(record, attempt, &outcome, promise.num_bytes()) else { return false };
    let mut ready = Vec::new();
    let mut failed = Vec::new();
    notify(waiters, record.status(), &outcome, &mut ready, &mut failed);
    // Rule 5.
    while let Some((promise, outcome)) = failed.pop() {
        let record = promise.record();
        if let Some(waiters) = settle_one(record, None, &outcome, 0) {
            notify(waiters, record.status(), &outcome, &mut ready, &mut failed);
        }
    }
    // A dependent may belong to another cluster.
    while let Some(owner) = ready.first().and_then(Job::owner).map(Arc::clone) {
        let of_owner = ready.extract_if(.., |job| job.owner().is_some_and(|other| is_same(other, &owner))).collect();
        owner.submit_all(of_owner);
    }
    true
}

fn settle_one(record: &PromiseState, attempt: Option<Attempt>, outcome: &Outcome, num_bytes: usize) -> Option<Waiters> {
    let (waiters, token, done);
    {
        let mut inner = record.inner.lock();
        if record.is_settled() || attempt.is_some_and(|attempt| !record.is_under_way(attempt)) {
            return None;
        }
        inner.error = outcome.error().cloned();
        inner.attempts = None;
        waiters = std::mem::take(&mut inner.waiters);
        token = inner.token.take();
        // Dropped without the lock, because this releases its inputs.
        done = if matches!(outcome, Outcome::Finished) { inner.task.take() } else { None };
        if let Some(task) = &done {
            let name = task.as_ref().options().and_then(|options| options.name.clone());
            inner.name = name.map(Box::new);
            record.count_value(num_bytes);
        }
        record.set_state(outcome.state());
    }
    if let Some(token) = token.filter(|_| !matches!(outcome, Outcome::Finished)) {
        token.cancel();
    }
    quietly(|| drop(done));
    record.owner.settled(1);
    Some(waiters)
}

thread_local! {
    static IN_CALLBACK: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether this thread runs a callback of a promise. Such a thread may be the one that makes room
/// in the cluster.
pub(super) fn is_in_callback() -> bool {
    IN_CALLBACK.get()
}

fn notify(
    waiters: Waiters,
    status: Status,
    outcome: &Outcome,
    ready: &mut Vec<Job>,
    failed: &mut Vec<(Arc<dyn AnyPromise>, Outcome)>,
) {
    let of_output =
        |promise: &Arc<dyn AnyPromise>| (Arc::clone(promise), outcome.for_dependent(&promise.record().name()));
    for waiter in waiters.first.into_iter().chain(waiters.more) {
        match waiter {
            Waiter::Job(job) if outcome.error().is_none() => {
                if job.arrive() {
                    ready.push(job);
                }
            }
            Waiter::Job(job) => failed.extend(job.promises().iter().map(of_output)),
            Waiter::TolerantJob(waiter) => {
                let (job, failing) = *waiter;
                if outcome.error().is_some() {
                    failed.extend(failing.iter().map(|&index| of_output(&job.promises()[index as usize])));
                }
                if job.arrive() {
                    ready.push(job);
                }
            }
            Waiter::Watcher(watcher, index) => watcher.on_settled(index, status),
            Waiter::Callback(callback) => {
                let before = IN_CALLBACK.replace(true);
                quietly(callback);
                IN_CALLBACK.set(before);
            }
            Waiter::Waker(waker) => quietly(|| waker.wake()),
        }
    }
}
