//! The threads of a cluster's workers.
//!
//! A thread takes jobs and carries out each as a run of its own: of one task on this thread, of many small ones in the worker's process, or of
//! a whole graph on all workers. So arguments, retries, timeouts, deaths of processes and callbacks are what they are for every run, and a
//! promise is settled as soon as the run has its value ([`Outputs`]).

#![expect(
    unsafe_code,
    reason = "plans are made of tasks that are kept beside them, and values taken from untyped cells"
)]

use super::core::{Busy, Core, Member, Place, Plant, Seat};
use super::promise::{AnyPromise, Outcome, settle};
use super::queue::Job;
use super::shared::Hatch;
use super::submit::inputs_of;
use crate::api::compute::OwnedRun;
use crate::engine::callback::{Watchers, has_watchers};
use crate::engine::{CancelToken, Run, Sink, describe_panic, solo};
use crate::error::{Error, ErrorKind};
use crate::executor::Executor;
use crate::executor::processes::ProcessExecutor;
use crate::executor::processes::line::Desk;
use crate::executor::sync::SyncExecutor;
use crate::graph::crossing::Encoded;
use crate::graph::node::Task;
use crate::graph::plan::Plan;
use crate::graph::value::Cell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The life of a thread of a worker.
pub(super) fn serve(core: &Arc<Core>, member: &Arc<Member>) {
    let seat = Arc::new(Seat::default());
    Place::occupy(core, member, &seat);
    core.add_seat(&seat);
    // Also on the way out of a panic, which would be a bug of ours: nobody waits for this thread then.
    struct Leave<'c>(&'c Arc<Core>, &'c Arc<Member>, Arc<Seat>);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            self.0.remove_seat(&self.2);
            Place::leave();
            self.0.thread_has_ended(self.1);
        }
    }
    let leave = Leave(core, member, seat);
    match core.plant() {
        Plant::Threads(_) => serve_here(core, member, &leave.2),
        Plant::Processes(executor) => serve_process(core, member, &leave.2, executor),
    }
}

fn serve_here(core: &Arc<Core>, member: &Arc<Member>, seat: &Seat) {
    core.has_started(member);
    loop {
        let job = if member.is_leaving() { None } else { seat.lot.lock().pop_front() };
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
        Job::Graph(_) => match core.plant() {
            Plant::Threads(executor) => run_graph(core, member, seat, job, executor),
            Plant::Processes(executor) => run_graph(core, member, seat, job, executor),
        },
    }
    core.release(member, job.needs());
}

/// Runs one task on this thread. False if it is not to be run, or somebody else does.
pub(super) fn run_one(core: &Arc<Core>, member: &Member, seat: &Seat, promise: &Arc<dyn AnyPromise>) -> bool {
    let Some(started) = start(member, promise) else { return false };
    let task = started.0.as_ref();
    let is_plain = !task.options().is_some_and(|options| options.changes_the_call());
    let is_watched = has_watchers() || promise.record().watchers().is_some();
    if is_plain && !core.needs_runs() && !is_watched {
        run_solo(core, member, seat, started);
    } else {
        carry_out(core, member, seat, vec![started], &SyncExecutor, false);
    }
    true
}

/// Runs a task without a run around it.
fn run_solo(core: &Arc<Core>, member: &Member, seat: &Seat, (task, promise): Started) {
    let _busy = Busy::new(member);
    let token = CancelToken::within(Some(seat.token.clone()));
    promise.record().runs_under(&token);
    let task = task.as_ref();
    let inputs = inputs_of(task);
    // Those that it only comes after have no place among the arguments.
    let num_read = inputs.len() - task.options().map_or(0, |options| options.after.len());
    let outcome = {
        let _entered = core.enter();
        // SAFETY: the task is alone, so its inputs are values; the promise is the task's own.
        unsafe { solo::call(task, &inputs[..num_read], &token, |cell| promise.take_from(cell)) }
    };
    member.num_done.fetch_add(1, Ordering::Relaxed);
    let outcome = match outcome.and_then(|taken| taken) {
        // A task that saw the pull may have returned half a result.
        _ if token.is_cancelled() && core.is_closed() => Outcome::Lost(core.closed_error()),
        Ok(()) => Outcome::Finished,
        Err(error) => Outcome::Failed(error),
    };
    settle(&promise, outcome);
}

fn run_graph(core: &Arc<Core>, member: &Member, seat: &Seat, job: &Job, executor: &dyn Executor) {
    let started: Vec<_> = job.promises().iter().filter_map(|promise| start(member, promise)).collect();
    if !started.is_empty() {
        carry_out(core, member, seat, started, executor, true);
    }
}

/// A promise, to be kept now, and the task that makes its value.
type Started = (Task, Arc<dyn AnyPromise>);

fn start(member: &Member, promise: &Arc<dyn AnyPromise>) -> Option<Started> {
    let record = promise.record();
    if !record.is_wanted() {
        let message = "nobody wanted the result any more";
        settle(promise, Outcome::Cancelled(Error::new(ErrorKind::Cancelled, message)));
        return None;
    }
    if !record.start(member.id) {
        return None;
    }
    record.task().map(|task| (task, Arc::clone(promise)))
}

fn serve_process(core: &Arc<Core>, member: &Arc<Member>, seat: &Seat, executor: &ProcessExecutor) {
    let desk = Hatch::of(core, Place::of_this_thread());
    let pinned = Pinned { executor, worker: Some(member.index), desk: Arc::clone(&desk) };
    let spread = Pinned { executor, worker: None, desk };
    warm_up(core, &pinned);
    core.has_started(member);
    while core.take(member, seat) {
        let lot = std::mem::take(&mut *seat.lot.lock());
        let (mut small, mut graphs) = (Vec::new(), Vec::new());
        for job in lot {
            match job {
                Job::One(promise) => small.push(promise),
                Job::Graph(_) => graphs.push(job),
            }
        }
        let started = small.iter().filter_map(|promise| start(member, promise));
        let (watched, others): (Vec<_>, Vec<_>) =
            started.partition(|(_, promise)| promise.record().watchers().is_some());
        watched.into_iter().for_each(|started| carry_out(core, member, seat, vec![started], &pinned, true));
        if !others.is_empty() {
            let functions: HashSet<usize> = others.iter().map(|(_, promise)| promise.record().function()).collect();
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
    desk: Arc<dyn Desk>,
}

impl Executor for Pinned<'_> {
    fn name(&self) -> &str {
        self.executor.name()
    }

    fn execute(&self, run: &Arc<Run>) {
        self.executor.execute_on(run, self.worker, Some(Arc::clone(&self.desk)));
    }
}

/// Settles promises with what their tasks give.
struct Outputs {
    /// For each task of the plan the promises of its value, by their indices.
    of_task: Vec<Option<u32>>,
    promises: Vec<Arc<dyn AnyPromise>>,
}

impl Sink for Outputs {
    fn wants(&self, id: u32) -> bool {
        self.of_task[id as usize].is_some()
    }

    unsafe fn finished(&self, id: u32, cell: &Cell) {
        if let Some(promise) = self.promise(id) {
            // SAFETY: the caller's contract; the promise is that of the task.
            let taken = catch_unwind(AssertUnwindSafe(|| unsafe { promise.take_from(cell) }));
            let outcome = match taken {
                Ok(Ok(())) => Outcome::Finished,
                Ok(Err(error)) => Outcome::Failed(error.with_task(promise.record().name(), 1)),
                Err(payload) => Outcome::Failed(panicked(promise, payload)),
            };
            settle(promise, outcome);
        }
    }

    fn finished_elsewhere(&self, id: u32, value: Arc<dyn Encoded>) {
        if let Some(promise) = self.promise(id) {
            promise.keep(value);
            settle(promise, Outcome::Finished);
        }
    }

    fn failed(&self, id: u32, error: &Error) {
        if let Some(promise) = self.promise(id) {
            settle(promise, Outcome::Failed(error.clone()));
        }
    }
}

impl Outputs {
    fn promise(&self, id: u32) -> Option<&Arc<dyn AnyPromise>> {
        self.of_task[id as usize].map(|index| &self.promises[index as usize])
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
    let watchers = started[0].1.record().watchers();
    let _watched = (watchers.is_some() || has_watchers()).then(|| Watchers::enter(watchers, core.info()));
    let token = CancelToken::within(Some(seat.token.clone()));
    started.iter().for_each(|(_, promise)| promise.record().runs_under(&token));
    let reason = catch_unwind(AssertUnwindSafe(|| token.scope(|| run(core, &started, executor, each))));
    member.num_done.fetch_add(started.len() as u64, Ordering::Relaxed);
    let reason = match reason {
        Ok(reason) => reason,
        // A value panicked when it was dropped.
        Err(payload) => Some(panicked(&started[0].1, payload)),
    };
    let mut back = Vec::new();
    for (_, promise) in started.iter().rev() {
        if promise.record().is_settled() {
            continue;
        }
        if core.is_closed() {
            settle(promise, Outcome::Lost(core.closed_error()));
        } else if token.is_cancelled() || reason.is_none() {
            // Another task of the same run was cancelled.
            if promise.record().give_back() {
                back.push(Job::One(Arc::clone(promise)));
            }
        } else if let Some(error) = &reason {
            settle(promise, Outcome::Failed(error.clone()));
        }
    }
    core.put_back(back);
}

/// What the run as a whole ended of, if that was not its end.
fn run(core: &Arc<Core>, started: &[Started], executor: &dyn Executor, each: bool) -> Option<Error> {
    let outputs: Vec<_> = started.iter().map(|(task, _)| task.as_ref()).collect();
    // SAFETY: `started` has handles of the outputs.
    let plan = match unsafe { Plan::of_strangers(&outputs) } {
        Ok(plan) => plan,
        Err(error) => return Some(error),
    };
    let mut of_task = vec![None; plan.num_tasks()];
    for (index, &id) in plan.outputs().iter().enumerate() {
        // Of two that are merged the second is given back, and finds that the first is there.
        of_task[id as usize].get_or_insert(index as u32);
    }
    let promises = started.iter().map(|(_, promise)| Arc::clone(promise)).collect();
    let sink: Arc<dyn Sink> = Arc::new(Outputs { of_task, promises });
    OwnedRun::execute_on(executor, &plan, core.snapshot(), each, Some(sink)).map(drop).err()
}
