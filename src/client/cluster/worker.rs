//! The threads of a cluster's workers.
//!
//! A thread takes jobs and carries out each as a run of its own: of one task on this thread, of many small ones in the worker's process, or of
//! a whole graph on all workers. So arguments, retries, timeouts, deaths of processes and callbacks are what they are for every run, and a
//! promise is settled as soon as the run has its value ([`Outputs`]).

#![expect(
    unsafe_code,
    reason = "plans are made of tasks that are kept beside them, and values taken from untyped cells"
)]

use super::super::job::{Group, Job};
use super::super::promise::{AnyPromise, Attempt, Outcome, settle, settle_attempt};
use super::super::shared::ClusterService;
use super::super::submit::inputs_of;
use super::{Backend, Busy, Core, CurrentWorker, Member, Seat};
use crate::api::compute::OwnedRun;
use crate::engine::callback::{Watchers, has_watchers};
use crate::engine::{CancelToken, ResultSink, Run, describe_panic, single};
use crate::error::{Error, ErrorKind};
use crate::executor::Executor;
use crate::executor::processes::ProcessExecutor;
use crate::executor::processes::requests::RequestHandler;
use crate::executor::sync::SyncExecutor;
use crate::graph::crossing::Encoded;
use crate::graph::node::Task;
use crate::graph::plan::Plan;
use crate::graph::value::Cell;
use std::collections::HashSet;
use std::iter::successors;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The life of a thread of a worker.
pub(in crate::client) fn serve(core: &Arc<Core>, member: &Arc<Member>) {
    let seat = Arc::new(Seat::default());
    CurrentWorker::occupy(core, member, &seat);
    core.add_seat(&seat);
    // Also on the way out of a panic, which would be a bug of ours: nobody waits for this thread then.
    struct Leave<'c>(&'c Arc<Core>, &'c Arc<Member>, Arc<Seat>);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            self.0.remove_seat(&self.2);
            CurrentWorker::leave();
            self.0.thread_has_ended(self.1);
        }
    }
    let leave = Leave(core, member, seat);
    match core.backend() {
        Backend::Threads(_) => serve_here(core, member, &leave.2),
        Backend::Processes(executor) => serve_process(core, member, &leave.2, executor),
    }
}

fn serve_here(core: &Arc<Core>, member: &Arc<Member>, seat: &Seat) {
    core.has_started(member);
    loop {
        let job = if member.is_leaving() { None } else { seat.local_queue.lock().pop_front() };
        if let Some(job) = job {
            let has_slept = seat.has_slept.swap(false, Ordering::Relaxed);
            let begin = has_slept.then(Instant::now);
            run_job(core, member, seat, &job);
            // Not each time: the next is likely to be like this one.
            if let (Some(begin), Some(function)) = (begin, job.function()) {
                core.learn(function, begin.elapsed().as_nanos() as f64);
            }
            continue;
        }
        if !core.take(member, seat) {
            return;
        }
    }
}

fn run_job(core: &Arc<Core>, member: &Arc<Member>, seat: &Seat, job: &Job) {
    match job {
        Job::One(promise) => {
            run_one(core, member, seat, promise);
        }
        Job::Graph(_) => match core.backend() {
            Backend::Threads(executor) => run_graph(core, member, seat, job, executor),
            Backend::Processes(executor) => run_graph(core, member, seat, job, executor),
        },
    }
    core.release(member, job.needs());
}

/// Runs one task on this thread. False if it is not to be run, or somebody else does.
pub(in crate::client) fn run_one(
    core: &Arc<Core>,
    member: &Member,
    seat: &Seat,
    promise: &Arc<dyn AnyPromise>,
) -> bool {
    let Some(started) = start(member, promise) else { return false };
    let task = started.task.as_ref();
    // Of a graph of which it is an output the rest would have to be run as well.
    let is_plain = promise.record().is_alone() && !task.options().is_some_and(|options| options.changes_the_call());
    let is_watched = has_watchers() || promise.record().watchers().is_some();
    if is_plain && !core.needs_runs() && !is_watched {
        run_solo(core, member, seat, started);
    } else {
        carry_out(core, member, seat, vec![started], &SyncExecutor, false);
    }
    true
}

/// Runs a task without a run around it.
fn run_solo(core: &Arc<Core>, member: &Member, seat: &Seat, started: Started) {
    let Started { task, promise, attempt } = started;
    let _busy = Busy::new(member);
    let token = CancelToken::within(Some(seat.token.clone()));
    promise.record().runs_under(&token, attempt);
    let task = task.as_ref();
    let inputs = inputs_of(task);
    // Those that it only comes after have no place among the arguments.
    let num_read = inputs.len() - task.options().map_or(0, |options| options.after.len());
    let outcome = {
        let _entered = core.enter();
        // SAFETY: the task is alone, as `run_one` has seen, so its inputs are values; the promise is the task's own.
        unsafe { single::call(task, &inputs[..num_read], &token, |cell| promise.take_from(cell, attempt)) }
    };
    member.num_done.fetch_add(1, Ordering::Relaxed);
    let outcome = match outcome.and_then(|taken| taken) {
        // A task that saw the pull may have returned half a result.
        _ if token.is_cancelled() && core.is_closed() => Outcome::Lost(core.closed_error()),
        Ok(()) => Outcome::Finished,
        Err(error) => Outcome::Failed(error),
    };
    settle_attempt(&promise, attempt, outcome);
}

fn run_graph(core: &Arc<Core>, member: &Member, seat: &Seat, job: &Job, executor: &dyn Executor) {
    let started: Vec<_> = job.promises().iter().filter_map(|promise| start(member, promise)).collect();
    if !started.is_empty() {
        carry_out(core, member, seat, started, executor, true);
    }
}

/// A promise, to be kept now, and the task that makes its value.
struct Started {
    task: Task,
    promise: Arc<dyn AnyPromise>,
    attempt: Attempt,
}

fn start(member: &Member, promise: &Arc<dyn AnyPromise>) -> Option<Started> {
    let record = promise.record();
    if !record.is_wanted() {
        let message = "nobody wanted the result any more";
        settle(promise, Outcome::Cancelled(Error::new(ErrorKind::Cancelled, message)));
        return None;
    }
    let attempt = record.start(member.id)?;
    record.task().map(|task| Started { task, promise: Arc::clone(promise), attempt })
}

fn serve_process(core: &Arc<Core>, member: &Arc<Member>, seat: &Seat, executor: &ProcessExecutor) {
    let handler = ClusterService::of(core, CurrentWorker::of_this_thread());
    let pinned = Pinned { executor, worker: Some(member.index), handler: Arc::clone(&handler) };
    let spread = Pinned { executor, worker: None, handler };
    warm_up(core, &pinned);
    core.has_started(member);
    while core.take(member, seat) {
        let local_queue = std::mem::take(&mut *seat.local_queue.lock());
        let (mut small, mut graphs) = (Vec::new(), Vec::new());
        for job in local_queue {
            match job {
                Job::One(promise) => small.push(promise),
                Job::Graph(_) => graphs.push(job),
            }
        }
        let started = small.iter().filter_map(|promise| start(member, promise));
        let (watched, others): (Vec<_>, Vec<_>) =
            started.partition(|started| started.promise.record().watchers().is_some());
        watched.into_iter().for_each(|started| carry_out(core, member, seat, vec![started], &pinned, true));
        if !others.is_empty() {
            let functions: HashSet<usize> = others.iter().map(|started| started.promise.record().function()).collect();
            let (begin, num_tasks) = (Instant::now(), others.len());
            carry_out(core, member, seat, others, &pinned, true);
            let ns = begin.elapsed().as_nanos() as f64 / num_tasks as f64;
            functions.into_iter().for_each(|function| core.learn(function, ns));
        }
        small.iter().for_each(|promise| core.release(member, promise.record().needs()));
        graphs.iter().for_each(|job| run_graph(core, member, seat, job, &spread));
        core.relieve(member);
    }
}

/// Has the worker's process started before there is something to do.
fn warm_up(core: &Arc<Core>, pinned: &Pinned<'_>) {
    let nothing = crate::delayed(|| (), ()).name("start a worker");
    let _watched = has_watchers().then(|| Watchers::enter_start(core.info()));
    let started = nothing.with_plan(|plan| {
        let run = OwnedRun::execute_on(pinned, plan, core.snapshot(), false, None);
        run.map(drop)
    });
    if let Err(error) = started.and_then(|started| started) {
        // Those who give it something to do are told again.
        log::warn!("a worker of the cluster {:?} did not start: {error}", core.name);
    }
}

/// One worker of several, or all.
struct Pinned<'e> {
    executor: &'e ProcessExecutor,
    worker: Option<u32>,
    handler: Arc<dyn RequestHandler>,
}

impl Executor for Pinned<'_> {
    fn name(&self) -> &str {
        self.executor.name()
    }

    fn execute(&self, run: &Arc<Run>) {
        self.executor.execute_on(run, self.worker, Some(Arc::clone(&self.handler)));
    }
}

/// Settles promises with what their tasks give.
struct Outputs {
    promises: Vec<(Arc<dyn AnyPromise>, Attempt)>,
    /// For each task of the plan the first of the promises of its value, by its index.
    of_task: Vec<Option<u32>>,
    /// For each promise the next one of the same value: equal tasks are one in the plan.
    next: Vec<Option<u32>>,
}

impl ResultSink for Outputs {
    fn wants(&self, id: u32) -> bool {
        self.of_task[id as usize].is_some()
    }

    unsafe fn finished(&self, id: u32, cell: &Cell) {
        for (promise, attempt) in self.promises(id) {
            // SAFETY: the caller's contract; the promise is that of the task, which is an output once for each of its promises.
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
}

impl Outputs {
    fn new(started: &[Started], plan: &Plan) -> Self {
        let promises = started.iter().map(|started| (Arc::clone(&started.promise), started.attempt)).collect();
        let mut of_task = vec![None; plan.num_tasks()];
        let chain = |(index, &id): (usize, &u32)| of_task[id as usize].replace(index as u32);
        let next = plan.outputs().iter().enumerate().map(chain).collect();
        Outputs { promises, of_task, next }
    }

    fn promises(&self, id: u32) -> impl Iterator<Item = &(Arc<dyn AnyPromise>, Attempt)> {
        let indices = successors(self.of_task[id as usize], |&index| self.next[index as usize]);
        indices.map(|index| &self.promises[index as usize])
    }
}

fn panicked(promise: &Arc<dyn AnyPromise>, payload: Box<dyn std::any::Any + Send>) -> Error {
    Error::new(ErrorKind::Panicked, describe_panic(payload)).with_task(promise.record().name(), 1)
}

/// Runs tasks, each of which keeps a promise, as one run. Afterwards each is settled or back in the queue.
fn carry_out(
    core: &Arc<Core>,
    member: &Member,
    seat: &Seat,
    started: Vec<Started>,
    executor: &dyn Executor,
    each: bool,
) {
    let _busy = Busy::new(member);
    // Those of a run are all alike in this.
    let watchers = started[0].promise.record().watchers();
    let _watched = (watchers.is_some() || has_watchers()).then(|| Watchers::enter(watchers, core.info()));
    let token = CancelToken::within(Some(seat.token.clone()));
    started.iter().for_each(|Started { promise, attempt, .. }| promise.record().runs_under(&token, *attempt));
    let reason = catch_unwind(AssertUnwindSafe(|| token.scope(|| run(core, &started, executor, each))));
    member.num_done.fetch_add(started.len() as u64, Ordering::Relaxed);
    let reason = match reason {
        Ok(reason) => reason,
        // A value panicked when it was dropped.
        Err(payload) => Some(panicked(&started[0].promise, payload)),
    };
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for Started { promise, attempt, .. } in started.iter().rev() {
        if core.is_closed() {
            settle_attempt(promise, *attempt, Outcome::Lost(core.closed_error()));
        } else if token.is_cancelled() || reason.is_none() {
            // Another task of the same run was cancelled.
            if promise.record().give_back(*attempt) {
                let back = if promise.record().is_alone() { &mut alone } else { &mut together };
                back.push(Arc::clone(promise));
            }
        } else if let Some(error) = &reason {
            settle_attempt(promise, *attempt, Outcome::Failed(error.clone()));
        }
    }
    let rest = (!together.is_empty()).then(|| Job::Graph(Arc::new(Group { promises: together, missing: 0.into() })));
    core.put_back(alone.into_iter().map(Job::One).chain(rest));
}

/// What the run as a whole ended of, if that was not its end.
fn run(core: &Arc<Core>, started: &[Started], executor: &dyn Executor, each: bool) -> Option<Error> {
    let outputs: Vec<_> = started.iter().map(|started| started.task.as_ref()).collect();
    // SAFETY: `started` has handles of the outputs.
    let plan = match unsafe { Plan::of_unrelated(&outputs) } {
        Ok(plan) => plan,
        Err(error) => return Some(error),
    };
    let sink: Arc<dyn ResultSink> = Arc::new(Outputs::new(started, &plan));
    OwnedRun::execute_on(executor, &plan, core.snapshot(), each, Some(sink)).map(drop).err()
}
