//! One run for several tasks, whose outcomes settle their promises as they come.

#![expect(
    unsafe_code,
    reason = "plans are made of tasks that are kept beside them, and values taken from untyped cells"
)]

use super::super::job::{Group, Job};
use super::super::promise::{AnyPromise, Attempt, Outcome, settle, settle_attempt};
use super::Cluster;
use super::member::{Busy, Member};
use super::thread::WorkerThread;
use crate::api::compute::OwnedRun;
use crate::engine::callback::{Watchers, has_watchers};
use crate::engine::{Attempts, CancelToken, ResultSink, describe_panic};
use crate::error::{Error, ErrorKind};
use crate::executor::Executor;
use crate::graph::crossing::Encoded;
use crate::graph::node::Task;
use crate::graph::plan::Plan;
use crate::graph::value::Cell;
use parking_lot::Mutex;
use std::any::Any;
use std::collections::HashSet;
use std::iter::successors;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A task that this thread has started, and its promise.
pub(super) struct Started {
    pub(super) task: Task,
    pub(super) promise: Arc<dyn AnyPromise>,
    pub(super) attempt: Attempt,
}

impl Started {
    /// Takes a promise from waiting to running. `None` if another thread has, or if the promise is
    /// settled or unwanted.
    pub(super) fn new(member: &Member, promise: &Arc<dyn AnyPromise>) -> Option<Started> {
        let record = promise.record();
        if !record.is_wanted() {
            let message = "nobody wanted the result any more";
            settle(promise, Outcome::Cancelled(Error::new(ErrorKind::Cancelled, message)));
            return None;
        }
        let attempt = record.start(member.id)?;
        record.task().map(|task| Started { task, promise: Arc::clone(promise), attempt })
    }
}

/// A task that has failed, and is to be tried again.
struct Retry {
    promise: Arc<dyn AnyPromise>,
    attempt: Attempt,
    due: Instant,
    attempts: Attempts,
}

/// Runs tasks as one run, which collects the errors of `each`. Afterwards each promise is settled,
/// queued again, or waits for a retry.
///
/// All have the same configuration, and the same watchers or none.
pub(super) fn run_batch(thread: &WorkerThread, started: Vec<Started>, executor: &dyn Executor, each: bool) {
    let WorkerThread { cluster, member, slot } = thread;
    let _busy = Busy::new(member);
    // Usually they are of one function.
    let _running = slot.running.set(started[0].task.as_ref().kind().type_name);
    let watchers = started[0].promise.record().watchers();
    let _watched = (watchers.is_some() || has_watchers()).then(|| Watchers::enter(watchers, &cluster.info));
    let token = CancelToken::within(Some(slot.token.clone()));
    started.iter().for_each(|Started { promise, attempt, .. }| promise.record().runs_under(&token, *attempt));
    let retries = Arc::default();
    let run = || token.scope(|| execute(cluster, &started, executor, each, &retries));
    // A value may panic when it is dropped.
    let failure =
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| Some(panicked(&started[0].promise, payload)));
    let retries = std::mem::take(&mut *retries.lock());
    member.num_done.fetch_add((started.len() - retries.len()) as u64, Ordering::Relaxed);
    let to_retry: HashSet<_> = retries.iter().map(|retry| address(&retry.promise)).collect();
    let (mut again, mut of_graph) = (Vec::new(), Vec::new());
    for Started { promise, attempt, .. } in started.iter().rev() {
        match &failure {
            _ if to_retry.contains(&address(promise)) => {}
            _ if cluster.is_closed() => drop(settle_attempt(promise, *attempt, Outcome::Lost(cluster.closed_error()))),
            Some(error) if !token.is_cancelled() => {
                settle_attempt(promise, *attempt, Outcome::Failed(error.clone()));
            }
            // If this task has not run, another task of the run was cancelled.
            _ if promise.record().give_back(*attempt) => match promise.record().is_alone() {
                true => again.push(Job::One(Arc::clone(promise))),
                false => of_graph.push(Arc::clone(promise)),
            },
            _ => {}
        }
    }
    if !of_graph.is_empty() {
        again.push(Job::Graph(Arc::new(Group { promises: of_graph, missing: 0.into() })));
    }
    cluster.queue_first(again);
    for Retry { promise, attempt, due, attempts } in retries {
        if promise.record().wait_for_retry(attempt, attempts) {
            cluster.queue_at(due, promise);
        }
    }
}

fn address(promise: &Arc<dyn AnyPromise>) -> *const () {
    Arc::as_ptr(promise).cast()
}

/// Returns the error that ended the run early, if one did.
fn execute(
    cluster: &Cluster,
    started: &[Started],
    executor: &dyn Executor,
    each: bool,
    retries: &Arc<Mutex<Vec<Retry>>>,
) -> Option<Error> {
    let outputs: Vec<_> = started.iter().map(|started| started.task.as_ref()).collect();
    // SAFETY: `started` has handles of the outputs and outlives the plan.
    let plan = match unsafe { Plan::of_unrelated(&outputs) } {
        Ok(plan) => plan,
        Err(error) => return Some(error),
    };
    let sink: Arc<dyn ResultSink> = Arc::new(PromiseSink::new(started, &plan, retries));
    let snapshot = cluster.snapshot_of(&*started[0].promise).clone();
    OwnedRun::execute_on(executor, &plan, snapshot, each, Some(sink)).map(drop).err()
}

fn panicked(promise: &Arc<dyn AnyPromise>, payload: Box<dyn Any + Send>) -> Error {
    Error::new(ErrorKind::Panicked, describe_panic(payload)).with_task(promise.record().name(), 1)
}

/// Settles the promises of a run's outputs.
struct PromiseSink {
    promises: Vec<(Arc<dyn AnyPromise>, Attempt)>,
    /// The last promise of each task of the plan, as an index into `promises`.
    of_task: Vec<Option<u32>>,
    /// For each promise the one before it of the same task: equal tasks are one task of the plan.
    next: Vec<Option<u32>>,
    retries: Arc<Mutex<Vec<Retry>>>,
}

impl PromiseSink {
    fn new(started: &[Started], plan: &Plan, retries: &Arc<Mutex<Vec<Retry>>>) -> Self {
        let promises = started.iter().map(|started| (Arc::clone(&started.promise), started.attempt)).collect();
        let mut of_task = vec![None; plan.num_tasks()];
        let chain = |(index, &id): (usize, &u32)| of_task[id as usize].replace(index as u32);
        let next = plan.outputs().iter().enumerate().map(chain).collect();
        PromiseSink { promises, of_task, next, retries: Arc::clone(retries) }
    }

    fn promises(&self, id: u32) -> impl Iterator<Item = &(Arc<dyn AnyPromise>, Attempt)> {
        let indices = successors(self.of_task[id as usize], |&index| self.next[index as usize]);
        indices.map(|index| &self.promises[index as usize])
    }
}

impl ResultSink for PromiseSink {
    fn wants(&self, id: u32) -> bool {
        self.of_task[id as usize].is_some()
    }

    unsafe fn finished(&self, id: u32, cell: &Cell) {
        for (promise, attempt) in self.promises(id) {
            // SAFETY: the caller passes the cell of task `id`, which holds a value of the task's
            // type. The promise belongs to this task, and the task is an output once for each of
            // its promises, so each may take the value once.
            let taken = catch_unwind(AssertUnwindSafe(|| unsafe { promise.take_from(cell, *attempt) }));
            let outcome = match taken {
                Ok(Ok(())) => Outcome::Finished,
                Ok(Err(error)) => Outcome::Failed(error.with_task(promise.record().name(), 1)),
                Err(payload) => Outcome::Failed(panicked(promise, payload)),
            };
            settle_attempt(promise, *attempt, outcome);
        }
    }

    fn finished_encoded(&self, id: u32, value: Arc<dyn Encoded>) {
        for (promise, attempt) in self.promises(id) {
            if promise.record().is_under_way(*attempt) {
                promise.keep(Arc::clone(&value));
            }
            settle_attempt(promise, *attempt, Outcome::Finished);
        }
    }

    fn failed(&self, id: u32, error: &Error) {
        for (promise, attempt) in self.promises(id) {
            settle_attempt(promise, *attempt, Outcome::Failed(error.clone()));
        }
    }

    fn earlier_attempts(&self, id: u32) -> Attempts {
        self.promises(id).next().map_or_else(Attempts::default, |(promise, _)| promise.record().attempts())
    }

    fn retry_later(&self, id: u32, delay: Duration, attempts: &Attempts) -> bool {
        // Other tasks of a graph may need the value in this run.
        let is_alone = |(promise, _): &(Arc<dyn AnyPromise>, Attempt)| promise.record().is_alone();
        let Some(due) = Instant::now().checked_add(delay) else { return false };
        if !(self.wants(id) && self.promises(id).all(is_alone)) {
            return false;
        }
        self.retries.lock().extend(self.promises(id).map(|(promise, attempt)| Retry {
            promise: Arc::clone(promise),
            attempt: *attempt,
            due,
            attempts: attempts.clone(),
        }));
        true
    }
}
