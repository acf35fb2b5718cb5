//! One execution of one plan.
//!
//! All workers of an executor share one [`Run`]. Nothing here spawns a thread. A clock is read only
//! if callbacks watch the run, and the only waits are for the end of the run and for retries.
//!
//! # A task's life
//!
//! `waiting -> ready -> running -> finished -> released`. A task is `failed` when its call panics,
//! returns `Err` or times out, and no retry is left. A dependent of a failed task is not called: it
//! fails with the same cause, unless it takes the error in place of the value. `released` means
//! that the value is gone because no reader is left.
//!
//! # A run's life
//!
//! A run is *running* until every task has finished or failed, or until it is *stopped*: by a
//! cancelled token, or by the first failure unless errors are collected. A failure that only tasks
//! that take errors depend on never stops it ([`Plan::is_fatal`]). A stopped run starts no
//! task. Its running tasks end in their own time, and their values are dropped. Then the run is
//! *closed*: no thread is inside, and the values that are left are dropped.
//!
//! # What is always true
//!
//! 1. `pending[t]` counts the inputs of `t` that have not finished or failed, plus one if `t` is in
//!    the start list and no worker has taken it from there. Only the last thread to
//!    [arrive](Countdown::arrive) learns that `t` is ready. So a task becomes ready once, without a
//!    lock. The count of a task that is ready means nothing.
//! 2. A task's value, or the mark of its failure, is in its cell before the counters that announce
//!    the task are lowered. The value of a task that ran in another process may be kept elsewhere.
//! 3. A task that finishes or returns an error releases its inputs before its dependents are
//!    announced. A task that panics may keep some of them until the run is closed.
//! 4. Threads access cells and nodes only between `enter` and `leave` at the gate. The owner
//!    accesses them after it has closed the gate and either no thread is inside, or every task has
//!    finished and the threads inside touch no task any more. So the owner then has the run for
//!    itself, and no `TaskRef` is used after its handles are gone.
//! 5. No lock is held while user code runs.
//!
//! [`Countdown::arrive`]: super::countdown::Countdown::arrive

#![expect(unsafe_code, reason = "it calls tasks through their untyped kinds and trusts the plan's numbers")]

mod access;
mod call;
mod parallel;
mod remote;
mod waiting;

pub(crate) use self::parallel::ParallelRef;

use self::parallel::Parallel;
use self::waiting::WaitingTasks;
use super::callback::{CancelRun, Entered, Frame};
use super::cancel::{CancelListener, CancelToken};
use super::context::{Deadline, ResultSink, RunSettings, TaskContext, Timer};
use super::gate::Gate;
use super::panics::InRun;
use super::replay::KeptInputs;
use super::stall::Stall;
use super::watch::Watch;
use crate::error::{Error, ErrorKind};
use crate::graph::plan::Plan;
use crate::graph::value::Cell;
use crate::primitives::{AtomicU32, Relaxed};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

// Bits of `Run::status`. While none is set, a worker takes the short path for every task.
/// Tasks need care before or after the call: options, a token from outside, the check that values
/// are portable, callbacks, a sink.
const CAREFUL: u32 = 1;
/// A task has failed and the run goes on, so inputs may be missing.
const FAILURES: u32 = 2;
/// No further task may start.
const STOPPED: u32 = 4;

/// One execution of a graph, to be carried out by an [`Executor`](crate::Executor).
///
/// An executor takes the [`ready`](Run::ready) tasks and [runs](crate::ReadyTask::run) each on a
/// thread of its choice. Each call returns the tasks that have become ready, which the executor
/// runs in the same way. Then it [waits](Run::wait) for the end.
pub struct Run {
    /// Valid between `enter` and `leave`, and for the owner of the run (rule 4), as `cells`.
    plan: NonNull<Plan>,
    cells: NonNull<Cell>,
    num_tasks: usize,
    settings: RunSettings,
    /// `None` once the run is closed. The context may hold the last handle of something that ends
    /// with the run, such as the executor. A thread that keeps the run for longer must not drop
    /// that.
    task_context: Mutex<Option<Arc<dyn TaskContext>>>,
    timer: &'static dyn Timer,
    /// The token in force in the run's tasks, cancelled when the run stops or the token from
    /// outside is cancelled.
    token: CancelToken,
    has_outer_token: bool,
    watch: Option<Box<Watch>>,
    sink: Option<Arc<dyn ResultSink>>,
    /// The executor accepts or rejects the value of each task that has run.
    defers_values: AtomicBool,
    parallel: OnceLock<Parallel>,
    /// Present once the executor has called [`Run::defer_retries`].
    waiting: OnceLock<Box<WaitingTasks>>,
    status: AtomicU32,
    num_unfinished: AtomicUsize,
    failures: Mutex<RunFailures>,
    gate: Gate,
    /// No thread touches a task any more, although some may be inside.
    is_quiescent: AtomicBool,
    is_claimed: AtomicBool,
    ended: Mutex<()>,
    on_end: Condvar,
    this: Weak<Run>,
}

// SAFETY: threads access the plan and the cells by rules 1, 2 and 4, which order every access; both
// types are `Sync`, and so is everything else in a run.
unsafe impl Send for Run {}
// SAFETY: as for `Send`.
unsafe impl Sync for Run {}

#[derive(Default)]
struct RunFailures {
    /// The reason why the run was stopped.
    stop: Option<Error>,
    /// The errors that outputs may report.
    by_task: HashMap<u32, Error>,
    kept: KeptInputs,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("num_tasks", &self.num_tasks())
            .field("num_unfinished", &self.num_unfinished)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The access of a thread that is inside a run.
#[derive(Debug)]
pub(crate) struct RunAccess<'r> {
    run: &'r Run,
}

impl Run {
    /// # Safety
    /// The caller owns the run: it [closes](Run::close) the run before it touches or drops the plan
    /// or the cells. The cells are empty, and there are as many as the plan has tasks.
    pub(crate) unsafe fn new(
        plan: &Plan,
        cells: &[Cell],
        settings: RunSettings,
        task_context: Box<dyn TaskContext>,
        timer: &'static dyn Timer,
        sink: Option<Arc<dyn ResultSink>>,
    ) -> Arc<Run> {
        let outer = CancelToken::in_force();
        let has_outer_token = outer.is_some();
        // The error of a run that takes too long names the running tasks.
        let stall_timeout = settings.stall_timeout.or(settings.run_timeout.map(|_| Duration::MAX));
        let watch = Watch::of_this_thread(plan, settings.collect_errors, stall_timeout);
        let careful = watch.is_some()
            || sink.is_some()
            || has_outer_token
            || settings.check_portable
            || settings.keep_inputs
            || settings.retries > 0
            || !plan.special().is_empty();
        debug_assert_eq!(cells.len(), plan.num_tasks());
        Arc::new_cyclic(|this| Run {
            num_unfinished: AtomicUsize::new(plan.num_tasks()),
            plan: NonNull::from(plan),
            cells: NonNull::from(cells).cast(),
            num_tasks: plan.num_tasks(),
            settings,
            task_context: Mutex::new(Some(task_context.into())),
            timer,
            token: CancelToken::within(outer),
            has_outer_token,
            watch,
            sink,
            defers_values: AtomicBool::new(false),
            parallel: OnceLock::new(),
            waiting: OnceLock::new(),
            status: AtomicU32::new(if careful { CAREFUL } else { 0 }),
            failures: Mutex::default(),
            gate: Gate::new(),
            is_quiescent: AtomicBool::new(false),
            is_claimed: AtomicBool::new(false),
            ended: Mutex::new(()),
            on_end: Condvar::new(),
            this: Weak::clone(this),
        })
    }

    /// The number of tasks.
    pub fn num_tasks(&self) -> usize {
        self.num_tasks
    }

    /// The number of tasks that the user wants to run at once, if it is set.
    pub fn num_workers(&self) -> Option<NonZeroUsize> {
        self.settings.num_workers
    }

    /// The size that the stack of a thread that runs tasks should have, in bytes: the setting
    /// `stack_size`.
    pub fn stack_size(&self) -> usize {
        self.settings.stack_size
    }

    /// Whether no further task will start, because of a failure or a cancelled token.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.status.load(Relaxed) & STOPPED != 0
    }

    /// Waits until every task has finished, or the run was stopped and no task is running.
    ///
    /// Call it on a thread that is not needed to run the tasks.
    pub fn wait(&self) {
        let mut ended = self.ended.lock();
        while !(self.is_finished() || (self.is_stopped() && self.gate.is_empty())) {
            self.on_end.wait(&mut ended);
        }
    }

    #[inline]
    pub(crate) fn is_finished(&self) -> bool {
        // Acquire: pairs with the release in `finish`, so that the values are seen.
        self.num_unfinished.load(Ordering::Acquire) == 0
    }

    /// Makes the threads that wait for the run check their conditions again.
    pub(crate) fn notify(&self) {
        // With the lock, a thread that has checked its condition is waiting by now.
        drop(self.ended.lock());
        self.on_end.notify_all();
    }

    // ---- for executors ----

    /// Claims the right to carry out the run. It is given once, so that each task runs once.
    pub(crate) fn claim(&self) -> bool {
        !self.is_claimed.swap(true, Ordering::Relaxed)
    }

    /// The context of the tasks. A thread inside drops it before it leaves.
    pub(crate) fn task_context(&self) -> Arc<dyn TaskContext> {
        let task_context = self.task_context.lock();
        Arc::clone(task_context.as_ref().expect("a thread is inside, so the run is not closed"))
    }

    /// Stops the run when a token from outside is cancelled, until the listener is dropped. `None`
    /// if there is no token from outside.
    pub(crate) fn stop_on_cancel(&self) -> Option<CancelListener> {
        let run = Weak::clone(&self.this);
        let stop = move || {
            if let Some(run) = run.upgrade() {
                run.cancel();
            }
        };
        self.has_outer_token.then(|| self.token.on_cancel(stop))
    }

    pub(crate) fn shared(&self) -> Arc<Run> {
        self.this.upgrade().expect("a run is used through its `Arc`")
    }

    /// Whether failed tasks keep their inputs.
    pub(crate) fn keeps_inputs(&self) -> bool {
        self.settings.keep_inputs
    }

    /// From now on the executor calls [`RunAccess::accept_value`] or [`RunAccess::reject_value`]
    /// for every value that [`RunAccess::run`] leaves.
    pub(crate) fn defer_values(&self) {
        self.defers_values.store(true, Ordering::Relaxed);
    }

    // ---- for workers ----

    /// Calls `body` inside the run, with the run's context in force. `None` if the run is closed.
    pub(crate) fn enter<R>(&self, body: impl FnOnce(&RunAccess<'_>) -> R) -> Option<R> {
        if !self.gate.enter() {
            return None;
        }
        struct Leave<'r>(&'r Run);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                if self.0.gate.leave() || self.0.is_stopped() {
                    self.0.notify();
                }
            }
        }
        let _leave = Leave(self);
        let _in_run = InRun::new();
        let _token = self.token.enter();
        let frame = self.watch.as_ref().map_or_else(Frame::default, |watch| watch.task_frame());
        let _watched = Entered::new(frame);
        let mut body = Some(body);
        let mut result = None;
        self.task_context().enter(&mut || result = body.take().map(|body| body(&RunAccess { run: self })));
        result
    }

    /// Counts tasks that have finished, failed or been skipped.
    #[inline]
    pub(crate) fn finish(&self, num_tasks: usize) {
        // AcqRel: the release half publishes the effects of these tasks; the acquire half of the
        // last call sees those of all tasks.
        if self.num_unfinished.fetch_sub(num_tasks, Ordering::AcqRel) == num_tasks {
            self.notify();
        }
    }

    // ---- stopping and closing ----

    /// Starts no further task. The first reason counts.
    pub(crate) fn stop(&self, reason: Error) {
        // Dropped without the lock: an error may hold the last handle to a user value.
        let _unused = {
            let mut failures = self.failures.lock();
            if failures.stop.is_some() { Some(reason) } else { failures.stop.replace(reason) }
        };
        self.status.fetch_or(STOPPED, Ordering::SeqCst);
        self.token.cancel();
        self.notify();
    }

    /// The reason to stop a run that is not wanted any more.
    fn cancelled() -> Error {
        Error::new(ErrorKind::Cancelled, "the run was cancelled before its outputs were computed")
    }

    /// Lets no thread in any more and waits until no thread is inside.
    pub(crate) fn close(&self) {
        self.gate.close();
        self.drop_waiting_tasks();
        if self.is_quiescent.load(Ordering::Relaxed) {
            return;
        }
        if !self.gate.is_empty() {
            let mut ended = self.ended.lock();
            while !self.gate.is_empty() {
                self.on_end.wait(&mut ended);
            }
        }
        // A thread that was inside may have added one.
        self.drop_waiting_tasks();
        let task_context = self.task_context.lock().take();
        drop(task_context);
    }

    /// Lets no thread in any more, after all tasks have finished. It waits for no thread: it is for
    /// executors whose workers touch no task from then on.
    pub(crate) fn close_finished(&self) {
        assert!(self.is_finished(), "the run has not finished");
        self.gate.close();
        self.is_quiescent.store(true, Ordering::Relaxed);
    }

    // ---- for the owner ----

    /// Reports to callbacks that the run begins.
    pub(crate) fn report_start(&self, plan: &Plan, scheduler: &str) {
        if let Some(watch) = &self.watch {
            let run = Weak::<Run>::clone(&self.this);
            watch.run_started(plan, scheduler, run);
        }
    }

    /// Detects stalls of the run, if the settings ask for that.
    pub(crate) fn stall(&self) -> Option<&Stall> {
        self.watch.as_ref()?.stall()
    }

    /// Reports to callbacks that the run has stalled, unless the run has been closed meanwhile.
    pub(crate) fn report_stall(&self) {
        self.enter(|access| {
            if let Some(watch) = &self.watch {
                watch.run_stalled(access.plan(), self.is_stopped());
            }
        });
    }

    /// Stops the run when its time is up, until the deadline is dropped. `None` if it has no limit.
    pub(crate) fn start_timeout(&self) -> Option<Box<dyn Deadline>> {
        let limit = self.settings.run_timeout?;
        let run = Weak::<Run>::clone(&self.this);
        let time_out = move || {
            if let Some(run) = run.upgrade() {
                run.enter(|access| run.time_out(access.plan(), limit));
            }
        };
        Some(self.timer.start(limit, Box::new(time_out)))
    }

    fn time_out(&self, plan: &Plan, limit: Duration) {
        const MOST: usize = 8;
        if self.is_finished() || self.is_stopped() {
            return;
        }
        let running = self.stall().map_or_else(Vec::new, Stall::running);
        let names: Vec<String> = running.iter().take(MOST).map(|&(id, _)| format!("{:?}", plan.name(id))).collect();
        let mut message = format!("the run did not end within {limit:?}, its \"run_timeout\"");
        if !names.is_empty() {
            message += &format!("; running: {}", names.join(", "));
        }
        if running.len() > MOST {
            message += &format!(" and {} more", running.len() - MOST);
        }
        self.stop(Error::new(ErrorKind::TimedOut, message));
    }

    // ---- for the owner of a closed run ----

    /// Reports to callbacks, once, that the run has ended; `reason` returns the owner's error.
    pub(crate) fn report_end(&self, plan: &Plan, reason: impl FnOnce() -> Option<Error>) {
        if let Some(watch) = &self.watch {
            watch.run_finished(plan, reason());
        }
    }

    /// The reason why the run as a whole gave no results.
    pub(crate) fn stop_reason(&self) -> Option<Error> {
        self.failures.lock().stop.clone()
    }

    /// The inputs that failed tasks have kept. The run drops its errors, which hold the inputs too:
    /// it may outlive the errors that its owner was given.
    pub(crate) fn take_kept_inputs(&self) -> KeptInputs {
        if !self.keeps_inputs() {
            return KeptInputs::default();
        }
        let RunFailures { kept, stop, by_task } = std::mem::take(&mut *self.failures.lock());
        drop((stop, by_task));
        kept
    }

    /// The failure of the task `cause` as the task `id` reports it.
    pub(crate) fn failure(&self, plan: &Plan, cause: u32, id: u32) -> Error {
        let error = self.failures.lock().by_task.get(&cause).cloned().expect("a failed task has an error");
        with_path(error, plan, cause, Some(id))
    }

    /// Whether a task has failed or was never run. Then values may be left that no reader has taken
    /// or dropped.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.status.load(Relaxed) & (FAILURES | STOPPED) != 0 || !self.is_finished()
    }
}

impl CancelRun for Run {
    fn cancel(&self) -> bool {
        // Inside the run: the owner either learns of the cancellation or has already closed the
        // run.
        let cancel = self.enter(|_| {
            let is_running = !self.is_finished() && !self.is_stopped();
            if is_running {
                self.stop(Run::cancelled());
            }
            is_running
        });
        cancel.unwrap_or(false)
    }
}

/// The failure of the task `cause` as `output`, or the first output that needs it, reports it.
fn with_path(error: Error, plan: &Plan, cause: u32, output: Option<u32>) -> Error {
    let path = plan.path_to_output(cause, output);
    match plan.tasks()[cause as usize].kind().is_value {
        // The task that failed belongs to another run, and the error has the path from there.
        true => path[1..].iter().fold(error, Error::needed_by),
        false => error.with_path(path),
    }
}
