//! One execution of one plan.
//!
//! A [`Run`] is shared by every worker of the executor that carries it. Nothing here spawns, or looks at a clock unless the run is watched;
//! the only wait is for the run's end.
//!
//! # A task's life
//!
//! `waiting -> ready -> running -> finished -> released`. A task whose call panics, returns `Err` or times out, once its retries are
//! used up, is `failed`; a dependent of a failed task is failed too, by the same cause, without being called. `released` means that
//! the value is gone because nobody can ask for it any more.
//!
//! # A run's life
//!
//! It is *running* until every task is finished or failed, or until it is *stopped*: by a pulled token, or by the first failure unless
//! errors are collected. No task of a stopped run is started; those that are running end as they will and their values are dropped.
//! Then it is *closed*: nobody is inside, and what is left of the values is dropped.
//!
//! # What is always true
//!
//! 1. `pending[t]` counts the inputs of `t` that have not finished or failed, plus one if `t` stands in the start list. Who
//!    [arrives](Countdown::arrive) last is the only one told that `t` is ready; so a task becomes ready once, without a lock.
//! 2. A value, or a failure's mark, is in its cell before the counters that announce it are lowered.
//! 3. A task lets go of its inputs after its own value is stored, before its dependents are told.
//! 4. Every access to cells and nodes happens between `enter` and `leave` at the gate, or after the gate is closed and empty. So
//!    whoever closed the gate has the run for itself, and `TaskRef`s are not used after their handles are gone.
//! 5. No lock is held while code of the program runs.

#![expect(unsafe_code, reason = "it calls tasks through their untyped kinds and trusts the plan's numbers")]

use super::callback::{CancelRun, Entered, Frame, StartedWorker, WorkerId};
use super::cancel::{CancelListener, CancelToken};
use super::countdown::Countdown;
use super::gate::Gate;
use super::panics::{self, InRun};
use super::replay::{KeptInputs, ReplayInputs};
use super::stall::Stall;
use super::watch::{Attempt, Watch};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::crossing::Encoded;
use crate::graph::node::{CallError, TaskRef};
use crate::graph::plan::{Dependents, Plan};
use crate::graph::value::Cell;
use crate::portable::code::CodeDescriptor;
use crate::portable::codec::Codec;
use crate::primitives::{AtomicU32, Relaxed};
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::cell::Cell as StdCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// What a run needs to know of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunSettings {
    /// Goes on with what does not depend on a failure.
    pub(crate) collect_errors: bool,
    /// Encodes and decodes every value of a portable task.
    pub(crate) check_portable: bool,
    /// How values are encoded.
    pub(crate) codec: Codec,
    pub(crate) num_workers: Option<NonZeroUsize>,
    /// Failed tasks keep their inputs for a replay.
    pub(crate) keep_inputs: bool,
    /// How long no task may be settled before that is told.
    pub(crate) stall_timeout: Option<Duration>,
}

/// What a worker puts around the tasks of a run: the configuration that was in force where the run was started.
pub(crate) trait TaskContext: Send + Sync {
    fn enter(&self, body: &mut dyn FnMut());

    /// For another process: what makes the same there, and of what.
    fn to_portable(&self) -> (&'static CodeDescriptor<Restore>, Vec<u8>);

    /// A number that changes with the environment variables that a new process would get from this one, those left out that
    /// `is_overridden` says so of.
    fn environment(&self, is_overridden: &dyn Fn(&OsStr) -> bool) -> u64;
}

/// Makes task_context of what [`TaskContext::to_portable`] gave in another process.
pub(crate) type Restore = fn(&[u8]) -> Result<Box<dyn TaskContext>, String>;

/// Is told the outcome of each task of a run as soon as it is there, for those that do not wait for the run's end.
pub(crate) trait ResultSink: Send + Sync {
    /// Whether it wants the value of a task. Such a task counts as an output.
    fn wants(&self, id: u32) -> bool;

    /// A task that is [wanted](ResultSink::wants) has left its value in its cell, where other readers may look at it.
    ///
    /// # Safety
    /// The cell holds a value of the task's type, and the sink has not let go of it before.
    unsafe fn finished(&self, id: u32, cell: &Cell);

    /// A task that is wanted has a value, which is not in its cell.
    fn finished_encoded(&self, id: u32, value: Arc<dyn Encoded>);

    /// A task has failed for good.
    fn failed(&self, id: u32, error: &Error);
}

/// Something that can tell when time is up.
pub(crate) trait Timer: Send + Sync {
    /// Calls `action` after a time, unless the deadline is dropped before.
    fn start(&self, after: Duration, action: Box<dyn FnOnce() + Send>) -> Box<dyn Deadline>;
}

/// A call that is going to happen unless this is dropped.
pub(crate) trait Deadline: Send {}

// Bits of `Run::status`. With none set a worker has nothing to look at but its task.
/// Tasks need care before or after the call: options, a token from outside, the check that values are portable, callbacks, a sink.
const CAREFUL: u32 = 1;
/// A task has failed and errors are collected, so inputs may be missing.
const FAILURES: u32 = 2;
/// No further task is to be started.
const STOPPED: u32 = 4;

/// One execution of a graph, to be carried out by an [`Executor`](crate::Executor).
///
/// An executor takes the [`ready`](Run::ready) tasks, [runs](crate::ReadyTask::run) each on a thread of its choice, does the same with the
/// tasks that become ready by that, and [waits](Run::wait) for the end.
pub struct Run {
    /// These two are good between `enter` and `leave`, and for the owner of the run (rule 4).
    plan: NonNull<Plan>,
    cells: NonNull<Cell>,
    num_tasks: usize,
    settings: RunSettings,
    /// `None` once the run is closed. They may hold what ends with the run, such as the executor, so whoever still has the run by then must
    /// not be the one that drops them.
    task_context: Mutex<Option<Arc<dyn TaskContext>>>,
    timer: &'static dyn Timer,
    /// The token in force in the run's tasks: pulled when the run stops, or when the one around it is pulled.
    token: CancelToken,
    has_outer_token: bool,
    watch: Option<Box<Watch>>,
    sink: Option<Arc<dyn ResultSink>>,
    /// The executor says what becomes of the values of tasks that have run.
    defers_values: AtomicBool,
    parallel: OnceLock<Parallel>,
    status: AtomicU32,
    num_unfinished: AtomicUsize,
    failures: Mutex<Failures>,
    gate: Gate,
    is_quiescent: AtomicBool,
    is_claimed: AtomicBool,
    ended: Mutex<()>,
    on_end: Condvar,
    this: Weak<Run>,
}

// SAFETY: cells and counters are shared by the rules above, and the plan is `Sync`.
unsafe impl Send for Run {}
// SAFETY: as above.
unsafe impl Sync for Run {}

/// What a run needs as soon as a second worker may join.
struct Parallel {
    pending: Box<[Countdown]>,
    /// Tasks that are ready from the start, and tasks that are held back for their turn; ascending.
    starts: Box<[u32]>,
}

impl Parallel {
    /// For the tasks from `first` on; those before have finished. `slack` says how far the turn of a task may lie behind its last input
    /// before the task is held back.
    fn new(plan: &Plan, first: u32, slack: u32) -> Self {
        plan.dependents();
        let mut starts = Vec::new();
        let mut pending = Vec::with_capacity(plan.num_tasks());
        pending.extend((0..first).map(|_| Countdown::new(0)));
        let row = &plan.row()[first as usize..];
        let mut rest = &plan.all_inputs()[row[0] as usize..];
        for (id, ends) in (first..).zip(row.windows(2)) {
            let inputs;
            (inputs, rest) = rest.split_at((ends[1] - ends[0]) as usize);
            // The last of all is the last that is missing, if one is.
            let (mut missing, mut last) = (0, 0);
            for &input in inputs {
                missing += u32::from(input >= first);
                last = last.max(input);
            }
            // A task that would run long before its turn, right after its last input, waits for its turn instead: the parts of a split
            // would otherwise all be made at once, long before they are wanted.
            let is_start = missing == 0 || last.saturating_add(slack) < id;
            if is_start {
                starts.push(id);
            }
            pending.push(Countdown::new(missing + u32::from(is_start)));
        }
        Parallel { pending: pending.into(), starts: starts.into() }
    }
}

#[derive(Default)]
struct Failures {
    /// What stopped the run.
    stop: Option<Error>,
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

/// A thread's pass to work inside a run.
#[derive(Debug)]
pub(crate) struct RunAccess<'r> {
    run: &'r Run,
}

impl Run {
    /// # Safety
    /// The caller owns the run: it [closes](Run::close) it before the plan or the cells are touched or dropped. The cells are empty, and
    /// as many as the plan has tasks.
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
        let watch = Watch::of_this_thread(plan, settings.collect_errors, settings.stall_timeout);
        let careful = watch.is_some()
            || sink.is_some()
            || has_outer_token
            || settings.check_portable
            || settings.keep_inputs
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

    /// How many tasks the run has.
    pub fn num_tasks(&self) -> usize {
        self.num_tasks
    }

    /// How many tasks the user wants to run at once, if that was said.
    pub fn num_workers(&self) -> Option<NonZeroUsize> {
        self.settings.num_workers
    }

    /// Whether no further task will be started, because of a failure or a pulled token.
    pub fn is_stopped(&self) -> bool {
        self.status.load(Relaxed) & STOPPED != 0
    }

    /// Waits until every task has finished, or the run was stopped and no task is running.
    ///
    /// Call it from a thread that is not needed to run the tasks.
    pub fn wait(&self) {
        let mut ended = self.ended.lock();
        while !self.has_ended() {
            self.on_end.wait(&mut ended);
        }
    }

    fn has_ended(&self) -> bool {
        self.is_finished() || (self.is_stopped() && self.gate.is_empty())
    }

    pub(crate) fn is_finished(&self) -> bool {
        // Acquire: pairs with the release in `finish`, so that the values are seen.
        self.num_unfinished.load(Ordering::Acquire) == 0
    }

    /// Wakes those who wait for the end, to look again.
    pub(crate) fn notify(&self) {
        // With the lock: who has just found nothing to wake up for is waiting by now.
        drop(self.ended.lock());
        self.on_end.notify_all();
    }

    // ---- for executors ----

    /// Claims the right to carry the run, which is given once: its tasks are run once.
    pub(crate) fn claim(&self) -> bool {
        !self.is_claimed.swap(true, Ordering::Relaxed)
    }

    /// What tasks have around them. Must be let go of before the gate is left.
    pub(crate) fn task_context(&self) -> Arc<dyn TaskContext> {
        let task_context = self.task_context.lock();
        Arc::clone(task_context.as_ref().expect("somebody is inside, so the run is not closed"))
    }

    /// Whether a token from outside may be pulled while the run goes on.
    pub(crate) fn has_outer_token(&self) -> bool {
        self.has_outer_token
    }

    /// Stops the run when a token from outside is cancelled, until the listener is dropped. `None` if
    /// there is no token from outside.
    #[expect(dead_code, reason = "the worker processes' executor is about to wait with it")]
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

    /// Whether failed tasks are to keep their inputs.
    pub(crate) fn keeps_inputs(&self) -> bool {
        self.settings.keep_inputs
    }

    /// What [`RunAccess::run`] leaves is not final: the executor calls [`RunAccess::accept_value`] or [`RunAccess::reject_value`].
    pub(crate) fn defer_values(&self) {
        self.defers_values.store(true, Ordering::Relaxed);
    }

    // ---- for workers ----

    /// Lets this thread work inside the run; `None` if the run is closed.
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
        let _watched = Entered::new(self.watch.as_ref().map_or_else(Frame::default, |watch| watch.task_frame()));
        let mut body = Some(body);
        let mut result = None;
        self.task_context().enter(&mut || result = body.take().map(|body| body(&RunAccess { run: self })));
        result
    }

    /// Counts tasks that have finished, failed or been skipped.
    pub(crate) fn finish(&self, num_tasks: usize) {
        // AcqRel: the release half publishes what these tasks did; the acquire half of the last one sees what all did.
        if self.num_unfinished.fetch_sub(num_tasks, Ordering::AcqRel) == num_tasks {
            self.notify();
        }
    }

    // ---- stopping and closing ----

    /// Starts no further task. The first reason counts.
    pub(crate) fn stop(&self, reason: Error) {
        let mut failures = self.failures.lock();
        let _rejected = match failures.stop {
            None => failures.stop.replace(reason),
            Some(_) => Some(reason),
        };
        drop(failures);
        self.status.fetch_or(STOPPED, Ordering::SeqCst);
        self.token.cancel();
        self.notify();
    }

    /// Lets nobody in any more and waits until nobody is inside.
    pub(crate) fn close(&self) {
        self.gate.close();
        if self.is_quiescent.load(Ordering::Relaxed) {
            return;
        }
        if !self.gate.is_empty() {
            let mut ended = self.ended.lock();
            while !self.gate.is_empty() {
                self.on_end.wait(&mut ended);
            }
        }
        let task_context = self.task_context.lock().take();
        drop(task_context);
    }

    /// Lets nobody in any more, after all tasks have finished; for executors whose workers touch no task from then on, so that
    /// nobody has to wait for an idle one to leave.
    pub(crate) fn close_finished(&self) {
        assert!(self.is_finished(), "the run has not finished");
        self.gate.close();
        self.is_quiescent.store(true, Ordering::Relaxed);
    }

    // ---- for the owner ----

    /// Tells those who watch that the run begins.
    pub(crate) fn report_start(&self, plan: &Plan, scheduler: &str) {
        if let Some(watch) = &self.watch {
            let run = Weak::<Run>::clone(&self.this);
            watch.run_started(plan, scheduler, run);
        }
    }

    /// What knows whether the run gets on, if anybody wants to know.
    pub(crate) fn stall(&self) -> Option<&Stall> {
        self.watch.as_ref()?.stall()
    }

    /// Tells those who watch that the run has stalled, unless it has been closed meanwhile.
    pub(crate) fn report_stall(&self) {
        self.enter(|worker| {
            if let Some(watch) = &self.watch {
                watch.run_stalled(worker.plan(), self.is_stopped());
            }
        });
    }

    // ---- for the owner of a closed run ----

    /// Tells those who watch that the run has ended, once, and for the reason that its owner goes by.
    pub(crate) fn report_end(&self, plan: &Plan, reason: impl FnOnce() -> Option<Error>) {
        if let Some(watch) = &self.watch {
            watch.run_finished(plan, reason());
        }
    }

    /// Why the run as a whole gave no results.
    pub(crate) fn stop_reason(&self) -> Option<Error> {
        self.failures.lock().stop.clone()
    }

    /// The inputs that failed tasks have kept. The run lets go of its errors: it may outlive those that its owner has been given, and they
    /// have the inputs too.
    pub(crate) fn take_kept_inputs(&self) -> KeptInputs {
        if !self.keeps_inputs() {
            return KeptInputs::default();
        }
        let Failures { kept, stop, by_task } = std::mem::take(&mut *self.failures.lock());
        drop((stop, by_task));
        kept
    }

    /// The failure of the task `cause`, as `id` sees it.
    pub(crate) fn failure(&self, plan: &Plan, cause: u32, id: u32) -> Error {
        let error = self.failures.lock().by_task.get(&cause).cloned().expect("a failed task has an error");
        with_path(error, plan, cause, Some(id))
    }

    /// Whether a task has failed or was never run. Then values may be left that nobody has taken or dropped.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.status.load(Relaxed) & (FAILURES | STOPPED) != 0 || !self.is_finished()
    }
}

impl CancelRun for Run {
    fn cancel(&self) -> bool {
        // From the inside, so that the owner hears of it, or has closed the run before.
        let cancel = self.enter(|_| {
            let goes_on = !self.is_finished() && !self.is_stopped();
            if goes_on {
                self.stop(cancelled());
            }
            goes_on
        });
        cancel.unwrap_or(false)
    }
}

/// What becomes of a run that is not wanted any more.
fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the run was cancelled before its outputs were computed")
}

impl<'r> RunAccess<'r> {
    #[inline(always)]
    pub(crate) fn plan(&self) -> &'r Plan {
        // SAFETY: a worker is inside, so the owner has not closed the run yet.
        unsafe { self.run.plan.as_ref() }
    }

    pub(crate) fn num_tasks(&self) -> u32 {
        self.run.num_tasks as u32
    }

    /// Counts tasks that have finished, failed or been skipped.
    pub(crate) fn finish(&self, num_tasks: usize) {
        self.run.finish(num_tasks);
    }

    /// Makes the counters that more than one worker need. For the arguments see [`Parallel::new`].
    pub(crate) fn prepare_parallel(&self, first: u32, slack: u32) {
        self.run.parallel.get_or_init(|| Parallel::new(self.plan(), first, slack));
    }

    /// Whether each task needs the one before it, so that there is never more than one to run.
    pub(crate) fn is_chain(&self) -> bool {
        self.plan().is_chain()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.run.is_finished()
    }

    /// Lets nobody in any more, after all tasks have finished.
    pub(crate) fn close_finished(&self) {
        self.run.close_finished();
    }

    /// Waits until the run has ended or been stopped, or `condition` holds, which is looked at after each [`Run::notify`]. Says whether
    /// it holds.
    pub(crate) fn wait_or(&self, condition: impl Fn() -> bool) -> bool {
        let run = self.run;
        let mut ended = run.ended.lock();
        loop {
            if run.is_finished() || run.is_stopped() {
                return false;
            }
            if condition() {
                return true;
            }
            run.on_end.wait(&mut ended);
        }
    }

    /// Waits until `condition` holds, which is looked at after each [`Run::notify`], or the time is up. Says whether it holds.
    pub(crate) fn wait_until(&self, time: Option<Duration>, mut condition: impl FnMut() -> bool) -> bool {
        let run = self.run;
        let mut ended = run.ended.lock();
        loop {
            if condition() {
                return true;
            }
            match time {
                None => run.on_end.wait(&mut ended),
                Some(time) => {
                    if run.on_end.wait_for(&mut ended, time).timed_out() {
                        return condition();
                    }
                }
            }
        }
    }

    /// Tasks to begin with, ascending. A worker that takes one [arrives](RunAccess::arrive) at it, as an input would.
    pub(crate) fn starts(&self) -> &'r [u32] {
        &self.parallel().0.starts
    }

    #[inline(always)]
    pub(crate) fn is_stopped(&self) -> bool {
        self.run.is_stopped()
    }

    #[inline(always)]
    pub(crate) fn dependents(&self) -> &'r Dependents {
        self.plan().dependents()
    }

    #[inline(always)]
    fn inputs_ptr(&self, id: u32) -> *const u32 {
        debug_assert!((id as usize) < self.run.num_tasks());
        // SAFETY: ids are below the number of tasks, and a row has one entry more than that; what it says lies within the inputs.
        unsafe { self.plan().all_inputs().as_ptr().add(*self.plan().row().get_unchecked(id as usize) as usize) }
    }

    #[inline(always)]
    pub(crate) fn task(&self, id: u32) -> TaskRef {
        debug_assert!((id as usize) < self.run.num_tasks());
        // SAFETY: ids are below the number of tasks.
        unsafe { *self.plan().tasks().get_unchecked(id as usize) }
    }

    /// The cells of all tasks.
    #[inline(always)]
    fn cells(&self) -> &'r [Cell] {
        // SAFETY: a worker is inside, so the owner has not closed the run yet; there are as many cells as tasks.
        unsafe { std::slice::from_raw_parts(self.run.cells.as_ptr(), self.run.num_tasks) }
    }

    #[inline(always)]
    pub(crate) fn cell(&self, id: u32) -> &'r Cell {
        &self.cells()[id as usize]
    }

    /// One of the things that task `id` waits for has come; true if that was the last, and the caller must see to the task.
    #[inline(always)]
    pub(crate) fn arrive(&self, parallel: &ParallelRef<'r>, id: u32) -> bool {
        debug_assert!((id as usize) < parallel.0.pending.len());
        // SAFETY: ids are below the number of tasks.
        unsafe { parallel.0.pending.get_unchecked(id as usize) }.arrive()
    }

    pub(crate) fn parallel(&self) -> ParallelRef<'r> {
        ParallelRef(self.run.parallel.get().expect("the executor has called `prepare_parallel`"))
    }

    /// Runs a task. False if its dependents are not to be told, because the run has stopped.
    ///
    /// Unwinds if the task panics; the caller then calls [`RunAccess::panicked`], and goes on as if that were the result.
    ///
    /// # Safety
    /// The caller was told that the task is ready, and runs it once.
    #[inline(always)]
    pub(crate) unsafe fn run(&self, id: u32) -> bool {
        if self.run.status.load(Relaxed) != 0 {
            // SAFETY: the caller's contract.
            return unsafe { self.run_carefully(id) };
        }
        debug_assert!((id as usize) < self.run.num_tasks());
        // SAFETY: ids are below the number of tasks.
        let call = unsafe { self.plan().calls().get_unchecked(id as usize) };
        // SAFETY: the call is the task's own; by the caller's contract the inputs have finished and the cell is ours to fill.
        let error = unsafe { call(self.task(id), self.cells(), self.inputs_ptr(id), id, false) };
        match error {
            None => true,
            Some(error) => {
                // SAFETY: the call returned an error, so it has released nothing.
                unsafe { self.release_inputs(id) };
                self.failed(id, Failure::Returned(*error), 1, None, false)
            }
        }
    }

    /// Settles a task whose call unwound out of [`RunAccess::run`].
    #[cold]
    pub(crate) fn panicked(&self, id: u32, payload: Box<dyn Any + Send>) -> bool {
        // Which inputs it has let go of is not known; the others are dropped when the run is closed.
        self.failed(id, Failure::Panicked(payload), 1, None, false)
    }

    /// # Safety
    /// As [`RunAccess::run`].
    #[cold]
    unsafe fn run_carefully(&self, id: u32) -> bool {
        let run = self.run;
        self.check_token();
        let status = run.status.load(Relaxed);
        if status & STOPPED != 0 {
            return false;
        }
        let Some(watch) = &run.watch else {
            // SAFETY: the caller's contract.
            return unsafe { self.skip_after_failure(id) || self.attempts(id, None) };
        };
        let attempt = StdCell::new(None);
        let watching = Watching { watch, attempt: &attempt };
        // SAFETY: the caller's contract.
        let outcome = catch_unwind(AssertUnwindSafe(|| unsafe {
            self.skip_after_failure(id) || self.attempts(id, Some(&watching))
        }));
        // Something of the program's panicked when it was dropped.
        outcome.unwrap_or_else(|payload| self.failed(id, Failure::Panicked(payload), 1, Some(&watching), false))
    }

    /// Whether an input of a task has failed.
    pub(crate) fn has_failed_input(&self, id: u32) -> bool {
        self.run.status.load(Relaxed) & FAILURES != 0
            && self.plan().inputs(id).iter().any(|&input| self.cell(input).failure().is_some())
    }

    /// Settles a task without calling it if one of its inputs has failed. Says whether that was so.
    ///
    /// # Safety
    /// As [`RunAccess::run`].
    pub(crate) unsafe fn skip_after_failure(&self, id: u32) -> bool {
        if self.run.status.load(Relaxed) & FAILURES == 0 {
            return false;
        }
        let cause = self.plan().inputs(id).iter().find_map(|&input| self.cell(input).failure());
        let Some(cause) = cause else { return false };
        // SAFETY: the task is ready and will not be called, so its cell is ours.
        unsafe { self.cell(id).put_failure(cause) };
        // SAFETY: its inputs have not been released. A value that panics when it is dropped makes the failure no worse.
        panics::quietly(|| unsafe { self.release_inputs(id) });
        if let Some(watch) = &self.run.watch {
            watch.task_skipped(self.plan(), id, cause);
        }
        if let Some(sink) = &self.run.sink {
            sink.failed(id, &self.run.failure(self.plan(), cause, id));
        }
        true
    }

    /// Lets the sink have the value of a task.
    ///
    /// # Safety
    /// The task has left a value in its cell, and the sink has not been told.
    unsafe fn notify_sink(&self, id: u32) {
        // A task that saw the pull may have returned half a result.
        if self.run.is_stopped() {
            return;
        }
        if let Some(sink) = self.run.sink.as_ref().filter(|sink| sink.wants(id)) {
            // SAFETY: the caller's contract.
            unsafe { sink.finished(id, self.cell(id)) };
        }
    }

    /// Whether somebody takes the value of a task as soon as it is there, in whatever form.
    pub(crate) fn has_sink(&self, id: u32) -> bool {
        self.run.sink.as_ref().is_some_and(|sink| sink.wants(id))
    }

    /// Hands on the value of a task that [has a sink](RunAccess::has_sink) and that was run elsewhere.
    pub(crate) fn give_to_sink(&self, id: u32, value: Arc<dyn Encoded>) {
        if let Some(sink) = self.run.sink.as_ref().filter(|_| !self.run.is_stopped()) {
            sink.finished_encoded(id, value);
        }
    }

    /// Stops the run if a token from outside has been pulled.
    pub(crate) fn check_token(&self) {
        if self.run.has_outer_token && !self.run.is_stopped() && self.run.token.is_cancelled() {
            self.run.stop(cancelled());
        }
    }

    /// Calls a task as often as its options allow.
    ///
    /// # Safety
    /// As [`RunAccess::run`], and no input has failed.
    unsafe fn attempts(&self, id: u32, watching: Option<&Watching<'_>>) -> bool {
        let task = self.task(id);
        let (retries, timeout) = task.options().map_or((0, None), |options| (options.retries, options.timeout));
        let keeps_inputs = self.run.settings.keep_inputs;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let is_last = attempt > retries;
            let keep = !is_last || keeps_inputs;
            // SAFETY: as `run`; inputs are kept unless this is the last attempt.
            let call = || unsafe { (task.kind().call)(task, self.cells(), self.inputs_ptr(id), id, keep) };
            if let Some(watching) = watching {
                watching.begin(self.plan(), id, attempt);
            }
            let outcome = match timeout {
                None => catch_unwind(AssertUnwindSafe(call)).map(|error| (error, false)),
                Some(timeout) => self.with_deadline(id, timeout, is_last.then_some(attempt), call),
            };
            let ended = watching.map(|_| Instant::now());
            let failure = match outcome {
                Ok((_, true)) => Failure::TimedOut(timeout.unwrap_or_default()),
                Ok((None, false)) => match self.check_portable(id) {
                    Ok(()) => {
                        if keep {
                            // SAFETY: the call has kept the inputs.
                            unsafe { self.release_inputs(id) };
                        }
                        // A task that saw the pull may have returned half a result.
                        self.check_token();
                        if let (Some(watching), Some(ended)) = (watching, ended) {
                            watching.finished(self, id, ended);
                        }
                        if !self.run.defers_values.load(Ordering::Relaxed) {
                            // SAFETY: the call has left a value, and nobody else tells the sink of it.
                            unsafe { self.notify_sink(id) };
                        }
                        return !self.run.is_stopped();
                    }
                    Err(message) => Failure::NotPortable(message),
                },
                Ok((Some(error), false)) => {
                    if !keep {
                        // SAFETY: a call that returns an error has released nothing.
                        unsafe { self.release_inputs(id) };
                    }
                    Failure::Returned(*error)
                }
                Err(payload) => Failure::Panicked(payload),
            };
            if is_last || self.run.is_stopped() {
                return self.failed(id, failure, attempt, watching, keeps_inputs);
            }
            if let Some(watching) = watching {
                watching.retried(self.plan(), id, ended, failure.into_error(self.plan(), id, attempt));
            }
            // SAFETY: the task has not been announced as finished.
            unsafe { self.cell(id).discard(task.kind().drop_value) };
        }
    }

    /// Makes a call that is told, and given up, when its time has passed. Says whether it has.
    fn with_deadline(
        &self,
        id: u32,
        timeout: Duration,
        last_attempt: Option<u32>,
        call: impl FnOnce() -> Option<Box<CallError>>,
    ) -> std::thread::Result<(Option<Box<CallError>>, bool)> {
        let token = CancelToken::within(Some(self.run.token.clone()));
        // Set by whoever comes first, the end of the call or the end of its time.
        let is_settled = Arc::new(AtomicBool::new(false));
        let on_timeout = {
            let (token, is_settled, run) = (token.clone(), Arc::clone(&is_settled), Weak::clone(&self.run.this));
            move || {
                if is_settled.swap(true, Ordering::SeqCst) {
                    return;
                }
                token.cancel();
                // The run ends now; it need not wait for the task to notice.
                if let (Some(attempts), Some(run)) = (last_attempt, run.upgrade()) {
                    run.enter(|worker| worker.timed_out(id, timeout, attempts));
                }
            }
        };
        let _deadline = self.run.timer.start(timeout, Box::new(on_timeout));
        let outcome = token.scope(|| catch_unwind(AssertUnwindSafe(call)));
        let is_late = is_settled.swap(true, Ordering::SeqCst);
        if is_late {
            outcome.map(|error| (error, true)).or(Ok((None, true)))
        } else {
            outcome.map(|error| (error, false))
        }
    }

    fn check_portable(&self, id: u32) -> Result<(), String> {
        let value_code = self.task(id).kind().value_code.filter(|_| self.run.settings.check_portable);
        match value_code {
            // A value that nobody is going to read is not kept, so there is nothing to check.
            Some(code) if self.plan().num_readers()[id as usize] > 0 => {
                let cell = self.cell(id);
                // SAFETY: the task has just filled its cell with a value of its type and has not been announced as finished.
                catch_unwind(AssertUnwindSafe(|| unsafe { (code.item.round_trip)(cell, self.run.settings.codec) }))
                    .unwrap_or_else(|payload| Err(format!("encoding panicked: {}", panics::describe(payload))))
            }
            _ => Ok(()),
        }
    }

    /// Settles a task that was run elsewhere and has failed for good; its cell is empty. False if the run has stopped by that.
    ///
    /// # Safety
    /// As [`RunAccess::run`], which is not called for the task.
    pub(crate) unsafe fn fail(&self, id: u32, error: Error, attempts: u32) -> bool {
        // SAFETY: the caller's contract; nothing was released. A value that panics when it is dropped makes the failure no worse.
        panics::quietly(|| unsafe { self.release_inputs(id) });
        // SAFETY: the caller's contract.
        unsafe { self.cell(id).put_failure(id) };
        let error = error.with_task(self.plan().name(id), attempts);
        if let Some(watch) = &self.run.watch {
            watch.in_flight_failed(self.plan(), id, error.clone());
        }
        self.record_failure(id, error);
        !self.run.is_stopped()
    }

    /// The value of a task that was [held back](Run::defer_values) is good, and has so many bytes if it was encoded.
    ///
    /// # Safety
    /// It is in the task's cell, and its dependents have not been told.
    pub(crate) unsafe fn accept_value(&self, id: u32, encoded_bytes: Option<u64>) {
        if let Some(watch) = &self.run.watch {
            let encoded_bytes = encoded_bytes.or_else(|| self.measured(watch, id));
            watch.in_flight_finished(self.plan(), id, encoded_bytes);
        }
        // SAFETY: the caller's contract.
        unsafe { self.notify_sink(id) };
    }

    /// How large the value that a task has just left would be if it were encoded, if those who watch want to know and it can be.
    fn measured(&self, watch: &Watch, id: u32) -> Option<u64> {
        let task = self.task(id);
        let kind = task.kind();
        let is_wanted = watch.measures() && !kind.is_value && self.plan().num_readers()[id as usize] > 0;
        let code = kind.value_code.filter(|_| is_wanted)?;
        let (cell, codec) = (self.cell(id), self.run.settings.codec);
        // SAFETY: the task has filled its cell with a value of its type and has not been announced as finished, so nobody lets go of it.
        catch_unwind(AssertUnwindSafe(|| unsafe { (code.item.measure)(cell, codec) })).ok().flatten()
    }

    // ---- telling of tasks that run elsewhere ----

    /// Whether anybody wants to know of what follows.
    pub(crate) fn is_watched(&self) -> bool {
        self.run.watch.is_some()
    }

    pub(crate) fn worker_started(&self, started: &StartedWorker) {
        if let Some(watch) = &self.run.watch {
            watch.worker_started(self.plan(), started);
        }
    }

    pub(crate) fn worker_lost(&self, worker: WorkerId, error: impl FnOnce() -> Error) {
        if let Some(watch) = &self.run.watch {
            watch.worker_lost(self.plan(), worker, error());
        }
    }

    /// A task was sent to a worker, with so many bytes.
    pub(crate) fn sent(&self, id: u32, worker: WorkerId, num_bytes: u64) {
        if let Some(watch) = &self.run.watch {
            watch.sent(self.plan(), id, worker, num_bytes);
        }
    }

    /// A task that was sent has run, between these times.
    pub(crate) fn ran(&self, id: u32, started: Instant, ended: Instant) {
        if let Some(watch) = &self.run.watch {
            watch.ran(id, started, ended);
        }
    }

    /// A task that was sent has a value, of so many bytes if it has come back.
    pub(crate) fn remote_finished(&self, id: u32, encoded_bytes: Option<u64>) {
        if let Some(watch) = &self.run.watch {
            watch.in_flight_finished(self.plan(), id, encoded_bytes);
        }
    }

    /// A task that was sent, if it was, has given no value, and is to be run again; with an error if that is its own doing.
    pub(crate) fn remote_retried(&self, id: u32, error: Option<&Error>) {
        if let Some(watch) = self.run.watch.as_ref().filter(|_| !self.run.is_stopped()) {
            let attempts = 1;
            let error = error.map(|error| error.clone().with_task(self.plan().name(id), attempts));
            watch.in_flight_retried(self.plan(), id, error);
        }
    }

    /// Lets go of the inputs of a task that was run elsewhere and is about to be settled. If one of them panics when it is dropped, the task
    /// has failed, as if it had been run here: then `Err` with whether the run goes on.
    ///
    /// # Safety
    /// As [`RunAccess::release_inputs`].
    pub(crate) unsafe fn release_remote_inputs(&self, id: u32) -> Result<(), bool> {
        // SAFETY: the caller's contract.
        catch_unwind(AssertUnwindSafe(|| unsafe { self.release_inputs(id) })).map_err(|payload| {
            let error = Error::new(ErrorKind::Panicked, panics::describe(payload));
            // SAFETY: the task has run, and the caller has told nobody.
            unsafe { self.reject_value(id, error) }
        })
    }

    /// Settles a task that has run and whose value has turned out to be of no use. False if the run has stopped by that.
    ///
    /// # Safety
    /// [`RunAccess::run`] has been called for the task, and its dependents have not been told.
    pub(crate) unsafe fn reject_value(&self, id: u32, error: Error) -> bool {
        // SAFETY: the caller's contract.
        unsafe { self.replace_by_failure(id) };
        let error = error.with_task(self.plan().name(id), 1);
        if let Some(watch) = &self.run.watch {
            watch.in_flight_failed(self.plan(), id, error.clone());
        }
        self.record_failure(id, error);
        !self.run.is_stopped()
    }

    /// Leaves the task's failure in its cell, in the place of a value if there is one.
    ///
    /// # Safety
    /// The task is the caller's, and has not been announced as finished.
    unsafe fn replace_by_failure(&self, id: u32) {
        let (cell, drop_value) = (self.cell(id), self.task(id).kind().drop_value);
        // A value that panics when it is dropped makes the failure no worse.
        // SAFETY: the caller's contract: the cell is ours.
        panics::quietly(|| unsafe { cell.discard(drop_value) });
        // SAFETY: as above.
        unsafe { cell.put_failure(id) };
    }

    fn record_failure(&self, id: u32, error: Error) {
        if let Some(sink) = &self.run.sink {
            sink.failed(id, &error);
        }
        if self.run.settings.collect_errors {
            let _before = self.run.failures.lock().by_task.insert(id, error);
            self.run.status.fetch_or(FAILURES, Ordering::SeqCst);
        } else {
            self.run.stop(with_path(error, self.plan(), id, None));
        }
    }

    /// The time of a task that is still running is up.
    fn timed_out(&self, id: u32, timeout: Duration, attempts: u32) {
        if !self.run.settings.collect_errors {
            let error = Failure::TimedOut(timeout).into_error(self.plan(), id, attempts);
            // The task still runs, and keeps its inputs when it ends.
            let keeps_inputs = self.run.settings.keep_inputs;
            self.record_failure(id, if keeps_inputs { error.with_replay(self.keep_inputs(id)) } else { error });
        }
    }

    /// The inputs of a task that has failed and does not let go of them.
    fn keep_inputs(&self, id: u32) -> Arc<ReplayInputs> {
        let task_context = self.run.task_context();
        let make = || ReplayInputs::in_run(self.plan(), id, task_context);
        self.run.failures.lock().kept.of(id, make)
    }

    /// Settles a task that has failed for good; `keeps_inputs` if it has not let go of its inputs and need not. False if the run has stopped
    /// by that.
    #[cold]
    fn failed(
        &self,
        id: u32,
        failure: Failure,
        attempts: u32,
        watching: Option<&Watching<'_>>,
        keeps_inputs: bool,
    ) -> bool {
        let ended = watching.map(|_| Instant::now());
        // How far a call got that unwound is not known.
        let is_holding = matches!(failure, Failure::Panicked(_));
        // SAFETY: the task has not been announced as finished, so its cell is ours.
        unsafe { self.replace_by_failure(id) };
        let mut error = failure.into_error(self.plan(), id, attempts);
        if keeps_inputs {
            error = error.with_replay(self.keep_inputs(id));
        }
        if let Some(watching) = watching {
            watching.failed(self.plan(), id, ended, error.clone(), is_holding);
        }
        self.record_failure(id, error);
        !self.run.is_stopped()
    }

    /// # Safety
    /// The task is the caller's, its inputs have finished or failed, and it has not let go of them.
    pub(crate) unsafe fn release_inputs(&self, id: u32) {
        let task = self.task(id);
        // SAFETY: the caller's contract; the kind is the task's own.
        unsafe { (task.kind().release_inputs)(task, self.cells(), self.inputs_ptr(id)) };
    }
}

/// The failure of a task as an output sees it that needs it.
fn with_path(error: Error, plan: &Plan, cause: u32, output: Option<u32>) -> Error {
    let path = plan.path_to_output(cause, output);
    match plan.tasks()[cause as usize].awaited() {
        // What has failed is elsewhere, and the path leads from there.
        Some(_) => path[1..].iter().fold(error, Error::needed_by),
        None => error.with_path(path),
    }
}

/// Who watches the task that a thread is running, and how far it has got.
struct Watching<'w> {
    watch: &'w Watch,
    /// The attempt that has begun and not ended.
    attempt: &'w StdCell<Option<Attempt>>,
}

impl Watching<'_> {
    fn begin(&self, plan: &Plan, id: u32, number: u32) {
        self.attempt.set(Some(self.watch.begin(plan, id, number)));
    }

    fn finished(&self, worker: &RunAccess<'_>, id: u32, ended: Instant) {
        let Some(attempt) = self.attempt.take() else { return };
        if worker.run.defers_values.load(Ordering::Relaxed) && !worker.run.is_stopped() {
            self.watch.hold_back(id, attempt, ended);
        } else {
            self.watch.finished(worker.plan(), id, attempt, ended, worker.measured(self.watch, id));
        }
    }

    fn retried(&self, plan: &Plan, id: u32, ended: Option<Instant>, error: Error) {
        if let Some(attempt) = self.attempt.take() {
            self.watch.retried(plan, id, attempt, ended.unwrap_or_else(Instant::now), error);
        }
    }

    fn failed(&self, plan: &Plan, id: u32, ended: Option<Instant>, error: Error, is_holding: bool) {
        let attempt = self.attempt.take().unwrap_or_else(|| self.watch.begin(plan, id, 1));
        self.watch.failed(plan, id, attempt, ended.unwrap_or_else(Instant::now), error, is_holding);
    }
}

/// The counters of a run, looked up once by each worker.
#[derive(Clone, Copy)]
pub(crate) struct ParallelRef<'r>(&'r Parallel);

/// Why a call gave no value.
enum Failure {
    Returned(CallError),
    Panicked(Box<dyn Any + Send>),
    TimedOut(Duration),
    NotPortable(String),
}

impl Failure {
    fn into_error(self, plan: &Plan, id: u32, attempts: u32) -> Error {
        let error = match self {
            // What an awaited value has failed of is told already, with the name of the task that did.
            Failure::Returned(cause) if plan.tasks()[id as usize].awaited().is_some() && cause.is::<Error>() => {
                return *cause.downcast::<Error>().expect("it was just looked at");
            }
            Failure::Returned(cause) => Error::new(ErrorKind::Failed, cause.to_string()).with_source(cause),
            Failure::Panicked(payload) => Error::new(ErrorKind::Panicked, panics::describe(payload)),
            Failure::TimedOut(timeout) => Error::new(ErrorKind::TimedOut, format!("it did not end within {timeout:?}")),
            Failure::NotPortable(message) => Error::new(
                ErrorKind::NotPortable,
                format!("{message}; make the value survive serde's round trip, or use `delayed_local`"),
            ),
        };
        error.with_task(plan.name(id), attempts)
    }
}
