//! What a future stands for: a result that is going to be there.
//!
//! A [`Promise`] belongs to one submitted task. Handles of it are nodes of graphs ([`FutureNode`]), so that a future can be an argument, an output,
//! or both; what is not known of the value's type is in its [`PromiseState`].
//!
//! # A promise's life
//!
//! `waiting -> running -> finished | failed | cancelled | lost`. It is *settled* in one of the last four. A promise that is waiting may
//! be settled too, by a cancellation, by the failure of an input or by the end of its cluster; one that is running goes back to waiting
//! if it was given back without an outcome. [`retry`](PromiseState::restart) takes one that has not finished back to waiting, for another
//! [`Attempt`]: who still runs an earlier one has no say in it any more.
//!
//! # What is always true
//!
//! 1. `state` changes under the lock of `inner`, except for `waiting -> running`, which is a compare-and-swap: who wins runs the task.
//! 2. The value is there before `state` says `finished`, and never changes from then on.
//! 3. `missing` counts the inputs that are not settled, plus one while the task is being registered with them. Who brings it to
//!    zero is the only one to put the task into the queue.
//! 4. Those who wait are told once, without a lock: what they do may be anything.
//! 5. Nothing here recurs from a promise to those that wait for it: [`settle`] has a list of its own.

#![expect(
    unsafe_code,
    reason = "the typed functions behind a handle's untyped kind, and values taken from untyped cells"
)]

use super::job::{Job, Owner, is_same};
use crate::engine::callback::Watchers;
use crate::engine::{CancelToken, quietly};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Delayed;
use crate::graph::crossing::{Crossing, Encoded, ValueCode};
use crate::graph::name;
use crate::graph::node::{Awaited, CallError, Kind, Task, TaskRef, drop_body, layout};
use crate::graph::task::ValueOf;
use crate::graph::value::Cell;
use crate::portable::Portable;
use crate::portable::code::CodeDescriptor;
use parking_lot::Mutex;
use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

const WAITING: u32 = 0;
const RUNNING: u32 = 1;
const FINISHED: u32 = 2;
const FAILED: u32 = 3;
const CANCELLED: u32 = 4;
const LOST: u32 = 5;
/// Above these bits of `state` is the number of the attempt.
const NUM_STATE_BITS: u32 = 3;
const STATE_MASK: u32 = (1 << NUM_STATE_BITS) - 1;

/// Which try of a promise's task it is: the first, or that after a [`retry`](PromiseState::restart).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt(u32);

/// How far a [`TaskFuture`](super::TaskFuture) has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// It waits for its inputs, or for a worker.
    Pending,
    /// A worker has taken it up.
    Running,
    /// The result is there.
    Finished,
    /// It failed, or one of its inputs did.
    Failed,
    /// It was cancelled, or one of its inputs was.
    Cancelled,
    /// Its cluster was closed before it had finished.
    Lost,
}

impl Status {
    /// Whether it is one of the four that do not change by themselves.
    pub fn is_settled(self) -> bool {
        !matches!(self, Status::Pending | Status::Running)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Finished => "finished",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Lost => "lost",
        })
    }
}

/// How a promise is settled.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// Its value is there.
    Finished,
    Failed(Error),
    Cancelled(Error),
    Lost(Error),
}

impl Outcome {
    fn state(&self) -> u32 {
        match self {
            Outcome::Finished => FINISHED,
            Outcome::Failed(_) => FAILED,
            Outcome::Cancelled(_) => CANCELLED,
            Outcome::Lost(_) => LOST,
        }
    }

    fn error(&self) -> Option<&Error> {
        match self {
            Outcome::Finished => None,
            Outcome::Failed(error) | Outcome::Cancelled(error) | Outcome::Lost(error) => Some(error),
        }
    }

    /// As a task sees it that needs the value.
    fn for_dependent(&self, name: &Arc<str>) -> Outcome {
        match self {
            Outcome::Finished => Outcome::Finished,
            Outcome::Failed(error) => Outcome::Failed(error.clone().needed_by(name)),
            Outcome::Cancelled(error) => Outcome::Cancelled(error.clone().needed_by(name)),
            Outcome::Lost(error) => Outcome::Lost(error.clone().needed_by(name)),
        }
    }
}

/// Who is told that a promise is settled.
pub(super) enum Waiter {
    /// A task that needs the value.
    Job(Job),
    /// Somebody who waits for several; the number is theirs.
    Watcher(Arc<dyn Watcher>, usize),
    Callback(Box<dyn FnOnce() + Send>),
    Waker(Waker),
}

/// Those who are told. Most often there is one, who needs no list.
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

/// Waits for promises.
pub(super) trait Watcher: Send + Sync {
    /// The promise to which this number was given is settled.
    fn on_settled(&self, index: usize, status: Status);
}

/// What a task asks of a worker beyond being one.
#[derive(Debug, Default)]
pub(super) struct Needs {
    pub(super) resources: Vec<(Arc<str>, f64)>,
    /// The names of the workers that will do; any, if there are none.
    pub(super) workers: Vec<Arc<str>>,
}

/// A promise without the type of its value.
pub(super) struct PromiseState {
    owner: Arc<dyn Owner>,
    state: AtomicU32,
    num_tickets: AtomicU32,
    /// It is run although there may be no ticket.
    is_detached: AtomicBool,
    /// It is the only output of its task's graph, and that has no other task.
    is_alone: AtomicBool,
    pub(super) missing: AtomicU32,
    /// Tells it from all others, also from those that come when it is gone; 0 until somebody asks.
    identity: AtomicU64,
    /// How much memory its value was counted with, once it has finished.
    num_bytes: AtomicUsize,
    /// The worker that ran it.
    worker: AtomicU32,
    priority: i32,
    /// What names the function, and tells its tasks from those of others.
    function: Option<fn() -> &'static str>,
    needs: Option<Box<Needs>>,
    /// The callbacks of the thread that handed it in.
    watchers: Option<Box<Watchers>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// What computes it; kept for another try unless it has finished.
    task: Option<Task>,
    /// That it was given, once the task is gone.
    name: Option<Box<Arc<str>>>,
    error: Option<Error>,
    waiters: Waiters,
    /// Pulled to end the task while it runs.
    token: Option<CancelToken>,
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
    /// The value as it crosses to other processes, if that is how it came.
    encoded: OnceLock<Arc<dyn Encoded>>,
    /// Where several outputs of one graph are promised, one may be read by the task of another.
    clone: Option<fn(&T) -> T>,
}

/// A promise of a value of any type.
pub(super) trait AnyPromise: Send + Sync {
    fn record(&self) -> &PromiseState;

    /// Takes the value out of a task's cell, and keeps it if the attempt that made it is still the one that counts.
    ///
    /// # Safety
    /// As [`ResultSink::finished`](crate::engine::ResultSink::finished); the cell's task is the promise's.
    unsafe fn take_from(&self, cell: &Cell, attempt: Attempt) -> Result<()>;

    /// Keeps the value as it crosses.
    fn keep(&self, value: Arc<dyn Encoded>);

    /// How much memory the value takes up, without what it owns unless it is kept as it crosses.
    fn num_bytes(&self) -> usize;
}

impl<T: Send + Sync + 'static> AnyPromise for Promise<T> {
    fn record(&self) -> &PromiseState {
        &self.record
    }

    unsafe fn take_from(&self, cell: &Cell, attempt: Attempt) -> Result<()> {
        // SAFETY: the caller's contract; without `clone` nobody else reads the cell of a submitted task.
        let value = unsafe { cell.take_output(self.clone) };
        let value = value.ok_or_else(|| {
            Error::new(ErrorKind::NotCloneable, "another task needs the value too, and it cannot be cloned")
        })?;
        // A task that was cancelled while it ran may have left half a value. One that was cancelled just now, and tried again, has left
        // a whole one, which is as good as that of the next attempt.
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

impl<T: Send + Sync + 'static> Promise<T> {
    pub(super) fn new(owner: Arc<dyn Owner>, task: Option<Task>, clone: Option<fn(&T) -> T>) -> Self {
        Promise { record: PromiseState::new(owner, task), value: OnceLock::new(), encoded: OnceLock::new(), clone }
    }

    /// One whose value is there.
    pub(super) fn kept(owner: Arc<dyn Owner>, value: T) -> Self {
        let promise = Promise::new(owner, None, None);
        let _new = promise.value.set(value);
        promise.record.holds(size_of::<T>());
        promise.record.set_state(FINISHED);
        promise
    }

    pub(super) fn record(&self) -> &PromiseState {
        &self.record
    }

    /// Blocks until there is an outcome, and gives it.
    ///
    /// # Errors
    /// The error of the promise; [`Cancelled`](ErrorKind::Cancelled) if the calling task was cancelled meanwhile.
    pub(super) fn wait(self: &Arc<Self>) -> Result<&T> {
        if !self.record.is_settled() {
            let promise: Arc<dyn AnyPromise> = Arc::<Promise<T>>::clone(self);
            if !self.record.owner.wait_for(promise) {
                return Err(Error::new(ErrorKind::Cancelled, "the task that waits for a future was cancelled"));
            }
        }
        self.outcome()
    }

    /// The value, or why there is none. The promise is settled.
    ///
    /// # Errors
    /// What it failed of, or that the value cannot be decoded.
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
        // SAFETY: the cell is new, and who encoded the value knew that it is a `T`.
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| unsafe { encoded.decode(&cell) })) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return failed(error.to_string()),
            Err(payload) => return failed(format!("decoding panicked: {}", crate::engine::describe_panic(payload))),
        }
        // SAFETY: the cell has just been filled with a `T`, and is ours.
        let value = unsafe { cell.take::<T>() };
        Ok(self.value.get_or_init(|| value))
    }

    /// How many bytes the value takes up in the form in which it crosses, if it is kept so.
    pub(super) fn num_encoded_bytes(&self) -> Option<usize> {
        self.encoded.get().map(|encoded| encoded.num_bytes())
    }
}

impl PromiseState {
    /// Of a promise that is waiting, for what the task gives.
    pub(super) fn new(owner: Arc<dyn Owner>, task: Option<Task>) -> Self {
        let reference = task.as_ref().map(Task::as_ref);
        let options = reference.as_ref().and_then(TaskRef::options);
        let priority = options.map_or(0, |options| options.priority);
        let needs = options
            .filter(|options| options.needs_a_certain_worker())
            .map(|options| Box::new(Needs { resources: options.resources.clone(), workers: options.workers.clone() }));
        PromiseState {
            owner,
            state: AtomicU32::new(WAITING),
            num_tickets: AtomicU32::new(0),
            is_detached: AtomicBool::new(false),
            is_alone: AtomicBool::new(true),
            missing: AtomicU32::new(1),
            identity: AtomicU64::new(0),
            num_bytes: AtomicUsize::new(0),
            worker: AtomicU32::new(u32::MAX),
            priority,
            function: reference.as_ref().map(|task| task.kind().type_name),
            needs,
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

    /// The attempt has been started, and nothing has become of it.
    pub(super) fn is_under_way(&self, Attempt(number): Attempt) -> bool {
        self.state.load(Ordering::Acquire) == number << NUM_STATE_BITS | RUNNING
    }

    /// Under the lock of `inner`, or before anybody knows the promise.
    fn set_state(&self, state: u32) {
        // Relaxed: the number changes under the lock. Release: publishes the value to those who see the state (rule 2).
        let attempt = self.state.load(Ordering::Relaxed) & !STATE_MASK;
        self.state.store(attempt | state, Ordering::Release);
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.num_tickets.load(Ordering::Relaxed) > 0 || self.is_detached.load(Ordering::Relaxed)
    }

    /// It is run although nobody has a handle.
    pub(super) fn detach(&self) {
        self.is_detached.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_detached(&self) -> bool {
        self.is_detached.load(Ordering::Relaxed)
    }

    /// Whether there are inputs that it waits for.
    pub(super) fn is_unready(&self) -> bool {
        !self.is_settled() && self.missing.load(Ordering::Relaxed) > 0
    }

    /// Whether it can be run by itself.
    pub(super) fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Relaxed)
    }

    /// It is made together with others, by a graph.
    pub(super) fn is_of_group(&self) {
        self.is_alone.store(false, Ordering::Relaxed);
    }

    pub(super) fn priority(&self) -> i32 {
        self.priority
    }

    /// A number that no other promise ever has.
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

    pub(super) fn needs(&self) -> Option<&Needs> {
        self.needs.as_deref()
    }

    /// The worker that runs it, or has run it.
    pub(super) fn worker(&self) -> Option<u32> {
        Some(self.worker.load(Ordering::Relaxed)).filter(|&worker| worker != u32::MAX)
    }

    /// What computes it, unless it has finished.
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

    /// The caller runs the task from now on, unless somebody else does or it is settled.
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

    /// There is a value, of so many bytes.
    fn holds(&self, num_bytes: usize) {
        self.num_bytes.store(num_bytes, Ordering::Relaxed);
        self.owner.value_stored(num_bytes);
    }

    /// The token that ends the task while it runs. Pulled already, if the task was cancelled since it was started.
    pub(super) fn runs_under(&self, token: &CancelToken, attempt: Attempt) {
        let mut inner = self.inner.lock();
        if self.is_under_way(attempt) {
            inner.token = Some(token.clone());
        } else {
            token.cancel();
        }
    }

    /// It was started, and is to be run again from the start. False if it has been settled meanwhile.
    pub(super) fn give_back(&self, attempt: Attempt) -> bool {
        let mut inner = self.inner.lock();
        let was_running = self.is_under_way(attempt);
        if was_running {
            inner.token = None;
            self.set_state(WAITING);
        }
        was_running
    }

    /// Takes one that is settled and has not finished back to the start, to be registered anew. False for all others.
    pub(super) fn restart(&self) -> bool {
        let mut inner = self.inner.lock();
        let status = self.status();
        if !status.is_settled() || status == Status::Finished || inner.task.is_none() {
            return false;
        }
        inner.error = None;
        self.missing.store(1, Ordering::Relaxed);
        let attempt = (self.state.load(Ordering::Relaxed) >> NUM_STATE_BITS).wrapping_add(1);
        self.state.store(attempt << NUM_STATE_BITS | WAITING, Ordering::Release);
        true
    }

    /// Has somebody told when the promise is settled; at once, by giving them back, if it is.
    pub(super) fn wait_with(&self, waiter: Waiter) -> Result<(), Waiter> {
        let mut inner = self.inner.lock();
        if self.is_settled() {
            return Err(waiter);
        }
        inner.waiters.push(waiter);
        Ok(())
    }

    /// Leaves out those who wait and are the same as `watcher`.
    pub(super) fn forget(&self, watcher: &Arc<dyn Watcher>) {
        let address = Arc::as_ptr(watcher).cast::<()>();
        let mut inner = self.inner.lock();
        inner
            .waiters
            .retain(|waiter| !matches!(waiter, Waiter::Watcher(other, _) if Arc::as_ptr(other).cast() == address));
    }

    /// Has a waker called, once however often it is given.
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

/// Settles a promise, and those that need its value if it has none. False if it was settled before.
pub(super) fn settle(promise: &Arc<dyn AnyPromise>, outcome: Outcome) -> bool {
    settle_with(promise, None, outcome)
}

/// The same, by who runs it. False also if that attempt does not count any more.
pub(super) fn settle_attempt(promise: &Arc<dyn AnyPromise>, attempt: Attempt, outcome: Outcome) -> bool {
    settle_with(promise, Some(attempt), outcome)
}

fn settle_with(promise: &Arc<dyn AnyPromise>, attempt: Option<Attempt>, outcome: Outcome) -> bool {
    let record = promise.record();
    let Some(waiters) = settle_one(record, attempt, &outcome, promise.num_bytes()) else { return false };
    let mut ready = Vec::new();
    let mut failed = Vec::new();
    tell(waiters, record.status(), &outcome, &mut ready, &mut failed);
    // Their dependents, and so on: a list instead of recursion, however long the chain.
    while let Some((promise, outcome)) = failed.pop() {
        let record = promise.record();
        if let Some(waiters) = settle_one(record, None, &outcome, 0) {
            tell(waiters, record.status(), &outcome, &mut ready, &mut failed);
        }
    }
    // What needs it may have been handed in to another cluster.
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
        waiters = std::mem::take(&mut inner.waiters);
        token = inner.token.take();
        // Dropped without the lock: it lets go of its inputs.
        done = if matches!(outcome, Outcome::Finished) { inner.task.take() } else { None };
        if let Some(task) = &done {
            let name = task.as_ref().options().and_then(|options| options.name.clone());
            inner.name = name.map(Box::new);
            record.holds(num_bytes);
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
    static CALLS_BACK: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether this thread is in a callback of a promise, and may be the one that makes room for others.
pub(super) fn calls_back() -> bool {
    CALLS_BACK.get()
}

fn tell(
    waiters: Waiters,
    status: Status,
    outcome: &Outcome,
    ready: &mut Vec<Job>,
    failed: &mut Vec<(Arc<dyn AnyPromise>, Outcome)>,
) {
    for waiter in waiters.first.into_iter().chain(waiters.more) {
        match waiter {
            Waiter::Job(job) if outcome.error().is_none() => {
                if job.arrive() {
                    ready.push(job);
                }
            }
            Waiter::Job(job) => {
                let of_output = |promise: &Arc<dyn AnyPromise>| {
                    (Arc::clone(promise), outcome.for_dependent(&promise.record().name()))
                };
                failed.extend(job.promises().iter().map(of_output));
            }
            Waiter::Watcher(watcher, index) => watcher.on_settled(index, status),
            Waiter::Callback(callback) => {
                let before = CALLS_BACK.replace(true);
                quietly(callback);
                CALLS_BACK.set(before);
            }
            Waiter::Waker(waker) => quietly(|| waker.wake()),
        }
    }
}

/// A handle of a promise as it lies in a graph: a task whose value comes from elsewhere.
struct FutureNode<T>(Arc<Promise<T>>);

impl<T> Drop for FutureNode<T> {
    fn drop(&mut self) {
        self.0.record.num_tickets.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Send + Sync + 'static> Awaited for FutureNode<T> {
    fn is_settled(&self) -> bool {
        self.0.record.is_settled()
    }

    fn encoded(&self) -> Option<Arc<dyn Encoded>> {
        self.0.encoded.get().map(Arc::clone)
    }

    fn keep(&self, value: Arc<dyn Encoded>) {
        AnyPromise::keep(&*self.0, value);
    }

    fn with_source(&self, look: &mut dyn FnMut(&dyn Any)) {
        let promise: Arc<dyn AnyPromise> = Arc::<Promise<T>>::clone(&self.0);
        look(&promise);
        look(&self.0);
    }
}

/// The kinds of tickets for one type of value.
struct TypedFutureNode<T>(PhantomData<T>);

impl<T: Send + Sync + 'static> TypedFutureNode<T> {
    /// A value, but for where it comes from.
    const LOCAL: Kind = Kind {
        call: Self::call,
        drop_body: drop_body::<FutureNode<T>>,
        layout: layout::<FutureNode<T>>(),
        type_id: TypeId::of::<Self>,
        type_name: || "future",
        awaited: Some(Self::awaited),
        ..ValueOf::<T>::LOCAL
    };

    unsafe fn awaited(task: &TaskRef) -> &dyn Awaited {
        // SAFETY: the kind belongs to nodes with this body.
        unsafe { task.body::<FutureNode<T>>() }
    }

    unsafe fn call(task: TaskRef, cells: &[Cell], _: *const u32, id: u32, _: bool) -> Option<Box<CallError>> {
        // SAFETY: the kind belongs to nodes with this body.
        let FutureNode(promise) = unsafe { task.body::<FutureNode<T>>() };
        match promise.wait() {
            Ok(value) => {
                // SAFETY: the promise outlives the run, as the node holds it, and its value does not change (rule 2); the task
                // writes to its own cell.
                unsafe { cells.get_unchecked(id as usize).put_external::<T>(value) };
                None
            }
            Err(error) => Some(Box::new(Box::new(error))),
        }
    }
}

impl<T: Clone + Send + Sync + 'static> TypedFutureNode<T> {
    const CLONEABLE: Kind = Kind { clone_value: Some(<T as Clone>::clone as fn(&T) -> T as *const ()), ..Self::LOCAL };
}

impl<T: Portable> TypedFutureNode<T> {
    const PORTABLE: Kind = Kind { value_code: Some(Self::VALUE), ..Self::LOCAL };
    const VALUE: &'static CodeDescriptor<ValueCode> = Crossing::<T>::CODE;
}

impl<T: Send + Sync + 'static> FutureNode<T> {
    fn new(promise: Arc<Promise<T>>) -> Self {
        promise.record.num_tickets.fetch_add(1, Ordering::Relaxed);
        FutureNode(promise)
    }
}

/// A handle whose value may cross to other processes.
pub(super) fn portable_future_node<T: Portable>(promise: Arc<Promise<T>>) -> Delayed<T> {
    // SAFETY: the kind is the one for this body.
    Delayed::from_task(unsafe { Task::new_alone(const { &TypedFutureNode::<T>::PORTABLE }, FutureNode::new(promise)) })
}

/// A handle whose value crosses to other processes in this way, if it does.
pub(super) fn future_node<T: Send + Sync + 'static>(
    promise: Arc<Promise<T>>,
    code: Option<&'static CodeDescriptor<ValueCode>>,
) -> Delayed<T> {
    future_node_of(const { &TypedFutureNode::<T>::LOCAL }, promise, code)
}

/// The same, for a handle that can be computed itself, which gives a clone.
pub(super) fn cloneable_future_node<T: Clone + Send + Sync + 'static>(
    promise: Arc<Promise<T>>,
    code: Option<&'static CodeDescriptor<ValueCode>>,
) -> Delayed<T> {
    future_node_of(const { &TypedFutureNode::<T>::CLONEABLE }, promise, code)
}

fn future_node_of<T: Send + Sync + 'static>(
    kind: &'static Kind,
    promise: Arc<Promise<T>>,
    code: Option<&'static CodeDescriptor<ValueCode>>,
) -> Delayed<T> {
    // SAFETY: the kinds given by the two above are those for this body.
    let mut task = unsafe { Task::new_alone(kind, FutureNode::new(promise)) };
    if let Some(code) = code {
        task.set_value_code(code);
    }
    Delayed::from_task(task)
}

/// The promise behind a task, if the task is a future's.
pub(super) fn promise_of(task: TaskRef) -> Option<Arc<dyn AnyPromise>> {
    source_of(task)
}

/// As [`promise_of`], with the type of its value.
pub(super) fn typed_promise_of<T: Send + Sync + 'static>(task: TaskRef) -> Option<Arc<Promise<T>>> {
    source_of(task)
}

fn source_of<S: Clone + 'static>(task: TaskRef) -> Option<S> {
    let mut found = None;
    task.awaited()?.with_source(&mut |source| found = found.take().or_else(|| source.downcast_ref::<S>().cloned()));
    found
}
