//! The threads of a cluster's workers: from a job to the run of its tasks.
//!
//! A thread runs one small task at a time, sends a batch of them to its worker's process, or runs a
//! graph on all workers.

#![expect(unsafe_code, reason = "values are taken from the untyped cells of tasks")]

use super::super::job::Job;
use super::super::promise::{AnyPromise, Outcome, settle_attempt};
use super::super::shared::ClusterService;
use super::super::submit::inputs_of;
use super::batch::{Started, run_batch};
use super::dispatch::Taker;
use super::member::{Busy, Member};
use super::thread::WorkerThread;
use super::{Backend, Cluster};
use crate::api::compute::OwnedRun;
use crate::api::config::{OnFailure, Settings};
use crate::engine::callback::{Watchers, has_watchers};
use crate::engine::{CancelToken, Run, single};
use crate::executor::Executor;
use crate::executor::processes::requests::RequestHandler;
use crate::executor::processes::{ProcessExecutor, WorkerEnd};
use crate::executor::sync::SyncExecutor;
use crate::per_process::spawn;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The share of its memory limit above which the process of a worker is replaced.
const MAX_MEMORY_SHARE: f64 = 0.8;

/// Starts one more thread of a worker.
pub(super) fn start_thread(cluster: &Arc<Cluster>, member: &Arc<Member>) -> io::Result<()> {
    member.activate();
    cluster.dispatch.add_thread();
    let (own_cluster, own_member) = (Arc::clone(cluster), Arc::clone(member));
    let thread = std::thread::Builder::new()
        .name(format!("{}-{}", cluster.name, member.name))
        .stack_size(cluster.made_in.settings().stack_size);
    let started = spawn(thread, move || serve(own_cluster, own_member));
    if started.is_err() {
        member.deactivate();
        cluster.dispatch.remove_thread();
    }
    started.map(drop)
}

/// The whole life of a thread.
fn serve(cluster: Arc<Cluster>, member: Arc<Member>) {
    // Dropped also when a bug of this crate panics, so that nothing waits for this thread then.
    struct End<'t>(&'t WorkerThread);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            let WorkerThread { cluster, member, slot } = self.0;
            cluster.queue_first(cluster.dispatch.remove_slot(slot).into_iter().rev());
            WorkerThread::leave();
            if cluster.members.remove_if_ended(member, cluster.is_closed()) {
                cluster.backend.processes().inspect(|executor| executor.end_worker(member.index, WorkerEnd::Leave));
                cluster.refuse_impossible();
            }
            cluster.dispatch.remove_thread();
            cluster.members.notify();
        }
    }
    let thread = WorkerThread { cluster, member, slot: Arc::default() }.enter();
    thread.cluster.dispatch.add_slot(&thread.slot);
    let end = End(&thread);
    match &thread.cluster.backend {
        Backend::Threads(executor) => run_jobs(end.0, executor),
        Backend::Processes(executor) => send_jobs(end.0, executor),
    }
}

/// Runs jobs on this thread until it must end.
fn run_jobs(thread: &WorkerThread, executor: &dyn Executor) {
    let WorkerThread { cluster, member, slot } = thread;
    cluster.members.set_started(member);
    loop {
        let job = if member.is_leaving() { None } else { slot.local_queue.lock().pop_front() };
        let Some(job) = job else {
            match cluster.dispatch.take(member, slot) {
                true => continue,
                false => return,
            }
        };
        // Only after a sleep: the next task is likely to take as long as this one.
        let begin = slot.has_slept.swap(false, Ordering::Relaxed).then(Instant::now);
        match &job {
            Job::One(promise) => drop(run_one(thread, promise)),
            Job::Graph(_) => run_graph(thread, &job, executor),
        }
        release(thread, &job);
        if let (Some(begin), Some(function)) = (begin, job.function()) {
            cluster.dispatch.learn(function, begin.elapsed().as_nanos() as f64);
        }
    }
}

/// Returns the resources that a job had.
fn release(thread: &WorkerThread, job: &Job) {
    if let Some(needs) = job.needs() {
        thread.member.release(needs);
        thread.cluster.dispatch.wake_all();
    }
}

/// Runs one task on this thread. False if the task is not to run, or another thread runs it.
pub(super) fn run_one(thread: &WorkerThread, promise: &Arc<dyn AnyPromise>) -> bool {
    let Some(started) = Started::new(&thread.member, promise) else { return false };
    let task = started.task.as_ref();
    // The other tasks of a graph of which this one is an output would have to run as well.
    let is_plain = promise.record().is_alone() && !task.options().is_some_and(|options| options.changes_the_call());
    let is_watched = has_watchers() || promise.record().watchers().is_some();
    if is_plain && !needs_run(thread.cluster.snapshot_of(&**promise).settings()) && !is_watched {
        run_single(thread, started);
    } else {
        run_batch(thread, vec![started], &SyncExecutor, false);
    }
    true
}

/// Whether these settings need a run around a task.
fn needs_run(settings: &Settings) -> bool {
    settings.check_portable
        || settings.stall_timeout.is_some()
        || settings.on_failure == OnFailure::KeepInputs
        || settings.retries > 0
}

/// Calls a task without a run around it.
fn run_single(thread: &WorkerThread, started: Started) {
    let WorkerThread { cluster, member, slot } = thread;
    let Started { task, promise, attempt } = started;
    let _busy = Busy::new(member);
    let token = CancelToken::within(Some(slot.token.clone()));
    promise.record().runs_under(&token, attempt);
    let task = task.as_ref();
    let _running = slot.running.set(task.kind().type_name);
    let inputs = inputs_of(task);
    // The tasks that it only runs after are no arguments of it.
    let num_arguments = inputs.len() - task.options().map_or(0, |options| options.after.len());
    let outcome = {
        let _entered = cluster.snapshot_of(&*promise).enter();
        // SAFETY: `inputs_of` lists the inputs of the task in their order. Each is a value: a task
        // that is alone has only values and settled futures as inputs. `take_from` takes a value of
        // the task's type, because the promise was made for this task.
        unsafe { single::call(task, &inputs[..num_arguments], &token, |cell| promise.take_from(cell, attempt)) }
    };
    member.num_done.fetch_add(1, Ordering::Relaxed);
    let outcome = match outcome.and_then(|taken| taken) {
        // A task that saw the cancellation may have returned half a result.
        _ if token.is_cancelled() && cluster.is_closed() => Outcome::Lost(cluster.closed_error()),
        Ok(()) => Outcome::Finished,
        Err(error) => Outcome::Failed(error),
    };
    settle_attempt(&promise, attempt, outcome);
}

fn run_graph(thread: &WorkerThread, job: &Job, executor: &dyn Executor) {
    let started: Vec<_> = job.promises().iter().filter_map(|promise| Started::new(&thread.member, promise)).collect();
    if !started.is_empty() {
        run_batch(thread, started, executor, true);
    }
}

/// Sends jobs to the process of the worker until this thread must end.
fn send_jobs(thread: &WorkerThread, executor: &ProcessExecutor) {
    let WorkerThread { cluster, member, slot } = thread;
    let handler = ClusterService::of(cluster, Some(thread.clone()));
    let own_worker = Pinned { executor, worker: Some(member.index), handler: Arc::clone(&handler) };
    let all_workers = Pinned { executor, worker: None, handler };
    start_process(cluster, &own_worker);
    cluster.members.set_started(member);
    while cluster.dispatch.take(member, slot) {
        let jobs = std::mem::take(&mut *slot.local_queue.lock());
        let (graphs, singles): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| matches!(job, Job::Graph(_)));
        send_singles(thread, &singles, &own_worker);
        singles.iter().for_each(|job| release(thread, job));
        graphs.iter().for_each(|job| run_graph(thread, job, &all_workers));
        limit_memory(cluster, member, executor);
    }
}

/// Runs tasks in the process of the worker: as one run for each configuration, but for those whose
/// submitters have callbacks.
fn send_singles(thread: &WorkerThread, singles: &[Job], own_worker: &Pinned<'_>) {
    let promises = singles.iter().flat_map(Job::promises);
    let started = promises.filter_map(|promise| Started::new(&thread.member, promise));
    let (watched, mut others): (Vec<_>, Vec<_>) =
        started.partition(|started| started.promise.record().watchers().is_some());
    watched.into_iter().for_each(|started| run_batch(thread, vec![started], own_worker, true));
    while let Some(first) = others.first() {
        // Usually all have the same.
        let snapshot = thread.cluster.snapshot_of(&*first.promise).clone();
        let has_other = |started: &mut Started| !thread.cluster.snapshot_of(&*started.promise).is(&snapshot);
        let left = others.extract_if(.., has_other).collect();
        let alike = std::mem::replace(&mut others, left);
        let functions: HashSet<usize> = alike.iter().map(|started| started.promise.record().function()).collect();
        let (begin, num_tasks) = (Instant::now(), alike.len());
        run_batch(thread, alike, own_worker, true);
        let ns = begin.elapsed().as_nanos() as f64 / num_tasks as f64;
        functions.into_iter().for_each(|function| thread.cluster.dispatch.learn(function, ns));
    }
}

/// Starts the process of a worker before there is a task for it.
fn start_process(cluster: &Cluster, own_worker: &Pinned<'_>) {
    let nothing = crate::delayed(|| (), ()).name("start a worker");
    let _watched = has_watchers().then(|| Watchers::enter_start(&cluster.info));
    let started = nothing.with_plan(|plan| {
        // That limit is for computes of the program.
        let snapshot = cluster.snapshot.overriding("run_timeout", "never")?;
        OwnedRun::execute_on(own_worker, plan, snapshot, false, None).map(drop)
    });
    if let Err(error) = started.and_then(|started| started) {
        // The first task that is sent to the worker fails with the same error.
        log::warn!("a worker of the cluster {:?} did not start: {error}", cluster.name);
    }
}

/// Replaces the process of a worker that runs nothing and uses too much memory.
fn limit_memory(cluster: &Cluster, member: &Member, executor: &ProcessExecutor) {
    let Some(limit) = cluster.members.settings.memory_limit else { return };
    let used = executor.worker_memory(member.index).unwrap_or(0);
    // Other threads of the worker may be busy.
    if used as f64 <= limit as f64 * MAX_MEMORY_SHARE || member.num_busy() > 0 {
        return;
    }
    log::info!("{:?} of {:?} uses {used} of {limit} bytes and is replaced", member.name, cluster.name);
    member.is_paused.store(true, Ordering::Relaxed);
    executor.end_worker(member.index, WorkerEnd::Replace);
    member.is_paused.store(false, Ordering::Relaxed);
}

/// An executor that uses one worker of the pool, or all.
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
